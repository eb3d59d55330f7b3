import * as TurnView from "#cli/view/TurnView"
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Ref } from "effect"
import { TestClock } from "effect/testing"

it.effect("says once that a server is silent while the turn waits for it", () =>
  Effect.gen(function*() {
    const told = yield* Ref.make(0)
    const tell = Ref.update(told, (count) => count + 1)
    const waiting = yield* Effect.forkChild(TurnView.tellSilence(tell)(Effect.never))
    yield* TestClock.adjust("9 seconds")
    assert.strictEqual(yield* Ref.get(told), 0)
    yield* TestClock.adjust("1 minute")
    assert.strictEqual(yield* Ref.get(told), 1)
    yield* Fiber.interrupt(waiting)
    assert.strictEqual(yield* TurnView.tellSilence(tell)(Effect.succeed(3)), 3)
    yield* TestClock.adjust("1 minute")
    assert.strictEqual(yield* Ref.get(told), 1)
  }))
