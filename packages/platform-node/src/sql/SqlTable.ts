/**
 * How the statements of `SqlSessionStore` are put together, run and read.
 *
 * Owns: the names, the errors, the decoding of rows. Does not own: what a statement says.
 */
import * as Contained from "@opencode-turn/core/Contained"
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import { StoreError } from "@opencode-turn/core/SessionStore"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as SqlFailure from "./SqlFailure.ts"
import * as SqlRows from "./SqlRows.ts"

/** A statement that gives rows. */
export type Statement = Effect.Effect<ReadonlyArray<object>, SqlError>

/** {@link make}'s result. */
export type SqlTable = Effect.Success<typeof make>

/** How often an operation looks again when the state changed under it: each time somebody else made progress. */
export const maxRounds = 10

/** After {@link maxRounds}. */
export const tooBusy = (operation: string, what = "the message") =>
  new StoreError({ operation, reason: `${what} changed too often meanwhile: try again`, isRetryable: true })

/** A caller's limit, at least 1, as one that a statement takes. */
export const atMost = (limit: number): number => Math.min(Math.floor(limit), Number.MAX_SAFE_INTEGER)

/** The feature of the report about a row that cannot be read; `row` in its context is the row's id. */
export const unreadableRow = "unreadable row"

/** So many unreadable rows are reported: each is remembered. */
const maxReported = 1000

export const make = Effect.gen(function*() {
  const sql = (yield* SqlClient.SqlClient).withoutTransforms()
  const database = yield* SqlFailure.database

  const messages = sql(SqlRows.messagesTable)
  const conversations = sql(SqlRows.conversationsTable)
  const prompts = sql(SqlRows.promptsTable)
  const asks = sql(SqlRows.asksTable)
  const columns = sql.literal(SqlRows.messageColumns)
  const ownColumns = sql.literal(SqlRows.ownColumns)
  const stateColumns = sql.literal(SqlRows.stateColumns)
  /** At the end of `RETURNING`: tells those who watch the row, where the database can. */
  const news = sql.onDialectOrElse({
    pg: () => sql.literal(`, ${SqlRows.notifyChange}`),
    orElse: () => sql.literal("")
  })
  const query = <A extends object>(operation: string, statement: Effect.Effect<ReadonlyArray<A>, SqlError>) =>
    Effect.mapError(statement, database.failure(operation))

  /** For a guarded statement with `RETURNING`: whether it changed the row. */
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

  /** The rows that were reported as unreadable. */
  const reported = new Set<string>()

  /**
   * Reads a list: a row that cannot be decoded is left out and reported once. The rows that follow it, or precede it, are somebody else's.
   */
  const listing =
    <A>(table: string, decode: (row: unknown) => Effect.Effect<A, Schema.SchemaError>) =>
    (operation: string, statement: Statement) =>
      Effect.flatMap(query(operation, statement), (rows) =>
        Effect.gen(function*() {
          const decodeRow = decoding(operation, table, decode)
          const readable: Array<A> = []
          const errors: Array<StoreError> = []
          for (const row of rows) {
            const read = yield* Effect.result(decodeRow(row))
            if (Result.isSuccess(read)) {
              readable.push(read.success)
              continue
            }
            const error = read.failure
            errors.push(error)
            if (reported.has(error.reason) || reported.size >= maxReported) continue
            reported.add(error.reason)
            const context = { operation, table, row: SqlRows.idOf(row) ?? "" }
            yield* Contained.report(unreadableRow, context, Cause.fail(error))
          }
          return { readable, errors }
        }))

  /** For people: where every row is unreadable, an empty list would tell them that there is none. */
  const listingForPeople =
    <A>(table: string, decode: (row: unknown) => Effect.Effect<A, Schema.SchemaError>) =>
    (operation: string, statement: Statement): Effect.Effect<ReadonlyArray<A>, StoreError> =>
      Effect.flatMap(
        listing(table, decode)(operation, statement),
        ({ errors: [error], readable }) =>
          error !== undefined && readable.length === 0 ? Effect.fail(error) : Effect.succeed(readable)
      )

  const readConversations = reading(SqlRows.conversationsTable, SqlRows.decodeConversation)
  const readMessages = reading(SqlRows.messagesTable, SqlRows.decodeMessage)
  const readStates = reading(SqlRows.messagesTable, SqlRows.decodeMessageState)
  const readAsks = reading(SqlRows.asksTable, SqlRows.decodeAsk)

  const listMessages = listingForPeople(SqlRows.messagesTable, SqlRows.decodeMessage)
  const listAsks = listingForPeople(SqlRows.asksTable, SqlRows.decodeAsk)
  const listReadable = listing(SqlRows.messagesTable, SqlRows.decodeMessage)

  const readState = (operation: string, statement: Statement) =>
    Effect.map(readStates(operation, statement), (found) => Option.fromUndefinedOr(found[0]))

  const readMessage = (operation: string, statement: Statement) =>
    Effect.map(readMessages(operation, statement), (found) => Option.fromUndefinedOr(found[0]))

  /**
   * For a statement with `RETURNING` the message's own columns. Its prompt never changes, so that it may be read afterwards: SQLite
   * copies what `RETURNING` gives back, which took 60 ms for a prompt with a file of 10 MiB.
   */
  const readChanged = (operation: string, id: AssistantMessageId, statement: Statement) =>
    readMessage(
      operation,
      Effect.flatMap(statement, (changed) =>
        changed.length === 0
          ? Effect.succeed([])
          : Effect.map(
            sql`SELECT prompt FROM ${prompts} WHERE message_id = ${id}`,
            ([found]) => changed.map((row) => ({ ...row, ...found }))
          ))
    )

  const findMessage = (operation: string, id: AssistantMessageId) =>
    readMessage(operation, sql`SELECT ${columns} FROM ${messages} WHERE id = ${id}`)

  const encoded = <A>(operation: string, encoding: Effect.Effect<A, Schema.SchemaError>) =>
    Effect.mapError(encoding, (error) =>
      new StoreError({
        operation,
        reason: `${database.name}: ${SqlRows.field(error)} is not a value that can be kept as JSON`,
        isRetryable: false
      }))

  return {
    sql,
    database,
    messages,
    conversations,
    prompts,
    asks,
    columns,
    ownColumns,
    stateColumns,
    news,
    query,
    isChanged,
    readConversations,
    readAsks,
    listMessages,
    listReadable,
    listAsks,
    readState,
    readMessage,
    readChanged,
    findMessage,
    encoded
  }
})
