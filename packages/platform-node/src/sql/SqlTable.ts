/**
 * Builds, runs and reads the statements of `SqlSessionStore`.
 *
 * **Responsibilities**: table names, errors, decoding rows.
 *
 * **Not responsibilities**: the content of the statements.
 */
import * as Contained from "@opencode-turn/core/Contained"
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import { type StoredMessage, StoreError } from "@opencode-turn/core/SessionStore"
import * as Tracing from "@opencode-turn/core/Tracing"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as SqlClock from "./SqlClock.ts"
import * as SqlFailure from "./SqlFailure.ts"
import * as SqlJournal from "./SqlJournal.ts"
import * as SqlRows from "./SqlRows.ts"

/** A statement that returns rows. */
export type Statement = Effect.Effect<ReadonlyArray<object>, SqlError>

/** The result of {@link make}. */
export type SqlTable = Effect.Success<typeof make>

/** The maximum number of attempts when the state changes concurrently. Each lost round means that somebody else made progress. */
export const maxRounds = 10

/** The failure after {@link maxRounds} attempts. */
export const tooBusy = (operation: string, what = "the message") =>
  new StoreError({ operation, reason: `${what} kept changing: try again`, isRetryable: true })

/** Converts a caller's limit of at least 1 to a number that a statement accepts. */
export const atMost = (limit: number): number => Math.min(Math.floor(limit), Number.MAX_SAFE_INTEGER)

/** The feature of the report about an unreadable row; `row` in the report's context is the row's id. */
export const unreadableRow = "unreadable row"

/** The maximum number of reported rows; each report is remembered. */
const maxReported = 1000

export const make = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const database = yield* SqlFailure.database

  const messages = sql(SqlRows.messagesTable)
  const conversations = sql(SqlRows.conversationsTable)
  const prompts = sql(SqlRows.promptsTable)
  const records = sql(SqlRows.recordsTable)
  const journal = SqlJournal.make(sql, database)
  const asks = sql(SqlRows.asksTable)
  const { now, skewMillis } = yield* SqlClock.make(sql, database)
  const names = SqlRows.messageColumns(skewMillis)
  const columns = sql.literal(names.all)
  const ownColumns = sql.literal(names.own)
  const stateColumns = sql.literal(names.state)
  const holdColumns = sql.literal(SqlRows.holdColumns)
  /** The end of `RETURNING`: it notifies the watchers of the row, if the database can. */
  const news = sql.onDialectOrElse({
    pg: () => sql.literal(`, ${SqlRows.notifyChange}`),
    orElse: () => sql.literal("")
  })
  /** The same where the status or the epoch of a message may have changed. */
  const stateNews = sql.onDialectOrElse({
    pg: () => sql.literal(`, ${SqlRows.notifyChange}, ${SqlRows.notifyState}`),
    orElse: () => sql.literal("")
  })
  const query = <A extends object>(operation: string, statement: Effect.Effect<ReadonlyArray<A>, SqlError>) =>
    Effect.mapError(Tracing.statement(statement), database.failure(operation))

  /** Whether a guarded statement with `RETURNING` changed the row. */
  const isChanged = (operation: string, statement: Statement) =>
    Effect.map(query(operation, statement), (rows) => rows.length > 0)

  const reading =
    <A>(table: string, decode: (row: unknown) => Effect.Effect<A, Schema.SchemaError>) =>
    (operation: string, statement: Statement): Effect.Effect<ReadonlyArray<A>, StoreError> =>
      Effect.flatMap(query(operation, statement), (rows) => Effect.forEach(rows, decoding(operation, table, decode)))

  const decoding =
    <A>(operation: string, table: string, decode: (row: unknown) => Effect.Effect<A, Schema.SchemaError>) =>
    (row: unknown) =>
      Effect.mapError(decode(row), (error) =>
        new StoreError({
          operation,
          reason: `${database.name}: ${SqlRows.undecodable(table, row, error)}`,
          isRetryable: false
        }))

  /** The unreadable rows that were reported. */
  const reported = new Set<string>()

  /** Reads a list. An unreadable row is left out and reported once; the other rows are unaffected. */
  const listing =
    <A>(table: string, decode: (operation: string) => (row: unknown) => Effect.Effect<A, StoreError>) =>
    (operation: string, statement: Statement) =>
      Effect.flatMap(query(operation, statement), (rows) =>
        Effect.gen(function*() {
          const decodeRow = decode(operation)
          const readable: Array<A> = []
          const errors: Array<StoreError> = []
          for (const row of rows) {
            const read = yield* Effect.result(decodeRow(row))
            if (Result.isSuccess(read)) {
              readable.push(read.success)
              continue
            }
            const error = read.failure
            // A database that is away is no unreadable row.
            if (error.isRetryable) return yield* error
            errors.push(error)
            if (reported.has(error.reason) || reported.size >= maxReported) continue
            reported.add(error.reason)
            const context = { operation, table, row: SqlRows.idOf(row) ?? "" }
            yield* Contained.report(unreadableRow, context, Cause.fail(error))
          }
          return { readable, errors }
        }))

  /** Reads a list for people. If every row is unreadable it fails, because an empty list would be misleading. */
  const listingForPeople =
    <A>(table: string, decode: (operation: string) => (row: unknown) => Effect.Effect<A, StoreError>) =>
    (operation: string, statement: Statement): Effect.Effect<ReadonlyArray<A>, StoreError> =>
      Effect.flatMap(
        listing(table, decode)(operation, statement),
        ({ errors: [error], readable }) =>
          error !== undefined && readable.length === 0 ? Effect.fail(error) : Effect.succeed(readable)
      )

  const decodeMessage = (operation: string) => {
    const decodeRow = decoding(operation, SqlRows.messagesTable, SqlRows.decodeMessage)
    return (row: unknown): Effect.Effect<StoredMessage, StoreError> =>
      Effect.flatMap(decodeRow(row), (message) =>
        message.offset === 0
          ? Effect.succeed(SqlRows.withReply(message, []))
          : Effect.map(journal.readAll(operation, message.id), (updates) => SqlRows.withReply(message, updates)))
  }
  const decodeState = (operation: string) => decoding(operation, SqlRows.messagesTable, SqlRows.decodeMessageState)
  const decodeAsk = (operation: string) => decoding(operation, SqlRows.asksTable, SqlRows.decodeAsk)

  const readConversations = reading(SqlRows.conversationsTable, SqlRows.decodeConversation)
  const readStates = reading(SqlRows.messagesTable, SqlRows.decodeMessageState)
  const readHolds = reading(SqlRows.messagesTable, SqlRows.decodeHold)
  const readAsks = reading(SqlRows.asksTable, SqlRows.decodeAsk)

  const listMessages = listingForPeople(SqlRows.messagesTable, decodeMessage)
  const listStates = listingForPeople(SqlRows.messagesTable, decodeState)
  const listAsks = listingForPeople(SqlRows.asksTable, decodeAsk)
  const listReadable = listing(SqlRows.messagesTable, decodeState)

  const readState = (operation: string, statement: Statement) =>
    Effect.map(readStates(operation, statement), (found) => Option.fromUndefinedOr(found[0]))

  const readHold = (operation: string, statement: Statement) =>
    Effect.map(readHolds(operation, statement), (found) => Option.fromUndefinedOr(found[0]))

  const readMessage = (operation: string, statement: Statement) =>
    Effect.flatMap(
      query(operation, statement),
      ([row]) => row === undefined ? Effect.succeedNone : Effect.asSome(decodeMessage(operation)(row))
    )

  /**
   * Reads a message from a statement whose `RETURNING` lists the message's own columns. The prompt is read afterwards, because it never
   * changes: SQLite copies the values of `RETURNING`, which took 60 ms for a prompt with a file of 10 MiB.
   */
  const readChanged = (operation: string, id: AssistantMessageId, statement: Statement) =>
    readMessage(
      operation,
      Effect.flatMap(statement, (changed) =>
        changed.length === 0
          ? Effect.succeed([])
          : Effect.gen(function*() {
            const [prompt] = yield* sql`SELECT prompt FROM ${prompts} WHERE message_id = ${id}`
            const [record] = yield* sql`SELECT draft, request FROM ${records} WHERE message_id = ${id}`
            return changed.map((row) => ({ draft: null, request: null, ...row, ...prompt, ...record }))
          }))
    )

  /** Reads the row and then the journal, and once more if it was written in between. */
  const findMessage = Effect.fnUntraced(function*(operation: string, id: AssistantMessageId) {
    for (let round = 0; round < maxRounds; round++) {
      const found = yield* readMessage(operation, sql`SELECT ${columns} FROM ${messages} WHERE id = ${id}`)
      if (Option.isNone(found) || found.value.offset === 0) return found
      const now = yield* readState(operation, sql`SELECT ${stateColumns} FROM ${messages} WHERE id = ${id}`)
      if (Option.exists(now, ({ revision }) => revision === found.value.revision)) return found
    }
    return yield* tooBusy(operation)
  })

  /** Names the field that JSON cannot hold, or what the caller calls the value. */
  const encoded = <A>(operation: string, encoding: Effect.Effect<A, Schema.SchemaError>, name?: string) =>
    Effect.mapError(encoding, (error) =>
      new StoreError({
        operation,
        reason: `${database.name}: ${name ?? SqlRows.field(error)} is not a value that can be kept as JSON`,
        isRetryable: false
      }))

  return {
    sql,
    database,
    now,
    messages,
    conversations,
    prompts,
    records,
    asks,
    journal,
    columns,
    ownColumns,
    stateColumns,
    holdColumns,
    news,
    stateNews,
    query,
    isChanged,
    readConversations,
    readAsks,
    listMessages,
    listStates,
    listReadable,
    listAsks,
    readState,
    readHold,
    readMessage,
    readChanged,
    findMessage,
    encoded
  }
})
