/** Turns on the real server by `runTurn`, over the memory store. */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Tracer from "../../packages/core/src/domain/Tracer.ts"
import * as Client from "../../packages/core/src/opencode/Client.ts"
import * as MemorySessionStore from "../../packages/core/src/store/MemorySessionStore.ts"
import { runTurn } from "../../packages/core/src/turn/Turn.ts"
import { text } from "../Child.ts"
import { measureTurns, question } from "../RealTurn.ts"

const runtime = ManagedRuntime.make(
  Client.layer({
    baseUrl: text("url"),
    password: Redacted.make(text("password")),
    directory: text("directory")
  }).pipe(
    Layer.merge(MemorySessionStore.layer),
    Layer.merge(Tracer.layerSpan()),
    Layer.provide(NodeHttpClient.layerUndici)
  )
)

await measureTurns(async () => {
  const { error, reply } = await runtime.runPromise(
    runTurn({ conversationId: "bench", prompt: question, title: "bench" })
  )
  if (error !== undefined) throw error
  return reply.text
})
