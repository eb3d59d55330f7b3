/**
 * Converts between the rows of `SqlSessionStore` and the values of the domain.
 *
 * All texts except ids, owners and states are JSON: PostgreSQL's text cannot hold NUL, and neither dialect's can hold a lone surrogate.
 */
import { SessionId } from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import type { Part } from "@opencode-turn/core/Part"
import { Prompt } from "@opencode-turn/core/Prompt"
import { type Content, MessageState, type Outcome, PromptRecord, StoredMessage } from "@opencode-turn/core/SessionStore"
import { StoredAsk } from "@opencode-turn/core/StoredAsk"
import { startedBy } from "@opencode-turn/core/StoredMessage"
import * as Usage from "@opencode-turn/core/Usage"
import { Wait } from "@opencode-turn/core/Wait"
import { fromWire, toWire, WireUpdate } from "@opencode-turn/core/WireUpdate"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as Struct from "effect/Struct"

export const messagesTable = "opencode_turn_assistant_messages"
export const conversationsTable = "opencode_turn_conversations"
export const promptsTable = "opencode_turn_prompts"
export const recordsTable = "opencode_turn_prompt_records"
export const journalTable = "opencode_turn_journal"
export const asksTable = "opencode_turn_asks"

/** The columns that tell who holds a message. */
export const holdColumns = `id, conversation_id AS "conversationId", status, epoch`

/**
 * The columns of a message, named as its fields: its state, those of its own table, and all but its journal. The end of a lease is read
 * as a time of the process's clock; the database's clock is `skewMillis` ahead of it. PostgreSQL's drivers return 8-byte integers as text.
 */
export const messageColumns = (skewMillis: number) => {
  const state =
    `id, conversation_id AS "conversationId", CAST(position AS DOUBLE PRECISION) AS position, status, epoch, revision, ` +
    `journal_offset AS "offset", owner, lease_until_millis - (${skewMillis}) AS "leaseUntilMillis", takeovers, excerpt, ` +
    `started, is_fallback AS "isFallback", finish, usage, error, reverted_by AS "revertedBy", created_millis AS "createdMillis", ` +
    `finished_millis AS "finishedMillis"`
  const own = `${state}, content`
  const all = `${own}, (SELECT prompt FROM ${promptsTable} WHERE message_id = id) AS prompt, ` +
    `(SELECT draft FROM ${recordsTable} WHERE message_id = id) AS draft, ` +
    `(SELECT request FROM ${recordsTable} WHERE message_id = id) AS request`
  return { state, own, all }
}

/** The columns of a journal's entry: `place` is its offset, `entry` the JSON of its key, `kind` its write, and `change` its update. */
export const entryColumns = `message_id AS id, place, entry, kind, change`

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

/** The payload of a notification that the status or the epoch of a message may have changed. */
export const stateKey = (id: string): string => `${statePrefix}${changeKey(id)}`

const changeKeyLength = 256
const statePrefix = "state "

/** An expression for `RETURNING` that notifies of the changed row when the statement commits. */
export const notifyChange = `pg_notify('${changeChannel}', left(id, ${changeKeyLength}))`

/** The same for a change of a message's status or epoch. */
export const notifyState = `pg_notify('${changeChannel}', '${statePrefix}' || left(id, ${changeKeyLength})) AS told`

const { account, content, draft, error, excerpt, finish, prompt, started, usage } = StoredMessage.fields

/** The columns of the shown text, by their own names. A text that the parts tell is not written again. */
const TextColumns = Schema.Struct({
  content: Schema.NullOr(Schema.fromJsonString(content)),
  is_fallback: Schema.BooleanFromBit,
  finish: Schema.NullOr(Schema.fromJsonString(finish.members[0]))
})

/** The usage and the account change together. A row of an earlier program has no account. */
const UsageColumn = Schema.fromJsonString(Schema.Struct({ ...usage.fields, account: Schema.optionalKey(account) }))

const ContentColumns = Schema.Struct({ ...TextColumns.fields, usage: UsageColumn })

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

const StartedColumn = Schema.NullOr(Schema.fromJsonString(started.members[0]))

const PromptRecordColumns = Schema.Struct({
  whole: PromptRecordColumn,
  withoutParts: PromptRecordColumn,
  prompt: Schema.fromJsonString(prompt),
  started: StartedColumn
})

const ClaimColumns = Schema.Struct({
  prompt: Schema.fromJsonString(prompt),
  draft: Schema.NullOr(Schema.fromJsonString(draft.members[0])),
  excerpt: Schema.fromJsonString(excerpt)
})

const StateRow = Schema.Struct({
  ...Struct.omit(MessageState.fields, ["account"]),
  started: StartedColumn,
  excerpt: ClaimColumns.fields.excerpt,
  isFallback: TextColumns.fields.is_fallback,
  finish: TextColumns.fields.finish,
  usage: ContentColumns.fields.usage,
  error: OutcomeColumns.fields.error
})

const Row = Schema.Struct({
  ...StateRow.fields,
  content: TextColumns.fields.content,
  prompt: ClaimColumns.fields.prompt,
  draft: ClaimColumns.fields.draft,
  request: Schema.NullOr(PromptRecordColumn)
})

/** An update, or a wait, which only the journal tells. */
const ChangeColumn = Schema.fromJsonString(
  Schema.Union([...WireUpdate.members, Schema.Struct({ type: Schema.Literal("waited"), wait: Wait })])
)

const EntryRow = Schema.Struct({
  place: Schema.Int,
  entry: Schema.String,
  kind: Schema.Literals(["open", "append", "close", "replace", "remove", "reset"]),
  change: ChangeColumn
})

const AskColumn = Schema.Struct({ ask: Schema.fromJsonString(StoredAsk.fields.ask) })

const AnswerColumn = Schema.Struct({ answer: Schema.fromJsonString(StoredAsk.fields.answer.members[0]) })

const AskRow = Schema.Struct({
  ...StoredAsk.fields,
  ...AskColumn.fields,
  answer: Schema.NullOr(AnswerColumn.fields.answer)
})

const withAccount = <A extends { readonly usage: typeof UsageColumn.Type }>(row: A) => {
  const { account = null, ...usage } = row.usage
  return { ...row, usage, account }
}

const decodeRow = Schema.decodeUnknownEffect(Row)

/** Reads a message without its reply, whose content is null if the reply tells it. */
export const decodeMessage = (row: unknown) =>
  Effect.map(decodeRow(row), ({ request, ...message }) => ({
    ...withAccount(message),
    promptRecord: request === null ? null : { ...request, prompt: { parts: message.prompt, ...request.prompt } }
  }))

/** Joins a message and what its journal tells. */
export const withReply = (
  { content, ...message }: Effect.Success<ReturnType<typeof decodeMessage>>,
  updates: Iterable<Journal.JournalUpdate>
): StoredMessage => {
  const { parts, subagents, waits } = Journal.apply(updates)
  return { ...message, content: content ?? Journal.textOf(parts), parts, subagents, waits }
}

/** An entry of a journal as it is stored: a `close` holds no text, and the key is JSON. */
export interface Entry extends Journal.JournalEntry {
  readonly offset: number
}

const decodeEntryRow = Schema.decodeUnknownEffect(EntryRow)

export const decodeEntry = (row: unknown): Effect.Effect<Entry, Schema.SchemaError> =>
  Effect.map(decodeEntryRow(row), ({ change, entry, kind, place }) => ({
    offset: place,
    key: entry,
    write: kind,
    update: change.type === "waited" ? { _tag: "Waited", wait: change.wait } : fromWire(change)
  }))
export const decodeAsk = Schema.decodeUnknownEffect(AskRow)
const decodeStateRow = Schema.decodeUnknownEffect(StateRow)

export const decodeMessageState = (row: unknown) => Effect.map(decodeStateRow(row), withAccount)
export const decodeHold = Schema.decodeUnknownEffect(
  Schema.Struct({
    id: StoredMessage.fields.id,
    conversationId: StoredMessage.fields.conversationId,
    status: StoredMessage.fields.status,
    epoch: StoredMessage.fields.epoch
  })
)
/** Reads the columns that distinguish a changed row from an unchanged one, and for a message its status and epoch. */
export const decodeState = Schema.decodeUnknownOption(
  Schema.Struct({
    id: Schema.String,
    state: Schema.Union([Schema.Int, Schema.String]),
    status: Schema.optionalKey(StoredMessage.fields.status),
    epoch: Schema.optionalKey(Schema.Int)
  })
)
export const decodeConversation = Schema.decodeUnknownEffect(Schema.Struct({ sessionId: SessionId }))
export const encodeClaim = Schema.encodeEffect(ClaimColumns)
export const encodePromptRecord = (record: PromptRecord) => {
  const { parts, ...choices } = record.prompt
  return Schema.encodeEffect(PromptRecordColumns)({
    whole: record,
    withoutParts: { ...record, prompt: choices },
    prompt: parts,
    started: startedBy(record)
  })
}
/** Takes only the fields of `Content`, with defaults, because the caller may pass more, for example an `Outcome`. */
const columnsOf = ({ account = null, content, finish = null, isFallback = false, parts, usage }: Content) => ({
  content: isToldBy(parts, content) ? null : content,
  is_fallback: isFallback,
  finish,
  usage: { ...usage, ...(account !== null && { account }) }
})

/** Compares the lengths first, because joining and comparing the texts takes time in proportion to them. */
const isToldBy = (parts: ReadonlyArray<Part>, content: string): boolean => {
  let length = -2
  for (const part of parts) if (part.type === "text" && part.text !== "") length += part.text.length + 2
  return Math.max(length, 0) === content.length && Journal.textOf(parts) === content
}

/** The text of a cancelled turn, which replaces the agent's own. */
export const encodeFallback = (content: string) =>
  Schema.encodeEffect(TextColumns)({ content, is_fallback: true, finish: null })
export const encodeContent = (content: Content) => Schema.encodeEffect(ContentColumns)(columnsOf(content))
export const encodeOutcome = (outcome: Outcome) =>
  Schema.encodeEffect(OutcomeColumns)({ ...columnsOf(outcome), status: outcome.status, error: outcome.error })

const encodeChange = Schema.encodeEffect(ChangeColumn)

/** The columns of an entry. The text of a part that is closed stands in the entries before it. The key holds an id of the server's. */
export const encodeEntry = ({ key, update, write }: Journal.JournalEntry) =>
  Effect.map(
    encodeChange(changeOf(write === "close" ? mapText(update, () => "") : update)),
    (change) => ({ entry: JSON.stringify(key), kind: write, change, isText: isText(update) })
  )

/** The update itself, or the one that a subagent's update carries. */
const saidIn = (update: Journal.JournalUpdate) => (update._tag === "SubagentUpdate" ? update.update : update)

const isText = (update: Journal.JournalUpdate): boolean => {
  const said = saidIn(update)
  return said._tag === "PartChanged" && "text" in said.part
}

const changeOf = (update: Journal.JournalUpdate) =>
  update._tag === "Waited" ? { type: "waited", wait: update.wait } as const : toWire(update)

/** Changes the text of the part that an update tells. */
export const mapText = (update: Journal.JournalUpdate, f: (text: string) => string): Journal.JournalUpdate => {
  switch (update._tag) {
    case "PartChanged":
      return "text" in update.part ? { ...update, part: { ...update.part, text: f(update.part.text) } } : update
    case "SubagentUpdate":
      return update.update._tag === "PartChanged" && "text" in update.update.part
        ? {
          ...update,
          update: { ...update.update, part: { ...update.update.part, text: f(update.update.part.text) } }
        }
        : update
    default:
      return update
  }
}

/** The text that an entry adds to its part, or begins it with. */
export const textIn = ({ update }: Pick<Entry, "update">): string => {
  const said = saidIn(update)
  if (said._tag === "TextDelta" || said._tag === "ReasoningDelta") return said.delta
  return said._tag === "PartChanged" && "text" in said.part ? said.part.text : ""
}

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
