/**
 * A server of one version of OpenCode with a scripted model and a folder, for the scripts of `pnpm versions`.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import * as Client from "@opencode-turn/core/Client"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as FaultProxy from "@opencode-turn/testing/FaultProxy"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedProvider from "@opencode-turn/testing/ScriptedProvider"
import { Context, Effect, Exit, FileSystem, Layer, Redacted, Ref, Scope } from "effect"
import { HttpClient } from "effect/http"
import { execFileSync } from "node:child_process"
import * as ManagedServer from "../support/ManagedServer.ts"
import { commandOf, type Line } from "../support/OpencodeGlobalSetup.ts"
import * as Tools from "../support/Tools.ts"

/** The server that the scripts run on. */
export class Host extends Context.Service<Host, {
  /** The agent's folder, a git repository. */
  readonly directory: string
  /** How the model calls the tools of this line. */
  readonly tools: Tools.Tools
  /** Ends the server as a crash does (`SIGKILL`), or as the system asks for it (`SIGTERM`), and waits until it is gone. */
  readonly end: (signal: "SIGKILL" | "SIGTERM") => Effect.Effect<void>
  /** Starts the server that was ended again, on the same port with what it had stored. */
  readonly restart: Effect.Effect<void>
  /** Ends the server as a crash does, and starts it again. */
  readonly crash: Effect.Effect<void>
  /** From now on, the server gets this number of prompts, and of inputs to go on, without our learning its answer. */
  readonly loseAnswers: (count: number) => Effect.Effect<void>
  /** A client whose folder is another one. */
  readonly elsewhere: (directory: string) => Layer.Layer<Client.Client>
  /** A client behind a proxy that cuts connections. */
  readonly proxied: Layer.Layer<Client.Client | FaultProxy.FaultProxy>
}>()("versions/Host") {}

export type Services = Layer.Success<ReturnType<typeof layer>>

const platform = Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)

/** A server of the tests' own version of a line. */
export const layerOf = (line: Line, model?: ScriptedModel.Options, options: Options = {}) =>
  Layer.unwrap(
    Effect.map(commandOf[line], (command) => layer(command, Tools.of[line], model, options))
  ).pipe(Layer.provide(platform))

export interface Options {
  /** Whether it is the background service of OpenCode 2.x, which goes on by itself with what its end stopped. */
  readonly isManaged?: boolean
}

export const layer = (
  command: string | undefined,
  tools: Tools.Tools,
  model?: ScriptedModel.Options,
  { isManaged = false }: Options = {}
) =>
  Layer.effectContext(
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const scope = yield* Effect.scope
      const model = yield* ScriptedModel.ScriptedModel
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-versions-" })
      const directory = `${folder}/project`
      yield* fs.makeDirectory(directory)
      makeRepository(directory)
      const config = {
        ...ScriptedProvider.opencodeConfig(model),
        ...Tools.asking
      }
      const home = `${folder}/home`
      const managed = isManaged && command !== undefined ? yield* ManagedServer.commandOf(command, home) : undefined
      const start = Effect.fnUntraced(function*(port?: number) {
        const life = yield* Scope.fork(scope)
        const server = yield* Scope.provide(life)(OpencodeServer.make({
          command: managed ?? command,
          port,
          directory,
          home,
          password: Redacted.make(samePassword),
          environment: ScriptedProvider.environment(config),
          startTimeout: "3 minutes"
        }))
        return { server, life }
      })
      const first = yield* start()
      const running = yield* Ref.make(first)
      const { password, url } = first.server

      const lost = yield* Ref.make(0)
      const services = yield* Effect.context<Layer.Success<typeof platform>>()
      const clientOf = (baseUrl: string, directory: string) =>
        Client.layer({ baseUrl, password, directory }).pipe(
          Layer.provide(Layer.effect(HttpClient.HttpClient, losing(lost))),
          Layer.provide(Layer.succeedContext(services))
        )
      const end = Effect.fnUntraced(function*(signal: "SIGKILL" | "SIGTERM") {
        const { life, server } = yield* Ref.get(running)
        if (signal === "SIGKILL") yield* server.kill
        else process.kill(server.pid, signal)
        yield* server.exited
        yield* Scope.close(life, Exit.void)
      })
      const restart = Effect.flatMap(start(Number(new URL(url).port)), (started) => Ref.set(running, started)).pipe(
        Effect.orDie,
        Effect.provide(services)
      )
      const host = Host.of({
        directory,
        tools,
        end,
        restart,
        crash: Effect.andThen(end("SIGKILL"), restart),
        loseAnswers: (count) => Ref.set(lost, count),
        elsewhere: (directory) => clientOf(url, directory),
        proxied: Layer.unwrap(Effect.map(FaultProxy.FaultProxy, (proxy) => clientOf(proxy.url, directory))).pipe(
          Layer.provideMerge(FaultProxy.layer(url))
        )
      })
      return Context.add(
        yield* Layer.build(Layer.mergeAll(clientOf(url, directory), MemorySessionStore.layer, Tracer.layerCollect())),
        Host,
        host
      )
    })
  ).pipe(Layer.provideMerge(ScriptedModel.layer(model)), Layer.provideMerge(platform))

/** The password of every server. */
export const samePassword = ManagedServer.password

/** A client that resets the connection after the server has taken a prompt, as often as `count` says. */
const losing = (count: Ref.Ref<number>) =>
  Effect.map(
    HttpClient.HttpClient,
    (client) =>
      HttpClient.transform(client, (answer, request) =>
        Effect.gen(function*() {
          const response = yield* answer
          const isPrompt = request.method === "POST" && /\/(?:prompt(?:_async)?|synthetic)(?:\?|$)/.test(request.url)
          if (!isPrompt || (yield* Ref.get(count)) === 0) return response
          yield* Ref.update(count, (left) => left - 1)
          return yield* client.get("http://127.0.0.1:9/lost")
        }))
  )

const makeRepository = (directory: string) => {
  const git = (...args: ReadonlyArray<string>) => execFileSync("git", args, { cwd: directory, stdio: "ignore" })
  git("init", "--quiet")
  const author = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
  git(...author, "commit", "--quiet", "--allow-empty", "--message", "first")
}
