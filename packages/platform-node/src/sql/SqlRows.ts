/**
 * Converts between the rows of `SqlSessionStore` and the values of the domain.
 *
 * All texts except ids, owners and states are JSON: PostgreSQL's text cannot hold NUL, and neither dialect's can hold a lone surrogate.
 */
import { SessionId } from "@opencode-turn/core/Ids"
import { Prompt } from "@opencode-turn/core/Prompt"
import { type Content, type Outcome, PromptRecord, StoredMessage } from "@opencode-turn/core/SessionStore"
import { StoredAsk } from "@opencode-turn/core/StoredAsk"
import * as Usage from "@opencode-turn/core/Usage"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"

export const messagesTable = "opencode_turn_assistant_messages"
export const conversationsTable = "opencode_turn_conversations"
export const promptsTable = "opencode_turn_prompts"
export const asksTable = "opencode_turn_asks"

/** An expression for the prompt of a message. A prompt never changes, so reading it later gives the same value. */
export const promptOfMessage = `(SELECT prompt FROM ${promptsTable} WHERE message_id = id)`

/** The small columns of a message, which are cheap to read often. */
export const stateColumns = `id, conversation_id AS "conversationId", status, epoch, revision`

/** The columns of a message's own table, named as its fields; the prompt is not among them. */
export const ownColumns =
  `id, conversation_id AS "conversationId", status, epoch, revision, owner, lease_until_millis AS "leaseUntilMillis", ` +
  `takeovers, draft, request, content, is_fallback AS "isFallback", finish, parts, usage, subagents, error, created_millis AS "createdMillis", ` +
  `finished_millis AS "finishedMillis"`

/** All columns of a message, named as its fields. */
export const messageColumns = `${ownColumns}, ${promptOfMessage} AS prompt`

/** An expression over an ask: whether its message is unfinished, so that a turn waits for the answer. */
export const isAwaited =
  `EXISTS (SELECT 1 FROM ${messagesTable} AS message WHERE message.id = message_id AND message.finished_millis IS NULL)`

const isAbandoned = `status = 'open' AND NOT ${isAwaited}`

/** The status of an ask as a reader sees it: an open ask of a finished message is withdrawn. */
export const askStatus = `CASE WHEN ${isAbandoned} THEN 'withdrawn' ELSE status END`

/** The columns of an ask as a reader sees them, named as its fields. */
export const askColumns =
  `id, message_id AS "messageId", conversation_id AS "conversationId", ask, ${askStatus} AS status, answer, ` +
  `created_millis AS "createdMillis", CASE WHEN ${isAbandoned} THEN COALESCE((SELECT message.finished_millis ` +
  `FROM ${messagesTable} AS message WHERE message.id = message_id), created_millis) ELSE closed_millis END AS "closedMillis"`

/** PostgreSQL's channel for changes of messages and asks. */
export const changeChannel = "opencode_turn_changes"

/** The payload of a notification: enough of the id to distinguish most messages, because a notification holds 8,000 bytes. */
export const changeKey = (id: string): string => Array.from(id).slice(0, changeKeyLength).join("")

const changeKeyLength = 256

/** An expression for `RETURNING` that notifies of the changed row when the statement commits. */
export const notifyChange = `pg_notify('${changeChannel}', left(id, ${changeKeyLength}))`

const { content, draft, error, finish, parts, prompt, subagents, usage } = StoredMessage.fields

/** The columns of the shown text, by their own names. */
const TextColumns = Schema.Struct({
  content: Schema.fromJsonString(content),
  is_fallback: Schema.BooleanFromBit,
  finish: Schema.NullOr(Schema.fromJsonString(finish.members[0]))
})

const ContentColumns = Schema.Struct({
  ...TextColumns.fields,
  parts: Schema.fromJsonString(parts),
  usage: Schema.fromJsonString(usage),
  subagents: Schema.fromJsonString(subagents)
})

const OutcomeColumns = Schema.Struct({
  ...ContentColumns.fields,
  status: StoredMessage.fields.status,
  error: Schema.NullOr(Schema.fromJsonString(error.members[0]))
})

/** Omits the parts if they are the message's own prompt, which may be large and is already stored. */
const PromptRecordColumn = Schema.fromJsonString(Schema.Struct({
  ...PromptRecord.fields,
  prompt: Schema.Struct({ ...Prompt.fields, parts: Schema.optionalKey(Prompt.fields.parts) })
}))

const PromptRecordColumns = Schema.Struct({
  whole: PromptRecordColumn,
  withoutParts: PromptRecordColumn,
  prompt: Schema.fromJsonString(prompt)
})

const ClaimColumns = Schema.Struct({
  prompt: Schema.fromJsonString(prompt),
  draft: Schema.NullOr(Schema.fromJsonString(draft.members[0]))
})

const { is_fallback: isFallback, ...outcomeFields } = OutcomeColumns.fields
const { promptRecord: _, ...messageFields } = StoredMessage.fields

const Row = Schema.Struct({
  ...messageFields,
  ...outcomeFields,
  isFallback,
  ...ClaimColumns.fields,
  request: Schema.NullOr(PromptRecordColumn)
})

const AskColumn = Schema.Struct({ ask: Schema.fromJsonString(StoredAsk.fields.ask) })

const AnswerColumn = Schema.Struct({ answer: Schema.fromJsonString(StoredAsk.fields.answer.members[0]) })

const AskRow = Schema.Struct({
  ...StoredAsk.fields,
  ...AskColumn.fields,
  answer: Schema.NullOr(AnswerColumn.fields.answer)
})

const decodeRow = Schema.decodeUnknownEffect(Row)

export const decodeMessage = (row: unknown): Effect.Effect<StoredMessage, Schema.SchemaError> =>
  Effect.map(decodeRow(row), ({ request, ...message }) => ({
    ...message,
    promptRecord: request === null ? null : { ...request, prompt: { parts: message.prompt, ...request.prompt } }
  }))
export const decodeAsk = Schema.decodeUnknownEffect(AskRow)
export const decodeMessageState = Schema.decodeUnknownEffect(
  Schema.Struct({
    id: StoredMessage.fields.id,
    conversationId: StoredMessage.fields.conversationId,
    status: StoredMessage.fields.status,
    epoch: StoredMessage.fields.epoch,
    revision: StoredMessage.fields.revision
  })
)
/** Reads the columns that distinguish a changed row from an unchanged one. */
export const decodeState = Schema.decodeUnknownOption(
  Schema.Struct({ state: Schema.Union([Schema.Int, Schema.String]) })
)
export const decodeConversation = Schema.decodeUnknownEffect(Schema.Struct({ sessionId: SessionId }))
export const encodeClaim = Schema.encodeEffect(ClaimColumns)
export const encodePromptRecord = (record: PromptRecord) => {
  const { parts, ...choices } = record.prompt
  return Schema.encodeEffect(PromptRecordColumns)({
    whole: record,
    withoutParts: { ...record, prompt: choices },
    prompt: parts
  })
}
/** Takes only the fields of `Content`, with defaults, because the caller may pass more, for example an `Outcome`. */
const columnsOf = ({ content, finish = null, isFallback = false, parts, subagents = [], usage }: Content) => ({
  content,
  is_fallback: isFallback,
  finish,
  parts,
  usage,
  subagents
})
/** The text of a cancelled turn, which replaces the agent's own. */
export const encodeFallback = (content: string) =>
  Schema.encodeEffect(TextColumns)({ content, is_fallback: true, finish: null })
export const encodeContent = (content: Content) => Schema.encodeEffect(ContentColumns)(columnsOf(content))
export const encodeOutcome = (outcome: Outcome) =>
  Schema.encodeEffect(OutcomeColumns)({ ...columnsOf(outcome), status: outcome.status, error: outcome.error })
export const encodeAsk = Schema.encodeEffect(AskColumn)
export const encodeAnswer = Schema.encodeEffect(AnswerColumn)

/** The reply columns of a message without a reply. */
export const emptyReply = Schema.encodeSync(ContentColumns)(columnsOf({ content: "", parts: [], usage: Usage.zero }))

/** The top-level field that does not fit its schema. Deeper paths would quote the conversation. */
export const field = (error: Schema.SchemaError): string =>
  String(SchemaIssue.makeFormatterStandardSchemaV1()(error.issue).issues[0]?.path?.[0] ?? "the row")

/** The row's id, if it is readable. */
export const idOf = (row: unknown): string | undefined =>
  Predicate.hasProperty(row, "id") && Predicate.isString(row.id) ? row.id : undefined

/** Says what is wrong with a row, and what to do about it. */
export const undecodable = (table: string, row: unknown, error: Schema.SchemaError): string => {
  const id = idOf(row)
  const named = id === undefined ? "without an id" : JSON.stringify(id)
  return `table ${table} holds a row that cannot be decoded (id ${named}, field ${
    field(error)
  }): correct it or delete it`
}
