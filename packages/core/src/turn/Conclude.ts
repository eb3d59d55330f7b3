/**
 * Concludes a turn: stops what still runs, stores the outcome, tells the callbacks, and makes the result.
 *
 * **Responsibilities**: that this takes a bounded time whatever hangs (server, store, callbacks), and its order: abort,
 * terminal write, observers, the files that were changed, `onFinalized`, `onTurnFinished`, `turn.finished`.
 *
 * A turn that was taken over has not ended: the owner that lost it stores, aborts and tells nothing. Nor has a turn ended that a worker of
 * another folder or server took over: that worker lets it go.
 *
 * **Not responsibilities**: the way to the end (`Turn`), who wins the terminal write (`Finalize`).
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as FiberSet from "effect/FiberSet"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import type { Span } from "effect/Tracer"
import * as Contained from "../domain/Contained.ts"
import type { MessageId } from "../domain/Ids.ts"
import { AssistantMessageId, ConversationId } from "../domain/Ids.ts"
import * as Metrics from "../domain/Metrics.ts"
import { retrying } from "../domain/Retrying.ts"
import type { TurnFinished } from "../domain/Tracer.ts"
import { callback, Tracer } from "../domain/Tracer.ts"
import { step } from "../domain/Tracing.ts"
import { detailsOf, NoProgress, TurnCancelled, type TurnTakenOver } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { abortAnswer } from "../drive/AbortAnswer.ts"
import * as LiveReply from "../drive/LiveReply.ts"
import { fromReplies, readArtifacts } from "../drive/ReadArtifacts.ts"
import { readSubagents } from "../drive/ReadSubagents.ts"
import { Client } from "../opencode/Client.ts"
import type { Account } from "../reply/Account.ts"
import * as Artifact from "../reply/Artifact.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type * as Timeline from "../reply/Timeline.ts"
import * as Timing from "../reply/Timing.ts"
import { bounded, boundedBy, timedOut } from "../store/Bounded.ts"
import { finalize } from "../store/Finalize.ts"
import type { Outcome, PromptRecord, StoredMessage } from "../store/SessionStore.ts"
import { SessionStore, type StoreError } from "../store/SessionStore.ts"
import type { EnsuredSession } from "./EnsureSession.ts"
import * as GenAiMetrics from "./GenAiMetrics.ts"
import * as JournalWriter from "./JournalWriter.ts"
import { keepingLease } from "./Lease.ts"
import type * as Output from "./Output.ts"
import * as Share from "./Share.ts"
import { isUnusableTag, safeMessage, type TurnError, type UnusableError } from "./TurnError.ts"
import type { TurnInput } from "./TurnInput.ts"
import type { Cancelled, Completed, Failed, TurnResult, TurnStatus, Unusable } from "./TurnResult.ts"
import * as TurnSpan from "./TurnSpan.ts"

/**
 * A turn while it runs.
 *
 * **Details**
 *
 * - `span`: the turn's own. `owner` names this run in the store. `taken` is the message, where this run took it over from another one.
 * - `background` are the observers and the ticks. `isHurried`: the turn has ended, and an observer that is behind is shown only the last
 *   state of the reply.
 * - `queued`: when the turn waited for the turns before it. `spentMillis`: how long it took so far, without the time in which a person was
 *   asked.
 * - `reached`: how far the turn has come. Its end needs that wherever it was interrupted.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunningTurn<E, R> {
  readonly span: Span
  readonly input: TurnInput<E, R>
  readonly conversationId: ConversationId
  readonly messageId: AssistantMessageId
  readonly startedMillis: number
  readonly live: LiveReply.LiveReply
  readonly owner: string
  readonly taken: StoredMessage | undefined
  readonly background: FiberSet.FiberSet<unknown>
  readonly isHurried: Ref.Ref<boolean>
  readonly queued: Ref.Ref<Timeline.Interval | undefined>
  readonly spentMillis: Ref.Ref<number>
  readonly reached: Ref.Ref<Reached>
}

/**
 * How far a turn has come; what is undefined was not reached. `isRecreated`: its session was lost, and another one took its place.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reached {
  readonly message: StoredMessage | undefined
  readonly session: EnsuredSession | undefined
  readonly promptId: MessageId | undefined
  readonly promptRecord: PromptRecord | undefined
  readonly journal: JournalWriter.JournalWriter | undefined
  readonly isRecreated: boolean
  readonly output: Output.Answer<unknown> | undefined
}

/**
 * The share of this run in the turn; `message` is what it claimed, if it has.
 *
 * @category getters
 * @since 0.1.0
 */
export const shareOf = <E, R>(
  { queued, startedMillis, taken }: RunningTurn<E, R>,
  message: StoredMessage | undefined
): Effect.Effect<Share.Share> =>
  Effect.map(Ref.get(queued), (waited) => {
    // The first claimant has the first epoch, also where it waited.
    if (message === undefined || message.epoch === 1) return Share.first(startedMillis, waited)
    // A turn that was taken over while it waited may not have to wait any more.
    const wasQueued = taken?.status === "queued"
      ? { startedMillis: message.createdMillis, endedMillis: startedMillis }
      : undefined
    return Share.later(message, startedMillis, waited ?? wasQueued)
  })

/**
 * Names the turn in reports.
 *
 * @category getters
 * @since 0.1.0
 */
export const contextOf = <E, R>({ conversationId, messageId }: RunningTurn<E, R>) => ({
  conversation: conversationId,
  message: messageId
})

/**
 * Concludes a turn that came to an answer (`exchange`) or to an error. Run it uninterruptibly: every part of it is bounded.
 *
 * @category steps
 * @since 0.1.0
 */
export const conclude = Effect.fnUntraced(function*<E, R>(
  running: RunningTurn<E, R>,
  exchange: Exchange.Exchange | undefined,
  cause: TurnError | undefined
): Effect.fn.Return<TurnResult, StoreError, Client | SessionStore | Tracer | R> {
  const turn = yield* reachedBy(running)
  const { conversationId, input, live, messageId } = turn
  const tracer = yield* Tracer
  const context = contextOf(turn)
  const isLeft = isForAnother(turn, cause)
  const end = Effect.fnUntraced(function*(lastKept: Effect.Effect<number>) {
    const mayWork = cause !== undefined && !isLeft && meanings[cause._tag].leavesWorkRunning
    const isStopDue = mayWork && !(yield* abortUpstream(turn, cause._tag === "NoProgress"))
    // However far the abort came: nothing works for a turn that has ended.
    live.update(Reply.closeSubagents)
    if (!isLeft) yield* endPrompt(turn)
    const error = withAllSteps(cause, live)
    const spent = Share.until(yield* shareOf(running, turn.message), live, yield* Clock.currentTimeMillis)
    if (isLeft) return { error, ...spent, stored: yield* leave(turn) }
    const stored = yield* store(turn, error, { account: spent.account, isStopDue }, lastKept)
    if (stored.message?.status === "cancelled" && !isStopDue) yield* settleStop(turn)
    return { error, ...spent, stored }
  })
  const { account, error, stored, timeline } = yield* turn.message === undefined
    ? end(Clock.currentTimeMillis)
    : keepingLease(turn.message, end)
  yield* live.end
  yield* untilObserved(turn)

  const ending = endingOf(turn, stored, error)
  const { error: shown, status } = ending
  const reply = LiveReply.result(live)
  const { models, timing } = account
  const usage = { ...LiveReply.usage(live), models }
  const durationMillis = Timing.total(timing)
  const finish = stored.message?.finish ?? undefined
  const trace: TurnFinished = {
    status,
    duration_ms: durationMillis,
    cost: usage.total.cost,
    input_tokens: usage.total.tokens.input,
    output_tokens: usage.total.tokens.output,
    tool_count: reply.tools.length,
    finish: finish ?? null,
    first_token_ms: account.firstTokenMillis,
    queue_ms: timing.queueMillis,
    people_ms: timing.peopleMillis,
    model_ms: timing.modelMillis,
    tools_ms: timing.toolsMillis,
    retries_ms: timing.retriesMillis,
    orphaned_ms: timing.orphanedMillis,
    other_ms: timing.otherMillis,
    error: shown?._tag ?? null,
    error_message: shown === undefined ? null : safeMessage(shown)
  }
  const result: TurnResult = {
    ...ending,
    conversationId,
    messageId,
    sessionId: turn.session?.sessionId,
    promptId: turn.promptId,
    message: stored.message,
    content: stored.message?.content ?? "",
    isFallback: stored.message?.isFallback ?? false,
    finish,
    reply,
    subagents: LiveReply.subagents(live),
    usage,
    artifacts: yield* artifactsOf(turn, stored, status, error),
    isNewSession: turn.session?.isNew ?? false,
    isRecreated: turn.isRecreated,
    dropped: yield* droppedOf(turn, exchange),
    durationMillis,
    firstTokenMillis: account.firstTokenMillis ?? undefined,
    timing,
    trace
  }
  yield* TurnSpan.conclude(turn.span, result)
  yield* logEnd(result)
  if (shown !== undefined && meanings[shown._tag].isReported) {
    yield* ErrorReporter.report(
      Cause.fail(
        new FailedTurn({ feature: yield* TurnPolicy.ErrorFeature, conversationId, messageId, status, error: shown })
      )
    )
  }
  const { onFinalized, onTurnFinished } = input
  const { isOurs, message } = stored
  if (onFinalized !== undefined && isOurs && message !== undefined) {
    yield* callback("onFinalized", context, () => onFinalized(message, exchange))
  }
  if (shown?._tag === "TurnTakenOver" || isLeft) return result
  if (onTurnFinished !== undefined) yield* callback("onTurnFinished", context, () => onTurnFinished(result))
  yield* Metrics.count(
    Metric.withAttributes(Metrics.turns, { status, ...(shown !== undefined && { "error.type": shown._tag }) })
  )
  // A turn that was never claimed has asked no agent.
  if (turn.message !== undefined) {
    yield* Metrics.record(Metric.withAttributes(Metrics.turnDuration, { status }), durationMillis)
    yield* GenAiMetrics.record(timeline, timing, shown?._tag)
  }
  yield* TurnSpan.write(turn.span, {
    conversationId,
    timeline,
    replies: [...live.earlier(), live.current()],
    prompt: turn.message?.prompt ?? [],
    system: turn.message?.draft?.system
  })
  yield* tracer.emit("turn.finished", trace)
  return result
}, step("Turn.conclude"))

/**
 * Lets the turn go, for the next worker: what was streamed is stored, the lease ends now, the agent goes on. Run it
 * uninterruptibly: it is bounded.
 *
 * @category steps
 * @since 0.1.0
 */
export const letGo = Effect.fnUntraced(function*<E, R>(
  running: RunningTurn<E, R>
): Effect.fn.Return<void, never, SessionStore> {
  const turn = yield* reachedBy(running)
  const store = yield* SessionStore
  const limit = yield* TurnPolicy.StopTimeout
  const { journal, message, promptId } = turn
  if (journal !== undefined && promptId !== undefined) {
    yield* Contained.attempt("snapshot", contextOf(turn), limit, JournalWriter.close(journal))
  }
  yield* Contained.attempt(
    "release",
    contextOf(turn),
    limit,
    Effect.gen(function*() {
      const own = message ?? (yield* findOwn(turn))
      if (own !== undefined) yield* retrying(store.release(own.id, own.epoch))
    })
  )
}, step("Turn.letGo"))

/**
 * Stops what the server does for the turn, and keeps what it stored of the answer, within `TurnPolicy.StopTimeout`. Does
 * nothing before the prompt, nor where the turn is another owner's by now. `isHurried` is as in `abortAnswer`. `false`: the server may still
 * work for the turn.
 *
 * @category steps
 * @since 0.1.0
 */
export const abortUpstream = Effect.fnUntraced(function*<E, R>(
  running: RunningTurn<E, R>,
  isHurried = false
): Effect.fn.Return<boolean, never, Client | SessionStore> {
  const turn = yield* reachedBy(running)
  const { live, promptId, promptRecord, session } = turn
  if (promptId === undefined || session === undefined) return true
  const prompt = promptRecord?.prompt
  const ids = prompt?.ids
  const identified = prompt === undefined || ids?.promptId !== promptId ? undefined : { ...prompt, ids }
  const stopped = yield* Contained.attempt(
    "abort",
    { ...contextOf(turn), session: session.sessionId },
    yield* TurnPolicy.StopTimeout,
    Effect.gen(function*() {
      if (yield* isTakenOver(turn)) return
      const exchange = yield* abortAnswer(live.current(), identified, isHurried)
      live.update((reply) => Exchange.merge(exchange, reply))
      yield* readSubagents(live, { wasStopped: true })
    })
  )
  return Option.isSome(stopped)
}, step("Turn.abortUpstream"))

/** Notes that a turn that somebody cancelled was stopped. */
const settleStop = Effect.fnUntraced(function*<E, R>(turn: ReachedTurn<E, R>) {
  if (turn.promptRecord === undefined) return
  const store = yield* SessionStore
  yield* Contained.attempt(
    "settle a stop",
    contextOf(turn),
    yield* TurnPolicy.StopTimeout,
    retrying(store.settleStop(turn.messageId))
  )
})

/**
 * Takes back what the turn's prompt set for its session, before another turn of the conversation can begin.
 */
const endPrompt = Effect.fnUntraced(function*<E, R>(turn: RunningTurn<E, R> & Reached) {
  const { promptRecord } = turn
  // Most prompts set nothing.
  if (promptRecord?.prompt.system === undefined) return
  const { prompt, sessionId } = promptRecord
  const client = yield* Client
  yield* Contained.attempt(
    "take back instructions",
    { ...contextOf(turn), session: sessionId },
    yield* TurnPolicy.StopTimeout,
    Effect.gen(function*() {
      if (!(yield* isTakenOver(turn))) yield* retrying(client.endPrompt(sessionId, prompt))
    })
  )
})

/**
 * A turn that ended without a usable answer, as an error reporter receives it, at severity Error. `feature` is
 * `TurnPolicy.ErrorFeature`.
 *
 * @category errors
 * @since 0.1.0
 */
export class FailedTurn extends Schema.TaggedError<FailedTurn>()("FailedTurn", {
  feature: Schema.String,
  conversationId: ConversationId,
  messageId: AssistantMessageId,
  status: Schema.String,
  error: Schema.Defect()
}) {
  override get message() {
    return `a turn ended as ${this.status}: ${Predicate.isError(this.error) ? this.error.message : "unknown error"}`
  }
  override readonly [ErrorReporter.severity] = "Error" as const
  override get [ErrorReporter.attributes]() {
    const { conversationId, error, feature, messageId, status } = this
    const tag = Predicate.hasProperty(error, "_tag") ? String(error._tag) : "unknown"
    return { feature, handled: true, conversation: conversationId, message: messageId, status, error: tag }
  }
}

// internal

/** A turn, as far as it has come. */
type ReachedTurn<E, R> = RunningTurn<E, R> & Reached

const reachedBy = <E, R>(turn: RunningTurn<E, R>): Effect.Effect<ReachedTurn<E, R>> =>
  Effect.map(Ref.get(turn.reached), (reached) => ({ ...turn, ...reached }))

/**
 * What the end with an error means. `isReported`: it is news for an operator, and not somebody's wish, a mistake of the caller, or the turn
 * of another worker. `leavesWorkRunning`: the server may still be at work on the turn. After a takeover the new owner drives the session.
 */
interface Meaning {
  readonly isReported: boolean
  readonly leavesWorkRunning: boolean
}

const broken: Meaning = { isReported: true, leavesWorkRunning: true }
const answered: Meaning = { isReported: true, leavesWorkRunning: false }
const expected: Meaning = { isReported: false, leavesWorkRunning: true }

/** A new error does not compile until its meaning is written here. */
const meanings: Record<TurnError["_tag"], Meaning> = {
  TurnCancelled: expected,
  TurnTakenOver: { isReported: false, leavesWorkRunning: false },
  TurnInProgress: expected,
  AlreadyFinished: expected,
  InvalidInput: expected,
  EmptyStream: answered,
  Refused: answered,
  Upstream: broken,
  OutputInvalid: broken,
  BudgetExceeded: broken,
  NoProgress: broken,
  InputFailed: broken,
  DirectoryMismatch: broken,
  ServerMismatch: broken,
  StaleSession: broken,
  SessionLost: broken,
  TakenOverTooOften: broken,
  HumanTimeout: broken,
  TurnTimeout: broken,
  TurnUnfinished: broken,
  TurnDied: broken,
  StoreError: broken,
  TransportError: broken,
  RequestTimeout: broken,
  DecodeError: broken,
  AnswerTooLarge: broken,
  StatusError: broken,
  Unauthorized: broken,
  UnsupportedServer: broken,
  UnsupportedOperation: broken,
  UnknownDirectory: broken,
  SessionNotFound: broken,
  MessageNotFound: broken,
  AskNotFound: broken,
  StreamLost: broken
}

/** `isOurs`: this turn's write was the terminal one. */
interface Stored {
  readonly message: StoredMessage | undefined
  readonly isOurs: boolean
  readonly takenOver: TurnTakenOver | undefined
}

/** A turn that another owner began in another folder or on another server goes on with a worker of that one. */
const isForAnother = <E, R>({ message, taken }: ReachedTurn<E, R>, error: TurnError | undefined): boolean =>
  (error?._tag === "DirectoryMismatch" || error?._tag === "ServerMismatch") &&
  (taken !== undefined || (message !== undefined && message.promptRecord !== null))

/**
 * Waits for the observers, which may be behind. After `TurnPolicy.CallbackTimeout` they leave out what waits for them; each then
 * ends the call that it is at and is shown the last state, which takes at most twice as long.
 */
const untilObserved = Effect.fnUntraced(function*<E, R>(turn: RunningTurn<E, R>) {
  const { background, isHurried } = turn
  const limit = yield* TurnPolicy.CallbackTimeout
  yield* Effect.timeoutOption(FiberSet.awaitEmpty(background), limit)
  yield* Ref.set(isHurried, true)
  yield* Effect.timeoutOption(FiberSet.awaitEmpty(background), Duration.times(limit, 2))
  yield* FiberSet.clear(background)
})

const leave = <E, R>(turn: RunningTurn<E, R>): Effect.Effect<Stored, StoreError, SessionStore> =>
  Effect.map(
    Effect.andThen(letGo(turn), read(turn.messageId)),
    (message) => ({ message, isOurs: false, takenOver: undefined })
  )

/** The number of steps is final once the tree has been aborted: the model goes on until then. */
const withAllSteps = (error: TurnError | undefined, live: LiveReply.LiveReply): TurnError | undefined => {
  if (error?._tag !== "NoProgress") return error
  const { finish, last, sessionId, steps } = error
  return new NoProgress({
    sessionId,
    steps,
    allSteps: [...live.earlier(), live.current()].reduce((sum, reply) => sum + Reply.steps(reply), 0),
    ...(finish !== undefined && { finish }),
    ...(last !== undefined && { last })
  })
}

/** The files that the turn changed, as far as its replies tell; none where it is another owner's. */
const artifactsOf = <E, R>(
  { live, message }: ReachedTurn<E, R>,
  { takenOver }: Stored,
  status: TurnStatus,
  error: TurnError | undefined
) =>
  takenOver !== undefined
    ? Effect.succeed(Artifact.none)
    : readArtifacts(fromReplies(live.earlier(), live.current(), {
      isStructured: message?.draft?.outputSchema !== undefined,
      end: status === "completed"
        ? "completed"
        : error?._tag === "Upstream" || error?._tag === "EmptyStream"
        ? "failed"
        : "stopped"
    }))

/** What the server dropped of the session's wishes, and of the prompt's: it says nothing of a variant that the model does not have (1.x). */
const droppedOf = Effect.fnUntraced(function*<E, R>(
  turn: ReachedTurn<E, R>,
  exchange: Exchange.Exchange | undefined
) {
  const { conversationId, promptRecord, session } = turn
  const dropped = session?.dropped ?? []
  const variant = promptRecord?.prompt.variant
  const model = exchange && Exchange.lastStep(exchange)?.info.model
  if (variant === undefined || model === undefined || session === undefined) return dropped
  const client = yield* Client
  const taken = yield* Contained.attempt(
    "look up the variant",
    contextOf(turn),
    yield* TurnPolicy.StopTimeout,
    retrying(client.takesVariant(model, variant))
  )
  if (Option.getOrElse(taken, () => true)) return dropped
  const tracer = yield* Tracer
  const { sessionId } = session
  yield* tracer.emit("session.field_dropped", { session_id: sessionId, subject_id: conversationId, field: "variant" })
  yield* Effect.annotateLogs(
    Effect.logWarning("OpenCode dropped the variant of a turn, which its model does not have"),
    { session: sessionId, variant, model: `${model.providerId}/${model.modelId}` }
  )
  return [...dropped, "variant" as const]
})

/** A process that was frozen may find a deadline over before it finds out that it lost the turn. */
const isTakenOver = Effect.fnUntraced(function*<E, R>({ message }: ReachedTurn<E, R>) {
  if (message === undefined) return false
  const store = yield* SessionStore
  const now = yield* store.getState(message.id).pipe(
    Effect.timeoutOption(yield* TurnPolicy.LeaseRenewal),
    // A store that does not answer must not keep a turn from being stopped.
    Effect.orElseSucceed(Option.none),
    Effect.map(Option.flatten)
  )
  return Option.exists(now, ({ epoch }) => epoch !== message.epoch)
})

/** The terminal write, or, where nothing was claimed, what is stored under the id. */
const store = Effect.fnUntraced(function*<E, R>(
  turn: ReachedTurn<E, R>,
  error: TurnError | undefined,
  { account, isStopDue }: { readonly account: Account; readonly isStopDue: boolean },
  lastKept: Effect.Effect<number>
): Effect.fn.Return<Stored, StoreError, SessionStore> {
  const { journal, message, messageId, promptRecord } = turn
  if (message === undefined) return { message: yield* unclaimed(turn, error), isOurs: false, takenOver: undefined }
  const streamed = LiveReply.content(turn.live)
  const status = error === undefined ? "completed" : error._tag === "TurnCancelled" ? "cancelled" : "error"
  const words = status === "cancelled" ? yield* TurnPolicy.CancelledContent : yield* TurnPolicy.FallbackContent
  const isFallback = status !== "completed" && turn.output === undefined && !Reply.hasWords(turn.live.current())
  const outcome: Outcome = {
    ...streamed,
    account,
    isStopDue,
    status,
    content: isFallback ? words : turn.output?.json ?? streamed.content,
    isFallback,
    finish: status === "cancelled" ? null : streamed.finish,
    error: error === undefined ? null : { tag: error._tag, message: error.message, details: detailsOf(error) }
  }
  const written = journal === undefined ? undefined : yield* JournalWriter.known(journal)
  const known = written && { ...written, message: { ...message, promptRecord: promptRecord ?? message.promptRecord } }
  return yield* finalize(messageId, message.epoch, outcome, known).pipe(
    // An outcome that cannot be stored as it is would leave the message pending, for one worker after the other.
    Effect.catchIf(
      (failure) => failure._tag === "StoreError" && !failure.isRetryable,
      (failure) =>
        Effect.andThen(
          Contained.report("finalize", contextOf(turn), Cause.fail(failure)),
          finalize(messageId, message.epoch, withoutParts(outcome, failure.message))
        )
    ),
    whileKept(lastKept),
    Effect.map((finalized): Stored => ({ ...finalized, takenOver: undefined })),
    Effect.catchTag(
      "TurnTakenOver",
      (takenOver) => Effect.map(read(messageId), (message): Stored => ({ message, isOurs: false, takenOver }))
    )
  )
})

/** What is left of an outcome that the store does not take: its text, and why. Half a surrogate pair becomes a question mark. */
const withoutParts = (
  { account = null, content, error, isFallback, isStopDue = false, status, usage }: Outcome,
  reason: string
): Outcome => ({
  content: content.toWellFormed(),
  parts: [],
  usage,
  account,
  isFallback: isFallback ?? false,
  isStopDue,
  finish: null,
  status: status === "cancelled" ? status : "error",
  error: error ?? { tag: "StoreError", message: reason }
})

/** The message of a turn that ended before it was pending, if it is known. */
const unclaimed = Effect.fnUntraced(function*<E, R>(turn: RunningTurn<E, R>, error: TurnError | undefined) {
  const { messageId } = turn
  switch (error?._tag) {
    case "StoreError":
      return yield* error
    case "AlreadyFinished":
      return yield* read(messageId)
    case "TurnCancelled": {
      // The turn was interrupted while it was queued or being claimed: its row may be there, and would stay queued or pending.
      if ((yield* bounded("getMessage")(findOwn(turn))) === undefined) return yield* read(messageId)
      const store = yield* SessionStore
      return yield* retrying(store.cancel(messageId, yield* TurnPolicy.CancelledContent)).pipe(
        Effect.catchTag(["UnknownMessage", "AlreadyFinished"], () => read(messageId)),
        bounded("cancel")
      )
    }
    default:
      return undefined
  }
})

/** The stored message, if it is this run's. */
const findOwn = Effect.fnUntraced(function*<E, R>({ messageId, owner }: RunningTurn<E, R>) {
  const store = yield* SessionStore
  const message = Option.getOrUndefined(yield* retrying(store.getMessage(messageId)))
  return message?.owner === owner ? message : undefined
})

const read = Effect.fnUntraced(function*(messageId: AssistantMessageId) {
  const store = yield* SessionStore
  return Option.getOrUndefined(yield* bounded("getMessage")(retrying(store.getMessage(messageId))))
})

/**
 * Bounds the terminal write by the lease: a store that is slow is waited for as long as the lease can be kept, because the answer is safe
 * until then, and no other worker takes the turn.
 */
const whileKept =
  (lastKept: Effect.Effect<number>) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | StoreError, R> =>
    Effect.gen(function*() {
      const limit = yield* TurnPolicy.StopTimeout
      const leaseMillis = Duration.toMillis(yield* TurnPolicy.Lease)
      const longest = yield* TurnPolicy.FinalizeTimeout
      const isLost = Effect.gen(function*() {
        yield* Effect.sleep(limit)
        return (yield* Clock.currentTimeMillis) - (yield* lastKept) > leaseMillis
      })
      const lost = Effect.andThen(
        Effect.repeat(isLost, { until: (isLost) => isLost }),
        Effect.fail(timedOut("finalize", limit))
      )
      return yield* boundedBy("finalize", longest)(Effect.raceFirst(effect, lost))
    })

/** One line for each end, without anything that was said. Only ends that an operator may have to act on are above level Debug. */
const logEnd = ({ durationMillis, error, sessionId, status, usage }: TurnResult): Effect.Effect<void> => {
  const isExpected = error === undefined || error._tag === "TurnCancelled"
  const level = isExpected
    ? "Debug"
    : error._tag === "TurnTakenOver" || !meanings[error._tag].isReported
    ? "Warn"
    : "Error"
  return Effect.logWithLevel(level)(`turn ended: ${status}`).pipe(
    Effect.annotateLogs({
      ...(sessionId !== undefined && { session: sessionId }),
      durationMillis,
      cost: usage.total.cost,
      ...(error !== undefined && { "error.type": error._tag, reason: safeMessage(error) })
    })
  )
}

/** What tells the results of turns apart. */
type Ending =
  | Pick<Completed, "status" | "output" | "error">
  | Pick<Cancelled, "status" | "error">
  | Pick<Unusable, "status" | "error">
  | Pick<Failed, "status" | "error">

const endingOf = <E, R>(
  { messageId, output }: ReachedTurn<E, R>,
  { message, takenOver }: Stored,
  error: TurnError | undefined
): Ending => {
  if (takenOver !== undefined) return { status: "failed", error: takenOver }
  if (message?.status === "cancelled" || error?._tag === "TurnCancelled") {
    return { status: "cancelled", error: new TurnCancelled({ messageId }) }
  }
  if (error === undefined) return { status: "completed", output: output?.value }
  return isUnusable(error) ? { status: "error", error } : { status: "failed", error }
}

const isUnusable = (error: TurnError): error is UnusableError => isUnusableTag(error._tag)
