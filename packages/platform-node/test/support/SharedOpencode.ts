/**
 * The real servers that the tests of this package share, one of each line of OpenCode.
 */
import { NodeFileSystem } from "@effect/platform-node"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import { Effect, FileSystem, Layer, Redacted, Schedule, Schema } from "effect"
import { inject } from "vitest"
import type { Line } from "./OpencodeGlobalSetup.ts"
import { Outcome, outcomeFile, wantedFile } from "./OpencodeGlobalSetup.ts"

/** Whether this platform has no OpenCode of the line. Its tests are skipped then. */
export const isMissing = (line: Line): boolean => line === "2.x" && inject("missing2x") !== ""

/** The shared server of a line. No test may end it. */
export const serverOf = Effect.fnUntraced(
  function*(line: Line) {
    const fs = yield* FileSystem.FileSystem
    const folder = inject("opencode")
    yield* fs.writeFileString(wantedFile(folder, line), "")
    const file = outcomeFile(folder, line)
    yield* Effect.repeat(fs.exists(file), { schedule: Schedule.spaced("50 millis"), until: (exists) => exists })
    const outcome = yield* decodeOutcome(yield* fs.readFileString(file))
    if ("failure" in outcome) return yield* Effect.die(new Error(`there is no OpenCode ${line}: ${outcome.failure}`))
    return OpencodeServer.OpencodeServer.of({
      url: outcome.url,
      password: Redacted.make(outcome.password),
      pid: outcome.pid,
      exited: Effect.never,
      kill: Effect.die(new Error("the server is shared"))
    })
  },
  Effect.provide(NodeFileSystem.layer),
  Effect.orDie
)

const decodeOutcome = Schema.decodeEffect(Schema.fromJsonString(Outcome))

/** The shared server of OpenCode 1.x. */
export const server = serverOf("1.x")

export const layerOf = (line: Line) => Layer.effect(OpencodeServer.OpencodeServer, serverOf(line))

/** Gives a folder, and those in it, this configuration. */
export const configure = Effect.fnUntraced(function*(directory: string, config: object) {
  const fs = yield* FileSystem.FileSystem
  yield* fs.writeFileString(`${directory}/opencode.json`, JSON.stringify(config))
})
