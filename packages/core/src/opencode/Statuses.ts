/**
 * What the statuses of both lines of OpenCode mean, where they mean the same.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { SessionId } from "../domain/Ids.ts"
import { SessionBusy, SessionNotFound, type StatusError } from "./ClientError.ts"

/**
 * A request with this JSON.
 *
 * @category constructors
 * @since 0.1.0
 */
export const post = (path: string, body: Record<string, unknown>) =>
  HttpClientRequest.post(path).pipe(HttpClientRequest.bodyJsonUnsafe(body))

/**
 * @category predicates
 * @since 0.1.0
 */
export const hasStatus = (error: { readonly _tag: string }, status: number): error is StatusError =>
  error._tag === "StatusError" && "status" in error && error.status === status

/**
 * @category predicates
 * @since 0.1.0
 */
export const isNotFound = (error: { readonly _tag: string }): error is StatusError => hasStatus(error, 404)

/**
 * The server failed. Both lines do so for a folder that they cannot open.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isServerError = (error: { readonly _tag: string }): error is StatusError => hasStatus(error, 500)

/**
 * A session that works answers so to a revert.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isBusy = (error: { readonly _tag: string }): error is StatusError => hasStatus(error, 409)

/**
 * @category errors
 * @since 0.1.0
 */
export const orSessionNotFound = (sessionId: SessionId) =>
<A, E extends { readonly _tag: string }>(
  effect: Effect.Effect<A, E>
): Effect.Effect<A, E | SessionNotFound> =>
  Effect.catchIf(
    effect,
    (error): boolean => isNotFound(error),
    (): Effect.Effect<A, E | SessionNotFound> => Effect.fail(new SessionNotFound({ sessionId }))
  )

/**
 * @category errors
 * @since 0.1.0
 */
export const orSessionBusy =
  (sessionId: SessionId) =>
  <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | SessionBusy> =>
    Effect.catchIf(
      effect,
      (error): boolean => isBusy(error),
      (): Effect.Effect<A, E | SessionBusy> => Effect.fail(new SessionBusy({ sessionId }))
    )
