/**
 * Tests of the news of a watched message, and of its revision, which distinguishes a change from no change.
 */
import { assert } from "@effect/vitest"
import { SessionStore, type StoreError } from "@opencode-turn/core/SessionStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { completed, failed, leaseOf, newTurn, newTurnOf, recordOf, stored, type StoreTests } from "./Samples.ts"

export const watching = (it: StoreTests): void => {
  it.effect("shows a watcher the message at once, and then each change from its claim to its end", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const news = yield* watch(store.changes(turn.id))
      yield* news.next
      const changes = [
        store.claim({ ...turn, lease: leaseOf("a") }),
        store.recordPrompt(turn.id, 1, recordOf(turn.prompt)),
        store.snapshot(turn.id, 1, failed),
        store.snapshot(turn.id, 1, completed),
        Effect.andThen(TestClock.adjust("1 second"), store.takeOver(turn.id, leaseOf("b"))),
        store.cancel(turn.id, "stopped"),
        store.keepPartial(turn.id, 2, completed),
        Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => store.prune(nowMillis + 1))
      ]
      for (const change of changes) {
        yield* news.forget
        yield* change
        yield* news.next
      }
    }))

  it.effect("tells all watchers of a queued message when it starts", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const next = yield* newTurnOf(turn.conversationId)
      yield* store.claim(turn)
      yield* store.claim({ ...next, whenBusy: "queue" })
      const watchers = [
        yield* watch(store.changes(next.id)),
        yield* watch(store.changes(next.id)),
        yield* watch(store.changes(turn.id))
      ]
      for (const news of watchers) {
        yield* news.next
        yield* news.forget
      }
      yield* store.finalize(turn.id, 1, completed)
      yield* store.claim(next)
      for (const news of watchers) yield* news.next
    }))

  it.effect("waits for the status and the epoch of a message, from its claim to its deletion", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const changes = [
        { make: store.claim({ ...turn, lease: leaseOf("a") }), state: "pending 1" },
        {
          make: Effect.andThen(TestClock.adjust("1 second"), store.takeOver(turn.id, leaseOf("b"))),
          state: "pending 2"
        },
        { make: store.cancel(turn.id, "stopped"), state: "cancelled 2" },
        {
          make: Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => store.prune(nowMillis + 1)),
          state: "none"
        }
      ]
      for (const { make, state } of changes) {
        const seen: Array<string> = []
        const waiting = yield* Effect.forkScoped(store.untilState(turn.id, (now) => {
          seen.push(now === undefined ? "none" : `${now.status} ${now.epoch}`)
          return seen.at(-1) === state
        }))
        yield* Effect.raceFirst(until(() => seen.length > 0), timePasses)
        assert.isUndefined(waiting.pollUnsafe())
        yield* make
        yield* Effect.raceFirst(Fiber.join(waiting), timePasses)
        // It ends at once if the condition holds already.
        yield* store.untilState(turn.id, (now) => (now === undefined ? "none" : `${now.status} ${now.epoch}`) === state)
      }
    }))

  it.effect("raises the revision by one with every change, but not with a renewal of the lease", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const revisions: Array<number> = []
      const note = Effect.map(stored(turn.id), ({ revision }) => revisions.push(revision))
      yield* store.claim({ ...turn, lease: leaseOf("a") })
      yield* note
      yield* store.renew(turn.id, 1, leaseOf("a"))
      yield* store.snapshot(turn.id, 2, completed)
      yield* note
      yield* store.snapshot(turn.id, 1, completed)
      yield* note
      yield* store.claim({ ...turn, lease: leaseOf("a") })
      yield* note
      yield* store.release(turn.id, 2)
      yield* note
      yield* store.takeOver(turn.id, leaseOf("b"))
      yield* note
      yield* store.finalize(turn.id, 3, failed)
      yield* note
      yield* Effect.exit(store.cancel(turn.id, ""))
      yield* note
      assert.deepStrictEqual(revisions, [1, 1, 2, 3, 3, 4, 5, 5])
    }))
}

/** Ten times real time. A clock that outran the responses of a database would let its connections time out. */
const timePasses = Effect.forever(
  Effect.andThen(TestClock.adjust("10 millis"), TestClock.withLive(Effect.sleep("1 milli")))
)

const until = (isTrue: () => boolean) => Effect.repeat(Effect.yieldNow, { until: isTrue })

/** Watches in the background. */
export const watch = Effect.fnUntraced(function*(changes: Stream.Stream<void, StoreError>) {
  const news = yield* Queue.unbounded<void>()
  yield* Effect.forkScoped(Stream.runForEach(changes, () => Queue.offer(news, undefined)))
  return {
    /** The next piece of news. Time passes meanwhile, for a store that polls. */
    next: Effect.raceFirst(Queue.take(news), timePasses),
    forget: Queue.clear(news)
  }
})
