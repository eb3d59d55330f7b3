/**
 * A turn: one user message, one assistant response, carried to a durable end whatever fails on the way.
 *
 * **Responsibilities**: the order of the steps, the one new session where the old one was lost, the request that an earlier
 * owner of the message left, the stop when the turn is interrupted, the observers.
 *
 * **Not responsibilities**: each step's own work (`EnsureSession`, `ReadExchange`, `Drive`, `Settle`), and what every end has in
 * common (`Conclude`).
 *
 * **Event contract**: trace events as `Tracer` lists them, over all owners of the turn: `response.started` from the one that
 * starts it, `turn.finished` from the one that ends it, last, after the durable write. One that takes the turn over starts
 * none, one that loses it or lets it go finishes none.
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
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { callback } from "./Callback.ts"
import { claim } from "./Claim.ts"
import { Client } from "./Client.ts"
import type { RunningTurn } from "./Conclude.ts"
import { abortUpstream, conclude, contextOf, letGo } from "./Conclude.ts"
import * as Contained from "./Contained.ts"
import type { SessionOptions } from "./Dialect.ts"
import { drive, type IdentifiedRequest } from "./Drive.ts"
import type { EnsuredSession } from "./EnsureSession.ts"
import { ensureSession, recreateSession } from "./EnsureSession.ts"
import * as Exchange from "./Exchange.ts"
import type { AssistantMessageId, ConversationId, SessionId } from "./Ids.ts"
import { makeId, makePromptIds } from "./Ids.ts"
import * as LiveReply from "./LiveReply.ts"
import { confirm, hold, snapshots } from "./Ownership.ts"
import * as Prompts from "./Prompt.ts"
import { baseline, readExchange } from "./ReadExchange.ts"
import * as Reply from "./Reply.ts"
import type { ReplyUpdate } from "./ReplyUpdate.ts"
import { patiently, retrying } from "./Retrying.ts"
import type { StoredMessage, StoredRequest, StoreError } from "./SessionStore.ts"
import { SessionStore } from "./SessionStore.ts"
import { settle } from "./Settle.ts"
import { Tracer } from "./Tracer.ts"
import { InvalidInput, TurnCancelled, TurnDied, TurnTakenOver, TurnUnfinished } from "./TurnError.ts"
import type { TurnInput } from "./TurnInput.ts"
import { fromStored, identityOf, toDraft, toPrompt, withStoredPolicy } from "./TurnInput.ts"
import * as TurnPolicy from "./TurnPolicy.ts"
import type { TurnResult } from "./TurnResult.ts"

/**
 * Runs a turn.
 *
 * **Details**
 *
 * Every failure of the pipeline becomes a result; the effect itself fails only where the outcome cannot be stored.
 * Interrupting it aborts the session upstream, stores what was streamed as cancelled, and leaves nothing running; that takes
 * at most `TurnPolicy.StopTimeout` for each of these. With `TurnPolicy.OnInterrupt` "release" it is left to the next worker.
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
 * Carries a message that was taken over (`SessionStore.takeOver`) to its end: follows a run that goes on, posts the same ids
 * again where the server lacks them or left the answer unfinished, reads an answer that is done.
 *
 * **Details**
 *
 * The turn runs from what is stored, under the limits that it was given. `extras` are what cannot be stored: callbacks,
 * observers, fields that are effects. Which turn it is, and its prompt, they do not change. The reply begins with the last
 * snapshot.
 *
 * @category running
 * @since 0.1.0
 */
export const resumeTurn = Effect.fn("Turn.resumeTurn")(function*<E = never, R = never>(
  taken: StoredMessage,
  extras?: Partial<TurnInput<E, R>>
): Effect.fn.Return<TurnResult, StoreError, Services | R> {
  const input: TurnInput<E, R> = { ...fromStored(taken), ...extras, ...identityOf(taken) }
  return yield* withStoredPolicy(taken)(patiently(run(input, yield* LiveReply.make, taken)))
})

/**
 * An item of {@link streamTurn}: a change of the reply, or, last, the result.
 *
 * @category models
 * @since 0.1.0
 */
export type TurnUpdate = ReplyUpdate | { readonly _tag: "Finished"; readonly result: TurnResult }

// internal

type Services = Client | SessionStore | Tracer

const run = <E, R>(
  input: TurnInput<E, R>,
  live: LiveReply.LiveReply,
  taken?: StoredMessage
): Effect.Effect<TurnResult, StoreError, Services | R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const turn = yield* begin(input, live, taken)
      const exit = yield* Effect.exit(restore(answer(turn)))
      if (Exit.isSuccess(exit)) return yield* conclude(turn, exit.value, undefined)
      const { cause } = exit
      const failure = cause.reasons.find(Cause.isFailReason)
      if (failure !== undefined) return yield* conclude(turn, undefined, failure.error)
      if (Cause.hasInterruptsOnly(cause) && (yield* TurnPolicy.OnInterrupt) === "release") {
        yield* letGo(turn)
        return yield* Effect.failCause(Cause.interrupt())
      }
      // Interrupted, or a defect: the end is stored as that of any other turn, and the cause goes on.
      const error = Cause.hasDies(cause)
        ? new TurnDied({ cause: Cause.squash(cause) })
        : new TurnCancelled({ messageId: turn.messageId })
      const concluded = yield* Effect.exit(conclude(turn, undefined, error))
      if (Exit.isFailure(concluded)) yield* Contained.report("conclude", contextOf(turn), concluded.cause)
      const reasons = cause.reasons.flatMap((reason) => (Cause.isFailReason(reason) ? [] : [reason]))
      return yield* Effect.failCause(Cause.fromReasons<never>(reasons))
    }).pipe(Effect.ensuring(live.end), Effect.scoped)
  )

const begin = Effect.fnUntraced(function*<E, R>(
  input: TurnInput<E, R>,
  live: LiveReply.LiveReply,
  taken: StoredMessage | undefined
) {
  const turn: RunningTurn<E, R> = {
    input,
    conversationId: toConversationId(input.conversationId),
    messageId: toMessageId(input.messageId ?? (yield* makeId("asm"))),
    startedMillis: yield* Clock.currentTimeMillis,
    live,
    owner: taken?.owner ?? (yield* makeId("run")),
    taken,
    background: yield* FiberSet.make<void>(),
    message: taken?.status === "pending" ? taken : undefined,
    session: undefined,
    promptId: undefined,
    isRecreated: false
  }
  yield* Effect.forEach(input.observers ?? [], (observer) =>
    Effect.gen(function*() {
      const updates = Stream.fromQueue(yield* live.watch)
      const observe = (update: ReplyUpdate) => callback("observer", contextOf(turn), () => observer(update))
      yield* FiberSet.run(turn.background, Stream.runForEach(updates, observe))
    }))
  return turn
})

/** From the claim to an answer that is reconciled with the server's record. */
const answer = Effect.fnUntraced(function*<E, R>(turn: RunningTurn<E, R>) {
  const { conversationId, input, live, messageId } = turn
  const tracer = yield* Tracer
  const message = turn.message ?? (yield* own(turn))
  if (turn.message === undefined && message.request === null) {
    yield* tracer.emit("response.started", { subject_id: conversationId, message_id: messageId })
  }
  turn.message = message
  const options = sessionOptions(input)

  const attempt = Effect.fnUntraced(function*(session: EnsuredSession) {
    const { sessionId } = session
    turn.session = session
    const recorded = recordedFor(message, sessionId)
    if (recorded === undefined && !session.isNew) yield* untilIdle(sessionId)
    const request = recorded ?? (yield* makeRequest(input, message, sessionId))
    turn.promptId = request.prompt.ids.promptId
    live.begin({ sessionId, promptId: turn.promptId })
    // What was streamed before is shown until the server says more, and is not streamed again.
    if (recorded !== undefined && message.parts.length > 0) live.update((reply) => Reply.restore(reply, message.parts))
    const found = recorded === undefined ? undefined : yield* findAnswer(recorded, live)
    if (found !== undefined) yield* tracer.emit("response.recovered_from_exchange", { message_id: messageId })
    const exchange = found ??
      (yield* drive(request, live, { messageId, confirm: confirm(message), onActivity: onActivity(turn) }))
    return yield* settle(exchange, live, { messageId, conversationId })
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
    Effect.raceFirst(hold(message), snapshots(message, live))
  )
})

/** Makes the message pending and this run its owner: one that is new, or one that was taken over while it waited. */
const own = Effect.fnUntraced(function*<E, R>({ conversationId, input, messageId, owner, taken }: RunningTurn<E, R>) {
  const prompt = taken?.prompt ?? (yield* validate(input))
  const draft = yield* toDraft(input)
  return yield* claim({ id: messageId, conversationId, prompt, draft, owner }, carryOrphan)
})

/** Another turn, in the way of the one that carries it: who stops this one does not mean that one. */
const carryOrphan = (orphan: StoredMessage): Effect.Effect<void, never, Services> =>
  Effect.suspend(() => resumeTurn(orphan)).pipe(
    Effect.provideService(TurnPolicy.OnInterrupt, "release"),
    Contained.reported("resume", { message: orphan.id }),
    Effect.asVoid
  )

/**
 * Waits until the session works on nothing, for a while: a turn that was just cancelled may be stopping there, and its abort
 * would stop whatever runs. A server that cannot tell is prompted all the same.
 */
const untilIdle = Effect.fnUntraced(function*(sessionId: SessionId): Effect.fn.Return<void, never, Client> {
  const client = yield* Client
  const isBusy = Effect.map(client.statuses, (statuses) => statuses.has(sessionId))
  yield* isBusy.pipe(
    Effect.repeat({ while: (isBusy) => isBusy, schedule: Schedule.spaced("100 millis") }),
    Effect.timeoutOption(yield* TurnPolicy.SessionIdle),
    Effect.ignore
  )
})

/** What an earlier owner of the message recorded, and perhaps posted, before it went away. */
const recordedFor = ({ request }: StoredMessage, sessionId: SessionId): IdentifiedRequest | undefined => {
  const ids = request?.prompt.ids
  return request === null || ids === undefined || request.sessionId !== sessionId
    ? undefined
    : { sessionId, prompt: { ...request.prompt, ids } }
}

/**
 * Looks for the answer to a prompt that may have been posted before. Ids whose answer has ended must not be posted again: the
 * model would be asked anew if it ended with an error (1.18.33).
 */
const findAnswer = Effect.fnUntraced(function*(
  { prompt: { ids: { promptId } }, sessionId }: IdentifiedRequest,
  live: LiveReply.LiveReply
) {
  const client = yield* Client
  const statuses = yield* retrying(client.statuses)
  const exchange = yield* readExchange({ sessionId, promptId }, [])
  if (!exchange.isAccepted) {
    yield* untilIdle(sessionId)
    return undefined
  }
  live.update((reply) => Exchange.merge(exchange, Reply.markGap(reply)))
  if (Exchange.isFinal(exchange)) return exchange
  if (statuses.has(sessionId)) return undefined
  if (Exchange.isRefused(exchange)) return exchange
  return exchange.isCurrent ? undefined : yield* new TurnUnfinished({ sessionId, resumes: 0 })
})

/** Makes the prompt and its ids, and writes them before the first byte is sent. */
const makeRequest = Effect.fnUntraced(function*<E, R>(
  input: TurnInput<E, R>,
  message: StoredMessage,
  sessionId: SessionId
) {
  const prompt = yield* toPrompt(input, message.prompt)
  const ids = yield* makePromptIds(yield* baseline(sessionId), prompt.parts.length)
  const request: IdentifiedRequest = { sessionId, prompt: { ...prompt, ids } }
  yield* record(message, request)
  return request
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

/** Beside the turn: a slow callback does not keep the stream waiting. */
const onActivity = <E, R>(turn: RunningTurn<E, R>): Effect.Effect<void, never, R | Tracer> => {
  const { background, conversationId, input: { onActivityTick } } = turn
  if (onActivityTick === undefined) return Effect.void
  return Effect.asVoid(
    FiberSet.run(background, callback("onActivityTick", contextOf(turn), () => onActivityTick(conversationId)))
  )
}
