/**
 * Why a conversation cannot be forked, reverted or compacted.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { AssistantMessageId, ConversationId } from "./Ids.ts"

/**
 * The conversation has no session with a prompt in it: no turn of it has begun, or its turns were pruned.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoSession extends Schema.TaggedError<NoSession>()("NoSession", {
  conversationId: ConversationId
}) {
  override get message() {
    return `conversation ${this.conversationId} has no session with a prompt in it`
  }
}

/**
 * The session of the conversation holds nothing of the turn: its prompt was never posted, the session was lost and replaced, or a later
 * turn has made a revert final.
 *
 * @category errors
 * @since 0.1.0
 */
export class TurnNotInSession extends Schema.TaggedError<TurnNotInSession>()("TurnNotInSession", {
  conversationId: ConversationId,
  messageId: AssistantMessageId
}) {
  override get message() {
    return `the session of conversation ${this.conversationId} holds nothing of the turn ${this.messageId}`
  }
}

/**
 * There is no revert that could be undone: none was made, or a later turn or compaction has made it final.
 *
 * @category errors
 * @since 0.1.0
 */
export class NothingReverted extends Schema.TaggedError<NothingReverted>()("NothingReverted", {
  conversationId: ConversationId
}) {
  override get message() {
    return `nothing of conversation ${this.conversationId} is reverted that could be brought back`
  }
}

/**
 * The conversation that the fork was to make has messages already.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConversationExists extends Schema.TaggedError<ConversationExists>()("ConversationExists", {
  conversationId: ConversationId
}) {
  override get message() {
    return `conversation ${this.conversationId} exists already`
  }
}
