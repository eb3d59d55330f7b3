/**
 * A request of an agent that waits in the store for a person, and the answer to it.
 *
 * ```
 *   openAsk ──▶ open ── answerAsk ──▶ answered
 *                │└──── withdrawAsk ──▶ withdrawn
 *                └── the end of its message ──▶ withdrawn, until openAsk gives it to another message
 * ```
 *
 * Owns: its shape, its states, its errors. Does not own: how it is kept (`SessionStore`), who waits for it (`StoredGate`).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { Answer, Ask } from "../domain/Ask.ts"
import { AskId, AssistantMessageId, ConversationId } from "../domain/Ids.ts"

/**
 * `open`: waits for an answer. `withdrawn`: needs none any more, because it was answered elsewhere or its turn ended.
 *
 * @category models
 * @since 0.1.0
 */
export const AskStatus = Schema.Literals(["open", "answered", "withdrawn"])
/**
 * @category models
 * @since 0.1.0
 */
export type AskStatus = typeof AskStatus.Type

/**
 * Whether two answers say the same: the one that is stored, and one that is given again because nobody heard of its success.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSameAnswer: (one: Answer, other: Answer) => boolean = Schema.toEquivalence(Answer)

/**
 * A request as it is stored. `id` is the server's id of the request. Times are milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export const StoredAsk = Schema.Struct({
  id: AskId,
  messageId: AssistantMessageId,
  conversationId: ConversationId,
  ask: Ask,
  status: AskStatus,
  answer: Schema.NullOr(Answer),
  createdMillis: Schema.Finite,
  closedMillis: Schema.NullOr(Schema.Finite)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface StoredAsk extends Schema.Schema.Type<typeof StoredAsk> {}

/**
 * The store has no such request.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownAsk extends Schema.TaggedError<UnknownAsk>()("UnknownAsk", {
  askId: AskId
}) {
  override get message() {
    return `there is no request ${this.askId}`
  }
}

/**
 * The request needs no answer any more.
 *
 * @category errors
 * @since 0.1.0
 */
export class AskClosed extends Schema.TaggedError<AskClosed>()("AskClosed", {
  askId: AskId,
  status: Schema.Literals(["answered", "withdrawn"])
}) {
  override get message() {
    return this.status === "answered"
      ? `request ${this.askId} was answered already`
      : `request ${this.askId} needs no answer any more: it was answered elsewhere, or its turn ended`
  }
}
