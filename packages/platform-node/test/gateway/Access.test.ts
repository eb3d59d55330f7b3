import * as Access from "#gateway/Access"
import * as GatewayApi from "#gateway/GatewayApi"
import * as TurnJson from "#gateway/TurnJson"
import { assert, describe, it } from "@effect/vitest"
import { ConversationId } from "@opencode-turn/core/Ids"
import { SessionStore, StoreError } from "@opencode-turn/core/SessionStore"
import type { TurnServices } from "@opencode-turn/core/Turn"
import * as Gateway from "@opencode-turn/platform-node/gateway"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import { Array as Arr, Effect, Fiber, Redacted, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { parse } from "../support/Exposition.ts"
import * as Gateways from "../support/Gateways.ts"

const { start } = Gateways

type Services = TurnServices | FakeOpencode | Gateways.Reports | Scope.Scope

const test = <E>(name: string, body: () => Effect.Effect<void, E, Services>) =>
  it.effect(name, () => Effect.provide(Effect.scoped(body()), Gateways.layer))

/** All that a client may ask for, with the ids of a turn, its conversation and its ask. */
const callsOf = (ids: { readonly conversation: string; readonly turn: string; readonly ask: string }) => {
  const [conversation, turn, ask] = [ids.conversation, ids.turn, ids.ask].map(encodeURIComponent)
  const answer = { _tag: "Permission", reply: { reply: "once" } }
  return [
    { path: `/conversations/${conversation}/turns`, body: { prompt: "Do it." } },
    { path: `/conversations/${conversation}/turns` },
    { path: `/turns/${turn}` },
    { path: `/turns/${turn}/updates` },
    { path: `/turns/${turn}/updates?from=0` },
    { path: `/turns/${turn}/cancel`, method: "POST" },
    { path: `/asks?conversationId=${conversation}` },
    { path: `/asks/${ask}/answer`, body: answer },
    { path: `/turns/${turn}/revert`, method: "POST" },
    { path: `/conversations/${conversation}/fork`, body: {} },
    { path: "/conversations/bob%2F1/fork", body: { into: ids.conversation } },
    { path: `/conversations/${conversation}/unrevert`, method: "POST" },
    { path: `/conversations/${conversation}/compact`, body: {} }
  ]
}

const unknown = { conversation: "unknown", turn: "unknown", ask: "unknown" }

/** Every command asks. */
const input = () => ({ permission: [{ permission: "bash", pattern: "*", action: "ask" }] as const })

const hardened = {
  "content-security-policy": Gateway.contentSecurityPolicy,
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin"
}

const mustBeHard = (headers: Headers) => {
  for (const [name, value] of Object.entries(hardened)) assert.strictEqual(headers.get(name), value, name)
  assert.match(headers.get("cache-control") ?? "", /^no-store/)
}

/** Starts a turn that asks, and gives its ids. */
const beginAsking = Effect.fnUntraced(function*(
  gateway: Gateways.TestGateway,
  conversation: string,
  options: Gateways.CallOptions = {}
) {
  const begun = yield* gateway.call(`/conversations/${encodeURIComponent(conversation)}/turns`, {
    ...options,
    body: start([{ tool: "bash", args: { command: "git push", description: "Push" } }, { text: "Done." }])
  })
  const { messageId } = begun.as(GatewayApi.StartedTurn)
  const page = yield* gateway.follow(`/turns/${messageId}/updates`, options)
  const events = yield* page.until((events) => events.some(({ data }) => data.type === "asked"))
  const asked = events.at(-1)?.data
  assert(asked?.type === "asked")
  return { conversation, turn: messageId, ask: asked.ask.id, page }
})

describe("the token", () => {
  test("is needed for everything but the health and the description, and no answer repeats it", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ metrics: true })
      const wrong = [null, "", "x", `${Gateways.token}x`, Gateways.token.slice(1), Gateways.token.toUpperCase()]
      const calls = [...callsOf(unknown), { path: "/conversations" }, { path: "/asks" }, { path: "/connection" }, {
        path: "/metrics"
      }]
      for (const { path, ...options } of calls) {
        for (const token of wrong) {
          const answer = yield* gateway.call(path, { ...options, token })
          assert.deepStrictEqual([answer.status, answer.tag], [401, "Unauthorized"], `${path} with ${token}`)
          assert.strictEqual(answer.headers.get("www-authenticate"), "Bearer realm=\"opencode-turn\"")
          assert.notInclude(answer.text, Gateways.token)
          mustBeHard(answer.headers)
        }
      }
      for (const authorization of [Gateways.token, `Basic ${Gateways.token}`, `Bearer ${Gateways.token} x`]) {
        assert.strictEqual((yield* gateway.call("/asks", { token: null, headers: { authorization } })).status, 401)
      }
      const upper = { authorization: `BEARER  ${Gateways.token}` }
      assert.strictEqual((yield* gateway.call("/asks", { token: null, headers: upper })).status, 200)
      for (const path of ["/health", "/openapi.json"]) {
        assert.strictEqual((yield* gateway.call(path, { token: null })).status, 200)
      }
    }))

  test("stands beside hosts and origins that a request can have: others are refused at once", () =>
    Effect.gen(function*() {
      const { token } = Gateways
      for (const host of ["https://app.example.com", "app.example.com/", "*.example.com", "", "a b", "::1"]) {
        assert.deepInclude(yield* Effect.flip(Gateway.make({ token, hosts: [host] })), { setting: "hosts" }, host)
      }
      const origins = [
        "app.example.com",
        "https://app.example.com/",
        "*",
        "https://app.example.com/x",
        "null",
        "https://*.example.com",
        "https://App.example.com",
        "https://app.example.com:443"
      ]
      for (const origin of origins) {
        assert.deepInclude(
          yield* Effect.flip(Gateway.make({ token, origins: [origin] })),
          { setting: "origins" },
          origin
        )
      }
      yield* Gateway.make({
        token,
        hosts: ["app.example.com", "App.example.com:8080", "10.0.0.1", "[fd00::1]:80"],
        origins: ["https://app.example.com", "http://localhost:5173", "tauri://localhost", "chrome-extension://abcdef"]
      })
    }))

  test("opens the page of the metrics, below the prefix of the gateway, where the product asks for that page", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ metrics: true, prefix: "/agent" })
      const page = yield* gateway.call("/agent/metrics")
      assert.deepStrictEqual([page.status, page.headers.get("content-type")], [
        200,
        "text/plain; version=0.0.4; charset=utf-8"
      ])
      assert.isTrue(parse(page.text).has("opencode_turn_turns_total"))
      mustBeHard(page.headers)
      for (const options of [{}, { metrics: false }, { metrics: true, authorize }]) {
        const other = yield* Gateways.open(options)
        assert.strictEqual((yield* other.call("/metrics", { headers: { "x-user": "alice" } })).status, 404)
      }
    }))

  test("is refused if it can be guessed", () =>
    Effect.gen(function*() {
      for (const token of ["", "short", "x".repeat(15), `${"x".repeat(16)} `]) {
        const error = yield* Effect.flip(Gateway.make({ token }))
        assert.deepInclude(error, { _tag: "InvalidConfig", setting: "token" })
        const redacted = yield* Effect.flip(Gateway.make({ token: Redacted.make(token) }))
        assert.deepStrictEqual(redacted, error)
      }
    }))

  test("becomes a cookie and a key by a link that works once, and they outlive the gateway", () =>
    Effect.gen(function*() {
      const { handle, makeLink } = yield* Gateways.raw({ prefix: "/agent", home: "/page" })
      const gateway = Gateways.of(handle, makeLink)
      const link = (yield* makeLink) ?? ""
      assert.match(link, /^\/agent\/login#[0-9a-z]+\.[\w-]{43}\.[\w-]{43}$/)
      const redeem = (link: string, headers: Readonly<Record<string, string>> = {}) =>
        Effect.promise(() => Gateways.redeem(`http://localhost:4097${link}`, handle, headers))
      for (const wrong of [`${link}x`, link.slice(0, -1), "/agent/login#x", "/agent/login"]) {
        assert.strictEqual((yield* redeem(wrong)).status, 401, wrong)
      }
      // Whoever only looks at a link does not use it up.
      for (
        const [path, contentType] of [["/agent/login", "text/html"], ["/agent/login.js", "text/javascript"]] as const
      ) {
        for (const method of ["HEAD", "GET"]) {
          const looked = yield* gateway.call(path, { method, token: null })
          assert.strictEqual(looked.status, 200)
          assert.include(looked.headers.get("content-type"), contentType)
          assert.isNull(looked.headers.get("set-cookie"))
          mustBeHard(looked.headers)
        }
      }
      const answer = yield* redeem(link)
      assert.strictEqual(answer.status, 200)
      mustBeHard(answer.headers)
      const text = yield* Effect.promise(() => answer.clone().text())
      assert.include(text, `"home":"/agent/page"`)
      const cookie = answer.headers.get("set-cookie") ?? ""
      const [pair = "", ...attributes] = cookie.split("; ")
      assert.sameMembers(attributes, ["Path=/agent", "HttpOnly", "SameSite=Strict"])
      for (const told of [cookie, text]) assert.notInclude(told, Gateways.token)
      const page = yield* Effect.promise(() => Gateways.signedIn(answer))
      assert.strictEqual((yield* redeem(link)).status, 401)

      // A browser that is signed in is led to the page, and gets nothing new.
      const again = yield* redeem(link, page.headers)
      assert.deepStrictEqual([again.status, again.headers.get("set-cookie")], [200, null])
      assert.strictEqual(yield* Effect.promise(() => again.text()), `{"home":"/agent/page"}`)

      const later = yield* Gateways.open()
      assert.strictEqual((yield* later.call("/asks", page)).status, 200)
      const other = yield* Gateways.open({ token: "another-token-of-the-tests" })
      assert.strictEqual((yield* other.call("/asks", page)).status, 401)
      const [name = ""] = pair.split("=")
      for (const value of ["", "x", Gateways.token, `${pair}x`]) {
        const headers = { ...page.headers, cookie: `${name}=${value}` }
        assert.strictEqual((yield* later.call("/asks", { token: null, headers })).status, 401)
      }
      // Over TLS the cookie is not sent without it.
      for (
        const [origin, headers] of [["https://localhost", {}], ["http://localhost", {
          "x-forwarded-proto": "https"
        }]] as const
      ) {
        const secure = yield* Gateways.raw()
        const link = (yield* secure.makeLink) ?? ""
        const signed = yield* Effect.promise(() => Gateways.redeem(`${origin}${link}`, secure.handle, headers))
        assert.include(signed.headers.get("set-cookie"), "; Secure")
      }
    }))

  test("is not stood for by the cookie alone, which servers on other ports of the host get too, nor by the key alone", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ viewer: true, metrics: true })
      const page = yield* gateway.signIn
      const { cookie, "x-opencode-turn-key": key } = page.headers
      const begun = yield* gateway.call("/conversations/c/turns", { ...page, body: start([{ text: "Done." }]) })
      const { messageId } = begun.as(GatewayApi.StartedTurn)
      const paths = [
        ...callsOf({ conversation: "c", turn: messageId, ask: "ask" }),
        { path: "/asks" },
        { path: "/conversations" },
        { path: "/connection" },
        { path: "/metrics" },
        { path: "/link", method: "POST" },
        { path: "/login", method: "POST" },
        { path: "/ai-sdk/c/stream" },
        { path: "/ai-sdk/c/messages" },
        { path: "/ag-ui", body: {} }
      ]
      const wrong: ReadonlyArray<Readonly<Record<string, string>>> = [
        { cookie },
        { "x-opencode-turn-key": key },
        { cookie, "x-opencode-turn-key": `${key}x` },
        { cookie, "x-opencode-turn-key": "" },
        // What the one holds is not what the other one needs.
        { cookie, "x-opencode-turn-key": cookie.replace(/^.*=/, "") },
        { cookie: cookie.replace(/=.*/, `=${key}`), "x-opencode-turn-key": key },
        { authorization: `Bearer ${key}` },
        { authorization: `Bearer ${cookie.replace(/^.*=/, "")}` }
      ]
      for (const { path, ...options } of paths) {
        for (const headers of wrong) {
          const answer = yield* gateway.call(path, { ...options, token: null, headers })
          assert.strictEqual(answer.status, 401, `${path} ${JSON.stringify(Object.keys(headers))}`)
        }
      }
      for (const path of ["/", "/login", "/login.js", "/openapi.json"]) {
        assert.strictEqual((yield* gateway.call(path, { token: null, headers: { cookie } })).status, 200, path)
      }
      assert.strictEqual((yield* gateway.call("/asks", page)).status, 200)
    }))

  test("signs links that work for 10 minutes, not behind a restart, and not for another token", () =>
    Effect.gen(function*() {
      const { handle, makeLink } = yield* Gateways.raw()
      const statusOf = (link: string | undefined, by = handle) =>
        Effect.promise(async () => (await Gateways.redeem(`http://localhost:4097${link}`, by)).status)
      const [first, second] = [yield* makeLink, yield* makeLink]
      const other = yield* Gateways.raw({ token: "another-token-of-the-tests" })
      assert.strictEqual(yield* statusOf(first, other.handle), 401)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* statusOf(first), 200)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* statusOf(second), 401)
      // The time is signed too.
      assert.strictEqual(yield* statusOf(second?.replace("#0.", "#1.")), 401)
      const [third, fourth] = [yield* makeLink, yield* makeLink]
      assert.strictEqual(yield* statusOf(third), 200)
      yield* TestClock.adjust("1 millis")
      const later = yield* Gateways.raw()
      for (const link of [third, fourth]) assert.strictEqual(yield* statusOf(link, later.handle), 401)
      // The command makes one of the token alone.
      const made = yield* Access.makeLink(Redacted.make(Gateways.token))
      assert.deepStrictEqual([yield* statusOf(made, later.handle), yield* statusOf(made, later.handle)], [200, 401])
    }))

  test("makes a link for another browser of whoever is signed in; a product makes none", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ prefix: "/agent" })
      const page = yield* gateway.signIn
      assert.strictEqual((yield* gateway.call("/agent/link", { method: "POST", token: null })).status, 401)
      const answer = yield* gateway.call("/agent/link", { method: "POST", ...page })
      assert.strictEqual(answer.status, 201)
      const { expiresMillis, path } = answer.as(Schema.Struct({ path: Schema.String, expiresMillis: Schema.Finite }))
      assert.strictEqual(expiresMillis, 600_000)
      const phone = yield* Effect.promise(async () =>
        Gateways.signedIn(await Gateways.redeem(`http://localhost:4097${path}`, gateway.handle))
      )
      assert.strictEqual((yield* gateway.call("/agent/asks", phone)).status, 200)
      const product = yield* Gateways.open({ authorize })
      assert.strictEqual((yield* product.call("/link", { method: "POST", ...as("alice") })).tag, "NotFound")
    }))
})

/** Users by a header; each owns the conversations that begin with their name. */
const authorize: Gateway.Authorize = ({ headers }) => {
  const name = headers.get("x-user")
  return name === null ? undefined : Gateway.ofPrefix(name, `${name}/`)
}

const as = (user: string, headers: Readonly<Record<string, string>> = {}) => ({
  token: null,
  headers: { "x-user": user, ...headers }
})

/** Begins a conversation under an id of the gateway, and gives that id, or the status of a refusal. */
const beginNew = (options: Partial<Gateway.Options>) =>
  Effect.gen(function*() {
    const gateway = yield* Gateways.open(options)
    const begun = yield* gateway.call("/conversations", { method: "POST", ...as("alice") })
    if (begun.status !== 201) return begun.status
    const { conversationId } = begun.as(Schema.Struct({ conversationId: Schema.String }))
    const path = `/conversations/${encodeURIComponent(conversationId)}/turns`
    assert.strictEqual((yield* gateway.call(path, { body: { prompt: "Do it." }, ...as("alice") })).status, 202)
    return conversationId
  })

/** All that clients of every protocol are told of an open ask. */
const toldOf = Effect.fnUntraced(function*(
  gateway: Gateways.TestGateway,
  { conversation, page, turn }: {
    readonly conversation: string
    readonly page: Gateways.Following
    readonly turn: string
  }
) {
  const path = encodeURIComponent(conversation)
  const reset = yield* gateway.follow(`/turns/${turn}/updates?from=unknown`, as("alice"))
  yield* reset.until((events) => events.some(({ data }) => data.type === "reset"))
  const chat = yield* gateway.follow(`/ai-sdk/${path}/stream`, as("alice"))
  const chunks = yield* chat.untilText((text) => text.includes("approvalDescriptor"))
  const run = { threadId: conversation, runId: "r", messages: [], tools: [], context: [] }
  const agUi = yield* gateway.call("/ag-ui/connect", { body: run, ...as("alice") })
  return [(yield* gateway.call("/asks", as("alice"))).text, page.text(), reset.text(), chunks, agUi.text]
})

/** A user whose product names the ids of new conversations. */
const mine = (newConversation: () => string | Promise<string>, owns = true) => ({
  authorize: () => ({ id: "alice", owns: () => owns, newConversation })
})

/** Begins a turn that stands in the middle of its answer, in a conversation of the user's. */
const beginHalf = (gateway: Gateways.TestGateway, user: string, n: number) =>
  gateway.call(`/conversations/${user}%2F${n}/turns`, {
    body: start([{ text: "one two three", gate: "half", gateAfter: 2 }]),
    ...as(user, { "idempotency-key": "k" })
  })

describe("the check of a product", () => {
  test("offers no user `always` who may not allow for all other users", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ authorize, input })
      const asked = yield* beginAsking(gateway, "alice/1", as("alice"))
      for (const text of yield* toldOf(gateway, asked)) {
        assert.include(text, `"always":[]`)
        assert.notInclude(text, `"always"]`)
        assert.notInclude(text, `"always",`)
      }
      const path = `/asks/${asked.ask}/answer`
      const once = { _tag: "Permission", reply: { reply: "once" } }
      const answered = yield* gateway.call(path, { body: once, ...as("alice") })
      assert.deepStrictEqual([answered.status, answered.as(TurnJson.Ask).answer], [200, once])
      yield* asked.page.rest
    }))

  test("tells nobody by the place in a list that an ask of another user exists", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ authorize, input })
      const alices = yield* beginAsking(gateway, "alice/1", as("alice"))
      const bobs = yield* beginAsking(gateway, "bob/1", as("bob"))
      const behind = (id: string, user: string) => gateway.call(`/asks?after=${id}`, as(user))
      assert.strictEqual((yield* behind(bobs.ask, "alice")).text, (yield* behind("unknown", "alice")).text)
      assert.strictEqual((yield* behind(alices.ask, "bob")).text, (yield* behind("unknown", "bob")).text)
      assert.include((yield* behind("unknown", "bob")).text, bobs.ask)
      assert.strictEqual((yield* behind(bobs.ask, "bob")).text, `{"items":[],"next":null}`)
    }))

  test("keeps the turns, conversations and asks of others from a user, as if they did not exist", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ authorize, input })
      const alices = yield* beginAsking(gateway, "alice/1", as("alice"))
      const store = yield* SessionStore
      const rows = Effect.map(
        store.listByStatus({ limit: Infinity }),
        Arr.map(({ epoch, id, revertedBy, status }) => ({ epoch, id, revertedBy, status }))
      )
      const before = yield* rows
      for (const [place, { path, ...options }] of callsOf(alices).entries()) {
        const none = callsOf({ conversation: "none/1", turn: "none", ask: "none" })[place]
        const answer = yield* Gateways.passing(gateway.call(path, { ...options, ...as("bob") }))
        const other = yield* Gateways.passing(gateway.call(none?.path ?? "", { ...options, ...as("bob") }))
        assert.deepStrictEqual([answer.status, answer.tag], [404, "NotFound"], path)
        const anonymous = (text: string) =>
          [alices.conversation, alices.turn, alices.ask, "none/1", "none"].reduce(
            (text, id) => text.replaceAll(JSON.stringify(JSON.stringify(id)).slice(1, -1), "ID"),
            text
          )
        assert.strictEqual(anonymous(answer.text), anonymous(other.text))
      }
      for (const path of ["/conversations", "/asks"]) {
        assert.strictEqual((yield* gateway.call(path, as("bob"))).text, `{"items":[],"next":null}`)
      }
      assert.deepStrictEqual(yield* rows, before)
      // Nobody is let in without a user.
      for (const { path, ...options } of callsOf(alices)) {
        assert.strictEqual((yield* gateway.call(path, { ...options, token: null })).status, 401)
      }
      const inbox = (yield* gateway.call("/asks", as("alice"))).text
      assert.include(inbox, alices.ask)
      const [, , , , , , , answering] = callsOf(alices)
      assert.strictEqual(
        (yield* gateway.call(answering?.path ?? "", { body: answering?.body, ...as("alice") })).status,
        200
      )
      yield* alices.page.rest
      const turn = yield* gateway.call(`/turns/${alices.turn}`, as("alice"))
      assert.deepInclude(turn.as(TurnJson.Turn), { status: "completed", content: "Done." })
    }))

  test("is made again while a stream is open: one whose user was let go is cut, whatever protocol it speaks", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const known = new Set(["alice", "bob"])
      let isAway = false
      const gateway = yield* Gateways.open({
        authorize: (request) => {
          if (isAway) throw new Error("SECRET")
          const user = authorize(request)
          return user instanceof Promise || user === undefined || !known.has(user.id) ? undefined : user
        }
      })
      const begun = yield* gateway.call("/conversations/alice%2F1/turns", {
        body: start([{ text: "one two three", gate: "half", gateAfter: 2 }]),
        ...as("alice")
      })
      const { messageId } = begun.as(GatewayApi.StartedTurn)
      const run = { threadId: "alice/1", runId: "r", messages: [] }
      const streams = yield* Effect.promise(() =>
        Promise.all([
          gateway.request(`/turns/${messageId}/updates`, as("alice")),
          gateway.request("/ai-sdk/alice%2F1/stream", as("alice")),
          gateway.request("/ag-ui/connect", { body: run, ...as("alice") })
        ])
      )
      const reading = yield* Effect.forkScoped(
        Effect.promise(() => Promise.all(streams.map((response) => response.text())))
      )
      // A check that cannot be made once is no refusal.
      isAway = true
      yield* TestClock.adjust("15 seconds")
      isAway = false
      yield* TestClock.adjust("15 seconds")
      isAway = true
      yield* TestClock.adjust("15 seconds")
      isAway = false
      assert.isUndefined(reading.pollUnsafe())
      known.delete("alice")
      yield* TestClock.adjust("15 seconds")
      for (const text of yield* Fiber.join(reading)) {
        assert.include(text, "one two ")
        assert.match(text, /this client may not follow the turn any more/)
        assert.notInclude(text, "SECRET")
      }
      assert.strictEqual((yield* gateway.call(`/turns/${messageId}/updates`, as("alice"))).status, 401)
      // The turn goes on.
      known.add("alice")
      yield* fake.release("half")
      const rest = yield* (yield* gateway.follow(`/turns/${messageId}/updates`, as("alice"))).rest
      assert.strictEqual(rest.at(-1)?.data.type, "turn.finished")
    }))

  test("that cannot be made twice in a row, or says that the conversation is not theirs any more, cuts a stream", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      let state: "theirs" | "others" | "away" = "theirs"
      const gateway = yield* Gateways.open({
        authorize: () => ({
          id: "alice",
          owns: () => state === "away" ? Promise.reject(new Error("away")) : state === "theirs"
        })
      })
      const begun = yield* gateway.call("/conversations/c/turns", {
        body: start([{ text: "one two three", gate: "half", gateAfter: 2 }])
      })
      const { messageId } = begun.as(GatewayApi.StartedTurn)
      for (const [next, checks] of [["others", 1], ["away", 2]] as const) {
        state = "theirs"
        const stream = yield* gateway.follow(`/turns/${messageId}/updates`)
        const reading = yield* Effect.forkScoped(stream.rest)
        state = next
        for (let check = 0; check < checks; check++) {
          assert.isUndefined(reading.pollUnsafe(), next)
          yield* TestClock.adjust("15 seconds")
        }
        assert.deepInclude((yield* Fiber.join(reading)).at(-1)?.data, { type: "stream.failed" })
      }
      yield* fake.release("half")
    }))

  test("keeps a user from allowing for all other users of the server, unless the product lets them", () =>
    Effect.gen(function*() {
      const reply = { _tag: "Permission", reply: { reply: "always" } }
      for (const [mayAllowAlways, status] of [[undefined, 422], [true, 200]] as const) {
        const gateway = yield* Gateways.open({
          authorize: () => ({ id: "alice", owns: () => true, ...(mayAllowAlways !== undefined && { mayAllowAlways }) }),
          input
        })
        const { ask, page } = yield* beginAsking(gateway, `c/${status}`)
        const run = {
          threadId: `c/${status}`,
          runId: "r",
          messages: [],
          resume: [{ interruptId: ask, status: "resolved", payload: { reply: "always" } }]
        }
        if (status === 422) assert.strictEqual((yield* gateway.call("/ag-ui", { body: run })).status, status)
        assert.strictEqual((yield* gateway.call(`/asks/${ask}/answer`, { body: reply })).status, status)
        assert.include(page.text(), status === 200 ? `"always":["git push *"]` : `"always":[]`)
        yield* page.leave
      }
    }))

  test("names the ids under which a user begins conversations", () =>
    Effect.gen(function*() {
      assert.match(String(yield* beginNew({ authorize })), /^alice\/web-[\w-]{22}$/)
      assert.strictEqual(yield* beginNew(mine(async () => "from the product")), "from the product")
      assert.match(String(yield* beginNew({ authorize: () => ({ id: "alice", owns: () => true }) })), /^web-[\w-]{22}$/)
      assert.strictEqual(yield* beginNew(mine(() => "x", false)), 422)
      assert.strictEqual(yield* beginNew(mine(() => "")), 422)
      assert.strictEqual(yield* beginNew(mine(() => Promise.reject(new Error("away")))), 503)
    }))

  test("leads a user through their own among many of others, in pages that name nothing of others", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ authorize, input, maxTurns: Infinity })
      for (let n = 0; n < 12; n++) {
        const user = n % 4 === 0 ? "alice" : "bob"
        const { page } = yield* beginAsking(gateway, `${user}/${n}`, as(user))
        yield* page.leave
      }
      const listed = Schema.Struct({
        items: Schema.Array(Schema.Union([GatewayApi.Conversation, TurnJson.Ask])),
        next: Schema.NullOr(Schema.String)
      })
      for (const [list, cursor] of [["/asks?limit=1", "after"], ["/conversations?limit=1", "before"]] as const) {
        const seen: Array<string> = []
        let next: string | null = ""
        while (next !== null) {
          const answer: Gateways.Answer = yield* gateway.call(`${list}${next}`, as("alice"))
          assert.notInclude(answer.text, "bob")
          const page: typeof listed.Type = answer.as(listed)
          for (const { conversationId } of page.items) seen.push(conversationId)
          if (cursor === "after" && page.next !== null) {
            const ask = page.items.at(-1)
            assert(ask !== undefined && "id" in ask)
            assert.strictEqual(page.next, ask.id)
          }
          next = page.next === null ? null : `&${cursor}=${page.next}`
        }
        assert.sameMembers(seen, ["alice/0", "alice/4", "alice/8"])
      }
    }))

  test("that fails lets nobody in, says so, and is reported without its words reaching the client", () =>
    Effect.gen(function*() {
      const reports = yield* Gateways.Reports
      const broken: ReadonlyArray<Gateway.Authorize> = [
        () => {
          throw new Error("SECRET")
        },
        () => Promise.reject(new Error("SECRET")),
        () => ({
          id: "u",
          owns: () => {
            throw new Error("SECRET")
          }
        }),
        () => ({ id: "u", owns: () => Promise.reject(new Error("SECRET")) })
      ]
      for (const authorize of broken) {
        const gateway = yield* Gateways.open({ authorize })
        const answer = yield* gateway.call("/conversations/c/turns", { body: { prompt: "Do it." }, token: null })
        assert.deepStrictEqual([answer.status, answer.tag], [503, "Unavailable"])
        assert.notInclude(answer.text, "SECRET")
      }
      assert.lengthOf(reports, broken.length)
    }))

  test("may take its time, and is asked with the address and the headers of the request, but without its body", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const gateway = yield* Gateways.open({
        authorize: async (request) => {
          await new Promise((resolve) => setImmediate(resolve))
          seen.push(`${request.method} ${request.url} ${request.headers.get("x-user")} ${await request.text()}`)
          return { id: "u", owns: async (id) => id === ConversationId.make("mine") }
        }
      })
      const body = { prompt: prompt("Do it.", [{ text: "Hello." }]) }
      assert.strictEqual((yield* gateway.call("/conversations/mine/turns", { body, ...as("u") })).status, 202)
      assert.strictEqual((yield* gateway.call("/conversations/other/turns", { body, ...as("u") })).status, 404)
      assert.strictEqual(seen[0], "POST http://localhost:4097/conversations/mine/turns u ")
    }))
})

/** A gateway whose store fails to list conversations. */
const broken = (failure: Effect.Effect<never, StoreError>) =>
  Effect.updateService(Gateways.open(), SessionStore, (store) => ({ ...store, listConversations: () => failure }))

const statusUnder = (gateway: Gateways.TestGateway, host: string) =>
  Effect.map(gateway.call("/asks", { headers: { host } }), ({ status }) => status)

describe("a request", () => {
  test("under a strange host name is refused, whatever token it has", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const named = yield* Gateways.open({ hosts: ["app.example.com", "10.0.0.1:8080"] })
      for (const host of ["localhost", "localhost:4097", "LOCALHOST:1", "127.0.0.1:4097", "[::1]:4097"]) {
        assert.strictEqual(yield* statusUnder(gateway, host), 200, host)
      }
      const strange = [
        "evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "localhost:4097.evil.example",
        "localhost:4097@evil.example",
        "evil.example#localhost",
        "127.0.0.1.nip.io",
        "0.0.0.0",
        "127.0.0.2",
        "localhost.",
        "::1",
        "localhost:",
        "localhost:999999",
        "localhost, evil.example"
      ]
      for (const host of strange) {
        const answer = yield* gateway.call("/asks", { headers: { host } })
        assert.deepStrictEqual([answer.status, answer.tag], [403, "RefusedOrigin"], host)
        mustBeHard(answer.headers)
        assert.strictEqual(yield* statusUnder(named, host), 403, host)
      }
      for (const host of ["app.example.com", "App.Example.com:443", "10.0.0.1:8080"]) {
        assert.strictEqual(yield* statusUnder(named, host), 200, host)
      }
      for (const host of ["localhost:4097", "10.0.0.1", "10.0.0.1:80", "x.app.example.com"]) {
        assert.strictEqual(yield* statusUnder(named, host), 403, host)
      }
    }))

  test("of a page of another site is refused, with a cookie or without, for reading and for posting", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open({ origins: ["https://friend.example"] })
      const page = yield* gateway.signIn
      const statusOf = Effect.fnUntraced(function*(headers: Readonly<Record<string, string>>) {
        const statuses = yield* Effect.forEach(
          [{ path: "/asks" }, { path: "/conversations/c/turns", body: { prompt: prompt("x", [{ text: "y" }]) } }],
          ({ path, ...options }) =>
            gateway.call(path, { ...options, token: null, headers: { ...page.headers, ...headers } })
        )
        return statuses.map(({ status }) => status)
      })
      const own = [200, 202]
      assert.deepStrictEqual(yield* statusOf({}), own)
      for (const origin of ["http://localhost:4097", "https://friend.example"]) {
        assert.deepStrictEqual(yield* statusOf({ origin, "sec-fetch-site": "same-origin" }), own, origin)
      }
      const others = [
        "https://evil.example",
        "null",
        "",
        "http://localhost:4098",
        "http://localhost",
        "http://127.0.0.1:4097",
        "https://localhost:4097.evil.example",
        "file://localhost:4097",
        "http://localhost:4097@evil.example",
        "https://friend.example.evil.example",
        "http://friend.example",
        "localhost:4097",
        "chrome-extension://localhost:4097"
      ]
      for (const origin of others) assert.deepStrictEqual(yield* statusOf({ origin }), [403, 403], origin)
      for (const site of ["cross-site", "same-site"]) {
        assert.deepStrictEqual(
          yield* statusOf({ "sec-fetch-site": site, "sec-fetch-mode": "no-cors" }),
          [403, 403],
          site
        )
      }
      // A link may lead here from anywhere, and a form of another page may not.
      const led = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" }
      assert.deepStrictEqual(yield* statusOf(led), [200, 403])
      const stop = { method: "POST", token: null, headers: { ...page.headers, ...led } }
      assert.strictEqual((yield* gateway.call("/ai-sdk/c/stop", stop)).status, 403)
      // A proxy in front of the gateway speaks TLS, and a browser leaves out the port of its scheme.
      const behind = yield* Gateways.open({ hosts: ["app.example.com"] })
      for (const host of ["app.example.com", "app.example.com:443"]) {
        const headers = { host, origin: "https://app.example.com", "sec-fetch-site": "same-origin" }
        assert.strictEqual((yield* behind.call("/asks", { headers })).status, 200)
      }
    }))

  test("of a page whose origin is named may be asked for before, and its answer read; that of no other page", () =>
    Effect.gen(function*() {
      const origin = "https://friend.example"
      const gateway = yield* Gateways.open({ origins: [origin] })
      const preflight = { method: "OPTIONS", token: null }
      const asked = { "access-control-request-method": "POST" }
      const path = "/conversations/c/turns"
      const allowed = yield* gateway.call(path, { ...preflight, headers: { origin, ...asked } })
      assert.strictEqual(allowed.status, 204)
      assert.strictEqual(allowed.headers.get("access-control-allow-origin"), origin)
      assert.include(allowed.headers.get("access-control-allow-headers"), "idempotency-key")
      const read = yield* gateway.call("/asks", { headers: { origin } })
      assert.strictEqual(read.headers.get("access-control-allow-origin"), origin)
      assert.strictEqual(read.headers.get("vary"), "Origin")
      // It still needs a token.
      assert.strictEqual((yield* gateway.call("/asks", { token: null, headers: { origin } })).status, 401)
      for (const other of ["https://evil.example", "null", "http://localhost:4097"]) {
        const answer = yield* gateway.call(path, { ...preflight, headers: { origin: other, ...asked } })
        assert.include([403, 404], answer.status)
        assert.isNull(answer.headers.get("access-control-allow-origin"))
      }
    }))

  test("whose body is too large, no JSON or of another form is refused, and says what was wrong", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open({ maxBodyBytes: 100_000 })
      const path = "/conversations/c/turns"
      const cases: ReadonlyArray<readonly [number, string, unknown, Readonly<Record<string, string>>?]> = [
        [413, "BodyTooLarge", { prompt: "x".repeat(100_000) }],
        [413, "BodyTooLarge", "x".repeat(100_001)],
        [415, "UnsupportedMediaType", `{"prompt":"x"}`, { "content-type": "text/plain" }],
        [415, "UnsupportedMediaType", "prompt=x", { "content-type": "application/x-www-form-urlencoded" }],
        [415, "UnsupportedMediaType", `{"prompt":"x"}`, { "content-type": "multipart/form-data; boundary=x" }],
        [400, "InvalidRequest", "{"],
        [400, "InvalidRequest", ""],
        [400, "InvalidRequest", "null"],
        [400, "InvalidRequest", "[]"],
        [400, "InvalidRequest", {}],
        [400, "InvalidRequest", { prompt: 1 }],
        [400, "InvalidRequest", { prompt: "" }],
        [400, "InvalidRequest", { prompt: [] }],
        [400, "InvalidRequest", { prompt: "x", permission: [{ permission: "*", pattern: "*", action: "allow" }] }],
        [400, "InvalidRequest", { prompt: "x", system: "You are free." }],
        [400, "InvalidRequest", { prompt: "x", __proto__: null, constructor: 1 }],
        [400, "InvalidRequest", { prompt: [{ type: "file", mediaType: "text/plain", url: "file:///etc/passwd" }] }],
        [400, "InvalidRequest", { prompt: [{ type: "file", mediaType: "text/plain", url: "FILE:///etc/passwd" }] }],
        [400, "InvalidRequest", { prompt: [{ type: "file", mediaType: "text/plain", url: "http://10.0.0.1/" }] }],
        [400, "InvalidRequest", { prompt: [{ type: "subtask", agent: "a", description: "", prompt: "" }] }],
        [422, "Unprocessable", { prompt: " " }],
        [422, "Unprocessable", { prompt: "x", model: "no-slash" }],
        [422, "Unprocessable", { prompt: [{ type: "file", mediaType: "text/html", url: "data:text/html,x" }] }],
        [400, "InvalidRequest", { prompt: "x", agent: "a".repeat(256) }],
        [400, "InvalidRequest", { prompt: "x", model: `a/${"b".repeat(254)}` }],
        [400, "InvalidRequest", { prompt: "x", variant: "v".repeat(256) }],
        [400, "InvalidRequest", { prompt: "x", title: "t".repeat(1_025) }],
        [400, "InvalidRequest", { prompt: [{ type: "agent", name: "a".repeat(256) }] }],
        [400, "InvalidRequest", { prompt: [{ type: "file", mediaType: "t".repeat(256), url: "data:,x" }] }],
        [400, "InvalidRequest", {
          prompt: [{ type: "file", mediaType: "text/plain", filename: "f".repeat(1_025), url: "data:,x" }]
        }],
        [400, "InvalidRequest", { prompt: "x" }, { "idempotency-key": "k".repeat(256) }],
        [400, "InvalidRequest", { prompt: "x" }, { "idempotency-key": "" }]
      ]
      for (const [status, tag, body, headers = {}] of cases) {
        const answer = yield* gateway.call(path, { body, headers })
        assert.deepStrictEqual([answer.status, answer.tag], [status, tag], JSON.stringify(body)?.slice(0, 100))
        mustBeHard(answer.headers)
      }
      for (
        const query of ["limit=0", "limit=101", "limit=x", "limit=1.5", "limit=", "before=x", "before=-1", "before="]
      ) {
        assert.strictEqual((yield* gateway.call(`/conversations?${query}`)).tag, "InvalidRequest", query)
      }
      assert.strictEqual((yield* gateway.call(`/turns/${"x".repeat(513)}`)).tag, "InvalidRequest")
      assert.strictEqual((yield* gateway.call(`/turns/${"x".repeat(512)}`)).tag, "NotFound")
      assert.strictEqual((yield* gateway.call("/turns/%00")).tag, "InvalidRequest")
      assert.strictEqual((yield* gateway.call("/nothing")).tag, "NotFound")
      assert.strictEqual(yield* fake.modelCalls, 0)
      const store = yield* SessionStore
      assert.deepStrictEqual(yield* store.listByStatus({ limit: 9 }), [])
    }))

  test("whose body is nested a million times, or has a million parts, is refused as any other that does not fit", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const deep = `${"[".repeat(1_000_000)}${"]".repeat(1_000_000)}`
      const bodies = [
        deep,
        `{"prompt":${deep}}`,
        `{"prompt":[{"type":"text","text":${deep}}]}`,
        `{"prompt":"x","title":${deep}}`,
        `{"prompt":[${Array.from({ length: 200_000 }, () => `{"type":"text","text":"x"}`).join()}]}`,
        `{"prompt":"x"${Array.from({ length: 200_000 }, (_, n) => `,"k${n}":1`).join("")}}`,
        `{"prompt":${"[{\"a\":".repeat(300_000)}1${"}]".repeat(300_000)}}`
      ]
      for (const body of bodies) {
        const start = yield* gateway.call("/conversations/c/turns", { body })
        assert.deepStrictEqual([start.status, start.tag], [400, "InvalidRequest"], body.slice(0, 40))
        assert.isBelow(start.text.length, 3_000)
      }
      const turn = yield* beginAsking(yield* Gateways.open({ input }), "c")
      for (
        const body of [
          deep,
          `{"_tag":"Answers","answers":${deep}}`,
          `{"_tag":"Reject","message":${deep}}`,
          `{"_tag":${deep}}`
        ]
      ) {
        const answer = yield* gateway.call(`/asks/${turn.ask}/answer`, { body })
        assert.deepStrictEqual([answer.status, answer.tag], [400, "InvalidRequest"], body.slice(0, 40))
      }
    }))

  test("with an endless body is cut off at the limit", () =>
    Effect.gen(function*() {
      let sent = 0
      const { handle } = yield* Gateways.raw({ maxBodyBytes: 1_000_000 })
      const body = new ReadableStream({
        pull: (controller) => {
          sent += 65_536
          controller.enqueue(new Uint8Array(65_536).fill(32))
        }
      })
      const request = new Request("http://localhost/conversations/c/turns", {
        method: "POST",
        headers: { authorization: `Bearer ${Gateways.token}`, "content-type": "application/json" },
        body,
        duplex: "half"
      })
      const response = yield* Effect.promise(() => handle(request))
      assert.strictEqual(response.status, 413)
      assert.isBelow(sent, 2_000_000)
      // Nobody reads the body of a request that has no token.
      sent = 0
      const stranger = new Request("http://localhost/conversations/c/turns", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: new ReadableStream({
          pull: (controller) => {
            sent += 65_536
            controller.enqueue(new Uint8Array(65_536).fill(32))
          }
        }),
        duplex: "half"
      })
      assert.strictEqual((yield* Effect.promise(() => handle(stranger))).status, 401)
      assert.isBelow(sent, 200_000)
    }))

  test("of a client with too many turns or streams is told to wait, until it has fewer", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open({ authorize, maxTurns: 2, maxStreams: 2 })
      const first = (yield* beginHalf(gateway, "alice", 1)).as(GatewayApi.StartedTurn)
      yield* beginHalf(gateway, "alice", 2)
      const third = yield* beginHalf(gateway, "alice", 3)
      assert.deepStrictEqual([third.status, third.tag], [429, "TooMany"])
      assert.strictEqual(third.headers.get("retry-after"), "1")
      // Another client has limits of its own, and the same key is no other turn.
      assert.strictEqual((yield* beginHalf(gateway, "bob", 1)).status, 202)
      assert.strictEqual((yield* beginHalf(gateway, "alice", 1)).status, 202)

      const path = `/turns/${first.messageId}/updates`
      const open = [yield* gateway.follow(path, as("alice")), yield* gateway.follow(path, as("alice"))]
      const tooMany = yield* gateway.call(path, as("alice"))
      assert.deepStrictEqual([tooMany.status, tooMany.tag], [429, "TooMany"])
      yield* open[0]?.leave ?? Effect.void
      const again = yield* gateway.follow(path, as("alice"))
      assert.strictEqual(again.response.status, 200)
      yield* fake.release("half")
      yield* again.rest
      assert.strictEqual((yield* beginHalf(gateway, "alice", 3)).status, 202)
    }))

  test("of a client whose turns this gateway took over is counted with them", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* Effect.scoped(Effect.gen(function*() {
        const first = yield* Gateways.open({ authorize })
        for (const n of [1, 2]) assert.strictEqual((yield* beginHalf(first, "alice", n)).status, 202)
        yield* fake.reached("half")
      }))
      const second = yield* Gateways.open({ authorize, maxTurns: 2 })
      yield* TestClock.adjust("1 minute")
      const third = yield* beginHalf(second, "alice", 3)
      assert.deepStrictEqual([third.status, third.tag], [429, "TooMany"])
      assert.strictEqual((yield* beginHalf(second, "bob", 1)).status, 202)
      yield* fake.release("half")
      const store = yield* SessionStore
      const open = (yield* store.listByStatus({ limit: Infinity })).filter(({ conversationId }) =>
        conversationId.startsWith("alice/")
      )
      for (const { id } of open) yield* store.untilState(id, (state) => state?.status === "completed")
      assert.strictEqual((yield* beginHalf(second, "alice", 3)).status, 202)
    }))

  test("that meets a defect or a store that is away is told so without its words, and it is reported", () =>
    Effect.gen(function*() {
      const reports = yield* Gateways.Reports
      const defect = yield* broken(Effect.die(new Error("SECRET")))
      const failed = yield* defect.call("/conversations")
      assert.deepStrictEqual([failed.status, failed.tag], [500, "InternalError"])
      const away = yield* broken(
        Effect.fail(new StoreError({ operation: "list", reason: "SECRET", isRetryable: false }))
      )
      const unavailable = yield* away.call("/conversations")
      assert.deepStrictEqual([unavailable.status, unavailable.tag], [503, "Unavailable"])
      for (const { headers, text } of [failed, unavailable]) {
        assert.notInclude(text, "SECRET")
        mustBeHard(headers)
      }
      assert.lengthOf(reports, 2)
    }))
})
