/**
 * Drives one prompt to the end of its answer: subscribe, prompt once, fold, and look at the server's record whenever the
 * stream does not tell the whole story.
 *
 * **Responsibilities**
 * - The prompt leaves only after `server.connected`; a lost stream is reopened without prompting.
 * - After a gap nothing is decided before what it hid was read (`CatchUp`).
 * - The end is the server's word: `idle` from the stream starts the question, the stored exchange decides it.
 * - A turn that the server left unfinished (killed and restarted) is resumed under the same ids.
 * - What a session that is busy already waits for is taken to the gate (`PendingAsks`): the prompt waits behind it.
 * - The limit of the whole stream and the budget (`Budget`), whatever the turn is at. The other deadlines are `Deadlines`'; all of
 *   them stand still while a person is asked.
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
import * as AnswerAsks from "./AnswerAsks.ts"
import * as Budget from "./Budget.ts"
import type { Look } from "./CatchUp.ts"
import * as CatchUp from "./CatchUp.ts"
import { Client } from "./Client.ts"
import type { EventsError, RequestError } from "./ClientError.ts"
import { SessionNotFound } from "./ClientError.ts"
import * as Deadlines from "./Deadlines.ts"
import type { Subscription } from "./EventHub.ts"
import * as Exchange from "./Exchange.ts"
import type { AssistantMessageId, ConversationId, MessageId, SessionId } from "./Ids.ts"
import type { LiveReply } from "./LiveReply.ts"
import { takePending } from "./PendingAsks.ts"
import { promptOnce, readExchange, unreadAnswer } from "./ReadExchange.ts"
import * as Reply from "./Reply.ts"
import { Tracer } from "./Tracer.ts"
import * as TurnClock from "./TurnClock.ts"
import type { BudgetExceeded, HumanTimeout } from "./TurnError.ts"
import { StaleSession, TurnTimeout, TurnUnfinished } from "./TurnError.ts"
import * as TurnPolicy from "./TurnPolicy.ts"
import type { IdentifiedRequest } from "./TurnRequest.ts"
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
 * - `onEnd`: is told, however the drive ends, how long the turn took so far, without the time in which a person was asked and
 *   with what it took before.
 *
 * @category steps
 * @since 0.1.0
 */
export const drive = Effect.fn("Turn.drive")(
  function*<E extends { readonly _tag: string; readonly message: string }, R1, R2>(
    request: IdentifiedRequest,
    live: LiveReply,
    options: {
      readonly conversationId: ConversationId
      readonly messageId: AssistantMessageId
      readonly confirm: Effect.Effect<void, E, R1>
      readonly onActivity: (again: () => void) => Effect.Effect<void, never, R2>
      readonly isBusy?: boolean | undefined
      readonly spentBefore?: Budget.SpentBefore | undefined
      readonly onEnd?: ((wallClockMillis: number) => void) | undefined
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
    const asks = yield* AnswerAsks.make(live, options, signals.onAnswered)
    const maxResumes = yield* TurnPolicy.MaxResumes

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
      Effect.catchIf(promptOnce(request), (error) => error.isRetryable && signals.isLost(), () => Effect.void)
    ).pipe((post) => Effect.andThen(options.confirm, post))

    signals.onPrompt()
    const promptedMillis = clock.now()
    const deadlines = yield* Deadlines.make({ clock, signals, live })
    const budget = yield* Budget.make({ clock, signals, live, spentBefore: options.spentBefore })
    let hadGap = false
    let hasWaited = false
    let resumes = 0

    const untilOver = Effect.gen(function*() {
      while (true) {
        yield* Effect.raceFirst(signals.heard, clock.until(deadlines.due().next))
        const news = signals.take()
        if (news.closed !== undefined) return yield* news.closed
        if (news.isDeleted) return yield* new SessionNotFound({ sessionId })
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
          ? yield* lookAfterGap(ids, live, subscription)
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
          return yield* new StaleSession({ sessionId, silentMillis: deadlines.silentMillis() })
        } else if (!deadlines.isIdleForSure() || signals.isLost()) {
          deadlines.lookAgain({ sinceMillis, isIdle: true })
        } else if (view.exchange.unread.hidden[0] !== undefined && live.current().frame.failure === undefined) {
          return yield* unreadAnswer(view.exchange.unread.hidden[0])
        } else if (isWithoutAnswer(view, live.current(), hadGap)) {
          return view.exchange
        } else if (resumes >= maxResumes || (view.exchange.isAccepted && !view.exchange.isCurrent)) {
          return yield* new TurnUnfinished({ sessionId, resumes })
        } else {
          resumes++
          live.update(Reply.markGap)
          yield* prompt
          deadlines.goOn()
          deadlines.lookAgain({ sinceMillis, isIdle: false, resumes })
        }
        if (sinceMillis >= due.finalExchange) {
          const limit = yield* TurnPolicy.FinalExchange
          return yield* new TurnTimeout({ limit: "finalExchange", millis: Duration.toMillis(limit) })
        }
        if (deadlines.isEnding() && !hasWaited && live.current().frame.failure === undefined) {
          hasWaited = true
          yield* tracer.emit("response.waiting_for_final_text", {
            message_id: options.messageId,
            subject_id: options.conversationId
          })
        }
      }
    })

    /** Holds whatever the loop is at. The answer may be there all the same. */
    const timeLimit = Effect.gen(function*() {
      const millis = Duration.toMillis(yield* TurnPolicy.WholeStream)
      yield* clock.until(promptedMillis + millis)
      const view = Option.getOrUndefined(
        yield* Effect.timeoutOption(ifPossible(CatchUp.look(ids, live)), yield* TurnPolicy.StopTimeout)
      )
      if (view !== undefined && isOver(view)) return view.exchange
      return yield* new TurnTimeout({ limit: "wholeStream", millis })
    })

    const takeOpen = Effect.andThen(takePending(live, subscription), Effect.sync(signals.onAsksChanged))
    // What may have been posted before is looked for first, as after any other gap.
    const begin = live.current().frame.hasGap
      ? Effect.sync(signals.subscriber.onGap)
      : options.isBusy === true
      ? Effect.andThen(takeOpen, prompt)
      : prompt
    const ends = [Effect.andThen(begin, untilOver), timeLimit, asks.failed]
    const exchange = yield* Effect.raceAllFirst(budget.isLimited ? [...ends, budget.watch] : ends).pipe(
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
  subscription: Subscription
): Effect.fn.Return<Look, RequestError | SessionNotFound, Client> {
  const schedule = Schedule.spaced(yield* TurnPolicy.FinalExchangePoll)
  return yield* CatchUp.look(ids, live).pipe(
    Effect.tap((view) => (isOver(view) ? Effect.void : CatchUp.catchUp(live, subscription, view))),
    Effect.retry({ schedule, while: isRetryable })
  )
})

/** Undefined while the server cannot be asked. */
const ifPossible = <A, E extends { readonly isRetryable: boolean }, R>(look: Effect.Effect<A, E, R>) =>
  Effect.catchIf(look, isRetryable, () => Effect.undefined)

const isRetryable = (error: { readonly isRetryable: boolean }): boolean => error.isRetryable

const isOver = ({ exchange, isIdle }: View): boolean =>
  isIdle ? Exchange.isFinalWhenIdle(exchange) : Exchange.isFinal(exchange)

/** The server is idle and will say no more: it failed the turn, or ended it, on an unbroken stream, without a message. */
const isWithoutAnswer = ({ exchange }: View, reply: Reply.Reply, hadGap: boolean): boolean =>
  reply.frame.failure !== undefined || (!hadGap && exchange.isAccepted && exchange.steps.length === 0)
