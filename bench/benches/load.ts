import type { Bench, Row } from "../Bench.ts"
import { measure, startServer } from "../Parent.ts"

/** Many turns of one process, with and without a second worker on the same database. */
export const load: Bench = {
  name: "load",
  title: "many turns at once, 200 KB each in 500 deltas over 20 s, on the stores; beside the store in memory",
  run: async ({ isQuick }) => {
    const rows: Array<Row> = []
    for (const turns of isQuick ? [50] : [200, 500]) {
      let memory = Number.NaN
      for (const [store, worker] of variants) {
        await using server = await startServer("fake")
        const numbers = await measure("load", { turns, store, worker }, server)
        const wallMillis = numbers["wallMillis"] ?? Number.NaN
        if (store === "memory") memory = wallMillis
        const { completed = 0, cpuMillis = 0, maxMillis = 0, p99Millis = 0 } = numbers
        rows.push({
          name: `${turns} turns, ${store}${worker ? ", second worker" : ""}`,
          measured:
            `${completed} completed, ${(wallMillis / 1000).toFixed(1)} s, CPU ${(cpuMillis / 1000).toFixed(1)} s, ` +
            `event loop p99 ${p99Millis.toFixed(0)} ms, max ${maxMillis.toFixed(0)} ms`,
          ratio: wallMillis / memory,
          against: "memory",
          goal: completed === turns ? 1.1 : 0
        })
      }
    }
    return rows
  }
}

const variants = [
  ["memory", false],
  ["sqlite", false],
  ["sqlite", true],
  ["postgres", false],
  ["postgres", true]
] as const
