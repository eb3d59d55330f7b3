/**
 * Databases as the earlier versions of the tables wrote them.
 */
import { Effect } from "effect"
import type { SqlClient } from "effect/sql"

export type OldVersion = 1 | 2 | 3 | 4 | 5

/** A row of any version: each writes the columns that it has. */
export interface OldRow {
  readonly id: string
  readonly status: string
  readonly prompt: string
  readonly content?: string
  readonly parts?: string
  readonly usage: string
  readonly epoch?: number
  readonly request?: string
  readonly error?: string
  readonly finished_millis?: number
  readonly revision?: number
  readonly owner?: string
  readonly lease_until_millis?: number
  readonly draft?: string
  readonly subagents?: string
  readonly finish?: string
  readonly is_fallback?: 1
  readonly takeovers?: number
  readonly excerpt?: string
  readonly started?: string
  readonly journal?: ReadonlyArray<OldEntry>
}

/** An entry of a journal, in place of the `parts` and `subagents` of a row. */
export interface OldEntry {
  readonly entry: string
  readonly kind: "open" | "append" | "close"
  readonly change: string
}

export interface OldAsk {
  readonly id: string
  readonly message_id: string
  readonly ask: string
  readonly status: string
  readonly answer?: string
  readonly closed_millis?: number
}

export const createdMillis = 1_754_000_000_000

/** Makes the tables of a version as they were released, with rows of one conversation, `con_1`. */
export const write = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  { asks, rows, version }: {
    readonly version: OldVersion
    readonly rows: ReadonlyArray<OldRow>
    readonly asks: ReadonlyArray<OldAsk>
  }
) {
  const isSince = (since: OldVersion) => version >= since
  const column = (since: OldVersion, definition: string) => sql.literal(isSince(since) ? `${definition},` : "")
  const columnUntil = (until: OldVersion, definition: string) => sql.literal(isSince(until) ? "" : `${definition},`)
  const position = sql.literal(sql.onDialectOrElse({
    pg: () => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    orElse: () => "INTEGER PRIMARY KEY"
  }))
  yield* sql`CREATE TABLE opencode_turn_migrations (
    migration_id INTEGER PRIMARY KEY NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    name VARCHAR(255) NOT NULL
  )`
  const steps = [
    "conversations_and_messages",
    "leases_and_queue",
    "subagents_and_asks",
    "ends_and_takeovers",
    "journals"
  ]
  for (const [at, name] of steps.slice(0, version).entries()) {
    yield* sql`INSERT INTO opencode_turn_migrations ${sql.insert({ migration_id: at + 1, name })}`
  }
  yield* sql`CREATE TABLE opencode_turn_conversations (id TEXT NOT NULL PRIMARY KEY, session_id TEXT NOT NULL)`
  const open = isSince(2) ? "'queued', 'pending'" : "'pending'"
  yield* sql`CREATE TABLE opencode_turn_assistant_messages (
    position ${position},
    id TEXT NOT NULL UNIQUE,
    conversation_id TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN (${sql.literal(open)}, 'completed', 'cancelled', 'error')),
    epoch INTEGER NOT NULL CHECK (epoch >= 1),
    ${column(2, "revision INTEGER NOT NULL DEFAULT 1 CHECK (revision >= 1)")}
    ${column(2, "owner TEXT")}
    ${column(2, "lease_until_millis DOUBLE PRECISION")}
    ${columnUntil(3, "prompt TEXT NOT NULL")}
    ${isSince(5) ? sql.literal("") : column(2, "draft TEXT")}
    ${columnUntil(5, "request TEXT")}
    content TEXT ${sql.literal(isSince(5) ? "" : "NOT NULL")},
    ${columnUntil(5, "parts TEXT NOT NULL")}
    usage TEXT NOT NULL,
    error TEXT,
    created_millis DOUBLE PRECISION NOT NULL,
    finished_millis DOUBLE PRECISION,
    ${isSince(5) ? sql.literal("") : column(3, "subagents TEXT NOT NULL DEFAULT '[]'")}
    ${column(4, "finish TEXT")}
    ${column(4, "is_fallback INTEGER NOT NULL DEFAULT 0 CHECK (is_fallback IN (0, 1))")}
    ${column(4, "takeovers INTEGER NOT NULL DEFAULT 0 CHECK (takeovers >= 0)")}
    ${column(5, "journal_offset INTEGER NOT NULL DEFAULT 0 CHECK (journal_offset >= 0)")}
    ${column(5, "excerpt TEXT NOT NULL DEFAULT '\"\"'")}
    ${column(5, "started TEXT")}
    CHECK ((status IN (${sql.literal(open)})) = (finished_millis IS NULL))
  )`
  yield* sql`CREATE UNIQUE INDEX opencode_turn_assistant_messages_pending
    ON opencode_turn_assistant_messages (conversation_id) WHERE status = 'pending'`
  yield* sql`CREATE INDEX opencode_turn_assistant_messages_history
    ON opencode_turn_assistant_messages (conversation_id, position)`
  if (isSince(2)) {
    yield* sql`CREATE INDEX opencode_turn_assistant_messages_queued
      ON opencode_turn_assistant_messages (conversation_id, position) WHERE status = 'queued'`
    yield* sql`CREATE INDEX opencode_turn_assistant_messages_leases
      ON opencode_turn_assistant_messages (lease_until_millis) WHERE finished_millis IS NULL`
    yield* sql`CREATE INDEX opencode_turn_assistant_messages_status
      ON opencode_turn_assistant_messages (status, position)`
    yield* sql`CREATE INDEX opencode_turn_assistant_messages_finished
      ON opencode_turn_assistant_messages (finished_millis) WHERE finished_millis IS NOT NULL`
    yield* sql.onDialectOrElse({
      pg: () =>
        sql`CREATE FUNCTION opencode_turn_queue_length(conversation TEXT) RETURNS BIGINT LANGUAGE sql VOLATILE AS $$
          SELECT pg_advisory_xact_lock(hashtextextended('opencode_turn ' || conversation, 0));
          SELECT count(*) FROM opencode_turn_assistant_messages WHERE conversation_id = conversation AND status = 'queued'
        $$`,
      orElse: () => Effect.void
    })
  }
  if (isSince(3)) {
    yield* sql`CREATE TABLE opencode_turn_prompts (message_id TEXT NOT NULL PRIMARY KEY, prompt TEXT NOT NULL)`
    yield* sql`CREATE TABLE opencode_turn_asks (
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
    yield* sql`CREATE INDEX opencode_turn_asks_open ON opencode_turn_asks (position) WHERE status = 'open'`
    yield* sql`CREATE INDEX opencode_turn_asks_conversation
      ON opencode_turn_asks (conversation_id, position) WHERE status = 'open'`
    yield* sql`CREATE INDEX opencode_turn_asks_message ON opencode_turn_asks (message_id, position)`
  }
  if (isSince(5)) {
    yield* sql`CREATE TABLE opencode_turn_journal (
      message_id TEXT NOT NULL,
      place INTEGER NOT NULL,
      entry TEXT NOT NULL,
      kind TEXT NOT NULL CHECK (kind IN ('open', 'append', 'close', 'replace', 'remove', 'reset')),
      change TEXT NOT NULL,
      PRIMARY KEY (message_id, place)
    ) ${sql.literal(sql.onDialectOrElse({ pg: () => "", orElse: () => "WITHOUT ROWID" }))}`
    yield* sql`CREATE INDEX opencode_turn_journal_entries
      ON opencode_turn_journal (message_id, entry) WHERE kind <> 'open' AND kind <> 'append'`
    yield* sql`CREATE TABLE opencode_turn_prompt_records (
      message_id TEXT NOT NULL PRIMARY KEY,
      draft TEXT,
      request TEXT
    )`
  }

  yield* sql`INSERT INTO opencode_turn_conversations (id, session_id) VALUES ('con_1', 'ses_1')`
  for (const row of rows) {
    const { journal = [], prompt, ...written } = row
    const { content, draft, excerpt, finish, is_fallback, lease_until_millis, owner, parts, ...more } = written
    const { request, revision, started, subagents, takeovers, ...first } = more
    const since2 = { revision: revision ?? 1, owner, lease_until_millis }
    const since4 = { finish, is_fallback: is_fallback ?? 0, takeovers: takeovers ?? 0 }
    const since5 = { content, excerpt: excerpt ?? "\"\"", started, journal_offset: journal.length }
    const values = {
      conversation_id: "con_1",
      epoch: 1,
      created_millis: createdMillis,
      ...first,
      ...(isSince(2) && since2),
      ...(!isSince(3) && { prompt }),
      ...(isSince(4) && since4),
      ...(isSince(5) ? since5 : {
        content: content ?? "\"\"",
        parts: parts ?? "[]",
        request,
        ...(isSince(2) && { draft }),
        ...(isSince(3) && { subagents: subagents ?? "[]" })
      })
    }
    const known = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
    yield* sql`INSERT INTO opencode_turn_assistant_messages ${sql.insert(known)}`
    if (isSince(3)) yield* sql`INSERT INTO opencode_turn_prompts ${sql.insert({ message_id: row.id, prompt })}`
    if (!isSince(5)) continue
    const record = { message_id: row.id, draft: draft ?? null, request: request ?? null }
    yield* sql`INSERT INTO opencode_turn_prompt_records ${sql.insert(record)}`
    for (const [at, entry] of journal.entries()) {
      yield* sql`INSERT INTO opencode_turn_journal ${sql.insert({ message_id: row.id, place: at + 1, ...entry })}`
    }
  }
  if (!isSince(3)) return
  for (const ask of asks) {
    yield* sql`INSERT INTO opencode_turn_asks ${
      sql.insert({ conversation_id: "con_1", created_millis: createdMillis, ...ask })
    }`
  }
})
