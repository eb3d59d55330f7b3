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

it.effect("asks nothing for a prompt that names no agent", () =>
  Effect.gen(function*() {
    const server = connect(() => empty(500))
    yield* check([{ type: "text", text: "go" }, { type: "file", mediaType: "text/plain", url: "file:///a" }], server)
    assert.lengthOf(server.requests(), 0)
  }))

it.effect("asks once for all agents, and lets pass those that the server has", () =>
  Effect.gen(function*() {
    const server = connect(() => json(agents))
    yield* check([subtask("general"), { type: "agent", name: "build" }, { type: "agent", name: "title" }], server)
    assert.deepStrictEqual(server.requests().map(({ path }) => path), ["/agent"])
  }))

it.effect("an agent that the server has not is refused, with those that it offers", () =>
  Effect.gen(function*() {
    for (const part of [subtask("nope"), { type: "agent", name: "nope" } as const]) {
      const error = yield* Effect.flip(check([part]))
      assert.strictEqual(error._tag, "InvalidInput")
      assert.strictEqual(error.message, "invalid prompt: the server has no agent \"nope\", only build, general")
    }
  }))

it.effect("a server that does not answer is an error of the request, not of the prompt", () =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(check([subtask("general")], connect(() => empty(400))))
    assert.strictEqual(error._tag, "StatusError")
  }))
