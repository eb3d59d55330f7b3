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
import type * as Statement from "effect/sql/Statement"
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
    entries: Encoded
  ): Effect.fn.Return<void, SqlError> {
    const replaced = entries.filter(({ kind }) => kind === "replace")
    const texts = replaced.filter(({ isText }) => isText)
    const removed = entries.filter(({ kind }) => kind === "remove").map(({ entry }) => entry)
    if (entries.some(({ kind }) => kind === "reset")) yield* clear(id)
    for (const some of Arr.chunksOf(replaced.map(({ entry }) => entry), chunkLength)) {
      yield* sql`DELETE FROM ${table}
        WHERE message_id = ${id} AND kind <> 'open' AND kind <> 'append' AND ${sql.in("entry", some)}`
    }
    for (const some of Arr.chunksOf(texts.map(({ entry }) => entry), chunkLength)) {
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
   * Changes the row of a message and writes the entries, in one statement if the database can: between the statements of a transaction
   * the connection and the lock of the row would wait for this process. The change returns the place of the last entry.
   */
  const writeWith = (
    id: AssistantMessageId,
    change: Change,
    entries: Encoded
  ): Effect.Effect<ReadonlyArray<object>, SqlError> =>
    sql.onDialectOrElse({
      pg: () => entries.length > chunkLength ? inTransaction(id, change, entries) : atOnce(id, change, entries),
      orElse: () => inTransaction(id, change, entries)
    })

  const inTransaction = (
    id: AssistantMessageId,
    change: Change,
    entries: Encoded
  ) =>
    sql.withTransaction(Effect.gen(function*() {
      const [changed] = yield* change
      if (changed === undefined) return []
      yield* write(id, changed.last - entries.length, entries)
      return [changed]
    }))

  /**
   * The deletion sees the journal as it was before the statement. What the same owner wrote meanwhile would only stay longer: the new
   * entries stand behind it.
   */
  const atOnce = (
    id: AssistantMessageId,
    change: Change,
    entries: Encoded
  ) => {
    const named = (isMeant: (entry: (typeof entries)[number]) => boolean, condition: string) => {
      const some = entries.filter(isMeant).map(({ entry }) => entry)
      return some.length === 0 ? [] : [sql.and([sql.literal(condition), sql.in("entry", some)])]
    }
    const gone = entries.some(({ kind }) => kind === "reset") ? [sql.literal("1 = 1")] : [
      ...named(({ kind }) => kind === "replace", "kind <> 'open' AND kind <> 'append'"),
      ...named(({ isText, kind }) => kind === "replace" && isText, "kind = 'append'"),
      ...named(({ kind }) => kind === "remove", "1 = 1")
    ]
    const deleting = gone.length === 0 ? sql.literal("") : sql`, gone AS (
        DELETE FROM ${table} WHERE message_id = ${id} AND EXISTS (SELECT 1 FROM changed) AND ${sql.or(gone)}
      )`
    const rows = entries.map(({ change, entry, kind }, at) =>
      sql`(CAST(${at + 1} AS INTEGER), ${entry}, ${kind}, ${change})`
    )
    return sql`WITH changed AS (${change})${deleting}
      INSERT INTO ${table} (message_id, place, entry, kind, change)
      SELECT CAST(${id} AS TEXT), changed.last - CAST(${entries.length} AS INTEGER) + told.place, told.entry, told.kind, told.change
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
      const { place, update } = entry
      if (entry.kind === "open" || entry.kind === "replace") texts.set(entry.entry, SqlRows.textIn(entry))
      const text = texts.get(entry.entry)
      if (entry.kind === "append" && text !== undefined) texts.set(entry.entry, text + SqlRows.textIn(entry))
      if (entry.kind !== "close") {
        updates.push({ offset: place, update })
        continue
      }
      const whole = text ?? (yield* textBefore(operation, id, entry))
      updates.push({ offset: place, update: SqlRows.mapText(update, () => whole) })
    }
    return updates
  })

  const textBefore = (operation: string, id: AssistantMessageId, { entry, place }: SqlRows.Entry) =>
    Effect.map(
      query(
        operation,
        sql`SELECT ${columns} FROM ${table}
          WHERE message_id = ${id} AND entry = ${entry} AND place < ${place} ORDER BY place`
      ),
      (entries) => {
        const begun = entries.findLastIndex(({ kind }) => kind === "open" || kind === "replace")
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

type Encoded = ReadonlyArray<Effect.Success<ReturnType<typeof SqlRows.encodeEntry>>>

type Change = Statement.Statement<{ readonly last: number }>

/** How many entries are read at once. */
const pageLength = 1000

/** How many values or rows one statement holds: each row has five parameters, of which SQLite allows 32,766. */
const chunkLength = 500
