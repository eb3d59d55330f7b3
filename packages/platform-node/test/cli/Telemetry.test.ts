import { assert, it } from "@effect/vitest"
import { prompt } from "@opencode-turn/testing/ScriptedModel"
import { Effect } from "effect"
import { layerShared, Playground } from "../support/CliProcess.ts"
import { attributesOf, collector } from "../support/Collector.ts"

const secret = "sw0rdfish"

it.layer(layerShared, { excludeTestServices: true })("the telemetry of the command", (it) => {
  it.effect("reaches a collector over HTTP: the traces, metrics and logs of turns of a real OpenCode", () =>
    Effect.gen(function*() {
      const { start } = yield* Playground
      const to = yield* collector()
      const running = yield* start(["run", prompt("Talk.", [{ text: "All is well." }])], {
        env: { OTEL_EXPORTER_OTLP_ENDPOINT: to.url, OTEL_EXPORTER_OTLP_HEADERS: `x-team=${secret}` }
      })
      const { code, stderr, stdout } = yield* running.finished
      assert.deepStrictEqual([code, stdout], [0, "All is well.\n"], stderr)
      const spans = to.spans()
      assert.includeMembers(spans.map(({ name }) => name), ["invoke_agent", "chat m"])
      assert.isAtMost(spans.length, 12)
      for (const { attributes, name } of spans) {
        assert.property(attributesOf(attributes), "gen_ai.conversation.id", name)
      }
      const metrics = new Map(to.metrics().map((metric) => [metric.name, metric]))
      assert.strictEqual(metrics.get("gen_ai.client.inference.duration")?.unit, "s")
      assert.strictEqual(metrics.get("opencode_turn.turns")?.unit, "{turn}")
      const [agent] = metrics.get("gen_ai.invoke_agent.duration")?.histogram?.dataPoints ?? []
      assert.deepInclude(attributesOf(agent?.attributes ?? []), {
        "gen_ai.agent.name": "build",
        "gen_ai.request.model": "m"
      })

      const failing = yield* start(["run", prompt("Talk.", [{ fail: 400, message: "no" }])], {
        env: { OTEL_EXPORTER_OTLP_ENDPOINT: to.url, OTEL_EXPORTER_OTLP_HEADERS: `x-team=${secret}` }
      })
      assert.strictEqual((yield* failing.finished).code, 1)
      const [log, ...others] = to.logs()
      assert.lengthOf(others, 0)
      assert.deepStrictEqual([log?.body?.stringValue, log?.severityText], ["turn ended: error", "Error"])
      assert.includeMembers(Object.keys(attributesOf(log?.attributes ?? [])), ["conversation", "message", "error.type"])
      assert.include(to.spans().map(({ traceId }) => traceId), log?.traceId)

      for (const { headers } of to.received()) assert.strictEqual(headers["x-team"], secret)
    }).pipe(Effect.scoped))

  it.effect("is told of in one line for each signal, and changes neither answer nor exit code, when no collector answers", () =>
    Effect.gen(function*() {
      const { start } = yield* Playground
      const to = yield* collector(() => {})
      const running = yield* start(["run", prompt("Talk.", [{ text: "All is well." }])], {
        env: { OTEL_EXPORTER_OTLP_ENDPOINT: to.url, OTEL_EXPORTER_OTLP_HEADERS: `x-team=${secret}` }
      })
      const { code, stderr, stdout } = yield* running.finished
      assert.deepStrictEqual([code, stdout], [0, "All is well.\n"], stderr)
      assert.match(
        stderr,
        /^opencode-turn: telemetry failed; everything else went on \(.*signal traces.*it did not answer in time/m
      )
      assert.notInclude(stderr, secret)
    }).pipe(Effect.scoped))

  it.effect("is a setting: an endpoint that cannot be used is refused before the turn", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const { code, stderr, stdout } = yield* run(["run", "Hi."], {
        env: { OTEL_EXPORTER_OTLP_ENDPOINT: "localhost:4318" }
      })
      assert.deepStrictEqual([code, stdout], [2, ""])
      assert.strictEqual(
        stderr,
        "opencode-turn: OTEL_EXPORTER_OTLP_ENDPOINT is not an http or https URL, for example http://127.0.0.1:4318\n"
      )
    }))
})
