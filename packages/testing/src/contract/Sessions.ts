/**
 * Tests of the OpenCode session of a conversation.
 */
import { assert } from "@effect/vitest"
import type { SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { newConversation, numbers, session, type StoreTests } from "./Samples.ts"

export const sessions = (it: StoreTests): void => {
  it.effect("knows no session of a conversation that never had one", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      assert.deepStrictEqual(yield* store.getSession(yield* newConversation), Option.none())
    }))

  it.effect("stores a session only over the one that was expected", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const conversation = yield* newConversation
      const [first, second, third] = [session("a"), session("b"), session("c")]
      const is = (expected: SessionId) =>
        Effect.map(
          store.getSession(conversation),
          (stored) => assert.deepStrictEqual(stored, Option.some(expected))
        )

      assert.isFalse(yield* store.setSession(conversation, Option.some(first), second))
      assert.deepStrictEqual(yield* store.getSession(conversation), Option.none())
      assert.isTrue(yield* store.setSession(conversation, Option.none(), first))
      yield* is(first)
      assert.isFalse(yield* store.setSession(conversation, Option.none(), second))
      assert.isFalse(yield* store.setSession(conversation, Option.some(third), second))
      yield* is(first)
      assert.isTrue(yield* store.setSession(conversation, Option.some(first), second))
      yield* is(second)
      assert.isFalse(yield* store.setSession(conversation, Option.some(first), third))
      yield* is(second)
      assert.isTrue(yield* store.setSession(conversation, Option.some(second), second))
      yield* is(second)
    }))

  it.effect("lets one of 50 concurrent writers store the first session, and one replace it", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const conversation = yield* newConversation
      const race = (expected: Option.Option<SessionId>, label: string) =>
        Effect.gen(function*() {
          const candidates = numbers(50).map((n) => session(`${label}${n}`))
          const isWinner = yield* Effect.forEach(
            candidates,
            (candidate) => store.setSession(conversation, expected, candidate),
            { concurrency: "unbounded" }
          )
          const winners = candidates.filter((_, index) => isWinner[index])
          assert.lengthOf(winners, 1)
          assert.deepStrictEqual(yield* store.getSession(conversation), Option.fromUndefinedOr(winners[0]))
          return Option.fromUndefinedOr(winners[0])
        })
      yield* race(yield* race(Option.none(), "first"), "second")
    }))
}
