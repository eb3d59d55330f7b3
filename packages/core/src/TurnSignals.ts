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
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { EventsError } from "./ClientError.ts"
import type { Subscriber } from "./EventHub.ts"
import type { MessageId, SessionId } from "./Ids.ts"
import type { LiveReply } from "./LiveReply.ts"
import * as Reply from "./Reply.ts"
import type { TurnClock } from "./TurnClock.ts"
import type { TurnEvent } from "./TurnEvent.ts"
import * as TurnPolicy from "./TurnPolicy.ts"

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
  /** The stream is lost and not back yet. */
  readonly isLost: () => boolean
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
  const news = Latch.makeUnsafe(false)
  const counts = Latch.makeUnsafe(false)
  let signals = none
  let isPrompting = false
  let hasStarted = false
  let hasAnswer = false
  let isLost = false
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
    if (firstTextMillis === undefined && live.current().hasText) firstTextMillis = clock.total()
  }
  const tick = () => {
    // A conversation in which a person is waited for is not abandoned: ticks do not stand still.
    const nowMillis = clock.total()
    if (nowMillis - lastTickMillis < activityTickMillis) return
    lastTickMillis = nowMillis
    signal({ isActive: true })
  }
  const onAsksChanged = () => {
    clock.setStill(Reply.isBlocked(live.current()))
    signal({ hasAsks: true })
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
        const { asks } = live.current().frame
        live.apply(event)
        if (event._tag === "PartDelta") return
        hasCounted ||= mayCount(event)
        if (event.sessionId === ids.sessionId) onRootEvent(event)
        if (live.current().frame.asks !== asks) onAsksChanged()
      },
      onFlush: () => {
        lastEventMillis = clock.now()
        lastProgressMillis = lastEventMillis
        noteFirstText()
        live.flush()
        tick()
        if (hasCounted) {
          hasCounted = false
          counts.openUnsafe()
        }
      },
      onHeartbeat: tick,
      onLost: (error) => {
        isLost = true
        live.update(Reply.markGap)
        signal({ lost: error })
      },
      onGap: () => {
        isLost = false
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
    counted: Effect.andThen(counts.await, Effect.sync(() => void counts.closeUnsafe())),
    onAsksChanged,
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
    isLost: () => isLost,
    lastEventMillis: () => lastEventMillis,
    lastProgressMillis: () => lastProgressMillis,
    firstTextMillis: () => {
      // The end may come with the first text, and before its flush.
      noteFirstText()
      return firstTextMillis
    }
  }
})

// internal

const none: Signals = {
  isIdle: false,
  isBusy: false,
  hasFailed: false,
  isDeleted: false,
  hasGap: false,
  hasAsks: false,
  isActive: false,
  lost: undefined,
  closed: undefined
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

const isOwn = ({ frame }: Reply.Reply, id: MessageId): boolean =>
  frame.messages.some((message) => message.id === id && message.ownership !== "foreign")
