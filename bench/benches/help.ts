import { spawnSync } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import type { Bench } from "../Bench.ts"
import { alternate, median, ratio } from "../Parent.ts"

const bin = fileURLToPath(new URL("../../packages/platform-node/bin/opencode-turn.js", import.meta.url))

/** How long the command line takes to say anything. */
export const help: Bench = {
  name: "help",
  title: "wall time of `opencode-turn --help` beside Node's own start",
  run: async ({ isQuick }) => {
    if (!existsSync(bin)) return "skipped: there is no packages/platform-node/bin/opencode-turn.js"
    const [node = [], ours = []] = await alternate(isQuick ? 7 : 15, [wall(["-e", "0"]), wall([bin, "--help"])])
    return [
      { name: "node -e 0", measured: `${median(node).toFixed(0)} ms` },
      {
        name: "opencode-turn --help",
        measured: `${median(ours).toFixed(0)} ms`,
        ratio: ratio(ours, node),
        goal: 2.5,
        against: "node -e 0"
      }
    ]
  }
}

const wall = (args: ReadonlyArray<string>) => async () => {
  const startMillis = performance.now()
  const { status } = spawnSync(process.execPath, args, { stdio: "ignore" })
  if (status !== 0) throw new Error(`node ${args.join(" ")} exited with ${status}`)
  return performance.now() - startMillis
}
