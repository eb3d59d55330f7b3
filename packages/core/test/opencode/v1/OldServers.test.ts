/**
 * What older servers of 1.x drop without a word is found out, and told before anything is sent where a person relies on it.
 */
import * as AnyDialect from "#opencode/AnyDialect"
import { assert, it } from "@effect/vitest"
import type { PermissionRule } from "@opencode-turn/core/Ask"
import { SessionId } from "@opencode-turn/core/Ids"
import type { Prompt } from "@opencode-turn/core/Prompt"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import { type Asked, assertFields, connect, empty, json } from "../../support/http.ts"

const sessionId = SessionId.make("ses_1")

/** A server of the version that keeps these fields of a session. */
const serverOf = Effect.fnUntraced(function*(
  version: string,
  keeps: ReadonlyArray<string> = ["title", "permission", "metadata"],
  has: Readonly<Record<string, unknown>> = {}
) {
  const answer = ({ body, method, path }: Asked): Response =>
    path === "/path"
      ? json({ directory: "/project" })
      : path === "/file"
      ? json([])
      : path === "/agent"
      ? json([{ name: "build" }])
      : path.endsWith("prompt_async") || path.endsWith("message")
      ? empty(204)
      : method === "GET"
      ? json({ id: sessionId, ...has })
      : method === "DELETE"
      ? json(true)
      : json({
        id: sessionId,
        ...Object.fromEntries(Object.entries(Object(body)).filter(([key]) => keeps.includes(key)))
      })
  const server = connect(answer, () => json({ healthy: true, version }))
  const client = yield* AnyDialect.make({ baseUrl: "http://127.0.0.1:4096" }).pipe(
    Effect.provideService(HttpClient.HttpClient, server.client)
  )
  const sent = () => server.requests().flatMap(({ method, path }) => method === "GET" ? [] : [`${method} ${path}`])
  return { client, sent }
})

const deny = (permission: string, pattern = "*"): PermissionRule => ({ permission, pattern, action: "deny" })
const allow = (permission: string): PermissionRule => ({ permission, pattern: "*", action: "allow" })
const ask = (permission: string): PermissionRule => ({ permission, pattern: "*", action: "ask" })

const unsupported = (operation: string) => ({ _tag: "UnsupportedOperation", operation })
const rulesOfSubagents =
  "keep subagents to the permission rules of a session, before 1.17: deny the permission \"task\" as well"
const toolsOfSubagents =
  "keep subagents from the tools that are taken away, before 1.17: take away \"task\" as well, and begin no subagent"

const old = ["1.1.65", "1.2.27", "1.3.2", "1.14.41", "1.15.13"]
const recent = ["1.17.0", "1.18.33", "1.19.0", "0.0.0-dev-1", "0.0.0"]

it.effect.each(old)("refuses rules on %s that its subagents would not be kept to", (version) =>
  Effect.gen(function*() {
    const freeing = [
      [deny("bash")],
      [deny("bash", "rm *")],
      [deny("bash"), ask("task")],
      [deny("task", "general"), deny("bash")],
      [deny("task"), allow("*")],
      [deny("*"), allow("ta*")]
    ]
    for (const permission of freeing) {
      const { client, sent } = yield* serverOf(version)
      const error = yield* Effect.flip(client.createSession({ permission }))
      assertFields(error, unsupported(rulesOfSubagents))
      assert.deepStrictEqual(sent(), [])
    }
    const binding = [[], [ask("bash"), ask("*_*")], [deny("bash"), deny("task")], [deny("*")], [
      deny("*"),
      allow("read")
    ]]
    for (const permission of binding) {
      const { client } = yield* serverOf(version)
      assert.deepStrictEqual((yield* client.createSession({ permission })).permission, permission)
    }
  }))

it.effect.each(recent)(
  "takes the same rules on %s, which keeps subagents to them",
  (version) =>
    Effect.gen(function*() {
      const { client } = yield* serverOf(version)
      const permission = [deny("bash")]
      assert.deepStrictEqual((yield* client.createSession({ permission })).permission, permission)
      yield* client.prompt(sessionId, { parts: [], tools: { bash: false } })
    })
)

it.effect.each(old)(
  "refuses to take tools away on %s that its subagents would still have",
  (version) =>
    Effect.gen(function*() {
      const subtask = { type: "subtask", description: "d", prompt: "p", agent: "general" } as const
      const freeing: ReadonlyArray<Prompt> = [
        { parts: [], tools: { bash: false } },
        { parts: [], tools: { "*": false, task: true } },
        { parts: [], tools: { task: false, "*": true, bash: false } },
        { parts: [subtask], tools: { "*": false } },
        { parts: [{ type: "agent", name: "general" }], tools: { bash: false, task: false } }
      ]
      for (const prompt of freeing) {
        for (const send of ["prompt", "promptAndWait"] as const) {
          const { client, sent } = yield* serverOf(version)
          assertFields(yield* Effect.flip(client[send](sessionId, prompt)), unsupported(toolsOfSubagents))
          assert.deepStrictEqual(sent(), [])
        }
      }
      const binding: ReadonlyArray<Prompt> = [
        { parts: [], tools: { bash: false, task: false } },
        { parts: [], tools: { "*": false, read: true } },
        { parts: [], tools: { bash: true } },
        { parts: [], tools: {} },
        { parts: [subtask] }
      ]
      for (const prompt of binding) {
        const { client } = yield* serverOf(version)
        yield* client.prompt(sessionId, prompt)
      }
    })
)

it.effect("refuses a subagent of a prompt on an old server whose session has a rule that denies something", () =>
  Effect.gen(function*() {
    const { client, sent } = yield* serverOf("1.15.13", [], { permission: [deny("bash"), deny("task")] })
    const parts = [{ type: "agent", name: "general" }] as const
    assertFields(yield* Effect.flip(client.prompt(sessionId, { parts })), unsupported(toolsOfSubagents))
    assert.deepStrictEqual(sent(), [])
    yield* client.prompt(sessionId, { parts: [{ type: "text", text: "No subagent." }] })
  }))

it.effect("refuses rules on an old server that free subagents together with those of the session", () =>
  Effect.gen(function*() {
    const has = { permission: [deny("bash"), deny("task")] }
    const { client } = yield* serverOf("1.14.41", ["permission"], has)
    assert.deepStrictEqual((yield* client.updateSession(sessionId, { permission: [deny("edit")] })).permission, [
      deny("edit")
    ])
    const error = yield* Effect.flip(client.updateSession(sessionId, { permission: [allow("task")] }))
    assertFields(error, unsupported(rulesOfSubagents))
  }))

it.effect("deletes a session whose rules the server dropped, and says so", () =>
  Effect.gen(function*() {
    for (const version of ["1.1.65", "1.18.33"]) {
      const { client, sent } = yield* serverOf(version, ["title"])
      const error = yield* Effect.flip(client.createSession({ permission: [ask("bash")] }))
      assertFields(error, unsupported("give a session permission rules"))
      assert.deepStrictEqual(sent(), ["POST /session", "DELETE /session/ses_1"])
    }
  }))

it.effect("says when a server changes the title of a session alone", () =>
  Effect.gen(function*() {
    const { client } = yield* serverOf("1.3.2", ["title"])
    const rules = yield* Effect.flip(client.updateSession(sessionId, { permission: [ask("bash")] }))
    assertFields(rules, unsupported("change the permission rules of a session"))
    const metadata = yield* Effect.flip(client.updateSession(sessionId, { metadata: { ticket: "42" } }))
    assertFields(metadata, unsupported("keep metadata with a session"))
    assert.strictEqual((yield* client.updateSession(sessionId, { title: "new" })).title, "new")
  }))

it.effect("takes what JSON carries of the metadata as kept", () =>
  Effect.gen(function*() {
    const { client } = yield* serverOf("1.18.33")
    const metadata = { b: { d: [1, null], c: "x" }, a: undefined, at: new Date(0) }
    const { metadata: kept } = yield* client.updateSession(sessionId, { metadata })
    assert.deepStrictEqual<unknown>(kept, { b: { d: [1, null], c: "x" }, at: "1970-01-01T00:00:00.000Z" })
  }))

it.effect("sends no prompt of an agent that an old server does not have, because nothing would ever follow", () =>
  Effect.gen(function*() {
    for (const send of ["prompt", "promptAndWait"] as const) {
      const { client, sent } = yield* serverOf("1.3.2")
      const error = yield* Effect.flip(client[send](sessionId, { parts: [], agent: "nope" }))
      assertFields(error, unsupported("prompt the agent \"nope\", which it does not have"))
      assert.deepStrictEqual(sent(), [])
    }
    const { client, sent } = yield* serverOf("1.3.2")
    yield* client.prompt(sessionId, { parts: [], agent: "build" })
    assert.deepStrictEqual(sent(), ["POST /session/ses_1/prompt_async"])
  }))

it.effect("checks an agent that such a server would say nothing of, and leaves it to newer servers", () =>
  Effect.gen(function*() {
    const told = Effect.fnUntraced(function*(version: string, agent: string) {
      const { client } = yield* serverOf(version)
      return yield* Effect.match(client.checkPrompt({ parts: [], agent }, undefined), {
        onFailure: ({ _tag, message }) => `${_tag}: ${message}`,
        onSuccess: () => "it is fine"
      })
    })
    for (const version of ["1.1.65", "1.2.27", "1.3.2"]) {
      assert.strictEqual(yield* told(version, "nope"), "Upstream: Agent not found: \"nope\". Available agents: build")
      assert.strictEqual(yield* told(version, "build"), "it is fine")
    }
    for (const version of ["1.14.41", ...recent]) assert.strictEqual(yield* told(version, "nope"), "it is fine")
  }))
