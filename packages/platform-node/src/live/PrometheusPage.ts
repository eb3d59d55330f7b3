/**
 * The metrics of this process as a page for Prometheus.
 *
 * **Responsibilities**: the names, which are those that OpenTelemetry's exporters for Prometheus give, so that a dashboard reads the metrics
 * the same whether they are scraped or come through a collector.
 *
 * **Not responsibilities**: the format (`effect/observability`), who may read the page (`Gateway`, `cli/setup/MetricsPort`).
 *
 * @since 0.1.0
 */
import * as Metrics from "@opencode-turn/core/Metrics"
import * as Effect from "effect/Effect"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"

/**
 * The page as text, in version 0.0.4 of the format.
 *
 * @category rendering
 * @since 0.1.0
 */
export const page: Effect.Effect<string> = Effect.gen(function*() {
  yield* Metrics.register
  const names = new Map((yield* Metric.snapshot).map((metric) => [metric.id, nameOf(metric)]))
  return yield* PrometheusMetrics.format({ metricNameMapper: (id) => names.get(id) ?? id })
})

/**
 * The page as a response.
 *
 * @category rendering
 * @since 0.1.0
 */
export const response: Effect.Effect<HttpServerResponse.HttpServerResponse> = Effect.map(
  page,
  (text) => HttpServerResponse.text(text, { contentType: "text/plain; version=0.0.4; charset=utf-8" })
)

// internal

/** The name with its unit, and `_total` for what only grows. */
const nameOf = ({ attributes, id, state, type }: Metric.Metric.Snapshot): string => {
  const name = id.replaceAll(/[^\w:]/g, "_")
  const unit = units.get(attributes?.["unit"] ?? "")
  const withUnit = unit === undefined || name.endsWith(`_${unit}`) ? name : `${name}_${unit}`
  const isCounter = type === "Counter" && state.incremental && !withUnit.endsWith("_total")
  return isCounter ? `${withUnit}_total` : withUnit
}

/** Units in braces, such as `{turn}`, are notes, which are left out. */
const units = new Map([["s", "seconds"], ["By", "bytes"], ["USD", "USD"]])
