import type { Bench, Row } from "../Bench.ts"
import { measure } from "../Parent.ts"

/** What SQLite writes for a turn, beside what it holds of it in the end. */
export const written: Bench = {
  name: "written",
  title: "bytes that SQLite writes for a turn, by the growth of its log, beside what it holds in the end",
  run: async () => {
    const rows: Array<Row> = []
    for (const { against, name, ...job } of jobs) {
      const { bytes = 0, held = 0 } = await measure("written", job)
      rows.push({ name, measured: `${mega(bytes)} for ${mega(held)}`, ratio: bytes / held, against, goal: 3 })
    }
    for (const { name, ...job } of watched) {
      const { changed = 0, read = 0 } = await measure("written", { ...job, watched: true })
      rows.push({
        name: `${name}, read by an attached process`,
        measured: `${mega(read)} for ${mega(changed)}`,
        ratio: read / changed,
        against: "changed",
        goal: 2
      })
    }
    return rows
  }
}

const tools = (count: number) => ({
  name: `${count} tool steps of 40 KB`,
  shape: "tools",
  count,
  bytes: 40_000,
  against: "held"
})

const texts = (count: number) => ({
  name: `500 KB of text in ${count} snapshots`,
  shape: "text",
  count,
  bytes: 500_000,
  against: "held"
})

const jobs = [tools(30), tools(60), tools(120), texts(40), texts(120)]

const watched = [tools(60), texts(120)]

const mega = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
