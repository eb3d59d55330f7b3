#!/usr/bin/env node
/**
 * The executable `opencode-turn`.
 *
 * Help and version are answered from here, without any other module: loading the command line takes several times as long
 * as starting Node. It is JavaScript because stripping types alone costs more than the rest of such a start. The command
 * line itself is found through the package's own exports: the sources in the repository, `dist` once published.
 */
// Not imported: each import, even of what Node carries, is some milliseconds of a start that takes thirty.
const read = (path) => process.getBuiltinModule("node:fs").readFileSync(new URL(path, import.meta.url), "utf8")
const version = () => JSON.parse(read("../package.json")).version

const [major, minor] = process.versions.node.split(".").map(Number)
const [first, ...rest] = process.argv.slice(2)
if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(`opencode-turn needs Node 22.19 or newer; this is ${process.versions.node}\n`)
  process.exitCode = 1
} else if (rest.length === 0 && (first === "--help" || first === "-h")) {
  process.stdout.write(read("./help.txt"))
} else if (rest.length === 0 && (first === "--version" || first === "-v")) {
  process.stdout.write(`opencode-turn ${version()}\n`)
} else {
  // Node 22 warns of `node:sqlite`, which says nothing to the person at the terminal. Other warnings stay.
  const print = process.listeners("warning")
  process.removeAllListeners("warning")
  process.on("warning", (warning) => {
    if (warning.name !== "ExperimentalWarning") { for (const listener of print) listener(warning) }
  })
  process.getBuiltinModule("node:module").enableCompileCache?.()
  const { main } = await import("@opencode-turn/platform-node/Cli")
  main(version())
}
