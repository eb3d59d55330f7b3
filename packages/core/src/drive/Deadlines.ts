/**
 * What a running turn waits for, and how long: the deadlines of `TurnPolicy`, and the looks at the server's record while the
 * turn may have ended.
 *
 * **Not responsibilities**: the limits that hold whatever the turn is at (`Budget`); what is done when a deadline passes.
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
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { TurnClock } from "./TurnClock.ts"
import type { TurnSignals } from "./TurnSignals.ts"

/**
 * When what is due; `Infinity` for what is not waited for.
 *
 * **Details**
 *
 * - `firstEvent`: nothing of the turn has been heard.
 * - `ended`: the last message has ended, and no `idle` has followed it.
 * - `nextLook`: the record is to be looked at again, because the turn may have ended.
 * - `finalExchange`: it has been looked at for long enough.
 * - `next`: the soonest of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Due {
  readonly firstEvent: number
  readonly ended: number
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
}): Effect.fn.Return<Deadlines> {
  const { clock, signals } = options
  const firstEventMillis = Duration.toMillis(yield* TurnPolicy.FirstEvent)
  const finalExchangeMillis = Duration.toMillis(yield* TurnPolicy.FinalExchange)
  const pollMillis = Duration.toMillis(yield* TurnPolicy.FinalExchangePoll)
  let waitingMillis = clock.now()
  let ending: Ending | undefined

  const due = (): Due => {
    const heardMillis = signals.lastEventMillis()
    const firstEvent = signals.hasStarted() ? never : waitingMillis + firstEventMillis
    // After the last message's end an `idle` is to come. It does not come where it was lost, nor where somebody else's prompt follows
    // in the session: what is heard then is the other one's.
    const endedMillis = signals.endedMillis()
    const ended = endedMillis === undefined || ending !== undefined
      ? never
      : waitingMillis > endedMillis
      ? waitingMillis + pollMillis
      : endedMillis + endLookMillis
    const nextLook = ending?.nextLookMillis ?? never
    const finalExchange = ending === undefined
      ? never
      : Math.max(ending.sinceMillis, heardMillis) + finalExchangeMillis
    return { firstEvent, ended, nextLook, finalExchange, next: Math.min(firstEvent, ended, nextLook, finalExchange) }
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

/** The `idle` follows some 10 ms after the end of the last message (1.18.33). */
const endLookMillis = 500
