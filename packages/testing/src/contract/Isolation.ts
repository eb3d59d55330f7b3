/**
 * Tests that an operation affects only its own rows.
 */
import { assert } from "@effect/vitest"
import { AssistantMessageId, ConversationId, makeId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { completed, hostileIds, newTurn, newTurnOf, recordOf, session, stored, type StoreTests } from "./Samples.ts"

export const isolation = (it: StoreTests): void => {
  it.effect("keeps two conversations apart", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const left = yield* newTurn
      const right = yield* newTurn
      yield* store.claim(left)
      yield* store.setSession(left.conversationId, Option.none(), session("left"))
      const untouched = yield* store.claim(right)
      assert.deepStrictEqual(yield* store.getSession(right.conversationId), Option.none())
      yield* store.setSession(right.conversationId, Option.none(), session("right"))

      yield* store.recordPrompt(left.id, 1, recordOf(left.prompt))
      yield* store.finalize(left.id, 1, completed)
      yield* store.claim(yield* newTurnOf(left.conversationId))
      assert.deepStrictEqual(yield* stored(right.id), untouched)
      assert.deepStrictEqual(yield* store.listMessages(right.conversationId, 10), [untouched])
      assert.deepStrictEqual(yield* store.getSession(left.conversationId), Option.some(session("left")))
      assert.deepStrictEqual(yield* store.getSession(right.conversationId), Option.some(session("right")))
    }))

  it.effect.each(hostileIds)("takes $name for an id and nothing else", ({ id: hostile }) =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      // The hostile text comes first and last, and the random rest keeps two runs on one database apart.
      const wrap = (prefix: string) => Effect.map(makeId(prefix), (random) => `${hostile}${random}${hostile}`)
      const bystander = yield* newTurn
      const untouched = yield* store.claim(bystander)
      const conversationId = ConversationId.make(yield* wrap("con"))
      const turn = { ...(yield* newTurnOf(conversationId)), id: AssistantMessageId.make(yield* wrap("msg")) }

      assert.isTrue(yield* store.setSession(conversationId, Option.none(), session(hostile)))
      assert.isTrue(yield* store.setSession(conversationId, Option.some(session(hostile)), session(`${hostile}2`)))
      assert.deepStrictEqual(yield* store.getSession(conversationId), Option.some(session(`${hostile}2`)))
      yield* store.claim(turn)
      const error = yield* Effect.flip(store.claim(yield* newTurnOf(conversationId)))
      assert.deepInclude(error, { _tag: "TurnInProgress", conversationId, messageId: turn.id })
      assert.isTrue(yield* store.recordPrompt(turn.id, 1, recordOf(turn.prompt)))
      assert.strictEqual((yield* store.cancel(turn.id, hostile)).id, turn.id)
      assert.isTrue(yield* store.keepPartial(turn.id, 1, completed))
      assert.deepStrictEqual(yield* store.listMessages(conversationId, 10), [yield* stored(turn.id)])
      assert.deepStrictEqual(yield* stored(bystander.id), untouched)
    }))

  it.effect("distinguishes ids that differ only in case or in a trailing space", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      yield* store.setSession(turn.conversationId, Option.none(), session("one"))
      for (const change of [(id: string) => id.toUpperCase(), (id: string) => `${id} `]) {
        const id = AssistantMessageId.make(change(turn.id))
        const conversationId = ConversationId.make(change(turn.conversationId))
        assert.deepStrictEqual(yield* store.getMessage(id), Option.none())
        assert.deepStrictEqual(yield* store.listMessages(conversationId, 10), [])
        assert.deepStrictEqual(yield* store.getSession(conversationId), Option.none())
        assert.strictEqual((yield* store.claim({ ...turn, id, conversationId })).epoch, 1)
      }
    }))
}
