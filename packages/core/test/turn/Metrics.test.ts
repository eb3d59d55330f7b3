import { assert, describe, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import * as Metrics from "@opencode-turn/core/Metrics"
import { StoreError } from "@opencode-turn/core/SessionStore"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as Carrying from "../support/carrying.ts"
import { all, fresh, named } from "../support/metrics.ts"
import * as Turns from "../support/turns.ts"

const { ended, halfway, launch, leave, pass } = Carrying

const test: typeof Turns.test = (name, body, options) => Turns.test(name, () => fresh(body()), options)

const bash = { tool: "bash", args: { command: "ls" } }
const permission = [{ permission: "bash", pattern: "*", action: "ask" } as const]

describe("the metrics of a process", () => {
  it.effect("are all registered with nothing in them, so that an alert sees the first increase", () =>
    fresh(Effect.gen(function*() {
      yield* Metrics.register
      const registered = yield* all
      assert.deepStrictEqual([...new Set(Object.keys(registered).map((name) => name.split(" ")[0]))].toSorted(), [
        "opencode_turn.ask.duration",
        "opencode_turn.asks.open",
        "opencode_turn.journal.failures",
        "opencode_turn.journal.lag",
        "opencode_turn.lease.late",
        "opencode_turn.model.retries",
        "opencode_turn.queue.duration",
        "opencode_turn.stream.gaps",
        "opencode_turn.takeovers",
        "opencode_turn.time",
        "opencode_turn.turn.duration",
        "opencode_turn.turns",
        "opencode_turn.turns.orphaned",
        "opencode_turn.turns.queued",
        "opencode_turn.turns.running",
        "opencode_turn.turns.waiting"
      ])
      for (const value of Object.values(registered)) assert.deepStrictEqual([value].flat().filter((n) => n !== 0), [])
    })))

  test("count turns by status and error, and how long they took", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch("m1", halfway)
      assert.deepInclude(yield* named("opencode_turn.turns"), { "opencode_turn.turns.running": 1 })
      yield* pass(3000)
      yield* fake.release("half")
      yield* ended(first)
      yield* ended(yield* launch("m2", [{ fail: 400, message: "no" }]), 60_000)
      const third = yield* launch("m3", [{ text: "one two", gate: "other", gateAfter: 1 }])
      yield* Fiber.interrupt(third)
      const counted = yield* named("opencode_turn.turn")
      assert.deepInclude(counted, {
        "opencode_turn.turns completed": 1,
        "opencode_turn.turns error Upstream": 1,
        "opencode_turn.turns cancelled TurnCancelled": 1,
        "opencode_turn.turns.running": 0
      })
      assert.deepStrictEqual(counted["opencode_turn.turn.duration completed"], [1, 3])
    }))

  test("count the turns that wait for the turns before them, and how long they waited", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch("m1", halfway)
      const others = yield* Effect.forEach(["m2", "m3"], (name) => launch(name, [{ text: name }]))
      assert.deepInclude(yield* named("opencode_turn.turns"), {
        "opencode_turn.turns.running": 1,
        "opencode_turn.turns.queued": 2
      })
      yield* pass(8000)
      yield* fake.release("half")
      yield* ended(first)
      for (const other of others) yield* ended(other, 10_000)
      const counted = yield* all
      assert.deepInclude(counted, { "opencode_turn.turns.running": 0, "opencode_turn.turns.queued": 0 })
      assert.deepStrictEqual(counted["opencode_turn.queue.duration"], [2, 16])
    }))

  test("count open asks and the turns that wait for a person, and how long the asks waited", () =>
    Effect.gen(function*() {
      const answering = Effect.provideService(
        HumanGate.HumanGate,
        () => Effect.as(Effect.sleep("90 seconds"), { _tag: "Permission", reply: { reply: "once" } } as const)
      )
      const fiber = yield* answering(launch("m1", [{ tools: [bash, bash] }, { text: "done" }], { permission }))
      assert.deepInclude(yield* all, {
        "opencode_turn.turns.running": 1,
        "opencode_turn.turns.waiting": 1,
        "opencode_turn.asks.open permission": 2
      })
      yield* pass(100_000, 5000)
      yield* ended(fiber)
      const counted = yield* all
      assert.deepInclude(counted, {
        "opencode_turn.turns.running": 0,
        "opencode_turn.turns.waiting": 0,
        "opencode_turn.asks.open permission": 0
      })
      assert.deepStrictEqual(counted["opencode_turn.ask.duration permission"], [2, 180])
    }))

  test("no longer count a turn as one that waits for a person once somebody else answered", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const waiting = Effect.provideService(HumanGate.HumanGate, HumanGate.wait)
      const fiber = yield* waiting(launch("m1", [{ tools: [bash] }, { text: "done" }], { permission }))
      yield* pass(5000)
      for (const { id } of yield* client.permissions) yield* client.answerPermission(id, { reply: "once" })
      yield* ended(fiber, 5000)
      const counted = yield* all
      assert.deepInclude(counted, { "opencode_turn.turns.waiting": 0, "opencode_turn.asks.open permission": 0 })
      assert.deepStrictEqual(counted["opencode_turn.ask.duration permission"], [1, 5])
    }))

  test("no longer count a turn that was stopped while it waited for a person", () =>
    Effect.gen(function*() {
      const waiting = Effect.provideService(HumanGate.HumanGate, HumanGate.wait)
      const fiber = yield* waiting(launch("m1", [{ tools: [bash] }, { text: "done" }], { permission }))
      assert.deepInclude(yield* all, { "opencode_turn.turns.waiting": 1 })
      yield* Fiber.interrupt(fiber)
      assert.deepInclude(yield* all, {
        "opencode_turn.turns.running": 0,
        "opencode_turn.turns.waiting": 0,
        "opencode_turn.asks.open permission": 0
      })
    }))

  test("count gaps of the stream", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch("m1", halfway)
      for (let cut = 0; cut < 2; cut++) {
        yield* fake.cutEvents
        yield* pass(5000)
      }
      yield* fake.release("half")
      yield* ended(fiber, 5000)
      assert.deepInclude(yield* all, { "opencode_turn.stream.gaps": 2, "opencode_turn.turns completed": 1 })
    }))

  test("count the turns that a worker finds without an owner, and those that it takes over", () =>
    Effect.gen(function*() {
      for (const name of ["m1", "m2"]) yield* leave([{ text: "done" }], { stage: "posted", name, conversation: name })
      yield* Effect.gen(function*() {
        yield* Turns.rest
        assert.deepInclude(yield* all, { "opencode_turn.turns.orphaned": 2, "opencode_turn.takeovers": 2 })
        yield* pass(10_000)
        assert.deepInclude(yield* all, { "opencode_turn.turns.orphaned": 0, "opencode_turn.turns completed": 2 })
      }).pipe(Effect.provide(Layer.fresh(TurnWorker.layer())))
    }))

  test("tell how far the journal is behind", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch("m1", halfway)
      yield* pass(1000)
      const { "opencode_turn.journal.lag": lag = [0, 0] } = yield* all
      assert.deepStrictEqual(lag, [1, 0.5])
      yield* fake.release("half")
      yield* ended(fiber, 1000)
    }))

  let isAway = true
  test("count failed writes to the journal, and how far it is behind then", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch("m1", halfway)
      yield* pass(10_000)
      assert.isAbove(Number((yield* all)["opencode_turn.journal.failures"]), 2)
      isAway = false
      yield* pass(1000)
      const { "opencode_turn.journal.lag": lag } = yield* all
      assert.isAbove(Number([lag].flat()[1]), 9)
      yield* fake.release("half")
      yield* ended(fiber, 1000)
    }), {
    store: (store) => ({
      snapshot: (...args) =>
        isAway
          ? Effect.fail(new StoreError({ operation: "snapshot", reason: "away", isRetryable: true }))
          : store.snapshot(...args)
    })
  })

  const slow = { millis: 0 }
  test("count renewals of leases that came late", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch("m1", halfway)
      yield* pass(3000)
      assert.notProperty(yield* all, "opencode_turn.lease.late")
      slow.millis = 1500
      yield* pass(3000)
      assert.deepInclude(yield* all, { "opencode_turn.lease.late": 1 })
      slow.millis = 0
      yield* pass(1000)
      yield* fake.release("half")
      yield* ended(fiber, 3000)
    }), {
    store: (store) => ({
      renew: (...args) => Effect.andThen(Effect.suspend(() => Effect.sleep(slow.millis)), store.renew(...args))
    })
  })

  it.effect("record a time that a clock which was set back makes negative as none", () =>
    fresh(Effect.gen(function*() {
      yield* TestClock.adjust("1 minute")
      yield* Metrics.record(Metrics.queueDuration, (yield* Clock.currentTimeMillis) - 120_000)
      assert.deepStrictEqual((yield* all)["opencode_turn.queue.duration"], [1, 0])
    })))
})
