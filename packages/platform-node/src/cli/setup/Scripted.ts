/**
 * A real OpenCode server with a scripted model, in a folder of its own that is gone behind it: what a demo stands on.
 */
import type { Answer, ModelRequest, Script } from "@opencode-turn/testing/ModelScript"
import type * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import * as ChildProcess from "effect/process/ChildProcess"
import { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { join } from "node:path"
import type * as TurnView from "../view/TurnView.ts"
import * as Connection from "./Connection.ts"
import { failed, type Failure } from "./Failure.ts"

/** What the model does, and what OpenCode is to be told besides. */
export interface Options {
  readonly script: (kit: Kit) => Script
  readonly config?: Readonly<Record<string, unknown>>
}

/** Starts the server for as long as the scope lives. */
export const start = Effect.fnUntraced(function*(
  { config, script }: Options,
  view: TurnView.View
): Effect.fn.Return<
  Connection.Server,
  Failure,
  ChildProcessSpawner | FileSystem.FileSystem | Path.Path | Scope.Scope
> {
  // Loaded on demand: only a demo needs the test kit, and loading it slows the start.
  const { ScriptedModel, ScriptedProvider } = yield* loadKit
  const fs = yield* FileSystem.FileSystem
  const folder = yield* Effect.mapError(
    fs.makeTempDirectoryScoped({ prefix: "opencode-turn-demo-" }),
    (error) => failed(`cannot create a temporary folder: ${error.message}`)
  )
  const directory = join(folder, "project")
  const temporary = join(folder, "tmp")
  yield* Effect.mapError(
    Effect.forEach([directory, temporary], (path) => fs.makeDirectory(path), { discard: true }),
    (error) => failed(error.message)
  )
  yield* makeRepository(directory)
  const model = yield* ScriptedModel.ScriptedModel.pipe(
    Effect.provide(
      yield* Effect.mapError(
        Layer.build(ScriptedModel.layer({ script: script(ScriptedModel) })),
        (error) => failed(`the scripted model cannot listen on 127.0.0.1: ${error.message}`)
      )
    )
  )
  return yield* Connection.start({
    home: join(folder, "home"),
    directory,
    environment: {
      ...ScriptedProvider.environment({ ...ScriptedProvider.opencodeConfig(model), ...config }),
      // OpenCode unpacks libraries into its temporary folder and leaves them there (1.18).
      TMPDIR: temporary,
      TMP: temporary,
      TEMP: temporary
    }
  }, view)
})

/** A pace that a reader can follow. */
export const pace = { chunkDelayMillis: 35 }

/**
 * The answers in the words of the server, whose tools the call of the model offers. 2.x calls some tools and their arguments otherwise, and
 * has none for to-dos: such an answer leaves what it says to the next one.
 */
export const fitted = (
  answers: ReadonlyArray<Answer>,
  { tools }: Pick<ModelRequest, "tools">
): ReadonlyArray<Answer> => {
  if (tools.includes("bash")) return answers
  const fitted: Array<Answer> = []
  let unsaid: Answer = {}
  for (const answer of answers) {
    const { args = {}, tool, ...said } = { ...unsaid, ...answer }
    unsaid = {}
    if (tool === undefined) fitted.push(said)
    else if (tool === "todowrite") unsaid = said
    else fitted.push({ ...said, tool: names.get(tool) ?? tool, args: renamed(tool, args) })
  }
  return fitted
}

// internal

const names = new Map([["bash", "shell"], ["task", "subagent"]])

const renamed = (tool: string, args: Schema.JsonObject): Schema.JsonObject => {
  const { description = "", filePath, subagent_type: agent, ...others } = args
  return {
    ...others,
    ...(tool === "task" && agent !== undefined && { agent, description }),
    ...(filePath !== undefined && { path: filePath })
  }
}

type Kit = Pick<typeof ScriptedModel, "sequence">

const loadKit = Effect.tryPromise({
  try: async () => ({
    ScriptedModel: await import("@opencode-turn/testing/ScriptedModel"),
    ScriptedProvider: await import("@opencode-turn/testing/ScriptedProvider")
  }),
  catch: () => failed("the demo needs @opencode-turn/testing: install it beside @opencode-turn/platform-node")
})

/** OpenCode reports the changes of a shell command only inside a repository (1.18). Without git the demo goes on and says so. */
const makeRepository = (directory: string) =>
  Effect.flatMap(ChildProcessSpawner, (spawner) =>
    // A git hook's environment points to another repository.
    spawner.exitCode(ChildProcess.make("git", ["init", "--quiet", "--template=", directory], {
      env: { GIT_DIR: undefined, GIT_WORK_TREE: undefined },
      extendEnv: true
    }))).pipe(Effect.ignore)
