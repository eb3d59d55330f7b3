/**
 * What a turn works by on the real servers: agent, model and variant that it names, and what a turn has that names none.
 */
import { assert } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { SessionId } from "@opencode-turn/core/Ids"
import { compactConversation, forkConversation } from "@opencode-turn/core/Operations"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { base } from "../support/RealTurns.ts"

const layerOf = RealServer.onLine({
  models: { m: ["high", "low"], n: ["high"] },
  config: {
    agent: {
      reviewer: { mode: "primary", description: "Reviews.", prompt: "You are the reviewer." },
      painter: { mode: "primary", description: "Paints.", prompt: "You are the painter.", model: "scripted/n" }
    }
  }
})

type Choices = Pick<TurnInput, "agent" | "model" | "variant">

let turns = 0

const run = (conversationId: string, choices: Choices = {}) =>
  runTurn({ ...base([{ text: "Done." }]), conversationId, messageId: `choice-${++turns}`, ...choices })

/** What the model's newest call of a session was made with. */
const usedIn = (sessionId: string | undefined) =>
  Effect.gen(function*() {
    const scripted = yield* ScriptedModel.ScriptedModel
    const call = (yield* scripted.requests).findLast((request) => !request.isTitle && request.sessionId === sessionId)
    assert(call !== undefined, "the model was not called")
    const system = call.messages.map(({ role, text }) => (role === "system" ? text : "")).join("\n")
    const [, agent = "build"] = /You are the (reviewer|painter)\./.exec(system) ?? []
    return [agent, call.model, String(Object(call.body).reasoning_effort ?? "none")]
  })

/** Runs a turn of these choices to its end, and gives what it worked by. */
const used = Effect.fnUntraced(function*(conversationId: string, choices: Choices = {}) {
  const result = yield* run(conversationId, choices)
  assert.strictEqual(result.error, undefined)
  return yield* usedIn(result.sessionId)
})

onBothLines("what a turn works by on the real server", { layerOf }, (it, { line }) => {
  it.effect("is what it names, and agent and variant are forgotten with it", () =>
    Effect.gen(function*() {
      const id = "names"
      assert.deepStrictEqual(yield* used(id), ["build", "m", "none"])
      assert.deepStrictEqual(yield* used(id, { agent: "reviewer" }), ["reviewer", "m", "none"])
      assert.deepStrictEqual(yield* used(id, { variant: "high" }), ["build", "m", "high"])
      assert.deepStrictEqual(yield* used(id), ["build", "m", "none"])
      assert.deepStrictEqual(yield* used(id, { model: "scripted/n", variant: "high" }), ["build", "n", "high"])
      assert.deepStrictEqual(yield* used(id), ["build", "n", "none"])
      assert.deepStrictEqual(yield* used(id, { model: "scripted/m", agent: "painter" }), ["painter", "m", "none"])
      assert.deepStrictEqual(yield* used(id, { agent: "painter" }), ["painter", "n", "none"])
      assert.deepStrictEqual(yield* used(id), ["build", "n", "none"])
    }))

  if (line === "1.x") {
    it.effect("has no variant that the model does not have, which the result tells", () =>
      Effect.gen(function*() {
        const result = yield* run("dropped", { variant: "nope" })
        assert.deepStrictEqual([result.status, result.dropped], ["completed", ["variant"]])
        assert.deepStrictEqual(yield* usedIn(result.sessionId), ["build", "m", "none"])
        assert.deepStrictEqual((yield* run("dropped", { variant: "low" })).dropped, [])
      }))
  }

  it.effect("has a variant also without a model", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* used("variant", { variant: "high" }), ["build", "m", "high"])
    }))

  it.effect("stays the last model in a fork, and after a summary by another one", () =>
    Effect.gen(function*() {
      const id = "summary"
      yield* used(id, { agent: "reviewer", model: "scripted/n" })
      yield* compactConversation(id, { model: "scripted/m" })
      assert.deepStrictEqual(yield* used(id), ["build", "n", "none"])
      yield* forkConversation({ conversationId: id, into: "summary-fork" })
      assert.deepStrictEqual(yield* used("summary-fork"), ["build", "n", "none"])
    }))

  const wrong: ReadonlyArray<readonly [string, Choices, RegExp]> = [
    ["model", { model: "scripted/nope" }, /^Model not found: scripted\/nope\.$/],
    ["provider", { model: "nope/m" }, /^Model not found: nope\/m\.$/],
    ["agent", { agent: "nope" }, /^Agent not found: "nope"\. Available agents: build, /],
    ...line === "1.x" ? [] : [
      ["variant", { variant: "nope" }, /^Variant not found: "nope"\. scripted\/n has high$/],
      [
        "variant of a named model",
        { model: "scripted/n", variant: "low" },
        /^Variant not found: "low"\. scripted\/n has high$/
      ]
    ] as const
  ]
  for (const [what, choices, message] of wrong) {
    it.effect(`is in no later turn's way: a wrong ${what}`, () =>
      Effect.gen(function*() {
        const id = `wrong-${what}`
        yield* used(id, { model: "scripted/n" })
        const { error, status } = yield* run(id, choices)
        assert.deepStrictEqual([status, error?._tag], ["error", "Upstream"])
        assert.match(error?.message ?? "", message)
        assert.deepStrictEqual(yield* used(id), ["build", "n", "none"])
        yield* compactConversation(id)
        yield* forkConversation({ conversationId: id, into: `${id}-fork` })
        assert.deepStrictEqual(yield* used(`${id}-fork`), ["build", "n", "none"])
      }))
  }

  it.effect("is checked as the server says it, also in a folder that it has not loaded", () =>
    Effect.gen(function*() {
      const client = yield* Client
      yield* client.checkPrompt(
        { parts: [], agent: "reviewer", model: { providerId: "scripted", modelId: "n" } },
        undefined
      )
      assert.isTrue(yield* client.takesVariant({ providerId: "scripted", modelId: "n" }, "high"))
      const { sessionId = SessionId.make("") } = yield* run("loaded")
      yield* client.checkPrompt({ parts: [], variant: "low" }, sessionId)
    }))
})
