/**
 * Builds of OpenCode that the workspace does not depend on, because each has more than 100 MB: pnpm fetches them when they are
 * first used. Every clone on this machine shares them through pnpm's store.
 */
import { Effect, FileSystem, Schema } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { join } from "node:path"

/** The last beta of OpenCode 2.x that the registry has; no release of 2.x can be installed from it. */
export const beta = { version: "0.0.0-next-16350", platforms: ["linux-x64"] } as const

/** Why this platform has no build of OpenCode 2.x; `undefined` if it has one. */
export const missing2x: string | undefined = beta.platforms.some((platform) => platform === platformName())
  ? undefined
  : `OpenCode ${beta.version} has no build for ${platformName()}`

/** The path of the beta's binary. */
export const fetch2x = Effect.map(
  fetchPackage(`@opencode-ai/cli-${platformName()}-baseline`, beta.version),
  (folder) => join(folder, "bin", "opencode2")
)

/** The path of the binary of a version of OpenCode 1.x. */
export const fetch1x = (version: string) =>
  // The baseline build runs on every x64 processor.
  Effect.map(
    fetchPackage(`opencode-${platformName()}${process.arch === "x64" ? "-baseline" : ""}`, version),
    (folder) => join(folder, "bin", process.platform === "win32" ? "opencode.exe" : "opencode")
  )

/** The package manager could not fetch a package. */
export class PackageNotFetched extends Schema.TaggedError<PackageNotFetched>()("PackageNotFetched", {
  name: Schema.String,
  version: Schema.String,
  output: Schema.String
}) {
  override get message() {
    return `pnpm could not fetch ${this.name}@${this.version}:\n${this.output}`
  }
}

// internal

function platformName() {
  return `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
}

const cache = join(import.meta.dirname, "../../../../node_modules/.cache/opencode")

function fetchPackage(name: string, version: string) {
  return Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const folder = join(cache, `${name.replace("/", "+")}@${version}`)
    const installed = join(folder, "node_modules", name)
    if (yield* fs.exists(installed)) return installed
    yield* fs.makeDirectory(folder, { recursive: true })
    yield* fs.writeFileString(join(folder, "package.json"), JSON.stringify({ private: true }))
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const pnpm = ChildProcess.make(
      "pnpm",
      ["add", "--ignore-workspace", "--ignore-scripts", "--save-exact", `${name}@${version}`],
      { cwd: folder }
    )
    const output = yield* spawner.string(pnpm, { includeStderr: true })
    if (!(yield* fs.exists(installed))) return yield* new PackageNotFetched({ name, version, output })
    return installed
  })
}
