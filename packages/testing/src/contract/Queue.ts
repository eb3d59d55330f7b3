/**
 * Tests of a conversation's queue: who waits, who comes next, and what happens to messages without a claimant.
 */
import { assert } from "@effect/vitest"
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import {
  completed,
  leaseOf,
  newConversation,
  newTurn,
  newTurnOf,
  numbers,
  recordOf,
  stored,
  type StoreTests,
  terminals
} from "./Samples.ts"

export const queue = (it: StoreTests): void => {
  it.effect("starts a message that may wait at once if no other message is before it", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      assert.deepInclude(yield* store.claim({ ...turn, whenBusy: "queue", maxQueued: 0 }), {
        status: "pending",
        epoch: 1
      })
    }))

  it.effect("finds the pending message whose lease ran out, whatever else the conversation holds", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const find = store.findOrphan(turn.conversationId)
      assert.isTrue(Option.isNone(yield* find))
      yield* store.claim({ ...turn, lease: leaseOf("a") })
      for (let n = 0; n < 30; n++) {
        const next = yield* newTurnOf(turn.conversationId)
        yield* store.claim({ ...next, whenBusy: "queue", lease: leaseOf("b") })
        if (n % 2 === 0) yield* store.cancel(next.id, "")
      }
      assert.isTrue(Option.isNone(yield* find), "its lease lives")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* find, Option.some(turn.id))
      yield* store.takeOver(turn.id, leaseOf("c"))
      assert.isTrue(Option.isNone(yield* find), "it was taken over")
    }))

  it.effect("queues a message behind a pending one, and lets only a cancel change it", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const next = yield* newTurnOf(turn.conversationId)
      const pending = yield* store.claim(turn)
      yield* TestClock.adjust("1 second")
      const createdMillis = yield* Clock.currentTimeMillis
      const queued = yield* store.claim({ ...next, whenBusy: "queue" })
      assert.deepStrictEqual(queued, {
        ...pending,
        id: next.id,
        position: queued.position,
        status: "queued",
        createdMillis
      })
      assert.isAbove(queued.position, pending.position)
      assert.isFalse(yield* store.recordPrompt(next.id, 1, recordOf(next.prompt)))
      assert.isFalse(yield* store.snapshot(next.id, 1, completed))
      for (const outcome of terminals) assert.isFalse(yield* store.finalize(next.id, 1, outcome))
      assert.isFalse(yield* store.keepPartial(next.id, 1, completed))
      assert.deepStrictEqual(yield* stored(next.id), queued)
      assert.deepStrictEqual(yield* store.listMessages(turn.conversationId, 10), [pending, queued])
    }))

  it.effect("keeps a message queued while it must wait, with the new lease alone", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const next = yield* newTurnOf(turn.conversationId)
      yield* store.claim(turn)
      const queued = yield* store.claim({ ...next, whenBusy: "queue", lease: leaseOf("a") })
      yield* TestClock.adjust("400 millis")
      const nowMillis = yield* Clock.currentTimeMillis
      // This also applies to a claimant that would not have waited.
      for (const whenBusy of ["queue", "reject"] as const) {
        assert.deepStrictEqual(yield* store.claim({ ...next, whenBusy, maxQueued: 0, lease: leaseOf("a") }), {
          ...queued,
          leaseUntilMillis: nowMillis + 1_000
        })
      }
      assert.isTrue(yield* store.renew(next.id, 1, { owner: "a", millis: 5_000 }))
      assert.deepStrictEqual(yield* stored(next.id), { ...queued, leaseUntilMillis: nowMillis + 5_000 })
    }))

  it.effect.each(terminals)(
    "lets the waiting message in, in the same epoch, once the one before it is $status",
    (outcome) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        const next = yield* newTurnOf(turn.conversationId)
        yield* store.claim(turn)
        const queued = yield* store.claim({ ...next, whenBusy: "queue", lease: leaseOf("a") })
        yield* store.finalize(turn.id, 1, outcome)
        yield* TestClock.adjust("100 millis")
        const nowMillis = yield* Clock.currentTimeMillis
        const promoted = yield* store.claim({ ...next, lease: leaseOf("a") })
        assert.deepStrictEqual(promoted, {
          ...queued,
          status: "pending",
          revision: 2,
          leaseUntilMillis: nowMillis + 1_000
        })
        assert.deepStrictEqual(yield* stored(next.id), promoted)
        assert.isTrue(yield* store.finalize(next.id, 1, completed))
      })
  )

  it.effect("refuses a queued message to others while its lease lives, and names it", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const next = yield* newTurnOf(turn.conversationId)
      yield* store.claim(turn)
      const queued = yield* store.claim({ ...next, whenBusy: "queue", lease: leaseOf("a") })
      for (const isFree of [false, true]) {
        if (isFree) yield* store.finalize(turn.id, 1, completed)
        for (const lease of [leaseOf("b"), undefined]) {
          const error = yield* Effect.flip(store.claim({ ...next, whenBusy: "queue", lease }))
          assert.deepInclude(error, { _tag: "TurnInProgress", messageId: next.id })
        }
      }
      assert.deepStrictEqual(yield* stored(next.id), queued)
    }))

  it.effect("refuses a claim with the id of the pending message, or of the oldest queued one", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const [second, third, late] = [
        yield* newTurnOf(turn.conversationId),
        yield* newTurnOf(turn.conversationId),
        yield* newTurnOf(turn.conversationId)
      ]
      yield* store.claim(turn)
      yield* store.claim({ ...second, whenBusy: "queue" })
      yield* store.claim({ ...third, whenBusy: "queue", lease: leaseOf("a") })
      assert.deepInclude(yield* Effect.flip(store.claim(late)), { _tag: "TurnInProgress", messageId: turn.id })
      yield* store.cancel(turn.id, "")
      assert.deepInclude(yield* Effect.flip(store.claim(late)), { _tag: "TurnInProgress", messageId: second.id })
      assert.deepInclude(yield* store.claim({ ...late, whenBusy: "queue" }), { status: "queued" })
    }))

  it.effect("starts 10 messages that queued at once one after the other in their order, whichever polls first", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const conversationId = yield* newConversation
      const first = yield* newTurnOf(conversationId)
      yield* store.claim(first)
      const turns = yield* Effect.replicateEffect(newTurnOf(conversationId), 10)
      const claimAll = (open: ReadonlyArray<(typeof turns)[number]>) =>
        Effect.forEach(
          open,
          (turn) => store.claim({ ...turn, whenBusy: "queue", lease: { owner: turn.id, millis: 60_000 } }),
          { concurrency: "unbounded" }
        )
      assert.isTrue((yield* claimAll(turns)).every(({ epoch, status }) => status === "queued" && epoch === 1))
      const order = (yield* store.listMessages(conversationId, 10)).map(({ id }) => id)

      yield* store.finalize(first.id, 1, completed)
      const served: Array<AssistantMessageId> = []
      while (served.length < turns.length) {
        const open = turns.filter(({ id }) => !served.includes(id))
        // The youngest asks first, and again after the others.
        const asked = yield* claimAll(open.toReversed())
        const again = yield* claimAll(open.toReversed())
        const pending = [...asked, ...again].filter(({ status }) => status === "pending")
        const winners = new Set(pending.map(({ id }) => id))
        assert.strictEqual(winners.size, 1)
        for (const id of winners) {
          served.push(id)
          assert.isTrue(yield* store.finalize(id, (yield* stored(id)).epoch, completed))
        }
      }
      assert.deepStrictEqual(served, order)
    }))

  it.effect("skips a queued message whose owner is gone, and keeps its place for a new owner", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const dead = yield* newTurnOf(turn.conversationId)
      const living = yield* newTurnOf(turn.conversationId)
      yield* store.claim(turn)
      yield* store.claim({ ...dead, whenBusy: "queue", lease: leaseOf("dead") })
      yield* store.claim({ ...living, whenBusy: "queue", lease: { owner: "living", millis: 60_000 } })
      yield* store.finalize(turn.id, 1, completed)
      yield* TestClock.adjust("999 millis")
      assert.deepInclude(yield* store.claim({ ...living, lease: leaseOf("living") }), { status: "queued" })
      yield* TestClock.adjust("1 milli")
      assert.deepInclude(yield* store.claim({ ...living, lease: leaseOf("living") }), { status: "pending", epoch: 1 })

      const taken = yield* store.takeOver(dead.id, { owner: "rescuer", millis: 60_000 })
      assert.deepInclude(Option.getOrUndefined(taken), { status: "queued", epoch: 2, owner: "rescuer" })
      const lost = yield* Effect.flip(store.claim({ ...dead, lease: leaseOf("dead") }))
      assert.deepInclude(lost, { _tag: "TurnInProgress", messageId: dead.id })
      assert.isFalse(yield* store.renew(dead.id, 1, leaseOf("dead")))

      const late = yield* newTurnOf(turn.conversationId)
      yield* store.claim({ ...late, whenBusy: "queue" })
      yield* store.finalize(living.id, 1, completed)
      assert.deepInclude(yield* store.claim(late), { status: "queued" })
      assert.deepInclude(yield* store.claim({ ...dead, lease: leaseOf("rescuer") }), { status: "pending", epoch: 2 })
    }))

  it.effect("raises the epoch of a waiting message that another claimant takes when the lease has run out", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const next = yield* newTurnOf(turn.conversationId)
      yield* store.claim(turn)
      yield* store.claim({ ...next, whenBusy: "queue", lease: leaseOf("a") })
      yield* TestClock.adjust("1 second")
      const waits = { status: "queued", epoch: 2, revision: 2, owner: "b" } as const
      assert.deepInclude(yield* store.claim({ ...next, lease: leaseOf("b") }), waits)
      yield* store.cancel(turn.id, "")
      yield* TestClock.adjust("1 second")
      const comes = { status: "pending", epoch: 3, revision: 3, owner: "c" } as const
      assert.deepInclude(yield* store.claim({ ...next, lease: leaseOf("c") }), comes)
      assert.deepInclude(yield* stored(next.id), comes)
    }))

  it.effect("is not held up by a conversation whose waiting messages have all lost their claimants", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      yield* store.claim({ ...(yield* newTurnOf(turn.conversationId)), whenBusy: "queue", lease: leaseOf("dead") })
      yield* store.finalize(turn.id, 1, completed)
      yield* TestClock.adjust("1 second")
      for (const whenBusy of ["reject", "queue"] as const) {
        const next = yield* newTurnOf(turn.conversationId)
        assert.deepInclude(yield* store.claim({ ...next, whenBusy }), { status: "pending" })
        yield* store.finalize(next.id, 1, completed)
      }
    }))

  it.effect("queues exactly as many as may be queued when more come at once, and has room again when one goes", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      const join = Effect.flatMap(
        newTurnOf(turn.conversationId),
        (next) => Effect.result(store.claim({ ...next, whenBusy: "queue", maxQueued: 3 }))
      )
      const results = yield* Effect.forEach(numbers(20), () => join, { concurrency: "unbounded" })
      const queued = results.filter(Result.isSuccess).map(({ success }) => success)
      assert.deepStrictEqual(queued.map(({ status }) => status), ["queued", "queued", "queued"])
      for (const { failure } of results.filter(Result.isFailure)) {
        assert.deepInclude(failure, { _tag: "TurnInProgress", messageId: turn.id })
      }
      yield* store.cancel(queued[1]?.id ?? turn.id, "")
      assert.deepInclude(Result.getOrUndefined(yield* join), { status: "queued" })
      assert.isTrue(Result.isFailure(yield* join))
    }))

  it.effect("cancels a queued message, and lets those behind it come earlier", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const [second, third] = [yield* newTurnOf(turn.conversationId), yield* newTurnOf(turn.conversationId)]
      yield* store.claim(turn)
      const queued = yield* store.claim({ ...second, whenBusy: "queue", lease: leaseOf("a") })
      yield* store.claim({ ...third, whenBusy: "queue" })
      yield* TestClock.adjust("10 millis")
      const finishedMillis = yield* Clock.currentTimeMillis
      const cancelled = yield* store.cancel(second.id, "Never mind.")
      assert.deepStrictEqual(cancelled, {
        ...queued,
        status: "cancelled",
        content: "Never mind.",
        isFallback: true,
        revision: 2,
        finishedMillis
      })
      assert.deepStrictEqual(yield* store.claim({ ...second, lease: leaseOf("a") }), cancelled)
      assert.isFalse(yield* store.renew(second.id, 1, leaseOf("a")))
      yield* store.finalize(turn.id, 1, completed)
      assert.deepInclude(yield* store.claim(third), { status: "pending" })
    }))
}
