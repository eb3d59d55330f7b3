/**
 * Effect's `SqlClient` over `node:sqlite`, the SQLite that Node includes. It has no native dependency, and can be replaced once a
 * driver for Effect 4.1 is published.
 *
 * **Responsibilities**: one connection behind a semaphore, its pragmas, prepared statements, typed errors.
 *
 * **Not responsibilities**: tables and migrations, connection pools, backups, extensions.
 *
 * **Gotchas**
 *
 * - `node:sqlite` is synchronous: a statement blocks the event loop while it runs, and while it waits for the lock of another
 *   connection. See {@link Options.busyTimeout}.
 * - A statement holds one SQL command; SQLite ignores everything after the first `;`.
 * - Rows have no prototype, which matters only to a strict deep comparison.
 * - Node prints an `ExperimentalWarning` for the first database in the 22 line (seen in 22.19), but not in 24.21. To
 *   suppress it, an executable starts Node with `--disable-warning=ExperimentalWarning`; a library should not change the warnings
 *   of its host.
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
import type * as Sqlite from "node:sqlite"

/**
 * The options of a SQLite database.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * The path of the database file, or `:memory:`. A missing file is created for its owner alone (mode 0600, whatever the umask); an
   * existing file keeps its mode. SQLite gives its journals the mode of the file. A missing folder is not created.
   */
  readonly filename: string
  /** Opens the file read-only. Default: `false`. */
  readonly readonly?: boolean | undefined
  /** Keeps the journal mode of the file. Default: `false`, which switches write-ahead logging on. */
  readonly disableWAL?: boolean | undefined
  /**
   * How long a statement waits for the lock of another connection before it fails with a retryable `LockTimeoutError`. Default:
   * 1 second.
   *
   * **Gotchas**
   *
   * The wait blocks the event loop, and with it the open transaction of another client in the same process. A longer wait would stop
   * every other fiber for longer than a healthy writer needs.
   */
  readonly busyTimeout?: Duration.Input | undefined
  /** The number of prepared statements to keep. Default: 200. */
  readonly prepareCacheSize?: number | undefined
  /** Maps column names of results, for example `Statement.snakeToCamel`. */
  readonly transformResultNames?: ((name: string) => string) | undefined
}

/**
 * Opens a database for as long as the scope lives.
 *
 * **Details**
 *
 * Foreign keys are enforced. With write-ahead logging, `synchronous` is `NORMAL`: a committed transaction survives a crash of the
 * process, a power failure may lose the last few, and the file stays sound in both cases.
 *
 * Transactions begin `IMMEDIATE`. A deferred transaction that reads first and writes later fails at once if another connection wrote
 * in between, whatever the busy timeout.
 *
 * **Gotchas**
 *
 * A duplicate primary key is a `ConstraintError`, and only a duplicate in a `UNIQUE` column is a `UniqueViolation`; Effect classifies
 * SQLite's errors this way.
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
    compiler: Statement.makeCompilerSqlite(),
    beginTransaction: options.readonly === true ? "BEGIN" : "BEGIN IMMEDIATE",
    releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
    prepareTransactionControls: true,
    spanAttributes: [
      ["db.system.name", "sqlite"]
    ],
    ...(transformRows === undefined ? {} : { transformRows })
  })
})

/**
 * Provides `SqlClient` over a database.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<Client.SqlClient, SqlError> =>
  Layer.effect(Client.SqlClient, make(options)).pipe(Layer.provide(Reactivity.layer))

/**
 * Provides `SqlClient` over a database with options from the configuration.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<Client.SqlClient, Config.ConfigError | SqlError> =>
  Layer.effect(Client.SqlClient, Effect.flatMap(Config.unwrap(config), make)).pipe(Layer.provide(Reactivity.layer))

// internal

const open = (options: Options): Effect.Effect<Sqlite.DatabaseSync, SqlError, Scope.Scope> => {
  const inspect = (database: Sqlite.DatabaseSync) => {
    // It applies to a new file alone. A small change writes whole pages: 500 KB of text in 120 snapshots wrote 2,500 KB in SQLite's
    // usual pages of 4 KiB, 1,500 KB in pages of 2 KiB, and 1,040 KB in these.
    if (options.readonly !== true) database.exec("PRAGMA page_size = 1024")
    // SQLite opens any readable file; only the first statement that reads the pages detects a file that is not a database.
    if (options.disableWAL === true || options.readonly === true) {
      database.prepare("PRAGMA schema_version").get()
    } else {
      database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
    }
    return database
  }
  const failed = (cause: unknown) => sqlError(cause, `cannot open the SQLite database "${options.filename}"`, "open")

  if (options.filename.startsWith("file:")) {
    // A URI could request an in-memory database, or one without locks.
    return Effect.fail(failed(new TypeError("it is a file: URI; write only the path of the file")))
  }

  return Effect.acquireRelease(
    Effect.try({
      try: () => {
        const sqlite = loadSqlite()
        if (options.readonly !== true && options.filename !== ":memory:") createPrivate(options.filename)
        return new sqlite.DatabaseSync(options.filename, {
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

/** Loaded on demand, so that an older Node learns what it lacks, and that Node 22 warns nobody who stores elsewhere. */
const loadSqlite = () => {
  const sqlite: typeof Sqlite | undefined = process.getBuiltinModule("node:sqlite")
  if (sqlite === undefined) throw new TypeError(`it needs Node 22.19 or newer, and this is ${process.versions.node}`)
  return sqlite
}

/**
 * Creates the file before SQLite does, because SQLite would let others read it. An existing file is not opened, because closing it would
 * drop the locks of another connection in this process (POSIX). If the creation fails, SQLite reports the problem.
 */
const createPrivate = (filename: string): void => {
  if (filename === "" || existsSync(filename)) return
  const { O_CREAT, O_NONBLOCK, O_RDONLY } = constants
  const file = Result.try(() => openSync(filename, O_RDONLY | O_CREAT | O_NONBLOCK, 0o600))
  if (Result.isSuccess(file)) closeSync(file.success)
}

const makeConnection = Effect.fnUntraced(function*(
  database: Sqlite.DatabaseSync,
  prepareCacheSize: number
): Effect.fn.Return<Connection> {
  const prepare = (sql: string) =>
    Effect.try({
      try: () => database.prepare(sql),
      catch: (cause) => sqlError(cause, "failed to prepare a statement", "prepare")
    })

  const prepared = yield* Cache.makeWith(prepare, {
    capacity: prepareCacheSize,
    // A failure is not cached, because a missing table may exist after the next migration.
    timeToLive: (exit) => Exit.isSuccess(exit) ? Duration.infinity : Duration.zero
  })

  const execute = (sql: string, params: ReadonlyArray<unknown>) =>
    Effect.flatMap(Cache.get(prepared, sql), (statement) => run(statement, params, false, rows))

  return {
    execute: (sql, params, transformRows) =>
      transformRows === undefined ? execute(sql, params) : Effect.map(execute(sql, params), transformRows),
    executeRaw: (sql, params) =>
      Effect.flatMap(Cache.get(prepared, sql), (statement) => run(statement, params, false, raw)),
    // All rows are read at once: a half-read cursor would pin its snapshot and delay the checkpoints.
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
  statement: Sqlite.StatementSync,
  params: ReadonlyArray<unknown>,
  returnArrays: boolean,
  use: (statement: Sqlite.StatementSync, params: ReadonlyArray<Sqlite.SQLInputValue>) => A
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

const rows = (statement: Sqlite.StatementSync, params: ReadonlyArray<Sqlite.SQLInputValue>) => statement.all(...params)

const raw = (statement: Sqlite.StatementSync, params: ReadonlyArray<Sqlite.SQLInputValue>) =>
  statement.columns().length > 0 ? statement.all(...params) : statement.run(...params)

/** Node's types describe rows only as records; `filter` narrows them to the arrays of `setReturnArrays(true)`. */
const values = (
  statement: Sqlite.StatementSync,
  params: ReadonlyArray<Sqlite.SQLInputValue>
): ReadonlyArray<ReadonlyArray<unknown>> => {
  const result: ReadonlyArray<unknown> = statement.all(...params)
  return result.filter((row) => Array.isArray(row))
}

const isBindable = (value: unknown): value is Sqlite.SQLInputValue =>
  value === null || Predicate.isString(value) || Predicate.isNumber(value) || Predicate.isBigInt(value) ||
  ArrayBuffer.isView(value)

const unbindable = (params: ReadonlyArray<unknown>): SqlError => {
  const index = params.findIndex((value) => !isBindable(value))
  const message = `parameter ${index + 1} has a type that SQLite cannot store: ${typeof params[index]}`
  return new SqlError({ reason: new UnknownError({ cause: new TypeError(message), message, operation: "execute" }) })
}

const sqlError = (cause: unknown, what: string, operation: string): SqlError =>
  new SqlError({
    reason: classifySqliteError(withErrno(cause), {
      message: Predicate.isError(cause) ? `${what}: ${cause.message}` : what,
      operation
    })
  })

/** Node puts SQLite's extended result code into `errcode`, but Effect's classifier reads `errno`. */
const withErrno = (cause: unknown): unknown =>
  Predicate.isError(cause) && "errcode" in cause && Predicate.isNumber(cause.errcode)
    ? Object.assign(cause, { errno: cause.errcode })
    : cause
