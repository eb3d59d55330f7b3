/**
 * Tests of ids of the maximum length, and of ids that no store can hold.
 */
import { assert } from "@effect/vitest"
import { AskId, AssistantMessageId, ConversationId, maxIdLength, SessionId } from "@opencode-turn/core/Ids"
import { SessionStore, type StoreError } from "@opencode-turn/core/SessionStore"
import type { TurnInProgress } from "@opencode-turn/core/TurnError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import {
  completed,
  leaseOf,
  longId,
  newTurn,
  once,
  permissionOf,
  recordOf,
  session,
  stored,
  type StoreTests,
  unstorableIds
} from "./Samples.ts"

export const ids = (it: StoreTests): void => {
  it.effect("keeps ids of 512 characters apart, whatever letters they are of", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      for (const _ of [1, 2]) {
        const conversationId = ConversationId.make(yield* longId)
        const sessionId = SessionId.make(yield* longId)
        const turn = { ...(yield* newTurn), conversationId, id: AssistantMessageId.make(yield* longId) }
        yield* store.claim(turn)
        assert.isTrue(yield* store.setSession(conversationId, Option.none(), sessionId))
        assert.deepStrictEqual(yield* store.getSession(conversationId), Option.some(sessionId))
        const ask = permissionOf(AskId.make(yield* longId), "git push")
        yield* store.openAsk({ ask, messageId: turn.id, conversationId })
        assert.strictEqual((yield* store.answerAsk(ask.id, once)).id, ask.id)
        assert.isTrue(yield* store.finalize(turn.id, 1, completed))
        assert.deepStrictEqual(yield* store.listMessages(conversationId, 9), [yield* stored(turn.id)])
      }
    }))

  it.effect.each(unstorableIds)(
    "stores nothing under an id with $name, and says which one it was",
    ({ id }) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        const { conversationId } = turn
        const ask = permissionOf(AskId.make("req"), "git push")
        const refused: ReadonlyArray<Effect.Effect<unknown, TurnInProgress | StoreError>> = [
          store.claim({ ...turn, id: AssistantMessageId.make(id) }),
          store.claim({ ...(yield* newTurn), conversationId: ConversationId.make(id) }),
          store.claim({ ...(yield* newTurn), lease: leaseOf(id) }),
          store.setSession(ConversationId.make(id), Option.none(), session("a")),
          store.setSession(conversationId, Option.none(), SessionId.make(id)),
          store.openAsk({ ask: { ...ask, id: AskId.make(id) }, messageId: turn.id, conversationId }),
          store.openAsk({ ask, messageId: AssistantMessageId.make(id), conversationId }),
          store.openAsk({ ask, messageId: turn.id, conversationId: ConversationId.make(id) }),
          store.takeOver(turn.id, leaseOf(id))
        ]
        for (const operation of refused) {
          const error = yield* Effect.flip(operation)
          assert.strictEqual(error._tag, "StoreError")
          assert.match(error.message, /the id "\w+": it (?:holds|is longer)/)
        }
        assert.deepStrictEqual(yield* store.getSession(conversationId), Option.none())
      })
  )

  it.effect.each(unstorableIds)("finds and changes nothing under an id with $name", ({ id }) =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const messageId = AssistantMessageId.make(id)
      const conversationId = ConversationId.make(id)
      const askId = AskId.make(id)
      // What a database would make of half a surrogate pair.
      const other = id.toWellFormed().replaceAll("\0", "")
      if (other.length <= maxIdLength) yield* store.claim({ ...(yield* newTurn), id: AssistantMessageId.make(other) })

      for (const option of [store.getMessage(messageId), store.getState(messageId), store.getAsk(askId)]) {
        assert.isTrue(Option.isNone<unknown>(yield* option))
      }
      assert.deepStrictEqual(yield* store.getSession(conversationId), Option.none())
      assert.deepStrictEqual(yield* store.findOrphan(conversationId), Option.none())
      assert.deepStrictEqual(yield* store.takeOver(messageId, leaseOf("other")), Option.none())
      assert.deepStrictEqual(yield* store.listMessages(conversationId, 9), [])
      assert.deepStrictEqual(yield* store.listAsks({ conversationId, limit: 9 }), [])
      assert.deepStrictEqual(yield* store.listAsks({ messageId, limit: 9 }), [])
      const changes = [
        store.renew(messageId, 1, { millis: 1 }),
        store.release(messageId, 1),
        store.recordPrompt(messageId, 1, recordOf([])),
        store.snapshot(messageId, 1, completed),
        store.finalize(messageId, 1, completed),
        store.keepPartial(messageId, 1, completed),
        store.withdrawAsk(askId)
      ]
      for (const change of changes) assert.isFalse(yield* change)
      assert.strictEqual((yield* Effect.flip(store.cancel(messageId, "")))._tag, "UnknownMessage")
      assert.strictEqual((yield* Effect.flip(store.answerAsk(askId, once)))._tag, "UnknownAsk")
      yield* store.untilState(messageId, (state) => state === undefined)
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(store.changes(messageId), 1)), [undefined])
      assert.deepStrictEqual(yield* Stream.runCollect(Stream.take(store.askChanges(askId), 1)), [undefined])
    }))
}
