import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { LiveLayer } from "@opencode-turn/platform-node/LiveLayer"
import { ConfigProvider, Effect, FileSystem, Layer } from "effect"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

/** A server that counts its connections. */
const counting = Effect.acquireRelease(
  Effect.callback<{ readonly url: string; readonly connections: () => number; readonly close: () => void }>(
    (resume) => {
      let connections = 0
      const server = createServer((request, response) => {
        const isHealth = request.url?.startsWith("/global") === true
        response.setHeader("content-type", "application/json")
        response.end(JSON.stringify(isHealth ? { healthy: true, version: "1.18.33" } : []))
      })
      server.on("connection", () => {
        connections++
      })
      server.listen(0, "127.0.0.1", () => {
        const { port }: AddressInfo = Object(server.address())
        resume(Effect.succeed({
          url: `http://127.0.0.1:${port}`,
          connections: () => connections,
          close: () => {
            server.closeAllConnections()
            server.close()
          }
        }))
      })
    }
  ),
  ({ close }) => Effect.sync(close)
)

const configured = (url: string, database: string) =>
  Layer.provide(
    LiveLayer,
    ConfigProvider.layer(ConfigProvider.fromUnknown({ OPENCODE_BASE_URL: url, OPENCODE_TURN_DATABASE: database }))
  )

/** What one call of a program does: it provides the layer for itself. */
const call = Effect.gen(function*() {
  const client = yield* Client
  const store = yield* SessionStore
  yield* client.questions
  yield* store.listOrphans(1)
  return { client, store }
})

it.layer(NodeServices.layer, { excludeTestServices: true })("LiveLayer in several calls", (it) => {
  it.effect("shares one connection and one store", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-shared-" })
      const { connections, url } = yield* counting
      const separate = yield* Effect.forEach(
        [1, 2, 3, 4, 5],
        () => Effect.provide(call, configured(url, `${folder}/turns.db`))
      )
      // One connection asks whether the server is there, and a second attempt may have begun meanwhile.
      assert.isAtMost(connections(), 2)
      assert.strictEqual(new Set(separate.map(({ client }) => client)).size, 1)
      // The tables are made or checked when the store is built, and it was built once.
      assert.strictEqual(new Set(separate.map(({ store }) => store)).size, 1)
      const before = connections()
      const together = yield* Effect.forEach([1, 2, 3], () =>
        Effect.provide(call, configured(url, `${folder}/turns.db`)), {
        concurrency: "unbounded"
      })
      assert.strictEqual(
        new Set([...separate, ...together].map(({ store }) =>
          store
        )).size,
        1
      )
      assert.isAtMost(connections() - before, 3)
    }))

  it.effect("keeps the stores of different settings apart", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-shared-" })
      const { url } = yield* counting
      const one = yield* Effect.provide(call, configured(url, `${folder}/one.db`))
      const two = yield* Effect.provide(call, configured(url, `${folder}/two.db`))
      assert.notStrictEqual(one.store, two.store)
      assert.strictEqual(one.client, two.client)
      const other = yield* Effect.provide(call, configured(`${url}/`, "memory"))
      assert.notStrictEqual(other.client, one.client)
    }))
})
