/**
 * A turn: one user message, one assistant response, carried to a durable end whatever fails on the way.
 *
 * **Responsibilities**: the order of the steps, the one new session where the old one was lost, the translation of every
 * failure into a {@link TurnResult}, the stop when the turn is interrupted, the callbacks and observers.
 *
 * **Not responsibilities**: each step's own work (`EnsureSession`, `ReadExchange`, `Drive`, `Settle`, `Finalize`).
 *
 * **Event contract**: trace events as `Tracer` lists them; `turn.finished` once, last, after the durable write.
 *
 * **Example**
 * ```ts
 * Effect.runPromise(runTurn({ conversationId: "42", prompt: "What changed?" }).pipe(Effect.provide(LiveLayer)))
 * ```
 *
 * @since 0.1.0
 */
import * as Brand from "effect/Brand"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Client } from "./Client.ts"
import * as Contained from "./Contained.ts"
import type { SessionOptions } from "./Dialect.ts"
import { abortTree, drive } from "./Drive.ts"
import type { EnsuredSession } from "./EnsureSession.ts"
import { ensureSession, recreateSession } from "./EnsureSession.ts"
import * as Exchange from "./Exchange.ts"
import { finalize } from "./Finalize.ts"
import type { AssistantMessageId, ConversationId, MessageId } from "./Ids.ts"
import { makeId, makePromptIds } from "./Ids.ts"
import * as LiveReply from "./LiveReply.ts"
import type { PromptPart } from "./Prompt.ts"
import * as Prompts from "./Prompt.ts"
import { baseline, readExchange } from "./ReadExchange.ts"
import * as Reply from "./Reply.ts"
import type { ReplyUpdate } from "./ReplyUpdate.ts"
import { retrying } from "./Retrying.ts"
import type { StoredMessage, StoredRequest, StoreError } from "./SessionStore.ts"
import { SessionStore } from "./SessionStore.ts"
import { settle } from "./Settle.ts"
import type { TurnFinished } from "./Tracer.ts"
import { Tracer } from "./Tracer.ts"
import type { TurnInProgress } from "./TurnError.ts"
import { AlreadyFinished, InvalidInput, TurnCancelled, TurnDied, TurnTakenOver } from "./TurnError.ts"
import type { TurnInput } from "./TurnInput.ts"
import { toPrompt } from "./TurnInput.ts"
import * as TurnPolicy from "./TurnPolicy.ts"
import type { TurnError, TurnResult, TurnStatus } from "./TurnResult.ts"

/**
 * Claims the assistant message of the turn: makes it pending, or takes the pending one that has this id.
 *
 * @category steps
 * @since 0.1.0
 */
export const claim = Effect.fn("Turn.claim")(function*(claim: {
  readonly id: AssistantMessageId
  readonly conversationId: ConversationId
  readonly prompt: ReadonlyArray<PromptPart>
}): Effect.fn.Return<
  StoredMessage,
  TurnInProgress | AlreadyFinished | TurnCancelled | StoreError,
  SessionStore
> {
  const store = yield* SessionStore
  const message = yield* retrying(store.claim(claim))
  switch (message.status) {
    case "pending":
      return message
    case "cancelled":
      return yield* new TurnCancelled({ messageId: message.id })
    default:
      return yield* new AlreadyFinished({ messageId: message.id, status: message.status })
  }
})

/**
 * Runs a turn.
 *
 * **Details**
 *
 * Every failure of the pipeline becomes a result; the effect itself fails only where the outcome cannot be stored.
 * Interrupting it aborts the session upstream, stores what was streamed as cancelled, and leaves nothing running; that takes
 * at most `TurnPolicy.StopTimeout` for each of these.
 *
 * @category running
 * @since 0.1.0
 */
export const runTurn = Effect.fn("Turn.runTurn")(function*<E = never, R = never>(
  input: TurnInput<E, R>
): Effect.fn.Return<TurnResult, StoreError, Services | R> {
  return yield* run(input, yield* LiveReply.make)
})

/**
 * Runs a turn and gives what changes in its reply, then its result. Stop reading to cancel the turn.
 *
 * @category running
 * @since 0.1.0
 */
export const streamTurn = <E = never, R = never>(
  input: TurnInput<E, R>
): Stream.Stream<TurnUpdate, StoreError, Services | R> =>
  Stream.unwrap(Effect.gen(function*() {
    const live = yield* LiveReply.make
    const updates = yield* live.watch
    const turn = yield* Effect.forkScoped(Effect.withSpan(run(input, live), "Turn.streamTurn"))
    const finished = Effect.map(Fiber.join(turn), (result): TurnUpdate => ({ _tag: "Finished", result }))
    return Stream.concat(Stream.fromQueue(updates), Stream.fromEffect(finished))
  }))

/**
 * An item of {@link streamTurn}: a change of the reply, or, last, the result.
 *
 * @category models
 * @since 0.1.0
 */
export type TurnUpdate = ReplyUpdate | { readonly _tag: "Finished"; readonly result: TurnResult }

// internal

type Services = Client | SessionStore | Tracer

/** A turn while it runs. What is still undefined was not reached. */
interface Turn<E, R> {
  readonly input: TurnInput<E, R>
  readonly conversationId: ConversationId
  readonly messageId: AssistantMessageId
  readonly startedMillis: number
  readonly live: LiveReply.LiveReply
  readonly observers: ReadonlyArray<Fiber.Fiber<void>>
  message: StoredMessage | undefined
  session: EnsuredSession | undefined
  promptId: MessageId | undefined
  isRecreated: boolean
}

const run = <E, R>(
  input: TurnInput<E, R>,
  live: LiveReply.LiveReply
): Effect.Effect<TurnResult, StoreError, Services | R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const turn = yield* begin(input, live)
      const exit = yield* Effect.exit(restore(answer(turn)))
      if (Exit.isSuccess(exit)) return yield* conclude(turn, exit.value, undefined)
      const { cause } = exit
      const failure = cause.reasons.find(Cause.isFailReason)
      if (failure !== undefined) return yield* conclude(turn, undefined, failure.error)
      // Interrupted, or a defect: the end is stored as that of any other turn, and the cause goes on.
      const error = Cause.hasDies(cause)
        ? new TurnDied({ cause: Cause.squash(cause) })
        : new TurnCancelled({ messageId: turn.messageId })
      yield* Effect.exit(conclude(turn, undefined, error))
      const reasons = cause.reasons.flatMap((reason) => (Cause.isFailReason(reason) ? [] : [reason]))
      return yield* Effect.failCause(Cause.fromReasons<never>(reasons))
    }).pipe(Effect.ensuring(live.end))
  )

const begin = Effect.fnUntraced(function*<E, R>(input: TurnInput<E, R>, live: LiveReply.LiveReply) {
  const observers = yield* Effect.forEach(input.observers ?? [], (observer) =>
    Effect.gen(function*() {
      const updates = yield* live.watch
      return yield* Stream.fromQueue(updates).pipe(
        Stream.runForEach((update) =>
          Contained.callback("observer", { conversation: input.conversationId }, () => observer(update))
        ),
        Effect.interruptible,
        Effect.forkChild
      )
    }))
  const turn: Turn<E, R> = {
    input,
    conversationId: toConversationId(input.conversationId),
    messageId: toMessageId(input.messageId ?? (yield* makeId("asm"))),
    startedMillis: yield* Clock.currentTimeMillis,
    live,
    observers,
    message: undefined,
    session: undefined,
    promptId: undefined,
    isRecreated: false
  }
  return turn
})

/** From the claim to an answer that is reconciled with the server's record. */
const answer = Effect.fnUntraced(function*<E, R>(turn: Turn<E, R>) {
  const { input, conversationId, messageId } = turn
  const tracer = yield* Tracer
  const parts = yield* validate(input)
  const message = yield* claim({ id: messageId, conversationId, prompt: parts })
  turn.message = message
  yield* tracer.emit("response.started", { subject_id: conversationId, message_id: messageId })
  const options = sessionOptions(input)

  const attempt = Effect.fnUntraced(function*(session: EnsuredSession) {
    turn.session = session
    const prompt = yield* toPrompt(input, parts)
    const ids = yield* makePromptIds(yield* baseline(session.sessionId), parts.length)
    const request = { sessionId: session.sessionId, prompt: { ...prompt, ids } }
    yield* record(message, request)
    turn.promptId = ids.promptId
    turn.live.begin({ sessionId: session.sessionId, promptId: ids.promptId })
    const exchange = yield* drive(request, turn.live, { messageId, onActivity: onActivity(turn) })
    return yield* settle(exchange, turn.live, { messageId, conversationId })
  })

  return yield* Effect.raceFirst(
    ensureSession(conversationId, options).pipe(
      Effect.flatMap(attempt),
      Effect.catchTag(["SessionNotFound", "StaleSession"], (error) =>
        Effect.gen(function*() {
          if (error._tag === "StaleSession") yield* abortUpstream(turn)
          turn.isRecreated = true
          turn.promptId = undefined
          return yield* attempt(yield* recreateSession(conversationId, error.sessionId, options))
        }))
    ),
    watchForCancel(message)
  )
})

/** Checks what can be checked before anything is stored. */
const validate = Effect.fnUntraced(function*<E, R>(input: TurnInput<E, R>) {
  if (input.conversationId === "") {
    return yield* new InvalidInput({ field: "conversationId", reason: "it is empty" })
  }
  if (input.messageId === "") return yield* new InvalidInput({ field: "messageId", reason: "it is empty" })
  if (typeof input.model === "string") yield* Prompts.parseModel(input.model)
  return yield* Prompts.parts(input.prompt)
})

const toConversationId = Brand.nominal<ConversationId>()
const toMessageId = Brand.nominal<AssistantMessageId>()

const sessionOptions = <E, R>({ permission, title }: TurnInput<E, R>): SessionOptions => ({
  ...(title !== undefined && { title }),
  ...(permission !== undefined && { permission })
})

/** Writes the prompt's ids before the first byte of it is sent. */
const record = Effect.fnUntraced(function*(message: StoredMessage, request: StoredRequest) {
  const store = yield* SessionStore
  if (yield* retrying(store.recordRequest(message.id, message.epoch, request))) return
  const now = yield* retrying(store.getMessage(message.id))
  return yield* Option.isSome(now) && now.value.status === "cancelled"
    ? new TurnCancelled({ messageId: message.id })
    : new TurnTakenOver({ messageId: message.id })
})

/** Fails when somebody cancels the message or takes it over; a store that does not answer just now is asked again. */
const watchForCancel = Effect.fnUntraced(function*({ epoch, id }: StoredMessage) {
  const store = yield* SessionStore
  const poll = yield* TurnPolicy.CancelPoll
  while (true) {
    yield* Effect.sleep(poll)
    const message = Option.getOrUndefined(yield* Effect.orElseSucceed(store.getMessage(id), Option.none))
    if (message?.status === "cancelled") return yield* new TurnCancelled({ messageId: id })
    if (message !== undefined && message.epoch !== epoch) return yield* new TurnTakenOver({ messageId: id })
  }
})

/** Beside the turn: a slow callback does not keep the stream waiting. */
const onActivity = <E, R>({ conversationId, input: { onActivityTick } }: Turn<E, R>) =>
  onActivityTick === undefined ? Effect.void : Effect.asVoid(
    Effect.forkDetach(
      Contained.callback("onActivityTick", { conversation: conversationId }, () => onActivityTick(conversationId))
    )
  )

/** Stores the end, tells everybody, and makes the result. Nothing interrupts it; every part of it is bounded. */
const conclude = Effect.fnUntraced(function*<E, R>(
  turn: Turn<E, R>,
  exchange: Exchange.Exchange | undefined,
  error: TurnError | undefined
): Effect.fn.Return<TurnResult, StoreError, Services | R> {
  const { conversationId, input, live, messageId } = turn
  const tracer = yield* Tracer
  const context = { conversation: conversationId, message: messageId }
  if (error !== undefined && leavesWorkRunning(error)) yield* abortUpstream(turn)
  const finalized = yield* store(turn, error)
  yield* live.end
  yield* Fiber.awaitAll(turn.observers).pipe(Effect.timeoutOption(yield* TurnPolicy.CallbackTimeout))

  const status = statusOf(finalized, error)
  const reply = Reply.result(live.current())
  const durationMillis = (yield* Clock.currentTimeMillis) - turn.startedMillis
  const shown = status === "completed" ? undefined : finalized.error ?? error
  const trace: TurnFinished = {
    status,
    duration_ms: durationMillis,
    cost: reply.usage.cost,
    input_tokens: reply.usage.tokens.input,
    output_tokens: reply.usage.tokens.output,
    tool_count: reply.tools.length,
    error: shown?._tag ?? null,
    error_message: shown === undefined ? null : shown.message.slice(0, 200)
  }
  const result: TurnResult = {
    status,
    conversationId,
    messageId,
    sessionId: turn.session?.sessionId,
    promptId: turn.promptId,
    message: finalized.message,
    content: finalized.message?.content ?? "",
    reply,
    subagents: live.current().frame.subagents,
    error: shown,
    isNewSession: turn.session?.isNew ?? false,
    isRecreated: turn.isRecreated,
    durationMillis,
    trace
  }
  const { onFinalized, onTurnFinished } = input
  if (onFinalized !== undefined && finalized.isOurs && finalized.message !== undefined) {
    const { message } = finalized
    yield* Contained.callback("onFinalized", context, () => onFinalized(message, exchange))
  }
  if (onTurnFinished !== undefined) {
    yield* Contained.callback("onTurnFinished", context, () => onTurnFinished(result))
  }
  yield* tracer.emit("turn.finished", trace)
  return result
})

/** The terminal write, or, where nothing was claimed, what is stored under the id. */
const store = Effect.fnUntraced(function*<E, R>(
  { live, message, messageId }: Turn<E, R>,
  error: TurnError | undefined
): Effect.fn.Return<Stored, StoreError, SessionStore> {
  if (message === undefined) {
    if (error?._tag === "StoreError") return yield* error
    const store = yield* SessionStore
    const stored = error?._tag === "TurnCancelled" || error?._tag === "AlreadyFinished"
      ? yield* retrying(store.getMessage(messageId))
      : Option.none()
    return { message: Option.getOrUndefined(stored), isOurs: false, error: undefined }
  }
  const { parts, text, usage } = Reply.result(live.current())
  const status = error === undefined ? "completed" : error._tag === "TurnCancelled" ? "cancelled" : "error"
  const words = status === "completed"
    ? ""
    : status === "cancelled"
    ? yield* TurnPolicy.CancelledContent
    : yield* TurnPolicy.FallbackContent
  return yield* finalize(messageId, message.epoch, {
    status,
    content: text === "" ? words : text,
    parts,
    usage,
    error: error === undefined ? null : { tag: error._tag, message: error.message }
  }).pipe(
    Effect.map((finalized): Stored => ({ ...finalized, error: undefined })),
    Effect.catchTag("TurnTakenOver", (takenOver) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const now = yield* retrying(store.getMessage(messageId))
        return { message: Option.getOrUndefined(now), isOurs: false, error: takenOver }
      }))
  )
})

interface Stored {
  readonly message: StoredMessage | undefined
  readonly isOurs: boolean
  readonly error: TurnTakenOver | undefined
}

const statusOf = ({ error: takenOver, message }: Stored, error: TurnError | undefined): TurnStatus => {
  if (takenOver !== undefined) return "failed"
  if (message?.status === "cancelled") return "cancelled"
  if (error === undefined) return "completed"
  return error._tag === "Upstream" || error._tag === "EmptyStream" ? "error" : "failed"
}

/** Whether the server may still be at work on a turn that ends like this. Whose work another worker does is left alone. */
const leavesWorkRunning = (error: TurnError): boolean =>
  error._tag !== "Upstream" && error._tag !== "EmptyStream" && error._tag !== "TurnTakenOver"

/** Aborts the session and its subagents, and keeps what the server stored of the answer, in bounded time. */
const abortUpstream = Effect.fnUntraced(function*<E, R>({ live, promptId, session }: Turn<E, R>) {
  if (promptId === undefined || session === undefined) return
  const { sessionId } = session
  const reply = live.current()
  yield* Contained.attempt(
    "abort",
    { session: sessionId },
    yield* TurnPolicy.StopTimeout,
    Effect.gen(function*() {
      yield* abortTree(reply)
      const exchange = yield* readExchange({ sessionId, promptId }, reply.frame.messages.map(({ id }) => id))
      live.update((reply) => Exchange.merge(exchange, reply))
    })
  )
})
