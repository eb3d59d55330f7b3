/**
 * A TCP proxy in front of a server that cuts connections on demand.
 *
 * It forwards bytes and parses only the request lines, to tell the event stream from other requests. It supports neither HTTP/2 nor
 * TLS.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Net from "node:net"

/**
 * **Details**
 *
 * - `url`: the proxy's url, with the scheme http.
 * - `cutEvents`: resets every open connection to the event stream, and returns their number.
 * - `refuse`: resets new connections at once (`true`), or accepts them again (`false`).
 * - `requests`: the request lines so far, for example `POST /session/ses_1/prompt_async HTTP/1.1`.
 *
 * @category services
 * @since 0.1.0
 */
export class FaultProxy extends Context.Service<FaultProxy, {
  readonly url: string
  readonly cutEvents: Effect.Effect<number>
  readonly refuse: (isRefusing: boolean) => Effect.Effect<void>
  readonly requests: Effect.Effect<ReadonlyArray<string>>
}>()("@opencode-turn/testing/FaultProxy") {}

/**
 * A proxy on a free port of 127.0.0.1 in front of `targetUrl`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (targetUrl: string): Layer.Layer<FaultProxy> =>
  Layer.effect(
    FaultProxy,
    Effect.gen(function*() {
      const target = new URL(targetUrl)
      const sockets = new Set<Net.Socket>()
      const events = new Set<Net.Socket>()
      const requests: Array<string> = []
      let isRefusing = false

      const server = Net.createServer((client) => {
        if (isRefusing) return void client.resetAndDestroy()
        const upstream = Net.connect({ host: target.hostname, port: Number(target.port) })
        for (const [socket, other] of [[client, upstream], [upstream, client]] as const) {
          sockets.add(socket)
          socket.setNoDelay(true)
          socket.on("error", () => other.destroy())
          socket.on("close", () => {
            sockets.delete(socket)
            events.delete(socket)
            other.end()
          })
        }
        client.on("data", (bytes) => {
          for (const [line] of bytes.toString("latin1").matchAll(/^[A-Z]+ \S+ HTTP\/1\.1/gm)) {
            requests.push(line)
            if (/^GET (?:\/api)?\/event[? ]/.test(line)) events.add(client)
          }
        })
        client.pipe(upstream)
        upstream.pipe(client)
      })

      const port = yield* Effect.acquireRelease(
        Effect.callback<number>((resume) => {
          server.listen(0, "127.0.0.1", () => {
            const address = server.address()
            resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
          })
        }),
        () =>
          Effect.callback<void>((resume) => {
            server.close(() => resume(Effect.void))
            for (const socket of sockets) socket.destroy()
          })
      )

      return FaultProxy.of({
        url: `http://127.0.0.1:${port}`,
        cutEvents: Effect.sync(() => {
          const open = [...events]
          events.clear()
          for (const socket of open) socket.resetAndDestroy()
          return open.length
        }),
        refuse: (refusing) =>
          Effect.sync(() => {
            isRefusing = refusing
          }),
        requests: Effect.sync(() => [...requests])
      })
    })
  )
