/**
 * What a turn gives its session on a real OpenCode 1.x, and takes away for one turn. The beta of 2.x has nothing of it, which `RealTurn2x`
 * tests.
 */
import { assert, it } from "@effect/vitest"
import { runTurn } from "@opencode-turn/core"
import { Client } from "@opencode-turn/core/Client"
import { SessionId } from "@opencode-turn/core/Ids"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect } from "effect"
import * as RealServer from "../support/RealServer.ts"
import { base } from "../support/RealTurns.ts"

/** Runs a turn, and gives the tools that the model was offered. */
const offeredIn = (input: TurnInput) =>
  Effect.gen(function*() {
    const model = yield* ScriptedModel.ScriptedModel
    const { error, status } = yield* runTurn(input)
    assert.strictEqual(status, "completed", error?.message)
    return (yield* model.requests).filter(({ isTitle }) => !isTitle).at(-1)?.tools ?? []
  })

it.layer(RealServer.layer, { excludeTestServices: true, timeout: "5 minutes" })("a session of a real server", (it) => {
  it.effect("offers the tools of a turn in that turn alone", () =>
    Effect.gen(function*() {
      const turn = base([{ text: "Done." }])
      const all = yield* offeredIn(turn)
      assert.includeMembers([...all], ["bash", "read", "write"])
      const without = (...names: ReadonlyArray<string>) => all.filter((tool) => !names.includes(tool))
      assert.deepStrictEqual(yield* offeredIn({ ...turn, tools: { bash: false } }), without("bash"))
      assert.deepStrictEqual(yield* offeredIn(turn), all)
      assert.deepStrictEqual(yield* offeredIn({ ...turn, tools: { "*": false, read: true } }), ["read"])
      assert.deepStrictEqual(yield* offeredIn({ ...turn, tools: { write: false } }), without("write"))
      assert.deepStrictEqual(yield* offeredIn({ ...turn, tools: { edit: false } }), without("edit", "write"))
      assert.deepStrictEqual(yield* offeredIn(turn), all)
    }))

  it.effect("takes tools away from its subagents as well", () =>
    Effect.gen(function*() {
      const prompt = ScriptedModel.prompt("Look.", [{ text: "Looked." }])
      const task = { tool: "task", args: { description: "look", prompt, subagent_type: "general" } }
      yield* offeredIn({ ...base([task, { text: "Done." }]), tools: { bash: false } })
      const model = yield* ScriptedModel.ScriptedModel
      const sessions = new Map((yield* model.requests).map(({ sessionId, tools }) => [sessionId, tools]))
      assert.isAbove(sessions.size, 1)
      const [root = [], child = []] = [...sessions.values()].slice(-2)
      assert.isTrue(child.includes("read"))
      assert.isFalse(root.includes("bash"))
      assert.isFalse(child.includes("bash"))
    }))

  it.effect("names its conversation, beside the metadata of the turn that made it", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const turn = base([{ text: "Done." }])
      const { sessionId } = yield* runTurn({ ...turn, metadata: { ticket: { number: 42 } } })
      const { metadata } = yield* client.getSession(sessionId ?? SessionId.make(""))
      assert.deepStrictEqual(metadata, { ticket: { number: 42 }, conversationId: turn.conversationId })
    }))

  it.effect("keeps its rules, and refuses tools that would drop them", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const turn = base([{ text: "Done." }])
      const permission = [{ permission: "bash", pattern: "*", action: "ask" }] as const
      const { sessionId } = yield* runTurn({ ...turn, permission })
      const { error } = yield* runTurn({ ...turn, tools: { write: false } })
      assert.deepInclude(error, { _tag: "InvalidInput", field: "tools" })
      assert.deepStrictEqual((yield* client.getSession(sessionId ?? SessionId.make(""))).permission, permission)
    }))
})
