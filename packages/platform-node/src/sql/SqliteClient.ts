/**
 * Effect's `SqlClient` over `node:sqlite`, the SQLite that Node carries: no native dependency, one file to drop once a
 * published driver for Effect 4.1 exists.
 *
 * *Responsibilities*: one connection shared through a semaphore, its pragmas, prepared statements, typed errors.
 *
 * *Not responsibilities*: tables and migrations, connection pools, backups, extensions.
 *
 * **Gotchas**
 *
 * - `node:sqlite` is synchronous: a statement blocks the event loop while it runs, and while it waits for a lock that
 *   another connection holds. See {@link Options.busyTimeout}.
 * - A statement holds one SQL command; SQLite ignores what follows the first `;`.
 * - Rows have no prototype, which matters only to a strict deep comparison.
 * - Node prints an `ExperimentalWarning` on the first import of `node:sqlite` in the 22 line (seen in 22.19) and not in
 *   24.21. An executable that must stay quiet there starts Node with `--disable-warning=ExperimentalWarning`; a library
 *   has no business to silence its host.
 *
 * @since 0.1.0
 */
import * as Cache from "effect/Cache"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Client from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { classifySqliteError, SqlError, UnknownError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import { closeSync, constants, existsSync, openSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import type { SQLInputValue, StatementSync } from "node:sqlite"

/**
 * How to open a SQLite database.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Path of the database file, or `:memory:`. A missing file is created for its owner alone (mode 0600, whatever the umask);
   * one that exists keeps its mode. SQLite gives its journals the mode of the file. A missing folder is not created.
   */
  readonly filename: string
  /** Opens the file without the right to write. Default: `false`. */
  readonly readonly?: boolean | undefined
  /** Leaves the journal mode of the file as it is. Default: `false`, so write-ahead logging is switched on. */
  readonly disableWAL?: boolean | undefined
  /**
   * How long a statement waits for a lock that another connection holds, before it fails with a retryable
   * `LockTimeoutError`. Default: 1 second.
   *
   * **Gotchas**
   *
   * The wait blocks the event loop, and with it a transaction that another client of the same process holds open: more
   * than a second would stop every other fiber for longer than a healthy writer ever needs.
   */
  readonly busyTimeout?: Duration.Input | undefined
  /** How many prepared statements are kept. Default: 200. */
  readonly prepareCacheSize?: number | undefined
  /** Further attributes of every statement's span. */
  readonly spanAttributes?: Record<string, unknown> | undefined
  /** Maps column names of results, `Statement.snakeToCamel` for example. */
  readonly transformResultNames?: ((name: string) => string) | undefined
  /** Maps identifiers in statements, `Statement.camelToSnake` for example. */
  readonly transformQueryNames?: ((name: string) => string) | undefined
}

/**
 * Opens a database for as long as the scope lives.
 *
 * **Details**
 *
 * Foreign keys are enforced. With write-ahead logging `synchronous` is `NORMAL`: a committed transaction survives a
 * crash of the process, and the last few may be lost when the machine loses power; the file stays sound in both cases.
 *
 * Transactions begin `IMMEDIATE`. A deferred one that reads first and writes later fails without waiting when another
 * connection wrote in between, and no busy timeout helps it.
 *
 * **Gotchas**
 *
 * A doubled primary key is a `ConstraintError` and only a doubled `UNIQUE` column a `UniqueViolation`, which is how
 * Effect classifies SQLite's errors.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Client.SqlClient, SqlError, Scope.Scope | Reactivity.Reactivity> {
  const database = yield* open(options)
  const connection = yield* makeConnection(database, options.prepareCacheSize ?? 200)
  const transformRows = options.transformResultNames === undefined
    ? undefined
    : Statement.defaultTransforms(options.transformResultNames).array

  return yield* Client.make({
    ...Client.makeSqliteAcquirers({
      connection: Effect.succeed(connection),
      semaphore: yield* Semaphore.make(1),
      isTransaction: () => database.isOpen && database.isTransaction
    }),
    driver: "sqlite-node",
    compiler: Statement.makeCompilerSqlite(options.transformQueryNames),
    beginTransaction: options.readonly === true ? "BEGIN" : "BEGIN IMMEDIATE",
    releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
    prepareTransactionControls: true,
    spanAttributes: [
      ...Object.entries(options.spanAttributes ?? {}),
      ["db.system.name", "sqlite"]
    ],
    ...(transformRows === undefined ? {} : { transformRows })
  })
})

/**
 * Provides `SqlClient` over the given database.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<Client.SqlClient, SqlError> =>
  Layer.effect(Client.SqlClient, make(options)).pipe(Layer.provide(Reactivity.layer))

/**
 * Provides `SqlClient` over a database whose options are read from the configuration.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<Client.SqlClient, Config.ConfigError | SqlError> =>
  Layer.effect(Client.SqlClient, Effect.flatMap(Config.unwrap(config), make)).pipe(Layer.provide(Reactivity.layer))

// internal

const open = (options: Options): Effect.Effect<DatabaseSync, SqlError, Scope.Scope> => {
  const inspect = (database: DatabaseSync) => {
    // SQLite opens any readable file; the first statement that touches the pages finds out whether it is a database.
    if (options.disableWAL === true || options.readonly === true) {
      database.prepare("PRAGMA schema_version").get()
    } else {
      database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
    }
    return database
  }
  const failed = (cause: unknown) => sqlError(cause, `cannot open the SQLite database "${options.filename}"`, "open")

  if (options.filename.startsWith("file:")) {
    // As a URI it could ask for a database in memory, or for one without locks.
    return Effect.fail(failed(new TypeError("it is a file: URI; name the path of the file alone")))
  }

  return Effect.acquireRelease(
    Effect.try({
      try: () => {
        if (options.readonly !== true && options.filename !== ":memory:") createPrivate(options.filename)
        return new DatabaseSync(options.filename, {
          readOnly: options.readonly === true,
          enableForeignKeyConstraints: true,
          timeout: Duration.toMillis(Duration.fromInputUnsafe(options.busyTimeout ?? "1 second"))
        })
      },
      catch: failed
    }),
    (database) => Effect.sync(() => database.close())
  ).pipe(
    Effect.flatMap((database) => Effect.try({ try: () => inspect(database), catch: failed }))
  )
}

/**
 * Creates the file before SQLite does, which lets others read it. One that exists is not even opened: closing it again would drop
 * the locks that another connection of this process holds (POSIX). What cannot be created is left to SQLite to complain about.
 */
const createPrivate = (filename: string): void => {
  if (filename === "" || existsSync(filename)) return
  const { O_CREAT, O_NONBLOCK, O_RDONLY } = constants
  const file = Result.try(() => openSync(filename, O_RDONLY | O_CREAT | O_NONBLOCK, 0o600))
  if (Result.isSuccess(file)) closeSync(file.success)
}

const makeConnection = Effect.fnUntraced(function*(
  database: DatabaseSync,
  prepareCacheSize: number
): Effect.fn.Return<Connection> {
  const prepare = (sql: string) =>
    Effect.try({
      try: () => database.prepare(sql),
      catch: (cause) => sqlError(cause, "failed to prepare a statement", "prepare")
    })

  const prepared = yield* Cache.makeWith(prepare, {
    capacity: prepareCacheSize,
    // A table that is missing now may exist after the next migration: a failure must not be remembered.
    timeToLive: (exit) => Exit.isSuccess(exit) ? Duration.infinity : Duration.zero
  })

  const execute = (sql: string, params: ReadonlyArray<unknown>) =>
    Effect.flatMap(Cache.get(prepared, sql), (statement) => run(statement, params, false, rows))

  return {
    execute: (sql, params, transformRows) =>
      transformRows === undefined ? execute(sql, params) : Effect.map(execute(sql, params), transformRows),
    executeRaw: (sql, params) =>
      Effect.flatMap(Cache.get(prepared, sql), (statement) => run(statement, params, false, raw)),
    // All rows are read at once: a cursor left half read would pin its snapshot and hold back the checkpoints.
    executeStream: (sql, params, transformRows) =>
      Stream.fromIterableEffect(
        transformRows === undefined ? execute(sql, params) : Effect.map(execute(sql, params), transformRows)
      ),
    executeValues: (sql, params) =>
      Effect.flatMap(Cache.get(prepared, sql), (statement) => run(statement, params, true, values)),
    executeValuesUnprepared: (sql, params) =>
      Effect.flatMap(prepare(sql), (statement) => run(statement, params, true, values)),
    executeUnprepared: (sql, params, transformRows) => {
      const result = Effect.flatMap(prepare(sql), (statement) => run(statement, params, false, rows))
      return transformRows === undefined ? result : Effect.map(result, transformRows)
    }
  }
})

/** Binds and runs in one synchronous step, so that the flags of a shared statement cannot change in between. */
const run = <A>(
  statement: StatementSync,
  params: ReadonlyArray<unknown>,
  returnArrays: boolean,
  use: (statement: StatementSync, params: ReadonlyArray<SQLInputValue>) => A
): Effect.Effect<A, SqlError> =>
  Effect.flatMap(Client.SafeIntegers, (safeIntegers) => {
    if (!params.every(isBindable)) {
      return Effect.fail(unbindable(params))
    }
    return Effect.try({
      try: () => {
        statement.setReadBigInts(safeIntegers)
        statement.setReturnArrays(returnArrays)
        return use(statement, params)
      },
      catch: (cause) => sqlError(cause, "failed to execute a statement", "execute")
    })
  })

const rows = (statement: StatementSync, params: ReadonlyArray<SQLInputValue>) => statement.all(...params)

const raw = (statement: StatementSync, params: ReadonlyArray<SQLInputValue>) =>
  statement.columns().length > 0 ? statement.all(...params) : statement.run(...params)

/** Node's types know rows only as records; `filter` tells the compiler what `setReturnArrays(true)` made of them. */
const values = (
  statement: StatementSync,
  params: ReadonlyArray<SQLInputValue>
): ReadonlyArray<ReadonlyArray<unknown>> => {
  const result: ReadonlyArray<unknown> = statement.all(...params)
  return result.filter((row) => Array.isArray(row))
}

const isBindable = (value: unknown): value is SQLInputValue =>
  value === null || Predicate.isString(value) || Predicate.isNumber(value) || Predicate.isBigInt(value) ||
  ArrayBuffer.isView(value)

const unbindable = (params: ReadonlyArray<unknown>): SqlError => {
  const index = params.findIndex((value) => !isBindable(value))
  const message = `parameter ${index + 1} is of a type that SQLite cannot store: ${typeof params[index]}`
  return new SqlError({ reason: new UnknownError({ cause: new TypeError(message), message, operation: "execute" }) })
}

const sqlError = (cause: unknown, what: string, operation: string): SqlError =>
  new SqlError({
    reason: classifySqliteError(withErrno(cause), {
      message: Predicate.isError(cause) ? `${what}: ${cause.message}` : what,
      operation
    })
  })

/** Node keeps SQLite's extended result code in `errcode`; Effect's classifier looks for it in `errno`. */
const withErrno = (cause: unknown): unknown =>
  Predicate.isError(cause) && "errcode" in cause && Predicate.isNumber(cause.errcode)
    ? Object.assign(cause, { errno: cause.errcode })
    : cause
