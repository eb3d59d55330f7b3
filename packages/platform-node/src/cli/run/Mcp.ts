/**
 * `opencode-turn mcp`: the tools of `mcp/` on standard input and output.
 *
 * **Responsibilities**: the server, the store and the gate that the tools stand on. Clients give a process that is slow to speak up, so
 * the server of OpenCode starts while the protocol is spoken already.
 *
 * **Not responsibilities**: the tools (`mcp/McpTurns`).
 */
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import type { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as McpProtocol from "effect/ai/McpProtocol"
import * as McpServer from "effect/ai/McpServer"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import type * as Scope from "effect/Scope"
import type * as Stdio from "effect/Stdio"
import { readFileSync } from "node:fs"
import * as Runs from "../../gateway/Runs.ts"
import type * as McpTools from "../../mcp/McpTools.ts"
import { toolkit } from "../../mcp/McpTools.ts"
import * as McpTurns from "../../mcp/McpTurns.ts"
import * as Connection from "../setup/Connection.ts"
import * as Database from "../setup/Database.ts"
import type { Failure } from "../setup/Failure.ts"
import * as McpStdio from "../setup/McpStdio.ts"
import * as Permissions from "../setup/Permissions.ts"
import * as Reports from "../setup/Reports.ts"
import { Stop } from "../setup/Stop.ts"
import * as TurnView from "../view/TurnView.ts"
import * as Resume from "./Resume.ts"
import type { Services } from "./Run.ts"

/** The options of the command line. */
export interface Options extends Connection.Flags {
  readonly database: string | undefined
  readonly permission: Exclude<Permissions.Mode, "ask">
}

/** Serves until the client goes away, and its turns have ended or wait for an answer. */
export const mcp = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Services | Stdio.Stdio | Scope.Scope> {
    const flags = yield* Connection.settings(options)
    const { store } = yield* Database.open(options.database)
    const view = yield* TurnView.human()
    const { outliveReader } = yield* Stop
    yield* outliveReader

    yield* Effect.gen(function*() {
      const gate = yield* Resume.gateOf(options.permission, view)
      const rules = Permissions.rules(options.permission)
      const ready = yield* Deferred.make<McpTurns.Server, Failure>()
      const connecting = Effect.gen(function*() {
        const server = yield* Connection.connect(flags, view, rules)
        yield* Connection.checkRules(server, rules)
        const clients = yield* Connection.makeClients(server)
        const home = Context.get(yield* clients(undefined), Client)
        const runs = yield* Runs.make({
          clientOf: (conversationId) => Connection.clientOf(conversationId, home, clients)
        }).pipe(Effect.provideService(Client, home))
        const carry = yield* Resume.makeCarry(clients, (result) => view.note(Resume.describeCarried(result)))
        const carrying = yield* FiberMap.make<AssistantMessageId>()
        // A turn that is carried on belongs to the process, as one that is started does.
        const fork = yield* FiberMap.runtime(carrying)<SessionStore | Tracer.Tracer>()
        yield* Deferred.succeed(ready, {
          runs,
          carry: (orphan) =>
            Effect.sync(() =>
              void fork(
                orphan.id,
                Effect.catch(carry(orphan), (error) => view.note(error.message)),
                { onlyIfMissing: true }
              )
            )
        })
        return server
      })
      const working = yield* connecting.pipe(
        Effect.tapCause((cause) => Deferred.failCause(ready, cause)),
        Effect.matchEffect({
          // The other agent is told with its first call, and can tell its user; a process that ends could not.
          onFailure: (error) => Effect.andThen(view.note(error.message), Effect.never),
          onSuccess: (server) => server.ended
        }),
        Effect.provideService(HumanGate.HumanGate, gate),
        Effect.forkScoped
      )
      const turns = Layer.succeed(
        McpTurns.McpTurns,
        McpTurns.McpTurns.of({
          server: Effect.mapError(Deferred.await(ready), toFailed),
          choices: rules.length === 0 ? {} : { permission: rules },
          own: yield* Ref.make<ReadonlySet<AssistantMessageId>>(new Set())
        })
      )
      const registrations = McpServer.toolkit(toolkit).pipe(
        Layer.provide(McpTurns.layer),
        Layer.provide(turns)
      )
      const protocol = McpServer.layerStdio({
        name: "opencode-turn",
        version: yield* version,
        instructions,
        protocols: [
          McpProtocol.v2026_07_28,
          McpProtocol.v2025_11_25,
          McpProtocol.v2025_06_18,
          McpProtocol.v2025_03_26,
          McpProtocol.v2024_11_05
        ],
        registrations
      }).pipe(Layer.provide(McpStdio.layer))
      // The transport interrupts its fiber when the client has closed standard input and everything is answered.
      const speaking = yield* Effect.forkScoped(Layer.launch(protocol))
      yield* Effect.raceFirst(Fiber.await(speaking), Fiber.join(working))
      yield* Effect.raceFirst(Effect.provide(McpTurns.untilIdle, turns), Fiber.join(working))
    }).pipe(
      Effect.provideContext(store),
      Effect.provide(Layer.merge(Tracer.layerNoop, Reports.layer)),
      Effect.provideService(TurnPolicy.OnInterrupt, "release")
    )
  },
  Effect.scoped
)

// internal

/** The package's own version: this file lies as deep in the sources as in `dist`. */
const version = Effect.sync((): string => {
  const text = readFileSync(new URL("../../../package.json", import.meta.url), "utf8")
  return JSON.parse(text).version
})

const instructions =
  "Gives tasks to OpenCode, a coding agent that works in its own folder. run_turn starts a task and waits for " +
  "it; attach waits again; answer grants permissions and answers questions; cancel stops; list tells what there is. " +
  "A task goes on when a call ends, so repeat a call that was lost with the same key."

const toFailed = ({ message: error }: Failure): McpTools.Failed => ({
  error,
  advice: "the person who configured this server can mend it"
})
