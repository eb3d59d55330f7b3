/**
 * A real OpenCode server whose model is a script: the examples need no key and no network.
 *
 * In a program of your own, `LiveLayer` takes the place of `layer`; the rest of each example stays as it is.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as LiveLayer from "@opencode-turn/platform-node/LiveLayer"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedProvider from "@opencode-turn/testing/ScriptedProvider"
import { Config, Effect, FileSystem, Layer, type Redacted } from "effect"

/**
 * Everything that a turn needs. Shell commands ask for permission, also those of subagents.
 *
 * The layer starts a server of its own, or uses the one of `OPENCODE_BASE_URL`, which has to read a project's own settings.
 */
export const layer = (steps: ReadonlyArray<Step>) =>
  Layer.unwrap(Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const model = yield* ScriptedModel.ScriptedModel
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-example-" })
    const directory = `${folder}/project`
    yield* fs.makeDirectory(directory)
    const config = { ...ScriptedProvider.opencodeConfig(model), permission: { bash: "ask" } }
    const baseUrl = yield* Config.String("OPENCODE_BASE_URL").pipe(Config.withDefault(""))
    if (baseUrl !== "") {
      yield* fs.writeFileString(`${directory}/opencode.json`, JSON.stringify(config))
      const password = yield* Config.Redacted("OPENCODE_SERVER_PASSWORD")
      return live({ baseUrl, password, directory })
    }
    const server = OpencodeServer.layer({
      home: `${folder}/home`,
      directory,
      environment: ScriptedProvider.environment(config)
    })
    return Layer.unwrap(
      Effect.map(OpencodeServer.OpencodeServer, ({ password, url }) => live({ baseUrl: url, password, directory }))
    ).pipe(Layer.provide(server))
  })).pipe(
    Layer.provide(ScriptedModel.layer({ script: ScriptedModel.sequence(steps) })),
    Layer.provide(Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici))
  )

const live = (server: { readonly baseUrl: string; readonly password: Redacted.Redacted; readonly directory: string }) =>
  LiveLayer.make({ ...server, database: "memory", tracer: Tracer.layerNoop })
