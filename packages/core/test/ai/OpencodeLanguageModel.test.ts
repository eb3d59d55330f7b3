import { assert, describe } from "@effect/vitest"
import type { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { AssistantMessageId } from "@opencode-turn/core/Ids"
import * as OpencodeLanguageModel from "@opencode-turn/core/OpencodeLanguageModel"
import * as OpencodeTool from "@opencode-turn/core/OpencodeTool"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { Tracer } from "@opencode-turn/core/Tracer"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode, prompt as scripted } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as AiError from "effect/ai/AiError"
import * as Chat from "effect/ai/Chat"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Model from "effect/ai/Model"
import * as Prompt from "effect/ai/Prompt"
import * as Response from "effect/ai/Response"
import * as ResponseIdTracker from "effect/ai/ResponseIdTracker"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ExecutionPlan from "effect/ExecutionPlan"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Persistence from "effect/persistence/Persistence"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as EffectTracer from "effect/Tracer"
import * as Turns from "../support/turns.ts"

const { prompts, test } = Turns

/** The next prompts are answered so, one script after the other. */
const scripts = (...all: ReadonlyArray<ReadonlyArray<Step>>) =>
  Effect.flatMap(FakeOpencode, (fake) => Effect.forEach(all, (steps) => fake.script(steps), { discard: true }))

type Options = Parameters<typeof OpencodeLanguageModel.layer>[0]

/** Provides the model. */
const on = (options?: Options) =>
<A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<R, LanguageModel.LanguageModel> | Client | SessionStore | Tracer> =>
  Effect.provide(effect, OpencodeLanguageModel.layer(options))

/** What was posted as prompt, in their order. */
const posted = Effect.map(prompts, (all) =>
  all.map(({ body }) => {
    const { model, parts, system, tools } = decodeBody(body)
    return { text: parts.map((part) => part.text ?? `[${part.mime} ${part.filename ?? ""}]`), system, model, tools }
  }))
const decodeBody = Schema.decodeUnknownSync(Schema.Struct({
  parts: Schema.Array(Schema.Struct({
    text: Schema.optionalKey(Schema.String),
    mime: Schema.optionalKey(Schema.String),
    filename: Schema.optionalKey(Schema.String)
  })),
  system: Schema.optionalKey(Schema.String),
  model: Schema.optionalKey(Schema.Unknown),
  tools: Schema.optionalKey(Schema.Unknown)
}))

/** Seconds that pass, one by one. */
const passing = (seconds: number) =>
  Effect.repeat(Effect.andThen(TestClock.adjust("1 second"), Turns.rest), { times: seconds - 1 })

const types = (parts: ReadonlyArray<{ readonly type: string }>) => parts.map(({ type }) => type)

const conversations = Effect.flatMap(SessionStore, (store) => store.listConversations({ limit: 100 }))

const whyOf = (prompt: Prompt.RawInput) =>
  Effect.map(Effect.flip(LanguageModel.generateText({ prompt })), ({ reason }) => [reason._tag, reason.message])
const file = (data: string | URL, mediaType = "image/png"): Prompt.RawInput => [
  { role: "user", content: [{ type: "file", mediaType, data }] }
]

const gone = AiError.make({ module: "Other", method: "generateText", reason: new AiError.UnknownError({}) })

/** The calls of tools. */
const named = (parts: ReadonlyArray<Response.AnyPart>) =>
  parts.flatMap((part) => part.type === "tool-call" ? [[part.name, part.params]] : [])

describe("generateText", () => {
  test("gives the answer, its reasoning, usage and finish reason", () =>
    Effect.gen(function*() {
      yield* scripts([
        { reasoning: "I think.", text: "I look.", tool: "bash", args: { command: "ls" } },
        { text: "Done.", usage: { input: 100, output: 20, reasoning: 5, cacheRead: 60 } }
      ])
      const response = yield* LanguageModel.generateText({ prompt: "Do it." })
      assert.strictEqual(response.text, "I look.\n\nDone.")
      assert.strictEqual(response.reasoningText, "I think.")
      assert.strictEqual(response.finishReason, "stop")
      assert.deepStrictEqual(types(response.content), ["response-metadata", "reasoning", "text", "text", "finish"])
      const [conversation] = yield* conversations
      const usage = conversation?.usage.tokens
      assert.strictEqual(response.usage.inputTokens.total, (usage?.input ?? 0) + (usage?.cacheRead ?? 0))
      assert.strictEqual(response.usage.inputTokens.cacheRead, 60)
      assert.strictEqual(response.usage.outputTokens.reasoning, 5)
      const finish = response.content.find((part) => part.type === "finish")
      assert.strictEqual(finish?.metadata.opencode?.messageId, conversation?.id)
      assert.deepStrictEqual(finish?.metadata.opencode?.tools.map(({ status, tool }) => ({ status, tool })), [
        { tool: "bash", status: "completed" }
      ])
      assert.lengthOf(yield* prompts, 1)
    }).pipe(on()))

  test("gives the calls of OpenCode's tools as parts where the toolkit names them", () =>
    Effect.gen(function*() {
      yield* scripts([
        { tool: "bash", args: { command: "ls" } },
        { tool: "read", args: { filePath: "none.txt" } },
        { text: "Done." }
      ])
      const response = yield* LanguageModel.generateText({
        prompt: "Do it.",
        toolkit: Toolkit.make(OpencodeTool.Bash)
      })
      assert.deepStrictEqual(types(response.content), [
        "response-metadata",
        "tool-call",
        "tool-result",
        "text",
        "finish"
      ])
      const [call] = response.toolCalls
      assert.strictEqual(call?.name, "OpencodeBash")
      assert.deepStrictEqual(call?.params, { command: "ls" })
      assert.isTrue(call?.providerExecuted)
      const [result] = response.toolResults
      assert.strictEqual(result?.id, call?.id)
      assert.isFalse(result?.isFailure)
      const finish = response.content.find((part) => part.type === "finish")
      assert.deepStrictEqual(finish?.metadata.opencode?.tools.map(({ tool }) => tool), ["read"])
    }).pipe(on()))

  test("gives the same calls where the resolution of calls is disabled, and those of a call that the model wrote wrongly", () =>
    Effect.gen(function*() {
      const steps = [
        { tool: "bash", args: { command: "ls" } },
        { tool: "nothing", args: { odd: true } },
        { tool: "read", args: { filePath: 7 } },
        { text: "Done." }
      ]
      yield* scripts(steps, steps, steps)
      const options = { prompt: "Do it.", toolkit: OpencodeTool.toolkit }
      const disabled = yield* LanguageModel.generateText({ ...options, disableToolCallResolution: true })
      const deferred = yield* LanguageModel.generateText({
        ...options,
        disableToolCallResolution: true,
        toolCallValidation: "deferred"
      })
      const streamed = yield* Stream.runCollect(
        LanguageModel.streamText({ ...options, disableToolCallResolution: true, toolCallValidation: "deferred" })
      )
      assert.deepStrictEqual(named(disabled.content), [
        ["OpencodeBash", { command: "ls" }],
        ["OpencodeRead", { filePath: 7 }]
      ])
      assert.deepStrictEqual(named(deferred.content), named(disabled.content))
      assert.deepStrictEqual(named(streamed), named(disabled.content))
    }).pipe(on()))

  test("gives parts that are read back from their JSON, as those of a stream are", () =>
    Effect.gen(function*() {
      const steps = [
        { reasoning: "I think.", text: "I look.", tool: "bash", args: { command: "rm -r /" } },
        { tool: "read", args: { filePath: "none.txt" } },
        { tool: "todowrite", args: { todos: [] } },
        { text: "Done." }
      ]
      yield* scripts(steps, steps)
      const { toolkit } = OpencodeTool
      const response = yield* LanguageModel.generateText({ prompt: "Do it.", toolkit })
      const streamed = yield* Stream.runCollect(LanguageModel.streamText({ prompt: "Do it.", toolkit }))
      assert.includeMembers(types(response.content), ["reasoning", "text", "tool-call", "tool-result", "finish"])
      const Parts = Schema.Array(Response.AllParts(toolkit))
      const parts = [...response.content, ...streamed]
      const json = JSON.stringify(yield* Schema.encodeUnknownEffect(Parts)(parts))
      assert.deepStrictEqual<unknown>(yield* Schema.decodeUnknownEffect(Parts)(JSON.parse(json)), parts)
    }).pipe(on()), { fake: { permission: [{ permission: "bash", pattern: "*", action: "ask" }] } })

  test("ends with one finish, whatever toolkit it has", () =>
    Effect.gen(function*() {
      yield* scripts(...Array.from({ length: 4 }, () => [{ text: "Done." }]))
      for (const toolkit of [Toolkit.empty, OpencodeTool.toolkit]) {
        const { content } = yield* LanguageModel.generateText({ prompt: "Do it.", toolkit })
        const streamed = yield* Stream.runCollect(LanguageModel.streamText({ prompt: "Do it.", toolkit }))
        for (const parts of [content, streamed]) {
          assert.strictEqual(parts.findIndex(({ type }) => type === "finish"), parts.length - 1)
        }
      }
    }).pipe(on()))

  test("gives a refused call as a result that was denied", () =>
    Effect.gen(function*() {
      yield* scripts([{ tool: "bash", args: { command: "rm -r /" } }, { text: "I may not." }])
      const response = yield* LanguageModel.generateText({ prompt: "Do it.", toolkit: OpencodeTool.toolkit })
      const [result] = response.toolResults
      assert.isTrue(result?.isFailure)
      assert.strictEqual(Schema.is(Tool.ExecutionFailure)(result?.result), true)
      assert.strictEqual(response.text, "I may not.")
    }).pipe(on()), { fake: { permission: [{ permission: "bash", pattern: "*", action: "ask" }] } })

  test(
    "asks the gate of the request, and where it has none the one that the model was made with",
    () =>
      Effect.gen(function*() {
        const ask = LanguageModel.generateText({ prompt: "Do it.", toolkit: OpencodeTool.toolkit })
        const isFailure = Effect.map(ask, ({ toolResults }) => toolResults[0]?.isFailure)
        const steps = [{ tool: "bash", args: { command: "ls" } }, { text: "Done." }]
        yield* scripts(steps, steps)
        const service = yield* OpencodeLanguageModel.make().pipe(
          Effect.provideService(HumanGate.HumanGate, HumanGate.allow)
        )
        const own = Effect.provideService(isFailure, LanguageModel.LanguageModel, service)
        assert.isFalse(yield* own)
        assert.isTrue(yield* Effect.provideService(own, HumanGate.HumanGate, HumanGate.deny))
      }),
    { fake: { permission: [{ permission: "bash", pattern: "*", action: "ask" }] } }
  )

  test("shows its turn to observers", () =>
    Effect.gen(function*() {
      yield* scripts([{ tool: "bash", args: { command: "ls" } }, { text: "Done." }])
      const seen: Array<string> = []
      const see = (what: string) => Effect.sync(() => void seen.push(what))
      yield* LanguageModel.generateText({ prompt: "Do it." }).pipe(
        OpencodeLanguageModel.withConfigOverride({
          observers: [(update) => update._tag === "Asked" ? see(`asked ${update.ask._tag}`) : Effect.void],
          onTurnFinished: ({ status }) => see(status)
        })
      )
      assert.deepStrictEqual(seen, ["asked Permission", "completed"])
    }).pipe(on()), { fake: { permission: [{ permission: "bash", pattern: "*", action: "ask" }] } })

  test("refuses tools of the caller, and prompts nothing", () =>
    Effect.gen(function*() {
      const Weather = Tool.make("Weather", { success: Schema.String })
      const toolkit = Toolkit.make(OpencodeTool.Bash, Weather)
      const error = yield* Effect.flip(
        LanguageModel.generateText({ prompt: "How is it?", toolkit }).pipe(
          Effect.provide(toolkit.toLayer({ Weather: () => Effect.succeed("rain") }))
        )
      )
      assert.strictEqual(error.reason._tag, "ToolConfigurationError")
      assert.include(error.message, "MCP server")
      assert.lengthOf(yield* prompts, 0)
    }).pipe(on()))

  test("names the model that answered, also where the server chose it", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "One." }], [{ text: "Two." }])
      const { content } = yield* LanguageModel.generateText({ prompt: "Do it." })
      const whole = content.find((part) => part.type === "response-metadata")
      assert.strictEqual(whole?.modelId, "scripted/m")
      const streamed = yield* Stream.runCollect(LanguageModel.streamText({ prompt: "Do it." }))
      assert.strictEqual(streamed.findLast((part) => part.type === "response-metadata")?.modelId, "scripted/m")
    }).pipe(on()))

  test("has the agent call a tool that the choice requires, and fails if it does not", () =>
    Effect.gen(function*() {
      yield* scripts(
        [{ tool: "bash", args: { command: "ls" } }, { text: "Done." }],
        [{ text: "No." }],
        [{ text: "No." }],
        [{ tool: "read", args: { filePath: "none.txt" } }, { text: "Done." }]
      )
      const toolkit = OpencodeTool.toolkit
      const first = yield* LanguageModel.generateText({ prompt: "Do it.", toolkit, toolChoice: "required" })
      assert.strictEqual(first.text, "Done.")
      const error = yield* Effect.flip(
        LanguageModel.generateText({ prompt: "Do it.", toolkit, toolChoice: { tool: "OpencodeBash" } })
      )
      assert.strictEqual(error.reason._tag, "InvalidOutputError")
      assert.include(error.message, "bash")
      const failed = yield* Effect.flip(
        Stream.runDrain(LanguageModel.streamText({ prompt: "Do it.", toolkit, toolChoice: "required" }))
      )
      assert.isTrue(AiError.isAiError(failed) && failed.reason._tag === "InvalidOutputError")
      yield* LanguageModel.generateText({
        prompt: "Do it.",
        toolkit,
        toolChoice: { mode: "required", oneOf: ["OpencodeRead"] }
      })
      const [any, one, , several] = yield* posted
      assert.isUndefined(any?.tools)
      assert.include(any?.system, "Call at least one of these tools before you answer: ")
      assert.deepInclude(one?.tools, { "*": false, bash: true })
      assert.include(one?.system, "before you answer: bash.")
      assert.deepInclude(several?.tools, { "*": false, read: true })
    }).pipe(on()))

  test("limits the agent's tools by the tool choice", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "One." }], [{ text: "Two." }])
      const toolkit = OpencodeTool.toolkit
      yield* LanguageModel.generateText({ prompt: "Do it.", toolkit, toolChoice: { oneOf: ["OpencodeRead"] } })
      yield* LanguageModel.generateText({ prompt: "Do it.", toolkit, toolChoice: "none" })
      const [first, second] = yield* posted
      assert.deepInclude(first?.tools, { "*": false, read: true })
      assert.deepInclude(second?.tools, { "*": false })
    }).pipe(on()))

  test("sends system messages as the system prompt, and files as files", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "A picture." }])
      const png = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82])
      yield* LanguageModel.generateText({
        prompt: Prompt.make([
          { role: "system", content: "Be short." },
          {
            role: "user",
            content: [
              { type: "text", text: "What is this?" },
              { type: "file", mediaType: "image/png", fileName: "a.png", data: png },
              { type: "file", mediaType: "text/csv", fileName: "a.csv", data: btoa("a,b") },
              { type: "file", mediaType: "text/x-c", data: new URL("file:///src/a.c") }
            ]
          },
          { role: "system", content: "Be kind." }
        ])
      })
      const [first] = yield* posted
      assert.strictEqual(first?.system, "Be careful.\n\nBe short.\n\nBe kind.")
      assert.deepStrictEqual(first?.text, [
        "What is this?",
        "[image/png a.png]",
        "[text/plain a.csv]",
        "[text/plain ]"
      ])
    }).pipe(on({ config: { system: "Be careful." } })))

  test("says what is wrong with a prompt", () =>
    Effect.gen(function*() {
      const [tag, empty] = yield* whyOf([])
      assert.strictEqual(tag, "InvalidUserInputError")
      assert.include(empty, "no message of the user behind the last answer")
      assert.include((yield* whyOf(file("?")))[1], "neither base64 nor a URL")
      assert.include((yield* whyOf(file(new URL("https://example.com/a.png"))))[1], "Attachment.fromUrl")
      assert.include((yield* whyOf(file(btoa("no picture"))))[1], "first bytes differ")
      assert.include((yield* whyOf("   "))[1], "it is empty")
      assert.include(
        (yield* whyOf([{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello." }]))[1],
        "behind"
      )
      const odd = OpencodeLanguageModel.withConfigOverride(whyOf("Hi"), { conversationId: "" })
      assert.strictEqual((yield* odd)[0], "InvalidRequestError")
      assert.strictEqual(
        (yield* OpencodeLanguageModel.withConfigOverride(whyOf("Hi"), { messageId: "\0" }))[0],
        "InvalidRequestError"
      )
      assert.lengthOf(yield* prompts, 0)
    }).pipe(on()))

  test("works in the model and the conversation of the configuration, which a request may override", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "One." }], [{ text: "Two." }], [{ text: "Three." }])
      const ask = LanguageModel.generateText({ prompt: "Do it." })
      yield* ask
      yield* OpencodeLanguageModel.withConfigOverride(ask, { conversationId: "b", model: "scripted/m" })
      yield* ask.pipe(
        OpencodeLanguageModel.withConfigOverride({ variant: "high" }),
        OpencodeLanguageModel.withConfigOverride({ conversationId: "b" })
      )
      const all = yield* conversations
      assert.sameMembers(all.map(({ conversationId }) => String(conversationId)), ["a", "b"])
      const models = (yield* posted).map(({ model }) => model)
      assert.deepStrictEqual(models, [
        undefined,
        { providerID: "scripted", modelID: "m" },
        undefined
      ])
      assert.lengthOf(yield* Effect.flatMap(FakeOpencode, (fake) => fake.sessions), 2)
    }).pipe(on({ config: { conversationId: "a" } })))

  test("takes over in an execution plan where another model fails", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Done." }])
      const other = Layer.effect(
        LanguageModel.LanguageModel,
        LanguageModel.make({ generateText: () => Effect.fail(gone), streamText: () => Stream.fail(gone) })
      )
      const plan = ExecutionPlan.make({ provide: other }, { provide: OpencodeLanguageModel.layer() })
      const response = yield* LanguageModel.generateText({ prompt: "Do it." }).pipe(Effect.withExecutionPlan(plan))
      assert.strictEqual(response.text, "Done.")
    }))

  test("tells its span the conversation, the response and why it ended, and no usage, which the turn tells below it", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Done." }], [{ text: "Done." }])
      const spans: Array<ReadonlyMap<string, unknown>> = []
      const tracer = EffectTracer.make({
        span: (options) => {
          const span = new EffectTracer.NativeSpan(options)
          if (options.name.startsWith("LanguageModel.")) spans.push(span.attributes)
          return span
        }
      })
      yield* LanguageModel.generateText({ prompt: "Do it." }).pipe(Effect.withTracer(tracer))
      yield* Stream.runDrain(LanguageModel.streamText({ prompt: "Do it." })).pipe(Effect.withTracer(tracer))
      const told = new Map((yield* conversations).map(({ conversationId, id }) => [conversationId, id]))
      assert.lengthOf(spans, 2)
      for (const attributes of spans) {
        const conversation = [...told.keys()].find((id) => id === attributes.get("gen_ai.conversation.id"))
        assert.strictEqual(attributes.get("gen_ai.response.id"), conversation && told.get(conversation))
        assert.deepStrictEqual(attributes.get("gen_ai.response.finish_reasons"), ["stop"])
        assert.strictEqual(attributes.get("gen_ai.request.model"), "scripted/m")
        assert.isFalse([...attributes.keys()].some((name) => name.startsWith("gen_ai.usage")))
      }
    }).pipe(on({ model: "scripted/m" })))

  test("tells the names of provider and model", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Model.ProviderName, "opencode")
      assert.strictEqual(yield* Model.ModelName, "scripted/m")
    }).pipe(Effect.provide(OpencodeLanguageModel.model("scripted/m"))))
})

describe("a request with a message id", () => {
  const ask = LanguageModel.generateText({ prompt: "Do it.", toolkit: OpencodeTool.toolkit }).pipe(
    OpencodeLanguageModel.withConfigOverride({ messageId: "step-1" })
  )

  test("that is repeated gives the stored answer and prompts nothing", () =>
    Effect.gen(function*() {
      yield* scripts([{ tool: "bash", args: { command: "ls" } }, { text: "Done." }])
      const first = yield* ask
      const second = yield* ask
      assert.deepStrictEqual(second.content, first.content)
      const streamed = yield* LanguageModel.streamText({ prompt: "Do it.", toolkit: OpencodeTool.toolkit }).pipe(
        Stream.runCollect,
        OpencodeLanguageModel.withConfigOverride({ messageId: "step-1" })
      )
      assert.strictEqual(textOf(streamed), "Done.")
      assert.lengthOf(yield* prompts, 1)
    }).pipe(on()))

  test("that runs elsewhere waits for its answer", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* scripts([{ text: "Done in the end.", gate: "middle", gateAfter: 1 }])
      const first = yield* Effect.forkChild(ask)
      yield* fake.reached("middle")
      const second = yield* Effect.forkChild(ask)
      const third = yield* LanguageModel.streamText({ prompt: "Do it." }).pipe(
        Stream.runCollect,
        OpencodeLanguageModel.withConfigOverride({ messageId: "step-1" }),
        Effect.forkChild
      )
      yield* Turns.rest
      yield* fake.release("middle")
      assert.strictEqual((yield* Fiber.join(first)).text, "Done in the end.")
      assert.strictEqual((yield* Fiber.join(second)).text, "Done in the end.")
      assert.strictEqual(textOf(yield* Fiber.join(third)), "Done in the end.")
      assert.lengthOf(yield* prompts, 1)
    }).pipe(on()))

  test("that is interrupted leaves its turn to the next one where the policy says so", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* scripts([{ text: "Done in the end.", gate: "middle", gateAfter: 1 }])
      const first = yield* Effect.forkChild(Effect.provideService(ask, TurnPolicy.OnInterrupt, "release"))
      yield* fake.reached("middle")
      yield* Fiber.interrupt(first)
      const second = yield* Effect.forkChild(ask)
      yield* fake.release("middle")
      assert.strictEqual((yield* Fiber.join(second)).text, "Done in the end.")
      assert.lengthOf(yield* Effect.flatMap(FakeOpencode, (fake) => fake.modelRequests), 1)
    }).pipe(on()))

  test("whose turn failed fails again in the same way", () =>
    Effect.gen(function*() {
      yield* scripts([{ fail: 401, message: "no such key" }])
      const first = yield* Effect.flip(ask)
      const second = yield* Effect.flip(ask)
      assert.strictEqual(first.reason._tag, "AuthenticationError")
      assert.strictEqual(second.message, first.message)
      assert.lengthOf(yield* prompts, 1)
    }).pipe(on()))
})

const give = (args: { readonly name: string; readonly born: string }) => ({ tool: "StructuredOutput", args })

class Known extends Context.Service<Known, ReadonlyArray<string>>()("test/Known") {}

describe("generateObject", () => {
  const Person = Schema.Struct({ name: Schema.String, born: Schema.Date })

  test("gives the value", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "I think so.", ...give({ name: "Ada", born: "1815-12-10T00:00:00.000Z" }) }])
      const response = yield* LanguageModel.generateObject({ prompt: "Who?", schema: Person })
      assert.strictEqual(response.value.name, "Ada")
      assert.strictEqual(response.value.born.getUTCFullYear(), 1815)
      assert.lengthOf(response.content.filter(({ type }) => type === "text"), 1)
    }).pipe(on()))

  test("gives the value of a class, of a union and of a list", () =>
    Effect.gen(function*() {
      class Pet extends Schema.Class<Pet>("test/Pet")({ name: Schema.String }) {}
      const given = [{ name: "Rex" }, { value: { name: "Rex" } }, { value: [1, 2] }]
      yield* scripts(...given.map((args) => [{ tool: "StructuredOutput", args }]))
      const prompt = "Which?"
      const object = yield* LanguageModel.generateObject({ prompt, schema: Pet })
      assert.deepStrictEqual(object.value, new Pet({ name: "Rex" }))
      const either = yield* LanguageModel.generateObject({ prompt, schema: Schema.Union([Pet, Person]) })
      assert.deepStrictEqual(either.value, new Pet({ name: "Rex" }))
      const list = yield* LanguageModel.generateObject({ prompt, schema: Schema.Array(Schema.Number) })
      assert.deepStrictEqual(list.value, [1, 2])
    }).pipe(on()))

  test("tells the whole text of an answer that does not fit with the error", () =>
    Effect.gen(function*() {
      const text = `It is {"name":7}`
      yield* scripts([{ text }], [{ text }])
      const { reason } = yield* Effect.flip(LanguageModel.generateObject({ prompt: "Who?", schema: Person }))
      assert.strictEqual(reason._tag === "StructuredOutputError" && reason.responseText, text)
    }).pipe(on()))

  test("decodes the value with the services of the request, and tells the agent what they refuse", () =>
    Effect.gen(function*() {
      const wrong = { tool: "StructuredOutput", args: { name: "Bob" } }
      yield* scripts([wrong], [{ tool: "StructuredOutput", args: { name: "Ada" } }])
      const known = Schema.String.pipe(Schema.decode({
        decode: SchemaGetter.checkEffect((name: string) =>
          Effect.map(Known, (names) => names.includes(name) ? undefined : `there is no ${name}`)
        ),
        encode: SchemaGetter.passthrough()
      }))
      const response = yield* LanguageModel.generateObject({
        prompt: "Who?",
        schema: Schema.Struct({ name: known })
      }).pipe(Effect.provideService(Known, ["Ada"]))
      assert.deepStrictEqual(response.value, { name: "Ada" })
      const [, repair] = yield* posted
      assert.include(repair?.text[0], "there is no Bob")
    }).pipe(on()))

  test("tells the agent what is wrong with its answer, and fails where the next one does not fit either", () =>
    Effect.gen(function*() {
      const wrong = give({ name: "Ada", born: "long ago" })
      yield* scripts([wrong], [give({ name: "Ada", born: "1815-12-10T00:00:00.000Z" })], [wrong], [wrong])
      const ask = LanguageModel.generateObject({ prompt: "Who?", schema: Person })
      assert.strictEqual((yield* ask).value.name, "Ada")
      const error = yield* Effect.flip(ask)
      assert.strictEqual(error.reason._tag, "StructuredOutputError")
      assert.include(error.message, "born")
      assert.lengthOf(yield* prompts, 4)
    }).pipe(on()))
})

/** The text of a stream's parts, as a reader puts it together. */
const textOf = (parts: ReadonlyArray<Response.AnyPart>) =>
  parts.map((part) => part.type === "text-delta" ? part.delta : "").join("")

describe("streamText", () => {
  test("gives the parts while the turn runs", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* scripts([
        { reasoning: "I think.", text: "I look.", tool: "bash", args: { command: "ls" } },
        { text: "Done in the end.", gate: "middle", gateAfter: 1 }
      ])
      const seen: Array<Response.AnyPart> = []
      const reading = yield* LanguageModel.streamText({ prompt: "Do it.", toolkit: OpencodeTool.toolkit }).pipe(
        Stream.runForEach((part) => Effect.sync(() => seen.push(part))),
        Effect.forkChild
      )
      yield* fake.reached("middle")
      yield* Turns.rest
      assert.strictEqual(textOf(seen), "I look.\n\nDone ")
      yield* fake.release("middle")
      yield* Fiber.join(reading)
      assert.strictEqual(textOf(seen), "I look.\n\nDone in the end.")
      const order = types(seen).filter((type, index, all) => type !== all[index - 1])
      assert.deepStrictEqual(order, [
        "response-metadata",
        "reasoning-start",
        "reasoning-delta",
        "reasoning-end",
        "text-start",
        "text-delta",
        "tool-params-start",
        "tool-params-delta",
        "tool-params-end",
        "tool-call",
        // OpenCode closes the texts of a step at its end.
        "text-end",
        "tool-result",
        "text-start",
        "text-delta",
        "text-end",
        "response-metadata",
        "finish"
      ])
      const finish = seen.findLast((part) => part.type === "finish")
      assert.strictEqual(finish?.reason, "stop")
      assert.isUndefined(finish?.metadata.opencode?.content)
    }).pipe(on()))

  test("begins another text where the model was called again and said something else", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "I began like this", ending: "cut" }, { text: "It went like that." }])
      const reading = yield* LanguageModel.streamText({ prompt: "Do it." }).pipe(Stream.runCollect, Effect.forkChild)
      yield* passing(4)
      const parts = yield* Fiber.join(reading)
      const finish = parts.findLast((part) => part.type === "finish")
      assert.strictEqual(finish?.metadata.opencode?.content ?? textOf(parts), "It went like that.")
      const starts = parts.filter((part) => part.type === "text-start").length
      assert.strictEqual(parts.filter((part) => part.type === "text-end").length, starts)
    }).pipe(on()))

  test("stops the turn when nobody reads on", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Once upon a time.", gate: "middle", gateAfter: 2 }])
      yield* Stream.runDrain(Stream.take(
        Stream.filter(LanguageModel.streamText({ prompt: "Do it." }), ({ type }) => type === "text-delta"),
        1
      ))
      assert.deepStrictEqual((yield* conversations).map(({ status }) => status), ["cancelled"])
      assert.lengthOf(yield* Turns.aborts, 1)
    }).pipe(on()))

  test("fails behind the parts that it gave", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "I look.", tool: "bash", args: { command: "ls" } }, { fail: 400, message: "too odd" }])
      const seen: Array<Response.AnyPart> = []
      const error = yield* LanguageModel.streamText({ prompt: "Do it." }).pipe(
        Stream.runForEach((part) => Effect.sync(() => seen.push(part))),
        Effect.flip
      )
      assert.strictEqual(textOf(seen), "I look.")
      assert.strictEqual(error.reason._tag, "InvalidUserInputError")
      assert.include(error.message, "too odd")
    }).pipe(on()))
})

const said = (text: string) => Prompt.assistantMessage({ content: [Prompt.textPart({ text })] })
const asked = (text: string) => Prompt.userMessage({ content: [Prompt.textPart({ text })] })

const bumps: ReadonlyArray<readonly [string, ReadonlyArray<Step>]> = [
  ["a model that is called again", [{ fail: 503 }, { text: "Done." }]],
  ["a text that is cut and said anew", [{ text: "I began like this", ending: "cut" }, { text: "It went like that." }]],
  ["a text that is cut and said again", [{ text: "It went", ending: "cut" }, { text: "It went like that." }]],
  ["texts around tools", [
    { text: "One.", tool: "bash", args: { command: "ls" } },
    { reasoning: "Hm.", tool: "read", args: { filePath: "none.txt" } },
    { text: "Two.", tool: "todowrite", args: { todos: [] } },
    { text: "Three." }
  ]],
  ["a context that overflows", [
    { text: "I look.", tool: "bash", args: { command: "ls" } },
    { fail: 413, message: "prompt is too long" },
    { text: "Done." }
  ]],
  ["a subagent", [
    {
      text: "I ask.",
      tool: "task",
      args: { subagent_type: "general", description: "look", prompt: scripted("Look.", [{ text: "found" }]) }
    },
    { text: "It was found." }
  ]],
  ["an answer that is cut off at the limit", [{ text: "And so on", finish: "length" }]]
]

/** The calls and results of tools, without the ids of sessions, which differ from turn to turn. */
const calls = (all: ReadonlyArray<Response.AnyPart>) =>
  all.flatMap((part) =>
    part.type === "tool-call"
      ? [[part.name, part.params]]
      : part.type === "tool-result"
      ? [[part.name, part.isFailure, String(part.result).replace(/ses_\w+/, "ses_")]]
      : []
  )

describe("a stream and a response tell the same", () => {
  for (const [what, steps] of bumps) {
    test(`of ${what}`, () =>
      Effect.gen(function*() {
        yield* scripts(steps, steps)
        const toolkit = OpencodeTool.toolkit
        const whole = yield* Effect.forkChild(LanguageModel.generateText({ prompt: "Do it.", toolkit }))
        yield* passing(8)
        const streaming = yield* Effect.forkChild(
          Stream.runCollect(LanguageModel.streamText({ prompt: "Do it.", toolkit }))
        )
        yield* passing(8)
        const response = yield* Fiber.join(whole)
        const parts = yield* Fiber.join(streaming)
        const finish = parts.find((part) => part.type === "finish")
        assert.strictEqual(finish?.metadata.opencode?.content ?? textOf(parts), response.text)
        assert.strictEqual(finish?.reason, response.finishReason)
        assert.deepStrictEqual(finish?.usage, response.usage)
        assert.deepStrictEqual(calls(parts), calls(response.content))
      }).pipe(on()))
  }
})

/** A message of a history without the ids in it. */
const outlineOf = ({ content, role }: Prompt.Message) => [
  role,
  ...(typeof content === "string" ? [content] : content.map((part) => {
    switch (part.type) {
      case "text":
      case "reasoning":
        return [part.type, part.text, Object.keys(part.options)]
      case "tool-call":
        return [part.type, part.name, part.params, part.providerExecuted]
      case "tool-result":
        return [part.type, part.name, part.result, part.isFailure]
      default:
        return [part.type]
    }
  }))
]

describe("a chat", () => {
  test("stays in its conversation, and sends only what is new", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Hello." }], [{ text: "Blue." }], [{ text: "Bye." }])
      const chat = yield* Chat.fromPrompt([{ role: "system", content: "Be short." }])
      yield* chat.generateText({ prompt: "Hi" })
      yield* Stream.runDrain(chat.streamText({ prompt: "Which colour?" }))
      yield* chat.generateText({ prompt: "Thanks" })
      assert.deepStrictEqual((yield* posted).map(({ system, text }) => [system, ...text]), [
        ["Be short.", "Hi"],
        ["Be short.", "Which colour?"],
        ["Be short.", "Thanks"]
      ])
      assert.lengthOf(yield* conversations, 1)
    }).pipe(on()))

  test("that was exported goes on in its conversation, and twice in two", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Hello." }], [{ text: "Blue." }], [{ text: "Red." }])
      const chat = yield* Chat.empty
      yield* chat.generateText({ prompt: "Hi" })
      const json = yield* chat.exportJson
      const one = yield* Chat.fromJson(json)
      const other = yield* Chat.fromJson(json)
      yield* one.generateText({ prompt: "Which colour?" })
      yield* other.generateText({ prompt: "And now?" })
      const [, second, third] = yield* posted
      assert.deepStrictEqual(second?.text, ["Which colour?"])
      assert.deepStrictEqual(third?.text, [
        "<conversation_so_far>\n\nUser:\nHi\n\nAssistant:\nHello.\n\n</conversation_so_far>",
        "And now?"
      ])
      assert.lengthOf(yield* conversations, 2)
    }).pipe(on()))

  test("goes on in its conversation behind a turn that failed", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Hello." }], [{ fail: 401 }], [{ text: "Blue." }])
      const chat = yield* Chat.empty
      yield* chat.generateText({ prompt: "Hi" })
      yield* Effect.flip(chat.generateText({ prompt: "Which colour?" }))
      yield* chat.generateText({ prompt: "Which colour?" })
      assert.lengthOf(yield* conversations, 1)
      assert.deepStrictEqual((yield* posted).map(({ text }) => text), [["Hi"], ["Which colour?"], ["Which colour?"]])
    }).pipe(on()))

  test("whose history another model wrote is told to the agent", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Blue." }])
      const chat = yield* Chat.fromPrompt([
        { role: "user", content: "Hi" },
        {
          role: "assistant",
          content: [
            { type: "text", text: "Hello." },
            { type: "tool-call", id: "1", name: "Weather", params: { city: "Bonn" } }
          ]
        },
        {
          role: "tool",
          content: [{ type: "tool-result", id: "1", name: "Weather", isFailure: false, result: "rain" }]
        },
        { role: "assistant", content: "It rains." }
      ])
      yield* chat.generateText({ prompt: "Which colour?" })
      const [first] = yield* posted
      assert.deepStrictEqual(first?.text, [
        [
          "<conversation_so_far>",
          "User:\nHi",
          "Assistant:\nHello.\n[called Weather with {\"city\":\"Bonn\"}]",
          "Tool:\n[Weather gave rain]",
          "Assistant:\nIt rains.",
          "</conversation_so_far>"
        ].join("\n\n"),
        "Which colour?"
      ])
    }).pipe(on()))

  test("keeps the same of a stream as of a response", () =>
    Effect.gen(function*() {
      const steps = [
        { reasoning: "I think.", text: "I look.", tool: "bash", args: { command: "ls" } },
        { text: "Done." }
      ]
      yield* scripts(steps, steps)
      const { toolkit } = OpencodeTool
      const [one, other] = [yield* Chat.empty, yield* Chat.empty]
      yield* one.generateText({ prompt: "Do it.", toolkit })
      yield* Stream.runDrain(other.streamText({ prompt: "Do it.", toolkit }))
      assert.deepStrictEqual(
        (yield* Ref.get(other.history)).content.map(outlineOf),
        (yield* Ref.get(one.history)).content.map(outlineOf)
      )
    }).pipe(on()))

  test("goes on from the results of tools that another model called, and from approvals of them", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "It rains." }], [{ text: "Take a coat." }])
      const call = { type: "tool-call", id: "1", name: "Weather", params: { city: "Bonn" } } as const
      const result = { type: "tool-result", id: "1", name: "Weather", isFailure: false, result: "rain" } as const
      yield* LanguageModel.generateText({
        prompt: [
          { role: "user", content: "How is it?" },
          { role: "assistant", content: [call, { type: "tool-approval-request", approvalId: "a", toolCallId: "1" }] },
          { role: "tool", content: [{ type: "tool-approval-response", approvalId: "a", approved: true }, result] }
        ]
      })
      yield* LanguageModel.generateText({
        prompt: [
          { role: "assistant", content: [call] },
          { role: "tool", content: [result] },
          { role: "user", content: "What do I wear?" }
        ]
      })
      const [first, second] = yield* posted
      assert.deepStrictEqual(first?.text, [
        [
          "<conversation_so_far>",
          "User:\nHow is it?",
          "Assistant:\n[called Weather with {\"city\":\"Bonn\"}]",
          "Tool:\n[Weather gave rain]",
          "</conversation_so_far>"
        ].join("\n\n"),
        "Go on with the conversation."
      ])
      assert.include(second?.text[0], "[Weather gave rain]")
      assert.strictEqual(second?.text[1], "What do I wear?")
    }).pipe(on()))

  test("with a tracker of response ids goes on with the response before", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Hello." }], [{ text: "Blue." }])
      const tracker = yield* ResponseIdTracker.make
      const first = Prompt.make("Hi")
      yield* Effect.gen(function*() {
        yield* LanguageModel.generateText({ prompt: first })
        // The answer in this prompt carries no ids.
        const prompt = Prompt.concat(first, [{ role: "assistant", content: "Hello." }, {
          role: "user",
          content: "And?"
        }])
        yield* LanguageModel.generateText({ prompt })
      }).pipe(Effect.provideService(ResponseIdTracker.ResponseIdTracker, tracker))
      assert.deepStrictEqual((yield* posted).map(({ text }) => text), [["Hi"], ["And?"]])
      assert.lengthOf(yield* conversations, 1)
    }).pipe(on()))

  test("that is persisted goes on in its conversation after a restart", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Hello." }], [{ text: "Blue." }])
      const persisted = Effect.flatMap(Chat.Persistence, (persistence) => persistence.getOrCreate("chat")).pipe(
        Effect.provide(Chat.layerPersisted({ storeId: "chats" }))
      )
      yield* Effect.gen(function*() {
        yield* Stream.runDrain((yield* persisted).streamText({ prompt: "Hi", toolkit: OpencodeTool.toolkit }))
        yield* (yield* persisted).generateText({ prompt: "Which colour?" })
      }).pipe(Effect.provide(Persistence.layerBackingMemory))
      assert.deepStrictEqual((yield* posted).map(({ text }) => text), [["Hi"], ["Which colour?"]])
      assert.lengthOf(yield* conversations, 1)
    }).pipe(on()))

  test("goes on behind a stream that its reader left", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Once upon a time.", gate: "middle", gateAfter: 2 }], [{ text: "Blue." }])
      const chat = yield* Chat.empty
      yield* Stream.runDrain(Stream.take(
        Stream.filter(chat.streamText({ prompt: "Tell." }), ({ type }) => type === "text-delta"),
        1
      ))
      yield* chat.generateText({ prompt: "Which colour?" })
      assert.deepStrictEqual((yield* posted).map(({ text }) => text), [["Tell."], ["Which colour?"]])
      assert.lengthOf(yield* conversations, 1)
    }).pipe(on()))

  test("with a tracker of response ids streams, asks for values, and begins anew where the ids are gone", () =>
    Effect.gen(function*() {
      const value = { tool: "StructuredOutput", args: { count: 1 } }
      yield* scripts([{ text: "Hello." }], [value], [{ text: "Blue." }])
      const tracker = yield* ResponseIdTracker.make
      const first = Prompt.fromMessages([asked("Hi")])
      const second = Prompt.fromMessages([...first.content, said("Hello."), asked("How many?")])
      const third = Prompt.fromMessages([...second.content, said("One."), asked("Which colour?")])
      yield* Effect.gen(function*() {
        yield* Stream.runDrain(LanguageModel.streamText({ prompt: first }))
        yield* LanguageModel.generateObject({ prompt: second, schema: Schema.Struct({ count: Schema.Number }) })
        tracker.clearUnsafe()
        yield* LanguageModel.generateText({ prompt: third })
      }).pipe(Effect.provideService(ResponseIdTracker.ResponseIdTracker, tracker))
      const [, two, three] = yield* posted
      assert.deepStrictEqual(two?.text, ["How many?"])
      assert.include(three?.text[0], "User:\nHow many?\n\nAssistant:\nOne.")
      assert.lengthOf(yield* conversations, 2)
    }).pipe(on()))

  test("never prompts a second time because the model's provider refused the request", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "Hello." }], [{ fail: 400, message: "odd" }])
      const tracker = yield* ResponseIdTracker.make
      const chat = yield* Chat.empty
      const error = yield* chat.generateText({ prompt: "Hi" }).pipe(
        Effect.andThen(chat.generateText({ prompt: "And?" })),
        Effect.provideService(ResponseIdTracker.ResponseIdTracker, tracker),
        Effect.flip
      )
      assert.strictEqual(error.reason._tag, "InvalidUserInputError")
      assert.lengthOf(yield* prompts, 2)
    }).pipe(on()))
})

describe("a turn that goes wrong", () => {
  test("is an error of the kind that its cause is", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const ask = LanguageModel.generateText({ prompt: "Do it." })
      const failing = (steps: ReadonlyArray<Step>) => Effect.andThen(scripts(steps), Effect.flip(ask))
      assert.strictEqual((yield* failing([{ fail: 403 }])).reason._tag, "AuthenticationError")
      assert.strictEqual((yield* failing([{ fail: 402 }])).reason._tag, "QuotaExhaustedError")
      const silent = yield* Effect.forkChild(failing([{ text: "" }]))
      yield* passing(60)
      assert.strictEqual((yield* Fiber.join(silent)).reason._tag, "InvalidOutputError")
      const steps = [{ text: "I look.", tool: "bash", args: { command: "ls" } }, { text: "Done." }]
      const overBudget = yield* Effect.provideService(failing(steps), TurnPolicy.Budget, { steps: 1 })
      assert.strictEqual(overBudget.reason._tag, "UnknownError")
      assert.isFalse(overBudget.isRetryable)
      assert.isTrue(
        overBudget.reason._tag === "UnknownError" && overBudget.reason.metadata.opencode?.tag === "BudgetExceeded"
      )
      yield* fake.kill
      const gone = yield* Effect.forkChild(Effect.flip(ask))
      yield* passing(60)
      assert.strictEqual((yield* Fiber.join(gone)).reason._tag, "NetworkError")
    }).pipe(on()))

  test("tells which message has the rest", () =>
    Effect.gen(function*() {
      yield* scripts([{ text: "I look.", tool: "bash", args: { command: "ls" } }, { fail: 401 }])
      const { reason } = yield* Effect.flip(LanguageModel.generateText({ prompt: "Do it." }))
      const metadata = reason._tag === "AuthenticationError" ? reason.metadata.opencode : undefined
      const store = yield* SessionStore
      const message = yield* store.getMessage(AssistantMessageId.make(metadata?.messageId ?? ""))
      assert.strictEqual(Option.getOrUndefined(message)?.content, "I look.")
    }).pipe(on()))
})
