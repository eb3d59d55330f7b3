/**
 * The time by which leases are judged: the database's, so that workers on machines whose clocks differ agree about it.
 */
import type { StoreError } from "@opencode-turn/core/SessionStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type { Database } from "./SqlFailure.ts"

/**
 * `now` is the database's time. `skewMillis` is how far it is ahead of the process's clock, asked once when the store opens.
 * A SQLite file is on the machine of its processes, and has no clock of its own.
 */
export interface SqlClock {
  readonly skewMillis: number
  readonly now: Effect.Effect<number>
}

export const make = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  database: Database
): Effect.fn.Return<SqlClock, StoreError> {
  const skewMillis = yield* sql.onDialectOrElse({
    pg: () => Effect.mapError(askSkew(sql), database.failure("open")),
    orElse: () => Effect.succeed(0)
  })
  return { skewMillis, now: Effect.map(Clock.currentTimeMillis, (nowMillis) => nowMillis + skewMillis) }
})

// internal

const askSkew = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const askedMillis = yield* Clock.currentTimeMillis
  const [answer] = yield* sql<
    { millis: number }
  >`SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS DOUBLE PRECISION) AS millis`
  const answeredMillis = yield* Clock.currentTimeMillis
  const skewMillis = Math.round((answer?.millis ?? askedMillis) - (askedMillis + answeredMillis) / 2)
  return Math.abs(skewMillis) < tolerance ? 0 : skewMillis
})

/** A difference in milliseconds that may be the question's own way. No lease is that short. */
const tolerance = 500
