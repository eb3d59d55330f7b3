/**
 * A real OpenCode with a scripted model and a folder for the tests of a file, each test with a session of its own.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import * as Client from "@opencode-turn/core/Client"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedProvider from "@opencode-turn/testing/ScriptedProvider"
import { Context, Effect, FileSystem, Layer } from "effect"
import { execFileSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import type { Line } from "./OpencodeGlobalSetup.ts"
import { commandOf } from "./OpencodeGlobalSetup.ts"
import * as SharedOpencode from "./SharedOpencode.ts"
import * as Tools from "./Tools.ts"

export type { Line } from "./OpencodeGlobalSetup.ts"

const platform = Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)

/** The folder that the agent works in, and the options to start a server of its own with (again). */
export class Workplace extends Context.Service<Workplace, {
  readonly directory: string
  readonly options: OpencodeServer.Options
}>()("test/Workplace") {}

/** What the folder is to have besides the scripted model. */
export interface Options {
  /** The line of OpenCode; 1.x by default. */
  readonly line?: Line
  /** The scripted models by name, each with the names of its variants, which are efforts of reasoning. */
  readonly models?: Readonly<Record<string, ReadonlyArray<string>>>
  /** Further configuration of OpenCode. */
  readonly config?: Readonly<Record<string, unknown>>
  /** The folder is a git repository with one commit, so that OpenCode knows what a turn changes in it. */
  readonly isRepository?: boolean
}

/** Subagents may open subagents: an agent that calls `task` itself, and the depth for it. Shell commands ask, everywhere. */
export const nested: Options = {
  config: {
    // The second is the name of 2.x.
    subagent_depth: 2,
    experimental: { subagent_depth: 2 },
    permission: { bash: { "*": "ask", "echo denied*": "deny" } },
    agent: {
      nester: {
        mode: "subagent",
        description: "Opens a subagent of its own.",
        prompt: "You nest.",
        permission: { task: "allow" }
      }
    }
  }
}

const makeRepository = (directory: string) =>
  Effect.sync(() => {
    const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { cwd: directory, stdio: "ignore" })
    writeFileSync(`${directory}/old.txt`, "one\ntwo\nthree\n")
    git("init", "--quiet")
    git("add", ".")
    git("-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", "first")
  })

const withModels = (config: ReturnType<typeof ScriptedProvider.opencodeConfig>, { models }: Options) => {
  const { scripted } = config.provider
  return models === undefined ? config : {
    ...config,
    provider: {
      scripted: {
        ...scripted,
        models: Object.fromEntries(
          Object.entries(models).map(([id, variants]) => [id, {
            ...scripted.models.m,
            id,
            name: id,
            variants: Object.fromEntries(variants.map((effort) => [effort, { reasoningEffort: effort }]))
          }])
        )
      }
    }
  }
}

const workplace = (options: Options) =>
  Layer.effect(
    Workplace,
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const model = yield* ScriptedModel.ScriptedModel
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-real-" })
      const directory = `${folder}/project`
      yield* fs.makeDirectory(directory)
      const config = {
        ...withModels(ScriptedProvider.opencodeConfig(model), options),
        ...Tools.asking,
        ...options.config
      }
      yield* SharedOpencode.configure(directory, config)
      if (options.isRepository === true) yield* makeRepository(directory)
      const command = yield* commandOf[options.line ?? "1.x"]
      return {
        directory,
        options: {
          command,
          home: `${folder}/home`,
          directory,
          environment: ScriptedProvider.environment(config)
        }
      }
    })
  )

/** The same for a folder with these options. */
export const layerWithoutServerOf = (options: Options) =>
  workplace(options).pipe(Layer.provideMerge(ScriptedModel.layer()), Layer.provideMerge(platform))

/** The scripted model and the folder, but no server yet. */
export const layerWithoutServer = layerWithoutServerOf({})

/** A client of a running server, a store in memory, collected trace events. */
export const layerClient = (server: OpencodeServer.OpencodeServer["Service"], url = server.url) =>
  Layer.mergeAll(
    Layer.unwrap(
      Effect.map(Workplace, ({ directory }) => Client.layer({ baseUrl: url, password: server.password, directory }))
    ),
    MemorySessionStore.layer,
    Tracer.layerCollect()
  )

const layerServer = Layer.unwrap(Effect.map(Workplace, ({ options }) => OpencodeServer.layer(options)))

const layerClientOfServer = Layer.unwrap(
  Effect.map(OpencodeServer.OpencodeServer, (server) => layerClient(server))
)

/** The shared server, a folder with these options, and all that a turn needs. */
export const layerOf = (options: Options) =>
  layerClientOfServer.pipe(
    Layer.provideMerge(SharedOpencode.layerOf(options.line ?? "1.x")),
    Layer.provideMerge(layerWithoutServerOf(options))
  )

export const layer = layerOf({})

/** The same on any line. */
export const onLine = (options: Omit<Options, "line"> = {}) => (line: Line) => layerOf({ ...options, line })

/** The same with a server of its own, which a test may end. */
export const layerAloneOf = (options: Options) =>
  layerClientOfServer.pipe(
    Layer.provideMerge(layerServer),
    Layer.provideMerge(layerWithoutServerOf(options))
  )

export const layerAlone = layerAloneOf({})
