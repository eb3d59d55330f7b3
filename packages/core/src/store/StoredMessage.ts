/**
 * The assistant message of one turn as it is stored: its shape, its states, and who may take it.
 *
 * **Not responsibilities**: storing and changing it (`SessionStore`).
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
import { type Ask, PermissionRule } from "../domain/Ask.ts"
import { AssistantMessageId, ConversationId, MessageId, type PartId, type PromptIds, SessionId } from "../domain/Ids.ts"
import { Part } from "../domain/Part.ts"
import { AgentChoices, ModelRef, Prompt, PromptPart } from "../domain/Prompt.ts"
import { Subagent } from "../domain/Subagent.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import * as Usage from "../domain/Usage.ts"
import { Wait } from "../domain/Wait.ts"
import { Account } from "../reply/Account.ts"
import type { Retry } from "../reply/Reply.ts"

/**
 * `queued`: the turn waits for earlier turns. `pending`: a worker drives the turn. The other statuses are terminal.
 * `error` ends every turn whose result is `error` or `failed`; the tag of the stored error tells which.
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
 * The error of a stored message: its tag, its message for people, and its own fields for programs
 * (`TurnError.detailsOf`).
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
 * The prompt and the session that it was posted to, with the ids that every repost uses again. `earlier` are the
 * previous prompts of the same turn, oldest first: prompts whose answers did not fit the requested schema, and prompts
 * whose answers refusals stopped. `refusals` counts the second kind.
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
 * A recorded prompt whose ids are known, so that it may be reposted.
 *
 * @category models
 * @since 0.1.0
 */
export type IdentifiedPrompt = PromptRecord & { readonly prompt: { readonly ids: PromptIds } }

/**
 * What a stored message does with the conversation in place of a prompt.
 *
 * **Details**
 *
 * `compact` has the conversation summarised. `revert` takes back the turn `messageId` and those after it, `unrevert` undoes that. `fork`
 * begins the conversation with what another one said up to the turn `messageId`, or up to its last turn.
 *
 * @category models
 * @since 0.1.0
 */
export const Operation = Schema.Union([
  Schema.Struct({ type: Schema.Literal("compact"), model: Schema.optionalKey(ModelRef) }),
  Schema.Struct({ type: Schema.Literal("revert"), messageId: AssistantMessageId }),
  Schema.Struct({ type: Schema.Literal("unrevert") }),
  Schema.Struct({
    type: Schema.Literal("fork"),
    conversationId: ConversationId,
    messageId: Schema.optionalKey(AssistantMessageId)
  })
])
/**
 * @category models
 * @since 0.1.0
 */
export type Operation = typeof Operation.Type

/**
 * The caller's choices for the turn besides the prompt, as plain values that let another process run it.
 *
 * **Details**
 *
 * `model` is `provider/model`. `outputSchema` is the JSON Schema of the requested value. `title`, `permission` and
 * `metadata` apply to a session that the turn creates. `operation` marks a message that is no turn. `origin` is the
 * address of the server that the turn began on. `policy` holds the turn's limits that
 * differ from the defaults of `TurnPolicy`, with times in milliseconds. `traceparent` is where the trace of the turn began (W3C).
 *
 * @category models
 * @since 0.1.0
 */
export const Draft = Schema.Struct({
  ...AgentChoices.fields,
  operation: Schema.optionalKey(Operation),
  origin: Schema.optionalKey(Schema.String),
  model: Schema.optionalKey(Schema.String),
  metadata: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json)),
  title: Schema.optionalKey(Schema.String),
  permission: Schema.optionalKey(Schema.Array(PermissionRule)),
  outputSchema: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)),
  traceparent: Schema.optionalKey(Schema.String),
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
 * Where and how a turn's prompt was posted. `model` is `provider/model`; it and `agent` are left out where the server chooses them.
 *
 * @category models
 * @since 0.1.0
 */
export const StartedTurn = Schema.Struct({
  sessionId: SessionId,
  promptId: MessageId,
  model: Schema.optionalKey(Schema.String),
  agent: Schema.optionalKey(Schema.String)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface StartedTurn extends Schema.Schema.Type<typeof StartedTurn> {}

/**
 * The small fields of a message: what a queue, a list, a sweep and a watcher need of it, without its prompt and its reply.
 *
 * **Details**
 *
 * - `position`: the place in the order of the first claims; it rises, and is unique in a store.
 * - `excerpt`: the beginning of the user's words, in one line of at most {@link maxExcerpt} characters.
 * - `started`: null until the prompt was recorded.
 * - `finish`: the server's reason for the end of the answer's last step (`stop`, `length`, `content-filter`, …). It is null if no step
 *   ended or the turn was cancelled.
 * - `isFallback`: `content` holds the policy's words instead of the agent's.
 * - `usage`: the usage of the whole turn. `account`: what it spent its time for, the share of each model, and the time to its first token;
 *   null for an operation, and for a turn that ended before its prompt was recorded. While the turn runs both come from snapshots: the
 *   account is at most 5 seconds older than its usage.
 * - `epoch`: 1 for the first claimant; every takeover raises it. A write with another epoch changes nothing.
 * - `owner`: the worker that drives the message, or last did; null after a release. `leaseUntilMillis`: the end of the owner's lease;
 *   null for a claim without a lease, whose message never becomes an orphan.
 * - `takeovers`: how often the pending message was taken from an owner whose lease ran out. A release does not count, nor does an owner
 *   that only waited in the queue.
 * - `revertedBy`: the stored revert that took the message back. Its reply stays stored, and the agent does not know of it any more.
 * - `revision`: every change raises it, except for a change of the lease alone (a renewal or a release). Two reads with the same
 *   revision give the same message.
 * - `offset`: the place of the last update in the message's journal; 0 while there is none.
 * - Times are milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export const MessageState = Schema.Struct({
  id: AssistantMessageId,
  conversationId: ConversationId,
  position: Schema.Finite,
  status: MessageStatus,
  epoch: Schema.Int,
  revision: Schema.Int,
  offset: Schema.Int,
  owner: Schema.NullOr(Schema.String),
  leaseUntilMillis: Schema.NullOr(Schema.Finite),
  takeovers: Schema.Int,
  excerpt: Schema.String,
  started: Schema.NullOr(StartedTurn),
  isFallback: Schema.Boolean,
  finish: Schema.NullOr(Schema.String),
  usage: Usage.Usage,
  account: Schema.NullOr(Account),
  error: Schema.NullOr(StoredError),
  revertedBy: Schema.NullOr(AssistantMessageId),
  createdMillis: Schema.Finite,
  finishedMillis: Schema.NullOr(Schema.Finite)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface MessageState extends Schema.Schema.Type<typeof MessageState> {}

/**
 * The assistant message of one turn: its {@link MessageState} with its prompt and its reply.
 *
 * **Details**
 *
 * - `prompt`: the user's words. `draft`: the caller's other choices; null if the claim had none.
 * - `promptRecord`: null until the prompt's ids are chosen; written before the first byte of the prompt is sent.
 * - `content`: the text for the reader. It is the answer, or the policy's words for a turn that failed or was stopped without any text.
 *   For a turn with an output it is the value as JSON. While the turn runs, `content`, `parts` and `subagents` come from the last
 *   snapshot.
 * - `parts`: the tool calls of the earlier answers, followed by the parts of the last answer (see `TurnResult.reply`).
 * - `subagents`: each subagent's share of the usage, and its answer.
 * - `waits`: what its sessions waited for, people and retries of the model.
 *
 * @category models
 * @since 0.1.0
 */
export const StoredMessage = Schema.Struct({
  ...MessageState.fields,
  prompt: Schema.Array(PromptPart),
  draft: Schema.NullOr(Draft),
  promptRecord: Schema.NullOr(PromptRecord),
  content: Schema.String,
  parts: Schema.Array(Part),
  subagents: Schema.Array(Subagent),
  waits: Schema.Array(Wait)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface StoredMessage extends Schema.Schema.Type<typeof StoredMessage> {}

/**
 * What a turn stores of its reply. By default `subagents` and `waits` are empty, `isFallback` is false (the content is the agent's), `finish` is
 * null (no step has ended), and `account` is null (nobody measured).
 *
 * **Details**
 *
 * `unstored` is what only the journal keeps, for those who attach to the turn while it runs: the parts of each subagent, what is asked, the
 * retry that the server announced last, and a failure that it reported.
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
  readonly account?: Account | null
  readonly subagents?: ReadonlyArray<Subagent>
  readonly waits?: ReadonlyArray<Wait>
  readonly unstored?: Unstored | undefined
}

/**
 * The state of a running reply that a stored message does not hold.
 *
 * @category models
 * @since 0.1.0
 */
export interface Unstored {
  readonly partsOf: ReadonlyMap<SessionId, ReadonlyArray<Part>>
  readonly asks: ReadonlyArray<{ readonly ask: Ask; readonly openedBy: PartId | undefined }>
  readonly retry: Retry | undefined
  readonly failure: UpstreamFailure | undefined
}

/**
 * The terminal write of a turn. `isStopDue`: the server may still work for the turn, and was not reached to stop that.
 *
 * @category models
 * @since 0.1.0
 */
export interface Outcome extends Content {
  readonly isStopDue?: boolean
  readonly status: "completed" | "cancelled" | "error"
  readonly error: StoredError | null
}

/**
 * The right to drive a message for `millis` from now on. `owner` is a random id of each run; it never names a host or a
 * user.
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
 * @category predicates
 * @since 0.1.0
 */
export const isOpen = (status: MessageStatus): status is "queued" | "pending" =>
  status === "queued" || status === "pending"

/**
 * Whether the lease of the message ran out: its holder is gone, or will find that it lost the message. The lease of a
 * message without one never runs out.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isLeaseOver = ({ leaseUntilMillis }: MessageState, nowMillis: number): boolean =>
  leaseUntilMillis !== null && leaseUntilMillis <= nowMillis

/**
 * Whether the message is pending and its owner is gone without a release. Taking it then counts as a takeover.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isAbandoned = (message: MessageState, nowMillis: number): boolean =>
  message.status === "pending" && message.owner !== null && isLeaseOver(message, nowMillis)

/**
 * Whether another owner than `owner` holds a living lease on the message.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isHeldByOther = (message: MessageState, owner: string | undefined, nowMillis: number): boolean =>
  message.leaseUntilMillis !== null && message.leaseUntilMillis > nowMillis && message.owner !== (owner ?? null)

/**
 * The greatest length of {@link MessageState}'s `excerpt`.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxExcerpt = 200

/**
 * The beginning of the user's words in one line, with the names of what comes with them.
 *
 * @category getters
 * @since 0.1.0
 */
export const excerptOf = (prompt: ReadonlyArray<PromptPart>): string =>
  prompt.map(describePart).join(" ").replaceAll(/\s+/g, " ").trim().slice(0, maxExcerpt).toWellFormed()

/**
 * The small fields of a message.
 *
 * @category getters
 * @since 0.1.0
 */
export const stateOf = (message: StoredMessage): MessageState => ({
  id: message.id,
  conversationId: message.conversationId,
  position: message.position,
  status: message.status,
  epoch: message.epoch,
  revision: message.revision,
  offset: message.offset,
  owner: message.owner,
  leaseUntilMillis: message.leaseUntilMillis,
  takeovers: message.takeovers,
  excerpt: message.excerpt,
  started: message.started,
  isFallback: message.isFallback,
  finish: message.finish,
  usage: message.usage,
  account: message.account,
  error: message.error,
  revertedBy: message.revertedBy,
  createdMillis: message.createdMillis,
  finishedMillis: message.finishedMillis
})

/**
 * What a recorded prompt tells those who attach to the turn; null for a record without ids.
 *
 * @category getters
 * @since 0.1.0
 */
export const startedBy = ({ prompt: { agent, ids, model }, sessionId }: PromptRecord): StartedTurn | null =>
  ids === undefined ? null : {
    sessionId,
    promptId: ids.promptId,
    ...(model !== undefined && { model: `${model.providerId}/${model.modelId}` }),
    ...(agent !== undefined && { agent })
  }

// internal

const describePart = (part: PromptPart): string => {
  switch (part.type) {
    case "text":
      return part.text.slice(0, 10 * maxExcerpt)
    case "file":
      return `[file ${part.filename ?? part.url.slice(0, 60)}]`
    case "agent":
      return `[@${part.name}]`
    case "subtask":
      return `[@${part.agent}: ${part.description}]`
  }
}
