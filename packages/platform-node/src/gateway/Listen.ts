/**
 * Serves a gateway on a socket of its own, with Node's HTTP server.
 *
 * **Responsibilities**: limits that only a server can keep: how long the head and the body of a request may take, how many connections
 * there may be, in all and from one address.
 *
 * **Not responsibilities**: TLS. Put a proxy in front of a gateway that is not on the loopback interface.
 *
 * @since 0.1.0
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import type * as HttpServerError from "effect/http/HttpServerError"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Scope from "effect/Scope"
import { createServer, type Server } from "node:http"
import type { Socket } from "node:net"

/**
 * **Details**
 *
 * - `port`: 0 for any that is free.
 * - `maxConnections`: how many connections there may be, 5,000 by default; `maxConnectionsPerAddress` from one address, 2,000 by default.
 *   One more is closed at once.
 * - `headersMillis`: how long the head of a request may take, 10 seconds by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly host: string
  readonly port: number
  readonly maxConnections?: number | undefined
  readonly maxConnectionsPerAddress?: number | undefined
  readonly headersMillis?: number | undefined
}

/**
 * Answers one request.
 *
 * @category models
 * @since 0.1.0
 */
export type Handle = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  HttpServerError.HttpServerError,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

/**
 * Listens until the scope closes; then streams are cut off, and a page attaches again where it was. Gives the port.
 *
 * @category constructors
 * @since 0.1.0
 */
export const listen = Effect.fnUntraced(function*(
  { handle }: { readonly handle: Handle },
  options: Options
): Effect.fn.Return<number, HttpServerError.ServeError, Scope.Scope> {
  const { address, serve } = yield* NodeHttpServer.make(() => makeServer(options), {
    host: options.host,
    port: options.port,
    gracefulShutdownTimeout: shutdown
  })
  yield* Effect.provideService(serve(handle), HttpMiddleware.TracerDisabledWhen, isProbe)
  return "port" in address ? address.port : options.port
})

// internal

/** A trace of each scrape, and of each look whether the gateway runs, would tell nothing. */
const isProbe = ({ url }: HttpServerRequest.HttpServerRequest): boolean => /\/(?:metrics|health)(?:\?|$)/.test(url)

/** How long the answers that are on their way may take when the server stops. Open streams never end by themselves. */
const shutdown: Duration.Input = "500 millis"

const makeServer = (
  { headersMillis = 10_000, maxConnections = 5_000, maxConnectionsPerAddress = 2_000 }: Options
): Server => {
  const server = createServer({
    // Against heads that come byte by byte. Node looks every `connectionsCheckingInterval`.
    headersTimeout: headersMillis,
    // A body of the greatest size over 1 Mbit/s.
    requestTimeout: 120_000,
    connectionsCheckingInterval: Math.min(2_000, headersMillis),
    keepAliveTimeout: 5_000,
    // Finds peers that are gone without a word.
    keepAlive: true,
    keepAliveInitialDelay: 30_000
  })
  server.maxConnections = maxConnections
  const open = new Map<string, number>()
  server.on("connection", (socket: Socket) => {
    const address = socket.remoteAddress ?? ""
    const count = (open.get(address) ?? 0) + 1
    open.set(address, count)
    socket.once("close", () => {
      const left = (open.get(address) ?? 1) - 1
      if (left > 0) open.set(address, left)
      else open.delete(address)
    })
    if (count > maxConnectionsPerAddress) socket.destroy()
  })
  return server
}
