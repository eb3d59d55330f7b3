/**
 * Repeats what may be repeated.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import * as TurnPolicy from "./TurnPolicy.ts"

/**
 * Retries failures that say that they may be (`isRetryable`), by `TurnPolicy.RequestRetry`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const retrying = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  retryingWhile(effect, isRetryable)

/**
 * Retries a read: also when its answer could not be understood, because it may have been cut short on the way.
 *
 * @category combinators
 * @since 0.1.0
 */
export const rereading = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  retryingWhile(effect, (error) => isRetryable(error) || Predicate.isTagged(error, "DecodeError"))

/**
 * Lets an effect's requests be retried for as long as `TurnPolicy.FinalExchange`, after the usual retries: for a turn that was
 * taken over. The server may have died with the worker, and be seconds away from the answer.
 *
 * @category combinators
 * @since 0.1.0
 */
export const patiently = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const usual = yield* TurnPolicy.RequestRetry
    const waiting = Schedule.max([
      Schedule.spaced("2 seconds").pipe(Schedule.jittered),
      Schedule.during(yield* TurnPolicy.FinalExchange)
    ])
    return yield* Effect.provideService(effect, TurnPolicy.RequestRetry, Schedule.concat(usual, waiting))
  })

// internal

const isRetryable = (error: unknown): boolean =>
  Predicate.hasProperty(error, "isRetryable") && error.isRetryable === true

const retryingWhile = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  isRepeated: (error: E) => boolean
): Effect.Effect<A, E, R> =>
  Effect.flatMap(TurnPolicy.RequestRetry, (schedule) => Effect.retry(effect, { schedule, while: isRepeated }))
