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
import { commandOf, type Line } from "../support/OpencodeGlobalSetup.ts"
import * as Tools from "../support/Tools.ts"

/** The server that the scripts run on. */
export class Host extends Context.Service<Host, {
  /** The agent's folder, a git repository. */
  readonly directory: string
  /** How the model calls the tools of this line. */
  readonly tools: Tools.Tools
  /** Kills the server as a crash would, and starts it again on the same port with what it had stored. */
  readonly crash: Effect.Effect<void>
  /** From now on, the server gets this number of prompts without our learning its answer. */
  readonly loseAnswers: (count: number) => Effect.Effect<void>
  /** A client whose folder is another one. */
  readonly elsewhere: (directory: string) => Layer.Layer<Client.Client>
  /** A client behind a proxy that cuts connections. */
  readonly proxied: Layer.Layer<Client.Client | FaultProxy.FaultProxy>
}>()("versions/Host") {}

export type Services = Layer.Success<ReturnType<typeof layer>>

const platform = Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)

/** A server of the tests' own version of a line. */
export const layerOf = (line: Line, model?: ScriptedModel.Options) =>
  Layer.unwrap(
    Effect.map(commandOf[line], (command) => layer(command, Tools.of[line], model))
  ).pipe(Layer.provide(platform))

export const layer = (command: string | undefined, tools: Tools.Tools, model?: ScriptedModel.Options) =>
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
      const start = Effect.fnUntraced(function*(port?: number) {
        const life = yield* Scope.fork(scope)
        const server = yield* Scope.provide(life)(OpencodeServer.make({
          command,
          port,
          directory,
          home: `${folder}/home`,
          password: Redacted.make("the same for every start"),
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
      const host = Host.of({
        directory,
        tools,
        crash: Effect.gen(function*() {
          const { life, server } = yield* Ref.get(running)
          yield* server.kill
          yield* Scope.close(life, Exit.void)
          yield* Ref.set(running, yield* start(Number(new URL(url).port)))
        }).pipe(Effect.orDie, Effect.provide(services)),
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

/** A client that resets the connection after the server has taken a prompt, as often as `count` says. */
const losing = (count: Ref.Ref<number>) =>
  Effect.map(
    HttpClient.HttpClient,
    (client) =>
      HttpClient.transform(client, (answer, request) =>
        Effect.gen(function*() {
          const response = yield* answer
          const isPrompt = request.method === "POST" && /\/prompt(_async)?(\?|$)/.test(request.url)
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
