/**
 * The place of a soak: a real OpenCode that can be killed and restarted, its scripted model, one database, workers that take over turns,
 * and a view of all of them that does not use the code under test.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import type { SessionStore } from "@opencode-turn/core/SessionStore"
import * as SessionStores from "@opencode-turn/core/SessionStore"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as SqlSessionStore from "@opencode-turn/platform-node/SqlSessionStore"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedProvider from "@opencode-turn/testing/ScriptedProvider"
import { Context, Effect, Exit, FileSystem, Layer, Redacted, Scope } from "effect"
import * as ManagedServer from "../support/ManagedServer.ts"
import { commandOf, type Line } from "../support/OpencodeGlobalSetup.ts"
import * as Tools from "../support/Tools.ts"
import * as Records from "./Records.ts"
import type { Database, Task } from "./Task.ts"
import * as WorkerProcess from "./WorkerProcess.ts"

export interface Place {
  readonly database: Database
  readonly directory: string
  readonly seed: number
  readonly store: SessionStore["Service"]
  readonly model: ScriptedModel.ScriptedModel["Service"]
  /** The name of the tool that runs a command. */
  readonly shell: "bash" | "shell"
  /** Starts a worker of this place. */
  readonly worker: (task: Omit<Task, "database" | "seed" | "server">) => ReturnType<typeof WorkerProcess.start>
  /** Ends the server as a crash would, or as the system asks for it, and returns the time. */
  readonly endServer: (signal: "SIGKILL" | "SIGTERM") => Effect.Effect<number>
  /** Starts the server again on the same port, with what it had stored. */
  readonly startServer: Effect.Effect<void>
  /** The messages of a session as the server returns them, oldest first. */
  readonly record: (sessionId: string) => Effect.Effect<ReadonlyArray<Records.RawMessage>>
  /** Kills one of the workers that take turns over, and starts another in its place. */
  readonly replaceCarrier: Effect.Effect<void>
  /** The workers that take turns over. */
  readonly carriers: () => ReadonlyArray<WorkerProcess.WorkerProcess>
}

export interface Options {
  readonly postgresUrl?: string | undefined
  readonly line?: Line
  /** Whether the server goes on by itself with what its end stopped (2.x). */
  readonly isManaged?: boolean
  readonly seed?: number
}

/** Opens a place. It ends with all its processes when the scope closes. The default database is a SQLite file. */
export const make = Effect.fnUntraced(function*({ isManaged = false, line = "1.x", postgresUrl, seed = 0 }: Options) {
  const fs = yield* FileSystem.FileSystem
  const scope = yield* Effect.scope
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-soak-" })
  const directory = `${folder}/project`
  yield* fs.makeDirectory(directory)
  const database: Database = postgresUrl === undefined
    ? { kind: "SQLite", location: `${folder}/turns.db` }
    : { kind: "PostgreSQL", location: postgresUrl }
  const store = Context.get(yield* Layer.build(layerStore(database)), SessionStores.SessionStore)
  const model = Context.get(yield* Layer.build(ScriptedModel.layer()), ScriptedModel.ScriptedModel)

  const home = `${folder}/home`
  const command = yield* commandOf[line]
  const options: OpencodeServer.Options = {
    command: isManaged && command !== undefined ? yield* ManagedServer.commandOf(command, home) : command,
    home,
    directory,
    ...(isManaged && { password: Redacted.make(ManagedServer.password) }),
    environment: ScriptedProvider.environment({
      ...ScriptedProvider.opencodeConfig(model),
      permission: { bash: "allow" }
    })
  }
  const startIn = Effect.fnUntraced(function*(options: OpencodeServer.Options) {
    const lifetime = yield* Scope.fork(scope)
    return { lifetime, server: yield* Scope.provide(OpencodeServer.make(options), lifetime) }
  })
  let current = yield* startIn(options)
  const { password, url } = current.server
  const port = Number(new URL(url).port)
  const plainPassword = Redacted.value(password)

  const worker: Place["worker"] = (task) =>
    WorkerProcess.start({ ...task, database, seed, server: { url, password: plainPassword, directory } })
  const carrier = Effect.gen(function*() {
    const lifetime = yield* Scope.fork(scope)
    const process = yield* Scope.provide(worker({}), lifetime)
    yield* process.said("started")
    return { lifetime, process }
  })
  let carriers = yield* Effect.all([carrier, carrier], { concurrency: 2 })

  const place: Place = {
    database,
    directory,
    seed,
    store,
    model,
    shell: Tools.of[line].names.shell,
    worker,
    endServer: Effect.fnUntraced(function*(signal) {
      if (signal === "SIGKILL") yield* current.server.kill
      else process.kill(current.server.pid, signal)
      yield* current.server.exited
      const atMillis = Date.now()
      yield* Scope.close(current.lifetime, Exit.void)
      return atMillis
    }),
    startServer: Effect.gen(function*() {
      current = yield* startIn({ ...options, port, password })
    }).pipe(Effect.provide(platform), Effect.orDie),
    record: (sessionId) => Effect.promise(() => Records.read[line](url, plainPassword, sessionId)),
    replaceCarrier: Effect.gen(function*() {
      const [oldest, other] = carriers
      yield* Scope.close(oldest.lifetime, Exit.void)
      carriers = [other, yield* carrier]
    }),
    carriers: () => carriers.map(({ process }) => process)
  }
  return place
}, Effect.provide(Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)))

// internal

const platform = Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)

const layerStore = ({ kind, location }: Database) =>
  kind === "SQLite"
    ? SqlSessionStore.layerSqlite({ filename: location })
    : SqlSessionStore.layerPostgres({ url: Redacted.make(location), maxConnections: 4 })
