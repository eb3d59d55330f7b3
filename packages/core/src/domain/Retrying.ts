/**
 * Retries effects whose failures allow it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import * as TurnPolicy from "./TurnPolicy.ts"

/**
 * Retries by `TurnPolicy.RequestRetry` while the failure is retryable (`isRetryable`).
 *
 * @category combinators
 * @since 0.1.0
 */
export const retrying = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  retryingWhile(effect, isRetryable)

/**
 * Retries a read, also when its answer could not be decoded: the answer may have been cut short on the way.
 *
 * @category combinators
 * @since 0.1.0
 */
export const rereading = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  retryingWhile(effect, (error) => isRetryable(error) || Predicate.isTagged(error, "DecodeError"))

/**
 * Keeps retrying the requests of an effect for `TurnPolicy.FinalExchange` after the usual retries. A takeover uses it:
 * the server may have died with the worker and may need some seconds to come back.
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
