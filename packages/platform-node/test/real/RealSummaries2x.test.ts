/**
 * What only OpenCode 2.x does with a summary: one in the middle of a turn, and one whose server dies. `RealOperations.test.ts` has what it does
 * as 1.x does.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import type { SessionId } from "@opencode-turn/core/Ids"
import { compactConversation } from "@opencode-turn/core/Operations"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedProvider from "@opencode-turn/testing/ScriptedProvider"
import { Effect, Fiber, Redacted } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import * as RealServer from "../support/RealServer.ts"
import { known, say, turn, until } from "../support/RealTurns.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"
import * as Host from "../versions/Host.ts"

/** The first summaries hang in the middle, and the others are whole. */
const dying = (count: number): ScriptedModel.Options => {
  let calls = 0
  return {
    summary: () => {
      const call = calls++
      return call < count
        ? { text: "half a summary", gate: `summary ${call}`, gateAfter: 2, ending: "hang" }
        : { text: "whole" }
    }
  }
}

/** Whether the session of OpenCode 2.x has an order to summarise. */
const hasOrder = Effect.fnUntraced(function*(
  sessionId: SessionId,
  { password, url }: Pick<OpencodeServer.OpencodeServer["Service"], "password" | "url">
) {
  const client = yield* HttpClient.HttpClient
  const response = yield* HttpClientRequest.get(`${url}/api/session/${sessionId}/pending`).pipe(
    HttpClientRequest.basicAuth("opencode", password),
    client.execute
  )
  return (yield* response.text).includes("compaction")
})

/** What the model says of a conversation that it cannot hold any more. */
const overflow = { fail: 400, message: "This model's maximum context length is 100 tokens. The prompt is too long." }

describe.skipIf(SharedOpencode.isMissing("2.x"))("a summary on OpenCode 2.x", () => {
  it.layer(Host.layerOf("2.x", dying(2)), { excludeTestServices: true, timeout: "5 minutes" })((it) => {
    it.effect("whose server dies can be made again, and is in no turn's way", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const { crash } = yield* Host.Host
        const client = yield* Client.Client
        const compact = Effect.fnUntraced(function*(conversation: string, call: number) {
          const { sessionId } = yield* say(conversation, "one")
          assert.isDefined(sessionId)
          const named = { providerId: ScriptedProvider.providerId, modelId: ScriptedProvider.modelId }
          const fiber = yield* Effect.forkChild(Effect.exit(client.compactSession(sessionId, named)))
          yield* model.reached(`summary ${call}`)
          return fiber
        })
        const compactions = [yield* compact("again", 0), yield* compact("on", 1)]
        yield* crash
        yield* Effect.forEach(compactions, Fiber.join)
        const { content, status } = yield* compactConversation("again")
        assert.deepStrictEqual([content, status], ["whole", "completed"])
        yield* say("again", "two")
        assert.deepStrictEqual(yield* known, ["whole"])
        yield* say("on", "two")
        assert.deepStrictEqual(yield* known, ["answer to one"])
      }))
  })

  it.layer(Host.layerOf("2.x", dying(1)), { excludeTestServices: true, timeout: "5 minutes" })((it) => {
    it.effect("that another client orders in the middle of a turn, and whose server dies, is not in the way of the answer", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const { crash, tools } = yield* Host.Host
        const client = yield* Client.Client
        const { sessionId } = yield* say("dying", "one")
        assert.isDefined(sessionId)
        const steps = [{ ...tools.shell("echo hi"), text: "on it", gate: "step" }, { text: "the end" }]
        const running = yield* Effect.forkChild(runTurn(turn(steps, { conversationId: "dying" })))
        yield* model.reached("step")
        const order = yield* Effect.forkChild(Effect.exit(client.compactSession(sessionId)))
        const server = { url: client.origin, password: Redacted.make(Host.samePassword) }
        yield* until(hasOrder(sessionId, server))
        yield* model.release("step")
        yield* model.reached("summary 0")
        yield* crash
        const result = yield* Fiber.join(running)
        assert.deepStrictEqual(
          [result.status, result.content],
          ["completed", "on it\n\nthe end"],
          result.error?.message
        )
        yield* Fiber.interrupt(order)
      }))
  })

  it.layer(RealServer.layerOf({ line: "2.x" }), { excludeTestServices: true, timeout: "5 minutes" })((it) => {
    const shell = { tool: "shell", args: { command: "echo hi" } }

    /** The turn, and what the server has of it afterwards. The model begins its script anew after the summary. */
    const assertWhole = Effect.fnUntraced(function*({ promptId, sessionId, usage }: TurnResult, calls: number) {
      const client = yield* Client.Client
      assert.isDefined(sessionId)
      assert.closeTo(usage.total.cost, calls * 0.00002, 1e-9)
      const { messages } = yield* client.listMessages(sessionId, { limit: 100 })
      const answered = messages.flatMap(({ info }) =>
        info.role === "assistant" && !info.isSummary ? [info.parentId] : []
      ).slice(1)
      assert.deepStrictEqual(answered, [promptId, promptId, promptId])
      const outputs = messages.flatMap(({ parts }) =>
        parts.flatMap((part) => (part.type === "tool" ? [part.output] : []))
      )
      assert.deepStrictEqual(outputs.map((output) => output?.split("\n")[0]), ["hi", "hi"])
    })

    it.effect("that the server needs in the middle of a turn leaves it whole", () =>
      Effect.gen(function*() {
        yield* say("full", "one")
        const result = yield* runTurn(turn([shell, overflow, { text: "the end" }], { conversationId: "full" }))
        assert.deepStrictEqual([result.status, result.content], ["completed", "the end"], result.error?.message)
        yield* assertWhole(result, 4)
      }))

    it.effect("that another client orders in the middle of a turn leaves it whole", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const client = yield* Client.Client
        const { sessionId } = yield* say("ordered", "one")
        assert.isDefined(sessionId)
        const running = yield* Effect.forkChild(
          runTurn(
            turn([{ ...shell, text: "on it", gate: "ordered" }, { text: "the end" }], { conversationId: "ordered" })
          )
        )
        yield* model.reached("ordered")
        const summary = yield* Effect.forkChild(client.compactSession(sessionId), { startImmediately: true })
        yield* until(hasOrder(sessionId, yield* OpencodeServer.OpencodeServer))
        yield* model.release("ordered")
        const result = yield* Fiber.join(running)
        assert.deepStrictEqual([result.status, result.content], ["completed", "on it\n\non it\n\nthe end"])
        // Whoever orders a summary pays for it.
        yield* assertWhole(result, 3)
        assert.strictEqual((yield* Fiber.join(summary)).text, "Scripted summary")
      }))
  })
})
