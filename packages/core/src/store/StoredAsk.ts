/**
 * An ask of an agent that waits in the store for a person, and its answer.
 *
 * ```
 *   openAsk ──▶ open ── answerAsk ──▶ answered
 *                │└──── withdrawAsk ──▶ withdrawn
 *                └── the end of its message ──▶ withdrawn, until openAsk gives it to another message
 * ```
 *
 * **Not responsibilities**: storing it (`SessionStore`), and waiting for its answer (`StoredGate`).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { Answer, Ask } from "../domain/Ask.ts"
import { AskId, AssistantMessageId, ConversationId } from "../domain/Ids.ts"

/**
 * `open`: waits for an answer. `withdrawn`: needs no answer any more, because another client answered or its turn
 * ended.
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
 * Whether two answers are the same: a caller may repeat an answer whose success it never heard of.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSameAnswer: (one: Answer, other: Answer) => boolean = Schema.toEquivalence(Answer)

/**
 * An ask as it is stored. `id` is the server's id of the ask. Times are milliseconds since the epoch.
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
 * The store has no such ask.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownAsk extends Schema.TaggedError<UnknownAsk>()("UnknownAsk", {
  askId: AskId
}) {
  override get message() {
    return `there is no ask ${this.askId}`
  }
}

/**
 * The ask needs no answer any more.
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
      ? `ask ${this.askId} is already answered`
      : `ask ${this.askId} needs no answer any more: another client answered it, or its turn ended`
  }
}
