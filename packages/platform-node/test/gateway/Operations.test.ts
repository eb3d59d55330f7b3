import * as GatewayApi from "#gateway/GatewayApi"
import * as TurnJson from "#gateway/TurnJson"
import { assert, describe, it } from "@effect/vitest"
import type { TurnServices } from "@opencode-turn/core/Turn"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { Effect, type Scope } from "effect"
import * as Gateways from "../support/Gateways.ts"

const test = <E>(
  name: string,
  body: () => Effect.Effect<void, E, TurnServices | FakeOpencode | Gateways.Reports | Scope.Scope>
) => it.effect(name, () => Effect.provide(Effect.scoped(body()), Gateways.layer))

const post = (gateway: Gateways.TestGateway, path: string, body: object | undefined = undefined) =>
  gateway.call(path, body === undefined ? { method: "POST" } : { body })

const begin = Effect.fnUntraced(function*(gateway: Gateways.TestGateway, steps: ReadonlyArray<Step>) {
  const started = yield* gateway.call("/conversations/c/turns", { body: Gateways.start(steps) })
  return started.as(GatewayApi.StartedTurn).messageId
})

const end = Effect.fnUntraced(function*(gateway: Gateways.TestGateway, messageId: string) {
  const events = yield* (yield* gateway.follow(`/turns/${messageId}/updates`)).rest
  const last = events.at(-1)?.data
  assert(last?.type === "turn.finished")
  return last.turn
})

const say = Effect.fnUntraced(function*(gateway: Gateways.TestGateway, text: string) {
  const messageId = yield* begin(gateway, [{ text }])
  yield* end(gateway, messageId)
  return messageId
})

describe("a conversation", () => {
  test("is forked into one that the client or the gateway names, once for each name", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      const one = yield* say(gateway, "One.")
      yield* say(gateway, "Two.")
      const fork = yield* post(gateway, "/conversations/c/fork", { at: one, into: "d" })
      assert.strictEqual(fork.status, 201, fork.text)
      const turn = fork.as(TurnJson.Turn)
      assert.deepStrictEqual<string>(turn.conversationId, "d")
      assert.strictEqual(turn.status, "completed")
      assert.deepStrictEqual<unknown>(turn.operation, { type: "fork", conversationId: "c", messageId: one })
      assert.strictEqual((yield* post(gateway, "/conversations/c/fork", { at: one, into: "d" })).text, fork.text)
      const unnamed = (yield* post(gateway, "/conversations/c/fork", {})).as(TurnJson.Turn)
      assert.isFalse(["c", "d"].some((id) => id === unnamed.conversationId))
      const refused = yield* post(gateway, "/conversations/c/fork", { into: "d" })
      assert.deepStrictEqual([refused.status, refused.tag], [422, "Unprocessable"])
      const none = yield* post(gateway, "/conversations/c/fork", { at: "asm_none", into: "e" })
      assert.deepStrictEqual([none.status, none.tag], [404, "NotFound"])
    }))

  test("loses its last turns by a revert, and gets them back", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      yield* say(gateway, "One.")
      const two = yield* say(gateway, "Two.")
      const revert = yield* post(gateway, `/turns/${two}/revert`)
      assert.strictEqual(revert.status, 200, revert.text)
      const { messageId } = revert.as(TurnJson.Turn)
      const shown = gateway.call(`/turns/${two}`)
      assert.strictEqual((yield* shown).as(TurnJson.Turn).revertedBy, messageId)
      assert.strictEqual((yield* post(gateway, "/conversations/c/unrevert")).status, 200)
      assert.isNull((yield* shown).as(TurnJson.Turn).revertedBy)
      const again = yield* post(gateway, "/conversations/c/unrevert")
      assert.deepStrictEqual([again.status, again.tag], [409, "TooLate"])
      const none = yield* post(gateway, "/turns/asm_none/revert")
      assert.deepStrictEqual([none.status, none.tag], [404, "NotFound"])
    }))

  test("is compacted as a turn is run, which can be followed", () =>
    Effect.gen(function*() {
      const gateway = yield* Gateways.open()
      yield* say(gateway, "One.")
      const started = yield* post(gateway, "/conversations/c/compact", {})
      assert.strictEqual(started.status, 202, started.text)
      const { messageId } = started.as(GatewayApi.StartedTurn)
      const turn = yield* end(gateway, messageId)
      assert.deepInclude(turn, { status: "completed", content: "Scripted summary" })
      assert.deepStrictEqual<unknown>(turn.operation, { type: "compact" })
      const odd = yield* post(gateway, "/conversations/c/compact", { model: "odd" })
      assert.deepStrictEqual([odd.status, odd.tag], [422, "Unprocessable"])
      const unsaid = yield* post(gateway, "/conversations/nothing/compact", {})
      assert.deepStrictEqual([unsaid.status, unsaid.tag], [422, "Unprocessable"])
    }))

  test("with a running turn is not reverted", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const gateway = yield* Gateways.open()
      const one = yield* say(gateway, "One.")
      const running = yield* begin(gateway, [{ text: "a b", gate: "half", gateAfter: 1 }])
      const refused = yield* post(gateway, `/turns/${one}/revert`)
      assert.deepStrictEqual([refused.status, refused.tag], [409, "Busy"])
      yield* fake.release("half")
      yield* end(gateway, running)
      assert.strictEqual((yield* post(gateway, `/turns/${one}/revert`)).status, 200)
    }))
})
