/**
 * Creates and updates the tables of `SqlSessionStore`, version by version.
 *
 * **Responsibilities**
 * - Brings a database to this program's version, in numbered steps and one transaction.
 * - Refuses a database of a newer program, and leaves it unchanged.
 *
 * **Not responsibilities**: creating the database file or its folder, backups, downgrades.
 *
 * **Gotchas**
 *
 * Never edit a released step, because existing databases have run it; add a new step.
 *
 * @since 0.1.0
 */
import * as Journal from "@opencode-turn/core/Journal"
import { Prompt } from "@opencode-turn/core/Prompt"
import { PromptRecord, StartedTurn, StoredMessage, StoreError } from "@opencode-turn/core/SessionStore"
import { excerptOf, startedBy } from "@opencode-turn/core/StoredMessage"
import * as Usage from "@opencode-turn/core/Usage"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import { isSqlError } from "effect/sql/SqlError"
import * as SqlFailure from "./SqlFailure.ts"
import * as SqlRows from "./SqlRows.ts"

/**
 * The newest version of the tables that this program supports.
 *
 * @category constants
 * @since 0.1.0
 */
export const version = 7

/**
 * Brings the tables to {@link version}; tables of that version stay unchanged.
 *
 * **Details**
 *
 * Several processes may start at once: one of them runs the steps, and the others wait.
 *
 * @category migrations
 * @since 0.1.0
 */
export const run: Effect.Effect<void, StoreError, SqlClient.SqlClient> = Effect.gen(function*() {
  const database = yield* SqlFailure.database
  yield* Migrator.make({})({ table, loader: Migrator.fromRecord(steps) }).pipe(
    Effect.mapError((error) => {
      if (error._tag === "SqlError") return database.failure(operation)(error)
      if (isSqlError(error.cause)) return database.failure(operation)(error.cause)
      return new StoreError({ operation, reason: `${database.name}: ${error.message}`, isRetryable: false })
    }),
    Effect.retry({ while: (error) => error.isRetryable, schedule: whileLocked })
  )
  // This check comes last, because a newer program may have migrated first; the steps above do nothing in a newer database.
  yield* check
})

/**
 * Fails unless the tables have exactly the {@link version} of this program. Changes nothing.
 *
 * @category migrations
 * @since 0.1.0
 */
export const check: Effect.Effect<void, StoreError, SqlClient.SqlClient> = Effect.gen(function*() {
  const database = yield* SqlFailure.database
  const found = yield* Effect.mapError(storedVersion, database.failure(operation))
  if (found === version) return
  return yield* new StoreError({
    operation,
    reason: found > version
      ? `${database.name} was written by a newer version of opencode-turn (its tables have version ${found}, this program ` +
        `knows ${version}): update this program; nothing was changed`
      : `${database.name} lacks the tables of this version of opencode-turn (it has version ${found}, this program needs ` +
        `${version}): run the migrations first`,
    isRetryable: false
  })
})

// internal

const operation = "migrate"

const table = "opencode_turn_migrations"

/** Retries after the busy timeout of an attempt, during which two clients of one process would block each other. */
const whileLocked = Schedule.max([Schedule.spaced("50 millis"), Schedule.recurs(5)])

const createConversationsAndMessages = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  // The order of the first claims. Times cannot give it: clocks jump, and several messages may share a millisecond.
  const position = sql.literal(sql.onDialectOrElse({
    pg: () => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    orElse: () => "INTEGER PRIMARY KEY"
  }))
  yield* sql`
    CREATE TABLE opencode_turn_conversations (
      id TEXT NOT NULL PRIMARY KEY,
      session_id TEXT NOT NULL
    )`
  // Milliseconds are double precision, because PostgreSQL's drivers return 8-byte integers as text. All texts except the ids and the
  // status are JSON: PostgreSQL's text cannot hold NUL, and neither dialect's can hold a lone surrogate.
  yield* sql`
    CREATE TABLE opencode_turn_assistant_messages (
      position ${position},
      id TEXT NOT NULL UNIQUE,
      conversation_id TEXT NOT NULL,
      status TEXT NOT NULL CHECK (status IN ('pending', 'completed', 'cancelled', 'error')),
      epoch INTEGER NOT NULL CHECK (epoch >= 1),
      prompt TEXT NOT NULL,
      request TEXT,
      content TEXT NOT NULL,
      parts TEXT NOT NULL,
      usage TEXT NOT NULL,
      error TEXT,
      created_millis DOUBLE PRECISION NOT NULL,
      finished_millis DOUBLE PRECISION,
      CHECK ((status = 'pending') = (finished_millis IS NULL))
    )`
  yield* sql`
    CREATE UNIQUE INDEX opencode_turn_assistant_messages_pending
    ON opencode_turn_assistant_messages (conversation_id)
    WHERE status = 'pending'`
  yield* sql`
    CREATE INDEX opencode_turn_assistant_messages_history
    ON opencode_turn_assistant_messages (conversation_id, position)`
})

/**
 * Adds leases, the queue, and the columns that watchers and other workers read.
 *
 * Earlier messages have no lease: their owner does not know leases, and may still run.
 */
const addLeasesAndQueue = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql.onDialectOrElse({ pg: () => alterMessages, orElse: () => rebuildMessages })
  yield* sql`
    CREATE INDEX opencode_turn_assistant_messages_queued
    ON opencode_turn_assistant_messages (conversation_id, position)
    WHERE status = 'queued'`
  yield* sql`
    CREATE INDEX opencode_turn_assistant_messages_leases
    ON opencode_turn_assistant_messages (lease_until_millis)
    WHERE finished_millis IS NULL`
  yield* sql`
    CREATE INDEX opencode_turn_assistant_messages_status
    ON opencode_turn_assistant_messages (status, position)`
  yield* sql`
    CREATE INDEX opencode_turn_assistant_messages_finished
    ON opencode_turn_assistant_messages (finished_millis)
    WHERE finished_millis IS NOT NULL`
})

/** PostgreSQL chose these names for the checks of the first step. */
const alterMessages = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    ALTER TABLE opencode_turn_assistant_messages
      ADD COLUMN revision INTEGER NOT NULL DEFAULT 1 CHECK (revision >= 1),
      ADD COLUMN owner TEXT,
      ADD COLUMN lease_until_millis DOUBLE PRECISION,
      ADD COLUMN draft TEXT,
      DROP CONSTRAINT opencode_turn_assistant_messages_status_check,
      DROP CONSTRAINT opencode_turn_assistant_messages_check,
      ADD CHECK (status IN ('queued', 'pending', 'completed', 'cancelled', 'error')),
      ADD CHECK ((status IN ('queued', 'pending')) = (finished_millis IS NULL))`
  // Counts the queue at this moment. A claim is one statement whose snapshot is older than its lock, so two claims would otherwise both
  // take the last place.
  yield* sql`
    CREATE FUNCTION opencode_turn_queue_length(conversation TEXT) RETURNS BIGINT LANGUAGE sql VOLATILE AS $$
      SELECT pg_advisory_xact_lock(hashtextextended('opencode_turn ' || conversation, 0));
      SELECT count(*) FROM opencode_turn_assistant_messages WHERE conversation_id = conversation AND status = 'queued'
    $$`
})

/** SQLite cannot change a check, so this rebuilds the table and keeps the order of its rows. */
const rebuildMessages = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE opencode_turn_assistant_messages_new (
      position INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      conversation_id TEXT NOT NULL,
      status TEXT NOT NULL CHECK (status IN ('queued', 'pending', 'completed', 'cancelled', 'error')),
      epoch INTEGER NOT NULL CHECK (epoch >= 1),
      revision INTEGER NOT NULL DEFAULT 1 CHECK (revision >= 1),
      owner TEXT,
      lease_until_millis DOUBLE PRECISION,
      prompt TEXT NOT NULL,
      draft TEXT,
      request TEXT,
      content TEXT NOT NULL,
      parts TEXT NOT NULL,
      usage TEXT NOT NULL,
      error TEXT,
      created_millis DOUBLE PRECISION NOT NULL,
      finished_millis DOUBLE PRECISION,
      CHECK ((status IN ('queued', 'pending')) = (finished_millis IS NULL))
    )`
  const columns = sql.literal(
    "position, id, conversation_id, status, epoch, prompt, request, content, parts, usage, error, created_millis, " +
      "finished_millis"
  )
  yield* sql`
    INSERT INTO opencode_turn_assistant_messages_new (${columns}) SELECT ${columns} FROM opencode_turn_assistant_messages`
  yield* sql`DROP TABLE opencode_turn_assistant_messages`
  yield* sql`ALTER TABLE opencode_turn_assistant_messages_new RENAME TO opencode_turn_assistant_messages`
  yield* sql`
    CREATE UNIQUE INDEX opencode_turn_assistant_messages_pending
    ON opencode_turn_assistant_messages (conversation_id)
    WHERE status = 'pending'`
  yield* sql`
    CREATE INDEX opencode_turn_assistant_messages_history
    ON opencode_turn_assistant_messages (conversation_id, position)`
})

/**
 * Adds subagents and asks, and moves the prompts to their own table.
 *
 * Asks and prompts have no foreign key to their message, because SQLite would follow it when a later step rebuilds the table of
 * messages.
 */
const addSubagentsAndAsks = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  // The order in which asks were opened.
  const position = sql.literal(sql.onDialectOrElse({
    pg: () => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    orElse: () => "INTEGER PRIMARY KEY"
  }))
  yield* sql`ALTER TABLE opencode_turn_assistant_messages ADD COLUMN subagents TEXT NOT NULL DEFAULT '[]'`
  // A prompt is written once and may hold files of many megabytes, but SQLite rewrites the whole row with every change: renewing the
  // lease of a message with a file of 10 MiB took 60 ms.
  yield* sql`
    CREATE TABLE opencode_turn_prompts (
      message_id TEXT NOT NULL PRIMARY KEY,
      prompt TEXT NOT NULL
    )`
  yield* sql`
    INSERT INTO opencode_turn_prompts (message_id, prompt) SELECT id, prompt FROM opencode_turn_assistant_messages`
  yield* sql`ALTER TABLE opencode_turn_assistant_messages DROP COLUMN prompt`
  yield* sql`
    CREATE TABLE opencode_turn_asks (
      position ${position},
      id TEXT NOT NULL UNIQUE,
      message_id TEXT NOT NULL,
      conversation_id TEXT NOT NULL,
      ask TEXT NOT NULL,
      status TEXT NOT NULL CHECK (status IN ('open', 'answered', 'withdrawn')),
      answer TEXT,
      created_millis DOUBLE PRECISION NOT NULL,
      closed_millis DOUBLE PRECISION,
      CHECK ((status = 'open') = (closed_millis IS NULL)),
      CHECK ((status = 'answered') = (answer IS NOT NULL))
    )`
  yield* sql`
    CREATE INDEX opencode_turn_asks_open
    ON opencode_turn_asks (position)
    WHERE status = 'open'`
  yield* sql`
    CREATE INDEX opencode_turn_asks_conversation
    ON opencode_turn_asks (conversation_id, position)
    WHERE status = 'open'`
  // The index covers every status, because deleting a message deletes all its asks.
  yield* sql`
    CREATE INDEX opencode_turn_asks_message
    ON opencode_turn_asks (message_id, position)`
})

/**
 * Adds why an answer ended, whether the content is a fallback, and how often a turn was taken over from a dead worker.
 *
 * For earlier messages this is unknown: they read as the agent's own text with an unknown end.
 */
const addEndsAndTakeovers = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE opencode_turn_assistant_messages ADD COLUMN finish TEXT`
  yield* sql`
    ALTER TABLE opencode_turn_assistant_messages
    ADD COLUMN is_fallback INTEGER NOT NULL DEFAULT 0 CHECK (is_fallback IN (0, 1))`
  yield* sql`
    ALTER TABLE opencode_turn_assistant_messages
    ADD COLUMN takeovers INTEGER NOT NULL DEFAULT 0 CHECK (takeovers >= 0)`
})

/**
 * Puts each reply into a journal of its own, and moves what is large or seldom read out of the rows of the messages.
 *
 * A row that cannot be decoded keeps its old text in its journal, where a person finds it; reading it fails as it did before.
 */
const addJournals = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const messages = sql("opencode_turn_assistant_messages")
  const withoutRowid = sql.literal(sql.onDialectOrElse({ pg: () => "", orElse: () => "WITHOUT ROWID" }))
  // Clustered by its key, so that what is appended to one reply stands together.
  yield* sql`
    CREATE TABLE opencode_turn_journal (
      message_id TEXT NOT NULL,
      place INTEGER NOT NULL,
      entry TEXT NOT NULL,
      kind TEXT NOT NULL CHECK (kind IN ('open', 'append', 'close', 'replace', 'remove', 'reset')),
      change TEXT NOT NULL,
      PRIMARY KEY (message_id, place)
    ) ${withoutRowid}`
  // Finds the state of a part that a new one replaces. Appended texts are seldom replaced, and each would write a page of the index.
  yield* sql`
    CREATE INDEX opencode_turn_journal_entries
    ON opencode_turn_journal (message_id, entry)
    WHERE kind <> 'open' AND kind <> 'append'`
  yield* sql`
    CREATE TABLE opencode_turn_prompt_records (
      message_id TEXT NOT NULL PRIMARY KEY,
      draft TEXT,
      request TEXT
    )`
  yield* sql`
    INSERT INTO opencode_turn_prompt_records (message_id, draft, request) SELECT id, draft, request FROM ${messages}`
  yield* sql`ALTER TABLE ${messages} ADD COLUMN journal_offset INTEGER NOT NULL DEFAULT 0 CHECK (journal_offset >= 0)`
  yield* sql`ALTER TABLE ${messages} ADD COLUMN excerpt TEXT NOT NULL DEFAULT '""'`
  yield* sql`ALTER TABLE ${messages} ADD COLUMN started TEXT`
  yield* sql`ALTER TABLE ${messages} ADD COLUMN own_content TEXT`

  let after = 0
  while (true) {
    const page = yield* sql<OldRow>`
      SELECT CAST(position AS DOUBLE PRECISION) AS position, id, content, parts, subagents, request FROM ${messages}
      WHERE position > ${after} ORDER BY position LIMIT 20`
    const last = page.at(-1)
    if (last === undefined) break
    after = last.position
    for (const row of page) {
      const [prompt] = yield* sql<{ readonly prompt: string }>`
        SELECT prompt FROM opencode_turn_prompts WHERE message_id = ${row.id}`
      const { entries, ...changes } = yield* converted(row, prompt?.prompt)
      for (const [at, { change, entry, kind }] of entries.entries()) {
        const values = { message_id: row.id, place: at + 1, entry, kind, change }
        yield* sql`INSERT INTO opencode_turn_journal ${sql.insert(values)}`
      }
      yield* sql`UPDATE ${messages}
        SET ${
        sql.update({ ...changes, journal_offset: entries.length, parts: "[]", subagents: "[]" })
      } WHERE id = ${row.id}`
    }
  }

  for (const column of ["content", "parts", "subagents", "draft", "request"]) {
    yield* sql`ALTER TABLE ${messages} DROP COLUMN ${sql(column)}`
  }
  yield* sql`ALTER TABLE ${messages} RENAME COLUMN own_content TO content`
})

interface OldRow {
  readonly position: number
  readonly id: string
  readonly content: string
  readonly parts: string
  readonly subagents: string
  readonly request: string | null
}

const OldReply = Schema.Struct({
  content: Schema.fromJsonString(StoredMessage.fields.content),
  parts: Schema.fromJsonString(StoredMessage.fields.parts),
  subagents: Schema.fromJsonString(StoredMessage.fields.subagents)
})
const decodeOldReply = Schema.decodeUnknownOption(OldReply)
const decodeOldRequest = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({
  sessionId: PromptRecord.fields.sessionId,
  prompt: Schema.Struct({ ...Prompt.fields, parts: Schema.optionalKey(Schema.Unknown) })
})))
const decodePrompt = Schema.decodeUnknownOption(Schema.fromJsonString(StoredMessage.fields.prompt))
const encodeExcerpt = Schema.encodeSync(Schema.fromJsonString(Schema.String))
const encodeStarted = Schema.encodeSync(Schema.fromJsonString(StartedTurn))

/** A row of the fourth version in the form of the fifth. */
const converted = Effect.fnUntraced(function*(row: OldRow, prompt: string | undefined) {
  const request = row.request === null ? undefined : Option.getOrUndefined(decodeOldRequest(row.request))
  const started = request === undefined
    ? null
    : startedBy({ ...request, prompt: { ...request.prompt, parts: [] } })
  const words = prompt === undefined ? "" : Option.match(decodePrompt(prompt), { onNone: () => "", onSome: excerptOf })
  const columns = { excerpt: encodeExcerpt(words), started: started === null ? null : encodeStarted(started) }
  const reply = Option.getOrUndefined(decodeOldReply(row))
  if (reply === undefined) {
    const change = JSON.stringify({ parts: row.parts, subagents: row.subagents })
    const raw = { entry: "unreadable", kind: "open", change } as const
    return { ...columns, own_content: row.content, entries: [raw] }
  }
  const told = Journal.between(Journal.nothing, { ...reply, usage: Usage.zero })
  const entries = yield* Effect.orDie(Effect.forEach(told, SqlRows.encodeEntry))
  const isTold = Journal.textOf(reply.parts) === reply.content
  return { ...columns, own_content: isTold ? null : row.content, entries }
})

/** Marks messages that a revert took back. The index finds them by the revert. */
const addReverts = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  yield* sql`ALTER TABLE opencode_turn_assistant_messages ADD COLUMN reverted_by TEXT`
  yield* sql`
    CREATE INDEX opencode_turn_reverted ON opencode_turn_assistant_messages (reverted_by) WHERE reverted_by IS NOT NULL`
})

/** Remembers for which ended messages the server may still work. */
const addStops = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  yield* sql`ALTER TABLE opencode_turn_assistant_messages ADD COLUMN stop_due_millis DOUBLE PRECISION`
  yield* sql`
    CREATE INDEX opencode_turn_stops ON opencode_turn_assistant_messages (stop_due_millis) WHERE stop_due_millis IS NOT NULL`
})

const steps = {
  "0001_conversations_and_messages": createConversationsAndMessages,
  "0002_leases_and_queue": addLeasesAndQueue,
  "0003_subagents_and_asks": addSubagentsAndAsks,
  "0004_ends_and_takeovers": addEndsAndTakeovers,
  "0005_journals": addJournals,
  "0006_reverts": addReverts,
  "0007_stops": addStops
}

const storedVersion = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const existing = yield* sql.onDialectOrElse({
    pg: () => sql`SELECT 1 AS found WHERE to_regclass(${table}) IS NOT NULL`,
    orElse: () => sql`SELECT 1 AS found FROM sqlite_master WHERE type = 'table' AND name = ${table}`
  })
  if (existing.length === 0) return 0
  const rows = yield* sql`SELECT max(migration_id) AS version FROM ${sql(table)}`
  const [latest] = yield* Effect.orDie(decodeVersion(rows))
  return latest?.version ?? 0
})

/** Decodes an aggregate over an integer column, whose rows always have this shape. */
const decodeVersion = Schema.decodeUnknownEffect(Schema.Array(Schema.Struct({ version: Schema.NullOr(Schema.Int) })))
