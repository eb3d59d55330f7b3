/**
 * Between the rows of `SqlSessionStore` and the values of the domain.
 *
 * All texts but ids, owners and states are JSON: PostgreSQL's text holds no NUL, and neither dialect's holds half a
 * surrogate pair.
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

/** An expression over a message: its prompt. It never changes, so that a later look at it is as good as one at the same time. */
export const promptOfMessage = `(SELECT prompt FROM ${promptsTable} WHERE message_id = id)`

/** What may be read of a message at any time: it is small. */
export const stateColumns = `id, conversation_id AS "conversationId", status, epoch, revision`

/** The columns of a message's own table under the names of its fields: all but the prompt. */
export const ownColumns =
  `id, conversation_id AS "conversationId", status, epoch, revision, owner, lease_until_millis AS "leaseUntilMillis", ` +
  `takeovers, draft, request, content, is_fallback AS "isFallback", finish, parts, usage, subagents, error, created_millis AS "createdMillis", ` +
  `finished_millis AS "finishedMillis"`

/** The columns of a message under the names of its fields. */
export const messageColumns = `${ownColumns}, ${promptOfMessage} AS prompt`

/** An expression over a request: whether its message has not ended, so that somebody waits for the answer. */
export const isAwaited =
  `EXISTS (SELECT 1 FROM ${messagesTable} AS message WHERE message.id = message_id AND message.finished_millis IS NULL)`

const isAbandoned = `status = 'open' AND NOT ${isAwaited}`

/** The status of a request to its reader: an unanswered one of a message that has ended is withdrawn. */
export const askStatus = `CASE WHEN ${isAbandoned} THEN 'withdrawn' ELSE status END`

/** The columns of a request under the names of its fields, as they are to its reader. */
export const askColumns =
  `id, message_id AS "messageId", conversation_id AS "conversationId", ask, ${askStatus} AS status, answer, ` +
  `created_millis AS "createdMillis", CASE WHEN ${isAbandoned} THEN COALESCE((SELECT message.finished_millis ` +
  `FROM ${messagesTable} AS message WHERE message.id = message_id), created_millis) ELSE closed_millis END AS "closedMillis"`

/** PostgreSQL's channel for changes of messages and requests. */
export const changeChannel = "opencode_turn_changes"

/** What a change says on the channel: enough of the id to tell most messages apart; a notification holds 8,000 bytes. */
export const changeKey = (id: string): string => Array.from(id).slice(0, changeKeyLength).join("")

const changeKeyLength = 256

/** An expression for `RETURNING` that tells of the changed row once the statement is committed. */
export const notifyChange = `pg_notify('${changeChannel}', left(id, ${changeKeyLength}))`

const { content, draft, error, finish, parts, prompt, subagents, usage } = StoredMessage.fields

/** The columns of the words that are shown, by their own names. */
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

/** Without the parts where they are the message's own prompt, which may be large and is stored already. */
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
/** What tells a row that changed from one that did not. */
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
/** Only the fields of `Content`, with their defaults: the caller may hold more, an `Outcome` for example. */
const columnsOf = ({ content, finish = null, isFallback = false, parts, subagents = [], usage }: Content) => ({
  content,
  is_fallback: isFallback,
  finish,
  parts,
  usage,
  subagents
})
/** The words of a cancel, in place of what the agent said. */
export const encodeFallback = (content: string) =>
  Schema.encodeEffect(TextColumns)({ content, is_fallback: true, finish: null })
export const encodeContent = (content: Content) => Schema.encodeEffect(ContentColumns)(columnsOf(content))
export const encodeOutcome = (outcome: Outcome) =>
  Schema.encodeEffect(OutcomeColumns)({ ...columnsOf(outcome), status: outcome.status, error: outcome.error })
export const encodeAsk = Schema.encodeEffect(AskColumn)
export const encodeAnswer = Schema.encodeEffect(AnswerColumn)

/** The reply of a message that has none yet. */
export const emptyReply = Schema.encodeSync(ContentColumns)(columnsOf({ content: "", parts: [], usage: Usage.zero }))

/** Where a value does not fit its schema, by the top field alone: what lies deeper are the conversation's own words. */
export const field = (error: Schema.SchemaError): string =>
  String(SchemaIssue.makeFormatterStandardSchemaV1()(error.issue).issues[0]?.path?.[0] ?? "the row")

/** The row's id, if it can be read. */
export const idOf = (row: unknown): string | undefined =>
  Predicate.hasProperty(row, "id") && Predicate.isString(row.id) ? row.id : undefined

/** What is wrong with a row, and what to do about it. */
export const undecodable = (table: string, row: unknown, error: Schema.SchemaError): string => {
  const id = idOf(row)
  const named = id === undefined ? "without an id" : JSON.stringify(id)
  return `table ${table} holds a row that cannot be decoded (id ${named}, field ${
    field(error)
  }): correct it or delete it`
}
