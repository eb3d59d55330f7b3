import type { Bench, Row } from "../Bench.ts"
import { alternate, measure, median, type Numbers, ratio, startServer } from "../Parent.ts"
import * as Wire from "../Wire.ts"

const kibibyte = 1024
const mebibyte = 1024 * kibibyte

/** What a long text, and a turn that waits, hold of the heap. */
export const memory: Bench = {
  name: "memory",
  title: "heap that is held after a collection",
  run: async ({ isQuick }) => [...await text(400_000), ...await idle(isQuick ? 500 : 1000)]
}

/** The heap differs by less than 2 % from one process to the next. */
const rounds = 1

const text = async (deltas: number): Promise<ReadonlyArray<Row>> => {
  const rows: Array<Row> = []
  for (const delta of [Wire.delta, " word"]) {
    const held = (rope: boolean) => () => measure("held", { deltas, delta, rope })
    const [reply = [], rope = []] = await alternate(rounds, [held(false), held(true)])
    const row = (name: string, all: ReadonlyArray<Numbers>, goal?: number): Row => {
      const heldBytes = all.map((numbers) => numbers["heldBytes"] ?? Number.NaN)
      return {
        name: `${deltas.toLocaleString("en")} deltas of ${delta.length} characters, ${name}`,
        measured: `${(median(heldBytes) / mebibyte).toFixed(1)} MB`,
        ratio: ratio(heldBytes, all.map((numbers) => numbers["textBytes"] ?? Number.NaN)),
        goal,
        against: "their text"
      }
    }
    rows.push(row("Reply", reply, 1.2), row("text += delta", rope))
  }
  return rows
}

const idle = async (turns: number): Promise<ReadonlyArray<Row>> => {
  const rows: Array<Row> = []
  for (const whole of [false, true]) {
    const name = whole ? "waiting turn, runTurn" : "waiting turn, drive"
    await using server = await startServer("server", { shape: "text", turns: 1, deltas: 1, quiet: true })
    const [all = []] = await alternate(rounds, [
      () => measure("idle", { turns, whole }, server)
    ])
    const perTurn = all.map((numbers) => numbers["perTurnBytes"] ?? Number.NaN)
    const sockets = all.map((numbers) => numbers["sockets"] ?? Number.NaN)
    rows.push(
      {
        name,
        measured: `${(median(perTurn) / kibibyte).toFixed(1)} KB`,
        ratio: median(perTurn) / kibibyte,
        against: "1 KB",
        goal: whole ? 24 : 12
      },
      {
        name: `connections of ${turns} of them`,
        measured: String(median(sockets)),
        ratio: median(sockets),
        against: "one",
        goal: 1
      }
    )
  }
  return rows
}
