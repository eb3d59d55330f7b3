/**
 * A gateway to turns for browsers and other HTTP clients: a handler from `Request` to `Response` that mounts into any server.
 *
 * ```
 *   browser, client ──▶ Guard ──▶ Access ──▶ Ownership ──▶ Handlers ──▶ Runs, SessionStore, Client
 *                       host,      who         whose
 *                       origin
 * ```
 *
 * **Responsibilities**: the wiring of the routes, the guard, and a worker for turns whose process died.
 *
 * **Not responsibilities**: listening on a socket (`opencode-turn serve`, or your server), TLS.
 *
 * A turn belongs to the process and the store, not to the request that started it: closing a connection never cancels it. The end of the
 * gateway lets its turns go for the next worker. docs/GATEWAY.md shows the routes and how to mount it.
 *
 * @since 0.1.0
 */
import * as HumanGate from "@opencode-turn/core/HumanGate"
import type { ConversationId } from "@opencode-turn/core/Ids"
import { SessionStore, type StoredMessage, type StoreError } from "@opencode-turn/core/SessionStore"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import type { TurnServices } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import { type InvalidConfig, LiveLayer } from "../live/LiveLayer.ts"
import * as PrometheusPage from "../live/PrometheusPage.ts"
import * as Access from "./Access.ts"
import { GatewayApi, type StartTurn } from "./GatewayApi.ts"
import * as Guard from "./Guard.ts"
import * as Handlers from "./Handlers.ts"
import * as Listen from "./Listen.ts"
import * as Login from "./Login.ts"
import * as Runs from "./Runs.ts"
import * as AgUiHandlers from "./streams/AgUiHandlers.ts"
import * as AiSdkHandlers from "./streams/AiSdkHandlers.ts"
import type { User } from "./User.ts"
import * as Viewer from "./Viewer.ts"

export { type Authorize, type Credentials, makeToken } from "./Access.ts"
export { GatewayApi } from "./GatewayApi.ts"
export { contentSecurityPolicy } from "./Guard.ts"
export { listen } from "./Listen.ts"
export { CurrentUser, ofPrefix, type User } from "./User.ts"

/**
 * **Details**
 *
 * - `token` or `authorize`: who may use the gateway, see `Access`.
 * - `hosts`, `origins`: under which names it is reached and which other pages may call it, see `Guard`. By default only the loopback
 *   interface's names, and no other page.
 * - `maxTurns`, `maxStreams`: the limits of one client, see `Runs`.
 * - `maxBodyBytes`: by default what the files of a prompt may have (`TurnPolicy.MaxAttachmentBytes`) in base64, and 1 MiB.
 * - `gate`: who answers what the agent asks; by default `StoredGate`, whose asks wait for `POST /asks/{id}/answer`.
 * - `input`: what the product says of each turn besides its client: system prompt, tools, permissions, model.
 * - `clientOf`: the client for a conversation, where they work in several folders; by default the one client of the context.
 * - `prefix`: the path under which the gateway is mounted, `/agent`.
 * - `worker`: whether the gateway also carries on the turns of processes that died, as `TurnWorker` does; it does by default.
 * - `viewer`: whether the page for people is served at `/`; it is not by default.
 * - `metrics`: whether `GET /metrics` gives the metrics of the process to the holder of the token, for Prometheus; it does not by default.
 *   They are those of all users, so a gateway whose product checks requests itself has no such page.
 * - `home`: the path of the page to which a one-time link leads, `/` by default.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = Access.Credentials & Guard.Options & Runs.Limits & {
  readonly maxBodyBytes?: number | undefined
  readonly gate?: HumanGate.Gate | undefined
  readonly input?:
    | ((start: StartTurn, user: User, conversationId: ConversationId) => Partial<TurnInput>)
    | undefined
  readonly clientOf?: Runs.ClientOf | undefined
  readonly prefix?: `/${string}` | undefined
  readonly worker?: boolean | undefined
  readonly viewer?: boolean | undefined
  readonly metrics?: boolean | undefined
  readonly home?: `/${string}` | undefined
}

/**
 * **Details**
 *
 * - `handle`: answers one request. It can be served by any `HttpServer`, or stand in a route of an `HttpRouter`.
 * - `onCarry`: for a `TurnWorker` besides the gateway's own, so that the turns that it takes over count for their client.
 * - `makeLink`: the path of a new one-time link that signs a browser in, within 10 minutes; undefined where a product checks requests itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface Gateway {
  readonly handle: Listen.Handle
  readonly makeLink: Effect.Effect<string | undefined>
  readonly onCarry: (message: StoredMessage) => Effect.Effect<void, never, Scope.Scope>
}

/**
 * A gateway over the services in the context. Its turns run until the scope closes. Fails for a token that can be guessed, and for a host or
 * an origin that no request can have.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Gateway, InvalidConfig, TurnServices | Scope.Scope> {
  yield* Guard.check(options)
  const gate = options.gate ?? (yield* StoredGate.gate)
  return yield* Effect.provideService(build(options), HumanGate.HumanGate, gate)
})

/**
 * A gateway for servers that know `Request` and `Response`.
 *
 * @category models
 * @since 0.1.0
 */
export interface WebGateway {
  readonly handle: (request: Request) => Promise<Response>
  readonly makeLink: () => Promise<string | undefined>
  /** Serves on a socket of Node's until the gateway is closed, and gives the port. */
  readonly listen: (options: Listen.Options) => Promise<number>
  /** Lets the turns go for the next worker, and closes the connection and the store. */
  readonly close: () => Promise<void>
}

/**
 * Opens a gateway; one for a process is enough.
 *
 * **Details**
 *
 * `live` are the services that turns need, by default `LiveLayer`, with the policies of turns merged in where they differ from the
 * defaults. Throws `InvalidConfig` for a setting that cannot be used, and `StoreError` for a store that cannot be opened.
 *
 * @category constructors
 * @since 0.1.0
 */
export const open = async <E = never>(
  options: Options & { readonly live?: Layer.Layer<TurnServices, E> | undefined }
): Promise<WebGateway> => {
  const live: Layer.Layer<TurnServices, E | InvalidConfig | StoreError> = options.live ?? LiveLayer
  const runtime = ManagedRuntime.make(Layer.provideMerge(Layer.effect(Made, make(options)), live))
  const { handle, makeLink } = await runtime.runPromise(Made)
  const web = HttpEffect.toWebHandlerWith<Made | TurnServices, HttpServerRequest.HttpServerRequest | Scope.Scope>(
    await runtime.context()
  )(handle)
  return {
    handle: (request) => web(request),
    makeLink: () => runtime.runPromise(makeLink),
    listen: (options) => runtime.runPromise(Scope.provide(Listen.listen({ handle }, options), runtime.scope)),
    close: () => runtime.dispose()
  }
}

// internal

class Made extends Context.Service<Made, Gateway>()("@opencode-turn/platform-node/gateway/Made") {}

const build = Effect.fnUntraced(function*(options: Options) {
  const { makeLink, ...checks } = yield* Access.make(options)
  const access = Access.Access.of({
    ...checks,
    makeLink: Effect.map(makeLink, (path) => path === undefined ? path : `${baseOf(options)}${path}`)
  })
  const runs = yield* Runs.make(options)
  const onCarry: Gateway["onCarry"] = ({ conversationId }) => runs.takeOver(conversationId)
  const limit = options.maxBodyBytes ?? Math.ceil((yield* TurnPolicy.MaxAttachmentBytes) * 4 / 3) + mebibyte
  const services = Layer.mergeAll(
    Layer.succeed(Access.Access, access),
    Layer.succeed(Runs.Runs, runs),
    Layer.succeed(Handlers.ProductInput, options.input ?? (() => ({})))
  )
  const groups = Layer.mergeAll(
    Handlers.layerTurns,
    Handlers.layerConversations,
    Handlers.layerAsks,
    Handlers.layerService,
    AiSdkHandlers.layer,
    AgUiHandlers.layer
  ).pipe(Layer.provide([Handlers.layerAuthorized, Handlers.layerReadable, Handlers.layerWritten]))
  const routes = Layer.mergeAll(
    HttpApiBuilder.layer(GatewayApi, { openapiPath: "/openapi.json" }).pipe(Layer.provide(groups)),
    Login.layer({ base: baseOf(options), home: options.home ?? "/" }),
    options.viewer === true ? Viewer.layer(baseOf(options)) : Layer.empty,
    options.metrics === true && options.token !== undefined ? layerMetrics : Layer.empty
  ).pipe(Layer.provide([services, HttpServer.layerServices]))

  const app = yield* Effect.provideService(HttpRouter.toHttpEffect(routes), HttpRouter.RouterConfig, routerConfig)
  if (options.worker !== false) {
    yield* Layer.build(
      TurnWorker.layer({ onCarry })
    )
  }
  const handle = app.pipe(
    Effect.provideService(Access.Access, access),
    Effect.provideService(SessionStore, yield* SessionStore),
    Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(limit)),
    mounted(options),
    Guard.guard(options)
  )
  return { handle, onCarry, makeLink: access.makeLink }
})

const mebibyte = 1024 * 1024

/** Ids differ in case, and a store takes ids of 512 characters, which the routes' own schemas check. */
const routerConfig = { caseSensitive: true, maxParamLength: 8_192 }

/** The prefix without a slash at its end: empty for the root. */
const baseOf = ({ prefix = "/" }: Options): string => prefix.endsWith("/") ? prefix.slice(0, -1) : prefix

/** Takes the prefix off the path. */
const mounted = (options: Options) => {
  const base = baseOf(options)
  return <E, R>(app: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) =>
    base === "" ? app : Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      const rest = request.url.slice(base.length)
      const isBelow = request.url.startsWith(base) && /^(?:[/?]|$)/.test(rest)
      return isBelow
        ? Effect.provideService(
          app,
          HttpServerRequest.HttpServerRequest,
          request.modify({ url: rest.startsWith("/") ? rest : `/${rest}` })
        )
        : Effect.succeed(HttpServerResponse.empty({ status: 404 }))
    })
}

/** The page for Prometheus. */
const layerMetrics = HttpRouter.add(
  "GET",
  "/metrics",
  Effect.gen(function*() {
    const { userOf } = yield* Access.Access
    yield* userOf(yield* HttpServerRequest.HttpServerRequest)
    return yield* PrometheusPage.response
  }).pipe(Effect.catch((error) => Effect.succeed(Guard.toResponse(error))))
)
