/**
 * What the event stream tells a running turn: folded into its reply, and, where the turn must act, left as a signal.
 *
 * **Responsibilities**: the subscriber of the turn's session tree; the signals between two looks of the turn's loop, of which
 * the later takes back the earlier (`busy` after `idle`); when something was heard last, and what a budget counts.
 *
 * **Not responsibilities**: what to make of a signal (`Drive`).
 *
 * Everything in here is plain functions that the dispatcher calls: none waits, and nothing runs between two of them.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import type { MessageId, SessionId } from "../domain/Ids.ts"
import { isLast } from "../domain/Message.ts"
import type { BudgetExceeded, NoProgress, Upstream } from "../domain/TurnError.ts"
import type { StatusChanged, TurnEvent } from "../domain/TurnEvent.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { EventsError } from "../opencode/ClientError.ts"
import type { Subscriber } from "../opencode/EventHub.ts"
import { millisFrom } from "../reply/EventOrder.ts"
import * as Ordered from "../reply/Ordered.ts"
import * as Reply from "../reply/Reply.ts"
import * as IdleSteps from "./IdleSteps.ts"
import type { LiveReply } from "./LiveReply.ts"
import type { TurnClock } from "./TurnClock.ts"
import * as TurnSize from "./TurnSize.ts"

/**
 * What happened since the signals were taken last.
 *
 * **Details**
 *
 * - `isIdle`: the session says that it is idle, or one of the turn's messages ended with an error.
 * - `isBusy`: the session works on, whatever it said before.
 * - `hasFailed`: the session reported an error.
 * - `isDeleted`: the session is gone.
 * - `hasGap`: events may have been missed.
 * - `hasAsks`: what is asked has changed.
 * - `isActive`: the activity tick is due.
 * - `lost`: the stream was lost, and is being opened again. `closed`: it will not be.
 * - `stuck`: why the turn is to end, although the server works on (`IdleSteps`).
 * - `retry`: the model is to be called again, `waitMillis` from now on.
 *
 * @category models
 * @since 0.1.0
 */
export interface Signals {
  readonly isIdle: boolean
  readonly isBusy: boolean
  readonly hasFailed: boolean
  readonly isDeleted: boolean
  readonly hasGap: boolean
  readonly hasAsks: boolean
  readonly isActive: boolean
  readonly lost: EventsError | undefined
  readonly closed: EventsError | undefined
  readonly stuck: NoProgress | Upstream | undefined
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
 * **Details**
 *
 * `heard` waits until there is a signal, `take` gives those there are and forgets them. `counted` waits until something came
 * that a budget may count: a step, its usage, a retry of the model. Times are the {@link TurnClock}'s.
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnSignals {
  readonly subscriber: Subscriber
  readonly heard: Effect.Effect<void>
  readonly take: () => Signals
  readonly counted: Effect.Effect<void>
  /** Fails once the turn is larger than its budget allows. */
  readonly tooLarge: Effect.Effect<never, BudgetExceeded>
  /** What is asked was changed by something else than the stream. */
  readonly onAsksChanged: () => void
  /** It was changed by an answer that was given here. */
  readonly onAnswered: () => void
  /** The prompt leaves now: failures that the session reported before were those of another turn. */
  readonly onPrompt: () => void
  /** The server's record had something that the stream did not tell. */
  readonly onCaughtUp: () => void
  /** The server has something of the answer: an `idle` from now on is not the end of the turn before. */
  readonly onAnswerSeen: () => void
  /** The activity tick is due again with the next sign of life. */
  readonly onTickFailed: () => void
  /** The stream brought something of the turn's own. */
  readonly hasStarted: () => boolean
  /** Why the stream is lost, while it is not back yet. */
  readonly lost: () => EventsError | undefined
  /** Waits until the stream is lost, and until it is back. */
  readonly untilLost: Effect.Effect<void>
  readonly untilBack: Effect.Effect<void>
  /** When the last message of the answer ended; `undefined` while none has. */
  readonly endedMillis: () => number | undefined
  readonly lastEventMillis: () => number
  /** When something was heard or read of the turn, or an answer given. */
  readonly lastProgressMillis: () => number
  /** How long the first text took. */
  readonly firstTextMillis: () => number | undefined
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(options: {
  readonly ids: { readonly sessionId: SessionId; readonly promptId: MessageId }
  readonly live: LiveReply
  readonly clock: TurnClock
}): Effect.fn.Return<TurnSignals> {
  const { clock, ids, live } = options
  const activityTickMillis = Duration.toMillis(yield* TurnPolicy.ActivityTick)
  const idleSteps = IdleSteps.make(yield* TurnPolicy.MaxIdleSteps)
  const limits = yield* TurnPolicy.Budget
  const tooLarge = yield* Deferred.make<never, BudgetExceeded>()
  let weighed: Reply.Reply | undefined
  const ourTime = yield* Clock.Clock
  const news = Latch.makeUnsafe(false)
  const counts = Latch.makeUnsafe(false)
  let signals = none
  let isPrompting = false
  let hasStarted = false
  let hasAnswer = false
  let lost: EventsError | undefined
  const isLost = Latch.makeUnsafe(false)
  const isBack = Latch.makeUnsafe(true)
  let endedMillis: number | undefined
  let hasCounted = false
  let lastEventMillis = clock.now()
  let lastProgressMillis = lastEventMillis
  let lastTickMillis = clock.total()
  let firstTextMillis: number | undefined

  const signal = (changes: Partial<Signals>) => {
    signals = { ...signals, ...changes }
    news.openUnsafe()
  }
  const noteFirstText = () => {
    if (firstTextMillis === undefined && Reply.hasText(live.current())) firstTextMillis = clock.total()
  }
  const tick = () => {
    // A conversation in which a person is waited for is not abandoned: ticks do not stand still.
    const nowMillis = clock.total()
    if (nowMillis - lastTickMillis < activityTickMillis) return
    lastTickMillis = nowMillis
    signal({ isActive: true })
  }
  /** Nobody waits for a person on a server that is gone. */
  const setClock = () => clock.setStill(Reply.isBlocked(live.current()) && lost === undefined)
  /** Once for what came together: between two flushes the hub bounds how much that is. */
  const weigh = () => {
    const reply = live.current()
    // A run of deltas to one part makes nothing larger that is counted.
    if (reply.session === weighed?.session && reply.entries === weighed.entries) return
    weighed = reply
    const exceeded = TurnSize.exceeded(limits, reply)
    if (exceeded !== undefined) Deferred.doneUnsafe(tooLarge, Exit.fail(exceeded))
  }
  const onAsksChanged = () => {
    setClock()
    signal({ hasAsks: true })
  }
  /** Once the answer has ended, the session fails and asks for whoever prompted it next. */
  const isOfOther = ({ _tag, sessionId }: TurnEvent): boolean =>
    endedMillis !== undefined && sessionId === ids.sessionId && (_tag === "SessionFailed" || _tag === "Asked")
  const onRetry = (event: StatusChanged) => {
    if (event.status.type !== "retry") return
    const { message, nextMillis } = event.status
    const waitMillis = millisFrom(event.eventId, nextMillis) ??
      waitByOurClock(nextMillis, ourTime.currentTimeMillisUnsafe())
    if (waitMillis > (signals.retry?.waitMillis ?? 0)) signal({ retry: { message, nextMillis, waitMillis } })
  }

  const onRootEvent = (event: TurnEvent) => {
    switch (event._tag) {
      case "MessageUpdated": {
        const { info } = event
        if (info.role === "user") {
          hasStarted ||= info.id === ids.promptId
          return
        }
        if (!isOwn(live.current(), info.id)) return
        hasStarted = true
        endedMillis = hasEnded(live.current()) ? endedMillis ?? clock.now() : undefined
        // The end of a failed turn is stored after its `idle`. That of any other may be all that is heard of its end.
        if (info.error !== undefined) signal({ isIdle: true })
        else if (info.completedMillis !== undefined) news.openUnsafe()
        return
      }
      case "StatusChanged":
        if (event.status.type !== "idle") {
          hasStarted ||= isPrompting
          signal({ isIdle: false, isBusy: true })
        } else if (hasStarted || hasAnswer) {
          signal({ isIdle: true, isBusy: false })
        }
        return
      case "SessionFailed":
        hasStarted = true
        return signal({ hasFailed: true })
      case "SessionDeleted":
        return signal({ isDeleted: true })
      default:
        return
    }
  }

  return {
    subscriber: {
      onEvent: (event) => {
        if (event._tag === "SessionFailed" && !isPrompting) return
        if (isOfOther(event)) return
        const { asks } = live.current().session
        live.apply(event)
        if (event._tag === "PartDelta") return
        hasCounted ||= mayCount(event)
        idleSteps.apply(live.current(), event)
        if (idleSteps.found() !== undefined) signal({ stuck: idleSteps.found() })
        if (event._tag === "StatusChanged") onRetry(event)
        if (event.sessionId === ids.sessionId) onRootEvent(event)
        if (live.current().session.asks !== asks) onAsksChanged()
      },
      onFlush: () => {
        lastEventMillis = clock.now()
        lastProgressMillis = lastEventMillis
        noteFirstText()
        weigh()
        live.flush()
        tick()
        if (hasCounted) {
          hasCounted = false
          counts.openUnsafe()
        }
      },
      onHeartbeat: tick,
      onLost: (error) => {
        lost = error
        isBack.closeUnsafe()
        isLost.openUnsafe()
        setClock()
        live.update(Reply.markGap)
        signal({ lost: error })
      },
      onGap: () => {
        lost = undefined
        isLost.closeUnsafe()
        isBack.openUnsafe()
        setClock()
        live.update(Reply.markGap)
        signal({ hasGap: true })
      },
      onClosed: (error) => signal({ closed: error })
    },
    heard: news.await,
    take: () => {
      const taken = signals
      signals = none
      news.closeUnsafe()
      return taken
    },
    tooLarge: Deferred.await(tooLarge),
    counted: Effect.andThen(counts.await, Effect.sync(() => void counts.closeUnsafe())),
    onAsksChanged: () => {
      weigh()
      onAsksChanged()
    },
    onAnswered: () => {
      onAsksChanged()
      lastProgressMillis = clock.now()
    },
    onPrompt: () => {
      isPrompting = true
      lastEventMillis = clock.now()
      lastProgressMillis = lastEventMillis
    },
    onCaughtUp: () => {
      weigh()
      lastProgressMillis = clock.now()
      counts.openUnsafe()
    },
    onAnswerSeen: () => {
      hasAnswer = true
    },
    onTickFailed: () => {
      lastTickMillis = -Infinity
    },
    hasStarted: () => hasStarted,
    lost: () => lost,
    untilLost: isLost.await,
    untilBack: isBack.await,
    endedMillis: () => endedMillis,
    lastEventMillis: () => lastEventMillis,
    lastProgressMillis: () => lastProgressMillis,
    firstTextMillis: () => {
      // The end may come with the first text, and before its flush.
      noteFirstText()
      return firstTextMillis
    }
  }
})

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

const none: Signals = {
  isIdle: false,
  isBusy: false,
  hasFailed: false,
  isDeleted: false,
  hasGap: false,
  hasAsks: false,
  isActive: false,
  lost: undefined,
  closed: undefined,
  stuck: undefined,
  retry: undefined
}

/** Whether a step may have begun or ended with it, or the model is to be asked again. */
const mayCount = (event: TurnEvent): boolean => {
  switch (event._tag) {
    case "MessageUpdated":
      return event.info.role === "assistant"
    case "PartUpdated":
      return event.part.type === "step-finish"
    case "StatusChanged":
      return event.status.type === "retry"
    default:
      return false
  }
}

const hasEnded = ({ session }: Reply.Reply): boolean => {
  const last = Ordered.findLast(session.messages, ({ ownership }) => ownership === "ours")?.info
  return last !== undefined && isLast(last)
}

const isOwn = (reply: Reply.Reply, id: MessageId): boolean => {
  const message = Reply.message(reply, id)
  return message !== undefined && message.ownership !== "foreign"
}
