/**
 * Sends spans, metrics and logs to an OpenTelemetry collector over HTTP, as the standard variables of the environment say.
 *
 * **Responsibilities**: the defaults of the variables, a typed error for one that cannot be used, the limit of each request, and one report
 * when a collector does not take what it is sent.
 *
 * **Not responsibilities**: the export itself (`effect/observability`), what is recorded (`Metrics`, the spans of a turn).
 *
 * Nothing is sent unless `OTEL_EXPORTER_OTLP_ENDPOINT` or the endpoint of a signal is set. docs/TELEMETRY.md lists the variables.
 *
 * **Example**
 * ```ts
 * const runtime = ManagedRuntime.make(Layer.mergeAll(LiveLayer, Telemetry.layer))
 * ```
 *
 * @since 0.1.0
 */
import * as Contained from "@opencode-turn/core/Contained"
import * as Metrics from "@opencode-turn/core/Metrics"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as OtlpExporter from "effect/observability/OtlpExporter"
import * as OtlpLogger from "effect/observability/OtlpLogger"
import * as OtlpMetrics from "effect/observability/OtlpMetrics"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as OtlpTracer from "effect/observability/OtlpTracer"
import * as Predicate from "effect/Predicate"
import * as Ref from "effect/Ref"
import * as References from "effect/References"
import * as SchemaIssue from "effect/SchemaIssue"
import * as HttpLayer from "./HttpLayer.ts"
import { InvalidConfig, setting } from "./LiveLayer.ts"

export { page as prometheusPage } from "./PrometheusPage.ts"

/**
 * Exports traces, metrics and logs of the effects that it is provided to, each where an endpoint is set for it.
 *
 * **Details**
 *
 * What is buffered is sent when the layer's scope closes. A collector that does not answer delays that by at most 3 seconds, or by
 * `OTEL_EXPORTER_OTLP_TIMEOUT`. `OtlpExporter.Flusher` sends it earlier.
 *
 * **Gotchas**
 *
 * Build it once for a process, with a `ManagedRuntime`: each `Effect.provide` of the layer has exporters of its own, and waits for them.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<OtlpExporter.Flusher, InvalidConfig> = Layer.unwrap(Effect.gen(function*() {
  const endpoints = yield* Effect.forEach(endpointSettings, checkedEndpoint)
  const names = Layer.succeed(Metrics.OldNames, !(yield* optsIn))
  if (endpoints.every(Predicate.isUndefined)) return Layer.merge(OtlpExporter.layerFlusher, names)
  const provider = withDefaults(yield* ConfigProvider.ConfigProvider, yield* serviceName)
  return Layer.mergeAll(
    yield* layerOf("TRACES", OtlpTracer.layerFromConfig()),
    yield* layerOf("METRICS", OtlpMetrics.layerFromConfig()),
    yield* layerOf("LOGS", OtlpLogger.layerFromConfig()),
    Layer.effectDiscard(Metrics.register)
  ).pipe(
    Layer.provide([
      ConfigProvider.layer(provider),
      HttpLayer.layer,
      // The exporter's own line about a failed request tells its headers and its address, which may hold a secret.
      Layer.succeed(References.MinimumLogLevel, "None")
    ]),
    Layer.catchCause((cause) => Layer.effect(OtlpExporter.Flusher, Effect.failCause(explained(cause)))),
    Layer.merge(names)
  )
}))

// internal

type Signal = "TRACES" | "METRICS" | "LOGS"

type Exporter = Layer.Layer<
  OtlpExporter.Flusher,
  never,
  HttpClient.HttpClient | OtlpSerialization.OtlpSerialization
>

const endpointSettings = [
  "OTEL_EXPORTER_OTLP_ENDPOINT",
  "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
  "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
  "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
]

const layerOf = Effect.fnUntraced(function*(signal: Signal, exporter: Exporter) {
  const protocol = yield* ofSignal(signal, "PROTOCOL")
  const serialization = serializations.get(protocol?.value ?? "http/protobuf")
  if (serialization === undefined) {
    return yield* new InvalidConfig({
      setting: protocol?.name ?? "OTEL_EXPORTER_OTLP_PROTOCOL",
      reason: "is neither http/protobuf nor http/json: send to the collector's HTTP port, usually 4318"
    })
  }
  const timeout = yield* ofSignal(signal, "TIMEOUT")
  if (timeout !== undefined && !/^[1-9]\d*$/.test(timeout.value)) {
    return yield* new InvalidConfig({ setting: timeout.name, reason: "is not a number of milliseconds above zero" })
  }
  const limit = timeout === undefined ? Duration.seconds(10) : Duration.millis(Number(timeout.value))
  // Where troubles are told: the exporter itself logs nothing.
  const context = yield* Effect.context<never>()
  const client = Layer.effect(HttpClient.HttpClient, watched(signal, limit, context))
  return exporter.pipe(Layer.provide([serialization, client]))
})

const serializations = new Map([
  ["http/protobuf", OtlpSerialization.layerProtobuf],
  ["http/json", OtlpSerialization.layerJson]
])

/** A variable of the signal, or the one that all signals share. */
const ofSignal = Effect.fnUntraced(function*(signal: Signal, variable: string) {
  for (const name of [`OTEL_EXPORTER_OTLP_${signal}_${variable}`, `OTEL_EXPORTER_OTLP_${variable}`]) {
    const value = yield* setting(name)
    if (value !== undefined) return { name, value }
  }
  return undefined
})

const checkedEndpoint = Effect.fnUntraced(function*(name: string) {
  const text = yield* setting(name)
  const url = text !== undefined && URL.canParse(text) ? new URL(text) : undefined
  if (text === undefined) return undefined
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    return yield* new InvalidConfig({
      setting: name,
      reason: "is not an http or https URL, for example http://127.0.0.1:4318"
    })
  }
  if (url.username !== "" || url.password !== "") {
    return yield* new InvalidConfig({
      setting: name,
      reason: "holds a user or a password: put them into OTEL_EXPORTER_OTLP_HEADERS, as authorization=Basic%20…"
    })
  }
  return url
})

/** Whether the environment asks for the latest names of the conventions alone. */
const optsIn = Effect.map(
  setting("OTEL_SEMCONV_STABILITY_OPT_IN"),
  (text = "") => text.split(",").some((name) => name.trim() === "gen_ai_latest_experimental")
)

/** The name of the service, unless the resource's attributes hold it. */
const serviceName = Effect.gen(function*() {
  const attributes = yield* setting("OTEL_RESOURCE_ATTRIBUTES")
  return /(?:^|,)\s*service\.name\s*=/.test(attributes ?? "") ? {} : { OTEL_SERVICE_NAME: "opencode-turn" }
})

/** OpenTelemetry exports over OTLP unless told otherwise, and takes an empty variable for one that is not set. */
const withDefaults = (provider: ConfigProvider.ConfigProvider, serviceName: Record<string, string>) =>
  ConfigProvider.make((path) =>
    Effect.map(provider.load(path), (node) => node?._tag === "Value" && node.value === "" ? undefined : node)
  ).pipe(
    ConfigProvider.orElse(ConfigProvider.fromEnvRecord({
      OTEL_TRACES_EXPORTER: "otlp",
      OTEL_METRICS_EXPORTER: "otlp",
      OTEL_LOGS_EXPORTER: "otlp",
      ...serviceName
    }))
  )

/** The exporters die of a variable that they cannot read. Its value is not told: it may be a secret. */
const explained = (cause: Cause.Cause<never>): Cause.Cause<InvalidConfig> => {
  const error = Cause.squash(cause)
  if (!(error instanceof Config.ConfigError)) return cause
  const [issue] = error.cause._tag === "SchemaError" ? formatIssue(error.cause.issue).issues : []
  const [name] = issue?.path ?? []
  return Cause.fail(
    new InvalidConfig({
      setting: String(name ?? "OTEL_*"),
      reason: /HEADERS|ATTRIBUTES/.test(String(name))
        ? "cannot be read: write key=value,key=value, with special characters percent-encoded"
        : `cannot be read: ${issue?.message.toLowerCase() ?? "the configuration failed"}`
    })
  )
}

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** The client of an exporter: it bounds each request, and reports once when the collector does not take them. */
const watched = Effect.fnUntraced(function*(
  signal: Signal,
  limit: Duration.Duration,
  context: Context.Context<never>
) {
  const client = yield* HttpClient.HttpClient
  const state = yield* Ref.make<Sending>(working)
  const learn = (news: (before: Sending) => readonly [Trouble | undefined, Sending]) =>
    Effect.flatMap(
      Ref.modify(state, news),
      (trouble) => trouble === undefined ? Effect.void : Effect.provideContext(report(signal, trouble), context)
    )
  yield* Effect.addFinalizer(() => learn(atEnd))
  return HttpClient.transform(client, (effect, request) =>
    effect.pipe(
      // A body that never ends would hold the exporter as well.
      Effect.tap((response) => Effect.ignore(response.arrayBuffer)),
      Effect.timeoutOrElse({
        duration: limit,
        orElse: () =>
          new HttpClientError.HttpClientError({
            reason: new HttpClientError.TransportError({ request, description: timedOut })
          })
      }),
      Effect.onExit((exit) => learn((before) => next(before, troubleOf(exit, request))))
    ))
})

/** `failures` counts requests that failed one after the other, and `trouble` is the last failure that nobody was told of. */
interface Sending {
  readonly failures: number
  readonly trouble: Trouble | undefined
}

const working: Sending = { failures: 0, trouble: undefined }

/** Why a request failed. A final failure is not tried again. */
interface Trouble {
  readonly collector: string
  readonly reason: string
  readonly isFinal: boolean
}

const timedOut = "it did not answer in time"

const troubleOf = (
  exit: Exit.Exit<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError>,
  { url }: HttpClientRequest.HttpClientRequest
): Trouble | undefined => {
  const collector = URL.canParse(url) ? new URL(url).origin : ""
  if (Exit.isSuccess(exit)) {
    const { status } = exit.value
    if (status < 300) return undefined
    return { collector, reason: `it answered ${status}`, isFinal: status < 500 && status !== 408 && status !== 429 }
  }
  const error = Cause.squash(exit.cause)
  const reason = HttpClientError.isHttpClientError(error) ? error.reason : undefined
  // An exporter whose scope closes interrupts what takes too long.
  const isTimeout = Cause.hasInterruptsOnly(exit.cause) ||
    (reason?._tag === "TransportError" && reason.description === timedOut)
  return { collector, reason: isTimeout ? timedOut : `it cannot be reached${codeOf(reason?.cause)}`, isFinal: false }
}

const codeOf = (cause: unknown): string =>
  Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code) ? ` (${cause.code})` : ""

/** The third failure in a row is told, or one that is final; the next one only after the collector took something again. */
const next = (before: Sending, trouble: Trouble | undefined): readonly [Trouble | undefined, Sending] => {
  if (trouble === undefined) return [undefined, working]
  const isTold = before.failures > 0 && before.trouble === undefined
  const failures = before.failures + 1
  return !isTold && (trouble.isFinal || failures >= 3)
    ? [trouble, { failures, trouble: undefined }]
    : [undefined, { failures, trouble: isTold ? undefined : trouble }]
}

/** What is still in trouble when the exporter ends has lost what it had. */
const atEnd = ({ trouble }: Sending): readonly [Trouble | undefined, Sending] => [trouble, working]

const report = (signal: Signal, { collector, reason }: Trouble) =>
  Contained.report(
    "telemetry",
    { signal: signal.toLowerCase(), collector, reason },
    Cause.fail(new Error(`the collector does not take ${signal.toLowerCase()}: ${reason}`))
  )
