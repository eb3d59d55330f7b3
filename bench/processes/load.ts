/**
 * Many turns at once in one process: each streams deltas of 400 bytes over some seconds, over a store in memory, in SQLite or in PostgreSQL.
 * With `worker` another worker sweeps the same database in a process of its own.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { fork } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Tracer from "../../packages/core/src/domain/Tracer.ts"
import * as Client from "../../packages/core/src/opencode/Client.ts"
import * as MemorySessionStore from "../../packages/core/src/store/MemorySessionStore.ts"
import { runTurn } from "../../packages/core/src/turn/Turn.ts"
import * as TurnWorker from "../../packages/core/src/turn/TurnWorker.ts"
import * as SqlSessionStore from "../../packages/platform-node/src/sql/SqlSessionStore.ts"
import { start } from "../../packages/platform-node/test/support/PostgresGlobalSetup.ts"
import * as FakeOpencode from "../../packages/testing/src/fake/FakeOpencode.ts"
import { begin, flag, int, text } from "../Child.ts"

const turns = int("turns")
const kind = text("store")
const deltas = int("deltas")
const seconds = int("seconds")
const word = `${"x".repeat(399)} `

const server = kind === "postgres" && !flag("sweeps") ? await start() : undefined
const folder = kind === "sqlite" && !flag("sweeps") ? await mkdtemp(join(tmpdir(), "opencode-turn-bench-")) : undefined
const database = flag("sweeps") ? text("database") : server?.url ?? join(folder ?? "", "turns.db")

const store = () => {
  switch (kind) {
    case "postgres":
      return SqlSessionStore.layerPostgres({ url: Redacted.make(database) })
    case "sqlite":
      return SqlSessionStore.layerSqlite({ filename: database })
    default:
      return MemorySessionStore.layer
  }
}

const Live = Client.layer({ baseUrl: text("url") }).pipe(
  Layer.provide(NodeHttpClient.layerUndici),
  Layer.merge(Tracer.layerNoop),
  Layer.merge(store())
)

const sweeping = Effect.never.pipe(Effect.provide(Layer.provide(TurnWorker.layer(), Live)))

const prompt = FakeOpencode.prompt("Tell me.", [
  { text: word.repeat(deltas), chunks: deltas, chunkDelayMillis: (seconds * 1000) / deltas }
])

const running = Effect.gen(function*() {
  const second = flag("worker")
    ? fork(new URL(import.meta.url), [
      "--sweeps=true",
      `--store=${kind}`,
      `--database=${database}`,
      `--url=${text("url")}`,
      `--turns=${turns}`,
      `--deltas=${deltas}`,
      `--seconds=${seconds}`
    ])
    : undefined
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const end = begin()
  const started = performance.now()
  const results = yield* Effect.forEach(
    Array.from({ length: turns }, (_, n) => n),
    (n) => Effect.exit(runTurn({ conversationId: `conversation-${n}`, prompt })),
    { concurrency: "unbounded" }
  )
  const wallMillis = performance.now() - started
  delay.disable()
  second?.kill("SIGKILL")
  const outcomes = new Map<string, number>()
  for (const exit of results) {
    const outcome = exit._tag === "Failure"
      ? String(Cause.squash(exit.cause))
      : exit.value.error?._tag ?? exit.value.status
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }
  if (flag("verbose")) console.error(Object.fromEntries(outcomes))
  return () =>
    end({
      completed: outcomes.get("completed") ?? 0,
      wallMillis,
      p99Millis: delay.percentile(99) / 1e6,
      maxMillis: delay.max / 1e6,
      rssBytes: process.memoryUsage().rss
    })
}).pipe(Effect.provide(Live))

if (flag("sweeps")) await Effect.runPromise(sweeping)
const end = await Effect.runPromise(running)
await server?.stop()
if (folder !== undefined) await rm(folder, { recursive: true, force: true })
end()
