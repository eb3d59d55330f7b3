/**
 * A few turns at the end of a conversation of many messages, which both the server and the SQLite store hold. Beside the times it
 * reports how many bytes came from the server.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { subscribe } from "node:diagnostics_channel"
import { mkdtemp, rm } from "node:fs/promises"
import type { Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { AssistantMessageId, ConversationId } from "../../packages/core/src/domain/Ids.ts"
import * as Tracer from "../../packages/core/src/domain/Tracer.ts"
import * as Usage from "../../packages/core/src/domain/Usage.ts"
import * as Client from "../../packages/core/src/opencode/Client.ts"
import { SessionStore } from "../../packages/core/src/store/SessionStore.ts"
import { runTurn } from "../../packages/core/src/turn/Turn.ts"
import * as SqlSessionStore from "../../packages/platform-node/src/sql/SqlSessionStore.ts"
import * as FakeOpencode from "../../packages/testing/src/fake/FakeOpencode.ts"
import { begin, int, text } from "../Child.ts"

const turns = int("turns")
const messages = int("messages")
const url = text("url")

/** The connections to the server. */
const sockets = new Set<Socket>()
subscribe("undici:client:connected", (event) => {
  if (typeof event === "object" && event !== null && "socket" in event) sockets.add(event.socket as Socket)
})
const bytesRead = () => Array.from(sockets, (socket) => socket.bytesRead).reduce((sum, bytes) => sum + bytes, 0)

const folder = await mkdtemp(join(tmpdir(), "opencode-turn-bench-"))
const Live = Client.layer({ baseUrl: url }).pipe(
  Layer.provide(NodeHttpClient.layerUndici),
  Layer.merge(Tracer.layerNoop),
  Layer.provideMerge(SqlSessionStore.layerSqlite({ filename: join(folder, "turns.db") }))
)

const conversationId = ConversationId.make("long")
const prompt = FakeOpencode.prompt("Tell me.", [{ text: "words ".repeat(60), chunks: 60 }])
const old = "An older message, which is a few lines long. ".repeat(10)

const end = await Effect.runPromise(
  Effect.gen(function*() {
    const { sessionId } = yield* runTurn({ conversationId, prompt })
    const store = yield* SessionStore
    const post = (body: object) =>
      Effect.promise(() =>
        fetch(`${url}/session/${sessionId}/message`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body)
        }).then((response) => response.text())
      )
    for (let n = 0; n < messages; n++) {
      yield* post({ noReply: true, parts: [{ type: "text", text: old }] })
      const id = AssistantMessageId.make(`asm_old_${n}`)
      yield* store.claim({ id, conversationId, prompt: [{ type: "text", text: old }] })
      yield* store.finalize(id, 1, { status: "completed", content: old, parts: [], usage: Usage.zero, error: null })
    }
    // Until what is compiled on the way is compiled.
    for (let n = 0; n < turns; n++) yield* runTurn({ conversationId, prompt })
    const readBefore = bytesRead()
    const finish = begin()
    for (let n = 0; n < turns; n++) {
      const { error } = yield* runTurn({ conversationId, prompt })
      if (error !== undefined) return yield* error
    }
    return () => finish({ turns, bytes: (bytesRead() - readBefore) / turns })
  }).pipe(Effect.provide(Live))
)
await rm(folder, { recursive: true, force: true })
end()
