import type { Bench } from "../Bench.ts"
import { alternate, measure, median, type Numbers, ratio, startServer } from "../Parent.ts"

/** One turn on the real server. */
export const turn: Bench = {
  name: "turn",
  title: "one turn of 60 deltas on a real OpenCode server (scripted model), the first not counted",
  run: async ({ rounds }) => {
    await using server = await startServer("opencode")
    const [ours = [], traced = [], sdk = []] = await alternate(rounds, [
      () => measure("turn", {}, server),
      () => measure("turn", { traced: true }, server),
      () => measure("turn-sdk", {}, server)
    ])
    const cpu = { ours: each(ours, "cpuMillis"), traced: each(traced, "cpuMillis"), sdk: each(sdk, "cpuMillis") }
    const wall = { ours: each(ours, "wallMillis"), sdk: each(sdk, "wallMillis") }
    return [
      { name: "CPU:  SDK, by hand", measured: millis(cpu.sdk) },
      { name: "CPU:  runTurn", measured: millis(cpu.ours), ratio: ratio(cpu.ours, cpu.sdk), goal: 1, against: "SDK" },
      {
        name: "CPU:  runTurn, traced",
        measured: millis(cpu.traced),
        ratio: ratio(cpu.traced, cpu.ours),
        goal: 1.1,
        against: "untraced"
      },
      { name: "wall: SDK, by hand", measured: millis(wall.sdk) },
      { name: "wall: runTurn", measured: millis(wall.ours), ratio: ratio(wall.ours, wall.sdk), against: "SDK" }
    ]
  }
}

const each = (all: ReadonlyArray<Numbers>, name: "cpuMillis" | "wallMillis") =>
  all.map((numbers) => (numbers[name] ?? Number.NaN) / (numbers["turns"] ?? Number.NaN))

const millis = (values: ReadonlyArray<number>) => `${median(values).toFixed(1)} ms`
