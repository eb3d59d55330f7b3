import { finalize } from "#store/Finalize"
import { assert, describe } from "@effect/vitest"
import type { Outcome } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import * as Usage from "@opencode-turn/core/Usage"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Ref from "effect/Ref"
import * as TestClock from "effect/testing/TestClock"
import * as Make from "../support/make.ts"
import * as Turns from "../support/turns.ts"

const { conversationId, messageId, names, row, test, turn } = Turns

const outcome: Outcome = {
  status: "completed",
  content: "Hi.",
  parts: [Make.text("a", "Hi.")],
  usage: Usage.zero,
  error: null
}
const claim = Effect.flatMap(SessionStore, (store) => store.claim({ id: messageId, conversationId, prompt: [] }))

/** Runs the turn and advances the clock through the store's retries. */
const run = Effect.gen(function*() {
  const finalized = yield* Ref.make(0)
  const fiber = yield* Effect.forkChild(
    Effect.exit(
      runTurn(turn([{ text: "Hi." }], { onFinalized: () => Ref.update(finalized, (count) => count + 1) }))
    )
  )
  for (let second = 0; second < 12 && fiber.pollUnsafe() === undefined; second++) {
    yield* Turns.rest
    yield* TestClock.adjust("1 seconds")
  }
  return { exit: yield* Fiber.join(fiber), finalized: yield* Ref.get(finalized) }
})

/** Loses or refuses the store's responses to the first `times` terminal writes. */
const failing = (times: number, isApplied: boolean): Turns.Options => ({
  store: (store) => {
    let failures = 0
    return {
      finalize: (...args) =>
        Effect.suspend(() => {
          if (failures >= times) return store.finalize(...args)
          failures++
          const error = Effect.fail(Turns.unavailable("finalize"))
          return isApplied ? Effect.andThen(store.finalize(...args), error) : error
        })
    }
  }
})

describe("the terminal write", () => {
  test("is made once", () =>
    Effect.gen(function*() {
      yield* claim
      const first = yield* finalize(messageId, 1, outcome)
      assert.isTrue(first.isOurs)
      assert.deepStrictEqual(first.message, yield* row)
    }))

  test("is refused to a worker that lost its message to a takeover", () =>
    Effect.gen(function*() {
      yield* claim
      yield* claim
      const error = yield* Effect.flip(finalize(messageId, 1, outcome))
      assert.strictEqual(error._tag, "TurnTakenOver")
      assert.deepInclude(yield* row, { status: "pending", epoch: 2 })
    }))

  test("is not taken for a worker's own if another worker ended the message in the same way", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      yield* claim
      yield* claim
      yield* store.finalize(messageId, 2, outcome)
      const error = yield* Effect.flip(finalize(messageId, 1, outcome))
      assert.strictEqual(error._tag, "TurnTakenOver")
    }))

  test("after another end changes nothing, and is not ours", () =>
    Effect.gen(function*() {
      yield* claim
      const { message } = yield* finalize(messageId, 1, outcome)
      const late = yield* finalize(messageId, 1, {
        ...outcome,
        content: "Sorry.",
        status: "error",
        error: { tag: "Upstream", message: "no" }
      })
      assert.deepStrictEqual(late, { message, isOurs: false })
      assert.deepStrictEqual(yield* row, message)
    }))

  let kept = 0
  test(
    "adds the streamed reply to a cancelled message, although the store fails for a moment",
    () =>
      Effect.gen(function*() {
        yield* claim
        yield* Turns.cancel
        const fiber = yield* Effect.forkChild(finalize(messageId, 1, outcome))
        yield* Turns.rest
        yield* TestClock.adjust("1 seconds")
        assert.deepInclude((yield* Fiber.join(fiber)).message, { status: "cancelled", content: "Hi." })
        assert.strictEqual(kept, 2)
      }),
    {
      store: (store) => ({
        keepPartial: (...args) =>
          Effect.suspend(() =>
            kept++ === 0 ? Effect.fail(Turns.unavailable("keepPartial")) : store.keepPartial(...args)
          )
      })
    }
  )

  test("loses to a cancel, and adds the streamed reply to it", () =>
    Effect.gen(function*() {
      yield* claim
      yield* Turns.cancel
      const lost = yield* finalize(messageId, 1, outcome)
      assert.isFalse(lost.isOurs)
      assert.deepInclude(lost.message, { status: "cancelled", content: "Hi.", isFallback: false, parts: outcome.parts })
    }))

  test("leaves the words of the cancel if it loses without text of the agent", () =>
    Effect.gen(function*() {
      yield* claim
      yield* Turns.cancel
      for (const words of [{ content: "Sorry.", isFallback: true }, { content: "" }]) {
        const lost = yield* finalize(messageId, 1, { ...outcome, ...words, finish: "stop" })
        assert.deepInclude(lost.message, { content: "Stopped.", isFallback: true, finish: null, parts: outcome.parts })
      }
    }))

  test("is recognised as ours after its response was lost", () =>
    Effect.gen(function*() {
      const { exit, finalized } = yield* run
      assert(Exit.isSuccess(exit))
      assert.strictEqual(exit.value.status, "completed")
      assert.strictEqual(finalized, 1)
      assert.deepInclude(yield* row, { status: "completed", content: "Hi." })
    }), failing(1, true))

  test("is retried", () =>
    Effect.gen(function*() {
      const { exit, finalized } = yield* run
      assert(Exit.isSuccess(exit))
      assert.strictEqual(exit.value.status, "completed")
      assert.strictEqual(finalized, 1)
    }), failing(2, false))

  test("fails the effect if the store stays broken, and announces no end", () =>
    Effect.gen(function*() {
      const { exit, finalized } = yield* run
      assert(Exit.isFailure(exit))
      assert.deepInclude(exit.cause.reasons[0], { _tag: "Fail", error: Turns.unavailable("finalize") })
      assert.strictEqual(finalized, 0)
      assert.deepInclude(yield* row, { status: "pending" })
      assert.notInclude(yield* names, "turn.finished")
    }), failing(100, false))

  test("fails the effect in time if the store hangs", () =>
    Effect.gen(function*() {
      const { exit } = yield* run
      assert(Exit.isFailure(exit))
      const [reason] = exit.cause.reasons
      assert(reason?._tag === "Fail")
      assert.strictEqual(reason.error.message, "the store failed (finalize): it did not answer within 5000 ms")
      assert.strictEqual(yield* Effect.clockWith((clock) => clock.currentTimeMillis), 5000)
    }), { store: () => ({ finalize: () => Effect.never, renew: () => Effect.never }) })
})
