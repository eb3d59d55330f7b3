/**
 * A fake OpenCode on a port of 127.0.0.1, for clients that want a real connection.
 *
 * Owns the listener. What is answered is `FakeOpencode`'s, whose controls work the same over HTTP.
 *
 * @since 0.1.0
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpServer from "effect/http/HttpServer"
import type { ServeError } from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Http from "node:http"
import { FakeOpencode } from "./FakeOpencode.ts"

/**
 * The running server.
 *
 * @category services
 * @since 0.1.0
 */
export class FakeServer extends Context.Service<FakeServer, {
  /** Where it listens: `http://127.0.0.1:PORT`, without a slash at the end. */
  readonly url: string
}>()("@opencode-turn/testing/FakeServer") {}

/**
 * How to serve.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** A free one by default. */
  readonly port?: number | undefined
}

/**
 * Serves the fake until the layer's scope closes, which breaks the connections that are left.
 *
 * **Gotchas**
 *
 * While the fake is killed it still listens, and breaks every connection.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<FakeServer, ServeError, FakeOpencode> =>
  Layer.effect(FakeServer, make(options))

const make = Effect.fnUntraced(function*({ port }: Options) {
  const fake = yield* FakeOpencode

  const handle = Effect.gen(function*() {
    const incoming = yield* HttpServerRequest.HttpServerRequest
    const url = new URL(incoming.url, "http://127.0.0.1")
    const response = yield* fake.handle({
      method: incoming.method,
      path: decodeURIComponent(url.pathname),
      query: Object.fromEntries(url.searchParams),
      headers: incoming.headers,
      body: yield* incoming.text
    })
    switch (response._tag) {
      case "Body": {
        const { body, headers, status } = response
        return body === ""
          ? HttpServerResponse.empty({ status, headers })
          : HttpServerResponse.text(body, { status, headers })
      }
      case "Events":
        return HttpServerResponse.stream(response.stream, { status: response.status ?? 200, headers: response.headers })
      case "Reset": {
        NodeHttpServerRequest.toServerResponse(incoming).destroy()
        return HttpServerResponse.empty()
      }
    }
  }).pipe(Effect.provideService(HttpIncomingMessage.MaxBodySize, maxBodySize))

  const node = Http.createServer({
    headersTimeout: 10_000,
    requestTimeout: 60_000,
    // Longer than any client's pool keeps a connection: a client must never send on one that is just being closed.
    keepAliveTimeout: 120_000
  })
  const server = yield* NodeHttpServer.make(() => node, {
    host: "127.0.0.1",
    port: port ?? 0,
    // Event streams do not end by themselves and would hold a graceful shutdown up to its limit.
    disablePreemptiveShutdown: true
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => node.closeAllConnections()))
  yield* server.serve(handle)

  return FakeServer.of({ url: HttpServer.formatAddress(server.address) })
})

// internal

// As large as attachments get; without it the server would take a body of any size.
const maxBodySize = ByteSize.mebibytes(64)
