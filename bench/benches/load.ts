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
        const numbers = await measure("load", { turns, store, worker, deltas: 500, seconds: 20 }, server)
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
    if (!isQuick) rows.push(await long())
    return rows
  }
}

/** Turns of a megabyte each, which a late event loop would show. */
const long = async (): Promise<Row> => {
  await using server = await startServer("fake")
  const size = { turns: 100, deltas: 2500, seconds: 60 }
  const numbers = await measure("load", { ...size, store: "sqlite", worker: false }, server)
  const { completed = 0, maxMillis = 0, p99Millis = Number.NaN } = numbers
  return {
    name: "100 turns of 1 MB over 60 s, sqlite",
    measured: `${completed} completed, event loop p99 ${p99Millis.toFixed(0)} ms, max ${maxMillis.toFixed(0)} ms`,
    ratio: p99Millis / 20,
    against: "20 ms",
    goal: completed === size.turns ? 1 : 0
  }
}

const variants = [
  ["memory", false],
  ["sqlite", false],
  ["sqlite", true],
  ["postgres", false],
  ["postgres", true]
] as const
