import { assert, it } from "@effect/vitest"
import * as ChangeNotifier from "@opencode-turn/core/ChangeNotifier"
import { Effect, Fiber, Queue, Stream } from "effect"

/** A watcher that finishes a wake-up when it takes a turn from `turns`. */
const watch = Effect.fnUntraced(function*(notifier: ChangeNotifier.ChangeNotifier, key: string) {
  const turns = yield* Queue.unbounded<void>()
  const woken = yield* Queue.unbounded<void>()
  const fiber = yield* Effect.forkScoped(
    Stream.runForEach(notifier.watch(key), () => Effect.andThen(Queue.offer(woken, undefined), Queue.take(turns))),
    { startImmediately: true }
  )
  return { fiber, next: Effect.andThen(Queue.take(woken), Queue.offer(turns, undefined)), missed: Queue.size(woken) }
})

it.effect("wakes every watcher of a key at once and after each change, and no watcher of another key", () =>
  Effect.gen(function*() {
    const notifier = yield* ChangeNotifier.make
    const [one, two, other] = [yield* watch(notifier, "a"), yield* watch(notifier, "a"), yield* watch(notifier, "b")]
    for (const { next } of [one, two, other]) yield* next
    notifier.notify("a")
    yield* one.next
    yield* two.next
    assert.strictEqual(yield* other.missed, 0)
    notifier.notifyAll()
    for (const { next } of [one, two, other]) yield* next
  }))

it.effect("holds one wake-up for a slow watcher, however many changes come", () =>
  Effect.gen(function*() {
    const notifier = yield* ChangeNotifier.make
    const slow = yield* watch(notifier, "a")
    for (let n = 0; n < 1_000; n++) notifier.notify("a")
    yield* slow.next
    yield* slow.next
    yield* Effect.yieldNow
    assert.strictEqual(yield* slow.missed, 0)
  }))

it.effect("forgets a stopped watcher, and keeps waking the others", () =>
  Effect.gen(function*() {
    const notifier = yield* ChangeNotifier.make
    const [gone, stays] = [yield* watch(notifier, "a"), yield* watch(notifier, "a")]
    yield* gone.next
    yield* stays.next
    yield* Fiber.interrupt(gone.fiber)
    notifier.notify("a")
    yield* stays.next
    assert.strictEqual(yield* gone.missed, 0)
  }))
