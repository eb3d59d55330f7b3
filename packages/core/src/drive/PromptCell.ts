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
 * - `until` waits until the condition holds, or until the prompt's clock has come to `atMillis` if that comes first.
 *
 * @category models
 * @since 0.1.0
 */
export interface PromptCell {
  readonly state: () => PromptState.PromptState
  readonly tell: (news: PromptState.News) => ReadonlyArray<PromptState.Action>
  readonly millis: () => number
  readonly totalMillis: () => number
  readonly until: (isTrue: (state: PromptState.PromptState) => boolean, atMillis?: number) => Effect.Effect<void>
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
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  const madeNanos = clock.monotonicTimeNanosUnsafe()
  const exactMillis = () => Number(clock.monotonicTimeNanosUnsafe() - madeNanos) / nanosPerMilli
  const totalMillis = () => Math.floor(exactMillis())
  const waiters = new Set<Waiter>()
  let state = PromptState.make(options)

  const millis = () => PromptState.clockMillis(state, totalMillis())
  const whenTrue = (isTrue: Waiter["isTrue"], onTrue: () => void): () => void => {
    const waiter = { isTrue, onTrue }
    waiters.add(waiter)
    return () => void waiters.delete(waiter)
  }
  const untilRunning = Effect.callback<void>((resume) => {
    if (isRunning(state)) return resume(Effect.void)
    return Effect.sync(whenTrue(isRunning, () => resume(Effect.void)))
  })
  const sleepUntil = (atMillis: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (!isRunning(state)) return Effect.andThen(untilRunning, sleepUntil(atMillis))
      const leftMillis = atMillis - PromptState.clockMillis(state, exactMillis())
      return leftMillis <= 0 ? Effect.void : Effect.andThen(Effect.sleep(leftMillis), sleepUntil(atMillis))
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
        waiter.onTrue()
      }
      return actions
    },
    millis,
    totalMillis,
    until: (isTrue, atMillis = Number.POSITIVE_INFINITY) =>
      // A race of both would take two fibers; a turn that waits takes one for its alarm, and none without a deadline.
      Effect.callback((resume) => {
        if (isTrue(state)) return resume(Effect.void)
        const alarm = atMillis === Number.POSITIVE_INFINITY ? undefined : fork(sleepUntil(atMillis))
        const forget = whenTrue(isTrue, () => {
          alarm?.interruptUnsafe()
          resume(Effect.void)
        })
        alarm?.addObserver(() => {
          forget()
          resume(Effect.void)
        })
        return Effect.sync(() => {
          forget()
          alarm?.interruptUnsafe()
        })
      })
  }
})

// internal

interface Waiter {
  readonly isTrue: (state: PromptState.PromptState) => boolean
  readonly onTrue: () => void
}

const isRunning = ({ stillSinceMillis }: PromptState.PromptState): boolean => stillSinceMillis === undefined

const nanosPerMilli = 1_000_000
