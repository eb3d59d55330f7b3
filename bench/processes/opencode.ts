/**
 * A real OpenCode server with a scripted model, in a home folder of its own that is removed at the end.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as OpencodeServer from "../../packages/platform-node/src/live/OpencodeServer.ts"
import * as ScriptedModel from "../../packages/testing/src/model/ScriptedModel.ts"
import { environment, opencodeConfig } from "../../packages/testing/src/model/ScriptedProvider.ts"

const home = await mkdtemp(join(tmpdir(), "opencode-turn-bench-"))
const Server = Layer.unwrap(Effect.gen(function*() {
  const model = yield* ScriptedModel.ScriptedModel
  return OpencodeServer.layer({ home, directory: home, environment: environment(opencodeConfig({ url: model.url })) })
})).pipe(
  Layer.provide(ScriptedModel.layer()),
  Layer.provide(NodeHttpClient.layerUndici),
  Layer.provide(NodeServices.layer)
)

await Effect.runPromise(
  Effect.gen(function*() {
    const { password, url } = yield* OpencodeServer.OpencodeServer
    yield* Effect.callback<void>((resume) => {
      process.once("disconnect", () => resume(Effect.void))
      process.on("message", (message) => {
        if (message === "count") process.send?.({})
      })
      process.send?.({ url, password: Redacted.value(password), directory: home })
    })
  }).pipe(Effect.provide(Server), Effect.ensuring(Effect.promise(() => rm(home, { recursive: true, force: true }))))
)
process.exit(0)
