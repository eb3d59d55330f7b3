/**
 * A turn that streams holds nothing of the database: PostgreSQL itself is asked, ten times a second.
 */
import { assert, it } from "@effect/vitest"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import { runTurn } from "@opencode-turn/core/Turn"
import * as SqlSessionStore from "@opencode-turn/platform-node/SqlSessionStore"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import { Effect, Fiber, Layer, Schedule, Schema } from "effect"
import { clientOf, makeDatabase } from "../support/PostgresDatabase.ts"

const turns = 50

/** Far fewer than turns: one that kept a connection would starve the others. */
const maxConnections = 2

/** Streams for a while, and then waits until it was looked at. */
const prompt = FakeOpencode.prompt("Tell me.", [
  { text: "word ".repeat(40), chunkDelayMillis: 50, gate: "looked at", gateAfter: 39 }
])

const Activity = Schema.Struct({ state: Schema.String, query: Schema.String, millis: Schema.Finite })

/** The sessions of this database, but for the one that asks: what they do, and for how long. */
const lookAt = Effect.fnUntraced(function*(sql: Effect.Success<ReturnType<typeof clientOf>>) {
  const rows = yield* sql`SELECT state, query,
      (extract(epoch FROM clock_timestamp() - state_change) * 1000)::float8 AS millis
    FROM pg_stat_activity
    WHERE datname = current_database() AND state IS NOT NULL AND pid <> pg_backend_pid()`
  return yield* Schema.decodeUnknownEffect(Schema.Array(Activity))(rows)
})

const isHeld = ({ millis, state }: typeof Activity.Type): boolean =>
  state.startsWith("idle in transaction") || (state !== "idle" && millis > 1000)

it.live(
  `${turns} streaming turns hold no transaction, and no connection for longer than a statement`,
  Effect.fnUntraced(function*() {
    const url = yield* makeDatabase
    const observer = yield* clientOf(url)
    const services = Layer.mergeAll(
      SqlSessionStore.layerPostgres({ url, maxConnections }),
      FakeOpencode.layerTest(),
      Tracer.layerNoop
    )
    yield* Effect.gen(function*() {
      const store = yield* SessionStore
      const fake = yield* FakeOpencode.FakeOpencode
      const streaming = Effect.map(
        store.listByStatus({ status: "pending", limit: turns }),
        (messages) => messages.filter(({ offset }) => offset > 0)
      )
      const running = yield* Effect.forkChild(Effect.forEach(
        Array.from({ length: turns }, (_, n) => n),
        (n) => runTurn({ conversationId: `conversation-${n}`, prompt }),
        { concurrency: "unbounded" }
      ))
      const before = yield* Effect.repeat(streaming, {
        schedule: Schedule.spaced("50 millis"),
        until: (messages) => messages.length === turns
      })
      const samples = yield* Effect.forEach(
        Array.from({ length: 15 }),
        () => Effect.andThen(Effect.sleep("100 millis"), lookAt(observer))
      )
      // All of them were at it, and wrote, so that there was something to see.
      const after = yield* streaming
      assert.lengthOf(after, turns)
      assert.notDeepEqual(after.map(({ leaseUntilMillis }) => leaseUntilMillis), before.map((m) => m.leaseUntilMillis))
      yield* fake.release("looked at")
      assert.deepEqual(samples.flat().filter(isHeld), [])
      for (const { state, query } of samples.flat()) {
        assert.include(["idle", "active"], state, query)
      }
      const results = yield* Fiber.join(running)
      assert.deepEqual([...new Set(results.map(({ status }) => status))], ["completed"])
    }).pipe(Effect.provide(services))

    // The samples would have shown it.
    const held = yield* observer.withTransaction(
      Effect.andThen(observer`SELECT 1`, Effect.flatMap(clientOf(url), lookAt))
    )
    assert.isNotEmpty(held.filter(isHeld))
  }, Effect.scoped)
)
