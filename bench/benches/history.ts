import type { Bench, Row } from "../Bench.ts"
import { alternate, measure, median, type Numbers, ratio, startServer } from "../Parent.ts"

/** A turn at the end of a long conversation. */
export const history: Bench = {
  name: "history",
  title: "a turn in a conversation of many messages, on the fake server and SQLite, beside one in a new conversation",
  run: async ({ isQuick, rounds }) => {
    const messages = isQuick ? 1000 : 10_000
    const [short = [], long = []] = await alternate(Math.min(rounds, 3), [job(0), job(messages)])
    const row = (name: string, of: (numbers: Numbers) => number, unit: string): Row => ({
      name: `${messages} messages: ${name}`,
      measured: `${median(long.map(of)).toFixed(1)} ${unit} (${median(short.map(of)).toFixed(1)})`,
      ratio: ratio(long.map(of), short.map(of)),
      against: "a new one",
      goal: 1.1
    })
    return [
      row("wall", each("wallMillis"), "ms"),
      row("CPU", each("cpuMillis"), "ms"),
      row("read from the server", ({ bytes = Number.NaN }) => bytes / 1000, "KB")
    ]
  }
}

const job = (messages: number) => async () => {
  await using server = await startServer("fake")
  return await measure("history", { messages, turns: 20 }, server)
}

const each = (name: string) => (numbers: Numbers) => (numbers[name] ?? Number.NaN) / (numbers["turns"] ?? Number.NaN)
