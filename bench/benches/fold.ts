import type { Bench, Row } from "../Bench.ts"
import { alternate, measure, median, ratio } from "../Parent.ts"

/** Each turn, and one four times as long. */
const shapes = [
  { shape: "steps", counts: [1000, 4000, 16_000] },
  { shape: "tools", counts: [5000, 20_000] },
  { shape: "subagents", counts: [1000, 4000] }
]

/** What a step costs in a long turn. */
export const fold: Bench = {
  name: "fold",
  title: "CPU of one step, tool or subagent of a long turn, beside a shorter turn: fold, updates, state, size, budget",
  run: async ({ isQuick, rounds }) => {
    const rows: Array<Row> = []
    for (const { counts, shape } of shapes) {
      const jobs = (isQuick ? counts.slice(0, 2) : counts).map((count) => ({
        count,
        run: async () => ((await measure("fold", { shape, count }))["cpuMillis"] ?? Number.NaN) * 1000 / count
      }))
      const all = await alternate(rounds, jobs.map(({ run }) => run))
      for (const [place, { count }] of jobs.entries()) {
        const [each = [], before] = [all[place], all[place - 1]]
        rows.push({
          name: `${count.toLocaleString("en")} ${shape}`,
          measured: `${median(each).toFixed(0)} µs each`,
          ...(before !== undefined && {
            ratio: ratio(each, before),
            against: (jobs[place - 1]?.count ?? 0).toLocaleString("en"),
            goal: 1.2
          })
        })
      }
    }
    return rows
  }
}
