/**
 * A PostgreSQL database of its own for a test or a file of tests.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import { Reactivity } from "effect/reactivity"
import { inject } from "vitest"
import type { Postgres } from "./PostgresGlobalSetup.ts"

/** The url of the server, with the name of a database. */
export const urlOf = (database: string) =>
  Effect.suspend(() => {
    const postgres: Postgres = inject("postgres")
    if ("failure" in postgres) return Effect.die(new Error(`there is no PostgreSQL for the tests: ${postgres.failure}`))
    const url = new URL(postgres.url)
    url.pathname = `/${database}`
    return Effect.succeed(url)
  })

/** Makes an empty database, and drops it when the scope ends. */
export const makeDatabase = Effect.acquireRelease(
  Effect.gen(function*() {
    const name = `turn_${crypto.randomUUID().replaceAll("-", "")}`
    yield* administer((sql) => sql`CREATE DATABASE ${sql(name)}`)
    return name
  }),
  (name) => Effect.orDie(administer((sql) => sql`DROP DATABASE ${sql(name)} WITH (FORCE)`))
).pipe(
  Effect.flatMap(urlOf),
  Effect.map((url) => Redacted.make(url.href))
)

/** A client of a database, to see and to spoil what is stored. */
export const clientOf = (url: Redacted.Redacted) =>
  Effect.provide(PgClient.make({ url, maxConnections: 2 }), Reactivity.layer)

const administer = <A, E>(use: (sql: PgClient.PgClient) => Effect.Effect<A, E>) =>
  Effect.scoped(Effect.gen(function*() {
    return yield* use(yield* clientOf(Redacted.make((yield* urlOf("postgres")).href)))
  }))
