/**
 * Who asks: the user that the gateway found for a request.
 *
 * @since 0.1.0
 */
import type { ConversationId } from "@opencode-turn/core/Ids"
import * as Context from "effect/Context"
import { randomBytes } from "node:crypto"

/**
 * **Details**
 *
 * - `id`: a name for the limits on turns and streams; equal ids share them.
 * - `owns`: whether a conversation is the user's, also one that does not exist yet: whoever owns it may begin it. It may be asked for many
 *   ids in a row, for lists.
 * - `newConversation`: makes the id of a conversation that the user may begin, for pages that begin some. By default `web-` and random
 *   characters, which only a user who owns such ids can use.
 * - `mayAllowAlways`: whether the user may answer a permission by `always`. OpenCode then asks no user of the server for its like any more, so
 *   that it is false by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface User {
  readonly id: string
  readonly owns: (conversationId: ConversationId) => boolean | Promise<boolean>
  readonly newConversation?: (() => string | Promise<string>) | undefined
  readonly mayAllowAlways?: boolean | undefined
}

/**
 * The user of the request that is being handled.
 *
 * @category services
 * @since 0.1.0
 */
export class CurrentUser
  extends Context.Service<CurrentUser, User>()("@opencode-turn/platform-node/gateway/CurrentUser")
{}

/**
 * A new id for a conversation, which nobody guesses.
 *
 * @category constructors
 * @since 0.1.0
 */
export const randomConversation = (): string => `web-${randomBytes(16).toString("base64url")}`

/**
 * Owns the conversations whose ids begin with a prefix, for example `alice/`. The empty prefix owns all.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ofPrefix = (id: string, prefix: string): User => ({
  id,
  owns: (conversationId) => conversationId.startsWith(prefix),
  newConversation: () => `${prefix}${randomConversation()}`
})
