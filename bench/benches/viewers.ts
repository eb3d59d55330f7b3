import type { Bench, Row } from "../Bench.ts"
import { measure, startServer } from "../Parent.ts"

const turns = 50

/** Pages that follow the turns of a gateway. */
export const viewers: Bench = {
  name: "viewers",
  title: `${turns} turns of 400 deltas over 20 s in a gateway, and who follows them; CPU and memory of the gateway`,
  run: async ({ isQuick }) => {
    const many = isQuick ? 200 : 500
    const one = await run(turns, 0)
    const all = await run(many, 0)
    const slowed = await run(many, 100)
    const row = (name: string, numbers: Numbers, viewers: number): Row => ({
      name,
      measured:
        `CPU ${(numbers.cpuMillis / 1000).toFixed(1)} s, RSS ${
          (numbers.rssBytes / 1e6).toFixed(0)
        } MB, event loop p99 ` +
        `${numbers.p99Millis.toFixed(0)} ms, ${numbers.ended} of ${viewers} saw the end`,
      ratio: numbers.cpuMillis / one.cpuMillis,
      against: "one each",
      goal: numbers.ended === viewers ? 3.5 : 0
    })
    return [
      row("a viewer for each turn", one, turns),
      row(`${many} viewers`, all, many),
      row(`${many} viewers, and 100 that read 1 KB a second`, slowed, many),
      {
        name: "memory of a viewer",
        measured: `${((all.rssBytes - one.rssBytes) / (many - turns) / 1000).toFixed(0)} KB`
      }
    ]
  }
}

type Numbers = Readonly<Record<"cpuMillis" | "ended" | "p99Millis" | "rssBytes", number>>

const run = async (viewers: number, slow: number): Promise<Numbers> => {
  await using server = await startServer("fake")
  const { cpuMillis = 0, ended = 0, p99Millis = 0, rssBytes = 0 } = await measure(
    "viewers",
    { turns, viewers, slow },
    server
  )
  return { cpuMillis, ended, p99Millis, rssBytes }
}
