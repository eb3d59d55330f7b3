import type { Bench, Row } from "../Bench.ts"
import { alternate, measure, median, ratio, startServer } from "../Parent.ts"

const eventsPerTurn = 500

/** N turns at once on one server. */
export const turns: Bench = {
  name: "turns",
  title: `CPU of N turns at once, ${eventsPerTurn} events each, on one server-wide stream`,
  run: async (size) => {
    const rows: Array<Row> = []
    for (const count of size.isQuick ? [10, 200] : [1, 10, 50, 200, 1000]) {
      rows.push(...await measureTurns(count, size.rounds))
    }
    return rows
  }
}

const measureTurns = async (turns: number, rounds: number): Promise<ReadonlyArray<Row>> => {
  const events = eventsPerTurn * turns
  await using server = await startServer("server", { shape: "text", turns, deltas: eventsPerTurn - 2 })
  const cpu = (program: string, options: Record<string, number | boolean>) => async () =>
    (await measure(program, { events, ...options }, server))["cpuMillis"] ?? Number.NaN
  // A stream for each turn makes the work quadratic: at 200 turns one measurement would take a minute.
  const isSdkMeasured = turns <= 50
  const [plain = [], shared = [], watched = [], sdk = []] = await alternate(rounds, [
    cpu("plain", {}),
    cpu("drive", { turns, observed: false }),
    cpu("drive", { turns, observed: true }),
    ...(isSdkMeasured ? [cpu("sdk", { streams: turns, fold: true })] : [])
  ])
  const row = (name: string, cpuMillis: ReadonlyArray<number>, goal?: number): Row => ({
    name: `${String(turns).padStart(4)} turns: ${name}`,
    measured: `${median(cpuMillis).toFixed(1)} ms`,
    ...(cpuMillis !== plain && { ratio: ratio(cpuMillis, plain), against: "Map dispatch" }),
    goal
  })
  return [
    row("one stream, plain Map dispatch", plain),
    row("drive, shared stream", shared, turns >= 200 ? 1.1 : undefined),
    row("drive, all observed", watched, turns >= 200 ? 1.2 : undefined),
    ...(isSdkMeasured ? [row("SDK, a stream for each turn", sdk)] : [])
  ]
}
