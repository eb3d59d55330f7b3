/**
 * A worker process: it runs one turn, or takes over the turns of others for as long as it lives. It kills or freezes itself at the point of
 * its task.
 *
 * It writes a line to standard output when it has started (`started`), when it reaches its point (`reached`), and for the result of its turn.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Client from "@opencode-turn/core/Client"
import * as Tracer from "@opencode-turn/core/Tracer"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import * as SqlSessionStore from "@opencode-turn/platform-node/SqlSessionStore"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { writeSync } from "node:fs"
import { flushCompileCache } from "node:module"
import * as CrashPoint from "./CrashPoint.ts"
import * as Seed from "./Seed.ts"
import * as Task from "./Task.ts"

/** Writes at once, so that nothing is lost if the process dies with the next statement. */
const say = (line: string) => void writeSync(1, `${line}\n`)

const act = (action: Task.Task["action"]) => () => {
  say("reached")
  if (action !== undefined) process.kill(process.pid, action === "kill" ? "SIGKILL" : "SIGSTOP")
}

const live = ({ action, database: { kind, location }, point, seed, server, turn }: Task.Task) =>
  CrashPoint.layer(point, Seed.millisBelow(12, seed, `${turn?.messageId} on its way`), act(action)).pipe(
    Layer.provide([
      Client.layer({
        baseUrl: server.url,
        password: Redacted.make(server.password),
        directory: server.directory
      }).pipe(Layer.provide(NodeHttpClient.layerUndici)),
      kind === "SQLite"
        ? SqlSessionStore.layerSqlite({ filename: location })
        : SqlSessionStore.layerPostgres({ url: Redacted.make(location), maxConnections: 4 })
    ]),
    Layer.merge(Tracer.layerLog())
  )

const work = Effect.fnUntraced(function*({ turn }: Task.Task) {
  if (turn === undefined) {
    yield* Layer.build(TurnWorker.layer())
    // A process that is killed later could not write its compile cache.
    flushCompileCache()
    say("started")
    return yield* Effect.never
  }
  say("started")
  const { error, status } = yield* runTurn({ ...turn, title: "soak" })
  say(`ended ${status} ${error?._tag ?? ""} ${error?.message ?? ""}`)
}, Effect.scoped)

Effect.gen(function*() {
  const task = yield* Config.schema(Schema.fromJsonString(Task.Task), "SOAK_TASK")
  yield* Effect.provide(work(task), live(task))
}).pipe(
  // A worker that is asked to stop leaves its turns to the other workers.
  Effect.provideService(TurnPolicy.OnInterrupt, "release"),
  NodeRuntime.runMain
)
