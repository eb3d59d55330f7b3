/**
 * Turns database errors into `StoreError`s that name the database, the problem and the remedy, and never contain a value.
 */
import { StoreError } from "@opencode-turn/core/SessionStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"

/** The name of a database in error messages. */
export interface Database {
  readonly name: string
  readonly failure: (operation: string) => (error: SqlError) => StoreError
}

/** The database of the client, if its connector knows the name. */
export const CurrentDatabase = Context.Reference<Database | undefined>(
  "@opencode-turn/platform-node/SqlFailure/CurrentDatabase",
  { defaultValue: () => undefined }
)

/** The database of the connected client. */
export const database: Effect.Effect<Database, StoreError, SqlClient.SqlClient> = Effect.flatMap(
  Effect.all([CurrentDatabase, SqlClient.SqlClient]),
  ([current, sql]) =>
    current !== undefined ? Effect.succeed(current) : sql.onDialectOrElse({
      sqlite: () =>
        sql.withoutTransforms()<{ file: string }>`SELECT file FROM pragma_database_list WHERE name = 'main'`.pipe(
          Effect.map((rows) => sqliteDatabase(rows[0]?.file ?? "")),
          Effect.mapError(sqliteDatabase("").failure("open"))
        ),
      orElse: () => Effect.succeed(serverDatabase("the database"))
    })
)

/** A SQLite database, named by its file; `""` and `:memory:` have none. */
export const sqliteDatabase = (filename: string): Database => {
  const name = filename === "" || filename === ":memory:"
    ? "the SQLite database in memory"
    : `the SQLite database "${filename}"`
  return {
    name,
    failure: (operation) => (error) => {
      const reason = sqliteReason(error)
      return new StoreError({
        operation,
        // A database that cannot be opened is named by the error itself.
        reason: reason.includes(name) ? reason : `${name}: ${reason}`,
        // Effect marks every connection error as retryable, but retrying does not create a missing folder.
        isRetryable: error.reason._tag === "LockTimeoutError"
      })
    }
  }
}

/** A PostgreSQL database, named by host, port and name from its URL. */
export const postgresDatabase = (url: Redacted.Redacted): Database => {
  const { hostname, pathname, port } = URL.canParse(Redacted.value(url)) ? new URL(Redacted.value(url)) : noUrl
  const name = pathname.length > 1 ? ` ${JSON.stringify(decode(pathname.slice(1)))}` : ""
  const host = hostname === "" ? "" : ` at ${hostname}${port === "" ? "" : `:${port}`}`
  return serverDatabase(`the PostgreSQL database${name}${host}`)
}

// internal

const noUrl = { hostname: "", pathname: "", port: "" }

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

const serverDatabase = (name: string): Database => ({
  name,
  failure: (operation) => (error) => {
    const known = states[sqlState(error.reason.cause)]
    return new StoreError({
      operation,
      // The server's own message may quote values, so only the kind of the error is shown.
      reason: `${name}: ${known?.reason ?? reasons[error.reason._tag]}`,
      isRetryable: known?.isRetryable ?? error.isRetryable
    })
  }
})

/** PostgreSQL's SQLSTATE, see https://www.postgresql.org/docs/current/errcodes-appendix.html. */
const sqlState = (cause: unknown): string =>
  Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code) ? cause.code : ""

/** Errors that Effect's kinds do not distinguish. */
const states: Record<string, { readonly reason: string; readonly isRetryable: boolean }> = {
  "3D000": { reason: "there is no database of that name; create it", isRetryable: false },
  "25006": { reason: "it is read-only; connect to the primary server", isRetryable: true },
  "53100": { reason: "its disk is full; free some space", isRetryable: false },
  "53300": { reason: "it has too many connections already; allow more, or use fewer", isRetryable: true },
  "57P01": { reason: "it is being shut down; try again", isRetryable: true },
  "57P02": { reason: "it crashed; try again", isRetryable: true },
  "57P03": { reason: "it is starting up or shutting down; try again", isRetryable: true }
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

/** SQLite's own messages contain the names of columns and tables, but never values, because all values are bound. */
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
