import * as Listen from "#gateway/Listen"
import { assert, it } from "@effect/vitest"
import type { TurnServices } from "@opencode-turn/core/Turn"
import { LiveLayer } from "@opencode-turn/platform-node"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { Effect, type Scope } from "effect"
import { connect, type Socket } from "node:net"
import * as Gateways from "../support/Gateways.ts"

const serving = Effect.fnUntraced(function*(
  options: Partial<Listen.Options> = {}
): Effect.fn.Return<number, never, TurnServices | Scope.Scope> {
  const gateway = yield* Effect.orDie(Gateway.make({ token: Gateways.token }))
  return yield* Effect.orDie(Listen.listen(gateway, { host: "127.0.0.1", port: 0, ...options }))
})

/** Sends bytes as they are, and gives what comes back until the server closes the connection. */
const send = (port: number, bytes: string | Buffer, isOver: (got: string) => boolean = () => false) =>
  Effect.callback<string, never, never>((resume) => {
    let got = ""
    const socket: Socket = connect(port, "127.0.0.1", () => void socket.write(bytes))
    const end = () => resume(Effect.succeed(got))
    socket.on("data", (chunk) => {
      got += chunk.toString("latin1")
      if (isOver(got)) end()
    })
    socket.on("error", end)
    socket.on("close", end)
    return Effect.sync(() => void socket.destroy())
  })

const isWhole = (got: string) => got.includes("\r\n\r\n")

const statusOf = (got: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(got)?.[1] ?? 0)

const alive = (port: number) =>
  Effect.map(
    send(port, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    (got) => assert.include(got, `{"status":"ok"}`)
  )

const test = <E>(name: string, body: () => Effect.Effect<void, E, TurnServices | Gateways.Reports | Scope.Scope>) =>
  it.live(name, () => Effect.provide(Effect.scoped(body()), Gateways.layer))

test("answers bytes that are no request or a strange one, and goes on", () =>
  Effect.gen(function*() {
    const reports = yield* Gateways.Reports
    const port = yield* serving({ headersMillis: 500 })
    const bearer = `Authorization: Bearer ${Gateways.token}`
    const cases: ReadonlyArray<readonly [string | Buffer, ReadonlyArray<number>]> = [
      ["\r\n\r\n\r\n\r\nGET", [0, 408]],
      ["x".repeat(100_000), [400, 431]],
      [Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]), [400]],
      ["GET / HTTP/1.1\r\n\r\n", [400]],
      ["GET / HTTP/1.0\r\n\r\n", [403]],
      ["GET /asks HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", [400, 403]],
      [`GET /asks HTTP/1.1\r\nHost: evil.example\r\n${bearer}\r\n\r\n`, [403]],
      [`GET http://evil.example/asks HTTP/1.1\r\nHost: localhost\r\n${bearer}\r\n\r\n`, [200, 400, 403, 404]],
      [`GET //evil.example/asks HTTP/1.1\r\nHost: localhost\r\n${bearer}\r\n\r\n`, [404]],
      ["GET /asks HTTP/1.1\r\nHost: localhost\r\n\r\n", [401]],
      [`TRACE /asks HTTP/1.1\r\nHost: localhost\r\n${bearer}\r\n\r\n`, [404]],
      [`OPTIONS * HTTP/1.1\r\nHost: localhost\r\n${bearer}\r\n\r\n`, [404]],
      [`CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n${bearer}\r\n\r\n`, [0, 404]],
      [
        `GET /asks HTTP/1.1\r\nHost: localhost\r\n${bearer}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eDp4eDp4eDp4eDp4eDp4eA==\r\n\r\n",
        [200, 400, 404]
      ],
      [`GET /asks HTTP/1.1\r\nHost: localhost\r\nCookie: ${"a=b; ".repeat(10_000)}\r\n\r\n`, [431]],
      [
        `POST /conversations/c/turns HTTP/1.1\r\nHost: localhost\r\n${bearer}\r\nContent-Length: 99999999999\r\n\r\n`,
        [413]
      ],
      [
        `POST /conversations/c/turns HTTP/1.1\r\nHost: localhost\r\n${bearer}\r\nContent-Length: 5\r\n` +
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        [400]
      ],
      [
        `POST /conversations/c/turns HTTP/1.1\r\nHost: localhost\r\n${bearer}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
        [400]
      ]
    ]
    for (const [bytes, statuses] of cases) {
      const got = yield* send(port, bytes, isWhole)
      assert.include(statuses, statusOf(got), `${bytes.toString().slice(0, 200)} → ${got.slice(0, 300)}`)
      assert.notInclude(got, Gateways.token)
      yield* alive(port)
    }
    assert.deepStrictEqual(reports, [])
  }))

test("closes a connection whose request comes too slowly, and those that are too many of one address", () =>
  Effect.gen(function*() {
    const port = yield* serving({ headersMillis: 300, maxConnectionsPerAddress: 3 })
    const slow = yield* send(port, "GET /health HTTP/1.1\r\nHost: loc")
    assert.include([0, 408], statusOf(slow))
    const sockets = yield* Effect.forEach(
      Array.from({ length: 3 }),
      () =>
        Effect.acquireRelease(
          Effect.callback<Socket>((resume) => {
            const socket = connect(port, "127.0.0.1", () => resume(Effect.succeed(socket)))
            socket.on("error", () => {})
          }),
          (socket) => Effect.sync(() => void socket.destroy())
        )
    )
    assert.strictEqual(yield* send(port, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), "")
    const [first] = sockets
    yield* Effect.callback<void>((resume) => {
      first?.on("close", () => resume(Effect.void))
      first?.destroy()
    })
    // The server hears of it a moment later.
    yield* Effect.repeat(send(port, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), {
      until: (got) => got.includes(`{"status":"ok"}`)
    })
  }))

it.live("opens for a program without Effect, which mounts it or listens, and closes it", () =>
  Effect.promise(async () => {
    const gateway = await Gateway.open({ token: Gateways.token, live: Gateways.layer })
    const headers = { authorization: `Bearer ${Gateways.token}` }
    const mounted = await gateway.handle(new Request("http://localhost/asks", { headers }))
    assert.strictEqual(await mounted.text(), `{"items":[],"next":null}`)
    const url = `http://127.0.0.1:${await gateway.listen({ host: "127.0.0.1", port: 0 })}`
    assert.strictEqual((await fetch(`${url}/asks`, { headers })).status, 200)
    assert.strictEqual((await fetch(`${url}${await gateway.makeLink()}`)).status, 200)
    await gateway.close()
    const refused: unknown = await fetch(`${url}/health`).catch((error: unknown) => error)
    assert.instanceOf(refused, TypeError)
    const invalid: unknown = await Gateway.open({ token: Gateways.token, live: LiveLayer.make({ baseUrl: "nowhere" }) })
      .catch((error: unknown) => error)
    assert.propertyVal(invalid, "_tag", "InvalidConfig")
  }))
