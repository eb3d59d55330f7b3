import { assert, describe, it } from "@effect/vitest"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import * as Metrics from "@opencode-turn/core/Metrics"
import { resumeTurn } from "@opencode-turn/core/Turn"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Effect from "effect/Effect"
import * as Carrying from "../support/carrying.ts"
import { all, fresh, named } from "../support/metrics.ts"
import * as Turns from "../support/turns.ts"

const { ended, launch, leave, takeOver } = Carrying

const test: typeof Turns.test = (name, body, options) => Turns.test(name, () => fresh(body()), options)

const allow = Effect.provideService(HumanGate.HumanGate, HumanGate.allow)

/** Two steps with a tool between them; the first one begins to answer after two seconds, and its words take a second. */
const loop = [
  {
    text: "I look.",
    tool: "bash",
    args: { command: "sleep 3" },
    delayMillis: 2000,
    chunkDelayMillis: 500,
    usage: { input: 100, output: 30, reasoning: 10, cacheRead: 60 }
  },
  { text: "Done.", delayMillis: 4000, usage: { input: 200, output: 5 } }
] as const

describe("the metrics of an ended turn", () => {
  test("follow the conventions for agents, models and tools", () =>
    Effect.gen(function*() {
      const { value: result } = yield* ended(yield* launch("m1", loop), 60_000)
      assert.strictEqual(result.status, "completed")
      const { modelMillis, toolsMillis } = result.timing
      const counted = yield* named("gen_ai")
      const model = "chat scripted m"
      assert.deepStrictEqual(counted, {
        "gen_ai.invoke_agent.duration build m": [1, result.durationMillis / 1000],
        "gen_ai.invoke_agent.inference_calls build": [1, 2],
        "gen_ai.invoke_agent.tool_calls build": [1, 1],
        "gen_ai.execute_tool.duration bash build": [1, toolsMillis / 1000],
        [`gen_ai.client.inference.duration ${model}`]: [2, modelMillis / 1000],
        [`gen_ai.client.inference.time_to_first_chunk ${model}`]: [2, 6.5],
        // The other step came in one chunk.
        [`gen_ai.client.inference.time_per_output_chunk ${model}`]: [1, 0.5],
        [`gen_ai.client.inference.usage.input_tokens ${model}`]: 300,
        [`gen_ai.client.inference.usage.output_tokens ${model}`]: 35,
        [`gen_ai.client.inference.usage.cache_read.input_tokens ${model}`]: 60,
        [`gen_ai.client.inference.usage.cache_write.input_tokens ${model}`]: 0,
        [`gen_ai.client.inference.usage.reasoning.output_tokens ${model}`]: 10,
        [`gen_ai.client.inference.operation.input_tokens ${model}`]: [2, 300],
        [`gen_ai.client.inference.operation.output_tokens ${model}`]: [2, 35],
        [`gen_ai.client.operation.duration ${model}`]: [2, modelMillis / 1000],
        [`gen_ai.client.operation.time_to_first_chunk ${model}`]: [2, 6.5],
        [`gen_ai.client.operation.time_per_output_chunk ${model}`]: [1, 0.5],
        [`gen_ai.client.token.usage ${model} input`]: [2, 300],
        [`gen_ai.client.token.usage ${model} output`]: [2, 35]
      })
    }))

  test("leave out the older names of the conventions where nobody reads them", () =>
    Effect.gen(function*() {
      yield* ended(yield* Effect.provideService(launch("m1", loop), Metrics.OldNames, false), 60_000)
      assert.deepStrictEqual(yield* named("gen_ai.client.operation"), {})
      assert.deepStrictEqual(yield* named("gen_ai.client.token"), {})
      assert.property(yield* named("gen_ai.client.inference"), "gen_ai.client.inference.duration chat scripted m")
    }))

  test("tell its cost by model, and what its time was spent on", () =>
    Effect.gen(function*() {
      const { value: { timing, usage } } = yield* ended(yield* launch("m1", loop), 60_000)
      assert.deepStrictEqual(yield* named("opencode_turn.cost"), { "opencode_turn.cost scripted m": usage.total.cost })
      assert.deepStrictEqual(
        yield* named("opencode_turn.time"),
        Object.fromEntries(
          Metrics.purposes.map((purpose) => [`opencode_turn.time ${purpose}`, timing[`${purpose}Millis`] / 1000])
        )
      )
    }))

  test("count a subagent as an agent of its own, and every token once", () =>
    Effect.gen(function*() {
      const child = FakeOpencode.prompt("x", [
        { tool: "bash", args: { command: "ls" }, usage: { input: 7, output: 1 } },
        { text: "Found.", usage: { input: 8, output: 2 } }
      ])
      const task = { tool: "task", args: { description: "d", prompt: child, subagent_type: "general" } }
      const steps = [{ ...task, usage: { input: 1, output: 1 } }, { text: "Done.", usage: { input: 2, output: 1 } }]
      const { value: { usage } } = yield* ended(yield* allow(launch("m1", steps)), 60_000)
      const counted = yield* all
      assert.deepInclude(counted, {
        "gen_ai.invoke_agent.inference_calls build": [1, 2],
        "gen_ai.invoke_agent.inference_calls general": [1, 2],
        "gen_ai.invoke_agent.tool_calls build": [1, 1],
        "gen_ai.invoke_agent.tool_calls general": [1, 1],
        "gen_ai.client.inference.usage.input_tokens chat scripted m": 18
      })
      assert.strictEqual(usage.total.tokens.input, 18)
      assert.property(counted, "gen_ai.execute_tool.duration task build")
      assert.property(counted, "gen_ai.execute_tool.duration bash general")
    }))

  test("tell what failed: the turn by its tag, the model by OpenCode's name, a tool that was refused", () =>
    Effect.gen(function*() {
      yield* ended(yield* launch("m1", [{ fail: 400, message: "no" }]), 60_000)
      const permission = [{ permission: "bash", pattern: "*", action: "ask" } as const]
      const refused = [{ tool: "bash", args: { command: "ls" } }, { text: "Well." }]
      yield* ended(yield* launch("m2", refused, { conversationId: "other", permission }), 60_000)
      const counted = Object.keys(yield* all)
      for (
        const expected of [
          "gen_ai.invoke_agent.duration build m Upstream",
          "gen_ai.client.inference.duration chat scripted m Upstream APIError",
          "gen_ai.execute_tool.duration bash build Refused"
        ]
      ) assert.include(counted, expected)
    }))

  test("count the retries of its model", () =>
    Effect.gen(function*() {
      const steps = [{ fail: 503, times: 2 }, { text: "Done." }]
      yield* ended(yield* launch("m1", steps), 120_000)
      const counted = yield* all
      assert.deepInclude(counted, { "opencode_turn.model.retries": 2 })
      assert.isAbove(Number(counted["opencode_turn.time retries"]), 0)
    }))

  test("count a turn once that was taken over, in the process that ends it", () =>
    Effect.gen(function*() {
      const { id } = yield* leave(loop, { stage: "posted" })
      yield* Carrying.pass(30_000)
      yield* resumeTurn(yield* takeOver(id))
      assert.deepInclude(yield* all, {
        "opencode_turn.turns completed": 1,
        "opencode_turn.takeovers": 1,
        "gen_ai.invoke_agent.inference_calls build": [1, 2],
        "gen_ai.client.inference.usage.input_tokens chat scripted m": 300
      })
    }))

  test("ask no agent for a turn that never began", () =>
    Effect.gen(function*() {
      yield* ended(yield* launch("m1", loop, { model: "nonsense" }), 60_000)
      assert.deepInclude(yield* all, { "opencode_turn.turns failed InvalidInput": 1 })
      assert.deepStrictEqual(yield* named("gen_ai"), {})
    }))
})

describe("the values of an attribute that come from outside", () => {
  it.effect("are bounded for each attribute, in number and in length", () =>
    fresh(Effect.gen(function*() {
      const limited = yield* Metrics.limited
      for (let n = 0; n < Metrics.maxValues; n++) assert.strictEqual(limited("tool", `t${n}`), `t${n}`)
      assert.strictEqual(limited("tool", "more"), "_OTHER")
      assert.strictEqual((yield* Metrics.limited)("tool", "more"), "_OTHER")
      assert.strictEqual(limited("tool", "t0"), "t0")
      assert.strictEqual(limited("agent", "more"), "more")
      assert.strictEqual(limited("agent", "x".repeat(201)), "_OTHER")
      assert.isUndefined(limited("agent", undefined))
    })))
})
