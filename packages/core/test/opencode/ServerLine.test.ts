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
    ["a later line", server({ "/api/info": { ...info, version: "3.0.0" } }), "OpenCode 3.0.0"],
    ["other JSON", server({}, () => json({ version: 7 })), "something other than OpenCode's health"]
  ]
  it.effect.each(unknown)("is unsupported where the server gives %s", ([, answering, seen]) =>
    Effect.gen(function*() {
      assertFields(yield* Effect.flip(ask(answering)), { _tag: "UnsupportedServer", origin: baseUrl, seen })
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

  it.effect("is not guessed where the password is refused", () =>
    Effect.gen(function*() {
      const answering = server({}, () => empty(401))
      assertFields(yield* Effect.flip(ask(answering)), { _tag: "Unauthorized" })
      assert.lengthOf(answering.asked, 1)
    }))
})
