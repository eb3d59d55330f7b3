/**
 * Holds the state of one prompt: applies news to it, and lets fibers wait for it.
 *
 * The dispatcher of events tells news synchronously. A waiting fiber goes on at once, within the call of `tell` that makes its condition
 * true, so the caller must have finished its own changes by then.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as PromptState from "./PromptState.ts"

/**
 * **Details**
 *
 * - `tell` applies the news and gives what the drive has to do.
 * - `millis` is the time of the prompt's clock, which stands still while a person is asked. `totalMillis` is the time since the cell was
 *   made.
 * - `until` waits until the condition holds. `untilMillis` waits until the prompt's clock has come to that time; for `Infinity` it waits
 *   forever.
 *
 * @category models
 * @since 0.1.0
 */
export interface PromptCell {
  readonly state: () => PromptState.PromptState
  readonly tell: (news: PromptState.News) => ReadonlyArray<PromptState.Action>
  readonly millis: () => number
  readonly totalMillis: () => number
  readonly until: (isTrue: (state: PromptState.PromptState) => boolean) => Effect.Effect<void>
  readonly untilMillis: (millis: number) => Effect.Effect<void>
}

/**
 * Times are measured by the monotonic clock: a change of the system's time moves no deadline.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Parameters<typeof PromptState.make>[0]
): Effect.fn.Return<PromptCell> {
  const clock = yield* Clock.Clock
  const madeMillis = Number(clock.monotonicTimeNanosUnsafe() / nanosPerMilli)
  const totalMillis = () => Number(clock.monotonicTimeNanosUnsafe() / nanosPerMilli) - madeMillis
  const waiters = new Set<Waiter>()
  let state = PromptState.make(options)

  const millis = () => PromptState.clockMillis(state, totalMillis())
  const until: PromptCell["until"] = (isTrue) =>
    Effect.callback<void>((resume) => {
      if (isTrue(state)) return resume(Effect.void)
      const waiter = { isTrue, resume }
      waiters.add(waiter)
      return Effect.sync(() => void waiters.delete(waiter))
    })
  const untilMillis: PromptCell["untilMillis"] = (atMillis) =>
    atMillis === Number.POSITIVE_INFINITY ? Effect.never : Effect.suspend(() => {
      if (!isRunning(state)) return Effect.andThen(until(isRunning), untilMillis(atMillis))
      const leftMillis = atMillis - millis()
      return leftMillis <= 0 ? Effect.void : Effect.andThen(Effect.sleep(leftMillis), untilMillis(atMillis))
    })

  return {
    state: () => state,
    tell: (news) => {
      const [after, actions] = PromptState.next(state, news, totalMillis())
      if (after === state) return actions
      state = after
      for (const waiter of waiters) {
        if (!waiter.isTrue(state)) continue
        waiters.delete(waiter)
        waiter.resume(Effect.void)
      }
      return actions
    },
    millis,
    totalMillis,
    until,
    untilMillis
  }
})

// internal

interface Waiter {
  readonly isTrue: (state: PromptState.PromptState) => boolean
  readonly resume: (effect: Effect.Effect<void>) => void
}

const isRunning = ({ stillSinceMillis }: PromptState.PromptState): boolean => stillSinceMillis === undefined

const nanosPerMilli = 1_000_000n
