/**
 * The time that counts for the deadlines of a turn: it stands still while a person is asked.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

/**
 * **Details**
 *
 * `now` is in milliseconds since the clock was made, without the stretches in which it stood still; `total` is with them.
 * `until` waits until `now` has come to `millis`; for `Infinity` it waits for ever.
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnClock {
  readonly now: () => number
  readonly total: () => number
  readonly setStill: (isStill: boolean) => void
  readonly until: (millis: number) => Effect.Effect<void>
}

/**
 * A clock that runs. It measures by the monotonic clock: a change of the system's time moves no deadline.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<TurnClock> = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const monotonicMillis = () => Number(clock.monotonicTimeNanosUnsafe() / nanosPerMilli)
  /** There while it stands still, and opens when it goes on. */
  let still: Latch.Latch | undefined
  const madeMillis = monotonicMillis()
  let stoodMillis = 0
  let stillSinceMillis: number | undefined
  const now = () => (stillSinceMillis ?? monotonicMillis()) - madeMillis - stoodMillis

  return {
    now,
    total: () => monotonicMillis() - madeMillis,
    setStill: (isStill) => {
      if (isStill === (stillSinceMillis !== undefined)) return
      const atMillis = monotonicMillis()
      stoodMillis += stillSinceMillis === undefined ? 0 : atMillis - stillSinceMillis
      stillSinceMillis = isStill ? atMillis : undefined
      const stood = still
      still = isStill ? Latch.makeUnsafe(false) : undefined
      stood?.openUnsafe()
    },
    until: (millis) => {
      if (millis === Number.POSITIVE_INFINITY) return Effect.never
      const wait: Effect.Effect<void> = Effect.suspend(() => {
        if (still !== undefined) return Effect.andThen(still.await, wait)
        const leftMillis = millis - now()
        return leftMillis <= 0 ? Effect.void : Effect.andThen(Effect.sleep(leftMillis), wait)
      })
      return wait
    }
  }
})

// internal

const nanosPerMilli = 1_000_000n
