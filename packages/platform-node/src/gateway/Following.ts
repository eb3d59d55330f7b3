/**
 * A stream that a user follows: counted while it is open, and cut where its user loses the access.
 *
 * @since 0.1.0
 */
import type { ConversationId } from "@opencode-turn/core/Ids"
import * as Effect from "effect/Effect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as Scope from "effect/Scope"
import { Access } from "./Access.ts"
import type { TooMany } from "./GatewayError.ts"
import { isOwn } from "./Ownership.ts"
import type { Runs } from "./Runs.ts"
import { CurrentUser } from "./User.ts"

/**
 * Whether the sender of a request may still see the conversation that it follows.
 *
 * @category models
 * @since 0.1.0
 */
export type MayFollow = Effect.Effect<boolean>

/**
 * Counts a stream of the current user's until the scope closes, and gives the check that is made as long as it is open.
 *
 * **Details**
 *
 * The check asks `authorize` and `owns` again with the request that opened the stream. One that cannot be made is no refusal; two in a row
 * are, so that access cannot be kept by what keeps it from being checked.
 *
 * @category following
 * @since 0.1.0
 */
export const begin = Effect.fnUntraced(function*(
  runs: Runs["Service"],
  conversationId: ConversationId
): Effect.fn.Return<
  MayFollow,
  TooMany,
  Access | CurrentUser | HttpServerRequest.HttpServerRequest | Scope.Scope
> {
  const { userOf } = yield* Access
  const request = yield* HttpServerRequest.HttpServerRequest
  yield* runs.takeStream(yield* CurrentUser)
  let failures = 0
  return Effect.flatMap(userOf(request), (user) => Effect.provideService(isOwn(conversationId), CurrentUser, user))
    .pipe(
      Effect.tap(Effect.sync(() => {
        failures = 0
      })),
      Effect.catchTags({
        Unauthorized: () => Effect.succeed(false),
        Unavailable: () => Effect.sync(() => ++failures < 2)
      })
    )
})
