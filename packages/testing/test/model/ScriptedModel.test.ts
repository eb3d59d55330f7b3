import { assert, it } from "@effect/vitest"
import {
  exhausted,
  layer,
  prompt,
  ScriptedModel,
  sequence,
  type Step,
  unscripted
} from "@opencode-turn/testing/ScriptedModel"
import { environment, opencodeConfig } from "@opencode-turn/testing/ScriptedProvider"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { FetchHttpClient, HttpClient, HttpClientRequest } from "effect/http"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { readFileSync } from "node:fs"
import { connect } from "node:net"

const Chunk = Schema.fromJsonString(Schema.Struct({
  choices: Schema.Array(Schema.Struct({
    delta: Schema.Struct({
      content: Schema.optional(Schema.String),
      reasoning_content: Schema.optional(Schema.String),
      tool_calls: Schema.optional(Schema.Array(Schema.Struct({
        function: Schema.Struct({ name: Schema.String, arguments: Schema.String })
      })))
    }),
    finish_reason: Schema.NullOr(Schema.String)
  })),
  usage: Schema.optional(Schema.Json)
}))

const user = (content: unknown) => ({ role: "user", content })
const called = (tool: string) => ({
  role: "assistant",
  content: null,
  tool_calls: [{ id: "c", type: "function", function: { name: tool, arguments: "{}" } }]
})
const result = { role: "tool", tool_call_id: "c", content: "done" }
const said = (content: string) => ({ role: "assistant", content })

const tools = [{ type: "function", function: { name: "bash", parameters: {} } }]

const send = (messages: ReadonlyArray<object>, options: { readonly title?: boolean; readonly session?: string } = {}) =>
  Effect.gen(function*() {
    const model = yield* ScriptedModel
    return yield* HttpClientRequest.post(`${model.url}/chat/completions`).pipe(
      HttpClientRequest.setHeaders(options.session === undefined ? {} : { "x-session-id": options.session }),
      HttpClientRequest.bodyJsonUnsafe({
        model: "m",
        stream: true,
        messages,
        ...(options.title === true ? {} : { tools })
      }),
      HttpClient.execute
    )
  })

const frames = (response: Effect.Success<ReturnType<typeof send>>) =>
  response.stream.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.filter((line) => line.startsWith("data: ") && line !== "data: [DONE]"),
    Stream.mapEffect((line) => Schema.decodeEffect(Chunk)(line.slice("data: ".length)))
  )

const deltas = (response: Effect.Success<ReturnType<typeof send>>) =>
  frames(response).pipe(
    Stream.map((chunk) => chunk.choices[0]?.delta.content),
    Stream.filter((text) => text !== undefined)
  )

const text = (messages: ReadonlyArray<object>, options?: Parameters<typeof send>[1]) =>
  send(messages, options).pipe(
    Effect.flatMap((response) =>
      response.status === 200 ? Stream.mkString(deltas(response)) : Effect.succeed(`${response.status}`)
    )
  )

const withModel = (options?: Parameters<typeof layer>[0]) =>
  Effect.provide(Layer.merge(layer(options), FetchHttpClient.layer))

it.live("An answer streams reasoning, text and tool calls, then its finish reason and usage", () =>
  Effect.gen(function*() {
    const response = yield* send([
      user(prompt("go", [{
        reasoning: "let me see",
        text: "I look",
        tool: "bash",
        args: { command: "ls" },
        tools: [{ tool: "read" }],
        usage: { input: 100, output: 40, reasoning: 15, cacheRead: 30 }
      }]))
    ])
    const chunks = yield* Stream.runCollect(frames(response))
    const choices = chunks.flatMap((chunk) => chunk.choices)
    assert.deepStrictEqual(choices.flatMap(({ delta }) => delta.reasoning_content ?? []), ["let ", "me ", "see"])
    assert.deepStrictEqual(choices.flatMap(({ delta }) => delta.content ?? []), ["I ", "look"])
    assert.deepStrictEqual(
      choices.flatMap(({ delta }) => delta.tool_calls ?? []).map((call) => call.function),
      [{ name: "bash", arguments: "{\"command\":\"ls\"}" }, { name: "read", arguments: "{}" }]
    )
    assert.deepStrictEqual(choices.flatMap((choice) => choice.finish_reason ?? []), ["tool_calls"])
    assert.deepStrictEqual(chunks.at(-1)?.usage, {
      prompt_tokens: 100,
      completion_tokens: 40,
      total_tokens: 140,
      prompt_tokens_details: { cached_tokens: 30 },
      completion_tokens_details: { reasoning_tokens: 15 }
    })
  }).pipe(withModel()))

it.live("The text arrives unchanged however it is cut into deltas", () =>
  Effect.gen(function*() {
    for (const sample of ["", " leading and  double ", "one", "line\nbreak\n", "💡💡 surrogates 💡"]) {
      for (const chunks of [undefined, 1, 3, 100]) {
        const step: Step = chunks === undefined ? { text: sample } : { text: sample, chunks }
        assert.strictEqual(yield* text([user(prompt("go", [step]))]), sample)
      }
    }
  }).pipe(withModel()))

it.live("The history says which step comes next", () =>
  Effect.gen(function*() {
    const asked = user(prompt("go", [{ tool: "bash" }, { text: "second", tool: "bash" }, { text: "third" }]))
    assert.strictEqual(yield* text([asked, called("bash"), result]), "second")
    assert.strictEqual(yield* text([asked, called("bash"), result, called("bash"), result]), "third")
    assert.strictEqual(yield* text([asked, called("bash"), result]), "second")
    assert.strictEqual(
      yield* text([asked, called("bash"), result, called("bash"), result, said("third"), user("more")]),
      exhausted.text
    )
  }).pipe(withModel()))

it.live("The last prompt with a script is the one that counts", () =>
  Effect.gen(function*() {
    const first = user(prompt("one", [{ text: "from the first" }]))
    const second = user([{ type: "text", text: prompt("two", [{ text: "from the second" }]) }, { type: "image_url" }])
    assert.strictEqual(yield* text([first, said("from the first"), second]), "from the second")
    assert.strictEqual(yield* text([user("if [[ -f x ]]; then")]), unscripted.text)
  }).pipe(withModel()))

it.live("A script inside an argument of a script belongs to the subagent alone", () =>
  Effect.gen(function*() {
    const inner = prompt("look [around]", [{ text: "quotes \" and ]] brackets [[" }])
    const response = yield* send([user(`${prompt("go", [{ tool: "task", args: { prompt: inner } }])} and ]] more`)])
    const calls = (yield* Stream.runCollect(frames(response)))
      .flatMap((chunk) => chunk.choices)
      .flatMap(({ delta }) => delta.tool_calls ?? [])
    assert.deepStrictEqual(calls.map((call) => JSON.parse(call.function.arguments)), [{ prompt: inner }])
    assert.strictEqual(yield* text([user(inner)]), "quotes \" and ]] brackets [[")
  }).pipe(withModel()))

it.live("A failing step fails as often as it says, in each session, and then the next step answers", () =>
  Effect.gen(function*() {
    const asked = user(prompt("go", [{ tool: "bash" }, { fail: 503, times: 2 }, { fail: 429 }, { text: "at last" }]))
    for (const session of ["ses_a", "ses_b"]) {
      const answers: Array<string> = []
      for (let call = 0; call < 4; call++) answers.push(yield* text([asked, called("bash"), result], { session }))
      assert.deepStrictEqual(answers, ["503", "503", "429", "at last"])
    }
  }).pipe(withModel()))

it.live("A failure carries its message and headers", () =>
  Effect.gen(function*() {
    const response = yield* send([
      user(prompt("go", [{ fail: 429, message: "slow down", headers: { "retry-after-ms": "5" } }]))
    ])
    assert.strictEqual(response.status, 429)
    assert.strictEqual(response.headers["retry-after-ms"], "5")
    assert.deepStrictEqual(yield* response.json, { error: { message: "slow down", type: "scripted_failure" } })
  }).pipe(withModel()))

it.live("A cut answer sends its first deltas, breaks the connection, and the next step replaces it", () =>
  Effect.gen(function*() {
    const asked = user(prompt("go", [{ text: "half of", tool: "bash", ending: "cut" }, { text: "all of it" }]))
    const seen: Array<string> = []
    const exit = yield* send([asked]).pipe(
      Effect.flatMap((response) => Stream.runForEach(deltas(response), (delta) => Effect.sync(() => seen.push(delta)))),
      Effect.exit
    )
    assert.isTrue(Exit.isFailure(exit))
    assert.deepStrictEqual(seen, ["half ", "of"])
    assert.strictEqual(yield* text([asked, said("half of")]), "all of it")
  }).pipe(withModel()))

it.live("A gate holds the answer after its delta until it is released", () =>
  Effect.gen(function*() {
    const model = yield* ScriptedModel
    const response = yield* send([user(prompt("go", [{ text: "a b c", gate: "x", gateAfter: 1 }]))])
    const seen: Array<string> = []
    const first = yield* Deferred.make<void>()
    const reader = yield* deltas(response).pipe(
      Stream.runForEach((delta) =>
        Effect.andThen(Effect.sync(() => seen.push(delta)), Deferred.succeed(first, undefined))
      ),
      Effect.forkChild
    )
    yield* model.reached("x")
    yield* Deferred.await(first)
    assert.deepStrictEqual(seen, ["a "])
    yield* model.release("x")
    yield* Fiber.join(reader)
    assert.deepStrictEqual(seen, ["a ", "b ", "c"])
  }).pipe(withModel()))

it.live("Closing the scope ends an answer that hangs", () =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(layer(), scope)
    const response = yield* Effect.provideContext(
      send([user(prompt("go", [{ text: "never", ending: "hang" }]))]),
      context
    )
    const first = yield* Deferred.make<void>()
    const reader = yield* deltas(response).pipe(
      Stream.runForEach(() => Deferred.succeed(first, undefined)),
      Effect.exit,
      Effect.forkChild
    )
    yield* Deferred.await(first)
    yield* Scope.close(scope, Exit.void)
    assert.isTrue(Exit.isFailure(yield* Fiber.join(reader)))
    assert.isTrue(Exit.isFailure(yield* Effect.exit(Effect.provideContext(send([user("gone")]), context))))
  }).pipe(Effect.provide(FetchHttpClient.layer)))

it.live("Closing the scope drops a client that is still sending its request", () =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(layer(), scope)
    const closed = yield* Deferred.make<void>()
    const connected = yield* Deferred.make<void>()
    const { hostname, port } = new URL(Context.get(context, ScriptedModel).url)
    const socket = connect(Number(port), hostname)
    socket.on("error", () => {})
    socket.on("close", () => Deferred.doneUnsafe(closed, Effect.void))
    // The answer to the first request shows that the server has read the beginning of the second one.
    socket.once("data", () => Deferred.doneUnsafe(connected, Effect.void))
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost:")
    yield* Deferred.await(connected)
    yield* Scope.close(scope, Exit.void)
    yield* Deferred.await(closed)
  }))

it.live("A title call takes no step and is not counted as a model call", () =>
  Effect.gen(function*() {
    const model = yield* ScriptedModel
    assert.strictEqual(yield* text([user("a title please")], { title: true }), "A title")
    assert.strictEqual(yield* text([user("go")], { session: "ses_a" }), "one")
    assert.strictEqual(yield* text([user("go")]), "two")
    assert.strictEqual(yield* text([user("go")]), exhausted.text)
    assert.strictEqual(yield* model.modelCalls, 3)
    const [title, first] = yield* model.requests
    assert.isTrue(title?.isTitle)
    assert.strictEqual(first?.sessionId, "ses_a")
    assert.deepStrictEqual(first?.tools, ["bash"])
    assert.deepStrictEqual(first?.messages, [{ role: "user", text: "go", toolCalls: [] }])
  }).pipe(withModel({ title: "A title", script: sequence([{ text: "one" }, { text: "two" }]) })))

it.live("A sequence repeats a step that does not finish as often as it says", () =>
  Effect.gen(function*() {
    const answers: Array<string> = []
    for (let call = 0; call < 3; call++) answers.push(yield* text([user("go")]))
    assert.deepStrictEqual(answers, ["500", "500", "fine"])
  }).pipe(withModel({ script: sequence([{ fail: 500, times: 2 }, { text: "fine" }]) })))

it.live("An invalid script fails the call with the reason and without a retry", () =>
  Effect.gen(function*() {
    const wrong = [
      { content: "[[{\"txt\":\"typo\"}]]", reason: "txt" },
      { content: "[[{\"text\":\"open\"}", reason: "invalid script" }
    ]
    for (const { content, reason } of wrong) {
      const response = yield* send([user(content)])
      assert.strictEqual(response.status, 400)
      assert.include(yield* response.text, reason)
    }
  }).pipe(withModel()))

it.live("A script function that throws, a bad body and an unknown route are the caller's errors", () =>
  Effect.gen(function*() {
    const model = yield* ScriptedModel
    const thrown = yield* send([user("go")])
    assert.strictEqual(thrown.status, 400)
    assert.include(yield* thrown.text, "out of ideas")
    const body = yield* HttpClient.execute(
      HttpClientRequest.bodyJsonUnsafe(HttpClientRequest.post(`${model.url}/chat/completions`), { model: "m" })
    )
    assert.strictEqual(body.status, 400)
    assert.strictEqual((yield* HttpClient.get(`${model.url}/models`)).status, 404)
  }).pipe(withModel({
    script: () => {
      throw new Error("out of ideas")
    }
  })))

it.live("A prompt of 20 MB is accepted", () =>
  Effect.gen(function*() {
    assert.strictEqual(
      yield* text([user("x".repeat(20_000_000)), user(prompt("go", [{ text: "read it" }]))]),
      "read it"
    )
  }).pipe(withModel()))

it.live("The configuration points OpenCode at the model and at nothing else", () =>
  Effect.gen(function*() {
    const model = yield* ScriptedModel
    const config = opencodeConfig(model)
    assert.strictEqual(config.provider.scripted.options.baseURL, model.url)
    assert.match(model.url, /^http:\/\/127\.0\.0\.1:\d+\/v1$/)
    const { OPENCODE_CONFIG_CONTENT, OPENCODE_MODELS_PATH } = environment({ ...config, permission: "ask" })
    assert.deepStrictEqual(JSON.parse(OPENCODE_CONFIG_CONTENT ?? ""), { ...config, permission: "ask" })
    assert.deepStrictEqual(JSON.parse(readFileSync(OPENCODE_MODELS_PATH ?? "", "utf8")), {})
  }).pipe(withModel()))
