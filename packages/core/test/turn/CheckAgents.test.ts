import { checkAgents } from "#turn/CheckAgents"
import { assert, it } from "@effect/vitest"
import type { PromptPart } from "@opencode-turn/core/Prompt"
import * as Effect from "effect/Effect"
import { connect, empty, json, withClient } from "../support/http.ts"

const agents = [
  { name: "build", mode: "primary" },
  { name: "general", mode: "subagent" },
  { name: "title", mode: "primary", hidden: true }
]
const subtask = (agent: string): PromptPart => ({ type: "subtask", description: "d", prompt: "p", agent })

const check = (parts: ReadonlyArray<PromptPart>, server = connect(() => json(agents))) =>
  withClient(server)(checkAgents({ parts }))

it.effect("sends no request for a prompt without an agent", () =>
  Effect.gen(function*() {
    const server = connect(() => empty(500))
    yield* check([{ type: "text", text: "go" }, { type: "file", mediaType: "text/plain", url: "file:///a" }], server)
    assert.lengthOf(server.requests(), 0)
  }))

it.effect("sends one request for all agents, and accepts those that the server has", () =>
  Effect.gen(function*() {
    const server = connect(() => json(agents))
    yield* check([subtask("general"), { type: "agent", name: "build" }, { type: "agent", name: "title" }], server)
    assert.deepStrictEqual(server.requests().map(({ path }) => path), ["/agent"])
  }))

it.effect("refuses an unknown agent, and names the server's agents", () =>
  Effect.gen(function*() {
    for (const part of [subtask("nope"), { type: "agent", name: "nope" } as const]) {
      const error = yield* Effect.flip(check([part]))
      assert.strictEqual(error._tag, "InvalidInput")
      assert.strictEqual(error.message, "invalid prompt: the server has no agent \"nope\", only build, general")
    }
  }))

it.effect("fails with the request's error if the server does not answer", () =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(check([subtask("general")], connect(() => empty(400))))
    assert.strictEqual(error._tag, "StatusError")
  }))
