/**
 * A URL with the wrong scheme, on real sockets: the error says so in words.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import { Effect, Layer } from "effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import { createServer as createHttpServer } from "node:http"
import type { AddressInfo, Server } from "node:net"
import { createServer as createTlsServer } from "node:tls"

const clients = { undici: NodeHttpClient.layerUndici, fetch: FetchHttpClient.layer }

const listening = (make: () => Server) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: Server; readonly port: number }>((resume) => {
      const server = make()
      server.listen(0, "127.0.0.1", () => {
        const { port }: AddressInfo = Object(server.address())
        resume(Effect.succeed({ server, port }))
      })
    }),
    ({ server }) => Effect.sync(() => void server.close())
  )

/** Such a server never comes to show a certificate to a client that speaks plain HTTP. */
const tls = listening(() => createTlsServer({}).on("tlsClientError", () => {}))
const http = listening(() => createHttpServer((_request, response) => response.end("{}")))
const proxy = listening(() =>
  createHttpServer((_request, response) => {
    response.writeHead(400, { "content-type": "text/html" })
    response.end("<h1>400 Bad Request</h1><center>The plain HTTP request was sent to HTTPS port</center>")
  })
)

const reasonOf = (baseUrl: string, layer: (typeof clients)["undici"] | (typeof clients)["fetch"]) =>
  Effect.flatMap(Client.Client, (client) => Effect.flip(client.questions)).pipe(
    Effect.provide(Layer.provide(Client.layer({ baseUrl }), layer)),
    Effect.map((error) => {
      assert(error._tag === "TransportError", error.message)
      return error.reason
    })
  )

for (const [name, layer] of Object.entries(clients)) {
  it.live(`${name} to a port without TLS fails with the advice that https does not work there`, () =>
    Effect.gen(function*() {
      const { port } = yield* http
      const reason = yield* reasonOf(`https://127.0.0.1:${port}`, layer)
      assert.match(reason, /went out over https, but the port does not speak TLS: use http:\/\//)
    }))

  it.live(`${name} to a port with TLS fails with the advice to try https`, () =>
    Effect.gen(function*() {
      const { port } = yield* tls
      const reason = yield* reasonOf(`http://127.0.0.1:${port}`, layer)
      assert.match(reason, /went out over plain http and got no HTTP answer .*: if the port speaks TLS, use https:\/\//)
    }))

  it.live(`${name} to a TLS proxy that answers with a hint fails with the advice to use https`, () =>
    Effect.gen(function*() {
      const { port } = yield* proxy
      assert.match(yield* reasonOf(`http://127.0.0.1:${port}`, layer), /the port speaks TLS: use https:\/\//)
    }))
}
