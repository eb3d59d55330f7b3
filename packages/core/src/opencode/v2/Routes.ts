/**
 * The routes of a session of OpenCode 2.x, and what their statuses mean.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { AskId, MessageId, SessionId } from "../../domain/Ids.ts"
import { AskNotFound, SessionBusy, SessionNotFound, type StatusError } from "../ClientError.ts"
import { segment } from "../Requests.ts"

/**
 * @category constructors
 * @since 0.1.0
 */
export const session = (id: SessionId, rest = "") => `/api/session/${segment(id)}${rest}`

/**
 * A route of the session that the release calls experimental.
 *
 * @category constructors
 * @since 0.1.0
 */
export const experimental = (id: SessionId, rest: string) => `/api/experimental/session/${segment(id)}${rest}`

/**
 * @category constructors
 * @since 0.1.0
 */
export const messageOf = (id: SessionId, messageId: MessageId) => session(id, `/message/${segment(messageId)}`)

/**
 * @category constructors
 * @since 0.1.0
 */
export const post = (path: string, body: Record<string, unknown>) =>
  HttpClientRequest.post(path).pipe(HttpClientRequest.bodyJsonUnsafe(body))

/**
 * Waits until the session is idle.
 *
 * @category constructors
 * @since 0.1.0
 */
export const waiting = (id: SessionId, isBeta: boolean) =>
  HttpClientRequest.post(isBeta ? session(id, "/wait") : experimental(id, "/wait"))

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
 * A session that works answers 409 to a revert.
 *
 * @category errors
 * @since 0.1.0
 */
export const orSessionBusy =
  (sessionId: SessionId) =>
  <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | SessionBusy> =>
    Effect.catchIf(
      effect,
      (error): boolean => hasStatus(error, 409),
      (): Effect.Effect<A, E | SessionBusy> => Effect.fail(new SessionBusy({ sessionId }))
    )

/**
 * The beta answers 404 to the second reply to a permission, and 409 to that to a form.
 *
 * @category errors
 * @since 0.1.0
 */
export const orAskNotFound =
  (askId: AskId) =>
  <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | AskNotFound> =>
    Effect.catchIf(
      effect,
      (error): boolean => isNotFound(error) || hasStatus(error, 409),
      (): Effect.Effect<A, E | AskNotFound> => Effect.fail(new AskNotFound({ askId }))
    )
