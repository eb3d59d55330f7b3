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
import { Effect, FileSystem, Layer } from "effect"

/** Everything that a turn needs. Shell commands ask for permission, also those of subagents. */
export const layer = (steps: ReadonlyArray<Step>) =>
  Layer.unwrap(Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const model = yield* ScriptedModel.ScriptedModel
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-example-" })
    const directory = `${folder}/project`
    yield* fs.makeDirectory(directory)
    const config = { ...ScriptedProvider.opencodeConfig(model), permission: { bash: "ask" } }
    return Layer.provide(
      live(directory),
      OpencodeServer.layer({ home: `${folder}/home`, directory, environment: ScriptedProvider.environment(config) })
    )
  })).pipe(
    Layer.provide(ScriptedModel.layer({ script: ScriptedModel.sequence(steps) })),
    Layer.provide(Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici))
  )

const live = (directory: string) =>
  Layer.unwrap(
    Effect.map(OpencodeServer.OpencodeServer, ({ password, url }) =>
      LiveLayer.make({ baseUrl: url, password, directory, database: "memory", tracer: Tracer.layerNoop }))
  )
