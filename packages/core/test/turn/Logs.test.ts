import { assert, describe } from "@effect/vitest"
import { resumeTurn, runTurn } from "@opencode-turn/core/Turn"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Carrying from "../support/carrying.ts"
import { logged } from "../support/logs.ts"
import * as Turns from "../support/turns.ts"

const { conversationId, messageId, test, turn } = Turns

const onTurnFinished = () => Effect.die(new Error("secret"))

describe("the log of a turn", () => {
  test("is empty for a turn that ends well, and for one that somebody cancels", () =>
    Effect.gen(function*() {
      const { lines } = yield* logged(runTurn(turn([{ text: "Hi." }])))
      assert.deepStrictEqual(lines, [])
      const cancelled = yield* logged(Effect.gen(function*() {
        const fiber = yield* Carrying.launch("cancelled", Carrying.halfway)
        yield* Turns.rest
        yield* Fiber.interrupt(fiber)
      }))
      assert.deepStrictEqual(cancelled.lines, [])
    }))

  test("has one line for a turn that failed, with conversation, message and error, and without the prompt", () =>
    Effect.gen(function*() {
      const { lines } = yield* logged(runTurn(turn([{ fail: 400, message: "no such model" }])))
      assert.lengthOf(lines, 1)
      assert.deepInclude(lines[0], { level: "Error", text: "turn ended: error" })
      assert.deepInclude(lines[0]?.fields, {
        conversation: conversationId,
        message: messageId,
        "error.type": "Upstream",
        durationMillis: 0,
        cost: 0
      })
      assert.notInclude(JSON.stringify(lines), "fail")
    }))

  test("has one line for a broken callback, which says no more than its error's name", () =>
    Effect.gen(function*() {
      const { lines, value } = yield* logged(runTurn(turn([{ text: "Hi." }], { onTurnFinished })))
      assert.strictEqual(value.status, "completed")
      assert.deepStrictEqual(lines, [{
        level: "Warn",
        text: "onTurnFinished failed; everything else went on",
        fields: { conversation: conversationId, message: messageId, feature: "onTurnFinished", "error.type": "Error" }
      }])
    }))

  test("has one line for a turn that is taken over from a worker that died", () =>
    Effect.gen(function*() {
      const { id } = yield* Carrying.leave([{ text: "Hi." }], { stage: "recorded", name: "dead" })
      const taken = yield* Carrying.takeOver(id)
      const { lines, value } = yield* logged(resumeTurn(taken))
      assert.strictEqual(value.status, "completed")
      assert.deepStrictEqual(
        lines.map(({ fields, level, text }) => [level, text, fields["message"], fields["takeovers"]]),
        [
          ["Warn", "turn taken over from a worker that died", "dead", 1]
        ]
      )
    }))
})
