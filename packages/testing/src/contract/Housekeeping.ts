/**
 * Tests of operations across conversations: lists by status, and pruning.
 */
import { assert } from "@effect/vitest"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { stateOf } from "@opencode-turn/core/StoredMessage"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { completed, leaseOf, newTurn, newTurnOf, numbers, stored, type StoreTests, terminals } from "./Samples.ts"

export const housekeeping = (it: StoreTests): void => {
  it.effect("lists the newest messages of all conversations, newest first, those of one status or all", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const ended = yield* Effect.forEach(
        terminals,
        Effect.fnUntraced(function*(outcome) {
          const turn = yield* newTurn
          yield* store.claim(turn)
          yield* store.finalize(turn.id, 1, outcome)
          return yield* stored(turn.id)
        })
      )
      const pending = yield* store.claim(yield* newTurn)
      const queued = yield* store.claim({ ...(yield* newTurnOf(pending.conversationId)), whenBusy: "queue" })
      const ours = [...ended, pending, queued].toReversed().map(stateOf)

      assert.deepStrictEqual(yield* store.listByStatus({ limit: 5 }), ours)
      assert.deepStrictEqual(yield* store.listByStatus({ limit: 2.9 }), ours.slice(0, 2))
      assert.deepStrictEqual((yield* store.listByStatus({ limit: Infinity })).slice(0, 5), ours)
      for (const message of ours) {
        assert.deepStrictEqual(yield* store.listByStatus({ status: message.status, limit: 1 }), [message])
        const all = yield* store.listByStatus({ status: message.status, limit: Infinity })
        assert.deepStrictEqual(new Set(all.map(({ status }) => status)), new Set([message.status]))
      }
      for (const limit of [0, -1, NaN]) assert.deepStrictEqual(yield* store.listByStatus({ limit }), [])
    }))

  it.effect("lists the newest message of each conversation, newest first, page by page", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const firsts = yield* Effect.replicateEffect(newTurn, 4)
      for (const turn of firsts) {
        yield* store.claim(turn)
        yield* store.finalize(turn.id, 1, completed)
      }
      const [oldest, , third] = firsts
      if (oldest === undefined || third === undefined) return assert.fail("no turns")
      // The oldest conversation becomes the newest; of the third one, the message that waits is the newest.
      const running = yield* store.claim(yield* newTurnOf(third.conversationId))
      const waiting = yield* store.claim({ ...(yield* newTurnOf(third.conversationId)), whenBusy: "queue" })
      const again = yield* store.claim(yield* newTurnOf(oldest.conversationId))
      assert.strictEqual(running.status, "pending")
      const ours = [
        again,
        waiting,
        ...(yield* Effect.forEach([firsts[3], firsts[1]], (turn) => stored(turn?.id ?? oldest.id)))
      ].map(stateOf)

      assert.deepStrictEqual(yield* store.listConversations({ limit: 4 }), ours)
      assert.deepStrictEqual(yield* store.listConversations({ limit: 2.9 }), ours.slice(0, 2))
      assert.deepStrictEqual((yield* store.listConversations({ limit: Infinity })).slice(0, 4), ours)
      for (const [place, { position }] of ours.entries()) {
        const page = yield* store.listConversations({ limit: 2, beforePosition: position })
        assert.deepStrictEqual(page.slice(0, 3 - place), ours.slice(place + 1, place + 3))
      }
      for (const limit of [0, -1, NaN]) assert.deepStrictEqual(yield* store.listConversations({ limit }), [])

      // A conversation goes with its last message; its newest message may go before others of it.
      yield* store.cancel(waiting.id, "")
      assert.deepStrictEqual((yield* store.listConversations({ limit: 9 })).map(({ id }) => id).slice(0, 2), [
        again.id,
        waiting.id
      ])
      yield* TestClock.adjust("1 milli")
      yield* store.prune(yield* Clock.currentTimeMillis)
      assert.deepStrictEqual(
        (yield* store.listConversations({ limit: 9 })).map(({ id }) => id).slice(0, 2),
        [again.id, running.id]
      )
    }))

  it.effect("deletes what ended before a time, says how much, and never what is pending or queued", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const pending = yield* newTurn
      const waiting = yield* newTurnOf(pending.conversationId)
      yield* store.claim({ ...pending, lease: leaseOf("gone") })
      yield* store.claim({ ...waiting, whenBusy: "queue", lease: leaseOf("gone") })
      yield* TestClock.adjust("1 day")
      // The test clock starts in 1970, so everything else that a program stored is newer than the rows here.
      yield* store.prune(yield* Clock.currentTimeMillis)

      const old = yield* Effect.forEach(
        terminals,
        Effect.fnUntraced(function*(outcome) {
          const turn = yield* newTurnOf(pending.conversationId)
          yield* store.claim({ ...turn, whenBusy: "queue" })
          yield* store.cancel(turn.id, outcome.content)
          return turn
        })
      )
      const other = yield* newTurn
      yield* store.claim(other)
      yield* store.finalize(other.id, 1, completed)
      yield* TestClock.adjust("1 milli")
      const beforeMillis = yield* Clock.currentTimeMillis
      const young = yield* newTurn
      yield* store.claim(young)
      yield* store.cancel(young.id, "")

      assert.strictEqual(yield* store.prune(beforeMillis), 4)
      assert.strictEqual(yield* store.prune(beforeMillis), 0)
      for (const { id } of [...old, other]) assert.deepStrictEqual(yield* store.getMessage(id), Option.none())
      assert.deepInclude(yield* stored(young.id), { status: "cancelled" })
      const kept = yield* store.listMessages(pending.conversationId, 10)
      assert.deepStrictEqual(kept.map(({ id, status }) => ({ id, status })), [
        { id: pending.id, status: "pending" },
        { id: waiting.id, status: "queued" }
      ])
      yield* TestClock.adjust("1 day")
      yield* store.prune(yield* Clock.currentTimeMillis)
      assert.deepInclude(yield* stored(pending.id), { status: "pending" })
      assert.deepInclude(yield* stored(waiting.id), { status: "queued" })
    }))

  it.effect("deletes thousands of messages, and goes on in the right order afterwards", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      yield* TestClock.adjust("1 milli")
      yield* store.prune(yield* Clock.currentTimeMillis)
      const end = Effect.fnUntraced(function*() {
        const turn = yield* newTurn
        yield* store.claim(turn)
        yield* store.cancel(turn.id, "")
      })
      yield* Effect.forEach(numbers(1_100), end, { concurrency: 50, discard: true })
      yield* TestClock.adjust("1 milli")
      assert.strictEqual(yield* store.prune(yield* Clock.currentTimeMillis), 1_100)
      const first = yield* store.claim(yield* newTurn)
      const second = yield* store.claim(yield* newTurn)
      assert.deepStrictEqual(yield* store.listByStatus({ limit: 2 }), [second, first].map(stateOf))
    }))
}
