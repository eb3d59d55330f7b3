/**
 * Tests of leases: who holds a message, who takes it over, and that a former owner cannot write.
 */
import { assert } from "@effect/vitest"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import {
  completed,
  failed,
  leaseOf,
  newTurn,
  newTurnOf,
  recordOf,
  stored,
  type StoreTests,
  terminals
} from "./Samples.ts"

export const leases = (it: StoreTests): void => {
  it.effect("stores the owner, the end of its lease and what the caller chose", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const nowMillis = yield* Clock.currentTimeMillis
      const draft = {
        agent: "build",
        model: "openrouter/anthropic/claude-sonnet-4-5",
        variant: "high",
        system: "Be brief.\u0000",
        title: "",
        permission: [{ permission: "bash", pattern: "*", action: "ask" }, {
          permission: "edit",
          pattern: "src/**",
          action: "deny"
        }],
        traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
        outputSchema: { type: "object", nested: [1, null, { deep: true }] },
        policy: { firstEventMillis: 1, budget: { wallClockMillis: 2.5, stallMillis: null }, finalExchangeMillis: 1e12 }
      } as const
      const message = yield* store.claim({ ...turn, draft, lease: { owner: "a", millis: 1_500 } })
      assert.deepInclude(message, { status: "pending", draft, owner: "a", leaseUntilMillis: nowMillis + 1_500 })
      assert.deepStrictEqual(yield* stored(turn.id), message)
      const again = yield* store.claim({ ...turn, draft: {}, lease: leaseOf("a") })
      assert.deepStrictEqual(again.draft, draft)
    }))

  it.effect("refuses a message to everybody but its owner while the lease lives, and names it", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const held = yield* store.claim({ ...turn, lease: leaseOf("a") })
      yield* TestClock.adjust("999 millis")
      for (const lease of [leaseOf("b"), undefined]) {
        for (const whenBusy of ["reject", "queue"] as const) {
          assert.deepInclude(yield* Effect.flip(store.claim({ ...turn, lease, whenBusy })), {
            _tag: "TurnInProgress",
            conversationId: turn.conversationId,
            messageId: turn.id
          })
        }
      }
      assert.deepStrictEqual(yield* store.takeOver(turn.id, leaseOf("b")), Option.none())
      assert.deepStrictEqual(yield* stored(turn.id), held)
      const nowMillis = yield* Clock.currentTimeMillis
      assert.deepInclude(yield* store.claim({ ...turn, lease: leaseOf("a") }), {
        epoch: 2,
        owner: "a",
        leaseUntilMillis: nowMillis + 1_000
      })
    }))

  it.effect("gives a message to the next claimant in the millisecond in which the lease ends", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      for (const lease of [leaseOf("b"), undefined]) {
        const turn = yield* newTurn
        yield* store.claim({ ...turn, lease: leaseOf("a") })
        yield* TestClock.adjust("1 second")
        const taken = yield* store.claim({ ...turn, lease })
        assert.deepInclude(taken, { status: "pending", epoch: 2, revision: 2, owner: lease?.owner ?? null })
        assert.deepStrictEqual(yield* stored(turn.id), taken)
      }
    }))

  it.effect("still makes another turn of the conversation wait when the lease has run out", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim({ ...turn, lease: leaseOf("a") })
      yield* TestClock.adjust("1 hour")
      const error = yield* Effect.flip(store.claim(yield* newTurnOf(turn.conversationId)))
      assert.deepInclude(error, { _tag: "TurnInProgress", messageId: turn.id })
    }))

  it.effect("takes a message over in the millisecond in which the lease ends, never before, with the next epoch", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const held = yield* store.claim({ ...turn, lease: leaseOf("a") })
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(yield* store.takeOver(turn.id, leaseOf("b")), Option.none())
      assert.deepStrictEqual(yield* store.takeOver(turn.id, leaseOf("a")), Option.none())
      yield* TestClock.adjust("1 milli")
      const nowMillis = yield* Clock.currentTimeMillis
      const taken = yield* store.takeOver(turn.id, { owner: "b", millis: 5_000 })
      assert.deepStrictEqual(
        taken,
        Option.some({
          ...held,
          epoch: 2,
          revision: 2,
          takeovers: 1,
          owner: "b",
          leaseUntilMillis: nowMillis + 5_000
        })
      )
      assert.deepStrictEqual(yield* store.getMessage(turn.id), taken)
      assert.deepStrictEqual(yield* store.takeOver(turn.id, leaseOf("c")), Option.none())
    }))

  it.effect("takes over neither what has no lease, nor what ended, nor what there is not", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const unleased = yield* newTurn
      const pending = yield* store.claim(unleased)
      const ended = yield* Effect.forEach(
        terminals,
        Effect.fnUntraced(function*(outcome) {
          const turn = yield* newTurn
          yield* store.claim({ ...turn, lease: leaseOf("a") })
          yield* store.finalize(turn.id, 1, outcome)
          return yield* stored(turn.id)
        })
      )
      yield* TestClock.adjust("1 day")
      for (const message of [pending, ...ended]) {
        assert.deepStrictEqual(yield* store.takeOver(message.id, leaseOf("b")), Option.none())
        assert.deepStrictEqual(yield* stored(message.id), message)
      }
      assert.deepStrictEqual(yield* store.takeOver((yield* newTurn).id, leaseOf("b")), Option.none())
      const orphans = yield* store.listOrphans(Infinity)
      assert.notIncludeMembers(orphans.map(({ id }) => id), [pending, ...ended].map(({ id }) => id))
    }))

  it.effect("lets a renewed lease run from now, and changes nothing else", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const held = yield* store.claim({ ...turn, lease: leaseOf("a") })
      yield* TestClock.adjust("600 millis")
      const nowMillis = yield* Clock.currentTimeMillis
      assert.isTrue(yield* store.renew(turn.id, 1, leaseOf("a")))
      assert.deepStrictEqual(yield* stored(turn.id), { ...held, leaseUntilMillis: nowMillis + 1_000 })
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(yield* store.takeOver(turn.id, leaseOf("b")), Option.none())
      assert.isTrue(yield* store.renew(turn.id, 1, { millis: 1 }))
      yield* TestClock.adjust("1 milli")
      // The lease ran out, but nobody took the message over.
      assert.isTrue(yield* store.renew(turn.id, 1, leaseOf("a")))
      assert.deepStrictEqual(yield* store.takeOver(turn.id, leaseOf("b")), Option.none())
    }))

  it.effect("renews and releases nothing of another epoch, another owner, or an ended message", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const held = yield* store.claim({ ...turn, lease: leaseOf("a") })
      assert.isFalse(yield* store.renew(turn.id, 2, leaseOf("a")))
      assert.isFalse(yield* store.renew(turn.id, 0, { millis: 9_000 }))
      assert.isFalse(yield* store.renew(turn.id, 1, leaseOf("b")))
      assert.isFalse(yield* store.release(turn.id, 2))
      assert.deepStrictEqual(yield* stored(turn.id), held)
      yield* store.finalize(turn.id, 1, completed)
      const ended = yield* stored(turn.id)
      assert.isFalse(yield* store.renew(turn.id, 1, leaseOf("a")))
      assert.isFalse(yield* store.release(turn.id, 1))
      assert.deepStrictEqual(yield* stored(turn.id), ended)
      const { id } = yield* newTurn
      assert.isFalse(yield* store.renew(id, 1, leaseOf("a")))
      assert.isFalse(yield* store.release(id, 1))
    }))

  it.effect("counts how often a pending message was taken from an owner whose lease ran out", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim({ ...turn, lease: leaseOf("a") })
      for (const owner of ["b", "c", "d"]) {
        yield* TestClock.adjust("1 second")
        yield* store.takeOver(turn.id, leaseOf(owner))
      }
      const taken = yield* stored(turn.id)
      assert.deepInclude(taken, { epoch: 4, takeovers: 3, owner: "d" })
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* store.claim({ ...turn, lease: leaseOf("e") }), { epoch: 5, takeovers: 4, owner: "e" })
      yield* store.finalize(turn.id, 5, completed)
      assert.deepInclude(yield* stored(turn.id), { takeovers: 4 })
    }))

  it.effect("counts no takeover if the owner released the message, claims it again, or had no lease", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      yield* store.claim(turn)
      yield* store.claim({ ...turn, lease: leaseOf("a") })
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* store.claim({ ...turn, lease: leaseOf("a") }), { epoch: 4, takeovers: 0 })
      yield* store.release(turn.id, 4)
      assert.deepInclude(yield* store.claim({ ...turn, lease: leaseOf("b") }), { epoch: 5, takeovers: 0 })
      yield* store.release(turn.id, 5)
      yield* TestClock.adjust("1 second")
      const taken = Option.getOrUndefined(yield* store.takeOver(turn.id, leaseOf("c")))
      assert.deepInclude(taken, { epoch: 6, takeovers: 0, owner: "c" })
    }))

  it.effect("counts no takeover of a message that only waited", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const next = yield* newTurnOf(turn.conversationId)
      yield* store.claim(turn)
      yield* store.claim({ ...next, whenBusy: "queue", lease: leaseOf("a") })
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* store.claim({ ...next, lease: leaseOf("b") }), { status: "queued", takeovers: 0 })
      yield* TestClock.adjust("1 second")
      const taken = Option.getOrUndefined(yield* store.takeOver(next.id, leaseOf("c")))
      assert.deepInclude(taken, { status: "queued", epoch: 3, takeovers: 0 })
      yield* store.cancel(turn.id, "")
      yield* TestClock.adjust("1 second")
      const comes = yield* store.claim({ ...next, lease: leaseOf("d") })
      assert.deepInclude(comes, { status: "pending", epoch: 4, takeovers: 0 })
    }))

  it.effect("knows a claimant without a lease from the owner that let the message go", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const next = yield* newTurnOf(turn.conversationId)
      yield* store.claim(turn)
      yield* store.claim({ ...next, whenBusy: "queue", lease: leaseOf("a") })
      yield* store.release(next.id, 1)
      assert.deepInclude(yield* store.claim(next), { status: "queued", epoch: 2, owner: null, leaseUntilMillis: null })
      assert.deepInclude(yield* store.claim(next), { status: "queued", epoch: 2 })
      assert.isFalse(yield* store.renew(next.id, 1, leaseOf("a")))
    }))

  it.effect("makes an orphan of a released message at once, which nobody owns", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const held = yield* store.claim({ ...turn, lease: { owner: "a", millis: 3_600_000 } })
      const nowMillis = yield* Clock.currentTimeMillis
      assert.isTrue(yield* store.release(turn.id, 1))
      assert.deepStrictEqual(yield* stored(turn.id), { ...held, owner: null, leaseUntilMillis: nowMillis })
      assert.isFalse(yield* store.renew(turn.id, 1, leaseOf("a")))
      assert.include((yield* store.listOrphans(Infinity)).map(({ id }) => id), turn.id)
      assert.isTrue(Option.isSome(yield* store.takeOver(turn.id, leaseOf("b"))))
    }))

  it.effect("lists pending and queued messages whose lease ran out, those first claimed first", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const first = yield* newTurn
      const second = yield* newTurn
      const waiter = yield* newTurnOf(first.conversationId)
      const living = yield* newTurn
      yield* store.claim({ ...first, lease: { owner: "a", millis: 900 } })
      yield* store.claim({ ...second, lease: { owner: "a", millis: 500 } })
      yield* store.claim({ ...waiter, lease: { owner: "a", millis: 700 }, whenBusy: "queue" })
      yield* store.claim({ ...living, lease: { owner: "a", millis: 901 } })
      const ours = [first, second, waiter, living].map(({ id }) => id)
      const list = (limit: number) => store.listOrphans(limit)
      const orphans = Effect.map(list(Infinity), (all) => all.map(({ id }) => id).filter((id) => ours.includes(id)))
      yield* TestClock.adjust("499 millis")
      assert.deepStrictEqual(yield* orphans, [])
      yield* TestClock.adjust("1 milli")
      assert.deepStrictEqual(yield* orphans, [second.id])
      yield* TestClock.adjust("400 millis")
      assert.deepStrictEqual(yield* orphans, [first.id, second.id, waiter.id])
      const all = yield* list(Infinity)
      for (const limit of [1, 2, 2.9]) assert.deepStrictEqual(yield* list(limit), all.slice(0, Math.floor(limit)))
      for (const limit of [0, -1, NaN]) assert.deepStrictEqual(yield* list(limit), [])
      assert.include(
        all,
        yield* stored(first.id).pipe(Effect.map((message) => all.find(({ id }) => id === message.id)))
      )
      yield* store.cancel(first.id, "")
      yield* store.takeOver(second.id, leaseOf("b"))
      assert.deepStrictEqual(yield* orphans, [waiter.id])
    }))

  it.effect("fences an owner out once its message was taken over, whatever it writes", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim({ ...turn, lease: leaseOf("a") })
      assert.isTrue(yield* store.snapshot(turn.id, 1, failed))
      yield* TestClock.adjust("1 second")
      const taken = yield* Effect.fromOption(yield* store.takeOver(turn.id, { owner: "b", millis: 60_000 }))
      yield* TestClock.adjust("1 second")
      assert.isFalse(yield* store.recordPrompt(turn.id, 1, recordOf(turn.prompt)))
      assert.isFalse(yield* store.snapshot(turn.id, 1, completed))
      for (const outcome of terminals) assert.isFalse(yield* store.finalize(turn.id, 1, outcome))
      assert.isFalse(yield* store.keepPartial(turn.id, 1, completed))
      assert.isFalse(yield* store.renew(turn.id, 1, leaseOf("a")))
      assert.isFalse(yield* store.renew(turn.id, 1, { millis: 1_000 }))
      assert.isFalse(yield* store.release(turn.id, 1))
      assert.deepStrictEqual(yield* stored(turn.id), taken)

      assert.isTrue(yield* store.recordPrompt(turn.id, 2, recordOf(turn.prompt)))
      assert.isTrue(yield* store.snapshot(turn.id, 2, completed))
      assert.isTrue(yield* store.renew(turn.id, 2, leaseOf("b")))
      yield* store.cancel(turn.id, "stopped")
      assert.isFalse(yield* store.keepPartial(turn.id, 1, completed))
      assert.isTrue(yield* store.keepPartial(turn.id, 2, completed))
    }))
}
