/**
 * From the errors of a database to `StoreError`: which database, what is wrong with it, what to do, and never a value.
 */
import { StoreError } from "@opencode-turn/core/SessionStore"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"

/** A database as error messages speak of it. */
export interface Database {
  readonly name: string
  readonly failure: (operation: string) => (error: SqlError) => StoreError
}

/** The database that the client is connected to. */
export const database: Effect.Effect<Database, StoreError, SqlClient.SqlClient> = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    sql.onDialectOrElse({
      sqlite: () =>
        sql.withoutTransforms()<{ file: string }>`SELECT file FROM pragma_database_list WHERE name = 'main'`.pipe(
          Effect.map((rows) => sqliteDatabase(rows[0]?.file ?? "")),
          Effect.mapError(sqliteDatabase("").failure("open"))
        ),
      orElse: () => Effect.succeed(anyDatabase)
    })
)

/** A SQLite database by its file; `""` and `:memory:` have none. */
export const sqliteDatabase = (filename: string): Database => {
  const name = filename === "" || filename === ":memory:"
    ? "the SQLite database in memory"
    : `the SQLite database "${filename}"`
  return {
    name,
    failure: (operation) => (error) =>
      new StoreError({
        operation,
        reason: `${name}: ${sqliteReason(error)}`,
        // Effect calls every connection error retryable; a missing folder stays missing.
        isRetryable: error.reason._tag === "LockTimeoutError"
      })
  }
}

// internal

const anyDatabase: Database = {
  name: "the database",
  failure: (operation) => (error) =>
    new StoreError({
      operation,
      // A server's own message may quote values: only the kind of the error is told.
      reason: `the database: ${reasons[error.reason._tag]}`,
      isRetryable: error.isRetryable
    })
}

const reasons: Record<SqlError["reason"]["_tag"], string> = {
  AuthenticationError: "it refused the credentials; check user and password",
  AuthorizationError: "it refused the access; grant the user its rights on the tables",
  ConnectionError: "it cannot be reached",
  ConstraintError: "it refused a row that breaks one of its rules",
  DeadlockError: "two transactions waited for each other; try again",
  LockTimeoutError: "another connection held its lock for too long; try again",
  SerializationError: "a concurrent transaction came first; try again",
  SqlSyntaxError: "it did not understand a statement; its tables may be of another version",
  StatementTimeoutError: "a statement took too long; try again",
  UniqueViolation: "it refused a row that exists already",
  UnknownError: "a statement failed"
}

/** SQLite's own messages name columns and tables, never the values, which are all bound. */
const sqliteReason = (error: SqlError): string => {
  const advice = sqliteAdvice(resultCode(error.reason.cause))
  return advice === undefined ? error.message : `${error.message}; ${advice}`
}

/** SQLite's primary result code, see https://sqlite.org/rescode.html. */
const resultCode = (cause: unknown): number | undefined =>
  Predicate.hasProperty(cause, "errno") && Predicate.isNumber(cause.errno) ? cause.errno & 0xff : undefined

const sqliteAdvice = (code: number | undefined): string | undefined => {
  switch (code) {
    case 5: // BUSY
    case 6: // LOCKED
      return "another connection holds the lock, try again"
    case 8: // READONLY
      return "make the file and its folder writable"
    case 10: // IOERR
      return "check the disk that holds the file"
    case 11: // CORRUPT
    case 26: // NOTADB
      return "restore the file from a backup, or choose another one"
    case 13: // FULL
      return "free some space on the disk that holds the file"
    case 14: // CANTOPEN
      return "the folder must exist, and the file and the folder must be readable and writable"
    default:
      return undefined
  }
}
