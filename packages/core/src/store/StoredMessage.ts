/**
 * The assistant message of one turn, as it is stored.
 *
 * Owns: its shape, its states, and who may take it. Does not own: how it is kept and changed (`SessionStore`).
 *
 * ```
 *            ┌─────────▶ pending ─────────▶ completed | error
 *   (claim) ─┤              ▲     └────┐
 *            └─▶ queued ────┘          ├──▶ cancelled
 *                   └──────────────────┘
 * ```
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { PermissionRule } from "../domain/Ask.ts"
import { AssistantMessageId, ConversationId, MessageId, type PromptIds, SessionId } from "../domain/Ids.ts"
import { Part } from "../domain/Part.ts"
import { Prompt, PromptPart } from "../domain/Prompt.ts"
import { Subagent } from "../domain/Subagent.ts"
import * as Usage from "../domain/Usage.ts"

/**
 * `queued`: waits for the turns before it. `pending`: is being worked on. The others are terminal. `error` is the end of every turn
 * whose result is `error` or `failed`: the stored error's tag tells which.
 *
 * @category models
 * @since 0.1.0
 */
export const MessageStatus = Schema.Literals(["queued", "pending", "completed", "cancelled", "error"])
/**
 * @category models
 * @since 0.1.0
 */
export type MessageStatus = typeof MessageStatus.Type

/**
 * The error that a stored message ended with: its tag, its message for people, and its own fields for programs (`TurnError.detailsOf`).
 *
 * @category models
 * @since 0.1.0
 */
export const StoredError = Schema.Struct({
  tag: Schema.String,
  message: Schema.String,
  details: Schema.optionalKey(Schema.JsonObject)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface StoredError extends Schema.Schema.Type<typeof StoredError> {}

/**
 * What was posted to which session, with the ids that every later attempt uses again. `earlier` are the prompts of the same turn
 * before it, oldest first: those whose answers did not fit the schema that was asked for, and those that refusals stopped; `refusals`
 * says how many of them the latter are.
 *
 * @category models
 * @since 0.1.0
 */
export const PromptRecord = Schema.Struct({
  sessionId: SessionId,
  prompt: Prompt,
  earlier: Schema.optionalKey(Schema.Array(MessageId)),
  refusals: Schema.optionalKey(Schema.Finite)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface PromptRecord extends Schema.Schema.Type<typeof PromptRecord> {}

/**
 * A request whose ids are known, so that it may be posted again.
 *
 * @category models
 * @since 0.1.0
 */
export type IdentifiedPrompt = PromptRecord & { readonly prompt: { readonly ids: PromptIds } }

/**
 * What the caller chose for the turn besides the prompt, as plain values: enough for another process to run it.
 *
 * **Details**
 *
 * `model` is `provider/model`. `outputSchema` is the JSON Schema of the value that is asked for. `title` and `permission` are those of a session that has to be made. `policy` holds the
 * limits of the turn, times in milliseconds, that differ from the defaults of `TurnPolicy`.
 *
 * @category models
 * @since 0.1.0
 */
export const Draft = Schema.Struct({
  agent: Schema.optionalKey(Schema.String),
  model: Schema.optionalKey(Schema.String),
  variant: Schema.optionalKey(Schema.String),
  system: Schema.optionalKey(Schema.String),
  title: Schema.optionalKey(Schema.String),
  permission: Schema.optionalKey(Schema.Array(PermissionRule)),
  outputSchema: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)),
  policy: Schema.optionalKey(Schema.Struct({
    firstEventMillis: Schema.optionalKey(Schema.Finite),
    finalExchangeMillis: Schema.optionalKey(Schema.Finite),
    outputRepairs: Schema.optionalKey(Schema.Finite),
    onLostSession: Schema.optionalKey(Schema.Literals(["resend", "fail"])),
    maxIdleSteps: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
    allowSilent: Schema.optionalKey(Schema.Boolean),
    refusalRepairs: Schema.optionalKey(Schema.Finite),
    budget: Schema.optionalKey(Schema.Struct({
      wallClockMillis: Schema.optionalKey(Schema.Finite),
      cost: Schema.optionalKey(Schema.Finite),
      tokens: Schema.optionalKey(Schema.Finite),
      modelRetries: Schema.optionalKey(Schema.Finite),
      steps: Schema.optionalKey(Schema.Finite),
      stallMillis: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
      openAsks: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
      subagents: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
      messages: Schema.optionalKey(Schema.NullOr(Schema.Finite)),
      parts: Schema.optionalKey(Schema.NullOr(Schema.Finite))
    }))
  }))
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Draft extends Schema.Schema.Type<typeof Draft> {}

/**
 * The assistant message of one turn.
 *
 * **Details**
 *
 * - `prompt`: what the user said. `draft`: what the caller chose with it; null where it was claimed without.
 * - `promptRecord`: null until the prompt's ids were chosen; written before the first byte of the prompt is sent.
 * - `content`: the text for the reader: the answer, or the policy's words for a turn that failed or was stopped without
 *   any; of a turn with an output, the value as JSON. While the turn runs, `content`, `parts`, `usage` and `subagents` are those of
 *   the last snapshot.
 * - `parts`: those of the last answer, behind the tool calls of the answers before it (see `TurnResult.reply`).
 * - `finish`: why the last step of the answer ended, in the server's word (`stop`, `length`, `content-filter`, …); null where no
 *   step ended, and of a turn that was cancelled.
 * - `isFallback`: `content` is the policy's words, not the agent's.
 * - `usage`: of the whole turn. `subagents`: their shares of it, and what they said.
 * - `epoch`: 1 for who claimed it first, raised for everyone who takes it over. A write with another epoch changes nothing.
 * - `owner`: who drives it, or did last; null where nobody does. `leaseUntilMillis`: until when it is the owner's; null for one claimed without a
 *   lease, which is never an orphan. An owner that lets the message go is its owner no more.
 * - `takeovers`: how often the message was taken from an owner whose lease ran out while it was pending. An owner that let it
 *   go does not count, nor does one that only waited in the queue.
 * - `revision`: raised by every change but that of the lease alone (its owner where it is let go, and its end); two reads with one
 *   revision read the same.
 * - Times are milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export const StoredMessage = Schema.Struct({
  id: AssistantMessageId,
  conversationId: ConversationId,
  status: MessageStatus,
  epoch: Schema.Int,
  revision: Schema.Int,
  owner: Schema.NullOr(Schema.String),
  leaseUntilMillis: Schema.NullOr(Schema.Finite),
  takeovers: Schema.Int,
  prompt: Schema.Array(PromptPart),
  draft: Schema.NullOr(Draft),
  promptRecord: Schema.NullOr(PromptRecord),
  content: Schema.String,
  isFallback: Schema.Boolean,
  finish: Schema.NullOr(Schema.String),
  parts: Schema.Array(Part),
  usage: Usage.Usage,
  subagents: Schema.Array(Subagent),
  error: Schema.NullOr(StoredError),
  createdMillis: Schema.Finite,
  finishedMillis: Schema.NullOr(Schema.Finite)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface StoredMessage extends Schema.Schema.Type<typeof StoredMessage> {}

/**
 * What a turn leaves behind of its reply. Without `subagents` there are none; without `isFallback` the content is the agent's; without
 * `finish` no step has ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Content {
  readonly content: string
  readonly isFallback?: boolean
  readonly finish?: string | null
  readonly parts: ReadonlyArray<Part>
  readonly usage: Usage.Usage
  readonly subagents?: ReadonlyArray<Subagent>
}

/**
 * The terminal write of a turn.
 *
 * @category models
 * @since 0.1.0
 */
export interface Outcome extends Content {
  readonly status: "completed" | "cancelled" | "error"
  readonly error: StoredError | null
}

/**
 * The right to drive a message for `millis` from now on. `owner` is a random id for each run, never one of a host or a user.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease {
  readonly owner: string
  readonly millis: number
}

/**
 * The status of a message that has not ended.
 *
 * @category guards
 * @since 0.1.0
 */
export const isOpen = (status: MessageStatus): status is "queued" | "pending" =>
  status === "queued" || status === "pending"

/**
 * Whether the lease of the message ran out: whoever held it is gone, or will find that it lost the message. A message
 * without a lease never gets there.
 *
 * @category guards
 * @since 0.1.0
 */
export const isLeaseOver = ({ leaseUntilMillis }: StoredMessage, nowMillis: number): boolean =>
  leaseUntilMillis !== null && leaseUntilMillis <= nowMillis

/**
 * Whether the message is pending and its owner is gone without having let it go: who takes it now takes it over.
 *
 * @category guards
 * @since 0.1.0
 */
export const isAbandoned = (message: StoredMessage, nowMillis: number): boolean =>
  message.status === "pending" && message.owner !== null && isLeaseOver(message, nowMillis)

/**
 * Whether somebody else holds the message: its lease lives, and is not `owner`'s.
 *
 * @category guards
 * @since 0.1.0
 */
export const isHeldByOther = (message: StoredMessage, owner: string | undefined, nowMillis: number): boolean =>
  message.leaseUntilMillis !== null && message.leaseUntilMillis > nowMillis && message.owner !== (owner ?? null)
