import * as AnyDialect from "#opencode/AnyDialect"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import { assertFields, connect, empty, html, json } from "../support/http.ts"

const baseUrl = "http://127.0.0.1:4096"

/** A server that answers these routes with JSON, and every other one with `rest`. */
const server = (routes: Readonly<Record<string, unknown>>, rest: () => Response = () => empty(404)) => {
  const answer = ({ path }: { readonly path: string }) => (path in routes ? json(routes[path]) : rest())
  return connect(answer, answer)
}

const ask = ({ client }: ReturnType<typeof connect>) =>
  Effect.flatMap(AnyDialect.make({ baseUrl }), ({ health }) => health).pipe(
    Effect.provideService(HttpClient.HttpClient, client)
  )

const health = { healthy: true, version: "0.0.0-next-16350", pid: 7 }
const info = { version: "2.0.21", pid: 7, urls: [], paths: { tmp: "/tmp" } }

const notHealth = "something other than OpenCode's health"

describe("which line of OpenCode answers", () => {
  const known: ReadonlyArray<readonly [string, ReturnType<typeof connect>, string, ReadonlyArray<string>]> = [
    [
      "1.x, which serves routes of an early 2.x too",
      server({
        "/global/health": { healthy: true, version: "1.18.33" },
        "/api/health": { healthy: true },
        "/api/session": { data: [] }
      }, html),
      "1.18.33",
      ["/global/health"]
    ],
    ["2.x", server({ "/api/info": info }), "2.0.21", ["/global/health", "/api/info"]],
    [
      "2.x, which answers unknown routes with a page",
      server({ "/api/info": info }, html),
      "2.0.21",
      ["/global/health", "/api/info"]
    ],
    ["an old 1.x", server({ "/global/health": { healthy: true, version: "1.1.65" } }), "1.1.65", ["/global/health"]],
    ["a beta of 2.x", server({ "/api/health": health }), health.version, [
      "/global/health",
      "/api/info",
      "/api/health"
    ]]
  ]
  it.effect.each(known)("is found out: %s", ([, answering, version, paths]) =>
    Effect.gen(function*() {
      assertFields(yield* ask(answering), { version })
      assert.deepStrictEqual(answering.asked.map(({ path }) => path), paths)
    }))

  const unknown: ReadonlyArray<readonly [string, ReturnType<typeof connect>, string]> = [
    ["a health without a version", server({ "/api/health": { healthy: true } }), "404 for GET /global/health"],
    ["a page for everything", server({}, html), "an HTML page (200)"],
    ["a page that says that there is none", server({}, () => html(404)), "404 for GET /global/health"],
    ["a later line", server({ "/api/info": { ...info, version: "3.0.0" } }), "OpenCode 3.0.0"],
    [
      "a later line of the first one's route",
      server({ "/global/health": { ...health, version: "2.9.0" } }),
      "OpenCode 2.9.0"
    ],
    ["other JSON", server({}, () => json({ version: 7 })), notHealth],
    ["a list", server({}, () => json([info])), notHealth],
    ["nothing that is JSON", server({}, () => new Response("pong")), notHealth],
    ["a success without a body", server({}, () => empty(204)), notHealth],
    ["an error with the status of a success", server({}, () => json({ error: "not found" })), notHealth],
    ["a version without a word", server({}, () => json({ ...health, version: "" })), notHealth],
    ["a version that is none", server({}, () => json({ ...health, version: "9".repeat(101) })), notHealth],
    [
      "the health of another service",
      server({
        "/api/health": { healthy: true, version: "2.4.1", database: "ok" },
        "/api/info": { version: "2.4.1", commit: "abc" }
      }),
      "404 for GET /global/health"
    ]
  ]
  it.effect.each(unknown)("is unsupported where the server gives %s", ([, answering, seen]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(ask(answering))
      assertFields(error, { _tag: "UnsupportedServer", origin: baseUrl, seen })
      assert.include(error.message, seen)
    }))

  const failing: ReadonlyArray<readonly [string, () => Response, object]> = [
    ["a password that is wrong", () => empty(401), { _tag: "Unauthorized", status: 401 }],
    ["a proxy that lets nobody in", () => html(403), { _tag: "Unauthorized", status: 403 }],
    [
      "a service that starts",
      () => json({ code: "service_starting" }, { status: 503, headers: { "retry-after": "1" } }),
      { _tag: "StatusError", status: 503, isRetryable: true }
    ],
    ["a proxy without its server", () => html(502), { _tag: "StatusError", status: 502, isRetryable: true }],
    ["a proxy that limits requests", () => empty(429), { _tag: "StatusError", status: 429, isRetryable: true }],
    ["a failed start", () => json({ message: "no" }, { status: 500 }), { _tag: "StatusError", status: 500 }]
  ]
  it.effect.each(failing)(
    "is not guessed, and not asked for elsewhere, where the answer is %s",
    ([, rest, error]) =>
      Effect.gen(function*() {
        const answering = server({}, rest)
        assertFields(yield* Effect.flip(ask(answering)), error)
        assert.deepStrictEqual(answering.asked.map(({ path }) => path), ["/global/health"])
      })
  )

  const without: ReadonlyArray<readonly [string, () => Response, object]> = [
    ["sends unknown routes elsewhere", () => empty(302, { location: "/login" }), { _tag: "StatusError", status: 302 }],
    ["does not take the method", () => empty(405), { _tag: "StatusError", status: 405 }],
    ["does not take the request", () => json({ message: "no route" }, { status: 400 }), {
      _tag: "StatusError",
      status: 400
    }]
  ]
  it.effect.each(without)(
    "is found behind a proxy that %s, and not without it",
    ([, rest, error]) =>
      Effect.gen(function*() {
        assertFields(yield* ask(server({ "/api/info": info }, rest)), { version: info.version })
        assertFields(yield* ask(server({ "/api/health": health }, rest)), { version: health.version })
        assertFields(yield* Effect.flip(ask(server({}, rest))), error)
      })
  )

  it.effect("is found once the server has started", () =>
    Effect.gen(function*() {
      let isStarting = true
      const answer = ({ path }: { readonly path: string }) =>
        isStarting
          ? json({ code: "service_starting" }, { status: 503 })
          : path === "/api/info"
          ? json(info)
          : path === "/api/session/active"
          ? json({ data: {} })
          : empty(404)
      const dialect = yield* AnyDialect.make({ baseUrl }).pipe(
        Effect.provideService(HttpClient.HttpClient, connect(answer, answer).client)
      )
      assertFields(yield* Effect.flip(dialect.statuses), { _tag: "StatusError", status: 503, isRetryable: true })
      isStarting = false
      assert.strictEqual((yield* dialect.statuses).size, 0)
    }))

  it.effect("is found below the path of a proxy, with the password of the address", () =>
    Effect.gen(function*() {
      for (const [path, body] of [["/api/info", info], ["/api/health", health]] as const) {
        const answering = server({ [`/opencode${path}`]: body })
        const { version } = yield* Effect.flatMap(
          AnyDialect.make({ baseUrl: "http://me:secret@127.0.0.1:4096/opencode/" }),
          (dialect) => dialect.health
        ).pipe(Effect.provideService(HttpClient.HttpClient, answering.client))
        assert.strictEqual(version, body.version)
        for (const { headers, path } of answering.asked) {
          assert.match(path, /^\/opencode\//)
          assert.strictEqual(headers["authorization"], `Basic ${btoa("opencode:secret")}`)
        }
      }
    }))

  it.effect("is asked again at its own route only", () =>
    Effect.gen(function*() {
      const answering = server({ "/api/health": health })
      const dialect = yield* AnyDialect.make({ baseUrl }).pipe(
        Effect.provideService(HttpClient.HttpClient, answering.client)
      )
      yield* dialect.health
      yield* dialect.health
      assert.deepStrictEqual(answering.asked.map(({ path }) => path), [
        "/global/health",
        "/api/info",
        "/api/health",
        "/api/health"
      ])
    }))
})
