/**
 * `opencode-turn serve`: the gateway on a socket, with a worker for turns whose process died.
 *
 * **Responsibilities**: the server, the store and the token that the gateway stands on, and what is printed of it.
 *
 * **Not responsibilities**: the gateway itself (`gateway/Gateway`).
 */
import { Client } from "@opencode-turn/core/Client"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { networkInterfaces } from "node:os"
import { linkMinutes } from "../../gateway/Access.ts"
import * as Gateway from "../../gateway/Gateway.ts"
import * as Guard from "../../gateway/Guard.ts"
import * as Listen from "../../gateway/Listen.ts"
import * as Connection from "../setup/Connection.ts"
import * as Database from "../setup/Database.ts"
import { type Failure, fromError, usage } from "../setup/Failure.ts"
import * as MetricsPort from "../setup/MetricsPort.ts"
import * as Permissions from "../setup/Permissions.ts"
import * as Port from "../setup/Port.ts"
import * as Reports from "../setup/Reports.ts"
import { Streams } from "../setup/Streams.ts"
import * as Token from "../setup/Token.ts"
import * as TurnView from "../view/TurnView.ts"
import * as Resume from "./Resume.ts"
import type { Services } from "./Run.ts"

/** The options of the command line. */
export interface Options extends Connection.Flags {
  readonly database: string | undefined
  readonly host: string
  readonly port: number
  readonly metricsPort: number | undefined
  readonly allowHosts: ReadonlyArray<string>
  readonly allowOrigins: ReadonlyArray<string>
  readonly permission: Exclude<Permissions.Mode, "ask">
  readonly json: boolean
}

/** Serves until it is stopped. Its turns are then left to the next worker. */
export const serve = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<never, Failure, Services | Scope.Scope> {
    const flags = yield* Connection.settings(options)
    yield* Effect.mapError(
      Guard.check({ hosts: options.allowHosts, origins: options.allowOrigins }),
      ({ reason, setting }) => usage(`--allow-${setting.slice(0, -1)} ${reason}`)
    )
    const { token, place, wasReadable } = yield* Token.find
    const { store } = yield* Database.open(options.database)
    const { answer } = yield* Streams
    const view = yield* TurnView.human()
    const rules = Permissions.rules(options.permission)
    const server = yield* Connection.connect(flags, view, rules)
    yield* Connection.checkRules(server, rules)

    return yield* Effect.gen(function*() {
      const gate = yield* Resume.gateOf(options.permission, view)
      const clients = yield* Connection.makeClients(server)
      const home = Context.get(yield* clients(undefined), Client)
      const hosts = hostsOf(options)
      const gateway = yield* Gateway.make({
        token,
        gate,
        hosts,
        origins: options.allowOrigins,
        input: () => (rules.length === 0 ? {} : { permission: rules }),
        // The worker below has a client for each folder.
        worker: false,
        clientOf: (conversationId) => Connection.clientOf(conversationId, home, clients),
        viewer: true,
        metrics: true
      }).pipe(Effect.provideService(Client, home), Effect.mapError(fromError))
      const port = yield* Effect.mapError(Listen.listen(gateway, options), Port.explained(options, "--port"))
      const url = `http://${hosts[0]}:${port}`
      const link = `${url}${yield* gateway.makeLink}`
      const metrics = options.metricsPort === undefined ? undefined : yield* MetricsPort.listen(options.metricsPort)
      yield* answer(options.json ? `${JSON.stringify({ type: "serving", url, link, metrics })}\n` : `${url}\n`)
      if (!options.json) yield* answer(`${link} signs a browser in, once, within ${linkMinutes} minutes\n`)
      if (metrics !== undefined) yield* view.note(`${metrics} shows the metrics without a token`)
      yield* view.note(`programs send the token in ${place} as Authorization: Bearer TOKEN`)
      if (wasReadable) {
        yield* view.note(`others could read ${place}; now only you can. Delete it and start again for a new token`)
      }
      if (!isLoopback(options.host)) {
        yield* view.note("others can read what is sent over plain HTTP: put a proxy with TLS in front of it")
      }
      const carry = yield* Resume.makeCarry(
        clients,
        (result) => view.note(Resume.describeCarried(result)),
        gateway.onCarry
      )
      return yield* Effect.raceFirst(Resume.work(carry, clients), server.ended)
    }).pipe(
      Effect.provideContext(store),
      Effect.provide(Layer.merge(Tracer.layerNoop, Reports.layer)),
      Effect.provideService(TurnPolicy.OnInterrupt, "release")
    )
  },
  Effect.scoped
)

// internal

const isLoopback = (host: string): boolean => /^(?:localhost|127(?:\.\d{1,3}){3}|::1)$/.test(host)

/** The addresses that stand for all addresses of the machine. Nobody reaches it under one of them. */
const isEvery = (host: string): boolean => host === "0.0.0.0" || host === "::"

/**
 * The names under which the gateway is reached, the one for its link first. Nobody else can let an address lead here, as they can a name, so
 * that all addresses of this machine are known where it listens on all.
 */
const hostsOf = ({ allowHosts, host }: Options): readonly [string, ...ReadonlyArray<string>] => {
  const [first = "127.0.0.1", ...others] = isEvery(host) ? addresses(host) : [bracketed(host)]
  return [first, ...others, ...(isEvery(host) || isLoopback(host) ? loopback : []), ...allowHosts]
}

const loopback = ["localhost", "127.0.0.1", "[::1]"]

const bracketed = (host: string): string => host.includes(":") ? `[${host}]` : host

/** The addresses of this machine that others reach it by. */
const addresses = (host: string): ReadonlyArray<string> =>
  Object.values(networkInterfaces())
    .flatMap((all = []) => all)
    .filter(({ address, family, internal }) =>
      !internal && !address.startsWith("fe80:") && (host === "::" || family === "IPv4")
    )
    .toSorted((one, other) => one.family.localeCompare(other.family))
    .map(({ address }) => bracketed(address))
