/**
 * An OpenAI-compatible model on loopback that answers from a script, to drive a real OpenCode server offline.
 *
 * **Responsibilities**: `POST /v1/chat/completions` with a streamed answer, a record of every call, gates that hold an answer until the
 * test releases it, and a scope that ends all of it at once.
 *
 * **Not responsibilities**: answers without streaming, other routes of the OpenAI API, checking the api key.
 *
 * @example
 * ```ts
 * const model = yield* ScriptedModel.ScriptedModel
 * // Prompt OpenCode with a text that carries the model's part of the conversation:
 * ScriptedModel.prompt("count the files", [
 *   { reasoning: "a shell can do that", tool: "bash", args: { command: "ls | wc -l", description: "count" } },
 *   { text: "There are 3.", gate: "answering", gateAfter: 1 }
 * ])
 * yield* model.reached("answering") // "There " is on its way and the model waits
 * yield* model.release("answering")
 * ```
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpServer from "effect/http/HttpServer"
import type { ServeError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Http from "node:http"
import { split } from "./Chunks.ts"
import type { Answer, Failure, ModelRequest, Script, Step, Usage } from "./ModelScript.ts"
import { fromPrompt, scriptedSummary, toolCalls } from "./ModelScript.ts"

export * from "./ModelScript.ts"

/**
 * The running model: its url, its recorded calls, and the gates of its answers.
 *
 * @category services
 * @since 0.1.0
 */
export class ScriptedModel extends Context.Service<ScriptedModel, {
  /** Base url for the provider's configuration, ending in `/v1`. */
  readonly url: string
  /** Every call so far, title calls included, in order of arrival. */
  readonly requests: Effect.Effect<ReadonlyArray<ModelRequest>>
  /** The number of calls that are not title calls. */
  readonly modelCalls: Effect.Effect<number>
  /** Completes once an answer has reached the gate, even if that answer has ended since. */
  readonly reached: (gate: string) => Effect.Effect<void>
  /** Opens the gate for waiting and later answers. */
  readonly release: (gate: string) => Effect.Effect<void>
}>()("@opencode-turn/testing/ScriptedModel") {}

/**
 * The options of the model.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Picks the answers; `fromPrompt` by default. */
  readonly script?: Script | undefined
  /** The answer to calls about a title; "Scripted title" by default. */
  readonly title?: string | undefined
  /** Picks the answer to a call that asks for a summary of the conversation; "Scripted summary" by default. */
  readonly summary?: ((request: ModelRequest) => Step) | undefined
  /** The port on 127.0.0.1; a free one by default. */
  readonly port?: number | undefined
}

/**
 * Starts a scripted model on 127.0.0.1. Closing the layer's scope stops it together with unfinished answers.
 *
 * **Gotchas**
 *
 * `delayMillis` and `chunkDelayMillis` follow the `Clock` of the layer's build, so a `TestClock` must be adjusted for them.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<ScriptedModel, ServeError> =>
  Layer.effect(ScriptedModel, make(options))

const make = Effect.fnUntraced(function*(options: Options) {
  const script = options.script ?? fromPrompt
  const title: Answer = { text: options.title ?? "Scripted title" }
  const summary = options.summary ?? (() => scriptedSummary)
  const requests: Array<ModelRequest> = []
  const gates = new Map<string, Gate>()
  const gateOf = (name: string): Gate => {
    let gate = gates.get(name)
    if (gate === undefined) {
      gate = { reached: Latch.makeUnsafe(), opened: Latch.makeUnsafe() }
      gates.set(name, gate)
    }
    return gate
  }

  const next = (request: ModelRequest): Step => {
    const earlier = requests.slice()
    requests.push(request)
    return request.isSummary ? summary(request) : request.isTitle ? title : script(request, earlier)
  }

  const handle = Effect.gen(function*() {
    const incoming = yield* HttpServerRequest.HttpServerRequest
    if (incoming.method !== "POST" || incoming.url !== "/v1/chat/completions") {
      return respondFailure({ fail: 404, message: `no route ${incoming.method} ${incoming.url}` })
    }
    const request = yield* receive(incoming)
    const step = next(request)
    if (step.delayMillis !== undefined) yield* Effect.sleep(step.delayMillis)
    return "fail" in step
      ? respondFailure(step)
      : respondAnswer(step, request.model, step.gate === undefined ? undefined : gateOf(step.gate))
  }).pipe(
    // The client would retry a bad call forever if the status blamed the server.
    Effect.catch((error) => Effect.succeed(respondFailure({ fail: 400, message: error.message }))),
    Effect.catchDefect((defect) => Effect.succeed(respondFailure({ fail: 400, message: `script: ${String(defect)}` }))),
    Effect.provideService(HttpIncomingMessage.MaxBodySize, maxBodySize)
  )

  const node = Http.createServer({
    headersTimeout: 10_000,
    requestTimeout: 60_000,
    // Longer than any client's pool keeps a connection, so that a client never sends on a connection that is closing.
    keepAliveTimeout: 120_000
  })
  const server = yield* NodeHttpServer.make(() => node, {
    host: "127.0.0.1",
    port: options.port ?? 0,
    // Hanging answers would hold a graceful shutdown until its limit.
    disablePreemptiveShutdown: true
  })
  // Runs before the server waits for its connections, so that it finds none.
  yield* Effect.addFinalizer(() => Effect.sync(() => node.closeAllConnections()))
  yield* server.serve(handle)

  return ScriptedModel.of({
    url: `${HttpServer.formatAddress(server.address)}/v1`,
    requests: Effect.sync(() => requests.slice()),
    modelCalls: Effect.sync(() => requests.filter((request) => !request.isTitle).length),
    reached: (gate) => gateOf(gate).reached.await,
    release: (gate) => Effect.asVoid(gateOf(gate).opened.open)
  })
})

// internal

interface Gate {
  readonly reached: Latch.Latch
  readonly opened: Latch.Latch
}

// A whole history with attachments fits. The server's default is no limit.
const maxBodySize = ByteSize.mebibytes(64)

const Body = Schema.Struct({
  model: Schema.String,
  stream: Schema.Literal(true),
  messages: Schema.Array(Schema.Struct({
    role: Schema.String,
    content: Schema.optional(Schema.NullOr(Schema.Union([
      Schema.String,
      Schema.Array(Schema.Struct({ type: Schema.String, text: Schema.optional(Schema.String) }))
    ]))),
    tool_calls: Schema.optional(Schema.Array(Schema.Struct({ function: Schema.Struct({ name: Schema.String }) })))
  })),
  tools: Schema.optional(Schema.Array(Schema.Struct({ function: Schema.Struct({ name: Schema.String }) })))
})

/** The first words to the model that summarises: those of 1.18.33, and those of 2.x (0.0.0-next-16350). */
const isSummarizer =
  /^(?:You are a context summarization agent|Create a new anchored summary|Update the anchored summary)/

const decodeBody = Schema.decodeUnknownEffect(Body)

const receive = Effect.fnUntraced(function*(incoming: HttpServerRequest.HttpServerRequest) {
  const body = yield* incoming.json
  const { messages, model, tools = [] } = yield* decodeBody(body)
  const said = messages.map((message) => ({
    role: message.role,
    text: typeof message.content === "string"
      ? message.content
      : (message.content ?? []).flatMap((part) => part.text ?? []).join("\n"),
    toolCalls: (message.tool_calls ?? []).map((call) => call.function.name)
  }))
  const request: ModelRequest = {
    model,
    messages: said,
    tools: tools.map((tool) => tool.function.name),
    isTitle: tools.length === 0,
    isSummary: tools.length === 0 && isSummarizer.test(said[0]?.text ?? ""),
    // OpenCode sends its session in this header to every provider (seen on 1.18.33).
    sessionId: incoming.headers["x-session-id"],
    body
  }
  return request
})

const respondFailure = ({ fail, headers, message }: Failure): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe(
    { error: { message: message ?? `scripted failure ${fail}`, type: "scripted_failure" } },
    { status: fail, ...(headers === undefined ? {} : { headers }) }
  )

const respondAnswer = (
  answer: Answer,
  model: string,
  gate: Gate | undefined
): HttpServerResponse.HttpServerResponse => {
  const chunk = (fields: object) => `data: ${JSON.stringify({ object: "chat.completion.chunk", model, ...fields })}\n\n`
  const delta = (fields: object, finish: string | null = null) =>
    chunk({ choices: [{ index: 0, delta: fields, finish_reason: finish }] })

  const deltas = [
    ...split(answer.reasoning ?? "", answer.chunks).map((text) => delta({ reasoning_content: text })),
    ...split(answer.text ?? "", answer.chunks).map((text) => delta({ content: text }))
  ]
  const calls = toolCalls(answer).map(({ args = {}, tool }, index) =>
    delta({
      tool_calls: [{
        index,
        id: `call_${crypto.randomUUID()}`,
        type: "function",
        function: { name: tool, arguments: JSON.stringify(args) }
      }]
    })
  )
  const end = [
    delta({}, answer.finish ?? (calls.length > 0 ? "tool_calls" : "stop")),
    chunk({ choices: [], usage: encodeUsage(answer.usage ?? defaultUsage) }),
    "data: [DONE]\n\n"
  ]

  const paced = (deltas: ReadonlyArray<string>): Stream.Stream<string> => {
    const pause = answer.chunkDelayMillis
    return pause === undefined
      ? Stream.fromArray(deltas)
      : Stream.fromArray(deltas).pipe(Stream.mapEffect((delta) => Effect.delay(Effect.succeed(delta), pause)))
  }
  const wait = gate === undefined
    ? Stream.empty
    : Stream.fromEffectDrain(Effect.andThen(gate.reached.open, gate.opened.await))
  const gateAfter = answer.gateAfter ?? deltas.length

  return HttpServerResponse.stream(
    Stream.make(delta({ role: "assistant" })).pipe(
      Stream.concat(paced(deltas.slice(0, gateAfter))),
      Stream.concat(wait),
      Stream.concat(paced(deltas.slice(gateAfter))),
      Stream.concat(answer.ending === undefined ? Stream.fromArray([...calls, ...end]) : endings[answer.ending]),
      Stream.encodeText
    ),
    { contentType: "text/event-stream", headers: { "cache-control": "no-cache" } }
  )
}

const endings: Record<NonNullable<Answer["ending"]>, Stream.Stream<never>> = {
  hang: Stream.never,
  // The server destroys a response whose stream does not succeed. Sent data needs one turn of the event loop to leave first.
  cut: Stream.fromEffectDrain(Effect.andThen(Effect.yieldNow, Effect.interrupt))
}

const defaultUsage: Usage = { input: 10, output: 5 }

const encodeUsage = (usage: Usage) => ({
  prompt_tokens: usage.input,
  completion_tokens: usage.output,
  total_tokens: usage.input + usage.output,
  prompt_tokens_details: { cached_tokens: usage.cacheRead ?? 0 },
  completion_tokens_details: { reasoning_tokens: usage.reasoning ?? 0 }
})
