/**
 * A turn as the gateway shows it: what a person may see of a stored message.
 *
 * **Not responsibilities**: owner, lease, epoch, the record of the prompt, the system prompt, the limits and the contents of attached
 * files. They are left out.
 *
 * @since 0.1.0
 */
import { AssistantMessageId, ConversationId, SessionId } from "@opencode-turn/core/Ids"
import { Part } from "@opencode-turn/core/Part"
import type { PromptPart } from "@opencode-turn/core/Prompt"
import type { MessageState, StoredMessage } from "@opencode-turn/core/SessionStore"
import { MessageStatus, Operation, StoredError } from "@opencode-turn/core/SessionStore"
import { StoredAsk } from "@opencode-turn/core/StoredAsk"
import { Subagent } from "@opencode-turn/core/Subagent"
import { Timing } from "@opencode-turn/core/Timing"
import { ModelUsage, Usage } from "@opencode-turn/core/Usage"
import { Wait } from "@opencode-turn/core/Wait"
import * as WireUpdate from "@opencode-turn/core/WireUpdate"
import * as Schema from "effect/Schema"

/**
 * A turn in a list.
 *
 * **Details**
 *
 * - `excerpt`: the beginning of the user's words.
 * - `isFallback`: the content holds the policy's words instead of the agent's.
 * - `finish`: the server's reason for the end of the answer's last step.
 * - `models`: the share of each model in the usage. `timing`: what the turn spent its time for, which adds up to its duration.
 *   `firstTokenMillis`: how long its model took to begin. They tell of the whole turn, also after a takeover; while it runs they may be
 *   some seconds old. `timing` is null where nobody measured it.
 * - `revertedBy`: the message of the revert that took this turn back; null where it stands.
 * - `sessionId`, `model`, `agent`: null until the prompt is recorded, or where the server chooses.
 * - Times are milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export const TurnSummary = Schema.Struct({
  messageId: AssistantMessageId,
  conversationId: ConversationId,
  status: MessageStatus,
  excerpt: Schema.String,
  isFallback: Schema.Boolean,
  finish: Schema.NullOr(Schema.String),
  usage: Usage,
  models: Schema.Array(ModelUsage),
  timing: Schema.NullOr(Timing),
  firstTokenMillis: Schema.NullOr(Schema.Finite),
  error: Schema.NullOr(StoredError),
  revertedBy: Schema.NullOr(AssistantMessageId),
  sessionId: Schema.NullOr(SessionId),
  model: Schema.NullOr(Schema.String),
  agent: Schema.NullOr(Schema.String),
  createdMillis: Schema.Finite,
  finishedMillis: Schema.NullOr(Schema.Finite)
}).annotate({ identifier: "TurnSummary" })
/**
 * @category models
 * @since 0.1.0
 */
export interface TurnSummary extends Schema.Schema.Type<typeof TurnSummary> {}

/**
 * A part of the user's prompt. Of an attached file only its name and its type are shown.
 *
 * @category models
 * @since 0.1.0
 */
export const ShownPromptPart = Schema.Union([
  Schema.Struct({ type: Schema.Literal("text"), text: Schema.String }),
  Schema.Struct({ type: Schema.Literal("file"), mediaType: Schema.String, filename: Schema.NullOr(Schema.String) }),
  Schema.Struct({ type: Schema.Literal("agent"), name: Schema.String }),
  Schema.Struct({ type: Schema.Literal("subtask"), agent: Schema.String, description: Schema.String })
]).annotate({ identifier: "ShownPromptPart" })
/**
 * @category models
 * @since 0.1.0
 */
export type ShownPromptPart = typeof ShownPromptPart.Type

/**
 * A turn with its prompt and its reply so far.
 *
 * **Details**
 *
 * `waits` are its waits for people and for tries of the model, by the server's clock. `offset` is the place of the last stored update: attach from there to follow what comes after this state.
 * `operation` says what the message did with the conversation in place of a prompt: it forked, reverted or compacted it; null for a turn.
 *
 * @category models
 * @since 0.1.0
 */
export const Turn = Schema.Struct({
  ...TurnSummary.fields,
  offset: Schema.String,
  operation: Schema.NullOr(Operation),
  prompt: Schema.Array(ShownPromptPart),
  content: Schema.String,
  parts: Schema.Array(Part),
  subagents: Schema.Array(Subagent),
  waits: Schema.Array(Wait)
}).annotate({ identifier: "Turn" })
/**
 * @category models
 * @since 0.1.0
 */
export interface Turn extends Schema.Schema.Type<typeof Turn> {}

/**
 * The data of an event of an attached turn: an update, or, last, the turn as it ended.
 *
 * **Details**
 *
 * `stream.failed` ends a stream that could not be read further. It has no offset: attach again behind the last one.
 *
 * @category models
 * @since 0.1.0
 */
export const TurnUpdate = Schema.Union([
  ...WireUpdate.WireUpdate.members,
  Schema.Struct({ type: Schema.Literal("turn.finished"), turn: Turn }),
  Schema.Struct({ type: Schema.Literal("stream.failed"), message: Schema.String, advice: Schema.String })
]).annotate({ identifier: "TurnUpdate" })
/**
 * @category models
 * @since 0.1.0
 */
export type TurnUpdate = typeof TurnUpdate.Type

/**
 * An ask that waits for a person, or that was answered.
 *
 * @category models
 * @since 0.1.0
 */
export const Ask = StoredAsk.annotate({ identifier: "StoredAsk" })

/**
 * The turn of a stored state.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toSummary = (state: MessageState): TurnSummary => ({
  messageId: state.id,
  conversationId: state.conversationId,
  status: state.status,
  excerpt: state.excerpt,
  isFallback: state.isFallback,
  finish: state.finish,
  usage: state.usage,
  models: state.account?.models ?? [],
  timing: state.account?.timing ?? null,
  firstTokenMillis: state.account?.firstTokenMillis ?? null,
  error: state.error,
  revertedBy: state.revertedBy,
  sessionId: state.started?.sessionId ?? null,
  model: state.started?.model ?? null,
  agent: state.started?.agent ?? null,
  createdMillis: state.createdMillis,
  finishedMillis: state.finishedMillis
})

/**
 * The turn of a stored message.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toTurn = (message: StoredMessage): Turn => ({
  ...toSummary(message),
  offset: String(message.offset),
  operation: message.draft?.operation ?? null,
  prompt: message.prompt.map(toShown),
  content: message.content,
  parts: message.parts,
  subagents: message.subagents,
  waits: message.waits
})

// internal

const toShown = (part: PromptPart): ShownPromptPart => {
  switch (part.type) {
    case "text":
      return { type: "text", text: part.text }
    case "file":
      return { type: "file", mediaType: part.mediaType, filename: part.filename ?? null }
    case "agent":
      return { type: "agent", name: part.name }
    case "subtask":
      return { type: "subtask", agent: part.agent, description: part.description }
  }
}
