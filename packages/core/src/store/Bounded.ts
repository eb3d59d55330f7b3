/**
 * Bounds the calls of a store.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { StoreError } from "./SessionStore.ts"

/**
 * Bounds a call of the store by `TurnPolicy.StopTimeout`, so that a store that hangs cannot block the caller of `runTurn`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const bounded =
  (operation: string) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | StoreError, R> =>
    Effect.flatMap(TurnPolicy.StopTimeout, (limit) => boundedBy(operation, limit)(effect))

/**
 * Fails with a retryable `StoreError` once a call of the store takes longer than the limit.
 *
 * @category combinators
 * @since 0.1.0
 */
export const boundedBy =
  (operation: string, limit: Duration.Duration) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | StoreError, R> =>
    Effect.timeoutOrElse(effect, { duration: limit, orElse: () => Effect.fail(timedOut(operation, limit)) })

/**
 * The failure of a call of the store that took longer than the limit.
 *
 * @category constructors
 * @since 0.1.0
 */
export const timedOut = (operation: string, limit: Duration.Duration): StoreError =>
  new StoreError({
    operation,
    reason: `it did not answer within ${Duration.toMillis(limit)} ms`,
    isRetryable: true
  })
