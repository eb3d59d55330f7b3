/**
 * Drives one prompt to the end of its answer: subscribes, prompts once, folds the events into the reply, and reads the server's record
 * whenever the stream does not tell the whole story.
 *
 * **Responsibilities**
 * - The prompt leaves only once the stream is open; a lost stream is reopened without prompting.
 * - After a gap nothing is decided before what it hid was read (`CatchUp`).
 * - The end is the server's word: an `idle` from the stream raises the question, and the stored exchange decides it.
 * - A turn that the server left unfinished (killed and restarted) is posted again under the same ids.
 * - Where the session is busy already, what it waits for is taken to the gate (`PendingAsks`): the prompt is queued behind it.
 * - Its budget (`Budget`) and the absence of the server end a turn whatever it is at.
 *
 * **Not responsibilities**: what news mean for the prompt (`PromptState`), which session (`EnsureSession`), what to make of an empty or
 * failed answer (`Settle`), storing.
 *
 * ```
 *   events ─▶ reply ─▶ PromptState.next ─▶ actions ─▶ read the record, post again, tell of activity, take asks to the gate
 *                            ▲                                          │
 *                            └──────────── what came of it ─────────────┘
 * ```
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import type { AssistantMessageId, ConversationId, MessageId, SessionId } from "../domain/Ids.ts"
import { Tracer } from "../domain/Tracer.ts"
import type { HumanTimeout } from "../domain/TurnError.ts"
import { BudgetExceeded } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { Client } from "../opencode/Client.ts"
import type { EventsError, RequestError, SessionNotFound } from "../opencode/ClientError.ts"
import type { Subscriber, Subscription } from "../opencode/EventHub.ts"
import { millisFrom } from "../reply/EventOrder.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { IdentifiedPrompt } from "../store/StoredMessage.ts"
import * as AnswerAsks from "./AnswerAsks.ts"
import * as Budget from "./Budget.ts"
import * as CatchUp from "./CatchUp.ts"
import type { LiveReply } from "./LiveReply.ts"
import { takePending } from "./PendingAsks.ts"
import * as PromptCell from "./PromptCell.ts"
import * as PromptState from "./PromptState.ts"
import { promptOnce, readExchange } from "./ReadExchange.ts"
import * as TurnSize from "./TurnSize.ts"

/**
 * @category errors
 * @since 0.1.0
 */
export type DriveError =
  | RequestError
  | EventsError
  | SessionNotFound
  | PromptState.PromptError
  | BudgetExceeded
  | HumanTimeout

/**
 * What a drive comes to: the exchange as the server stored it last, and the refusals that the gate gave meanwhile.
 *
 * @category models
 * @since 0.1.0
 */
export interface Driven {
  readonly exchange: Exchange.Exchange
  readonly refusals: ReadonlyArray<AnswerAsks.Refusal>
}

/**
 * Drives the prompt until its exchange is final, or is known to stay without an answer. The reply is folded into `live`.
 *
 * **Details**
 *
 * - `confirm`: runs right before each time the prompt is posted. Its failure is the end of the drive.
 * - `onActivity`: runs at most every `TurnPolicy.ActivityTick`. It starts a fiber that tells of activity; where that gives `false`, the
 *   next sign of life tells of it again.
 * - `isBusy`: the session works on something already. What that waits for is found then.
 * - `spentMillis`: how long the turn took so far, without the time in which a person was asked. However the drive ends, it adds what it
 *   took.
 *
 * @category steps
 * @since 0.1.0
 */
export const drive = Effect.fn("Turn.drive")(
  function*<E extends { readonly _tag: string; readonly message: string }, R1 = never, R2 = never>(
    request: IdentifiedPrompt,
    live: LiveReply,
    options: {
      readonly conversationId: ConversationId
      readonly messageId: AssistantMessageId
      readonly confirm: Effect.Effect<void, E, R1>
      readonly onActivity?: Effect.Effect<Fiber.Fiber<boolean> | undefined, never, R2> | undefined
      readonly isBusy?: boolean | undefined
      readonly spentMillis?: Ref.Ref<number> | undefined
    }
  ) {
    const client = yield* Client
    const tracer = yield* Tracer
    const scope = yield* Effect.scope
    const budget = yield* TurnPolicy.Budget
    const { sessionId } = request
    const ids = { sessionId, promptId: request.prompt.ids.promptId }
    const spentMillis = options.spentMillis ?? (yield* Ref.make(0))
    const spentBefore = Budget.spentOn(live.earlier(), yield* Ref.get(spentMillis))
    const cell = yield* PromptCell.make({
      ...ids,
      limits: yield* limits,
      spentMillis: spentBefore.wallClockMillis
    })
    const weigh = () => {
      if (!cell.state().hasGrown) return
      cell.tell({ _tag: "Weighed", tooLarge: TurnSize.exceeded(budget, live.current()) })
    }
    yield* live.listen((before, after) => {
      // A delta to a part that is open makes nothing larger that is counted.
      if (before.session === after.session && before.entries === after.entries) return
      const hasAsks = before.session.asks !== after.session.asks
      if (!hasAsks && cell.state().hasGrown) return
      cell.tell({ _tag: "Changed", asks: hasAsks ? { isBlocked: Reply.isBlocked(after) } : undefined })
    })
    const startedMillis = yield* Clock.currentTimeMillis
    const subscriber = subscriberOf({ cell, live, weigh, clock: yield* Clock.Clock })
    const subscription = yield* client.subscribe(sessionId, subscriber)
    /** Made with the first ask: most turns have none. */
    const asking = yield* Ref.make<AnswerAsks.AnswerAsks | undefined>(undefined)

    const interrupted = Effect.fnUntraced(function*(error: { readonly _tag: string; readonly message: string }) {
      yield* tracer.emit("stream.interrupted", {
        duration_ms: (yield* Clock.currentTimeMillis) - startedMillis,
        event_count: live.current().eventCount,
        error: error._tag,
        error_message: error.message.slice(0, 200)
      })
    })

    /** What breaks off with the server may still be done when it is back: the loop finds out. */
    const post = Effect.catchIf(
      promptOnce(request),
      (error) => error.isRetryable && cell.state().lost !== undefined,
      () => Effect.void
    )
    const prompt = Effect.andThen(options.confirm, post)

    /** Undefined while the server cannot be asked. */
    const ifPossible = <A, E extends RequestError | SessionNotFound, R>(look: Effect.Effect<A, E, R>) =>
      Effect.catchIf(look, isRetryable, ({ _tag, message }) =>
        Effect.sync(() => {
          cell.tell({ _tag: "Refused", failure: { name: _tag, message, isRetryable: true } })
          return undefined
        }))

    const lookFor = Effect.fnUntraced(function*(kind: Look["kind"], untilMillis: number) {
      const before = live.current()
      if (kind === "afterGap") {
        const look = yield* lookAfterGap(ids, live, subscription)
        weigh()
        return { ...look, hasCaughtUp: live.current() !== before }
      }
      const look = ifPossible(kind === "forEnd" ? lookForEnd(ids, live) : CatchUp.look(ids, live))
      const view = yield* Effect.raceFirst(look, Effect.as(cell.until(() => false, untilMillis), undefined))
      return { view, retries: [], hasCaughtUp: false }
    })

    const tick = Effect.gen(function*() {
      const ticking = options.onActivity === undefined ? undefined : yield* options.onActivity
      if (ticking === undefined) return
      const isDone = Effect.map(Fiber.await(ticking), (exit) => !Exit.isSuccess(exit) || exit.value)
      const tell = Effect.map(isDone, (isDone) => isDone ? undefined : void cell.tell({ _tag: "TickFailed" }))
      yield* Effect.forkIn(tell, scope, { startImmediately: true })
    })

    const syncAsks = Effect.gen(function*() {
      const known = yield* Ref.get(asking)
      if (known !== undefined) return yield* known.sync
      const asks = yield* AnswerAsks.make(live, options)
      yield* Ref.set(asking, asks)
      const tell = Effect.catch(
        asks.failed,
        (error) => Effect.sync(() => void cell.tell({ _tag: "Unanswered", error }))
      )
      yield* Effect.forkIn(tell, scope)
      yield* asks.sync
    })

    /** Does what follows from the news; gives the exchange once the drive is over. */
    const act = Effect.fnUntraced(function*(first: ReadonlyArray<PromptState.Action>) {
      const actions = [...first]
      for (const action of actions) {
        switch (action._tag) {
          case "ReportLost":
            yield* interrupted(action.error)
            break
          case "ReportWaiting":
            yield* tracer.emit("response.waiting_for_final_text", {
              message_id: options.messageId,
              subject_id: options.conversationId
            })
            break
          case "Tick":
            yield* tick
            break
          case "SyncAsks":
            yield* syncAsks
            break
          case "Look": {
            const looked = yield* lookFor(action.kind, action.untilMillis)
            const { failure } = live.current().session
            actions.push(
              ...cell.tell({ _tag: "Looked", ...looked, failure, trouble: Reply.trouble(live.current()) })
            )
            break
          }
          case "Post":
            live.update(Reply.markGap)
            yield* prompt
            cell.tell({ _tag: "Reposted", sinceMillis: action.sinceMillis })
            break
          case "End":
            return action.exchange
          case "Fail":
            return yield* action.error
        }
      }
      return undefined
    })

    const lookBriefly = Effect.gen(function*() {
      const look = ifPossible(CatchUp.look(ids, live))
      return Option.getOrUndefined(yield* Effect.timeoutOption(look, yield* TurnPolicy.StopTimeout))
    })

    /** When a limit of time is crossed, the answer may be there all the same. */
    const overBudget = Effect.fnUntraced(function*(exceeded: BudgetExceeded) {
      if (exceeded.limit !== "wallClock" && exceeded.limit !== "stall") return yield* exceeded
      const view = yield* lookBriefly
      if (view !== undefined && PromptState.isOver(view)) return view.exchange
      const { allowed, limit, value } = exceeded
      const last = Reply.trouble(live.current()) ?? cell.state().refusal
      return yield* new BudgetExceeded({ limit, allowed, value, ...(last !== undefined && { last }) })
    })

    /**
     * Fails once the server was gone for too long: its stream did not come back, and it does not answer. A server that answers although
     * its stream is lost is asked from time to time.
     */
    const gone = Effect.fnUntraced(function*(lost: EventsError) {
      const view = yield* lookBriefly
      if (view === undefined) return yield* lost
      cell.tell({ _tag: "Reached" })
      return PromptState.isOver(view) ? view.exchange : undefined
    })

    const isBudgetDue = Budget.isDue(budget)
    const isCheckDue = (state: PromptState.PromptState) => isBudgetDue(state) || state.unanswered !== undefined
    const checkDue = () => Math.min(Budget.timeDue(cell.state()), PromptState.goneDue(cell.state()))

    /** Ends the turn for what it has used or waited for, whatever it is at. */
    const check = Effect.gen(function*() {
      const { lost, stillSinceMillis, unanswered } = cell.state()
      const isTimeUp = stillSinceMillis === undefined && cell.millis() >= checkDue()
      if (!isTimeUp && !isCheckDue(cell.state())) return undefined
      if (unanswered !== undefined) return yield* unanswered
      if (lost !== undefined && cell.millis() >= PromptState.goneDue(cell.state())) {
        const exchange = yield* gone(lost)
        if (exchange !== undefined) return exchange
      }
      return yield* Effect.catchTag(Budget.checkNow(cell, live, spentBefore), "BudgetExceeded", overBudget)
    })
    /** Holds while the turn works at something that may take long. */
    const checking = Effect.gen(function*() {
      while (true) {
        const { lost } = cell.state()
        yield* cell.until((state) => isCheckDue(state) || state.lost !== lost, checkDue())
        const exchange = yield* check
        if (exchange !== undefined) return exchange
      }
    })

    /** While nothing happens, this one fiber waits for whatever comes next. */
    const untilOver = Effect.gen(function*() {
      while (true) {
        yield* cell.until(
          (state) => PromptState.hasNews(state) || isCheckDue(state),
          Math.min(PromptState.due(cell.state()).next, checkDue())
        )
        const over = yield* check
        if (over !== undefined) return over
        const actions = cell.tell({ _tag: "Woken" })
        if (actions.length === 0) continue
        const exchange = yield* Effect.raceFirst(act(actions), checking)
        if (exchange !== undefined) return exchange
      }
    })

    cell.tell({ _tag: "Prompting" })
    // What may have been posted before is looked for first, as after any other gap.
    const begin = live.current().session.hasGap
      ? Effect.sync(subscriber.onGap)
      : options.isBusy === true
      ? takePending(live, subscription).pipe(Effect.andThen(Effect.sync(weigh)), Effect.andThen(prompt))
      : prompt
    const toEnd = Effect.gen(function*() {
      const over = yield* Effect.raceFirst(Effect.as(begin, undefined), checking)
      return over ?? (yield* untilOver)
    })
    const exchange = yield* toEnd.pipe(
      Effect.ensuring(Effect.suspend(() => Ref.set(spentMillis, Budget.wallClockMillis(cell)))),
      Effect.tapError(interrupted)
    )
    // The end may come with the first text, and before its flush.
    const textMillis = Reply.hasText(live.current()) ? cell.totalMillis() : undefined
    yield* tracer.emit("stream.completed", {
      duration_ms: (yield* Clock.currentTimeMillis) - startedMillis,
      first_token_ms: cell.state().firstTextMillis ?? textMillis ?? null,
      event_count: live.current().eventCount,
      tool_count: Reply.parts(live.current()).filter((part) => part.type === "tool").length
    })
    const driven: Driven = { exchange, refusals: (yield* Ref.get(asking))?.refusals() ?? [] }
    return driven
  },
  Effect.scoped
)

// internal

type Look = Extract<PromptState.Action, { readonly _tag: "Look" }>

const limits = Effect.gen(function*() {
  const limits: PromptState.Limits = {
    firstEventMillis: Duration.toMillis(yield* TurnPolicy.FirstEvent),
    finalExchangeMillis: Duration.toMillis(yield* TurnPolicy.FinalExchange),
    pollMillis: Duration.toMillis(yield* TurnPolicy.FinalExchangePoll),
    activityTickMillis: Duration.toMillis(yield* TurnPolicy.ActivityTick),
    absenceMillis: Duration.toMillis(yield* TurnPolicy.ServerAbsence),
    maxReposts: yield* TurnPolicy.MaxReposts,
    maxIdleSteps: yield* TurnPolicy.MaxIdleSteps,
    budget: yield* TurnPolicy.Budget
  }
  return limits
})

/** What the event stream tells of the prompt: folded into its reply, then told to its state. */
const subscriberOf = ({ cell, clock, live, weigh }: {
  readonly cell: PromptCell.PromptCell
  readonly clock: Clock.Clock
  readonly live: LiveReply
  readonly weigh: () => void
}): Subscriber => ({
  onEvent: (event) => {
    if (PromptState.isOfOther(cell.state(), event)) return
    const told = live.apply(event)
    if (told === undefined || told._tag === "Grew") return
    if (told._tag === "Status" && told.status.type === "retry") {
      const { message, nextMillis } = told.status
      const waitMillis = millisFrom(told.eventId, nextMillis) ??
        PromptState.waitByOurClock(nextMillis, clock.currentTimeMillisUnsafe())
      cell.tell({ _tag: "RetryAnnounced", retry: { message, nextMillis, waitMillis } })
    }
    cell.tell({ _tag: "Folded", told, reply: live.current() })
  },
  onFlush: () => {
    // Once for all events that came together; the hub bounds how many these are.
    weigh()
    live.flush()
    const hasText = cell.state().firstTextMillis === undefined && Reply.hasText(live.current())
    cell.tell({ _tag: "Heard", hasText })
  },
  onHeartbeat: () => void cell.tell({ _tag: "Heartbeat" }),
  onLost: (error) => {
    live.update(Reply.markGap)
    cell.tell({ _tag: "Lost", error })
  },
  onGap: () => {
    live.update(Reply.markGap)
    cell.tell({ _tag: "Back" })
  },
  onClosed: (error) => void cell.tell({ _tag: "Closed", error })
})

/** After an `idle` the exchange is nearly always final, and then nobody needs to ask what the session does. */
const lookForEnd = Effect.fnUntraced(function*(
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  live: LiveReply
): Effect.fn.Return<PromptState.View, RequestError | SessionNotFound, Client> {
  const exchange = yield* readExchange(ids, live.current())
  return Exchange.isFinal(exchange) ? { exchange, isIdle: true } : yield* CatchUp.look(ids, live)
})

/** Tries until the server can be asked again, as long as the turn may last. */
const lookAfterGap = Effect.fnUntraced(function*(
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  live: LiveReply,
  subscription: Subscription
) {
  const schedule = Schedule.spaced(yield* TurnPolicy.FinalExchangePoll)
  const view = yield* CatchUp.look(ids, live).pipe(
    Effect.tap((view) => (PromptState.isOver(view) ? Effect.void : CatchUp.catchUp(live, subscription, view))),
    Effect.retry({ schedule, while: isRetryable })
  )
  const nowMillis = yield* Clock.currentTimeMillis
  const retries = Array.from(view.statuses).flatMap(([id, status]): ReadonlyArray<PromptState.AnnouncedRetry> => {
    if (status.type !== "retry" || !Reply.isInTree(live.current(), id)) return []
    const { message, nextMillis } = status
    return [{ message, nextMillis, waitMillis: PromptState.waitByOurClock(nextMillis, nowMillis) }]
  })
  return { view, retries }
})

const isRetryable = (error: { readonly isRetryable: boolean }): boolean => error.isRetryable
