import type { Bench } from "../Bench.ts"
import { alternate, measure, median, ratio, startServer } from "../Parent.ts"

/** One turn, 100,000 text deltas (27 MB) over loopback. */
export const stream: Bench = {
  name: "stream",
  title: "CPU per event of one turn with 100,000 text deltas (27 MB) over loopback HTTP",
  run: async ({ isQuick, rounds }) => {
    const deltas = isQuick ? 50_000 : 100_000
    const events = deltas + 2
    await using server = await startServer("server", { shape: "text", turns: 1, deltas })
    const cpu = (program: string, options: Record<string, number | boolean>) => async () =>
      (await measure(program, { events, ...options }, server))["cpuMillis"] ?? Number.NaN
    const [floor = [], sdk = [], ours = [], watched = []] = await alternate(rounds, [
      cpu("plain", {}),
      cpu("sdk", { streams: 1, fold: false }),
      cpu("drive", { turns: 1, observed: false }),
      cpu("drive", { turns: 1, observed: true })
    ])
    const each = (cpuMillis: ReadonlyArray<number>) => {
      const micros = median(cpuMillis) * 1000 / events
      return `${micros.toFixed(2)} µs (${Math.round(1e6 / micros).toLocaleString("en")}/s)`
    }
    return [
      { name: "floor: undici, split, JSON.parse, fold", measured: each(floor) },
      { name: "@opencode-ai/sdk, folding nothing", measured: each(sdk), ratio: ratio(sdk, floor), against: "floor" },
      { name: "drive, unobserved", measured: each(ours), ratio: ratio(ours, floor), against: "floor" },
      {
        name: "drive, typed updates read",
        measured: each(watched),
        ratio: ratio(watched, floor),
        goal: 1.1,
        against: "floor"
      },
      { name: "", measured: "", ratio: ratio(watched, sdk), goal: 0.7, against: "SDK" }
    ]
  }
}
