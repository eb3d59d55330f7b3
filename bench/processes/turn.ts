/**
 * Turns on the real server by `runTurn`, over the memory store. With `traced`, their spans are exported as OTLP to a collector that takes
 * them at once.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import * as OtlpTracer from "effect/observability/OtlpTracer"
import * as Redacted from "effect/Redacted"
import * as Tracer from "../../packages/core/src/domain/Tracer.ts"
import * as Client from "../../packages/core/src/opencode/Client.ts"
import * as MemorySessionStore from "../../packages/core/src/store/MemorySessionStore.ts"
import { runTurn } from "../../packages/core/src/turn/Turn.ts"
import { flag, text } from "../Child.ts"
import { measureTurns, question } from "../RealTurn.ts"

const collector = HttpClient.make((request) =>
  Effect.succeed(HttpClientResponse.fromWeb(request, new Response(null, { status: 200 })))
)
const exporter = OtlpTracer.layer({
  url: "http://127.0.0.1:4318/v1/traces",
  exportInterval: "1 second",
  resource: { serviceName: "bench" }
}).pipe(
  Layer.provide(OtlpSerialization.layerProtobuf),
  Layer.provide(Layer.succeed(HttpClient.HttpClient, collector))
)

const runtime = ManagedRuntime.make(
  Client.layer({
    baseUrl: text("url"),
    password: Redacted.make(text("password")),
    directory: text("directory")
  }).pipe(
    Layer.merge(MemorySessionStore.layer),
    Layer.merge(Tracer.layerSpan()),
    Layer.provide(NodeHttpClient.layerUndici),
    Layer.merge(flag("traced") ? exporter : Layer.empty)
  )
)

await measureTurns(async () => {
  const { error, reply } = await runtime.runPromise(
    runTurn({ conversationId: "bench", prompt: question, title: "bench" })
  )
  if (error !== undefined) throw error
  return reply.text
})
