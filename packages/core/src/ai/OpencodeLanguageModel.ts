/**
 * OpenCode as a `LanguageModel` of `effect/ai`: each request is a turn.
 *
 * **Responsibilities**: `generateText`, `generateObject` and `streamText` over turns that are prompted once, stored, and carried to an end.
 * `Chat`, `ExecutionPlan` and everything else that takes a `LanguageModel` works on it.
 *
 * **Not responsibilities**: tools of the caller. OpenCode runs its own tools, and those of its plugins and MCP servers; a request with
 * others fails with `ToolConfigurationError`.
 *
 * **Example**
 * ```ts
 * const program = LanguageModel.generateText({ prompt: "Why does the build fail?" }).pipe(
 *   Effect.provide(OpencodeLanguageModel.model("anthropic/claude-sonnet-4-5")),
 *   Effect.provide(LiveLayer)
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as AiModel from "effect/ai/Model"
import type * as Response from "effect/ai/Response"
import * as Telemetry from "effect/ai/Telemetry"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { ParentSpan } from "effect/Tracer"
import { AssistantMessageId } from "../domain/Ids.ts"
import { Tracer } from "../domain/Tracer.ts"
import { Client } from "../opencode/Client.ts"
import { SessionStore, type StoredMessage } from "../store/SessionStore.ts"
import { attachTurn } from "../turn/AttachTurn.ts"
import * as Output from "../turn/Output.ts"
import { runTurn, streamTurn, type TurnServices } from "../turn/Turn.ts"
import type { TurnInput } from "../turn/TurnInput.ts"
import type { TurnResult } from "../turn/TurnResult.ts"
import * as AiErrors from "./AiErrors.ts"
import * as Conversation from "./Conversation.ts"
import { isOpencodeTool } from "./OpencodeTool.ts"
import * as PromptInput from "./PromptInput.ts"
import * as ResponseParts from "./ResponseParts.ts"

// Their modules also declare the metadata of `effect/ai`, which a program sees only through an export.
export type { ErrorMetadata } from "./AiErrors.ts"
export type { FinishMetadata, PartMetadata } from "./ResponseParts.ts"

/**
 * The choices for a request besides its prompt. They have the meaning that they have for a turn (`TurnInput`).
 *
 * **Details**
 *
 * - `conversationId`: the conversation of the request. OpenCode then has what was said before, and only the messages behind the last answer
 *   of the prompt are sent. Without it the answers in the prompt tell the conversation, so that a `Chat` stays in its own.
 * - `messageId`: the turn's message, for a request that may be repeated: one with the same id gives the answer that is stored, or waits for
 *   the one that runs, and never prompts the model again.
 * - `system`: stands before the system messages of the prompt.
 * - `observers`, `onTurnFinished`: see what a response does not tell: asks, to-dos, changed files, where the time went.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConfigOptions
  extends Pick<TurnInput, "tools" | "title" | "metadata" | "permission" | "observers" | "onTurnFinished">
{
  readonly conversationId?: string | undefined
  readonly messageId?: string | undefined
  readonly model?: string | undefined
  readonly agent?: string | undefined
  readonly variant?: string | undefined
  readonly system?: string | undefined
}

/**
 * What a model is made with. Only a request has a `messageId`: all requests of a model with one would be the same turn.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly model?: string | undefined
  readonly config?: Omit<ConfigOptions, "model" | "messageId"> | undefined
}

/**
 * The choices of a request; they replace those that the model was made with.
 *
 * @category services
 * @since 0.1.0
 */
export class Config
  extends Context.Service<Config, ConfigOptions>()("@opencode-turn/core/OpencodeLanguageModel/Config")
{}

/**
 * Makes the service.
 *
 * **Details**
 *
 * Gate, policies and other references are those of the request, or else those that were there when the service was made.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options = {}
): Effect.fn.Return<LanguageModel.LanguageModel, never, TurnServices> {
  const base: ConfigOptions = { ...options.config, ...(options.model !== undefined && { model: options.model }) }
  const context = yield* Effect.context<TurnServices>()
  const services = Context.pick(Client, SessionStore, Tracer)(context)
  const withServices =
    (request: LanguageModel.ProviderOptions) => (own: Context.Context<never>): Context.Context<TurnServices> =>
      Context.mergeAll(context, own, services, Context.make(ParentSpan, request.span))
  return yield* LanguageModel.make({
    generateText: (request) => Effect.updateContext(generate(base, request), withServices(request)),
    streamText: (request) => Stream.updateContext(stream(base, request), withServices(request)),
    codecTransformer,
    supportsSystemMessagesInHistory: Effect.succeed(true)
  })
})

/**
 * The service as a layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<LanguageModel.LanguageModel, never, TurnServices> =>
  Layer.effect(LanguageModel.LanguageModel, make(options))

/**
 * A model of OpenCode, `provider/model`, with its names.
 *
 * @category constructors
 * @since 0.1.0
 */
export const model = (
  name: string,
  config?: Options["config"]
): AiModel.Model<"opencode", LanguageModel.LanguageModel, TurnServices> =>
  AiModel.make("opencode", name, layer({ model: name, config }))

/**
 * Runs an effect with other choices for its requests.
 *
 * @category configuration
 * @since 0.1.0
 */
export const withConfigOverride: {
  (overrides: ConfigOptions): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, Config>>
  <A, E, R>(self: Effect.Effect<A, E, R>, overrides: ConfigOptions): Effect.Effect<A, E, Exclude<R, Config>>
} = dual(
  2,
  <A, E, R>(self: Effect.Effect<A, E, R>, overrides: ConfigOptions): Effect.Effect<A, E, Exclude<R, Config>> =>
    Effect.flatMap(
      Effect.serviceOption(Config),
      (before) => Effect.provideService(self, Config, { ...Option.getOrUndefined(before), ...overrides })
    )
)

// internal

/** A value is read from its JSON form, as the turn checks it. */
const codecTransformer: LanguageModel.CodecTransformer = (schema) => ({
  ...LanguageModel.defaultCodecTransformer(schema),
  codec: Schema.toCodecJson(schema)
})

/** A request as a turn. */
interface Request {
  readonly input: TurnInput & { readonly messageId?: string | undefined }
  readonly names: ResponseParts.ToolNames
  /** One of these tools of OpenCode has to be called. */
  readonly required: ReadonlyArray<string> | undefined
  readonly model: string | undefined
}

const generate = Effect.fnUntraced(function*(base: ConfigOptions, options: LanguageModel.ProviderOptions) {
  const method = options.responseFormat.type === "json" ? "generateObject" : "generateText"
  const request = yield* toRequest(base, options, method)
  annotateRequest(options, request)
  const message = yield* runTurn(request.input).pipe(
    Effect.flatMap((result) => ended(result, request, method)),
    Effect.catchTags({
      StoreError: (error) => failed(error, method),
      Held: () => attached(request, method)
    })
  )
  const toParts = options.responseFormat.type === "json" ? ResponseParts.fromValue : ResponseParts.fromMessage
  const parts = toParts(message, request.names)
  annotateResponse(options, parts)
  return parts
})

const stream = (
  base: ConfigOptions,
  options: LanguageModel.ProviderOptions
): Stream.Stream<Response.StreamPartEncoded, AiError.AiError, TurnServices> =>
  Stream.unwrap(Effect.gen(function*() {
    const request = yield* toRequest(base, options, "streamText")
    annotateRequest(options, request)
    const nowMillis = yield* Clock.currentTimeMillis
    return streamTurn(request.input).pipe(
      Stream.mapEffect((update): Effect.Effect<ResponseParts.Update, AiError.AiError | Held> =>
        update._tag === "Finished" ? toEnd(ended(update.result, request, "streamText")) : Effect.succeed(update)
      ),
      Stream.catchTags({
        StoreError: (error) => Stream.fromEffect(failed(error, "streamText")),
        Held: () => attach(request, "streamText")
      }),
      Stream.mapAccum(() => ResponseParts.begin(request.names, nowMillis), ResponseParts.apply),
      Stream.tap((part) => part.type === "finish" ? Effect.sync(() => annotateResponse(options, [part])) : Effect.void)
    )
  }))

/** Another process or fiber runs the turn of this very request. */
class Held extends Data.TaggedError("Held") {}

const toEnd = <E, R>(message: Effect.Effect<StoredMessage, E, R>): Effect.Effect<ResponseParts.Update, E, R> =>
  Effect.map(message, (message) => ({ _tag: "Ended", message }))

/** The message of a turn that completed; one that had ended before is taken as it is stored. */
const ended = Effect.fnUntraced(function*(
  { error, message, status }: TurnResult,
  { input, required }: Request,
  method: string
): Effect.fn.Return<StoredMessage, AiError.AiError | Held> {
  const isGiven = input.messageId !== undefined
  if (isGiven && error?._tag === "TurnInProgress" && error.messageId === input.messageId) return yield* new Held()
  if (message !== undefined && (status === "completed" || error?._tag === "AlreadyFinished")) {
    return yield* checked(yield* ofStored(message, method), required, method)
  }
  const nowMillis = yield* Clock.currentTimeMillis
  return yield* error === undefined
    ? AiErrors.make(method, new AiError.UnknownError({ description: "the turn's message is not in the store" }))
    : AiErrors.fromError(error, { method, turn: message, nowMillis })
})

/** The agent was told to call a tool, and nothing made it. */
const checked = (
  message: StoredMessage,
  required: Request["required"],
  method: string
): Effect.Effect<StoredMessage, AiError.AiError> =>
  required === undefined || message.parts.some((part) => part.type === "tool" && required.includes(part.tool))
    ? Effect.succeed(message)
    : Effect.fail(
      AiErrors.make(
        method,
        new AiError.InvalidOutputError({
          description: `the agent called none of the tools that the request requires: ${required.join(", ")}`
        })
      )
    )

const ofStored = Effect.fnUntraced(function*(
  message: StoredMessage,
  method: string
): Effect.fn.Return<StoredMessage, AiError.AiError> {
  if (message.status === "completed") return message
  const { details = {}, message: words, tag } = message.error ??
    { tag: "TurnCancelled", message: `message ${message.id} was cancelled` }
  const nowMillis = yield* Clock.currentTimeMillis
  return yield* AiErrors.fromTold({ tag, message: words, details }, { method, turn: message, nowMillis })
})

/** Follows the turn that somebody else runs. */
const attach = (
  { input, required }: Request,
  method: string
): Stream.Stream<ResponseParts.Update, AiError.AiError, SessionStore> =>
  attachTurn(AssistantMessageId.make(input.messageId ?? "")).pipe(
    Stream.catch((error) => Stream.fromEffect(failed(error, method))),
    Stream.mapEffect(({ update }): Effect.Effect<ResponseParts.Update, AiError.AiError> =>
      update._tag === "Finished"
        ? toEnd(Effect.flatMap(ofStored(update.message, method), (message) => checked(message, required, method)))
        : Effect.succeed(update)
    )
  )

const attached = (request: Request, method: string) =>
  Stream.runLast(Stream.filter(attach(request, method), (update) => update._tag === "Ended")).pipe(
    Effect.flatMap(Option.match({
      onNone: () =>
        Effect.fail(AiErrors.make(method, new AiError.UnknownError({ description: "the turn has no end" }))),
      onSome: ({ message }) => Effect.succeed(message)
    }))
  )

const failed = Effect.fnUntraced(function*(
  error: Parameters<typeof AiErrors.fromError>[0],
  method: string
): Effect.fn.Return<never, AiError.AiError> {
  return yield* AiErrors.fromError(error, { method, nowMillis: yield* Clock.currentTimeMillis })
})

const toRequest = Effect.fnUntraced(function*(
  base: ConfigOptions,
  options: LanguageModel.ProviderOptions,
  method: string
): Effect.fn.Return<Request, AiError.AiError, SessionStore> {
  const config: ConfigOptions = { ...base, ...Option.getOrUndefined(yield* Effect.serviceOption(Config)) }
  const { conversationId: _, messageId, system, tools, ...choices } = config
  const names = yield* namesOf(options, method)
  const { limits, required } = yield* choiceOf(options, method)
  const conversation = yield* Effect.catch(Conversation.find(options, config), (error) => failed(error, method))
  const prompt = yield* Effect.catch(
    PromptInput.partsOf(options.prompt, conversation.isKnown),
    (error) => failed(error, method)
  )
  const order = required === undefined
    ? ""
    : `Call at least one of these tools before you answer: ${required.join(", ")}.`
  const instructions = [system ?? "", PromptInput.systemOf(options.prompt), order]
    .filter((text) => text !== "")
    .join("\n\n")
  const format = options.responseFormat
  return {
    input: {
      ...choices,
      conversationId: conversation.id,
      prompt,
      messageId,
      ...(instructions !== "" && { system: instructions }),
      tools: limits ?? tools,
      ...(format.type === "json" && { output: yield* outputOf(format.schema, method) })
    },
    names,
    required,
    model: config.model
  }
})

const outputOf = (schema: Schema.Top, method: string) =>
  Effect.fromResult(Result.try({
    // The services that its decoding needs are those of the request.
    try: () => Output.fromSchema(Schema.make<Schema.Codec<unknown>>(schema.ast)),
    catch: (error) => {
      const description = error instanceof Error ? error.message : String(error)
      return AiErrors.make(method, new AiError.UnsupportedSchemaError({ description }))
    }
  }))

const namesOf = Effect.fnUntraced(function*({ tools }: LanguageModel.ProviderOptions, method: string) {
  const other = tools.find((tool) => !isOpencodeTool(tool))
  if (other === undefined) return ResponseParts.namesOf(tools)
  return yield* AiErrors.make(
    method,
    new AiError.ToolConfigurationError({
      toolName: String(other.name),
      description: "OpenCode runs only its own tools (OpencodeTool) and those of its plugins and MCP servers: " +
        "offer this one as an MCP server in OpenCode's configuration"
    })
  )
})

/**
 * What the choice of tools takes away from the agent, and what it has to call. A request without tools of its own limits nothing. OpenCode
 * cannot be made to call a tool, so the agent is told to, and its answer is checked.
 */
const choiceOf = Effect.fnUntraced(function*(
  { toolChoice, tools }: LanguageModel.ProviderOptions,
  method: string
): Effect.fn.Return<
  { readonly limits?: TurnInput["tools"]; readonly required?: ReadonlyArray<string> },
  AiError.AiError
> {
  if (tools.length === 0 || toolChoice === "auto") return {}
  if (toolChoice === "none") return { limits: { "*": false } }
  const chosen = typeof toolChoice === "object" && "tool" in toolChoice
    ? tools.filter(({ name }) => name === toolChoice.tool)
    : tools
  const own = chosen.flatMap((tool) => isOpencodeTool(tool) ? [tool.providerName] : [])
  if (toolChoice === "required") return { required: own }
  if (own.length === 0) {
    return yield* AiErrors.make(
      method,
      new AiError.InvalidRequestError({ parameter: "toolChoice", description: "the toolkit has no such tool" })
    )
  }
  const isRequired = "tool" in toolChoice || toolChoice.mode === "required"
  return {
    limits: { "*": false, ...Object.fromEntries(own.map((tool) => [tool, true] as const)) },
    ...(isRequired && { required: own })
  }
})

/** What the turn's own span does not tell: the model calls and their usage are told below it, and would else be counted twice. */
const annotateRequest = ({ span }: LanguageModel.ProviderOptions, { input, model }: Request): void => {
  Telemetry.addGenAIAnnotations(span, { provider: { name: "opencode" }, request: { model } })
  span.attribute("gen_ai.conversation.id", input.conversationId)
}

const annotateResponse = (
  { span }: LanguageModel.ProviderOptions,
  parts: ReadonlyArray<Response.PartEncoded | Response.StreamPartEncoded>
): void => {
  const finish = parts.find((part) => part.type === "finish")
  if (finish === undefined) return
  Telemetry.addGenAIAnnotations(span, {
    response: { id: finish.metadata?.opencode?.messageId, finishReasons: [finish.reason] }
  })
}
