/**
 * Tests of cancels, and of the content that was streamed before them.
 */
import { assert } from "@effect/vitest"
import type { Content } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Usage from "@opencode-turn/core/Usage"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import {
  completed,
  failed,
  newTurn,
  newTurnOf,
  offsetOf,
  partsOf,
  recordOf,
  someUsage,
  stored,
  type StoreTests
} from "./Samples.ts"

export const cancels = (it: StoreTests): void => {
  it.effect("cancels a pending message of any owner, and returns it", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      yield* store.recordPrompt(turn.id, 1, recordOf(turn.prompt))
      const owned = yield* store.claim(turn)
      yield* TestClock.adjust("3 seconds")
      const finishedMillis = yield* Clock.currentTimeMillis
      const cancelled = yield* store.cancel(turn.id, "Stopped by you.")
      assert.deepStrictEqual(cancelled, {
        ...owned,
        status: "cancelled",
        content: "Stopped by you.",
        isFallback: true,
        revision: owned.revision + 1,
        finishedMillis
      })
      assert.deepStrictEqual(yield* stored(turn.id), cancelled)
    }))

  it.effect("changes nothing when a cancelled message is cancelled again", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      const cancelled = yield* store.cancel(turn.id, "first")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* store.cancel(turn.id, "second"), cancelled)
      assert.deepStrictEqual(yield* stored(turn.id), cancelled)
    }))

  it.effect.each([{ outcome: completed, status: completed.status }, { outcome: failed, status: failed.status }])(
    "fails with AlreadyFinished when the message is $status, and leaves it as it is",
    ({ outcome }) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        yield* store.finalize(turn.id, 1, outcome)
        const ended = yield* stored(turn.id)
        assert.deepInclude(yield* Effect.flip(store.cancel(turn.id, "too late")), {
          _tag: "AlreadyFinished",
          messageId: turn.id,
          status: outcome.status
        })
        assert.deepStrictEqual(yield* stored(turn.id), ended)
      })
  )

  it.effect("fails with UnknownMessage for an unknown message, and stores no message", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const { id } = yield* newTurn
      assert.deepInclude(yield* Effect.flip(store.cancel(id, "")), { _tag: "UnknownMessage", messageId: id })
      assert.deepStrictEqual(yield* store.getMessage(id), Option.none())
    }))

  it.effect("adds what was streamed to a cancelled message, whose status and time stay", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      yield* store.claim(turn)
      const cancelled = yield* store.cancel(turn.id, "Stopped.")
      yield* TestClock.adjust("1 second")
      const partial: Content = { content: "as far as it", parts: partsOf("as far as it"), usage: someUsage }
      assert.isTrue(yield* store.keepPartial(turn.id, 2, partial))
      assert.deepStrictEqual(yield* stored(turn.id), {
        ...cancelled,
        ...partial,
        isFallback: false,
        offset: offsetOf(partial),
        revision: cancelled.revision + 1
      })
    }))

  it.effect("keeps only the content of the snapshot, even if the snapshot holds more", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      const cancelled = yield* store.cancel(turn.id, "Stopped.")
      assert.isTrue(yield* store.keepPartial(turn.id, 1, failed))
      assert.deepStrictEqual(yield* stored(turn.id), {
        ...cancelled,
        offset: offsetOf(failed),
        revision: cancelled.revision + 1,
        content: failed.content,
        parts: failed.parts,
        usage: failed.usage
      })
    }))

  it.effect("adds nothing to a message that is not cancelled", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      for (const outcome of [undefined, completed, failed]) {
        const turn = yield* newTurn
        yield* store.claim(turn)
        if (outcome !== undefined) {
          yield* store.finalize(turn.id, 1, outcome)
        }
        const before = yield* stored(turn.id)
        assert.isFalse(yield* store.keepPartial(turn.id, 1, { content: "late", parts: [], usage: Usage.zero }))
        assert.deepStrictEqual(yield* stored(turn.id), before)
      }
    }))

  it.effect("lists a message that was cancelled behind its prompt until its stop is settled", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const { conversationId } = turn
      const due = Effect.map(store.listStops({ conversationId, limit: 9 }), (stops) => stops.map(({ id }) => id))
      yield* store.claim({ ...turn, lease: { owner: "owner", millis: 4000 } })
      yield* store.recordPrompt(turn.id, 1, recordOf(turn.prompt))
      assert.deepStrictEqual(yield* due, [])
      yield* store.cancel(turn.id, "Stopped.")
      // Its owner may live.
      assert.deepStrictEqual(yield* due, [])
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(yield* due, [turn.id])
      const before = yield* stored(turn.id)
      const endedSinceMillis = (before.finishedMillis ?? 0) + 1
      assert.deepStrictEqual(yield* store.listStops({ conversationId, endedSinceMillis, limit: 9 }), [])
      assert.deepStrictEqual(yield* store.listStops({ conversationId, limit: 0 }), [])
      assert.include((yield* store.listStops({ limit: 1000 })).map(({ id }) => id), turn.id)
      yield* store.settleStop(turn.id)
      assert.deepStrictEqual(yield* due, [])
      assert.deepStrictEqual(yield* stored(turn.id), before)
    }))

  it.effect("lists a message that ended while its server was away, and none that was not prompted", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const first = yield* newTurn
      const { conversationId } = first
      const ends = [{ ...failed, isStopDue: true }, completed, undefined, { ...failed, isStopDue: true }]
      const turns = [first, ...yield* Effect.replicateEffect(newTurnOf(conversationId), 3)]
      for (const [index, turn] of turns.entries()) {
        yield* TestClock.adjust("1 second")
        yield* store.claim(turn)
        const end = ends[index]
        if (end === undefined) yield* store.cancel(turn.id, "Stopped.")
        else yield* store.finalize(turn.id, 1, end)
      }
      const due = Effect.map(store.listStops({ conversationId, limit: 9 }), (stops) => stops.map(({ id }) => id))
      const [one, , , four] = turns
      assert.deepStrictEqual(yield* due, [four?.id, one?.id])
      assert.deepStrictEqual((yield* store.listStops({ conversationId, limit: 1 })).map(({ id }) => id), [four?.id])
    }))
}
