/**
 * `SessionStore` in a SQL database: one implementation over Effect's `SqlClient`, for SQLite and PostgreSQL.
 *
 * **Responsibilities**
 * - Every change is one statement that names the expected state, and its returned row tells who won. No operation reads first and
 *   writes without a guard later, so any number of processes may share a database. Changes of several tables are short transactions
 *   behind such a statement; on PostgreSQL a write of the journal is one statement.
 * - A prompt may hold files of many megabytes. It is stored and written once; renewals, snapshots and watches do not touch it.
 * - A unique index ensures that a conversation has at most one pending message.
 * - A row that cannot be decoded is a `StoreError` with its table and id.
 *
 * **Not responsibilities**: the tables (`SqlMigrations`), the connection (`SqliteClient`), deciding when to delete old messages.
 *
 * @since 0.1.0
 */
import { PollInterval, SessionStore, StoreError } from "@opencode-turn/core/SessionStore"
import * as Tracing from "@opencode-turn/core/Tracing"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import { defaultConnections, type PostgresOptions } from "./PostgresOptions.ts"
import * as SqlFailure from "./SqlFailure.ts"
import * as SqliteClient from "./SqliteClient.ts"
import * as SqlMigrations from "./SqlMigrations.ts"
import * as SqlStore from "./SqlStore.ts"

export type { PostgresOptions } from "./PostgresOptions.ts"

/**
 * A store in the database of the `SqlClient`. The tables must exist.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<SessionStore["Service"], StoreError, SqlClient.SqlClient | Scope.Scope> = Tracing
  .statement(SqlStore.make())

/**
 * Creates or updates the tables, see `SqlMigrations.run`, for a separate deployment step.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrate: Layer.Layer<never, StoreError, SqlClient.SqlClient> = Layer.effectDiscard(SqlMigrations.run)

/**
 * The store over existing tables, for a database user without the right to change them. It fails if the tables have another
 * version.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWithoutMigrations: Layer.Layer<SessionStore, StoreError, SqlClient.SqlClient> = Layer.effect(
  SessionStore,
  make
)

/**
 * The store; it creates or updates its tables first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<SessionStore, StoreError, SqlClient.SqlClient> = Layer.effect(
  SessionStore,
  Effect.andThen(Tracing.statement(SqlMigrations.run), make)
)

/**
 * The store in a SQLite file, which is created if it is missing; its folder must exist. `:memory:` keeps the store for as long as the
 * layer lives.
 *
 * **Details**
 *
 * With the default options a write survives a crash of the process, but a power failure may lose the last few writes, see
 * `SqliteClient.make`. Several processes of one machine may share the file. The file must not be on a network drive.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSqlite = (options: SqliteClient.Options): Layer.Layer<SessionStore, StoreError> =>
  // Fresh, so that a second file does not get the first file's store.
  Layer.fresh(layer).pipe(
    Layer.provide(Layer.effect(
      SqlClient.SqlClient,
      Effect.mapError(SqliteClient.make(options), SqlFailure.sqliteDatabase(options.filename).failure("open"))
    )),
    Layer.provide(Reactivity.layer)
  )

/**
 * The store in an existing PostgreSQL database; it creates or updates its tables first.
 *
 * **Details**
 *
 * While a message or an ask is watched, one additional connection listens for changes (`NOTIFY`) on behalf of all watchers. A lost
 * connection is reopened, and a slow poll covers the gap. The leases are renewed over a connection of their own, so that a busy pool loses
 * none.
 *
 * **Gotchas**
 *
 * Prepared statements and `LISTEN` need a session, so a pooler in statement mode does not work.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerPostgres = (options: PostgresOptions): Layer.Layer<SessionStore, StoreError> =>
  Layer.effect(
    SessionStore,
    Effect.gen(function*() {
      // Loaded on demand: a program with SQLite does not need the driver, and loading it takes 25 ms.
      const Postgres = yield* Effect.tryPromise({
        try: () => import("./Postgres.ts"),
        catch: () =>
          new StoreError({
            operation: "open",
            reason:
              "a PostgreSQL database needs the package @effect/sql-pg: install it beside @opencode-turn/platform-node",
            isRetryable: false
          })
      })
      const database = SqlFailure.postgresDatabase(options.url)
      const sql = yield* Postgres.connect(options)
      const changes = yield* Postgres.listen(options)
      const reserved = yield* Postgres.connect({ ...options, maxConnections: 1 })
      return yield* Effect.andThen(
        SqlMigrations.run,
        SqlStore.make({ listen: changes, reserved, connections: options.maxConnections ?? defaultConnections })
      ).pipe(
        Tracing.statement,
        // The poll finds the change of a lost notification later.
        Effect.updateService(PollInterval, (interval) => Duration.times(interval, 4)),
        Effect.provideService(SqlClient.SqlClient, sql),
        Effect.provideService(SqlFailure.CurrentDatabase, database)
      )
    })
  ).pipe(Layer.provide(Reactivity.layer))
