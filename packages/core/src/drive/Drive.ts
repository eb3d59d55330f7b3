/**
 * Drives one prompt to the end of its answer: subscribe, prompt once, fold, and look at the server's record whenever the
 * stream does not tell the whole story.
 *
 * **Responsibilities**
 * - The prompt leaves only once the stream is open; a lost stream is reopened without prompting.
 * - After a gap nothing is decided before what it hid was read (`CatchUp`).
 * - The end is the server's word: `idle` from the stream starts the question, the stored exchange decides it.
 * - A turn that the server left unfinished (killed and restarted) is resumed under the same ids.
 * - What a session that is busy already waits for is taken to the gate (`PendingAsks`): the prompt waits behind it.
 * - The budget (`Budget`), a server that is gone, and a model that is called without an end (`IdleSteps`), whatever the turn is at.
 *   The other deadlines are `Deadlines`'; all of them stand still while a person is asked.
 *
 * **Not responsibilities**: which session (`EnsureSession`), what to make of an empty or failed answer (`Settle`), storing.
 *
 * ```
 *               idle, failure, gap, deadline
 *   streaming ────────────────────────────────▶ looking ──▶ over
 *       ▲                                        │  │  │
 *       │         the session works on           │  │  │ idle and unfinished, also at the second look
 *       ├────────────────────────────────────────┘  │  ▼
 *       ├───────────────────────────────────────────┼── resume: post the same ids
 *                            no event at all, idle  ▼
 *                                              StaleSession
 * ```
 *
 * **Gotchas**
 *
 * - A server that fails or aborts a turn says `idle` some milliseconds before it stores the end, and says it twice
 *   (1.18.33): hence the second look, and hence an `idle` before anything of this turn was seen counts for nothing.
 * - Where somebody else's prompt follows in the session, no `idle` comes between the two answers (1.18.33): some time after the end
 *   of the last message the record is looked at all the same.
 * - Ids whose answer ended with an error are never posted again, and neither are those that a later prompt has followed:
 *   both would ask the model anew (1.18.33).
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { AssistantMessageId, ConversationId, MessageId, SessionId } from "../domain/Ids.ts"
import { Tracer } from "../domain/Tracer.ts"
import type { HumanTimeout, NoProgress } from "../domain/TurnError.ts"
import { BudgetExceeded, StaleSession, TurnTimeout, TurnUnfinished, Upstream } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import { Client } from "../opencode/Client.ts"
import type { EventsError, RequestError } from "../opencode/ClientError.ts"
import { SessionNotFound } from "../opencode/ClientError.ts"
import type { Subscription } from "../opencode/EventHub.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { IdentifiedPrompt } from "../store/StoredMessage.ts"
import * as AnswerAsks from "./AnswerAsks.ts"
import * as Budget from "./Budget.ts"
import type { Look } from "./CatchUp.ts"
import * as CatchUp from "./CatchUp.ts"
import * as Deadlines from "./Deadlines.ts"
import type { LiveReply } from "./LiveReply.ts"
import { takePending } from "./PendingAsks.ts"
import { promptOnce, readExchange, unreadAnswer } from "./ReadExchange.ts"
import * as TurnClock from "./TurnClock.ts"
import * as TurnSignals from "./TurnSignals.ts"

/**
 * @category errors
 * @since 0.1.0
 */
export type DriveError =
  | RequestError
  | EventsError
  | SessionNotFound
  | StaleSession
  | TurnTimeout
  | TurnUnfinished
  | NoProgress
  | Upstream
  | BudgetExceeded
  | HumanTimeout

/**
 * Drives the request until its exchange is final, or is known to stay without an answer. The reply is folded into `live`;
 * `onActivity` is run at most every `TurnPolicy.ActivityTick`, and again at the next sign of life where it calls its argument,
 * because it failed. `confirm` is run right before each time the prompt is posted:
 * its failure is the end of the drive.
 *
 * **Details**
 *
 * - `isBusy`: the session works on something already. What that waits for is found then.
 * - `spentBefore`: what the turn's budget has lost to the prompts before this one.
 * - `onRefused`: is told of each refusal that the gate gave.
 * - `onEnd`: is told, however the drive ends, how long the turn took so far, without the time in which a person was asked and
 *   with what it took before.
 *
 * @category steps
 * @since 0.1.0
 */
export const drive = Effect.fn("Turn.drive")(
  function*<E extends { readonly _tag: string; readonly message: string }, R1, R2>(
    request: IdentifiedPrompt,
    live: LiveReply,
    options: {
      readonly conversationId: ConversationId
      readonly messageId: AssistantMessageId
      readonly confirm: Effect.Effect<void, E, R1>
      readonly onActivity: (again: () => void) => Effect.Effect<void, never, R2>
      readonly isBusy?: boolean | undefined
      readonly spentBefore?: Budget.SpentBefore | undefined
      readonly onEnd?: ((wallClockMillis: number) => void) | undefined
      readonly onRefused?: ((refusal: AnswerAsks.Refusal) => void) | undefined
    }
  ) {
    const client = yield* Client
    const tracer = yield* Tracer
    const { sessionId } = request
    const ids = { sessionId, promptId: request.prompt.ids.promptId }
    const clock = yield* TurnClock.make
    const signals = yield* TurnSignals.make({ ids, live, clock })
    const startedMillis = yield* Clock.currentTimeMillis
    const subscription = yield* client.subscribe(sessionId, signals.subscriber)
    const asks = yield* AnswerAsks.make(live, options, { onAnswered: signals.onAnswered, onRefused: options.onRefused })
    const maxReposts = yield* TurnPolicy.MaxReposts

    const interrupted = Effect.fnUntraced(function*(error: { readonly _tag: string; readonly message: string }) {
      yield* tracer.emit("stream.interrupted", {
        duration_ms: (yield* Clock.currentTimeMillis) - startedMillis,
        event_count: live.current().eventCount,
        error: error._tag,
        error_message: error.message.slice(0, 200)
      })
    })

    /** What breaks off with the server may still be done when it is back: the loop finds out. */
    const prompt = Effect.suspend(() =>
      Effect.catchIf(
        promptOnce(request),
        (error) => error.isRetryable && signals.lost() !== undefined,
        () => Effect.void
      )
    ).pipe((post) => Effect.andThen(options.confirm, post))

    signals.onPrompt()
    const deadlines = yield* Deadlines.make({ clock, signals })
    const budget = yield* Budget.make({ clock, signals, live, spentBefore: options.spentBefore })
    let lastRefusal: UpstreamFailure | undefined
    let hadGap = false
    let hasWaited = false
    let resumes = 0

    /** Undefined while the server cannot be asked. */
    const ifPossible = <A, E extends RequestError | SessionNotFound, R>(look: Effect.Effect<A, E, R>) =>
      Effect.catchIf(look, isRetryable, ({ _tag, message }) =>
        Effect.sync(() => {
          lastRefusal = { name: _tag, message, isRetryable: true }
          return undefined
        }))
    const lastOf = (): { readonly last?: UpstreamFailure } => {
      const last = Reply.trouble(live.current()) ?? lastRefusal
      return last === undefined ? {} : { last }
    }
    /** Nobody waits longer than the turn may for the model's next try. While a person is asked, the turn may wait for any time. */
    const tooLate = ({ message, nextMillis, waitMillis }: TurnSignals.AnnouncedRetry) =>
      Effect.suspend(() => {
        const { allowedMillis, leftMillis, limit } = budget.nextLimit()
        return waitMillis > leftMillis && !Reply.isBlocked(live.current())
          ? Effect.fail(
            new Upstream({
              name: "RetryTooLate",
              reason: message,
              isRetryable: true,
              retryAtMillis: nextMillis,
              limit,
              allowedMillis
            })
          )
          : Effect.void
      })

    const untilOver = Effect.gen(function*() {
      while (true) {
        yield* Effect.raceFirst(signals.heard, clock.until(deadlines.due().next))
        const news = signals.take()
        if (news.closed !== undefined) return yield* news.closed
        if (news.isDeleted) return yield* new SessionNotFound({ sessionId })
        if (news.stuck !== undefined) return yield* news.stuck
        if (news.retry !== undefined) yield* tooLate(news.retry)
        if (news.lost !== undefined) yield* interrupted(news.lost)
        if (news.isActive) yield* options.onActivity(signals.onTickFailed)
        if (news.hasAsks) yield* asks.sync
        if (news.isBusy) deadlines.goOn()
        const sinceMillis = clock.now()
        const due = deadlines.due()
        if (!news.isIdle && !news.hasFailed && !news.hasGap && sinceMillis < due.next) continue

        hadGap ||= news.hasGap
        const before = live.current()
        const view = news.hasGap
          ? yield* lookAfterGap(ids, live, subscription, tooLate)
          : yield* Effect.raceFirst(
            ifPossible(news.isIdle ? lookForEnd(ids, live) : CatchUp.look(ids, live)),
            Effect.as(clock.until(deadlines.patience()), undefined)
          )
        if (news.hasGap) signals.onAsksChanged()
        if (news.hasGap && live.current() !== before) signals.onCaughtUp()
        if (view !== undefined && isOver(view)) return view.exchange
        if (view !== undefined && view.exchange.steps.length > 0) signals.onAnswerSeen()

        if (view === undefined || !view.isIdle) {
          // The server works on it, or cannot be asked just now.
          deadlines.worked()
          const isInDoubt = news.isIdle || (news.hasFailed && view === undefined)
          if (isInDoubt || deadlines.isEnding()) deadlines.lookAgain({ sinceMillis, isIdle: false })
        } else if (sinceMillis >= due.firstEvent) {
          return yield* new StaleSession({ sessionId, silentMillis: deadlines.silentMillis(), ...lastOf() })
        } else if (!deadlines.isIdleForSure() || signals.lost() !== undefined) {
          deadlines.lookAgain({ sinceMillis, isIdle: true })
        } else if (view.exchange.unread.hidden[0] !== undefined && live.current().session.failure === undefined) {
          return yield* unreadAnswer(view.exchange.unread.hidden[0])
        } else if (isWithoutAnswer(view, live.current(), hadGap)) {
          return view.exchange
        } else if (resumes >= maxReposts || (view.exchange.isAccepted && !view.exchange.isCurrent)) {
          const { isAccepted, isCurrent } = view.exchange
          return yield* new TurnUnfinished({
            sessionId,
            reposts: resumes,
            isSuperseded: isAccepted && !isCurrent,
            ...lastOf()
          })
        } else {
          resumes++
          live.update(Reply.markGap)
          yield* prompt
          deadlines.goOn()
          deadlines.lookAgain({ sinceMillis, isIdle: false, resumes })
        }
        if (sinceMillis >= due.finalExchange) {
          const limit = yield* TurnPolicy.FinalExchange
          return yield* new TurnTimeout({ millis: Duration.toMillis(limit), ...lastOf() })
        }
        if (deadlines.isEnding() && !hasWaited && live.current().session.failure === undefined) {
          hasWaited = true
          yield* tracer.emit("response.waiting_for_final_text", {
            message_id: options.messageId,
            subject_id: options.conversationId
          })
        }
      }
    })

    const lookBriefly = Effect.gen(function*() {
      const look = ifPossible(CatchUp.look(ids, live))
      return Option.getOrUndefined(yield* Effect.timeoutOption(look, yield* TurnPolicy.StopTimeout))
    })

    /** Holds whatever the loop is at. After a limit of time the answer may be there all the same. */
    const overBudget = Effect.catchTag(budget.watch, "BudgetExceeded", (exceeded) =>
      Effect.gen(function*() {
        if (exceeded.limit !== "wallClock" && exceeded.limit !== "stall") return yield* exceeded
        const view = yield* lookBriefly
        if (view !== undefined && isOver(view)) return view.exchange
        const { allowed, limit, value } = exceeded
        return yield* new BudgetExceeded({ limit, allowed, value, ...lastOf() })
      }))

    /**
     * Fails once the server was gone for too long: neither did its stream come back, nor does it answer. One that answers although its
     * stream is lost is asked from time to time.
     */
    const gone = Effect.gen(function*() {
      const absence = yield* TurnPolicy.ServerAbsence
      while (true) {
        yield* signals.untilLost
        yield* Effect.timeoutOption(signals.untilBack, absence)
        const error = signals.lost()
        if (error === undefined) continue
        const view = yield* lookBriefly
        if (view === undefined) return yield* error
        if (isOver(view)) return view.exchange
      }
    })

    const takeOpen = Effect.andThen(takePending(live, subscription), Effect.sync(signals.onAsksChanged))
    // What may have been posted before is looked for first, as after any other gap.
    const begin = live.current().session.hasGap
      ? Effect.sync(signals.subscriber.onGap)
      : options.isBusy === true
      ? Effect.andThen(takeOpen, prompt)
      : prompt
    const ends = [Effect.andThen(begin, untilOver), overBudget, gone, asks.failed, signals.tooLarge]
    const exchange = yield* Effect.raceAllFirst(ends).pipe(
      Effect.ensuring(Effect.sync(() => options.onEnd?.(budget.wallClockMillis()))),
      Effect.tapError(interrupted)
    )
    yield* tracer.emit("stream.completed", {
      duration_ms: (yield* Clock.currentTimeMillis) - startedMillis,
      first_token_ms: signals.firstTextMillis() ?? null,
      event_count: live.current().eventCount,
      tool_count: Reply.parts(live.current()).filter((part) => part.type === "tool").length
    })
    return exchange
  },
  Effect.scoped
)

// internal

type View = Pick<Look, "exchange" | "isIdle">

/** After an `idle` the exchange is nearly always final, and then nobody needs to ask what the session does. */
const lookForEnd = Effect.fnUntraced(function*(
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  live: LiveReply
): Effect.fn.Return<View, RequestError | SessionNotFound, Client> {
  const exchange = yield* readExchange(ids, live.current())
  return Exchange.isFinal(exchange) ? { exchange, isIdle: true } : yield* CatchUp.look(ids, live)
})

/** Tries until the server can be asked again, as long as the turn may last. */
const lookAfterGap = Effect.fnUntraced(function*(
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  live: LiveReply,
  subscription: Subscription,
  tooLate: (retry: TurnSignals.AnnouncedRetry) => Effect.Effect<void, Upstream>
): Effect.fn.Return<Look, RequestError | SessionNotFound | Upstream, Client> {
  const schedule = Schedule.spaced(yield* TurnPolicy.FinalExchangePoll)
  const view = yield* CatchUp.look(ids, live).pipe(
    Effect.tap((view) => (isOver(view) ? Effect.void : CatchUp.catchUp(live, subscription, view))),
    Effect.retry({ schedule, while: isRetryable })
  )
  const nowMillis = yield* Clock.currentTimeMillis
  for (const [id, status] of view.statuses) {
    if (status.type !== "retry" || !Reply.isInTree(live.current(), id)) continue
    const { message, nextMillis } = status
    yield* tooLate({ message, nextMillis, waitMillis: TurnSignals.waitByOurClock(nextMillis, nowMillis) })
  }
  return view
})

const isRetryable = (error: { readonly isRetryable: boolean }): boolean => error.isRetryable

const isOver = ({ exchange, isIdle }: View): boolean =>
  isIdle ? Exchange.isFinalWhenIdle(exchange) : Exchange.isFinal(exchange)

/** The server is idle and will say no more: it failed the turn, or ended it, on an unbroken stream, without a message. */
const isWithoutAnswer = ({ exchange }: View, reply: Reply.Reply, hadGap: boolean): boolean =>
  reply.session.failure !== undefined || (!hadGap && exchange.isAccepted && exchange.steps.length === 0)
