/**
 * Who asks: the user that the gateway found for a request.
 *
 * @since 0.1.0
 */
import type { ConversationId } from "@opencode-turn/core/Ids"
import * as Context from "effect/Context"

/**
 * **Details**
 *
 * - `id`: a name for the limits on turns and streams; equal ids share them.
 * - `owns`: whether a conversation is the user's, also one that does not exist yet: whoever owns it may begin it. It may be asked for many
 *   ids in a row, for lists.
 *
 * @category models
 * @since 0.1.0
 */
export interface User {
  readonly id: string
  readonly owns: (conversationId: ConversationId) => boolean | Promise<boolean>
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
 * Owns the conversations whose ids begin with a prefix, for example `alice/`. The empty prefix owns all.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ofPrefix = (id: string, prefix: string): User => ({
  id,
  owns: (conversationId) => conversationId.startsWith(prefix)
})
