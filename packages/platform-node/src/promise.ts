/**
 * Turns for programs that use promises: one runtime, one connection and one store for a process.
 *
 * **Responsibilities**: promises, async iterables, abort signals and async functions in place of effects.
 *
 * **Not responsibilities**: anything that a turn does; see `runTurn` of `@opencode-turn/core`.
 *
 * @since 0.1.0
 */
import * as core from "@opencode-turn/core"
import type { Answer, Ask, PermissionRule } from "@opencode-turn/core/Ask"
import type { Attached, AttachOptions } from "@opencode-turn/core/AttachTurn"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { AssistantMessageId, makeId } from "@opencode-turn/core/Ids"
import * as Output from "@opencode-turn/core/Output"
import type { PromptPart } from "@opencode-turn/core/Prompt"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import type { StoredAsk } from "@opencode-turn/core/StoredAsk"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import type { TurnUpdate } from "@opencode-turn/core/Turn"
import { InvalidInput, type OutputIssue } from "@opencode-turn/core/TurnError"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { StandardJSONSchemaV1, StandardSchemaV1 } from "effect/StandardSchema"
import * as Stream from "effect/Stream"
import { type Live, LiveLayer } from "./live/LiveLayer.ts"
import * as Telemetry from "./live/Telemetry.ts"
import * as Input from "./PromiseInput.ts"

/**
 * The policies of turns, as plain values; `TurnPolicy` of `@opencode-turn/core` documents each of them and its default.
 *
 * **Details**
 *
 * `openTurns` takes the policies of all its turns, including those that it resumes. A turn's own policy replaces the one of `openTurns`.
 * The times of `budget` are milliseconds, or texts such as `30 minutes`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Policies {
  readonly budget?: TurnPolicy.Budget | undefined
  readonly whenBusy?: "queue" | "reject" | "replace" | undefined
  readonly maxQueued?: number | undefined
  readonly onInterrupt?: "cancel" | "release" | undefined
  readonly onLostSession?: "resendIfUntouched" | "resend" | "fail" | undefined
  readonly allowSilent?: boolean | undefined
  readonly outputRepairs?: number | undefined
  readonly refusalRepairs?: number | undefined
  readonly maxIdleSteps?: number | undefined
  readonly maxAttachmentBytes?: number | undefined
  readonly fallbackContent?: string | undefined
  readonly cancelledContent?: string | undefined
  readonly traceDetail?: TurnPolicy.TraceDetail | undefined
  readonly traceContent?: TurnPolicy.TraceContent | undefined
}

/**
 * Where the server and the store are, and who answers what the agent asks. What is left out is read from the environment, as
 * `LiveLayer` does.
 *
 * **Details**
 *
 * - `database`: a SQLite file, `memory`, or the URL of a PostgreSQL database.
 * - `requestTimeoutMillis`: of one request, not of a turn.
 * - `gate`: `deny` (the default) refuses and tells the agent so, `allow` permits everything, `store` keeps each ask in the store until
 *   `answer` is called, from any process. A function of yours answers itself; its `signal` aborts when nobody needs the answer any more.
 * - `worker`: for as long as the turns are open, those of processes that died are carried to their ends (`TurnWorker.layer`). Default:
 *   `false`.
 * - `telemetry`: traces, metrics and logs are sent where the variables of OpenTelemetry say (`Telemetry.layer`). Default: `false`.
 * - The policies apply to all turns.
 *
 * @category models
 * @since 0.1.0
 */
export interface OpenOptions extends Policies {
  readonly baseUrl?: string | undefined
  readonly password?: string | undefined
  readonly directory?: string | undefined
  readonly workspace?: string | undefined
  readonly database?: string | undefined
  readonly requestTimeoutMillis?: number | undefined
  readonly gate?: "deny" | "allow" | "store" | AskHandler | undefined
  readonly worker?: boolean | undefined
  readonly telemetry?: boolean | undefined
}

/**
 * Answers one ask. A handler that throws counts as a refusal, and is reported.
 *
 * @category models
 * @since 0.1.0
 */
export type AskHandler = (ask: Ask, asking: HumanGate.Asking & { readonly signal: AbortSignal }) => Promise<Answer>

/**
 * The value that an answer is to be: a schema of Effect, a schema of any library that follows Standard Schema and gives its JSON Schema
 * (zod 4.2, valibot, arktype), or a JSON Schema. For a JSON Schema the result's `output` is `unknown`.
 *
 * @category models
 * @since 0.1.0
 */
export type OutputOf<A> = Schema.Codec<A, unknown> | StandardOutput<A> | { readonly [key: string]: unknown }

/**
 * A schema that validates by Standard Schema and gives its JSON Schema.
 *
 * @category models
 * @since 0.1.0
 */
export interface StandardOutput<A> {
  readonly "~standard": StandardSchemaV1.Props<unknown, A> & StandardJSONSchemaV1.Props<unknown, A>
}

/**
 * One user message, and what goes with it: the fields of `TurnInput`, as plain values.
 *
 * **Details**
 *
 * `signal` cancels the turn: its session is aborted, what was streamed is stored, and the result is `cancelled`. A signal that has
 * aborted before the call throws its reason, and nothing is stored. The policies replace those of `openTurns` for this turn.
 *
 * - `onUpdate`: called with each update, in order, one at a time, at its own pace.
 * - `onFinalized`: called after the terminal write, with the stored message.
 * - `onActivityTick`: called at most every 5 minutes while the agent works, for example to keep a job alive.
 *
 * A callback that throws, or takes longer than 5 seconds, is reported and changes nothing. Turns that another process resumes have none.
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnOptions<A = unknown> extends Policies {
  readonly conversation: string
  readonly prompt: string | ReadonlyArray<PromptPart>
  readonly messageId?: string | undefined
  readonly agent?: string | undefined
  readonly model?: string | undefined
  readonly variant?: string | undefined
  readonly system?: string | undefined
  readonly tools?: Readonly<Record<string, boolean>> | undefined
  readonly title?: string | undefined
  readonly metadata?: Readonly<Record<string, Schema.Json>> | undefined
  readonly permission?: ReadonlyArray<PermissionRule> | undefined
  readonly output?: OutputOf<A> | undefined
  readonly onUpdate?: ((update: ReplyUpdate) => Promise<void> | void) | undefined
  readonly onFinalized?: ((message: StoredMessage) => Promise<void> | void) | undefined
  readonly onActivityTick?: ((conversation: string) => Promise<void> | void) | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * What to fork: the turn `at` of a conversation and all before it, or all of it, as the new conversation `into`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ForkOptions {
  readonly conversation: string
  readonly at?: string | undefined
  readonly into: string
}

/**
 * `model` is `provider/model`; by default it is that of the last turn. A `signal` that aborts stops the model.
 *
 * @category models
 * @since 0.1.0
 */
export interface CompactOptions {
  readonly model?: string | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * The turns of a process.
 *
 * **Details**
 *
 * - `run`: runs a turn to its end. A turn that failed is a result too, with its `error`; only an end that could not be stored is thrown.
 * - `stream`: the same, giving each change of the reply and the result at last (`Finished`). To leave the loop cancels the turn.
 * - `attach`: the updates of a turn of any process, each with its `offset`, and its stored message at last (`Finished`). `from` takes it up
 *   again behind an offset. To leave the loop changes nothing.
 * - `cancel`: stops a turn of any process, and gives its stored message.
 * - `fork`: begins the conversation `into` with what another one said, up to the turn `at` or to its newest one.
 * - `revert`: takes back a turn and those after it, with what they changed in the files; `unrevert` undoes that, until the next turn.
 * - `compact`: puts a summary in place of what was said. It waits for turns before it, as `whenBusy` says. `signal` stops it.
 *   These four give the stored message of what they did; `Operations` of the core has their details and errors.
 * - `pendingAsks`, `answer`: what the gate `store` keeps, and the answer to one of them.
 * - `resume`: carries the turns without a living owner to their ends, once, and gives their results. A process that died owns its turns for
 *   4 seconds more (`TurnPolicy.Lease`); `worker` of `openTurns` waits for that.
 * - `prune`: deletes ended messages that are older, and gives their number.
 * - `close`: interrupts what runs, which cancels it unless `onInterrupt` says otherwise, and closes the connection and the store.
 *
 * Errors are instances of `Error` with a `_tag`: `InvalidInput` for an argument that cannot be used or is not known, {@link TurnsClosed} for what is called,
 * runs or is read when the turns are closed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Turns extends AsyncDisposable {
  run<A = unknown>(options: TurnOptions<A> & { readonly output: OutputOf<A> }): Promise<TurnResult<A>>
  run<A = undefined>(options: TurnOptions<A>): Promise<TurnResult<A | undefined>>
  stream<A = unknown>(options: TurnOptions<A> & { readonly output: OutputOf<A> }): AsyncIterable<TurnUpdate<A>>
  stream<A = undefined>(options: TurnOptions<A>): AsyncIterable<TurnUpdate<A | undefined>>
  readonly attach: (messageId: string, options?: AttachOptions) => AsyncIterable<Attached>
  readonly cancel: (messageId: string) => Promise<StoredMessage>
  readonly fork: (options: ForkOptions) => Promise<StoredMessage>
  readonly revert: (messageId: string) => Promise<StoredMessage>
  readonly unrevert: (conversation: string) => Promise<StoredMessage>
  readonly compact: (conversation: string, options?: CompactOptions) => Promise<StoredMessage>
  readonly pendingAsks: (filter?: {
    readonly conversation?: string | undefined
    readonly messageId?: string | undefined
    readonly limit?: number | undefined
  }) => Promise<ReadonlyArray<StoredAsk>>
  readonly answer: (askId: string, answer: Answer) => Promise<StoredAsk>
  readonly resume: () => Promise<ReadonlyArray<TurnResult>>
  readonly prune: (olderThanMillis: number) => Promise<number>
  readonly close: () => Promise<void>
}

/**
 * Opens the connection and the store; one for a process is enough. Throws `InvalidConfig` for a setting that cannot be used, and
 * `StoreError` for a store that cannot be opened.
 *
 * @category constructors
 * @since 0.1.0
 */
export const openTurns = async (options: OpenOptions = {}): Promise<Turns> => {
  await Effect.runPromise(Input.checkOpen<OpenOptions>(options, Input.openChecks))
  const runtime = ManagedRuntime.make(
    (options.worker === true ? TurnWorker.layer() : Layer.empty).pipe(
      Layer.provideMerge(Layer.merge(layerGate(options.gate), Layer.succeedContext(toContext(options)))),
      Layer.provideMerge(layerLive(options)),
      options.telemetry === true ? Layer.provideMerge(Telemetry.layer) : identity,
      // A program without Effect has no way to direct the log, which must not be mixed into its standard output.
      Layer.provideMerge(Layer.succeed(Logger.LogToStderr, true))
    )
  )
  const context = await runtime.context()
  const readers = new Set<AsyncIterator<unknown>>()
  let closing: Promise<void> | undefined
  const promise = async <A, E>(effect: Effect.Effect<A, E, Live>): Promise<A> => {
    if (closing !== undefined) throw new TurnsClosed()
    const exit = await runtime.runPromiseExit(effect)
    if (Exit.isSuccess(exit)) return exit.value
    throw closing !== undefined && Cause.hasInterruptsOnly(exit.cause) ? new TurnsClosed() : Cause.squash(exit.cause)
  }
  const iterable = <A, E>(stream: Stream.Stream<A, E, Live>): AsyncIterable<A> => ({
    [Symbol.asyncIterator]() {
      const reader = Stream.toAsyncIterableWith(stream, context)[Symbol.asyncIterator]()
      const leave = async () => {
        readers.delete(reader)
        return await reader.return?.() ?? { done: true, value: undefined }
      }
      let isOver = false
      return {
        next: async () => {
          if (isOver) return { done: true, value: undefined }
          if (closing !== undefined) {
            isOver = true
            throw new TurnsClosed()
          }
          readers.add(reader)
          try {
            const next = await reader.next()
            if (next.done !== true) return next
            isOver = true
            // To close the turns ends a reader as if its stream had ended, and takes it out of the set before.
            if (!readers.delete(reader)) throw new TurnsClosed()
            return next
          } catch (error) {
            isOver = true
            readers.delete(reader)
            throw error
          }
        },
        return: leave
      }
    }
  })
  const close = () => {
    closing ??= (async () => {
      // They run outside the runtime. What they read must end while the store is open.
      const open = [...readers]
      readers.clear()
      await Promise.allSettled(open.map((reader) => reader.return?.()))
      await runtime.dispose()
    })()
    return closing
  }

  // Overloads, because the type of a value is that of its schema, which a JSON Schema does not have.
  function run<A = unknown>(options: TurnOptions<A>): Promise<TurnResult<A>>
  async function run(options: TurnOptions): Promise<TurnResult> {
    return await promise(
      Effect.andThen(
        checkTurn(options),
        Effect.suspend(() =>
          Effect.scoped(Effect.flatMap(begin(options), (input) => core.runTurn(input))).pipe(
            Effect.provideContext(toContext(options))
          )
        )
      )
    )
  }
  function stream<A = unknown>(options: TurnOptions<A>): AsyncIterable<TurnUpdate<A>>
  function stream(options: TurnOptions): AsyncIterable<TurnUpdate> {
    return iterable(
      Stream.unwrap(Effect.map(
        Effect.andThen(checkTurn(options), Effect.suspend(() => begin(options))),
        (input) => Stream.provideContext(core.streamTurn(input), toContext(options))
      ))
    )
  }

  return {
    run,
    stream,
    attach: (messageId, options) =>
      iterable(
        Stream.unwrap(
          Effect.as(
            Effect.andThen(Input.checkId("messageId", messageId), Input.checkAttach(options)),
            Stream.suspend(() => core.attachTurn(AssistantMessageId.make(messageId), options))
          )
        )
      ),
    cancel: (messageId) =>
      promise(
        Effect.andThen(
          Input.checkId("messageId", messageId),
          Effect.suspend(() => core.cancelTurn(AssistantMessageId.make(messageId)))
        )
      ),
    fork: (options) =>
      promise(
        Effect.andThen(
          Input.checkFork(options),
          Effect.suspend(() =>
            core.forkConversation({ conversationId: options.conversation, at: options.at, into: options.into })
          )
        )
      ),
    revert: (messageId) =>
      promise(
        Effect.andThen(
          Input.checkId("messageId", messageId),
          Effect.suspend(() => core.revertTurn(AssistantMessageId.make(messageId)))
        )
      ),
    unrevert: (conversation) =>
      promise(
        Effect.andThen(
          Input.checkId("conversation", conversation),
          Effect.suspend(() => core.unrevertTurn(conversation))
        )
      ),
    compact: (conversation, options = {}) =>
      promise(
        Effect.andThen(
          Effect.andThen(Input.checkId("conversation", conversation), Input.checkCompact(options)),
          Effect.suspend(() =>
            Effect.scoped(Effect.gen(function*() {
              const messageId = yield* makeId("asm")
              const { model, signal } = options
              if (signal?.aborted === true) return yield* Effect.die(signal.reason)
              if (signal !== undefined) yield* Effect.forkScoped(cancelOn(signal, AssistantMessageId.make(messageId)))
              return yield* core.compactConversation(conversation, { model, messageId })
            }))
          )
        )
      ),
    pendingAsks: (filter = {}) =>
      promise(
        Effect.andThen(
          Input.checkFilter(filter),
          Effect.suspend(() =>
            core.pendingAsks({
              conversationId: filter.conversation,
              messageId: filter.messageId,
              limit: filter.limit
            })
          )
        )
      ),
    answer: (askId, answer) =>
      promise(
        Effect.andThen(
          Effect.andThen(Input.checkId("askId", askId), Input.checkAnswer(answer)),
          Effect.suspend(() => core.answerAsk(askId, answer))
        )
      ),
    resume: () => promise(core.resumeTurns()),
    prune: (olderThanMillis) =>
      promise(
        Effect.andThen(
          Input.checkAge("olderThanMillis", olderThanMillis),
          Effect.suspend(() => core.pruneMessages(olderThanMillis))
        )
      ),
    close,
    [Symbol.asyncDispose]: close
  }
}

/**
 * The turns were closed before this call, or while it ran.
 *
 * @category errors
 * @since 0.1.0
 */
export class TurnsClosed extends Schema.TaggedError<TurnsClosed>()("TurnsClosed", {}) {
  override get message() {
    return "the turns are closed: openTurns opens them again"
  }
}

// internal

/** A signal that has aborted throws its own reason. */
const checkTurn = (options: TurnOptions): Effect.Effect<void, InvalidInput> =>
  Effect.andThen(
    Input.checkTurn<TurnOptions>(options, Input.turnChecks),
    Effect.suspend(() => options.signal?.aborted === true ? Effect.die(options.signal.reason) : Effect.void)
  )

const layerLive = ({ baseUrl, database, directory, password, requestTimeoutMillis, workspace }: OpenOptions) =>
  LiveLayer.make({
    baseUrl,
    directory,
    workspace,
    requestTimeout: requestTimeoutMillis,
    database: database === undefined ? undefined : Redacted.make(database),
    password: password === undefined ? undefined : Redacted.make(password)
  })

const layerGate = (gate: OpenOptions["gate"]) => {
  switch (gate) {
    case undefined:
    case "deny":
      return HumanGate.layer(HumanGate.deny)
    case "allow":
      return HumanGate.layer(HumanGate.allow)
    case "store":
      return StoredGate.layer
    default:
      return HumanGate.layerCallback((ask, asking) => Effect.tryPromise((signal) => gate(ask, { ...asking, signal })))
  }
}

const toContext = (policies: Policies): Context.Context<never> =>
  Context.mergeAll(
    given(TurnPolicy.Budget, policies.budget),
    given(TurnPolicy.WhenBusy, policies.whenBusy),
    given(TurnPolicy.MaxQueued, policies.maxQueued),
    given(TurnPolicy.OnInterrupt, policies.onInterrupt),
    given(TurnPolicy.OnLostSession, policies.onLostSession),
    given(TurnPolicy.AllowSilent, policies.allowSilent),
    given(TurnPolicy.OutputRepairs, policies.outputRepairs),
    given(TurnPolicy.RefusalRepairs, policies.refusalRepairs),
    given(TurnPolicy.MaxIdleSteps, policies.maxIdleSteps),
    given(TurnPolicy.MaxAttachmentBytes, policies.maxAttachmentBytes),
    given(TurnPolicy.FallbackContent, policies.fallbackContent),
    given(TurnPolicy.CancelledContent, policies.cancelledContent),
    given(TurnPolicy.TraceDetail, policies.traceDetail),
    given(TurnPolicy.TraceContent, policies.traceContent)
  )

const given = <A>(reference: Context.Reference<A>, value: A | undefined): Context.Context<never> =>
  value === undefined ? Context.empty() : Context.make(reference, value)

/** The input of a turn, while whose scope its signal cancels it. */
const begin = Effect.fnUntraced(function*(
  { conversation, onActivityTick, onFinalized, onUpdate, output, signal, ...input }: TurnOptions
) {
  const messageId = input.messageId ?? (yield* makeId("asm"))
  if (signal !== undefined) yield* Effect.forkScoped(cancelOn(signal, AssistantMessageId.make(messageId)))
  return {
    ...input,
    messageId,
    conversationId: conversation,
    output: output === undefined ? undefined : yield* toOutput(output),
    observers: onUpdate && [toCallback(onUpdate)],
    onFinalized: onFinalized && toCallback(onFinalized),
    onActivityTick: onActivityTick && toCallback(onActivityTick)
  }
})

const toCallback = <A>(callback: (value: A) => Promise<void> | void) => (value: A) =>
  Effect.tryPromise(async () => await callback(value))

/** A turn is cancelled by its row, so that it ends with a result; before it has one, there is nothing to cancel yet. */
const cancelOn = (signal: AbortSignal, id: AssistantMessageId) =>
  Effect.callback<void>((resume) => {
    const abort = () => resume(Effect.void)
    if (signal.aborted) abort()
    else signal.addEventListener("abort", abort, { once: true })
    return Effect.sync(() => signal.removeEventListener("abort", abort))
  }).pipe(
    Effect.andThen(
      Effect.retry(core.cancelTurn(id), {
        schedule: Schedule.spaced("50 millis"),
        while: ({ _tag }) => _tag === "UnknownMessage"
      })
    ),
    // The turn has ended, or its store is away, which the turn itself will tell.
    Effect.ignore
  )

const toOutput = (output: OutputOf<unknown>): Effect.Effect<Output.OutputInput<unknown>, InvalidInput> => {
  if (Schema.isSchema(output)) return Effect.succeed(output)
  return isStandard(output) ? fromStandard(output) : Output.fromJsonSchema(output)
}

const isStandard = (output: OutputOf<unknown>): output is StandardOutput<unknown> =>
  Predicate.hasProperty(output, "~standard")

const fromStandard = (schema: StandardOutput<unknown>): Effect.Effect<Output.Output<unknown>, InvalidInput> => {
  const standard = schema["~standard"]
  const jsonSchema = Effect.try({
    try: () => standard.jsonSchema.input({ target: "draft-2020-12" }),
    catch: () =>
      new InvalidInput({
        field: "output",
        reason: `its library (${standard.vendor}) gives no JSON Schema for it (Standard Schema, draft 2020-12)`
      })
  })
  return Effect.map(jsonSchema, (json): Output.Output<unknown> => {
    const sent = Output.unchecked(json)
    return {
      jsonSchema: sent.jsonSchema,
      decode: (value) =>
        Effect.flatMap(
          sent.decode(value),
          ({ json, value }) =>
            Effect.flatMap(Effect.promise(async () => await standard.validate(value)), (result) =>
              result.issues === undefined
                ? Effect.succeed({ value: result.value, json })
                : Effect.fail(toIssues(result.issues)))
        )
    }
  })
}

const toIssues = (issues: ReadonlyArray<StandardSchemaV1.Issue>): Arr.NonEmptyArray<OutputIssue> => {
  const [first, ...others] = issues.map(({ message, path = [] }) => ({
    message,
    path: path.map((part) => `/${String(typeof part === "object" ? part.key : part)}`).join("")
  }))
  return [first ?? { message: "it does not fit", path: "" }, ...others]
}
