/**
 * What a drive does: it carries out the actions that follow from the news, and ends a prompt that would otherwise never end.
 *
 * **Responsibilities**: the actions of `PromptState`; the checks of the budget, of a server that is gone, and of an unanswered ask.
 *
 * **Not responsibilities**: what comes when (`Drive`).
 *
 * Functions of one record, because a closure for each of them would cost every turn that waits some 500 bytes.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { AssistantMessageId, ConversationId, MessageId, SessionId } from "../domain/Ids.ts"
import * as Metrics from "../domain/Metrics.ts"
import type { Tracer } from "../domain/Tracer.ts"
import { BudgetExceeded } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { Client } from "../opencode/Client.ts"
import type { EventsError, RequestError, SessionNotFound } from "../opencode/ClientError.ts"
import type { Subscription } from "../opencode/EventHub.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { IdentifiedPrompt } from "../store/StoredMessage.ts"
import * as AnswerAsks from "./AnswerAsks.ts"
import * as Budget from "./Budget.ts"
import * as CatchUp from "./CatchUp.ts"
import type { LiveReply } from "./LiveReply.ts"
import type * as PromptCell from "./PromptCell.ts"
import * as PromptState from "./PromptState.ts"
import { promptOnce, readExchange } from "./ReadExchange.ts"
import * as TurnSize from "./TurnSize.ts"

/**
 * What the events of the prompt are folded into.
 *
 * @category models
 * @since 0.1.0
 */
export interface Folding {
  readonly cell: PromptCell.PromptCell
  readonly live: LiveReply
  readonly budget: TurnPolicy.Budget
}

/**
 * @category models
 * @since 0.1.0
 */
export interface DrivingOptions<E, R1, R2> {
  readonly conversationId: ConversationId
  readonly messageId: AssistantMessageId
  readonly confirm: Effect.Effect<void, E, R1>
  readonly onActivity?: Effect.Effect<Fiber.Fiber<boolean> | undefined, never, R2> | undefined
}

/**
 * A drive that has subscribed. `asking` is made with the first ask, because most turns have none. `spentBefore` is what the prompts of the
 * same turn before this one used.
 *
 * @category models
 * @since 0.1.0
 */
export interface Driving<E, R1, R2> extends Folding {
  readonly request: IdentifiedPrompt
  readonly options: DrivingOptions<E, R1, R2>
  readonly tracer: Tracer["Service"]
  readonly scope: Scope.Scope
  readonly subscription: Subscription
  readonly startedMillis: number
  readonly spentBefore: Budget.SpentBefore
  readonly asking: Ref.Ref<AnswerAsks.AnswerAsks | undefined>
}

/**
 * Weighs the reply if it has grown.
 *
 * @category steps
 * @since 0.1.0
 */
export const weigh = ({ budget, cell, live }: Folding): void => {
  if (!cell.state().hasGrown) return
  cell.tell({ _tag: "Weighed", tooLarge: TurnSize.exceeded(budget, live.current()) })
}

/**
 * @category steps
 * @since 0.1.0
 */
export const reportLost = Effect.fnUntraced(function*<E, R1, R2>(
  { live, startedMillis, tracer }: Driving<E, R1, R2>,
  error: { readonly _tag: string; readonly message: string }
) {
  yield* tracer.emit("stream.interrupted", {
    duration_ms: (yield* Clock.currentTimeMillis) - startedMillis,
    event_count: live.current().eventCount,
    error: error._tag,
    error_message: error.message.slice(0, 200)
  })
})

/**
 * Posts the prompt once it is confirmed, or makes its session go on with it. What breaks off with the server may still be done when it is
 * back: the loop finds out.
 *
 * @category steps
 * @since 0.1.0
 */
export const post = <E, R1, R2>({ cell, options, request }: Driving<E, R1, R2>, isAgain = false) =>
  Effect.andThen(
    options.confirm,
    Effect.catchIf(
      promptOnce(request, isAgain),
      (error) => error.isRetryable && cell.state().lost !== undefined,
      () => Effect.void
    )
  )

/**
 * Does what follows from the news; gives the exchange once the drive is over.
 *
 * @category steps
 * @since 0.1.0
 */
export const act = Effect.fnUntraced(function*<E, R1, R2>(
  driving: Driving<E, R1, R2>,
  first: ReadonlyArray<PromptState.Action>
) {
  const { cell, live, options, tracer } = driving
  const actions = [...first]
  for (const action of actions) {
    switch (action._tag) {
      case "ReportLost":
        yield* reportLost(driving, action.error)
        break
      case "ReportWaiting":
        yield* tracer.emit("response.waiting_for_final_text", {
          message_id: options.messageId,
          subject_id: options.conversationId
        })
        break
      case "Tick":
        yield* tick(driving)
        break
      case "SyncAsks":
        yield* syncAsks(driving)
        break
      case "Look": {
        const looked = yield* lookFor(driving, action)
        const { failure } = live.current().session
        actions.push(...cell.tell({ _tag: "Looked", ...looked, failure, trouble: Reply.trouble(live.current()) }))
        break
      }
      case "Post":
        live.update(Reply.abandonTry)
        yield* post(driving, true)
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

/**
 * Whether `check` has something to check.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isCheckDue = ({ budget }: Folding, state: PromptState.PromptState): boolean =>
  Budget.isDue(budget, state) || state.humanTimeout !== undefined

/**
 * When `check` is to run in any case, by the prompt's clock.
 *
 * @category getters
 * @since 0.1.0
 */
export const checkDue = ({ cell }: Folding): number =>
  Math.min(Budget.timeDue(cell.state()), PromptState.goneDue(cell.state()))

/**
 * Ends the turn for what it has used or waited for, whatever it is at; gives the exchange if it is final all the same.
 *
 * @category steps
 * @since 0.1.0
 */
export const check = Effect.fnUntraced(function*<E, R1, R2>(driving: Driving<E, R1, R2>) {
  const { cell, live, spentBefore } = driving
  const { humanTimeout, lost, stillSinceMillis } = cell.state()
  const isTimeUp = stillSinceMillis === undefined && cell.millis() >= checkDue(driving)
  if (!isTimeUp && !isCheckDue(driving, cell.state())) return undefined
  if (humanTimeout !== undefined) return yield* humanTimeout
  if (lost !== undefined && cell.millis() >= PromptState.goneDue(cell.state())) {
    const exchange = yield* gone(driving, lost)
    if (exchange !== undefined) return exchange
  }
  const checked = yield* Effect.result(Budget.checkNow(cell, live, spentBefore))
  return Result.isFailure(checked) ? yield* overBudget(driving, checked.failure) : undefined
})

/**
 * Checks for as long as the turn works at something that may take long.
 *
 * @category steps
 * @since 0.1.0
 */
export const checking = Effect.fnUntraced(function*<E, R1, R2>(driving: Driving<E, R1, R2>) {
  const { cell } = driving
  while (true) {
    const { lost } = cell.state()
    yield* cell.until((state) => isCheckDue(driving, state) || state.lost !== lost, checkDue(driving))
    const exchange = yield* check(driving)
    if (exchange !== undefined) return exchange
  }
})

// internal

type Look = Extract<PromptState.Action, { readonly _tag: "Look" }>

const idsOf = <E, R1, R2>({ request }: Driving<E, R1, R2>) => ({
  sessionId: request.sessionId,
  promptId: request.prompt.ids.promptId
})

const tick = Effect.fnUntraced(function*<E, R1, R2>({ cell, options, scope }: Driving<E, R1, R2>) {
  const ticking = options.onActivity === undefined ? undefined : yield* options.onActivity
  if (ticking === undefined) return
  const isDone = Effect.map(Fiber.await(ticking), (exit) => !Exit.isSuccess(exit) || exit.value)
  const tell = Effect.map(isDone, (isDone) => isDone ? undefined : void cell.tell({ _tag: "TickFailed" }))
  yield* Effect.forkIn(tell, scope, { startImmediately: true })
})

const syncAsks = Effect.fnUntraced(function*<E, R1, R2>({ asking, cell, live, options, scope }: Driving<E, R1, R2>) {
  const known = yield* Ref.get(asking)
  if (known !== undefined) return yield* known.sync
  const asks = yield* Scope.provide(AnswerAsks.make(live, options), scope)
  yield* Ref.set(asking, asks)
  const tell = Effect.catch(asks.failed, (error) => Effect.sync(() => void cell.tell({ _tag: "Unanswered", error })))
  yield* Effect.forkIn(tell, scope)
  yield* asks.sync
})

/** Undefined while the server cannot be asked. */
const ifPossible = <A, E extends RequestError | SessionNotFound, R>(
  { cell }: Folding,
  look: Effect.Effect<A, E, R>
) =>
  Effect.catchIf(look, isRetryable, ({ _tag, message }) =>
    Effect.sync(() => {
      cell.tell({ _tag: "Unreachable", failure: { name: _tag, message, isRetryable: true } })
      return undefined
    }))

const lookFor = Effect.fnUntraced(function*<E, R1, R2>(
  driving: Driving<E, R1, R2>,
  { kind, untilMillis }: Look
) {
  const { cell, live, subscription } = driving
  const ids = idsOf(driving)
  const before = live.current()
  if (kind === "afterGap") {
    yield* Metrics.count(Metrics.gaps)
    const look = yield* lookAfterGap(ids, live, subscription)
    weigh(driving)
    return { ...look, hasCaughtUp: live.current() !== before }
  }
  const look = ifPossible(driving, kind === "forEnd" ? lookForEnd(ids, live) : CatchUp.look(ids, live))
  const view = yield* Effect.raceFirst(look, Effect.as(cell.until(() => false, untilMillis), undefined))
  return { view, retries: [], hasCaughtUp: false }
})

const lookBriefly = Effect.fnUntraced(function*<E, R1, R2>(driving: Driving<E, R1, R2>) {
  const look = ifPossible(driving, CatchUp.look(idsOf(driving), driving.live))
  return Option.getOrUndefined(yield* Effect.timeoutOption(look, yield* TurnPolicy.StopTimeout))
})

/** When a limit of time is crossed, the answer may be there all the same. */
const overBudget = Effect.fnUntraced(function*<E, R1, R2>(driving: Driving<E, R1, R2>, exceeded: BudgetExceeded) {
  if (exceeded.limit !== "wallClock" && exceeded.limit !== "stall") return yield* exceeded
  const view = yield* lookBriefly(driving)
  if (view !== undefined && PromptState.isOver(view)) return view.exchange
  const { allowed, limit, value } = exceeded
  const last = Reply.trouble(driving.live.current()) ?? driving.cell.state().lastFailure
  return yield* new BudgetExceeded({ limit, allowed, value, ...(last !== undefined && { last }) })
})

/**
 * Fails once the server was gone for too long: its stream did not come back, and it does not answer. A server that answers although its
 * stream is lost is asked from time to time.
 */
const gone = Effect.fnUntraced(function*<E, R1, R2>(driving: Driving<E, R1, R2>, lost: EventsError) {
  const view = yield* lookBriefly(driving)
  if (view === undefined) return yield* lost
  driving.cell.tell({ _tag: "Reachable" })
  return PromptState.isOver(view) ? view.exchange : undefined
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
