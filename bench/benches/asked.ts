import type { Bench } from "../Bench.ts"
import { measure, startServer } from "../Parent.ts"

/** Many turns of one process that wait for a person. */
export const asked: Bench = {
  name: "asked",
  title: "turns that wait for an answer in PostgreSQL, in one process",
  run: async ({ isQuick }) => {
    const turns = isQuick ? 300 : 3000
    await using server = await startServer("fake")
    const numbers = await measure("asked", { turns, seconds: isQuick ? 10 : 30 }, server)
    const { cpuMillis = 0, lapsed = 0, p99Millis = 0, rssBytes = 0, statementsPerTurn = 0, wallMillis = 0 } = numbers
    const each = `${turns} turns`
    return [
      {
        name: `${each}: statements a second for each`,
        measured: `${statementsPerTurn.toFixed(3)}, ${lapsed} leases run out`,
        ratio: statementsPerTurn,
        goal: lapsed === 0 ? 0.1 : 0
      },
      {
        name: `${each}: share of a core`,
        measured: `${((cpuMillis / wallMillis) * 100).toFixed(1)} %, event loop p99 ${p99Millis.toFixed(0)} ms`,
        ratio: cpuMillis / wallMillis,
        goal: 0.05
      },
      { name: `${each}: memory`, measured: `RSS ${(rssBytes / 1e6).toFixed(0)} MB` }
    ]
  }
}
