/**
 * An OpenTelemetry collector for tests: it takes OTLP over HTTP and decodes it with OpenTelemetry's own definitions.
 */
import { opentelemetry } from "@opentelemetry/otlp-transformer/build/src/generated/root.js"
import { Effect, Schema } from "effect"
import { createServer, type IncomingMessage, type RequestListener } from "node:http"
import { gunzipSync } from "node:zlib"

const Value = Schema.Struct({
  stringValue: Schema.optionalKey(Schema.String),
  intValue: Schema.optionalKey(Schema.Union([Schema.String, Schema.Finite])),
  doubleValue: Schema.optionalKey(Schema.Finite),
  boolValue: Schema.optionalKey(Schema.Boolean)
})
const Attributes = Schema.Array(Schema.Struct({ key: Schema.String, value: Schema.optionalKey(Value) }))
const Resource = Schema.Struct({ attributes: Attributes })

const Span = Schema.Struct({
  traceId: Schema.String,
  spanId: Schema.String,
  parentSpanId: Schema.optionalKey(Schema.String),
  name: Schema.String,
  attributes: Attributes
})
const Traces = Schema.Struct({
  resourceSpans: Schema.Array(
    Schema.Struct({ resource: Resource, scopeSpans: Schema.Array(Schema.Struct({ spans: Schema.Array(Span) })) })
  )
})

const Points = Schema.optionalKey(Schema.Struct({
  dataPoints: Schema.Array(Schema.Struct({ attributes: Attributes }))
}))
const Metric = Schema.Struct({
  name: Schema.String,
  unit: Schema.optionalKey(Schema.String),
  sum: Points,
  gauge: Points,
  histogram: Points
})
const Metrics = Schema.Struct({
  resourceMetrics: Schema.Array(
    Schema.Struct({ resource: Resource, scopeMetrics: Schema.Array(Schema.Struct({ metrics: Schema.Array(Metric) })) })
  )
})

const LogRecord = Schema.Struct({
  severityText: Schema.String,
  traceId: Schema.optionalKey(Schema.String),
  body: Schema.optionalKey(Value),
  attributes: Attributes
})
const Logs = Schema.Struct({
  resourceLogs: Schema.Array(
    Schema.Struct({
      resource: Resource,
      scopeLogs: Schema.Array(Schema.Struct({ logRecords: Schema.Array(LogRecord) }))
    })
  )
})

/** One request, with what it holds. */
export interface Received {
  readonly path: string
  readonly headers: IncomingMessage["headers"]
  readonly body: Buffer
}

export type Span = typeof Span.Type
export type Metric = typeof Metric.Type
export type LogRecord = typeof LogRecord.Type

/** What a collector has received so far. */
export interface Collector {
  readonly url: string
  readonly received: () => ReadonlyArray<Received>
  readonly resources: () => ReadonlyArray<Readonly<Record<string, unknown>>>
  readonly spans: () => ReadonlyArray<Span>
  readonly metrics: () => ReadonlyArray<Metric>
  readonly logs: () => ReadonlyArray<LogRecord>
}

/** The attributes by their names. */
export const attributesOf = (attributes: typeof Attributes.Type): Readonly<Record<string, unknown>> =>
  Object.fromEntries(attributes.map(({ key, value = {} }) => [key, Object.values(value)[0]]))

const { logs, metrics, trace } = opentelemetry.proto.collector

const definitions = new Map([
  ["/v1/traces", trace.v1.ExportTraceServiceRequest],
  ["/v1/metrics", metrics.v1.ExportMetricsServiceRequest],
  ["/v1/logs", logs.v1.ExportLogsServiceRequest]
])

/** The request as JSON. Protobuf is read with the official definitions, which refuse bytes that are none. */
const jsonOf = ({ body, headers, path }: Received): unknown => {
  const bytes = headers["content-encoding"] === "gzip" ? gunzipSync(body) : body
  if (headers["content-type"] === "application/json") return JSON.parse(bytes.toString())
  const definition = definitions.get(path)
  if (definition === undefined || headers["content-type"] !== "application/x-protobuf") {
    throw new Error(`not OTLP: ${path} ${headers["content-type"]}`)
  }
  const decoded = definition.decode(bytes)
  const flaw = definition.verify(decoded)
  if (flaw !== null) throw new Error(flaw)
  return definition.toObject(decoded, { longs: String, bytes: String, arrays: true })
}

/** A server that takes everything, on a port of its own. `answer` replaces how it answers. */
export const collector = Effect.fnUntraced(function*(answer?: RequestListener) {
  const received: Array<Received> = []
  const take: RequestListener = (request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => {
      received.push({ path: request.url ?? "", headers: request.headers, body: Buffer.concat(chunks) })
      if (answer === undefined) response.writeHead(200).end()
      else answer(request, response)
    })
  }
  const server = yield* Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const server = createServer(take)
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  const { port }: { readonly port: number } = Object(server.address())
  const decoded = <A, I>(path: string, schema: Schema.Codec<A, I>) =>
    received.filter((one) => one.path === path).map((one) => Schema.decodeUnknownSync(schema)(jsonOf(one)))
  const traced = () => decoded("/v1/traces", Traces).flatMap(({ resourceSpans }) => resourceSpans)
  const measured = () => decoded("/v1/metrics", Metrics).flatMap(({ resourceMetrics }) => resourceMetrics)
  const logged = () => decoded("/v1/logs", Logs).flatMap(({ resourceLogs }) => resourceLogs)
  const self: Collector = {
    url: `http://127.0.0.1:${port}`,
    received: () => received,
    resources: () => [...traced(), ...measured(), ...logged()].map(({ resource }) => attributesOf(resource.attributes)),
    spans: () => traced().flatMap(({ scopeSpans }) => scopeSpans).flatMap(({ spans }) => spans),
    metrics: () => measured().flatMap(({ scopeMetrics }) => scopeMetrics).flatMap(({ metrics }) => metrics),
    logs: () => logged().flatMap(({ scopeLogs }) => scopeLogs).flatMap(({ logRecords }) => logRecords)
  }
  return self
})
