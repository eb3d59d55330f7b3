/**
 * A real OpenCode with a scripted model, for the tests of a file: started once, each test with a session of its own.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import * as Client from "@opencode-turn/core/Client"
import * as SessionStore from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedProvider from "@opencode-turn/testing/ScriptedProvider"
import { Context, Effect, FileSystem, Layer } from "effect"

const platform = Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)

/** The folder that the agent works in, and the options to start the server with (again). */
export class Workplace extends Context.Service<Workplace, {
  readonly directory: string
  readonly options: OpencodeServer.Options
}>()("test/Workplace") {}

const workplace = Layer.effect(
  Workplace,
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const model = yield* ScriptedModel.ScriptedModel
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-real-" })
    const directory = `${folder}/project`
    yield* fs.makeDirectory(directory)
    const config = ScriptedProvider.opencodeConfig(model)
    return {
      directory,
      options: { home: `${folder}/home`, directory, environment: ScriptedProvider.environment(config) }
    }
  })
)

/** The scripted model and the folder, but no server yet. */
export const layerWithoutServer = workplace.pipe(
  Layer.provideMerge(ScriptedModel.layer()),
  Layer.provideMerge(platform)
)

/** A client of a running server, a store in memory, collected trace events. */
export const layerClient = (server: OpencodeServer.OpencodeServer["Service"], url = server.url) =>
  Layer.mergeAll(
    Layer.unwrap(
      Effect.map(Workplace, ({ directory }) => Client.layer({ baseUrl: url, password: server.password, directory }))
    ),
    SessionStore.layerMemory,
    Tracer.layerCollect()
  )

const layerServer = Layer.unwrap(Effect.map(Workplace, ({ options }) => OpencodeServer.layer(options)))

export const layer = Layer.unwrap(Effect.map(OpencodeServer.OpencodeServer, (server) => layerClient(server))).pipe(
  Layer.provideMerge(layerServer),
  Layer.provideMerge(layerWithoutServer)
)
