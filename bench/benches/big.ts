import type { Bench } from "../Bench.ts"
import { alternate, measure, median, ratio, startServer } from "../Parent.ts"

const mebibyte = 1024 * 1024

/** One large event: the output of a tool. */
export const big: Bench = {
  name: "big",
  title: "CPU of one large event, a tool's output, beside one a quarter its size",
  run: async ({ rounds }) => {
    await using small = await startServer("server", { shape: "big", bytes: 4 * mebibyte })
    await using large = await startServer("server", { shape: "big", bytes: 16 * mebibyte })
    // Message, tool running, tool completed.
    const options = { events: 3, turns: 1, observed: true }
    const cpu = (program: string, server: typeof small, own = {}) => async () =>
      (await measure(program, { ...options, ...own }, server))["cpuMillis"] ?? Number.NaN
    const [four = [], sixteen = [], sdkFour = [], sdkSixteen = []] = await alternate(rounds, [
      cpu("drive", small),
      cpu("drive", large),
      cpu("sdk", small, { streams: 1, fold: false }),
      cpu("sdk", large, { streams: 1, fold: false })
    ])
    return [
      { name: "drive,  4 MB", measured: millis(four) },
      { name: "drive, 16 MB", measured: millis(sixteen), ratio: ratio(sixteen, four), goal: 5.5, against: "4 MB" },
      { name: "SDK,    4 MB", measured: millis(sdkFour) },
      { name: "SDK,   16 MB", measured: millis(sdkSixteen), ratio: ratio(sdkSixteen, sdkFour), against: "4 MB" }
    ]
  }
}

const millis = (cpuMillis: ReadonlyArray<number>) => `${median(cpuMillis).toFixed(0)} ms`
