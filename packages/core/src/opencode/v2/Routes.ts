/**
 * The routes of a session of OpenCode 2.x.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { AskId, MessageId, SessionId } from "../../domain/Ids.ts"
import { AskNotFound } from "../ClientError.ts"
import { segment } from "../Requests.ts"
import { hasStatus, isNotFound } from "../Statuses.ts"

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
 * Waits until the session is idle.
 *
 * @category constructors
 * @since 0.1.0
 */
export const waiting = (id: SessionId, isBeta: boolean) =>
  HttpClientRequest.post(isBeta ? session(id, "/wait") : experimental(id, "/wait"))

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
