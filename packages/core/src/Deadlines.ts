/**
 * What a running turn waits for, and how long: the deadlines of `TurnPolicy`, and the looks at the server's record while the
 * turn may have ended.
 *
 * **Not responsibilities**: the limit of the whole stream, which holds whatever the turn is at (`Drive`); what is done when a
 * deadline passes.
 *
 * ```
 *              lookAgain (idle was heard)          lookAgain (the record says idle)
 *   working ───────────────────────────▶ in doubt ────────────────────────────────▶ idle: a second look is due soon
 *      ▲                                    │ ▲            lookAgain (it works)         │
 *      └────────────────────────────────────┴─┼─────────────────────────────────────────┘
 *                goOn (busy was heard)        └── every poll, until the final exchange's time is over
 * ```
 *
 * All times are the {@link TurnClock}'s.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { LiveReply } from "./LiveReply.ts"
import { isLast } from "./Message.ts"
import type * as Reply from "./Reply.ts"
import type { TurnClock } from "./TurnClock.ts"
import * as TurnPolicy from "./TurnPolicy.ts"
import type { TurnSignals } from "./TurnSignals.ts"

/**
 * When what is due; `Infinity` for what is not waited for.
 *
 * **Details**
 *
 * - `firstEvent`: nothing of the turn has been heard.
 * - `quiet`: nothing at all has been heard for long enough to ask.
 * - `nextLook`: the record is to be looked at again, because the turn may have ended.
 * - `finalExchange`: it has been looked at for long enough.
 * - `next`: the soonest of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Due {
  readonly firstEvent: number
  readonly quiet: number
  readonly nextLook: number
  readonly finalExchange: number
  readonly next: number
}

/**
 * **Details**
 *
 * - `worked`: the server says that it works, so what is waited for is waited for once more.
 * - `lookAgain`: the turn may have ended `since` then; `isIdle` is what the record said of its session. After each of the
 *   `resumes` it is given twice the time: a server that has just been restarted may need seconds before it begins.
 * - `goOn`: it has not.
 * - `isEnding`, `isIdleForSure`: whether a look is to come, and whether two of them, some time apart, found the session idle.
 * - `patience`: until when an answer to a look that is made now is waited for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Deadlines {
  readonly due: () => Due
  readonly worked: () => void
  readonly lookAgain: (ending: {
    readonly sinceMillis: number
    readonly isIdle: boolean
    readonly resumes?: number
  }) => void
  readonly goOn: () => void
  readonly isEnding: () => boolean
  readonly isIdleForSure: () => boolean
  readonly patience: () => number
  readonly silentMillis: () => number
}

/**
 * The deadlines of a turn whose prompt leaves now.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(options: {
  readonly clock: TurnClock
  readonly signals: TurnSignals
  readonly live: LiveReply
}): Effect.fn.Return<Deadlines> {
  const { clock, live, signals } = options
  const firstEventMillis = Duration.toMillis(yield* TurnPolicy.FirstEvent)
  const finalExchangeMillis = Duration.toMillis(yield* TurnPolicy.FinalExchange)
  const pollMillis = Duration.toMillis(yield* TurnPolicy.FinalExchangePoll)
  const idleStreamMillis = Option.match(yield* TurnPolicy.IdleStream, {
    onNone: () => never,
    onSome: Duration.toMillis
  })
  let waitingMillis = clock.now()
  let ending: Ending | undefined

  const due = (): Due => {
    const heardMillis = signals.lastEventMillis()
    // After the last message's end only an `idle` is to come: when it does not, it was lost.
    const quietLimit = hasEnded(live.current()) ? Math.min(pollMillis, idleStreamMillis) : idleStreamMillis
    const firstEvent = signals.hasStarted() ? never : waitingMillis + firstEventMillis
    const quiet = ending === undefined ? Math.max(waitingMillis, heardMillis) + quietLimit : never
    const nextLook = ending?.nextLookMillis ?? never
    const finalExchange = ending === undefined
      ? never
      : Math.max(ending.sinceMillis, heardMillis) + finalExchangeMillis
    return { firstEvent, quiet, nextLook, finalExchange, next: Math.min(firstEvent, quiet, nextLook, finalExchange) }
  }

  return {
    due,
    worked: () => {
      waitingMillis = clock.now()
    },
    lookAgain: ({ isIdle, resumes = 0, sinceMillis }) => {
      const nowMillis = clock.now()
      const idleSinceMillis = isIdle ? ending?.idleSinceMillis ?? nowMillis : undefined
      const secondLookAt = idleSinceMillis === undefined ? nowMillis : idleSinceMillis + secondLookMillis
      ending = {
        sinceMillis: ending?.sinceMillis ?? sinceMillis,
        idleSinceMillis,
        nextLookMillis: nowMillis < secondLookAt ? secondLookAt : nowMillis + pollMillis * 2 ** resumes
      }
    },
    goOn: () => {
      ending = undefined
    },
    isEnding: () => ending !== undefined,
    isIdleForSure: () =>
      ending?.idleSinceMillis !== undefined && clock.now() >= ending.idleSinceMillis + secondLookMillis,
    // However slow the server is, the wait for the final exchange ends at most one poll after its time.
    patience: () =>
      Math.max(Math.min(due().finalExchange, clock.now() + finalExchangeMillis), clock.now() + pollMillis),
    silentMillis: () => clock.now() - waitingMillis
  }
})

// internal

interface Ending {
  readonly sinceMillis: number
  readonly idleSinceMillis: number | undefined
  readonly nextLookMillis: number
}

const never = Number.POSITIVE_INFINITY

/** A failed turn's end is stored some 2 ms after its `idle` (1.18.33); a hundred times that is still soon. */
const secondLookMillis = 250

const hasEnded = ({ frame }: Reply.Reply): boolean => {
  const last = frame.messages.findLast(({ ownership }) => ownership === "ours")?.info
  return last !== undefined && isLast(last)
}
