/**
 * What only OpenCode 1.x does: the whole pipeline against it with a scripted model. The other files have what it does as 2.x does.
 */
import { assert, it } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import { runTurn } from "@opencode-turn/core/Turn"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect } from "effect"
import * as RealServer from "../support/RealServer.ts"
import { turn } from "../support/RealTurns.ts"

it.layer(RealServer.layer, { excludeTestServices: true, timeout: "5 minutes" })("a turn on OpenCode 1.x", (it) => {
  it.effect("reads single messages if the server can no longer list them", () =>
    Effect.gen(function*() {
      const client = yield* Client.Client
      const first = yield* runTurn(turn([{ text: "Before." }]))
      assert.isDefined(first.sessionId)
      const structured = yield* client.sendMessage(first.sessionId, {
        parts: [{
          type: "text",
          text: ScriptedModel.prompt("As JSON.", [{ tool: "StructuredOutput", args: { answer: 42 } }])
        }],
        format: {
          type: "json_schema",
          schema: { type: "object", properties: { answer: { type: "number" } }, required: ["answer"] }
        }
      })
      assert(structured.info.role === "assistant")
      assert.deepEqual(structured.info.structured, { answer: 42 })
      const listed = yield* Effect.flip(client.listMessages(first.sessionId, { limit: 10 }))
      assert(listed._tag === "StatusError")
      assert.strictEqual(listed.status, 400)
      const single = yield* client.getMessage(first.sessionId, structured.info.id)
      assert.deepEqual(single.info, structured.info)

      const second = yield* runTurn(turn([{ text: "After." }], { conversationId: first.conversationId }))
      assert.strictEqual(second.status, "completed", String(second.error?.message))
      assert.strictEqual(second.content, "After.")
    }))
})
