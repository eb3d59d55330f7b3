/**
 * A turn: one user message, one assistant response, carried to a durable end whatever fails on the way.
 *
 * **Responsibilities**: the order of the steps, the one new session where the old one was lost, the prompt that an earlier
 * owner of the message left, the stop when the turn is interrupted, the observers.
 *
 * **Not responsibilities**: each step's own work (`EnsureSession`, `ReadExchange`, `Drive`, `Settle`), and what every end has in
 * common (`Conclude`).
 *
 * **Event contract**: trace events as `Tracer` lists them, over all owners of the turn. The owner that starts the turn emits
 * `response.started`. The one that ends it emits `turn.finished`, last, after the durable write. An owner that takes the turn over emits
 * no `response.started`; one that loses the turn or lets it go emits no `turn.finished`.
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
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as EffectTracer from "effect/Tracer"
import * as Contained from "../domain/Contained.ts"
import type { AssistantMessageId, ConversationId } from "../domain/Ids.ts"
import { idFlaw, makeId } from "../domain/Ids.ts"
import * as Metrics from "../domain/Metrics.ts"
import * as Prompts from "../domain/Prompt.ts"
import { patiently, retrying } from "../domain/Retrying.ts"
import { callbackOften, Tracer } from "../domain/Tracer.ts"
import type { EmptyStream, StaleSession, Upstream } from "../domain/TurnError.ts"
import {
  InvalidInput,
  OutputInvalid,
  Refused,
  SessionLost,
  TakenOverTooOften,
  TurnCancelled,
  TurnDied
} from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as Budget from "../drive/Budget.ts"
import type { Driven } from "../drive/Drive.ts"
import { drive } from "../drive/Drive.ts"
import * as LiveReply from "../drive/LiveReply.ts"
import { Client } from "../opencode/Client.ts"
import type { SessionNotFound } from "../opencode/ClientError.ts"
import type { SessionOptions } from "../opencode/Dialect.ts"
import { promptParts } from "../opencode/PromptCheck.ts"
import { withdrawAll, withdrawUnlisted } from "../people/WithdrawAsks.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { ReplyUpdate } from "../reply/ReplyUpdate.ts"
import type * as Timeline from "../reply/Timeline.ts"
import type { StoredMessage, StoreError } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"
import { type IdentifiedPrompt, startedBy } from "../store/StoredMessage.ts"
import { stopEnded } from "./CancelTurn.ts"
import { claim } from "./Claim.ts"
import type { Reached, RunningTurn } from "./Conclude.ts"
import { abortUpstream, conclude, contextOf, letGo, shareOf } from "./Conclude.ts"
import type { EnsuredSession } from "./EnsureSession.ts"
import { ensureSession, recreateSession } from "./EnsureSession.ts"
import * as JournalWriter from "./JournalWriter.ts"
import { confirm, holdLease, untilLost } from "./Lease.ts"
import * as LiveTurns from "./LiveTurns.ts"
import { resumeOperation } from "./Operate.ts"
import * as Output from "./Output.ts"
import { mismatchOf, mismatchOfConversation } from "./OwnServer.ts"
import { findAnswer, recallEarlier, untilIdle } from "./Recall.ts"
import { checkPrompt, recordedFor, recordPrompt, recordRepair } from "./RecordPrompt.ts"
import * as Refusals from "./Refusals.ts"
import { settle } from "./Settle.ts"
import * as Share from "./Share.ts"
import type { TurnInput } from "./TurnInput.ts"
import { fromStored, identityOf, toDraft, withStoredPolicy } from "./TurnInput.ts"
import type { TurnResult } from "./TurnResult.ts"
import * as TurnSpan from "./TurnSpan.ts"

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
export function runTurn<E = never, R = never, A = unknown>(
  input: TurnInput<E, R, A> & { readonly output: Output.OutputInput<A> }
): Effect.Effect<TurnResult<A>, StoreError, TurnServices | R>
export function runTurn<E = never, R = never, A = undefined>(
  input: TurnInput<E, R, A>
): Effect.Effect<TurnResult<A | undefined>, StoreError, TurnServices | R>
export function runTurn<E, R>(input: TurnInput<E, R>): Effect.Effect<TurnResult, StoreError, TurnServices | R> {
  return Effect.flatMap(LiveReply.make, (live) => run(input, live))
}

/**
 * Runs a turn and gives what changes in its reply, then its result. Stop reading to cancel the turn.
 *
 * @category running
 * @since 0.1.0
 */
export function streamTurn<E = never, R = never, A = unknown>(
  input: TurnInput<E, R, A> & { readonly output: Output.OutputInput<A> }
): Stream.Stream<TurnUpdate<A>, StoreError, TurnServices | R>
export function streamTurn<E = never, R = never, A = undefined>(
  input: TurnInput<E, R, A>
): Stream.Stream<TurnUpdate<A | undefined>, StoreError, TurnServices | R>
export function streamTurn<E, R>(input: TurnInput<E, R>): Stream.Stream<TurnUpdate, StoreError, TurnServices | R> {
  return Stream.unwrap(Effect.gen(function*() {
    const live = yield* LiveReply.make
    const updates = yield* live.watch
    const turn = yield* Effect.forkScoped(run(input, live))
    const finished = Effect.map(Fiber.join(turn), (result): TurnUpdate => ({ _tag: "Finished", result }))
    return Stream.concat(Stream.fromQueue(updates), Stream.fromEffect(finished))
  }))
}

/**
 * Carries a message that was taken over (`SessionStore.takeOver`) to its end: follows a run that goes on, posts the same ids again where
 * the server lacks them or left the answer unfinished, and reads an answer that is done.
 *
 * **Details**
 *
 * The turn runs from what is stored, under the limits that it was given. `extras` are what cannot be stored: callbacks, observers, fields
 * that are effects. They change neither which turn it is nor its prompt. The reply begins with the last snapshot.
 *
 * @category running
 * @since 0.1.0
 */
export const resumeTurn = Effect.fnUntraced(function*<E = never, R = never>(
  taken: StoredMessage,
  extras?: Partial<TurnInput<E, R>>
): Effect.fn.Return<TurnResult, StoreError, TurnServices | R> {
  const outputSchema = taken.draft?.outputSchema
  // The schema itself is not stored, so its JSON Schema checks the value.
  const output = outputSchema === undefined
    ? undefined
    : yield* Effect.orElseSucceed(Output.fromJsonSchema(outputSchema), () => Output.unchecked(outputSchema))
  const input: TurnInput<E, R> = { ...fromStored(taken), output, ...extras, ...identityOf(taken) }
  return yield* withStoredPolicy(taken)(patiently(run(input, yield* LiveReply.make, taken)))
})

/**
 * An item of {@link streamTurn}: a change of the reply, or, last, the result.
 *
 * @category models
 * @since 0.1.0
 */
export type TurnUpdate<A = unknown> = ReplyUpdate | Finished<A>

/**
 * The last item of {@link streamTurn}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Finished<A = unknown> {
  readonly _tag: "Finished"
  readonly result: TurnResult<A>
}

/**
 * What a turn needs: a server, a store, and where its trace events go.
 *
 * @category models
 * @since 0.1.0
 */
export type TurnServices = Client | SessionStore | Tracer

// internal

const run = <E, R>(
  input: TurnInput<E, R>,
  live: LiveReply.LiveReply,
  taken?: StoredMessage
): Effect.Effect<TurnResult, StoreError, TurnServices | R> => {
  const { agent, conversationId, model, output } = input
  return Effect.flatMap(
    input.messageId === undefined ? makeId("asm") : Effect.succeed(input.messageId),
    (messageId) =>
      TurnSpan.within({
        conversationId,
        messageId,
        agent: typeof agent === "string" ? agent : undefined,
        model: typeof model === "string" ? model : undefined,
        hasOutput: output !== undefined
      }, (span) => runWithin(span, { ...input, messageId }, live, taken)).pipe(
        Effect.annotateLogs({ conversation: conversationId, message: messageId })
      )
  )
}

const runWithin = <E, R>(
  span: EffectTracer.Span,
  input: TurnInput<E, R> & { readonly messageId: string },
  live: LiveReply.LiveReply,
  taken: StoredMessage | undefined
): Effect.Effect<TurnResult, StoreError, TurnServices | R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      if (taken !== undefined) yield* logTakeover(taken)
      const turn = yield* begin(span, input, live, taken)
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

/** A turn that its owner released is carried on as planned; one whose owner died is a sign of trouble. */
const logTakeover = ({ takeovers }: StoredMessage): Effect.Effect<void> =>
  Effect.andThen(
    Metrics.count(Metrics.takeovers),
    takeovers === 0
      ? Effect.logDebug("turn taken over")
      : Effect.annotateLogs(Effect.logWarning("turn taken over from a worker that died"), { takeovers })
  )

const begin = Effect.fnUntraced(function*<E, R>(
  span: EffectTracer.Span,
  input: TurnInput<E, R> & { readonly messageId: string },
  live: LiveReply.LiveReply,
  taken: StoredMessage | undefined
) {
  const turn: RunningTurn<E, R> = {
    span,
    input,
    conversationId: toConversationId(input.conversationId),
    messageId: toMessageId(input.messageId),
    startedMillis: yield* Clock.currentTimeMillis,
    live,
    owner: taken?.owner ?? (yield* makeId("run")),
    taken,
    background: yield* FiberSet.make<unknown>(),
    isHurried: yield* Ref.make(false),
    queued: yield* Ref.make<Timeline.Interval | undefined>(undefined),
    spentMillis: yield* Ref.make(0),
    reached: yield* Ref.make<Reached>({
      message: taken?.status === "pending" ? taken : undefined,
      session: undefined,
      promptId: undefined,
      promptRecord: taken?.promptRecord ?? undefined,
      journal: undefined,
      isRecreated: false,
      output: undefined
    })
  }
  yield* LiveTurns.register(turn.messageId, turn.owner, live)
  yield* Effect.forEach(input.observers ?? [], (observer) =>
    Effect.gen(function*() {
      const updates = Stream.fromQueue(yield* live.watch)
      const called = callbackOften("observer", contextOf(turn))
      const show = (update: ReplyUpdate) => called(() => observer(update))
      const hasMissed = yield* Ref.make(false)
      const observe = (update: ReplyUpdate) =>
        Effect.flatMap(Ref.get(turn.isHurried), (isHurried) => isHurried ? Ref.set(hasMissed, true) : show(update))
      const last = Effect.flatMap(
        Ref.get(hasMissed),
        (hasMissed) => hasMissed ? show({ _tag: "Reset", reason: "overflow", ...LiveReply.shown(live) }) : Effect.void
      )
      const observing = Effect.andThen(Stream.runForEach(updates, observe), last)
      yield* FiberSet.run(turn.background, observing)
    }))
  return turn
})

/** The way of a turn: from the claim to an answer that is reconciled with the server's record. */
const answer = Effect.fnUntraced(function*<E, R>(turn: RunningTurn<E, R>) {
  const message = yield* claimed(turn)
  const journal = yield* journalOf(turn, message)
  const reply = Effect.suspend(() => attempt(turn, message)).pipe(
    Effect.catchTag(["SessionNotFound", "StaleSession"], (lost) => attempt(turn, message, lost))
  )
  return yield* Effect.raceAllFirst([reply, holdLease(message), untilLost(message), JournalWriter.snapshots(journal)])
})

/** Prompts the conversation's session, or another one in the place of the one that was `lost`, until its answer can be used. */
const attempt = Effect.fnUntraced(function*<E, R>(
  turn: RunningTurn<E, R>,
  message: StoredMessage,
  lost?: SessionNotFound | StaleSession
) {
  if (lost?._tag === "SessionNotFound") {
    const mismatch = yield* mismatchOf(message, lost.sessionId)
    if (Option.isSome(mismatch)) return yield* mismatch.value
    const isNew = message.promptRecord === null && (yield* TurnPolicy.OnLostSession) !== "resend"
    const elsewhere = isNew ? yield* mismatchOfConversation(turn.conversationId, lost.sessionId) : Option.none()
    if (Option.isSome(elsewhere)) return yield* elsewhere.value
  }
  // A prompt that is recorded was checked before that.
  if (message.promptRecord === null) {
    yield* Effect.tapErrorTag(checked(turn, message, lost), "Upstream", (error) => traceUnusable(turn, error))
  }
  const session = yield* lost === undefined ? ensured(turn) : recreated(turn, lost)
  let posting = yield* recorded(turn, message, session).pipe(
    Effect.tapErrorTag("Upstream", (error) => traceUnusable(turn, error))
  )
  while (true) {
    const driven = yield* driveTo(turn, message, posting)
    const exchange = yield* settled(turn, driven)
    const repair = yield* repairFor(turn, posting, exchange, driven.refusals)
    if (repair === undefined) return exchange
    posting = yield* recordedRepair(turn, message, posting, exchange, repair)
  }
})

/** A prompt that was recorded and is to be posted, if that was not done before, and the refusals of the prompts before it. */
interface Posting {
  readonly request: IdentifiedPrompt
  readonly reason: "recreated" | "repaired" | "refused"
  readonly isRecorded: boolean
  readonly isBusy: boolean
  readonly given: ReadonlyArray<Refusals.Given>
}

/** What the agent is told next, because its answer cannot be used. */
interface Repair {
  readonly text: string
  readonly why: "invalid" | "refused"
  readonly given: ReadonlyArray<Refusals.Given>
}

const reach = <E, R>(turn: RunningTurn<E, R>, reached: Partial<Reached>): Effect.Effect<void> =>
  Ref.update(turn.reached, (before) => ({ ...before, ...reached }))

/** Claim: the message is pending, and this run is its owner. */
const claimed = Effect.fnUntraced(function*<E, R>(turn: RunningTurn<E, R>) {
  const { conversationId, messageId } = turn
  const tracer = yield* Tracer
  const before = (yield* Ref.get(turn.reached)).message
  const message = before ?? (yield* own(turn))
  if (before === undefined && message.promptRecord === null) {
    yield* tracer.emit("response.started", { subject_id: conversationId, message_id: messageId })
  }
  yield* reach(turn, { message })
  yield* TurnSpan.link(turn.span, message)
  yield* Metrics.held(Metrics.running)
  if (message.takeovers <= (yield* TurnPolicy.MaxTakeovers)) return message
  yield* recall(turn)
  return yield* new TakenOverTooOften({ messageId, takeovers: message.takeovers })
})

/** The writer of the message's journal, which the end of the turn needs as well. */
const journalOf = Effect.fnUntraced(function*<E, R>(turn: RunningTurn<E, R>, message: StoredMessage) {
  const { live } = turn
  const share = yield* shareOf(turn, message)
  const accountAt = (nowMillis: number) => Share.until(share, live, nowMillis).account
  const journal = yield* JournalWriter.make(message, { live, accountAt })
  yield* reach(turn, { journal })
  // Another owner could not find out how long the turn waited.
  if (share.queued !== undefined && message.offset === 0) yield* JournalWriter.open(journal)
  return journal
})

/** Check: the server can take the prompt, in the session that the conversation has. */
const checked = Effect.fnUntraced(function*<E, R>(
  { conversationId, input, spentMillis }: RunningTurn<E, R>,
  message: StoredMessage,
  lost: SessionNotFound | StaleSession | undefined
) {
  const store = yield* SessionStore
  const stored = lost === undefined ? yield* retrying(store.getSession(conversationId)) : Option.none()
  yield* Budget.within(spentMillis, checkPrompt(input, message, Option.getOrUndefined(stored)))
})

/** Ensure session: the conversation's. */
const ensured = <E, R>(turn: RunningTurn<E, R>) =>
  Budget.within(turn.spentMillis, ensureSession(turn.conversationId, sessionOptions(turn.input))).pipe(
    Effect.tapError((error) =>
      error._tag === "SessionNotFound" || error._tag === "DirectoryMismatch" ? Effect.void : recall(turn)
    )
  )

/** Ensure session: another one in the place of one that was lost. */
const recreated = Effect.fnUntraced(
  function*<E, R>(turn: RunningTurn<E, R>, lost: SessionNotFound | StaleSession) {
    yield* mayResend(turn, lost)
    if (lost._tag === "StaleSession") yield* abortUpstream(turn)
    yield* reach(turn, { isRecreated: true })
    yield* withdrawAll(turn.messageId)
    yield* reach(turn, { promptId: undefined })
    return yield* Budget.within(
      turn.spentMillis,
      recreateSession(turn.conversationId, lost.sessionId, sessionOptions(turn.input))
    )
  }
)

/** Record: the prompt that an earlier owner recorded in this session, or a new one. */
const recorded = Effect.fnUntraced(function*<E, R>(
  turn: RunningTurn<E, R>,
  message: StoredMessage,
  session: EnsuredSession
) {
  const { input, live, spentMillis } = turn
  const { sessionId } = session
  yield* reach(turn, { session })
  const before = recordedFor(message, sessionId)
  const posting = { reason: "recreated", given: [] } as const
  if (before !== undefined) {
    yield* Budget.within(spentMillis, recallEarlier(before, live))
    const recalled: Posting = { ...posting, request: before, isRecorded: true, isBusy: false }
    return recalled
  }
  if (!session.isNew) yield* Budget.within(spentMillis, stopEarlier(turn))
  const isBusy = !session.isNew && !(yield* Budget.within(spentMillis, untilIdle(sessionId)))
  const request = yield* Budget.within(spentMillis, recordPrompt(input, message, session))
  const made: Posting = { ...posting, request, isRecorded: false, isBusy }
  return made
})

/** Stops what the server still does for earlier turns of the conversation: the prompt would wait behind it. */
const stopEarlier = Effect.fnUntraced(function*<E, R>({ conversationId }: RunningTurn<E, R>) {
  const store = yield* SessionStore
  const stops = yield* retrying(store.listStops({ conversationId, limit: maxStops }))
  yield* Effect.forEach(stops, stopEnded, { discard: true })
})

/** Stops that are due in one conversation: seldom more than one. */
const maxStops = 4

/** Record: the prompt that tells the agent why its answer cannot be used. */
const recordedRepair = Effect.fnUntraced(function*<E, R>(
  turn: RunningTurn<E, R>,
  message: StoredMessage,
  { request }: Posting,
  exchange: Exchange.Exchange,
  { given, ...repair }: Repair
) {
  const next = yield* Budget.within(turn.spentMillis, recordRepair(request, exchange, repair, message))
  const reason = repair.why === "invalid" ? "repaired" : "refused"
  const posting: Posting = { request: next, reason, isRecorded: false, isBusy: false, given }
  return posting
})

/** Drive: one prompt, to the end of its answer. */
const driveTo = Effect.fnUntraced(function*<E, R>(
  turn: RunningTurn<E, R>,
  message: StoredMessage,
  { isBusy, isRecorded, reason, request }: Posting
) {
  const { conversationId, live, messageId, spentMillis } = turn
  const { sessionId } = request
  const { promptId } = request.prompt.ids
  yield* reach(turn, { promptId, promptRecord: request })
  live.begin({ sessionId, promptId }, reason)
  const started = startedBy(request)
  if (started !== null) live.start({ _tag: "Started", conversationId, messageId, ...started })
  // What was streamed before is shown until the server says more, and is not streamed again.
  if (isRecorded) LiveReply.restore(live, message)
  const found = isRecorded
    ? yield* Budget.within(spentMillis, findAnswer(request, live))
    : { exchange: undefined, isBusy }
  if (isRecorded) yield* withdrawUnlisted(messageId)
  if (found.exchange !== undefined) {
    const tracer = yield* Tracer
    yield* tracer.emit("response.recovered_from_exchange", { message_id: messageId })
    const recovered: Driven = { exchange: found.exchange, refusals: [] }
    return recovered
  }
  return yield* drive(request, live, {
    conversationId,
    messageId,
    isBusy: found.isBusy,
    confirm: confirm(message),
    onActivity: onActivity(turn),
    spentMillis
  })
}, (effect, turn) => Effect.tapErrorTag(effect, "Upstream", (error) => traceUnusable(turn, error)))

/** Settle: the server's record is the truth, and within the budget. */
const settled = Effect.fnUntraced(function*<E, R>(
  { live, messageId, spentMillis }: RunningTurn<E, R>,
  { exchange }: Driven
) {
  const millis = yield* Ref.get(spentMillis)
  const leftMillis = yield* Budget.leftMillis(millis)
  const settled = yield* settle(exchange, live, { messageId, leftMillis })
  yield* Budget.check(Budget.spentOn([...live.earlier(), live.current()], millis))
  return settled
}, (effect, turn) => Effect.tapErrorTag(effect, ["Upstream", "EmptyStream"], (error) => traceUnusable(turn, error)))

/** What the agent is to be told, unless the answer can be used; fails once it was told often enough. */
const repairFor = Effect.fnUntraced(function*<E, R>(
  turn: RunningTurn<E, R>,
  posting: Posting,
  exchange: Exchange.Exchange,
  refused: ReadonlyArray<Refusals.Given>
) {
  const given = [...posting.given, ...refused]
  const told = posting.request.refusals ?? 0
  if (Exchange.isRefused(exchange)) {
    const refusals = Refusals.of(exchange, given)
    if (told >= (yield* TurnPolicy.RefusalRepairs) || !Refusals.areExplained(exchange, given)) {
      return yield* new Refused({ refusals, repairs: told })
    }
    const repair: Repair = { text: Refusals.prompt(refusals), why: "refused", given }
    return repair
  }
  if (turn.input.output === undefined) return undefined
  const read = yield* Effect.result(Output.read(Output.from(turn.input.output), exchange))
  if (Result.isSuccess(read)) {
    yield* reach(turn, { output: read.success })
    return undefined
  }
  const repairs = (posting.request.earlier?.length ?? 0) - told
  if (repairs >= (yield* TurnPolicy.OutputRepairs)) return yield* new OutputInvalid({ issues: read.failure, repairs })
  const repair: Repair = { text: Output.repairPrompt(read.failure), why: "invalid", given }
  return repair
})

/** Fails unless the prompt may be sent once more in a new session. */
const mayResend = Effect.fnUntraced(function*<E, R>(
  { conversationId, live, reached }: RunningTurn<E, R>,
  error: SessionNotFound | StaleSession
) {
  const { message, promptId } = yield* Ref.get(reached)
  // Before its prompt a turn has lost nothing but what was said before it, which no policy can bring back.
  const isUnprompted = promptId === undefined && message?.promptRecord === null
  const policy = yield* TurnPolicy.OnLostSession
  const stored = message?.parts ?? []
  const parts = [...stored, ...[...live.earlier(), live.current()].flatMap(Reply.replies).flatMap(Reply.parts)]
  const ran = parts.filter((part) => part.type === "tool").filter(({ status }) => status !== "pending")
  const isTouched = ran.length > 0 || (message?.subagents.length ?? 0) > 0
  const isResent = isUnprompted || policy === "resend" || (policy === "resendIfUntouched" && !isTouched)
  const tools = Array.from(new Set(ran.map(({ tool }) => tool)))
  const tracer = yield* Tracer
  yield* tracer.emit("session.lost", {
    session_id: error.sessionId,
    subject_id: conversationId,
    decision: isResent ? "resend" : "fail",
    tool_count: new Set(ran.map(({ id }) => id)).size
  })
  yield* Effect.annotateLogs(Effect.logWarning("session lost"), {
    session: error.sessionId,
    decision: isResent ? "resend" : "fail",
    tools: new Set(ran.map(({ id }) => id)).size
  })
  if (!isResent) {
    return yield* error._tag === "StaleSession"
      ? error
      : new SessionLost({ sessionId: error.sessionId, tools })
  }
})

/** A turn that was taken over and cannot even begin keeps what was streamed before, and may still run on the server. */
const recall = Effect.fnUntraced(function*<E, R>(turn: RunningTurn<E, R>) {
  const { live, reached } = turn
  const { message } = yield* Ref.get(reached)
  if (message === undefined || message.promptRecord === null) return
  const { prompt: { ids }, sessionId } = message.promptRecord
  if (ids === undefined) return
  yield* reach(turn, { session: { sessionId, isNew: false }, promptId: ids.promptId })
  live.begin({ sessionId, promptId: ids.promptId })
  LiveReply.restore(live, message)
})

/** Traces that the model or its provider gave no usable answer, whether the record told so or the stream. */
const traceUnusable = Effect.fnUntraced(function*<E, R>(
  { conversationId, messageId }: RunningTurn<E, R>,
  error: Upstream | EmptyStream
) {
  const tracer = yield* Tracer
  if (error._tag === "Upstream") {
    yield* tracer.emit("response.upstream_error", {
      error_name: error.name,
      error_message: error.reason.slice(0, 200),
      status_code: error.statusCode ?? null,
      provider_url: error.url ?? null
    })
  }
  yield* tracer.emit("response.error", {
    reason: error._tag === "Upstream" ? "upstream_llm_error" : "empty_stream",
    message_id: messageId,
    subject_id: conversationId
  })
})

/** Makes the message pending and this run its owner: one that is new, or one that was taken over while it waited. */
const own = Effect.fnUntraced(
  function*<E, R>({ conversationId, input, messageId, owner, queued, span, taken }: RunningTurn<E, R>) {
    const prompt = taken?.prompt ?? (yield* validate(input))
    const traceparent = yield* TurnSpan.traceparentOf(span)
    const { origin } = yield* Client
    const draft = {
      ...yield* toDraft(input),
      ...(traceparent !== undefined && { traceparent }),
      origin: taken?.draft?.origin ?? origin
    }
    return yield* claim({ id: messageId, conversationId, prompt, draft, owner, queued }, carryOrphan)
  }
)

/**
 * Runs an orphaned turn that blocks the queue, in a trace of its own. Interrupting the waiting turn releases the orphan instead of
 * cancelling it.
 */
export const carryOrphan = (orphan: StoredMessage): Effect.Effect<void, never, TurnServices> =>
  Effect.suspend((): Effect.Effect<unknown, StoreError, TurnServices> => {
    const operation = orphan.draft?.operation
    return operation === undefined ? resumeTurn(orphan) : resumeOperation(orphan, operation)
  }).pipe(
    Effect.provideService(TurnPolicy.OnInterrupt, "release"),
    Contained.reported("resume", { message: orphan.id }),
    Effect.asVoid,
    Effect.updateContext((context: Context.Context<TurnServices>) => Context.omit(EffectTracer.ParentSpan)(context))
  )

/** Checks what can be checked before anything is stored. */
const validate = Effect.fnUntraced(function*<E, R>(input: TurnInput<E, R>) {
  for (const field of ["conversationId", "messageId"] as const) {
    const reason = idFlaw(input[field] ?? "none")
    if (reason !== undefined) return yield* new InvalidInput({ field, reason })
  }
  if (input.tools !== undefined && input.permission !== undefined) {
    return yield* new InvalidInput({
      field: "tools",
      reason: "the server would put it in the place of `permission`: give one of them"
    })
  }
  if (typeof input.model === "string") yield* Prompts.parseModel(input.model)
  const flaw = Budget.flaw(yield* TurnPolicy.Budget)
  if (flaw !== undefined) return yield* new InvalidInput({ field: "TurnPolicy.Budget", reason: flaw })
  return yield* promptParts(input.prompt)
})

const toConversationId = Brand.nominal<ConversationId>()
const toMessageId = Brand.nominal<AssistantMessageId>()

const sessionOptions = <E, R>(
  { conversationId, metadata, permission, title }: TurnInput<E, R>
): SessionOptions => ({
  metadata: { ...metadata, conversationId },
  ...(title !== undefined && { title }),
  ...(permission !== undefined && { permission })
})

/** Tells the product of activity, in a fiber of its own: a slow callback does not keep the stream waiting. */
const onActivity = <E, R>(turn: RunningTurn<E, R>) => {
  const { background, conversationId, input: { onActivityTick } } = turn
  const called = callbackOften("onActivityTick", contextOf(turn))
  return onActivityTick && FiberSet.run(background, called(() => onActivityTick(conversationId)))
}
