/**
 * The real servers for the tests of this package that need none of their own, one of each line of OpenCode: a start takes seconds.
 * A server starts when the first test wants it. Each folder brings the settings of its own scripted model along
 * (`SharedOpencode.ts`).
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedProvider from "@opencode-turn/testing/ScriptedProvider"
import { Effect, FileSystem, Layer, ManagedRuntime, Redacted, Schedule, Schema } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"
import * as OpencodePackage from "./OpencodePackage.ts"

/** The lines of OpenCode that the tests run on. */
export type Line = "1.x" | "2.x"

/** A shared server, or why there is none. */
export const Outcome = Schema.Union([
  Schema.Struct({ url: Schema.String, password: Schema.String, pid: Schema.Int }),
  Schema.Struct({ failure: Schema.String })
])

/** The file whose existence asks for the server of the line. */
export const wantedFile = (folder: string, line: Line): string => join(folder, `${line}.wanted`)

/** The file with the server's `Outcome`. */
export const outcomeFile = (folder: string, line: Line): string => join(folder, `${line}.json`)

/** The binaries of the lines. The one of 1.x is a dependency of this package. */
export const commandOf = {
  "1.x": Effect.undefined,
  "2.x": OpencodePackage.fetch2x
}

declare module "vitest" {
  interface ProvidedContext {
    /** The folder in which tests ask for the shared servers. */
    readonly opencode: string
    /** Why this platform has no OpenCode 2.x, or nothing if it has. */
    readonly missing2x: string
  }
}

export default (project: TestProject) => {
  const folder = mkdtempSync(join(tmpdir(), "opencode-turn-shared-"))
  project.provide("opencode", folder)
  project.provide("missing2x", OpencodePackage.missing2x ?? "")
  if (OpencodePackage.missing2x !== undefined) {
    console.warn(`${OpencodePackage.missing2x}: the tests on OpenCode 2.x are skipped`)
  }
  const servers = ManagedRuntime.make(Layer.mergeAll(serve(folder, "1.x"), serve(folder, "2.x")))
  servers.runFork(Effect.void)
  return async () => {
    await servers.dispose()
    rmSync(folder, { recursive: true, force: true })
  }
}

const platform = Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)

const serve = (folder: string, line: Line) =>
  Layer.effectDiscard(Effect.forkScoped(
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      yield* Effect.repeat(fs.exists(wantedFile(folder, line)), {
        schedule: Schedule.spaced("50 millis"),
        until: (isWanted) => isWanted
      })
      const outcome = yield* Effect.catch(
        start(line),
        ({ message }) => Effect.succeed({ failure: message })
      )
      const file = outcomeFile(folder, line)
      yield* fs.writeFileString(`${file}.new`, JSON.stringify(outcome))
      yield* fs.rename(`${file}.new`, file)
    })
  )).pipe(Layer.provide(platform))

const start = Effect.fnUntraced(function*(line: Line) {
  const fs = yield* FileSystem.FileSystem
  const home = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-home-" })
  const { OPENCODE_DISABLE_PROJECT_CONFIG: _, ...environment } = ScriptedProvider.environment({})
  const command = yield* commandOf[line]
  const { password, pid, url } = yield* OpencodeServer.make({
    command,
    home,
    directory: home,
    environment,
    startTimeout: "2 minutes"
  })
  return { url, password: Redacted.value(password), pid }
})
