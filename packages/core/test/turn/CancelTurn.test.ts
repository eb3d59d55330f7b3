import { assert, describe } from "@effect/vitest"
import { cancelTurn } from "@opencode-turn/core/CancelTurn"
import { pruneMessages } from "@opencode-turn/core/PruneMessages"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { ended, halfway, isEnded, launch, leave, messageIdOf, pass, rowOf, until } = Carrying
const { messageId, payloads, row, test } = Turns

const isIdle = Effect.gen(function*() {
  const fake = yield* FakeOpencode
  const messages = yield* Effect.forEach(yield* fake.sessions, (id) => fake.messages(id))
  return messages.flat().every(({ info }) => info.role === "user" || info.time.completed !== undefined)
})

describe("cancelTurn", () => {
  test("makes the owner stop at once, and returns the turn with the streamed reply", () =>
    Effect.gen(function*() {
      const turn = yield* launch(messageId, halfway)
      const cancel = yield* Effect.forkChild(cancelTurn(messageId))
      const { millis, value } = yield* ended(cancel)
      assert.strictEqual(millis, 0)
      assert.deepInclude(value, { status: "cancelled", content: "one two ", error: null })
      assert.deepStrictEqual(value, yield* row)
      assert.strictEqual((yield* ended(turn)).value.status, "cancelled")
      assert.lengthOf(yield* Turns.aborts, 1)
      assert.isTrue(yield* isIdle)
    }))

  test("stops the turn itself if the owner's lease is over", () =>
    Effect.gen(function*() {
      yield* leave(halfway, { stage: "posted" })
      const { millis, value } = yield* ended(yield* Effect.forkChild(cancelTurn(messageId)))
      assert.strictEqual(millis, 0)
      assert.deepInclude(value, { status: "cancelled", content: "one two " })
      assert.deepStrictEqual(value, yield* row)
      assert.lengthOf(yield* Turns.aborts, 1)
      assert.isTrue(yield* isIdle)
    }))

  test("stops the turn itself within two seconds after the owner's death", () =>
    Effect.gen(function*() {
      yield* leave(halfway, { stage: "posted", leaseMillis: 4000 })
      const cancel = yield* Effect.forkChild(cancelTurn(messageId))
      yield* Turns.rest
      assert.deepInclude(yield* row, { status: "cancelled" })
      const { millis, value } = yield* ended(cancel, 2000)
      assert.isAtMost(millis, 1500)
      assert.strictEqual(value.content, "one two ")
      assert.lengthOf(yield* Turns.aborts, 1)
      assert.isTrue(yield* isIdle)
    }))

  test("keeps the last snapshot if the server is unreachable", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const turn = yield* launch(messageId, halfway).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
      yield* Fiber.interrupt(turn)
      yield* fake.fail({ path: /./ }, Faults.status(400), Infinity)
      const { value } = yield* ended(yield* Effect.forkChild(cancelTurn(messageId)))
      assert.strictEqual(value.status, "cancelled")
      assert.deepStrictEqual(value.parts.flatMap((part) => (part.type === "text" ? [part.text] : [])), ["one two "])
      assert.deepStrictEqual(yield* Turns.features, ["abort"])
      yield* fake.clearFaults
      yield* fake.release("half")
    }))

  test("of an ended answer keeps the whole answer, and aborts nothing", () =>
    Effect.gen(function*() {
      yield* leave([{ text: "All of it." }], { stage: "posted" })
      const { value } = yield* ended(yield* Effect.forkChild(cancelTurn(messageId)))
      assert.deepInclude(value, { status: "cancelled", content: "All of it." })
      assert.lengthOf(yield* Turns.aborts, 0)
    }))

  test("does not abort another prompt's run in the session", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave([{ text: "one", ending: "hang" }], { stage: "posted", name: "old" })
      const store = yield* SessionStore
      // The earlier message was cancelled in its row only; the next turn stops its run.
      yield* store.cancel(messageIdOf("old"), "Stopped.")
      const next = yield* launch("next", halfway)
      yield* pass(2500)
      assert.lengthOf(yield* Turns.prompts, 2)
      assert.lengthOf(yield* Turns.aborts, 1)
      yield* ended(yield* Effect.forkChild(cancelTurn(messageIdOf("old"))), 2000)
      assert.lengthOf(yield* Turns.aborts, 1)
      yield* Fiber.interrupt(next)
      yield* fake.release("half")
    }))

  test("twice changes nothing the second time", () =>
    Effect.gen(function*() {
      const turn = yield* launch(messageId, halfway)
      const first = yield* ended(yield* Effect.forkChild(cancelTurn(messageId)))
      yield* ended(turn)
      const second = yield* ended(yield* Effect.forkChild(cancelTurn(messageId)), 2000)
      assert.deepStrictEqual(second.value, first.value)
      assert.lengthOf(yield* Turns.aborts, 1)
      assert.lengthOf(yield* payloads("turn.finished"), 1)
    }))

  test("of a queued turn cancels only that turn", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch("first", halfway)
      const second = yield* launch("second", [{ text: "two" }])
      const { value } = yield* ended(yield* Effect.forkChild(cancelTurn(messageIdOf("second"))))
      assert.deepInclude(value, { status: "cancelled", content: "Response was stopped." })
      assert.strictEqual((yield* ended(second, 250)).value.error?._tag, "TurnCancelled")
      yield* fake.release("half")
      assert.strictEqual((yield* ended(first)).value.status, "completed")
      assert.lengthOf(yield* Turns.aborts, 0)
    }))

  test("of a turn that has ended, or is unknown, fails", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* Effect.flip(cancelTurn(messageId)))._tag, "UnknownMessage")
      yield* runTurn(Turns.turn([{ text: "Hi." }]))
      const error = yield* Effect.flip(cancelTurn(messageId))
      assert(error._tag === "AlreadyFinished")
      assert.strictEqual(error.status, "completed")
      assert.deepInclude(yield* row, { status: "completed", content: "Hi." })
    }))
})

describe("pruneMessages", () => {
  test("deletes messages that ended before the given age, and no running or queued ones", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* ended(yield* launch("old", [{ text: "old" }]))
      yield* pass(60_000, 60_000)
      yield* ended(yield* launch("young", [{ text: "young" }]))
      const first = yield* launch("first", halfway)
      const second = yield* launch("second", [{ text: "two" }])
      yield* pass(30_000, 1000)
      assert.strictEqual(yield* Clock.currentTimeMillis, 90_000)
      assert.strictEqual(yield* pruneMessages("90 seconds"), 0)
      assert.strictEqual(yield* pruneMessages("1 minute"), 1)
      assert.isUndefined(yield* rowOf("old"))
      assert.isDefined(yield* rowOf("young"))
      yield* pass(1, 1)
      assert.strictEqual(yield* pruneMessages(0), 1)
      assert.deepStrictEqual(
        (yield* Effect.forEach(["first", "second"], rowOf)).map((row) => row?.status),
        ["pending", "queued"]
      )
      yield* fake.release("half")
      yield* ended(first)
      yield* ended(second, 500)
      yield* until(isEnded("second"), 0)
    }))
})
