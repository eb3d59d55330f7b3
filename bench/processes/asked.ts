/**
 * What turns cost that wait for a person, who answers through the store: `turns` of them in one process, watched for half a minute once all have
 * asked. Another connection counts the statements, and the leases that have run out.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Tracer from "../../packages/core/src/domain/Tracer.ts"
import * as Client from "../../packages/core/src/opencode/Client.ts"
import * as StoredGate from "../../packages/core/src/people/StoredGate.ts"
import { runTurn } from "../../packages/core/src/turn/Turn.ts"
import * as Postgres from "../../packages/platform-node/src/sql/Postgres.ts"
import * as SqlSessionStore from "../../packages/platform-node/src/sql/SqlSessionStore.ts"
import { start } from "../../packages/platform-node/test/support/PostgresGlobalSetup.ts"
import * as FakeOpencode from "../../packages/testing/src/fake/FakeOpencode.ts"
import { begin, int, text } from "../Child.ts"

const turns = int("turns")
const seconds = int("seconds")
const startedAtOnce = 20
const server = await start()
const url = Redacted.make(server.url)

const Live = Client.layer({ baseUrl: text("url") }).pipe(
  Layer.provide(NodeHttpClient.layerUndici),
  Layer.merge(Tracer.layerNoop),
  Layer.provideMerge(StoredGate.layer.pipe(Layer.provideMerge(SqlSessionStore.layerPostgres({ url }))))
)

const prompt = FakeOpencode.prompt("Tell me.", [
  { tool: "bash", args: { command: "echo hi", description: "says hi" } },
  { text: "Done." }
])
const permission = [{ permission: "bash", pattern: "*", action: "ask" }] as const

const count = (query: Effect.Effect<ReadonlyArray<object>, unknown>) =>
  Effect.map(Effect.orDie(query), ([row]) => Number(Object.values(row ?? {})[0]))

const end = await Effect.runPromise(
  Effect.gen(function*() {
    const sql = yield* Postgres.connect({ url, maxConnections: 1 })
    const committed = count(sql`SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()`)
    const asked = count(sql`SELECT count(*) FROM opencode_turn_asks WHERE status = 'open'`)
    const lapsed = count(sql`SELECT count(*) FROM opencode_turn_assistant_messages
      WHERE finished_millis IS NULL AND lease_until_millis < extract(epoch FROM clock_timestamp()) * 1000`)

    for (let n = 0; n < turns; n++) {
      yield* Effect.forkChild(runTurn({ conversationId: `conversation-${n}`, prompt, permission }))
      if ((n + 1) % startedAtOnce === 0) {
        yield* Effect.repeat(asked, { until: (asks) => asks > n, schedule: Schedule.spaced("20 millis") })
      }
    }
    // PostgreSQL counts what an idle connection did within ten seconds.
    yield* Effect.sleep("12 seconds")

    const before = yield* committed
    const delay = monitorEventLoopDelay({ resolution: 20 })
    delay.enable()
    const finish = begin()
    const startedMillis = yield* Clock.currentTimeMillis
    let worst = 0
    for (let second = 0; second < seconds; second++) {
      yield* Effect.sleep("1 second")
      worst = Math.max(worst, yield* lapsed)
    }
    const elapsed = ((yield* Clock.currentTimeMillis) - startedMillis) / 1000
    const statements = (yield* committed) - before
    return () =>
      finish({
        turns,
        lapsed: worst,
        statementsPerTurn: statements / turns / elapsed,
        p99Millis: delay.percentile(99) / 1e6,
        rssBytes: process.memoryUsage().rss
      })
  }).pipe(Effect.provide(Layer.merge(Live, Reactivity.layer)), Effect.scoped)
)
end()
