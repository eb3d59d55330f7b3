/**
 * Runs the benchmarks: `npx -y pnpm@12.21.0 bench [name…] [--quick] [--json]`.
 */
import { parseArgs } from "node:util"
import { isMet, table } from "./Bench.ts"
import { asked } from "./benches/asked.ts"
import { big } from "./benches/big.ts"
import { fold } from "./benches/fold.ts"
import { help } from "./benches/help.ts"
import { history } from "./benches/history.ts"
import { load } from "./benches/load.ts"
import { memory } from "./benches/memory.ts"
import { stream } from "./benches/stream.ts"
import { turn } from "./benches/turn.ts"
import { turns } from "./benches/turns.ts"
import { viewers } from "./benches/viewers.ts"
import { written } from "./benches/written.ts"

const benches = [stream, turns, big, fold, memory, turn, help, written, load, asked, history, viewers]

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: "boolean", default: false }, json: { type: "boolean", default: false } }
})
const unknown = positionals.filter((name) => !benches.some((bench) => bench.name === name))
if (unknown.length > 0) {
  console.error(`unknown: ${unknown.join(", ")}; there are ${benches.map((bench) => bench.name).join(", ")}`)
}

for (const bench of benches) {
  if (positionals.length > 0 && !positionals.includes(bench.name)) continue
  const size = { isQuick: values.quick, rounds: values.quick ? 3 : 5 }
  const result = await bench.run(size).catch((error: unknown) => `failed: ${String(error)}`)
  if (values.json) {
    const rows = typeof result === "string"
      ? { note: result }
      : { rows: result.map((row) => ({ ...row, isMet: isMet(row) })) }
    console.log(JSON.stringify({ bench: bench.name, ...size, ...rows }))
  } else {
    console.log(`${bench.name}: ${bench.title}`)
    console.log(typeof result === "string" ? `  ${result}\n` : table(result))
  }
}
