/**
 * The connections of a PostgreSQL store: a pool for statements, and a connection that listens for changes.
 *
 * This module is loaded only when a PostgreSQL store is built.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as ChangeNotifier from "@opencode-turn/core/ChangeNotifier"
import { StoreError } from "@opencode-turn/core/SessionStore"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as RcRef from "effect/RcRef"
import type * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import { defaultConnections, type PostgresOptions } from "./PostgresOptions.ts"
import { postgresDatabase } from "./SqlFailure.ts"
import { changeChannel } from "./SqlRows.ts"
import type { Listen } from "./SqlWatch.ts"

/** Makes a client over a pool. It connects with the first statement. */
export const connect = (
  options: PostgresOptions
): Effect.Effect<SqlClient.SqlClient, StoreError, Scope.Scope | Reactivity.Reactivity> =>
  isUrl(Redacted.value(options.url))
    ? Effect.mapError(
      PgClient.make({ ...connection(options), maxConnections: options.maxConnections ?? defaultConnections }),
      postgresDatabase(options.url).failure("open")
    )
    : Effect.fail(
      new StoreError({
        operation: "open",
        reason:
          "the url of the PostgreSQL database cannot be read: write postgres://user:password@host:5432/database, " +
          "with special characters percent-encoded",
        isRetryable: false
      })
    )

/**
 * Tells `notifier` of every change that a session reports, by its key, while a scope holds `connection`; and of all keys after a reconnect,
 * because a notification may have been missed. All watchers share one connection, which lives as long as there is one.
 */
export const listen = Effect.fnUntraced(function*(
  options: PostgresOptions
): Effect.fn.Return<Listen, never, Scope.Scope> {
  const notifier = yield* ChangeNotifier.make

  const listening = Effect.scoped(Effect.gen(function*() {
    const session = yield* PgConnection.make({ ...connection(options), keepAlive: "30 seconds" })
    const notifications = yield* session.listen(changeChannel)
    notifier.notifyAll()
    return yield* Effect.forever(Effect.map(Queue.takeAll(notifications), (all) => {
      for (const { payload } of all) notifier.notify(payload)
    }))
  })).pipe(
    Effect.tapError((error) => Effect.logDebug(`lost the connection that listens for changes: ${error.reason._tag}`)),
    Effect.retry(reconnect)
  )

  const listener = yield* RcRef.make({
    acquire: Effect.forkScoped(listening),
    idleTimeToLive: "1 minute"
  })
  return { connection: RcRef.get(listener), notifier }
})

// internal

const isUrl = (text: string): boolean => URL.canParse(text) && /^postgres(ql)?:$/.test(new URL(text).protocol)

const connection = ({ connectTimeout, url }: PostgresOptions): PgConnection.Config => ({
  url,
  applicationName: "opencode-turn",
  // A reply with the outputs of its tools may exceed the driver's 16 MiB. PostgreSQL limits a text to 1 GiB.
  maxMessageSize: 2 ** 30,
  ...(connectTimeout !== undefined && { connectTimeout })
})

/** A restarting server is back within seconds; until then the poll reports changes. */
const reconnect = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")]).pipe(
  Schedule.jittered
)
