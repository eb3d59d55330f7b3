import * as Telemetry from "#live/Telemetry"
import { assert, describe, it } from "@effect/vitest"
import * as Metrics from "@opencode-turn/core/Metrics"
import { Effect, Metric } from "effect"
import { parse } from "../support/Exposition.ts"

const fresh = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(effect, Metric.MetricRegistry, new Map())

const page = Effect.map(Telemetry.prometheusPage, parse)

describe("the page for Prometheus", () => {
  it.effect("shows every metric of a process that has done nothing yet, as zero", () =>
    fresh(Effect.gen(function*() {
      const families = yield* page
      assert.strictEqual(families.get("opencode_turn_turns_total")?.type, "counter")
      assert.strictEqual(families.get("opencode_turn_turns_running")?.type, "gauge")
      assert.strictEqual(families.get("opencode_turn_turn_duration_seconds")?.type, "histogram")
      for (const { samples } of families.values()) for (const { value } of samples) assert.strictEqual(value, 0)
    })))

  it.effect("names metrics with their units, as OpenTelemetry's exporters do, and keeps notes out of the names", () =>
    fresh(Effect.gen(function*() {
      yield* Metric.update(Metrics.cost, 0.5)
      yield* Metric.update(Metrics.inputTokens, 7)
      yield* Metrics.record(Metrics.invokeAgent, 1500)
      const families = yield* page
      assert.deepStrictEqual(families.get("opencode_turn_cost_USD_total")?.samples.map(({ value }) => value), [0.5])
      assert.isTrue(families.has("gen_ai_client_inference_usage_input_tokens_total"))
      const agents = families.get("gen_ai_invoke_agent_duration_seconds")?.samples ?? []
      assert.deepStrictEqual(
        agents.flatMap(({ labels: { le }, value }) => le === undefined ? [] : [[le, value]]).slice(7, 10),
        [["1.28", 0], ["2.56", 1], ["5.12", 1]]
      )
      assert.isTrue(agents.every(({ labels }) => !("unit" in labels)))
    })))

  it.effect("holds whatever a tool is called", () =>
    fresh(Effect.gen(function*() {
      const names = [`say "hi"`, "C:\\temp", "two\nlines", "", "ünï{}=,#", "\\\"\n\\"]
      for (const name of names) {
        yield* Metrics.record(Metric.withAttributes(Metrics.executeTool, { "gen_ai.tool.name": name }), 1)
      }
      const samples = (yield* page).get("gen_ai_execute_tool_duration_seconds")?.samples ?? []
      assert.sameMembers([...new Set(samples.map(({ labels }) => labels["gen_ai_tool_name"]))], names)
    })))
})

describe("the reader of the page", () => {
  const wrong: ReadonlyArray<readonly [string, string]> = [
    ["a page without a last line break", "# HELP a_total x\n# TYPE a_total counter\na_total 1"],
    ["a metric without help", "# TYPE a_total counter\na_total 1\n"],
    ["a counter without _total", "# HELP a x\n# TYPE a counter\na 1\n"],
    ["a series that stands twice", "# HELP a_total x\n# TYPE a_total counter\na_total 1\na_total 1\n"],
    ["a label that is not escaped", "# HELP a x\n# TYPE a gauge\na{b=\"c\"d\"} 1\n"],
    ["a value that is no number", "# HELP a x\n# TYPE a gauge\na one\n"],
    ["a sample of another metric", "# HELP a x\n# TYPE a gauge\nb 1\n"],
    [
      "a histogram whose buckets shrink",
      "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n"
    ]
  ]
  for (const [what, text] of wrong) it(`refuses ${what}`, () => assert.throws(() => parse(text)))
})
