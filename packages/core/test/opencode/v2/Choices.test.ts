/**
 * How a session of 2.x is made to work by what a prompt is to have, and what is checked before anything is sent.
 */
import * as AnyDialect from "#opencode/AnyDialect"
import { assert, describe, it } from "@effect/vitest"
import { SessionId } from "@opencode-turn/core/Ids"
import type { Prompt } from "@opencode-turn/core/Prompt"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import { type Asked, assertFields, connect, empty, json, probed2x } from "../../support/http.ts"

const sessionId = SessionId.make("ses_1")

interface Server {
  /** Whether the lists are there at once, or only once somebody asked for the default model. */
  readonly isLoaded?: boolean
  readonly isBusy?: boolean
  /** What the server makes of an agent without a name. */
  readonly namelessAgent?: "default" | "refused" | "literal"
  readonly agent?: string
  readonly model?: object
  readonly line?: "release" | "beta"
}

const agents = [
  { id: "general", mode: "subagent", hidden: false },
  { id: "title", mode: "primary", hidden: true },
  { id: "other", name: "Other", mode: "primary", hidden: false },
  { id: "build", name: "Build", mode: "primary", hidden: false },
  { id: "own", mode: "all", hidden: false, model: { id: "n", providerID: "p", variant: "high" } },
  { id: "lost", mode: "all", hidden: false, model: { id: "gone", providerID: "p" } }
]
const models = [
  { id: "m", providerID: "p", variants: [{ id: "high", settings: {} }] },
  { id: "n", providerID: "p", variants: [{ id: "high" }, { id: "low" }] },
  { id: "plain", providerID: "p", variants: [] },
  { id: "old", providerID: "p" }
]

const connected = Effect.fnUntraced(function*(options: Server = {}) {
  const { isBusy = false, line = "beta", namelessAgent = "default" } = options
  let isLoaded = options.isLoaded ?? true
  let { agent, model } = options
  const answer = ({ body, method, path }: Asked): Response => {
    if (path === "/api/agent") return json({ data: isLoaded ? agents : [] })
    if (path === "/api/model") return json({ data: isLoaded ? models : [] })
    if (path === "/api/model/default") {
      isLoaded = true
      return json({ data: models[0] })
    }
    if (path === "/api/session/active") return json({ data: isBusy ? { ses_1: { type: "running" } } : {} })
    if (path === "/api/session/ses_1" && method === "GET") return json({ data: { id: sessionId, agent, model } })
    if (path.endsWith("/agent")) {
      const { agent: name } = Object(body)
      if (name === "" && namelessAgent === "refused") return empty(400)
      agent = name === "" && namelessAgent === "default" ? undefined : name
    }
    if (path.endsWith("/model")) model = Object(body).model
    return empty(204)
  }
  const server = connect(answer, probed2x(line))
  const client = yield* AnyDialect.make({ baseUrl: "http://127.0.0.1:4096", directory: "/workspace" }).pipe(
    Effect.provideService(HttpClient.HttpClient, server.client)
  )
  const sent = () =>
    server.requests().flatMap(({ body, method, path }) =>
      method === "GET" || path.includes("/instructions/") ? [] : [[path.replace("/api/session/ses_1/", ""), body]]
    )
  return { client, sent, session: () => ({ agent, model }) }
})

const data = (bytes: number) => `data:text/plain;base64,${"AAAA".repeat(bytes / 3)}`
const file = (bytes: number): Prompt => ({
  parts: [{ type: "text", text: "Read." }, {
    type: "file",
    mediaType: "text/plain",
    url: data(bytes),
    filename: "a.txt"
  }]
})
const text: Prompt = { parts: [{ type: "text", text: "Do it." }] }
const named = (id: string) => ({ providerId: "p", modelId: id })
const posted = ["prompt", { text: "Do it.", delivery: "queue" }] as const

describe("a session of 2.x", () => {
  const cases: ReadonlyArray<readonly [string, Server, Partial<Prompt>, ReadonlyArray<readonly [string, object]>]> = [
    ["nothing", {}, {}, []],
    ["what it has already", { agent: "other", model: { id: "m", providerID: "p", variant: "default" } }, {
      agent: "other",
      model: named("m")
    }, []],
    ["an agent", {}, { agent: "other" }, [["agent", { agent: "other" }]]],
    ["an agent with a model of its own", {}, { agent: "own" }, [
      ["agent", { agent: "own" }],
      ["model", { model: { id: "n", providerID: "p", variant: "high" } }]
    ]],
    ["another variant for that agent", {}, { agent: "own", variant: "low" }, [
      ["agent", { agent: "own" }],
      ["model", { model: { id: "n", providerID: "p", variant: "low" } }]
    ]],
    ["a model", {}, { model: named("n") }, [["model", { model: { id: "n", providerID: "p", variant: "default" } }]]],
    ["a variant of the server's default model", {}, { variant: "high" }, [
      ["model", { model: { id: "m", providerID: "p", variant: "high" } }]
    ]],
    ["a variant of the session's model", { model: { id: "n", providerID: "p" } }, { variant: "low" }, [
      ["model", { model: { id: "n", providerID: "p", variant: "low" } }]
    ]],
    ["a variant of a model whose variants are not told", { model: { id: "old", providerID: "p" } }, { variant: "x" }, [
      ["model", { model: { id: "old", providerID: "p", variant: "x" } }]
    ]],
    ["nothing, after a prompt that named an agent", { agent: "other" }, {}, [["agent", { agent: "" }]]],
    ["nothing, after a prompt that named a variant", { model: { id: "n", providerID: "p", variant: "low" } }, {}, [
      ["model", { model: { id: "n", providerID: "p", variant: "default" } }]
    ]],
    ["an agent, after a prompt that named a variant", { model: { id: "n", providerID: "p", variant: "low" } }, {
      agent: "other"
    }, [
      ["agent", { agent: "other" }],
      ["model", { model: { id: "n", providerID: "p", variant: "default" } }]
    ]],
    ["nothing, with a model that the server does not have any more", { model: { id: "gone", providerID: "p" } }, {}, []]
  ]
  it.effect.each(cases)(
    "works by what the prompt is to have, which names %s",
    ([, server, choices, expected]) =>
      Effect.gen(function*() {
        const { client, sent } = yield* connected(server)
        yield* client.prompt(sessionId, { ...text, ...choices })
        assert.deepStrictEqual<unknown>(sent(), [...expected, posted])
      })
  )

  it.effect("is looked up again once the server has loaded the folder", () =>
    Effect.gen(function*() {
      const { client, session } = yield* connected({ isLoaded: false })
      yield* client.checkPrompt({ ...text, agent: "other", model: named("n"), variant: "low" }, undefined)
      const second = yield* connected({ isLoaded: false })
      yield* second.client.prompt(sessionId, { ...text, agent: "other", model: named("n") })
      assert.deepStrictEqual(session(), { agent: undefined, model: undefined })
      assertFields(second.session(), { agent: "other" })
    }))

  it.effect.each(["refused", "literal"] as const)(
    "gets the default agent by its name where one without a name is %s",
    (namelessAgent) =>
      Effect.gen(function*() {
        const { client, session } = yield* connected({ agent: "other", namelessAgent })
        yield* client.prompt(sessionId, text)
        assertFields(session(), { agent: "build" })
      })
  )

  it.effect("keeps what another prompt works by, unless the next prompt names something else", () =>
    Effect.gen(function*() {
      const busy = { isBusy: true, agent: "other", model: { id: "n", providerID: "p", variant: "low" } }
      const { client, sent } = yield* connected(busy)
      yield* client.prompt(sessionId, text)
      assert.deepStrictEqual<unknown>(sent(), [posted])
      yield* client.prompt(sessionId, { ...text, agent: "build" })
      assert.deepStrictEqual<unknown>(sent().slice(1, 2), [["agent", { agent: "build" }]])
    }))
})

describe("a prompt for 2.x", () => {
  const available = "Available agents: build, general, lost, other, own"
  const wrong: ReadonlyArray<readonly [string, Server, Partial<Prompt>, string]> = [
    ["an agent", {}, { agent: "nope" }, `Agent not found: "nope". ${available}`],
    ["the name of an agent for people", {}, { agent: "Build" }, `Agent not found: "Build". ${available}`],
    ["an agent with an empty name", {}, { agent: "" }, `Agent not found: "". ${available}`],
    ["a model", {}, { model: named("nope") }, "Model not found: p/nope."],
    ["the model of its agent", {}, { agent: "lost" }, "Model not found: p/gone."],
    [
      "the session's model, with a variant",
      { model: { id: "gone", providerID: "p" } },
      { variant: "high" },
      "Model not found: p/gone."
    ],
    ["a variant", {}, { model: named("n"), variant: "nope" }, "Variant not found: \"nope\". p/n has high, low"],
    ["a variant of the default model", {}, { variant: "low" }, "Variant not found: \"low\". p/m has high"],
    [
      "any variant",
      {},
      { model: named("plain"), variant: "high" },
      "Variant not found: \"high\". p/plain has no variants"
    ]
  ]
  for (const isLoaded of [true, false]) {
    it.effect.each(wrong)(
      `is refused before anything is sent where the server does not have %s (${isLoaded ? "loaded" : "loading"})`,
      ([, server, choices, reason]) =>
        Effect.gen(function*() {
          const { client, sent } = yield* connected({ ...server, isLoaded })
          assertFields(yield* Effect.flip(client.checkPrompt({ ...text, ...choices }, sessionId)), {
            _tag: "Upstream",
            reason,
            isRetryable: false
          })
          assertFields(yield* Effect.flip(client.prompt(sessionId, { ...text, ...choices })), {
            _tag: "UnsupportedOperation",
            operation: "prompt a session",
            reason
          })
          assert.deepStrictEqual(sent(), [])
        })
    )
  }

  const mebibytes = 1024 * 1024
  const limits: ReadonlyArray<
    readonly [string, Server["line"], Prompt, { readonly field: string; readonly reason: RegExp } | undefined]
  > = [
    ["the longest system text", "beta", { ...text, system: "x".repeat(8190) }, undefined],
    ["a longer one", "beta", { ...text, system: "x".repeat(8191) }, {
      field: "system",
      reason: /^it has 8193 bytes as JSON, and OpenCode 2\.x takes 8192: shorten it/
    }],
    ["a shorter one of longer letters", "release", { ...text, system: "\u00e9".repeat(4096) }, {
      field: "system",
      reason: /8194 bytes/
    }],
    ["one of letters that are escaped", "release", { ...text, system: "\"".repeat(4096) }, {
      field: "system",
      reason: /8194/
    }],
    ["a file that the beta takes", "beta", file(3_999_999), undefined],
    ["a file that the beta fails for", "beta", file(4_000_002), {
      field: "prompt",
      reason:
        /^part 2, the file "a\.txt": it has 4000002 bytes, and OpenCode 2\.x takes 4000000 in one file: send a smaller one/
    }],
    ["that file", "release", file(4_000_002), undefined],
    ["a larger one", "release", file(21 * mebibytes), { field: "prompt", reason: /takes 20971520 in one file/ }]
  ]
  it.effect.each(limits)(
    "is within the limits of the server or says which it is over: %s (%s)",
    ([, line, prompt, flaw]) =>
      Effect.gen(function*() {
        const { client, sent } = yield* connected({ ...(line !== undefined && { line }) })
        const checked = client.checkPrompt(prompt, undefined)
        if (flaw === undefined) yield* checked
        else {
          const error = yield* Effect.flip(checked)
          assert(error._tag === "InvalidInput")
          assert.strictEqual(error.field, flaw.field)
          assert.match(error.reason, flaw.reason)
          assertFields(yield* Effect.flip(client.prompt(sessionId, prompt)), { _tag: "UnsupportedOperation" })
        }
        assert.deepStrictEqual(sent(), [])
      })
  )
})
