import { assert, describe } from "@effect/vitest"
import { ConversationId, type SessionId } from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { StoreError } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as TestClock from "effect/testing/TestClock"
import * as Turns from "../support/turns.ts"

const { conversationId, messageId, names, payloads, row, test, turn } = Turns

const steps = [{ text: "Hi." }]

/** Runs the turn and advances the clock. */
const run = Effect.fnUntraced(function*<E = never, R = never>(input: Partial<TurnInput<E, R>>, seconds = 60) {
  const fiber = yield* Effect.forkChild(runTurn(turn(steps, input)))
  for (let second = 0; second < seconds && fiber.pollUnsafe() === undefined; second++) {
    yield* Turns.rest
    if (fiber.pollUnsafe() === undefined) yield* TestClock.adjust("1 seconds")
  }
  return yield* Fiber.join(fiber)
})

describe("callbacks", () => {
  test("are called in their order, before the last trace event, with the stored message", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const result = yield* run<StoreError, Turns.Services>({
        onFinalized: (message, exchange) =>
          Effect.gen(function*() {
            assert.deepStrictEqual(message, yield* row)
            assert.lengthOf(exchange?.steps ?? [], 1)
            order.push("onFinalized")
          }),
        onTurnFinished: (result) =>
          Effect.gen(function*() {
            assert.strictEqual(result.status, "completed")
            assert.notInclude(yield* names, "turn.finished")
            order.push("onTurnFinished")
          })
      })
      assert.strictEqual(result.status, "completed")
      assert.deepStrictEqual(order, ["onFinalized", "onTurnFinished"])
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test("get the row of a failed turn, and no exchange", () =>
    Effect.gen(function*() {
      const seen = yield* Ref.make<ReadonlyArray<unknown>>([])
      yield* run({
        model: Effect.fail("no"),
        onFinalized: (message, exchange) => Ref.set(seen, [message.status, exchange])
      })
      assert.deepStrictEqual(yield* Ref.get(seen), ["error", undefined])
    }))

  test("may use the store: the conversation is free for the next turn", () =>
    Effect.gen(function*() {
      const result = yield* run({
        onFinalized: () =>
          Effect.gen(function*() {
            const next = yield* runTurn(turn([{ text: "Next." }], { messageId: "next" }))
            assert.strictEqual(next.content, "Next.")
          })
      })
      assert.strictEqual(result.content, "Hi.")
      assert.deepStrictEqual(yield* Turns.reports, [])
      assert.lengthOf(yield* payloads("turn.finished"), 2)
    }))

  const bad: ReadonlyArray<readonly [string, () => Effect.Effect<void, unknown>, string, number]> = [
    ["fail", () => Effect.fail(Turns.unavailable("callback")), "StoreError", 0],
    ["die", () => Effect.die(new TypeError("a bug")), "TypeError", 0],
    [
      "throw",
      () => {
        throw new SyntaxError("thrown")
      },
      "SyntaxError",
      0
    ],
    ["interrupt themselves", () => Effect.interrupt, "Interrupt", 0],
    ["hang", () => Effect.never, "TimeoutError", 5],
    ["hang and cannot be interrupted", () => Effect.uninterruptible(Effect.sleep("1 hours")), "TimeoutError", 5]
  ]
  for (const [what, callback, errorClass, seconds] of bad) {
    for (const name of ["onFinalized", "onTurnFinished", "observer"] as const) {
      test(`that ${what} are reported, and change nothing: ${name}`, () =>
        Effect.gen(function*() {
          const calls: Array<number> = []
          const once = () => {
            calls.push(1)
            return calls.length === 1 ? callback() : Effect.void
          }
          const result = yield* run(name === "observer" ? { observers: [once] } : { [name]: once })
          assert.deepStrictEqual([result.status, result.content], ["completed", "Hi."])
          assert.deepInclude(yield* row, { status: "completed", content: "Hi." })
          const [report, ...others] = yield* Turns.reports
          assert.deepStrictEqual(others, [])
          assert.deepStrictEqual(report?.attributes, {
            feature: name,
            handled: true,
            conversation: conversationId,
            message: messageId
          })
          assert.strictEqual(report?.severity, "Warn")
          assert.deepStrictEqual(yield* payloads("callback.error"), [{ callback: name, error_class: errorClass }])
          assert.strictEqual((yield* names).at(-1), "turn.finished")
          assert.strictEqual(result.durationMillis, 0)
          assert.strictEqual(yield* Effect.clockWith((clock) => clock.currentTimeMillis), seconds * 1000)
          if (name === "observer" && seconds === 0) {
            assert.isAbove(calls.length, 1, "it is called again after it failed")
          }
          // An uninterruptible callback ends in its own time.
          yield* TestClock.adjust("1 hours")
        }))
    }
  }
})

describe("a subscriber that throws", () => {
  let broken: SessionId | undefined
  test("fails only its own turn, with a typed error; other turns of the client go on", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const halfway = [{ text: "one two three", gate: "half", gateAfter: 2 }]
      const others = yield* Effect.forEach(["m1", "m2"], (name) =>
        Effect.forkChild(runTurn(turn(halfway, { messageId: name, conversationId: name }))))
      yield* Turns.rest
      const store = yield* SessionStore
      broken = Option.getOrUndefined(yield* store.getSession(ConversationId.make("m1")))
      yield* fake.release("half")
      const [bad, good] = yield* Effect.forEach(others, Fiber.join)
      assert.deepStrictEqual([bad?.status, bad?.error?._tag], ["failed", "StreamLost"])
      assert.deepStrictEqual([good?.status, good?.content], ["completed", "one two three"])
      assert.include(yield* Turns.features, "subscriber")
    }), {
    client: (client) => ({
      subscribe: (id, subscriber) =>
        client.subscribe(id, {
          ...subscriber,
          onEvent: (event) => {
            if (event.sessionId === broken) throw new TypeError("a bug")
            subscriber.onEvent(event)
          }
        })
    })
  })
})

describe("observers", () => {
  test("get every update, each at its own pace, before the callbacks", () =>
    Effect.gen(function*() {
      const fast: Array<string> = []
      const slow: Array<string> = []
      const result = yield* run({
        observers: [
          (update) => Effect.sync(() => fast.push(update._tag)),
          (update) => Effect.delay(Effect.sync(() => slow.push(update._tag)), "500 millis")
        ],
        onFinalized: () =>
          Effect.sync(() => {
            assert.deepStrictEqual(slow, fast)
          })
      })
      assert.strictEqual(result.status, "completed")
      assert.deepStrictEqual(fast, ["Started", "PartChanged", "TextDelta", "PartChanged", "PartChanged"])
      assert.deepStrictEqual(slow, fast)
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test("that are too slow at the end get the last state, and nothing after it", () =>
    Effect.gen(function*() {
      const seen: Array<ReplyUpdate> = []
      const result = yield* run({
        observers: [(update) => Effect.delay(Effect.sync(() => seen.push(update)), "4 seconds")]
      })
      assert.strictEqual(result.status, "completed")
      assert.strictEqual((yield* names).at(-1), "turn.finished")
      assert.deepStrictEqual(seen.map(({ _tag }) => _tag), ["Started", "PartChanged", "Reset"])
      const last = seen.at(-1)
      assert.isTrue(last?._tag === "Reset" && Journal.textOf(last.parts) === "Hi." && last.reason === "overflow")
      yield* TestClock.adjust("1 minutes")
      assert.lengthOf(seen, 3)
      assert.deepStrictEqual(yield* Turns.reports, [])
      assert.strictEqual((yield* names).at(-1), "turn.finished")
    }))

  test("that fail at every update are still called, and each is reported once", () =>
    Effect.gen(function*() {
      const calls = [0, 0]
      const failing = (index: number) => () =>
        Effect.suspend(() => {
          calls[index] = (calls[index] ?? 0) + 1
          return Effect.fail("broken")
        })
      const result = yield* run({ observers: [failing(0), failing(1)] })
      assert.strictEqual(result.status, "completed")
      for (const count of calls) assert.isAbove(count, 1)
      assert.deepStrictEqual(yield* Turns.features, ["observer", "observer"])
      assert.lengthOf(yield* payloads("callback.error"), 2)
    }))

  test("that hang in every call do not block the end", () =>
    Effect.gen(function*() {
      let calls = 0
      const result = yield* run({
        observers: [() => {
          calls++
          return Effect.never
        }]
      })
      assert.strictEqual(result.status, "completed")
      // The first update, one more when it was given up, and the last state.
      assert.strictEqual(calls, 3)
      assert.strictEqual(yield* Effect.clockWith((clock) => clock.currentTimeMillis), 15_000)
      assert.deepStrictEqual(yield* Turns.features, ["observer"])
    }))

  test("that are slow block neither the stream nor the store", () =>
    Effect.gen(function*() {
      const gate = yield* Latch.make()
      const fiber = yield* Effect.forkChild(runTurn(turn(steps, { observers: [() => gate.await] })))
      yield* Turns.rest
      assert.deepInclude(yield* row, { status: "completed", content: "Hi." })
      assert.isUndefined(fiber.pollUnsafe())
      yield* gate.open
      assert.strictEqual((yield* Fiber.join(fiber)).status, "completed")
    }))

  test("have a configurable time limit", () =>
    Effect.gen(function*() {
      const start = yield* Effect.forkChild(
        runTurn(turn(steps, { onFinalized: () => Effect.never })).pipe(
          Effect.provideService(TurnPolicy.CallbackTimeout, Duration.millis(100))
        )
      )
      yield* Turns.rest
      yield* TestClock.adjust("100 millis")
      assert.strictEqual((yield* Fiber.join(start)).status, "completed")
    }))
})

describe("activity ticks", () => {
  const silent = [{ text: "Hi.", gate: "wait", gateAfter: 0 }]

  test("come every five minutes of a live stream, heartbeats being enough, and not more often", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const ticks = yield* Ref.make<ReadonlyArray<string>>([])
      const fiber = yield* Effect.forkChild(
        runTurn(turn(silent, {
          onActivityTick: (id) => Ref.update(ticks, (all) => [...all, id])
        })).pipe(Effect.provideService(TurnPolicy.Budget, { stall: Duration.infinity }))
      )
      yield* fake.reached("wait")
      yield* Turns.rest
      const counts: Array<number> = []
      for (let minute = 1; minute <= 16; minute++) {
        yield* TestClock.adjust("1 minutes")
        yield* Turns.rest
        counts.push((yield* Ref.get(ticks)).length)
      }
      assert.deepStrictEqual(counts, [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3])
      assert.deepStrictEqual(yield* Ref.get(ticks), [conversationId, conversationId, conversationId])
      yield* fake.release("wait")
      assert.strictEqual((yield* Fiber.join(fiber)).content, "Hi.")
    }))

  test("that fail come again with the next sign of life, one at a time, and then every five minutes", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const ticks: Array<number> = []
      const fiber = yield* Effect.forkChild(
        runTurn(turn(silent, {
          onActivityTick: () =>
            Effect.flatMap(
              Effect.clockWith((clock) => clock.currentTimeMillis),
              (millis) => ticks.push(millis / 1000) < 3 ? Effect.fail(Turns.unavailable("tick")) : Effect.void
            )
        }))
      )
      yield* fake.reached("wait")
      yield* Turns.rest
      for (let second = 1; second < 580; second++) {
        yield* TestClock.adjust("1 seconds")
        yield* Turns.rest
      }
      assert.deepStrictEqual(ticks, [300, 310, 320])
      yield* fake.release("wait")
      assert.strictEqual((yield* Fiber.join(fiber)).content, "Hi.")
    }))

  test("do not come while the server is silent", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const ticks = yield* Ref.make(0)
      const fiber = yield* Effect.forkChild(
        runTurn(turn(silent, { onActivityTick: () => Ref.update(ticks, (count) => count + 1) }))
      )
      yield* fake.reached("wait")
      yield* Turns.rest
      yield* fake.muteEvents
      yield* TestClock.adjust("9 minutes")
      assert.strictEqual(yield* Ref.get(ticks), 0)
      yield* fake.unmuteEvents
      yield* fake.release("wait")
      yield* TestClock.adjust("5 minutes")
      yield* Fiber.join(fiber)
    }))

  test("that hang are reported and block nothing, and none runs after the end", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* Effect.forkChild(runTurn(turn(silent, { onActivityTick: () => Effect.never })))
      yield* fake.reached("wait")
      yield* Turns.rest
      yield* TestClock.adjust("5 minutes")
      yield* fake.release("wait")
      yield* Turns.rest
      yield* TestClock.adjust("5 seconds")
      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result.status, "completed")
      yield* TestClock.adjust("1 minutes")
      assert.strictEqual((yield* names).at(-1), "turn.finished")
      assert.include((yield* payloads("callback.error")).map((payload) => payload["callback"]), "onActivityTick")
    }))
})
