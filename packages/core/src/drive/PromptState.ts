/**
 * What is known of one prompt while it is driven, as one value, and what follows from each piece of news, as one pure function.
 *
 * **Responsibilities**: what the stream, the looks at the server's record and the clock mean for the prompt: when the record is read,
 * when the prompt is posted again, and when and how the drive ends.
 *
 * **Not responsibilities**: the reply (`LiveReply`), asking and posting (`Drive`), what a turn has used (`Budget`).
 *
 * ```
 *               idle, failure, gap, deadline
 *   streaming ────────────────────────────────▶ looking ──▶ End
 *       ▲                                        │  │  │
 *       │         the session works on           │  │  │ idle and unfinished, also at the second look
 *       ├────────────────────────────────────────┘  │  ▼
 *       ├───────────────────────────────────────────┼── Post: the same ids again
 *                            no event at all, idle  ▼
 *                                              StaleSession
 * ```
 *
 * News between two `Woken` accumulate in `pending`; later news may take back earlier ones (`busy` after `idle`).
 *
 * **Gotchas**
 *
 * - A server that fails or aborts a turn says `idle` some milliseconds before it stores the end, and says it twice (1.18.33). Hence the
 *   second look, and hence an `idle` before anything of this prompt was seen counts for nothing.
 * - Where somebody else's prompt follows in the session, no `idle` comes between the two answers (1.18.33). Hence a look some time after
 *   the end of the last message.
 * - Ids whose answer ended with an error are never posted again, and neither are those that a later prompt has followed: both would ask
 *   the model anew (1.18.33).
 *
 * @since 0.1.0
 */
import type { MessageId, SessionId } from "../domain/Ids.ts"
import type { AssistantMessage, SessionStatus } from "../domain/Message.ts"
import { isLast } from "../domain/Message.ts"
import type { BudgetExceeded, HumanTimeout, NoProgress } from "../domain/TurnError.ts"
import { StaleSession, TurnTimeout, TurnUnfinished, Upstream } from "../domain/TurnError.ts"
import type { TurnEvent } from "../domain/TurnEvent.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import type { DecodeError, EventsError } from "../opencode/ClientError.ts"
import { SessionNotFound } from "../opencode/ClientError.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Ordered from "../reply/Ordered.ts"
import type * as Reply from "../reply/Reply.ts"
import * as Deadlines from "./Deadlines.ts"
import * as IdleSteps from "./IdleSteps.ts"
import { unreadAnswer } from "./ReadExchange.ts"

/**
 * The policies that the transitions depend on.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits extends Deadlines.Limits {
  readonly activityTickMillis: number
  readonly absenceMillis: number
  readonly maxReposts: number
  readonly maxIdleSteps: number
}

/**
 * **Details**
 *
 * The times of {@link Deadlines.Known} are those of the prompt's clock; `tickMillis`, `firstTextMillis` and `stillSinceMillis` are
 * times that never stand still.
 *
 * - `stillSinceMillis`, `stoodMillis`: since when the prompt's clock stands still, and for how long it stood still before.
 * - `isBlocked`: a person is asked. `lost`: why the stream is lost, until it is back. The clock stands still while a person is asked on
 *   a stream that is there: nobody waits for a person on a server that is gone.
 * - `lostMillis`: when the stream was lost, or when the server last answered without one.
 * - `humanTimeout`: nobody answered an ask in time.
 * - `isPrompting`: the prompt has left. Failures that the session reported before were those of another turn.
 * - `hasAnswer`: the server's record has something of the answer, so that an `idle` ends this turn and not the one before.
 * - `hadGap`: events may have been missed, so that silence proves nothing.
 * - `hasGrown`: the reply may be larger than when it was last weighed; `tooLarge` is what weighing it found.
 * - `hasCounted`: a step began or ended, or the model is asked again; `isCheckDue`: the budget is to be checked for it.
 * - `hasWaited`: `response.waiting_for_final_text` was reported.
 * - `lastFailure`: why the server last could not be asked.
 * - `looking`: the look that is being made, and why.
 *
 * @category models
 * @since 0.1.0
 */
export interface PromptState extends Deadlines.Known {
  readonly sessionId: SessionId
  readonly promptId: MessageId
  readonly limits: Limits
  readonly stillSinceMillis: number | undefined
  readonly stoodMillis: number
  readonly isBlocked: boolean
  readonly lost: EventsError | undefined
  readonly lostMillis: number
  readonly humanTimeout: HumanTimeout | undefined
  readonly isPrompting: boolean
  readonly hasAnswer: boolean
  readonly hadGap: boolean
  readonly reposts: number
  readonly hasGrown: boolean
  readonly tooLarge: BudgetExceeded | undefined
  readonly hasCounted: boolean
  readonly isCheckDue: boolean
  readonly tickMillis: number
  readonly firstTextMillis: number | undefined
  readonly hasWaited: boolean
  readonly lastFailure: UpstreamFailure | undefined
  readonly idleSteps: IdleSteps.IdleSteps
  readonly looking: Looking | undefined
  readonly pending: Pending
}

/**
 * What happened since the loop was last `Woken`.
 *
 * **Details**
 *
 * - `isIdle`: the session says that it is idle, or one of the answer's messages ended with an error.
 * - `isBusy`: the session works on, whatever it said before.
 * - `hasEnded`: a message of the answer has ended, which moves the deadlines.
 * - `hasFailed`: the session reported an error. `isDeleted`: the session is gone.
 * - `hasGap`: events may have been missed. `lost`: the stream was lost and is being opened again. `closed`: it will not be.
 * - `hasAsks`: what is asked has changed. `isTickDue`: the activity tick is due.
 * - `retry`: the longest wait that was announced for a retry of the model.
 *
 * @category models
 * @since 0.1.0
 */
export interface Pending {
  readonly isIdle: boolean
  readonly isBusy: boolean
  readonly hasEnded: boolean
  readonly hasFailed: boolean
  readonly isDeleted: boolean
  readonly hasGap: boolean
  readonly hasAsks: boolean
  readonly isTickDue: boolean
  readonly lost: EventsError | undefined
  readonly closed: EventsError | undefined
  readonly retry: AnnouncedRetry | undefined
}

/**
 * A call of the model that the server announced. `nextMillis` is a time by the server's clock.
 *
 * @category models
 * @since 0.1.0
 */
export interface AnnouncedRetry {
  readonly message: string
  readonly nextMillis: number
  readonly waitMillis: number
}

/**
 * A look at the server's record: when and why it began, and the deadlines as they were then.
 *
 * @category models
 * @since 0.1.0
 */
export interface Looking {
  readonly sinceMillis: number
  readonly due: Deadlines.Due
  readonly isIdle: boolean
  readonly hasFailed: boolean
  readonly hasGap: boolean
}

/**
 * What a look at the server's record found.
 *
 * @category models
 * @since 0.1.0
 */
export interface View {
  readonly exchange: Exchange.Exchange
  readonly isIdle: boolean
}

/**
 * What can happen.
 *
 * **Details**
 *
 * From the stream:
 * - `Folded`: what the fold of an event told, and the reply after it.
 * - `RetryAnnounced`: the model is called again after a wait.
 * - `Heard`: events came; `hasText` says whether the reply has text by now.
 * - `Heartbeat`: the server is alive. `Lost`, `Back`, `Closed`: the stream's state.
 *
 * From the reply, whoever changed it:
 * - `Changed`: it may have grown; `asks` is there if what is asked changed.
 *
 * From the drive:
 * - `Prompting`: the prompt leaves now.
 * - `Woken`: the loop takes what is pending. `Looked`: the look has ended; `view` is undefined where the server could not be asked,
 *   `failure` and `trouble` are the reply's, `hasCaughtUp` says whether the look changed the reply after a gap.
 * - `Reposted`: the same ids were posted again.
 * - `Unreachable`: the server could not be asked. `Reachable`: it could be, although its stream is lost.
 * - `Weighed`, `Checked`: size and budget were looked at. `TickFailed`: the activity tick. `Unanswered`: nobody answered an ask in time.
 *
 * @category models
 * @since 0.1.0
 */
export type News =
  | { readonly _tag: "Folded"; readonly told: Reply.Told; readonly reply: Reply.Reply }
  | { readonly _tag: "RetryAnnounced"; readonly retry: AnnouncedRetry }
  | { readonly _tag: "Heard"; readonly hasText: boolean }
  | { readonly _tag: "Heartbeat" }
  | { readonly _tag: "Lost"; readonly error: EventsError }
  | { readonly _tag: "Back" }
  | { readonly _tag: "Closed"; readonly error: EventsError }
  | { readonly _tag: "Changed"; readonly asks: { readonly isBlocked: boolean } | undefined }
  | { readonly _tag: "Prompting" }
  | { readonly _tag: "Woken" }
  | {
    readonly _tag: "Looked"
    readonly view: View | undefined
    readonly hasCaughtUp: boolean
    readonly retries: ReadonlyArray<AnnouncedRetry>
    readonly failure: UpstreamFailure | undefined
    readonly trouble: UpstreamFailure | undefined
  }
  | { readonly _tag: "Reposted"; readonly sinceMillis: number }
  | { readonly _tag: "Unreachable"; readonly failure: UpstreamFailure }
  | { readonly _tag: "Reachable" }
  | { readonly _tag: "Unanswered"; readonly error: HumanTimeout }
  | { readonly _tag: "Weighed"; readonly tooLarge: BudgetExceeded | undefined }
  | { readonly _tag: "Checked" }
  | { readonly _tag: "TickFailed" }

/**
 * What the drive has to do, in order.
 *
 * **Details**
 *
 * - `ReportLost`, `ReportWaiting`: emit the trace event.
 * - `Tick`: tell of activity. `SyncAsks`: take to the gate what is asked now.
 * - `Look`: read the server's record. `forEnd`: the exchange alone nearly always decides. `afterGap`: what the gap hid is read too, for
 *   as long as that takes. The others give up at `untilMillis`.
 * - `Post`: post the same ids again, then say `Reposted`.
 * - `End`, `Fail`: the drive is over.
 *
 * @category models
 * @since 0.1.0
 */
export type Action =
  | { readonly _tag: "ReportLost"; readonly error: EventsError }
  | { readonly _tag: "ReportWaiting" }
  | { readonly _tag: "Tick" }
  | { readonly _tag: "SyncAsks" }
  | { readonly _tag: "Look"; readonly kind: "afterGap" | "forEnd" | "plain"; readonly untilMillis: number }
  | { readonly _tag: "Post"; readonly sinceMillis: number }
  | { readonly _tag: "End"; readonly exchange: Exchange.Exchange }
  | { readonly _tag: "Fail"; readonly error: PromptError }

/**
 * The failures that the transitions find.
 *
 * @category errors
 * @since 0.1.0
 */
export type PromptError =
  | EventsError
  | SessionNotFound
  | DecodeError
  | StaleSession
  | TurnTimeout
  | TurnUnfinished
  | NoProgress
  | Upstream

/**
 * The state before the prompt leaves, at time 0.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  readonly sessionId: SessionId
  readonly promptId: MessageId
  readonly limits: Limits
  readonly spentMillis: number
}): PromptState => ({
  ...options,
  promptedMillis: 0,
  waitingMillis: 0,
  heardMillis: 0,
  progressMillis: 0,
  hasStarted: false,
  endedMillis: undefined,
  ending: undefined,
  stillSinceMillis: undefined,
  stoodMillis: 0,
  isBlocked: false,
  lost: undefined,
  lostMillis: 0,
  humanTimeout: undefined,
  isPrompting: false,
  hasAnswer: false,
  hadGap: false,
  reposts: 0,
  hasGrown: true,
  tooLarge: undefined,
  hasCounted: false,
  isCheckDue: false,
  tickMillis: 0,
  firstTextMillis: undefined,
  hasWaited: false,
  lastFailure: undefined,
  idleSteps: IdleSteps.make(options.limits.maxIdleSteps),
  looking: undefined,
  pending: nothing
})

/**
 * The time of the prompt's clock.
 *
 * @category getters
 * @since 0.1.0
 */
export const clockMillis = ({ stillSinceMillis, stoodMillis }: PromptState, nowMillis: number): number =>
  (stillSinceMillis ?? nowMillis) - stoodMillis

/**
 * The deadlines as they are now.
 *
 * @category getters
 * @since 0.1.0
 */
export const due = (self: PromptState): Deadlines.Due => Deadlines.due(self, self.limits)

/**
 * When the server will have been gone for too long; `Infinity` while its stream is there.
 *
 * @category getters
 * @since 0.1.0
 */
export const goneDue = ({ limits, lost, lostMillis }: PromptState): number =>
  lost === undefined ? Number.POSITIVE_INFINITY : lostMillis + limits.absenceMillis

/**
 * Whether the loop has something to look at.
 *
 * @category predicates
 * @since 0.1.0
 */
export const hasNews = ({ idleSteps, pending }: PromptState): boolean =>
  pending !== nothing || idleSteps.found !== undefined

/**
 * Whether the event is somebody else's: a failure before the prompt left, or, once the answer has ended, a failure or an ask of
 * whoever prompted the session next.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isOfOther = (self: PromptState, { _tag, sessionId }: TurnEvent): boolean =>
  (_tag === "SessionFailed" && !self.isPrompting) ||
  ((_tag === "SessionFailed" || _tag === "Asked") && self.endedMillis !== undefined && sessionId === self.sessionId)

/**
 * Whether the view is the end of the answer.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isOver = ({ exchange, isIdle }: View): boolean =>
  isIdle ? Exchange.isFinalWhenIdle(exchange) : Exchange.isFinal(exchange)

/**
 * The state after the news, and what the drive has to do. Gives back the same state where the news change nothing. `nowMillis` is
 * the monotonic time since the state was made.
 *
 * @category transitions
 * @since 0.1.0
 */
export const next = (
  self: PromptState,
  news: News,
  nowMillis: number
): readonly [PromptState, ReadonlyArray<Action>] => {
  switch (news._tag) {
    case "Woken":
      return onWoken(self, nowMillis)
    case "Looked":
      return onLooked(self, news, nowMillis)
    default:
      return [onNews(self, news, nowMillis), none]
  }
}

/**
 * How long after now a time by the server's clock comes at least, where nothing tells the server's own time: its clock may be ahead of
 * ours.
 *
 * @category getters
 * @since 0.1.0
 */
export const waitByOurClock = (atMillis: number, nowMillis: number): number => atMillis - nowMillis - maxClockSkewMillis

// internal

const maxClockSkewMillis = 10 * 60_000

const none: ReadonlyArray<Action> = []

const nothing: Pending = {
  isIdle: false,
  isBusy: false,
  hasEnded: false,
  hasFailed: false,
  isDeleted: false,
  hasGap: false,
  hasAsks: false,
  isTickDue: false,
  lost: undefined,
  closed: undefined,
  retry: undefined
}

const withPending = (self: PromptState, changes: Partial<Pending>): PromptState => ({
  ...self,
  pending: { ...self.pending, ...changes }
})

/** Stops the prompt's clock, or lets it go on. */
const paced = (self: PromptState, nowMillis: number): PromptState => {
  const { isBlocked, lost, stillSinceMillis, stoodMillis } = self
  if (isBlocked && lost === undefined) {
    return stillSinceMillis === undefined ? { ...self, stillSinceMillis: nowMillis } : self
  }
  return stillSinceMillis === undefined
    ? self
    : { ...self, stillSinceMillis: undefined, stoodMillis: stoodMillis + nowMillis - stillSinceMillis }
}

const onNews = (
  self: PromptState,
  news: Exclude<News, { readonly _tag: "Woken" | "Looked" }>,
  nowMillis: number
): PromptState => {
  switch (news._tag) {
    case "Folded":
      return onTold(self, news.told, news.reply, nowMillis)
    case "RetryAnnounced":
      return news.retry.waitMillis > (self.pending.retry?.waitMillis ?? 0)
        ? withPending(self, { retry: news.retry })
        : self
    case "Heard":
      return onHeard(self, news.hasText, nowMillis)
    case "Heartbeat":
      return ticked(self, nowMillis)
    case "Lost": {
      const lost = paced(withPending({ ...self, lost: news.error }, { lost: news.error }), nowMillis)
      return self.lost === undefined ? { ...lost, lostMillis: clockMillis(lost, nowMillis) } : lost
    }
    case "Back":
      return paced(withPending({ ...self, lost: undefined }, { hasGap: true }), nowMillis)
    case "Closed":
      return withPending(self, { closed: news.error })
    case "Changed":
      return onChanged(self, news.asks, nowMillis)
    case "Prompting": {
      const atMillis = clockMillis(self, nowMillis)
      return {
        ...self,
        isPrompting: true,
        promptedMillis: atMillis,
        waitingMillis: atMillis,
        heardMillis: atMillis,
        progressMillis: atMillis
      }
    }
    case "Reposted": {
      const { limits: { pollMillis }, reposts } = self
      const { sinceMillis } = news
      const atMillis = clockMillis(self, nowMillis)
      return {
        ...self,
        ending: Deadlines.lookAgain(undefined, { sinceMillis, nowMillis: atMillis, pollMillis, isIdle: false, reposts })
      }
    }
    case "Unreachable":
      return { ...self, lastFailure: news.failure }
    case "Reachable":
      return { ...self, lostMillis: clockMillis(self, nowMillis) }
    case "Unanswered":
      return { ...self, humanTimeout: self.humanTimeout ?? news.error }
    case "Weighed":
      return { ...self, hasGrown: false, tooLarge: self.tooLarge ?? news.tooLarge }
    case "Checked":
      return { ...self, isCheckDue: false }
    case "TickFailed":
      return { ...self, tickMillis: Number.NEGATIVE_INFINITY }
  }
}

const onHeard = (self: PromptState, hasText: boolean, nowMillis: number): PromptState => {
  const atMillis = clockMillis(self, nowMillis)
  const firstTextMillis = self.firstTextMillis ?? (hasText ? nowMillis : undefined)
  // A fast server brings many reads within a millisecond, and nothing changes with them.
  const isSame = self.heardMillis === atMillis && self.progressMillis === atMillis &&
    self.firstTextMillis === firstTextMillis && !self.hasCounted
  const heard = isSame ? self : {
    ...self,
    heardMillis: atMillis,
    progressMillis: atMillis,
    firstTextMillis,
    hasCounted: false,
    isCheckDue: self.isCheckDue || self.hasCounted
  }
  return ticked(heard, nowMillis)
}

/** A conversation in which a person is asked is not abandoned, so the ticks do not stand still. */
const ticked = (self: PromptState, nowMillis: number): PromptState =>
  nowMillis - self.tickMillis < self.limits.activityTickMillis
    ? self
    : withPending({ ...self, tickMillis: nowMillis }, { isTickDue: true })

const onChanged = (
  self: PromptState,
  asks: { readonly isBlocked: boolean } | undefined,
  nowMillis: number
): PromptState => {
  if (asks === undefined) return self.hasGrown ? self : { ...self, hasGrown: true }
  const asked = paced({ ...self, hasGrown: true, isBlocked: asks.isBlocked }, nowMillis)
  return withPending({ ...asked, progressMillis: clockMillis(asked, nowMillis) }, { hasAsks: true })
}

const onTold = (self: PromptState, told: Reply.Told, reply: Reply.Reply, nowMillis: number): PromptState => {
  const idleSteps = IdleSteps.apply(self.idleSteps, reply, told)
  const hasCounted = self.hasCounted || mayCount(told)
  const counted = idleSteps === self.idleSteps && hasCounted === self.hasCounted
    ? self
    : { ...self, idleSteps, hasCounted }
  if (told.sessionId !== self.sessionId) return counted
  switch (told._tag) {
    case "Step":
      return onStep(counted, told.info, reply, nowMillis)
    case "Prompt":
      return told.messageId === self.promptId ? { ...counted, hasStarted: true } : counted
    case "Status":
      return onStatus(counted, told.status)
    case "Failure":
      return withPending({ ...counted, hasStarted: true }, { hasFailed: true })
    case "Deleted":
      return withPending(counted, { isDeleted: true })
    default:
      return counted
  }
}

const onStep = (
  self: PromptState,
  info: AssistantMessage,
  reply: Reply.Reply,
  nowMillis: number
): PromptState => {
  const endedMillis = hasEnded(reply) ? self.endedMillis ?? clockMillis(self, nowMillis) : undefined
  const seen = { ...self, hasStarted: true, endedMillis }
  // The end of a failed turn is stored after its `idle`. That of any other may be all that is heard of its end.
  return info.error !== undefined
    ? withPending(seen, { isIdle: true })
    : info.completedMillis !== undefined
    ? withPending(seen, { hasEnded: true })
    : seen
}

const onStatus = (self: PromptState, status: SessionStatus): PromptState =>
  status.type !== "idle"
    ? withPending({ ...self, hasStarted: self.hasStarted || self.isPrompting }, { isIdle: false, isBusy: true })
    : self.hasStarted || self.hasAnswer
    ? withPending(self, { isIdle: true, isBusy: false })
    : self

/** Takes what is pending, and decides whether the server's record is to be read. */
const onWoken = (self: PromptState, nowMillis: number): readonly [PromptState, ReadonlyArray<Action>] => {
  const { limits, pending, sessionId } = self
  const taken = { ...self, pending: nothing, ending: pending.isBusy ? undefined : self.ending }
  const failure = pending.closed ??
    (pending.isDeleted ? new SessionNotFound({ sessionId }) : undefined) ??
    self.idleSteps.found ??
    (pending.retry && tooLate(self, [pending.retry], nowMillis))
  if (failure !== undefined) return [taken, [{ _tag: "Fail", error: failure }]]

  const actions: Array<Action> = []
  if (pending.lost !== undefined) actions.push({ _tag: "ReportLost", error: pending.lost })
  if (pending.isTickDue) actions.push({ _tag: "Tick" })
  if (pending.hasAsks) actions.push({ _tag: "SyncAsks" })
  const { hasFailed, hasGap, isIdle } = pending
  const sinceMillis = clockMillis(taken, nowMillis)
  const due = Deadlines.due(taken, limits)
  if (!isIdle && !hasFailed && !hasGap && sinceMillis < due.next) return [taken, actions]
  const untilMillis = Deadlines.patience(taken, limits, sinceMillis)
  actions.push({ _tag: "Look", kind: hasGap ? "afterGap" : isIdle ? "forEnd" : "plain", untilMillis })
  const looking = { sinceMillis, due, isIdle, hasFailed, hasGap }
  return [{ ...taken, looking, hadGap: self.hadGap || hasGap }, actions]
}

/** Decides what follows from a look. */
const onLooked = (
  self: PromptState,
  { failure, hasCaughtUp, retries, trouble, view }: Extract<News, { readonly _tag: "Looked" }>,
  nowMillis: number
): readonly [PromptState, ReadonlyArray<Action>] => {
  const { limits, looking, sessionId } = self
  const atMillis = clockMillis(self, nowMillis)
  const fail = (error: PromptError) => [looked, [{ _tag: "Fail", error }]] as const
  const looked: PromptState = {
    ...self,
    looking: undefined,
    hasAnswer: self.hasAnswer || (view !== undefined && view.exchange.steps.length > 0),
    ...(hasCaughtUp && { progressMillis: atMillis, isCheckDue: true })
  }
  if (looking === undefined) return [looked, none]
  const late = tooLate(looked, retries, nowMillis)
  if (late !== undefined) return fail(late)
  if (view !== undefined && isOver(view)) return [looked, [{ _tag: "End", exchange: view.exchange }]]

  const { due, sinceMillis } = looking
  const heard = trouble ?? self.lastFailure
  const last = heard === undefined ? {} : { last: heard }
  const isTimeUp = sinceMillis >= due.finalExchange
  const again = (isIdle: boolean): PromptState => ({
    ...looked,
    ending: Deadlines.lookAgain(looked.ending, {
      sinceMillis,
      nowMillis: atMillis,
      pollMillis: limits.pollMillis,
      isIdle
    })
  })
  const wait = (state: PromptState): readonly [PromptState, ReadonlyArray<Action>] => {
    if (isTimeUp) return fail(new TurnTimeout({ millis: limits.finalExchangeMillis, ...last }))
    return state.ending !== undefined && !state.hasWaited && failure === undefined
      ? [{ ...state, hasWaited: true }, [{ _tag: "ReportWaiting" }]]
      : [state, none]
  }

  if (view === undefined || !view.isIdle) {
    // The server works on it, or cannot be asked just now.
    const isInDoubt = looking.isIdle || (looking.hasFailed && view === undefined) || looked.ending !== undefined
    return wait({ ...(isInDoubt ? again(false) : looked), waitingMillis: atMillis })
  }
  if (sinceMillis >= due.firstEvent) {
    return fail(new StaleSession({ sessionId, silentMillis: atMillis - looked.waitingMillis, ...last }))
  }
  if (!Deadlines.isIdleForSure(looked.ending, atMillis) || looked.lost !== undefined) return wait(again(true))
  const { exchange } = view
  const unread = exchange.unread.hidden[0]
  if (unread !== undefined && failure === undefined) return fail(unreadAnswer(unread))
  // The server will say no more: it failed the turn, or ended it, on an unbroken stream, without a message. A prompt that still waits was
  // left behind by the run before it (2.x).
  const isWithoutAnswer = exchange.isAccepted && exchange.isWaiting !== true && exchange.steps.length === 0
  if (failure !== undefined || (!self.hadGap && isWithoutAnswer)) {
    return [looked, [{ _tag: "End", exchange }]]
  }
  if (self.reposts >= limits.maxReposts || (exchange.isAccepted && !exchange.isCurrent)) {
    const isSuperseded = exchange.isAccepted && !exchange.isCurrent
    return fail(new TurnUnfinished({ sessionId, reposts: self.reposts, isSuperseded, ...last }))
  }
  if (isTimeUp) return wait(looked)
  return [{ ...looked, reposts: self.reposts + 1 }, [{ _tag: "Post", sinceMillis }]]
}

/**
 * Nobody waits longer than the turn may for the model's next try. While a person is asked, the turn may wait for any time.
 */
const tooLate = (
  self: PromptState,
  retries: ReadonlyArray<AnnouncedRetry>,
  nowMillis: number
): Upstream | undefined => {
  if (self.isBlocked) return undefined
  const { allowedMillis, dueMillis, limit } = Deadlines.timeLimit(self, self.limits)
  const leftMillis = dueMillis - clockMillis(self, nowMillis)
  const late = retries.find(({ waitMillis }) => waitMillis > leftMillis)
  if (late === undefined) return undefined
  const { message, nextMillis } = late
  return new Upstream({
    name: "RetryTooLate",
    reason: message,
    isRetryable: true,
    retryAtMillis: nextMillis,
    limit,
    allowedMillis
  })
}

/** Whether a step may have begun or ended with it, or the model is to be asked again. */
const mayCount = (told: Reply.Told): boolean =>
  told._tag === "Step" || (told._tag === "Part" && told.isStepEnd) ||
  (told._tag === "Status" && told.status.type === "retry")

const hasEnded = ({ session }: Reply.Reply): boolean => {
  const last = Ordered.findLast(session.messages, ({ ownership }) => ownership === "ours")?.info
  return last !== undefined && isLast(last)
}
