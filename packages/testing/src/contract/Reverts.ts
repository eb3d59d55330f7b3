/**
 * Tests of the marks of messages that a revert took back.
 */
import { assert } from "@effect/vitest"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Effect from "effect/Effect"
import { completed, newTurn, newTurnOf, stored, type StoreTests } from "./Samples.ts"

export const reverts = (it: StoreTests): void => {
  it.effect("marks the messages of a range as reverted, and takes away only the marks of one revert", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const first = yield* newTurn
      const turns = [first, ...yield* Effect.replicateEffect(newTurnOf(first.conversationId), 4)]
      const messages = yield* Effect.forEach(turns, (turn) =>
        Effect.gen(function*() {
          yield* store.claim(turn)
          yield* store.finalize(turn.id, 1, completed)
          return yield* stored(turn.id)
        }))
      const elsewhere = yield* store.claim(yield* newTurn)
      const [one, two, three, four, five] = messages
      if (!one || !two || !three || !four || !five) return assert.fail("no turns")
      const marks = Effect.map(
        Effect.forEach([...messages, elsewhere], ({ id }) => stored(id)),
        (read) => read.map(({ revertedBy }) => revertedBy)
      )
      const { conversationId } = one

      assert.deepStrictEqual(yield* marks, [null, null, null, null, null, null])
      const range = { conversationId, fromPosition: three.position, beforePosition: four.position }
      yield* store.markReverted(four.id, range)
      yield* store.markReverted(four.id, range)
      assert.deepStrictEqual(yield* marks, [null, null, four.id, null, null, null])
      yield* store.markReverted(five.id, { conversationId, fromPosition: two.position, beforePosition: five.position })
      assert.deepStrictEqual(yield* marks, [null, five.id, four.id, five.id, null, null])
      const marked = yield* stored(two.id)
      assert.deepStrictEqual(marked, { ...two, revertedBy: five.id, revision: two.revision + 1 })
      yield* store.unmarkReverted(five.id)
      assert.deepStrictEqual(yield* marks, [null, null, four.id, null, null, null])
      const listed = yield* store.listByStatus({ conversationId, limit: 9 })
      assert.deepStrictEqual(listed.map(({ revertedBy }) => revertedBy), [null, null, four.id, null, null])
      yield* store.unmarkReverted(elsewhere.id)
      assert.deepStrictEqual(yield* marks, [null, null, four.id, null, null, null])
    }))
}
