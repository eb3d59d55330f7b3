/**
 * The real OpenCode that the tests of this package share.
 */
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import { Effect, FileSystem, Layer, Redacted } from "effect"
import { inject } from "vitest"
import type { SharedOpencode } from "./OpencodeGlobalSetup.ts"

/** The shared server. No test may end it. */
export const server = Effect.suspend(() => {
  const shared: SharedOpencode = inject("opencode")
  if ("failure" in shared) return Effect.die(new Error(`there is no OpenCode for the tests: ${shared.failure}`))
  return Effect.succeed(OpencodeServer.OpencodeServer.of({
    url: shared.url,
    password: Redacted.make(shared.password),
    pid: shared.pid,
    exited: Effect.never,
    kill: Effect.die(new Error("the server is shared"))
  }))
})

export const layer = Layer.effect(OpencodeServer.OpencodeServer, server)

/** Gives a folder, and those in it, this configuration. */
export const configure = Effect.fnUntraced(function*(directory: string, config: object) {
  const fs = yield* FileSystem.FileSystem
  yield* fs.writeFileString(`${directory}/opencode.json`, JSON.stringify(config))
})
