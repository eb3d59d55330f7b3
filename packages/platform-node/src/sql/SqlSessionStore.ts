/**
 * `SessionStore` in a SQL database: one implementation over Effect's `SqlClient`, for SQLite and PostgreSQL.
 *
 * **Responsibilities**
 * - Every change is one statement that names the state it expects, and the row it gives back tells who won. No operation
 *   reads first and writes unguarded later, so any number of processes may share a database. Only a new message, which comes with
 *   its prompt, and deleting what is old are short transactions.
 * - A prompt, which may hold files of many megabytes, is stored once and written once. A renewal, a snapshot and a look for news
 *   do not touch it.
 * - At most one pending message per conversation is a unique index, not a convention.
 * - A row that cannot be decoded is a `StoreError` with its table and id.
 *
 * **Not responsibilities**: the tables (`SqlMigrations`), the connection (`SqliteClient`), when to delete what is old.
 *
 * @since 0.1.0
 */
import { SessionStore, StoreError } from "@opencode-turn/core/SessionStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import type { PostgresOptions } from "./Postgres.ts"
import * as SqlFailure from "./SqlFailure.ts"
import * as SqliteClient from "./SqliteClient.ts"
import * as SqlMigrations from "./SqlMigrations.ts"
import * as SqlStore from "./SqlStore.ts"

export type { PostgresOptions } from "./Postgres.ts"

/**
 * A store in the database of the `SqlClient`, whose tables exist.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<SessionStore["Service"], StoreError, SqlClient.SqlClient> = SqlStore.make((
  _,
  interval
) => Stream.tick(interval))

/**
 * Makes or updates the tables, see `SqlMigrations.run`: for a deployment step of its own.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMigrate: Layer.Layer<never, StoreError, SqlClient.SqlClient> = Layer.effectDiscard(SqlMigrations.run)

/**
 * The store over tables that exist, for a user of the database who may not change them. Fails when the tables are not of
 * this version.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWithoutMigrations: Layer.Layer<SessionStore, StoreError, SqlClient.SqlClient> = Layer.effect(
  SessionStore,
  make
)

/**
 * The store, with its tables made or updated first.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<SessionStore, StoreError, SqlClient.SqlClient> = Layer.effect(
  SessionStore,
  Effect.andThen(SqlMigrations.run, make)
)

/**
 * The store in a SQLite file of its own, made if it is missing; its folder is not. `:memory:` keeps it for as long as the
 * layer lives.
 *
 * **Details**
 *
 * With the default options a write survives a crash of the process; the last few before a power failure may be lost, see
 * `SqliteClient.make`. Any number of processes of one machine may share the file, which must not be on a network drive.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSqlite = (options: SqliteClient.Options): Layer.Layer<SessionStore, StoreError> =>
  // Not `layer`: layers are built once per reference, and a second file would get the first one's store.
  Layer.effect(SessionStore, Effect.andThen(SqlMigrations.run, make)).pipe(
    Layer.provide(Layer.effect(
      SqlClient.SqlClient,
      Effect.mapError(SqliteClient.make(options), SqlFailure.sqliteDatabase(options.filename).failure("open"))
    )),
    Layer.provide(Reactivity.layer)
  )

/**
 * The store in a PostgreSQL database that exists, with its tables made or updated first.
 *
 * **Details**
 *
 * While somebody watches a message or a request, one connection more listens for changes (`NOTIFY`), for all watchers together. It is
 * opened anew where it is lost, and a slow poll stands behind it.
 *
 * **Gotchas**
 *
 * The statements need a session of their own for prepared statements and `LISTEN`: not a pooler in statement mode.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerPostgres = (options: PostgresOptions): Layer.Layer<SessionStore, StoreError> =>
  Layer.effect(
    SessionStore,
    Effect.gen(function*() {
      // Loaded on demand: a program that uses SQLite neither needs the driver nor spends 25 ms on it.
      const Postgres = yield* Effect.tryPromise({
        try: () => import("./Postgres.ts"),
        catch: () =>
          new StoreError({
            operation: "open",
            reason:
              "a database in PostgreSQL needs the package @effect/sql-pg: install it beside @opencode-turn/platform-node",
            isRetryable: false
          })
      })
      const database = SqlFailure.postgresDatabase(options.url)
      const sql = yield* Postgres.connect(options)
      const changes = yield* Postgres.listen(options)
      // A lost notification is late, not lost.
      const looks: SqlStore.Looks = (id, interval) =>
        Stream.merge(changes(id), Stream.tick(Duration.times(interval, 4)))
      return yield* Effect.andThen(SqlMigrations.run, SqlStore.make(looks)).pipe(
        Effect.provideService(SqlClient.SqlClient, sql),
        Effect.provideService(SqlFailure.CurrentDatabase, database)
      )
    })
  ).pipe(Layer.provide(Reactivity.layer))
