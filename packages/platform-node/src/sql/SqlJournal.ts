/**
 * The journals of messages in a SQL database: written by entries, and read on from any place.
 */
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import { StoreError } from "@opencode-turn/core/SessionStore"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Statement } from "effect/sql/Statement"
import type { Database } from "./SqlFailure.ts"
import * as SqlRows from "./SqlRows.ts"

/** The operations on journals over a connection. */
export const make = (sql: SqlClient.SqlClient, database: Database) => {
  const table = sql(SqlRows.journalTable)
  const columns = sql.literal(SqlRows.entryColumns)

  /** Deletes the journal. */
  const clear = (id: AssistantMessageId) => sql`DELETE FROM ${table} WHERE message_id = ${id}`

  /** Writes entries behind a place. It runs in the transaction that has checked the owner. */
  const write = Effect.fnUntraced(function*(
    id: AssistantMessageId,
    after: number,
    entries: ReadonlyArray<Row>
  ): Effect.fn.Return<void, SqlError> {
    const { removed, replaced, texts } = staleOf(entries)
    if (entries.some(({ kind }) => kind === "reset")) yield* clear(id)
    for (const some of Arr.chunksOf(replaced, chunkLength)) {
      yield* sql`DELETE FROM ${table}
        WHERE message_id = ${id} AND kind <> 'open' AND kind <> 'append' AND ${sql.in("entry", some)}`
    }
    for (const some of Arr.chunksOf(texts, chunkLength)) {
      yield* sql`DELETE FROM ${table} WHERE message_id = ${id} AND kind = 'append' AND ${sql.in("entry", some)}`
    }
    for (const some of Arr.chunksOf(removed, chunkLength)) {
      yield* sql`DELETE FROM ${table} WHERE message_id = ${id} AND ${sql.in("entry", some)}`
    }
    const rows = entries.map(({ change, entry, kind }, at) => ({
      message_id: id,
      place: after + at + 1,
      entry,
      kind,
      change
    }))
    for (const some of Arr.chunksOf(rows, chunkLength)) yield* sql`INSERT INTO ${table} ${sql.insert(some)}`
  })

  /**
   * Writes entries if the update of the row of their message changes it. On PostgreSQL this is one statement, so that a connection is not
   * held between several.
   */
  const writeWith = (
    id: AssistantMessageId,
    update: Statement<{ readonly last: number }>,
    entries: ReadonlyArray<Row>
  ): Effect.Effect<ReadonlyArray<object>, SqlError> => {
    const inTransaction = sql.withTransaction(Effect.flatMap(update, ([row]) =>
      row === undefined
        ? Effect.succeed([])
        : Effect.as(write(id, row.last - entries.length, entries), [row])))
    if (entries.length === 0) return update
    return sql.onDialectOrElse({
      pg: () => entries.length > maxInOneStatement ? inTransaction : inOneStatement(id, update, entries),
      orElse: () => inTransaction
    })
  }

  const inOneStatement = (
    id: AssistantMessageId,
    update: Statement<{ readonly last: number }>,
    entries: ReadonlyArray<Row>
  ) => {
    const { removed, replaced, texts } = staleOf(entries)
    const isStale = sql.or([
      ...(entries.some(({ kind }) => kind === "reset") ? [sql.literal("1 = 1")] : []),
      ...(replaced.length === 0 ? [] : [sql`(kind <> 'open' AND kind <> 'append' AND ${sql.in("entry", replaced)})`]),
      ...(texts.length === 0 ? [] : [sql`(kind = 'append' AND ${sql.in("entry", texts)})`]),
      ...(removed.length === 0 ? [] : [sql`(${sql.in("entry", removed)})`]),
      sql.literal("1 = 0")
    ])
    const rows = entries.map(({ change, entry, kind }, at) =>
      sql`(CAST(${at + 1 - entries.length} AS INTEGER), ${entry}, ${kind}, ${change})`
    )
    return sql`WITH changed AS (${update}),
      gone AS (DELETE FROM ${table} USING changed WHERE message_id = ${id} AND ${isStale})
      INSERT INTO ${table} (message_id, place, entry, kind, change)
      SELECT ${id}, changed.last + told.place, told.entry, told.kind, told.change
      FROM changed, (VALUES ${sql.csv(rows)}) AS told (place, entry, kind, change)
      RETURNING place`
  }

  const query = (operation: string, statement: Effect.Effect<ReadonlyArray<object>, SqlError>) =>
    Effect.flatMap(
      Effect.mapError(statement, database.failure(operation)),
      (rows) =>
        Effect.forEach(rows, (row) =>
          Effect.mapError(SqlRows.decodeEntry(row), (error) =>
            new StoreError({
              operation,
              reason: `${database.name}: ${SqlRows.undecodable(SqlRows.journalTable, row, error)}`,
              isRetryable: false
            })))
    )

  /** Reads a page. A text that is closed in it is joined from the entries of its part. */
  const read = Effect.fnUntraced(function*(
    operation: string,
    id: AssistantMessageId,
    after: number,
    limit: number
  ): Effect.fn.Return<ReadonlyArray<Journal.PlacedUpdate>, StoreError> {
    const entries = yield* query(
      operation,
      sql`SELECT ${columns} FROM ${table} WHERE message_id = ${id} AND place > ${after} ORDER BY place LIMIT ${limit}`
    )
    const texts = new Map<string, string>()
    const updates: Array<Journal.PlacedUpdate> = []
    for (const entry of entries) {
      const { key, offset, update, write } = entry
      if (write === "open" || write === "replace") texts.set(key, SqlRows.textIn(entry))
      const text = texts.get(key)
      if (write === "append" && text !== undefined) texts.set(key, text + SqlRows.textIn(entry))
      if (write !== "close") {
        updates.push({ offset, update })
        continue
      }
      const whole = text ?? (yield* textBefore(operation, id, entry))
      updates.push({ offset, update: SqlRows.mapText(update, () => whole) })
    }
    return updates
  })

  const textBefore = (operation: string, id: AssistantMessageId, { key, offset }: SqlRows.Entry) =>
    Effect.map(
      query(
        operation,
        sql`SELECT ${columns} FROM ${table}
          WHERE message_id = ${id} AND entry = ${key} AND place < ${offset} ORDER BY place`
      ),
      (entries) => {
        const begun = entries.findLastIndex(({ write }) => write === "open" || write === "replace")
        return entries.slice(Math.max(begun, 0)).map(SqlRows.textIn).join("")
      }
    )

  /** Reads the whole journal. */
  const readAll = (operation: string, id: AssistantMessageId) =>
    Effect.map(
      Journal.readAll((after) => read(operation, id, after, pageLength)),
      (updates) => updates.map(({ update }) => update)
    )

  return { writeWith, read, readAll, clear }
}

// internal

/** The columns of an entry that is to be written. */
type Row = Effect.Success<ReturnType<typeof SqlRows.encodeEntry>>

/** What the entries take the place of: other states of a part, its appended texts, or all of it. */
const staleOf = (entries: ReadonlyArray<Row>) => {
  const replaced = entries.filter(({ kind }) => kind === "replace")
  return {
    replaced: replaced.map(({ entry }) => entry),
    texts: replaced.filter(({ isText }) => isText).map(({ entry }) => entry),
    removed: entries.filter(({ kind }) => kind === "remove").map(({ entry }) => entry)
  }
}

/** PostgreSQL allows 65,535 parameters. */
const maxInOneStatement = 5000

/** How many entries are read at once. */
const pageLength = 1000

/** How many values or rows one statement holds: each row has five parameters, of which SQLite allows 32,766. */
const chunkLength = 500
