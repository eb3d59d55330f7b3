import { assert, it } from "@effect/vitest"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { Effect } from "effect"
import * as Gateways from "../support/Gateways.ts"

/** Numbers that are the same in each run. */
const makeRandom = (seed: number) => {
  let state = seed
  const next = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const pick = <A>(items: readonly [A, ...ReadonlyArray<A>]): A => items[next(items.length)] ?? items[0]
  return { next, pick }
}

const ids = [
  "c",
  "asm_1",
  "per_1",
  "..",
  ".",
  "%2e%2e",
  "%2F",
  "a%2Fb",
  "%00",
  "%",
  "%zz",
  "%ff%fe",
  "%F0%9F%98%80",
  "%ED%A0%80",
  "x".repeat(300),
  "x".repeat(600),
  "x".repeat(9_000),
  "__proto__",
  "constructor",
  "toString",
  "' OR 1=1 --",
  "*",
  ":messageId",
  "?",
  "",
  " ",
  ";",
  "[",
  "\\",
  "\u202e"
] as const

const values = [
  null,
  true,
  0,
  -1,
  1e308,
  "",
  "x",
  " ",
  "\u0000",
  "\ud800",
  [],
  {},
  [[]],
  [null],
  { _tag: "Permission" },
  { _tag: "Permission", reply: { reply: "once" } },
  { _tag: "Reject" },
  { _tag: "Skip" },
  { _tag: "Answers", answers: [["a"]] },
  { _tag: "__proto__" },
  { prompt: "x" },
  { prompt: [{ type: "text", text: "x" }] },
  { prompt: [{ type: "file", mediaType: "text/plain", url: "data:," }] },
  { prompt: [{ type: "file", mediaType: "text/plain", url: "data:text/plain;base64,%%%" }] },
  { prompt: [{ type: "agent", name: "nobody" }] },
  { prompt: "x", model: "/", agent: "", variant: "", title: "\u0000" },
  { prompt: "x", unknown: 1 },
  { id: "c", messages: [{ id: "m", role: "user", parts: [{ type: "text", text: "x" }, null, 1, []] }] },
  { id: "c", messages: [{ id: "", role: "user", parts: [{ type: "file", url: "data:,", mediaType: "a/b" }] }] },
  { id: "\u0000", messages: [null] },
  { threadId: "c", runId: "r", messages: [{ id: "m", role: "user", content: "x" }] },
  { threadId: "c", runId: "q", messages: [{ id: "m", role: "user", content: [null, { source: null }, { text: 1 }] }] },
  { threadId: "c", runId: "r", messages: [], resume: [{ interruptId: "per_1", status: "resolved", payload: null }] },
  { threadId: "c", runId: "r", messages: [], resume: [{ interruptId: "\ud800", status: "cancelled" }] }
] as const

const headerValues = [
  "",
  "x",
  "0",
  "-1",
  "9".repeat(30),
  "run_x.5",
  "run_x.-1",
  "5.end",
  ".end",
  "Bearer ",
  "Bearer x",
  "Basic eDp4",
  "a=b; c",
  "=;=;=",
  "opencode_turn_=x",
  "text/plain",
  "application/json; charset=utf-16",
  "application/json;",
  "gzip",
  "localhost",
  "evil.example",
  "http://localhost:4097",
  "null",
  "cross-site",
  "\u00ff\u00fe",
  "x".repeat(5_000)
] as const

it.effect("answers any request at all with what it is, and never with a failure of its own", () =>
  Effect.gen(function*() {
    const reports = yield* Gateways.Reports
    const gateway = yield* Gateways.open({ maxBodyBytes: 50_000 })
    const { next, pick } = makeRandom(20_261_129)
    const path = () => {
      const id = (): string => (next(3) === 0 ? encodeURIComponent(pick(ids)) : pick(ids))
      const known = pick<() => string>([
        () => `/conversations/${id()}/turns`,
        () => `/turns/${id()}`,
        () => `/turns/${id()}/updates`,
        () => `/turns/${id()}/${pick(["cancel", "revert"])}`,
        () => `/conversations/${id()}/${pick(["fork", "unrevert", "compact"])}`,
        () => `/asks/${id()}/answer`,
        () => "/asks",
        () => "/conversations",
        () => "/connection",
        () => "/health",
        () => "/openapi.json",
        () => "/ai-sdk",
        () => `/ai-sdk/${id()}/${pick(["stream", "stop", "messages"])}`,
        () => "/ag-ui",
        () => "/ag-ui/connect",
        () => pick(["/login", "/login.js", "/link"]),
        () => `/${id()}/${id()}//${id()}`
      ])()
      const query = Array.from(
        { length: next(3) },
        () => `${pick(["limit", "before", "after", "from", "conversationId", "limit[]", "__proto__", ""])}=${id()}`
      )
      return query.length === 0 ? known : `${known}?${query.join(pick(["&", "&&", ";", "?"]))}`
    }
    const body = () => {
      const text = JSON.stringify(pick(values)) ?? ""
      switch (next(6)) {
        case 0:
          return text.slice(0, next(text.length + 1))
        case 1:
          return `${"[".repeat(next(3_000))}${text}`
        case 2:
          return text.padEnd(next(60_000))
        default:
          return text
      }
    }
    const headers = () =>
      Object.fromEntries(Array.from({ length: next(3) }, () => [
        pick([
          "authorization",
          "cookie",
          "x-opencode-turn-key",
          "x-opencode-turn-code",
          "host",
          "origin",
          "sec-fetch-site",
          "content-type",
          "content-encoding",
          "last-event-id",
          "idempotency-key",
          "accept",
          "x-forwarded-host",
          "traceparent"
        ]),
        pick(headerValues)
      ]))
    const counts = new Map<number, number>()
    for (let round = 0; round < 4_000; round++) {
      const method = pick(["GET", "POST", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "QUERY"])
      const options = {
        method,
        headers: headers(),
        token: next(4) === 0 ? null : Gateways.token,
        ...(method !== "GET" && method !== "HEAD" && next(4) > 0 && { body: body() })
      }
      const where = path()
      const responding = Effect.promise(() => gateway.request(where, options).catch((error: unknown) => error))
      // An ask that is not there is waited for.
      const response = yield* where.includes("/answer") ? Gateways.passing(responding) : responding
      // The platform itself refuses what is no request.
      if (!(response instanceof Response)) {
        assert.instanceOf(response, TypeError)
        continue
      }
      const { headers: got, status } = response
      counts.set(status, (counts.get(status) ?? 0) + 1)
      const told = `${method} ${where} ${JSON.stringify(options).slice(0, 500)} → ${status}`
      assert.notInclude([500, 501, 502], status, told)
      assert.strictEqual(got.get("x-content-type-options"), "nosniff", told)
      assert.strictEqual(got.get("content-security-policy"), Gateway.contentSecurityPolicy, told)
      if (status === 200 && got.get("content-type")?.startsWith("text/event-stream")) {
        yield* Effect.promise(async () => await response.body?.cancel())
        continue
      }
      const text = yield* Effect.promise(() => response.text())
      assert.notInclude(text, Gateways.token, told)
      if (status >= 400 && method !== "HEAD") {
        const error: { readonly _tag?: unknown; readonly message?: unknown; readonly advice?: unknown } = JSON.parse(
          text
        )
        for (const field of [error._tag, error.message, error.advice]) assert.isString(field, told)
      }
    }
    for (const status of [200, 202, 400, 401, 403, 404, 413, 415, 422]) {
      assert.isAbove(counts.get(status) ?? 0, 0, `${status} in ${JSON.stringify(Array.from(counts))}`)
    }
    assert.deepStrictEqual(reports.map(({ message }) => message).filter((message) => !/turn|prompt/.test(message)), [])
    const store = yield* SessionStore
    assert.isAbove((yield* store.listByStatus({ limit: 9 })).length, 0)
  }).pipe(Effect.scoped, Effect.provide(Gateways.layer)))
