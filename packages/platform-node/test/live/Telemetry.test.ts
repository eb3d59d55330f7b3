import * as Telemetry from "#live/Telemetry"
import { assert, describe, it } from "@effect/vitest"
import * as Metrics from "@opencode-turn/core/Metrics"
import { ConfigProvider, Effect, Logger, Metric, References } from "effect"
import * as ErrorReporter from "effect/ErrorReporter"
import { OtlpExporter } from "effect/observability"
import { fileURLToPath } from "node:url"
import { cli } from "../support/CliProcess.ts"
import { type Collector, collector } from "../support/Collector.ts"

const program = fileURLToPath(new URL("TelemetryProcess.ts", import.meta.url))

const secret = "sw0rdfish"

/** Records a span, a number and a line, under these variables alone. What is reported and logged beside it is the result. */
const recorded = Effect.fnUntraced(function*(env: Readonly<Record<string, string>>) {
  const told: Array<string> = []
  const reporter = ErrorReporter.make(({ attributes, error }) => {
    told.push(JSON.stringify({ ...attributes, message: error.message, cause: String(error.cause) }))
  })
  const logger = Logger.make((options) => {
    told.push(Logger.formatJson.log(options), Logger.formatLogFmt.log(options))
  })
  yield* Effect.gen(function*() {
    yield* Metric.update(Metric.counter("test_total"), 1)
    yield* Effect.logInfo("a line")
  }).pipe(
    Effect.withSpan("a span"),
    Effect.provide(Telemetry.layer),
    Effect.provide([
      ErrorReporter.layer([reporter]),
      Logger.layer([logger]),
      ConfigProvider.layer(ConfigProvider.fromEnvRecord({ ...env }))
    ]),
    Effect.provideService(References.MinimumLogLevel, "All"),
    Effect.provideService(Metric.MetricRegistry, new Map())
  )
  return told.join("\n")
})

const arrived = (to: Collector) => ({
  spans: to.spans().map(({ name }) => name),
  metrics: to.metrics().map(({ name }) => name).filter((name) => name.startsWith("test")),
  logs: to.logs().map(({ body }) => body?.stringValue)
})

const all = { spans: ["a span"], metrics: ["test_total"], logs: ["a line"] }

describe("Telemetry.layer", () => {
  for (const protocol of ["http/protobuf", "http/json"]) {
    for (const compression of ["none", "gzip"]) {
      it.live(`sends traces, metrics and logs as ${protocol}, compressed by ${compression}`, () =>
        Effect.gen(function*() {
          const to = yield* collector()
          yield* recorded({
            OTEL_EXPORTER_OTLP_ENDPOINT: to.url,
            OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
            OTEL_EXPORTER_OTLP_COMPRESSION: compression
          })
          assert.deepStrictEqual(arrived(to), all)
        }))
    }
  }

  it.live("sends protobuf unless told otherwise, with the headers of the environment", () =>
    Effect.gen(function*() {
      const to = yield* collector()
      yield* recorded({ OTEL_EXPORTER_OTLP_ENDPOINT: to.url, OTEL_EXPORTER_OTLP_HEADERS: `x-team=${secret},b=%20c` })
      for (const { headers } of to.received()) {
        assert.deepInclude(headers, { "content-type": "application/x-protobuf", "x-team": secret, b: "c" })
      }
      assert.deepStrictEqual(to.received().map(({ path }) => path).toSorted(), [
        "/v1/logs",
        "/v1/metrics",
        "/v1/traces"
      ])
    }))

  it.live("names the service and its resource as the environment says", () =>
    Effect.gen(function*() {
      const serviceOf = Effect.fnUntraced(function*(env: Record<string, string>) {
        const to = yield* collector()
        yield* recorded({ OTEL_EXPORTER_OTLP_ENDPOINT: to.url, ...env })
        const [resource = {}, ...others] = to.resources()
        for (const other of others) assert.deepStrictEqual(other, resource)
        return [resource["service.name"], resource["deployment.environment.name"]]
      })
      assert.deepStrictEqual(yield* serviceOf({}), ["opencode-turn", undefined])
      assert.deepStrictEqual(yield* serviceOf({ OTEL_SERVICE_NAME: "bot" }), ["bot", undefined])
      const attributes = "deployment.environment.name=staging, service.name=worker"
      assert.deepStrictEqual(yield* serviceOf({ OTEL_RESOURCE_ATTRIBUTES: attributes }), ["worker", "staging"])
      assert.deepStrictEqual(
        yield* serviceOf({ OTEL_RESOURCE_ATTRIBUTES: attributes, OTEL_SERVICE_NAME: "bot" }),
        ["bot", "staging"]
      )
    }))

  it.live("sends a signal to its own endpoint, as it stands there", () =>
    Effect.gen(function*() {
      const to = yield* collector()
      yield* recorded({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${to.url}/intake?kind=traces` })
      assert.deepStrictEqual(to.received().map(({ path }) => path), ["/intake?kind=traces"])
    }))

  const silent: ReadonlyArray<readonly [string, (url: string) => Record<string, string>]> = [
    ["no endpoint is set", () => ({ OTEL_SERVICE_NAME: "bot", OTEL_TRACES_EXPORTER: "otlp" })],
    ["the endpoint is empty", () => ({ OTEL_EXPORTER_OTLP_ENDPOINT: "" })],
    ["the SDK is disabled", (url) => ({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_SDK_DISABLED: "true" })],
    ["no signal has an exporter", (url) => ({
      OTEL_EXPORTER_OTLP_ENDPOINT: url,
      OTEL_TRACES_EXPORTER: "none",
      OTEL_METRICS_EXPORTER: "none",
      OTEL_LOGS_EXPORTER: "none"
    })]
  ]
  for (const [when, env] of silent) {
    it.live(`sends nothing when ${when}`, () =>
      Effect.gen(function*() {
        const to = yield* collector()
        yield* recorded(env(to.url))
        assert.deepStrictEqual(to.received(), [])
      }))
  }

  it.live("sends only the signals that have an exporter", () =>
    Effect.gen(function*() {
      const to = yield* collector()
      yield* recorded({ OTEL_EXPORTER_OTLP_ENDPOINT: to.url, OTEL_LOGS_EXPORTER: "none", OTEL_METRICS_EXPORTER: "" })
      assert.deepStrictEqual(arrived(to), { ...all, logs: [] })
    }))

  const invalid: ReadonlyArray<readonly [string, string, RegExp]> = [
    ["OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", /is not an http or https URL/],
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", secret, /is not an http or https URL/],
    ["OTEL_EXPORTER_OTLP_ENDPOINT", `http://user:${secret}@localhost:4318`, /holds a user or a password/],
    ["OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", /is neither http\/protobuf nor http\/json.*4318/],
    ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc", /is neither/],
    ["OTEL_EXPORTER_OTLP_HEADERS", `key=${secret}%zz`, /cannot be read: write key=value/],
    ["OTEL_EXPORTER_OTLP_TIMEOUT", "soon", /is not a number of milliseconds above zero/],
    ["OTEL_EXPORTER_OTLP_TIMEOUT", "0", /is not a number of milliseconds above zero/],
    ["OTEL_EXPORTER_OTLP_COMPRESSION", "zip", /cannot be read: expected "gzip"/],
    ["OTEL_BSP_SCHEDULE_DELAY", "often", /cannot be read: expected/],
    ["OTEL_SDK_DISABLED", "perhaps", /cannot be read: expected/],
    ["OTEL_RESOURCE_ATTRIBUTES", `a=${secret}%zz`, /cannot be read: write key=value/]
  ]
  for (const [name, value, expected] of invalid) {
    it.live(`refuses ${name}=${value} by its name, without its value`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(recorded({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9", [name]: value }))
        assert.deepInclude(error, { _tag: "InvalidConfig", setting: name })
        assert.match(error.message, expected)
        assert.notInclude(error.message, secret)
      }))
  }

  const troubles: ReadonlyArray<readonly [string, Parameters<typeof collector>[0], RegExp]> = [
    ["refuses them", (_, response) => response.writeHead(401).end(secret), /it answered 401/],
    ["fails", (_, response) => response.writeHead(503).end(secret), /it answered 503/],
    ["never answers", () => {}, /it did not answer in time/],
    ["never ends its answer", (_, response) => response.writeHead(200).write("x"), /it did not answer in time/],
    ["hangs up", (request) => request.socket.destroy(), /it cannot be reached/]
  ]
  for (const [what, answer, expected] of troubles) {
    it.live(`goes on, and reports it once for each signal without a secret, when the collector ${what}`, () =>
      Effect.gen(function*() {
        const to = yield* collector(answer)
        const told = yield* recorded({
          OTEL_EXPORTER_OTLP_ENDPOINT: `${to.url}/in?token=${secret}`,
          OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${secret},x-team=${secret}`,
          OTEL_EXPORTER_OTLP_TIMEOUT: "300"
        })
        const reports = told.split("\n").filter((line) => line.startsWith("{\"feature\":\"telemetry\""))
        assert.lengthOf(reports, 3, told)
        for (const report of reports) {
          assert.match(report, expected)
          assert.include(report, `"collector":"${to.url}"`)
        }
        assert.lengthOf(told.match(/^\{"message":"telemetry failed.*"level":"WARN"/gm) ?? [], 3, told)
        assert.notInclude(told, secret)
      }))
  }

  const optIns: ReadonlyArray<readonly [string, boolean]> = [
    ["", true],
    ["http,database/dup", true],
    ["http, gen_ai_latest_experimental", false]
  ]
  for (const [optIn, expected] of optIns) {
    it.effect(`${expected ? "keeps" : "drops"} the older names of metrics for OTEL_SEMCONV_STABILITY_OPT_IN=${optIn}`, () =>
      Effect.gen(function*() {
        const env = { OTEL_SEMCONV_STABILITY_OPT_IN: optIn }
        const hasOldNames = yield* Metrics.OldNames.pipe(
          Effect.provide(Telemetry.layer),
          Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnvRecord(env))
        )
        assert.strictEqual(hasOldNames, expected)
      }))
  }

  it.live("is what openTurns sends with, if it is told to", () =>
    Effect.gen(function*() {
      const to = yield* collector()
      for (const telemetry of ["none", "telemetry"]) {
        assert.deepStrictEqual(to.received(), [])
        // In a process of its own, because a process reads its variables once.
        const finished = yield* cli([], {
          wrapper: () => [process.execPath, program, telemetry],
          env: { OTEL_EXPORTER_OTLP_ENDPOINT: to.url }
        })
        assert.deepInclude(finished, { code: 0, stderr: "" })
      }
      assert.include(to.metrics().map(({ name }) => name), "opencode_turn.turns")
    }))

  it.live("can be flushed before it ends", () =>
    Effect.gen(function*() {
      const to = yield* collector()
      yield* Effect.gen(function*() {
        yield* Effect.void.pipe(Effect.withSpan("a span"))
        yield* Effect.flatMap(OtlpExporter.Flusher, ({ flush }) => flush)
        assert.deepStrictEqual(arrived(to).spans, ["a span"])
      }).pipe(
        Effect.provide(Telemetry.layer),
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromEnvRecord({ OTEL_EXPORTER_OTLP_ENDPOINT: to.url })
        )
      )
    }))
})
