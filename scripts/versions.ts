/**
 * Runs the scripts of `Scripts.ts` on real servers of older and newer versions of OpenCode, which pnpm fetches one at a time.
 *
 * `npx -y pnpm@12.21.0 versions [--write] [--only=WORDS] [versions]`: by default all of them, and all scripts. `--write` puts the table into docs/SERVERS.md.
 */
import { NodeHttpClient, NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Console, Effect, Layer } from "effect"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as OpencodePackage from "../packages/platform-node/test/support/OpencodePackage.ts"
import * as Tools from "../packages/platform-node/test/support/Tools.ts"
import * as Host from "../packages/platform-node/test/versions/Host.ts"
import { scripts } from "../packages/platform-node/test/versions/Scripts.ts"
import type { Outcome } from "../packages/platform-node/test/versions/Table.ts"
import * as Table from "../packages/platform-node/test/versions/Table.ts"

const versions = [
  "1.1.65",
  "1.2.27",
  "1.3.2",
  "1.14.41",
  "1.15.13",
  "1.17.0",
  "1.18.3",
  "1.18.18",
  "1.18.33",
  // Other platforms have no build of it.
  ...(OpencodePackage.missing2x === undefined ? [OpencodePackage.beta.version] : [])
]

const args = process.argv.slice(2)
const named = args.filter((arg) => !arg.startsWith("--"))
const only = args.find((arg) => arg.startsWith("--only="))?.slice("--only=".length)

/** A turn that has not ended by then hangs. Only a hang is that long. */
const limit = "5 minutes"

const outcomesOf = Effect.fnUntraced(function*(version: string) {
  const is2x = version === OpencodePackage.beta.version
  const command = yield* is2x ? OpencodePackage.fetch2x : OpencodePackage.fetch1x(version)
  const outcomes: Array<Outcome> = []
  yield* Effect.gen(function*() {
    for (const { name, run } of scripts) {
      if (only !== undefined && !name.includes(only)) continue
      const started = Date.now()
      const failure = yield* run.pipe(
        Effect.scoped,
        Effect.timeout(limit),
        Effect.match({ onSuccess: () => undefined, onFailure: (error) => String(error) }),
        Effect.catchCause((cause) => Effect.succeed(String(Cause.squash(cause))))
      )
      outcomes.push({ version, script: name, failure })
      yield* Console.log(
        `${version}  ${((Date.now() - started) / 1000).toFixed(1).padStart(5)} s  ${name}: ${failure ?? "holds"}`
      )
    }
  }).pipe(Effect.provide(Host.layer(command, Tools.of[is2x ? "2.x" : "1.x"])))
  return outcomes
})

Effect.gen(function*() {
  const all: Array<Outcome> = []
  for (const version of named.length > 0 ? named : versions) {
    all.push(...yield* outcomesOf(version))
  }
  const table = Table.render(all)
  yield* Console.log(`\n${table}`)
  if (args.includes("--write")) {
    const file = join(import.meta.dirname, "../docs/SERVERS.md")
    writeFileSync(file, Table.replaceIn(readFileSync(file, "utf8"), table))
  }
  if (all.some(({ failure }) => failure !== undefined)) process.exitCode = 1
}).pipe(Effect.provide(Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)), NodeRuntime.runMain)
