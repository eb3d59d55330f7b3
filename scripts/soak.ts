/**
 * Kills workers, the workers that carry on, and the server, in the middle of turns, for many rounds on each database, and
 * checks after every round that each turn came to its one end.
 *
 * `npx -y pnpm@12.21.0 soak [rounds] [SQLite|PostgreSQL] [1.x|2.x] [managed] [--seed=N]`: 50 rounds of 8 turns on both databases by default,
 * against OpenCode 1.x unless told otherwise. `managed` is the server of 2.x that goes on by itself. A soak prints its seed; the same seed makes
 * the same choices again, though not the same moments. Exit code 1 if an invariant broke.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import * as Figures from "../packages/platform-node/test/soak/Figures.ts"
import * as Place from "../packages/platform-node/test/soak/Place.ts"
import * as Plans from "../packages/platform-node/test/soak/Plans.ts"
import * as Round from "../packages/platform-node/test/soak/Round.ts"
import * as PostgresGlobalSetup from "../packages/platform-node/test/support/PostgresGlobalSetup.ts"

const [rounds = "50", ...choices] = process.argv.slice(2)
const isManaged = choices.includes("managed")
const line = choices.includes("2.x") || isManaged ? "2.x" : "1.x"
const given = choices.find((choice) => choice.startsWith("--seed="))?.slice("--seed=".length)
const seed = given === undefined ? Date.now() % 1_000_000 : Number(given)

const soak = Effect.fnUntraced(function*(name: string, postgresUrl: string | undefined) {
  const place = yield* Place.make({ postgresUrl, line, isManaged, seed })
  const results: Array<Round.Result> = []
  for (let index = 0; index < Number(rounds); index++) {
    const startedMillis = Date.now()
    results.push(yield* Round.run(place, Plans.round(index)))
    const latest = Figures.of(results.slice(-1))
    const all = Figures.of(results)
    yield* Console.log(
      `${name} ${index + 1}/${rounds}: ${((Date.now() - startedMillis) / 1000).toFixed(1)} s, ` +
        `${all.workersLost} workers and ${all.serverKills} servers lost, ` +
        `to terminal ${Figures.spread(latest.outcomes.flatMap(({ toTerminal }) => toTerminal ?? []))}, ` +
        `${all.extraModelCalls} extra calls, ${all.violations.length} violations`
    )
    for (const violation of latest.violations) yield* Console.log(`  ${violation}`)
  }
  const figures = Figures.of(results)
  yield* Console.log([
    "",
    `${name}: ${figures.rounds} rounds, ${figures.turns} turns, ${figures.workersLost} workers lost, ` +
    `${figures.carrierKills} workers that carry on and ${figures.serverKills} servers killed, ` +
    `${figures.extraModelCalls} extra model calls, ${Figures.late(figures)} taken over late, ` +
    `${figures.violations.length} violations`,
    Figures.table(figures),
    ""
  ].join("\n"))
  return figures.violations.length
}, Effect.scoped)

const postgres = Effect.acquireRelease(
  Effect.promise(PostgresGlobalSetup.start),
  ({ stop }) => Effect.promise(stop)
)

Effect.gen(function*() {
  let violations = 0
  yield* Console.log(`OpenCode ${line}${isManaged ? ", managed" : ""}, --seed=${seed}`)
  if (!choices.includes("PostgreSQL")) violations += yield* soak("SQLite", undefined)
  if (!choices.includes("SQLite")) violations += yield* soak("PostgreSQL", (yield* postgres).url)
  if (violations > 0) process.exitCode = 1
}).pipe(Effect.scoped, NodeRuntime.runMain)
