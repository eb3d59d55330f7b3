/**
 * Tests of races: among any number of concurrent callers one wins, and the others learn it.
 */
import { assert } from "@effect/vitest"
import { SessionStore } from "@opencode-turn/core/SessionStore"
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
  race,
  stored,
  type StoreTests
} from "./Samples.ts"

export const races = (it: StoreTests, rounds: number): void => {
  /** The number of concurrent rounds: enough to load a database, but not more than its connections. */
  const inBatches = <E>(round: (n: number) => Effect.Effect<void, E, SessionStore>) =>
    Effect.forEach(numbers(rounds), round, { concurrency: 50, discard: true })

  it.effect(`has one winner whenever a cancel races the terminal write (${rounds} rounds), and keeps its content`, () =>
    inBatches(Effect.fnUntraced(function*(n) {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      const cancel = Effect.map(Effect.result(store.cancel(turn.id, "stopped")), (cancelled) => ({ cancelled }))
      const finalize = Effect.map(store.finalize(turn.id, 1, completed), (isFinalized) => ({ isFinalized }))
      const { cancelled, isFinalized } = n % 2 === 0 ? yield* race(cancel, finalize) : yield* race(finalize, cancel)
      const message = yield* stored(turn.id)
      assert.strictEqual(message.revision, 2)
      if (isFinalized) {
        assert.deepInclude(message, completed)
        assert.deepNestedInclude(cancelled, { "failure._tag": "AlreadyFinished" })
      } else {
        assert.deepInclude(message, { status: "cancelled", content: "stopped", parts: [] })
        assert.deepNestedInclude(cancelled, { _tag: "Success", success: message })
      }
    })))

  it.effect("gives a message that has no row yet to one of 100 owners, and names it to the others", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const results = yield* Effect.forEach(
        numbers(100),
        (n) => Effect.result(store.claim({ ...turn, lease: leaseOf(`owner ${n}`) })),
        { concurrency: "unbounded" }
      )
      const winners = results.filter(Result.isSuccess).map(({ success }) => success)
      assert.deepStrictEqual(winners, [yield* stored(turn.id)])
      for (const { failure } of results.filter(Result.isFailure)) {
        assert.deepInclude(failure, { _tag: "TurnInProgress", messageId: turn.id })
      }
    }))

  it.effect("lets one of 100 concurrent turns of a conversation in, and the others wait", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const conversationId = yield* newConversation
      const join = Effect.flatMap(newTurnOf(conversationId), (turn) => store.claim({ ...turn, whenBusy: "queue" }))
      const claimed = yield* Effect.forEach(numbers(100), () => join, { concurrency: "unbounded" })
      assert.lengthOf(claimed.filter(({ status }) => status === "pending"), 1)
      assert.lengthOf(claimed.filter(({ status }) => status === "queued"), 99)
    }))

  it.effect.each(["pending", "queued"] as const)(
    "gives an orphan that is %s to one of 100 takers, but to no taker during its lease",
    (status) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const conversationId = yield* newConversation
        if (status === "queued") yield* store.claim(yield* newTurnOf(conversationId))
        const turn = yield* newTurnOf(conversationId)
        const held = yield* store.claim({ ...turn, whenBusy: "queue", lease: leaseOf("gone") })
        assert.strictEqual(held.status, status)
        const takers = Effect.map(
          Effect.forEach(numbers(100), (n) => store.takeOver(turn.id, leaseOf(`taker ${n}`)), {
            concurrency: "unbounded"
          }),
          (taken) => taken.flatMap(Option.toArray)
        )
        yield* TestClock.adjust("999 millis")
        assert.deepStrictEqual(yield* takers, [])
        assert.deepStrictEqual(yield* stored(turn.id), held)
        yield* TestClock.adjust("1 milli")
        const winners = yield* takers
        assert.deepStrictEqual(winners, [yield* stored(turn.id)])
        assert.deepInclude(winners[0], { status, epoch: 2 })
        assert.match(winners[0]?.owner ?? "", /^taker \d+$/)
      })
  )

  it.effect("has one winner whenever a taker races the late terminal write of the owner", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turns = yield* Effect.replicateEffect(newTurn, 100)
      yield* Effect.forEach(turns, (turn) => store.claim({ ...turn, lease: leaseOf("late") }), { concurrency: 50 })
      yield* TestClock.adjust("1 second")
      const round = Effect.fnUntraced(function*(turn: (typeof turns)[number], n: number) {
        const take = Effect.map(store.takeOver(turn.id, leaseOf("taker")), (taken) => ({ taken }))
        const finalize = Effect.map(store.finalize(turn.id, 1, completed), (isFinalized) => ({ isFinalized }))
        const { isFinalized, taken } = n % 2 === 0 ? yield* race(take, finalize) : yield* race(finalize, take)
        assert.strictEqual(Option.isSome(taken), !isFinalized)
        assert.deepInclude(
          yield* stored(turn.id),
          isFinalized ? { status: "completed", epoch: 1, revision: 2 } : { status: "pending", epoch: 2, revision: 2 }
        )
      })
      yield* Effect.forEach(turns, round, { concurrency: 50, discard: true })
    }))
}
