import { assert, describe } from "@effect/vitest"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import type { Content } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { ended, halfway, launch, pass, takeOver } = Carrying
const { messageId, names, payloads, row, test } = Turns

/** Records the calls of a store operation. */
const noting = () => {
  const calls: Array<number> = []
  return {
    calls,
    note: Effect.map(Clock.currentTimeMillis, (millis) => void calls.push(millis))
  }
}

const isOrphan = Effect.flatMap(
  SessionStore,
  (store) => Effect.map(store.listOrphans(1), (orphans) => orphans.length > 0)
)

/** The remaining time of the lease. */
const leaseLeft = Effect.gen(function*() {
  return ((yield* row)?.leaseUntilMillis ?? 0) - (yield* Clock.currentTimeMillis)
})

/** A store that hangs for its owner while it is shut; the test's own calls come through. */
const freezing = () => {
  const door = Latch.makeUnsafe(true)
  let raw: Turns.Store | undefined
  return {
    freeze: door.close,
    thaw: door.open,
    raw: () => {
      assert(raw)
      return raw
    },
    store: (store: Turns.Store): Partial<Turns.Store> => {
      raw = store
      return {
        renew: (...args) => Effect.andThen(door.await, store.renew(...args)),
        getMessage: (...args) => Effect.andThen(door.await, store.getMessage(...args)),
        snapshot: (...args) => Effect.andThen(door.await, store.snapshot(...args)),
        finalize: (...args) => Effect.andThen(door.await, store.finalize(...args)),
        keepPartial: (...args) => Effect.andThen(door.await, store.keepPartial(...args))
      }
    }
  }
}

describe("the lease of a turn", () => {
  const renewals = noting()
  test("is renewed every second while it streams, and lasts four", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      yield* pass(10_000)
      assert.deepStrictEqual(renewals.calls, [1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000])
      assert.strictEqual(yield* leaseLeft, 4000)
      assert.strictEqual((yield* row)?.epoch, 1)
      yield* fake.release("half")
      yield* ended(fiber)
      yield* pass(5000)
      assert.lengthOf(renewals.calls, 10)
    }), {
    store: (store) => ({ renew: (...args) => Effect.andThen(renewals.note, store.renew(...args)) })
  })

  const asked: Array<number> = []
  test(
    "lasts longer by as much as its renewals were late, up to five times as long, and becomes shorter again",
    () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const fiber = yield* launch(messageId, halfway)
        yield* pass(20_000)
        assert.deepStrictEqual(asked.slice(0, 6), [4000, 4000, 6000, 20_000, 14_000, 9000])
        yield* fake.release("half")
        yield* ended(fiber)
      }),
    {
      store: (store) => ({
        // The second takes half a second, the third five.
        renew: (id, epoch, lease) => {
          const delay = ["0 seconds", "500 millis", "5 seconds"] as const
          const renewed = Effect.delay(store.renew(id, epoch, lease), delay[asked.length] ?? "0 seconds")
          asked.push(lease.millis)
          return renewed
        }
      })
    }
  )

  test("is held for hours while a person is asked", () =>
    Effect.gen(function*() {
      const permission = [{ permission: "bash", pattern: "*", action: "ask" }] as const
      const fiber = yield* launch(messageId, [{ tool: "bash", args: { command: "echo one" } }], { permission }).pipe(
        Effect.provideService(HumanGate.HumanGate, () => Effect.never)
      )
      for (let minute = 0; minute < 180; minute += 30) {
        yield* pass(30 * 60_000, 30 * 60_000)
        assert.isFalse(yield* isOrphan)
      }
      assert.isUndefined(fiber.pollUnsafe())
      assert.isAtLeast(yield* leaseLeft, 3000)
      yield* Fiber.interrupt(fiber)
    }))

  test("is held during the wait for an empty answer", () =>
    Effect.gen(function*() {
      const fiber = yield* launch(messageId, [{ text: "" }])
      assert.include(yield* names, "stream.completed")
      yield* pass(20_000)
      assert.isFalse(yield* isOrphan)
      assert.strictEqual((yield* ended(fiber, 15_000)).value.error?._tag, "EmptyStream")
    }).pipe(Effect.provideService(TurnPolicy.EmptyStreamRetry, Duration.seconds(30))))

  test("is held during the wait for a server that does not stop", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      yield* fake.hang({ method: "POST", path: /abort$/ })
      const stop = yield* Effect.forkChild(Fiber.interrupt(fiber))
      yield* pass(4900, 100)
      assert.isUndefined(stop.pollUnsafe())
      assert.deepInclude(yield* row, { status: "pending", epoch: 1 })
      assert.isFalse(yield* isOrphan)
      yield* ended(stop, 500)
      assert.deepInclude(yield* row, { status: "cancelled", content: "one two " })
      yield* fake.release("half")
    }))

  test(
    "runs out four seconds after its last renewal, and a takeover raises the epoch",
    () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const fiber = yield* launch(messageId, halfway)
        yield* pass(3999, 3999)
        assert.isFalse(yield* isOrphan)
        yield* pass(1, 1)
        assert.isTrue(yield* isOrphan)
        const taken = yield* takeOver(messageId)
        assert.deepInclude(taken, { epoch: 2, owner: "worker", status: "pending" })
        const { millis, value } = yield* ended(fiber)
        assert.deepStrictEqual([value.status, value.error?._tag], ["failed", "TurnTakenOver"])
        assert.strictEqual(millis, 0)
        assert.deepStrictEqual(yield* row, taken)
        assert.lengthOf(yield* Turns.aborts, 0)
        yield* fake.release("half")
      }),
    {
      store: () => ({ renew: () => Effect.fail(Turns.unavailable("renew", false)) })
    }
  )

  for (const what of ["taken over", "cancelled"] as const) {
    test(`that cannot be renewed ends the turn by itself: the turn was ${what}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const store = yield* SessionStore
        const fiber = yield* launch(messageId, halfway)
        yield* pass(1500)
        if (what === "cancelled") {
          yield* Turns.cancel
        } else {
          yield* store.release(messageId, 1)
          yield* takeOver(messageId)
        }
        yield* pass(250)
        assert.isUndefined(fiber.pollUnsafe())
        const { millis, value } = yield* ended(fiber, 250)
        assert.strictEqual(millis, 250)
        assert.strictEqual(value.error?._tag, what === "cancelled" ? "TurnCancelled" : "TurnTakenOver")
        yield* fake.release("half")
      }), {
      // Nobody announces a change.
      store: () => ({ untilState: () => Effect.never })
    })
  }

  test("stays free after a release, although its owner lives", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      const fiber = yield* launch(messageId, halfway)
      yield* store.release(messageId, 1)
      yield* pass(3000)
      assert.isTrue(yield* isOrphan)
      yield* fake.release("half")
      yield* ended(fiber)
    }))

  let isSilent = false
  test("survives a store that cannot tell the owner of the message", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      isSilent = true
      yield* pass(3000)
      yield* fake.release("half")
      assert.strictEqual((yield* ended(fiber)).value.content, "one two three")
    }), {
    store: (store) => ({
      getState: (id) => isSilent ? Effect.fail(Turns.unavailable("getState", false)) : store.getState(id)
    })
  })

  for (
    const [how, broken] of [["fails", Effect.fail(Turns.unavailable("untilState"))], ["ends", Effect.void]] as const
  ) {
    let watches = 0
    test(`is watched again a second after the watch ${how}`, () =>
      Effect.gen(function*() {
        const fiber = yield* launch(messageId, halfway)
        yield* Turns.cancel
        yield* pass(750)
        assert.isUndefined(fiber.pollUnsafe())
        assert.strictEqual((yield* ended(fiber, 250)).value.error?._tag, "TurnCancelled")
      }), {
      store: (store) => ({
        renew: () => Effect.succeed(true),
        untilState: (...args) => Effect.suspend(() => watches++ === 0 ? broken : store.untilState(...args))
      })
    })
  }

  test("survives a store that fails for three seconds", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      for (let passed = 0; passed < 10_000; passed += 250) {
        yield* pass(250)
        assert.isFalse(yield* isOrphan)
      }
      yield* fake.release("half")
      assert.strictEqual((yield* ended(fiber)).value.status, "completed")
    }), {
    store: (store) => {
      let calls = 0
      return {
        renew: (...args) =>
          Effect.suspend(() =>
            ++calls > 2 && calls < 6 ? Effect.fail(Turns.unavailable("renew")) : store.renew(...args)
          )
      }
    }
  })
})

describe("an owner that was frozen past its lease", () => {
  const streaming = freezing()
  test("changes no row, aborts nothing and ends quietly after it wakes up", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      let wasTold = false
      const told = Effect.sync(() => {
        wasTold = true
      })
      const fiber = yield* launch(messageId, halfway, { onFinalized: () => told, onTurnFinished: () => told })
      yield* pass(1500)
      yield* streaming.freeze
      yield* pass(4500)
      const taken = yield* takeOver(messageId).pipe(
        Effect.provideService(SessionStore, SessionStore.of(streaming.raw()))
      )
      yield* pass(1000)
      yield* streaming.thaw
      const { millis, value } = yield* ended(fiber)
      assert.strictEqual(millis, 0)
      assert.deepStrictEqual([value.status, value.error?._tag], ["failed", "TurnTakenOver"])
      assert.deepStrictEqual(yield* row, taken)
      assert.lengthOf(yield* Turns.aborts, 0)
      assert.notInclude(yield* names, "turn.finished")
      assert.isFalse(wasTold)
      assert.deepStrictEqual(yield* Turns.reports, [])
      yield* fake.release("half")
    }), { store: streaming.store })

  const finishing = freezing()
  test("after it stored the ids never posts the prompt", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      yield* fake.fail({ path: "/event" }, Faults.holdAt("stream"))
      const fiber = yield* launch(messageId, halfway)
      assert.isNotNull((yield* row)?.promptRecord)
      yield* store.release(messageId, 1)
      const taken = yield* takeOver(messageId)
      yield* fake.release("stream")
      assert.strictEqual((yield* ended(fiber)).value.error?._tag, "TurnTakenOver")
      assert.lengthOf(yield* Turns.prompts, 0)
      assert.deepStrictEqual(yield* row, taken)
    }), {
    // It gets no news before its prompt.
    store: () => ({ renew: () => Effect.never, untilState: () => Effect.never })
  })

  test("in its terminal write leaves the row to the new owner", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      yield* finishing.freeze
      yield* fake.release("half")
      yield* pass(4500)
      const taken = yield* takeOver(messageId).pipe(
        Effect.provideService(SessionStore, SessionStore.of(finishing.raw()))
      )
      yield* finishing.thaw
      assert.strictEqual((yield* ended(fiber)).value.error?._tag, "TurnTakenOver")
      assert.deepStrictEqual(yield* row, taken)
      assert.lengthOf(yield* payloads("turn.finished"), 0)
    }), { store: finishing.store })

  test("does not abort for a deadline that passed in the meantime", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      yield* pass(4500)
      const taken = yield* takeOver(messageId)
      assert.isUndefined(fiber.pollUnsafe())
      assert.strictEqual((yield* ended(fiber, 1000)).value.error?._tag, "TurnTakenOver")
      assert.deepStrictEqual(yield* row, taken)
      assert.lengthOf(yield* Turns.aborts, 0)
      yield* fake.release("half")
    }).pipe(Effect.provideService(TurnPolicy.Budget, { wallClock: Duration.seconds(5) })), {
    // It gets no news before its deadline.
    store: () => ({ renew: () => Effect.never, untilState: () => Effect.never })
  })
})

describe("the snapshots of a turn", () => {
  const counting = () => {
    const { calls, note } = noting()
    const contents: Array<Content> = []
    return {
      calls,
      contents,
      store: (store: Turns.Store): Partial<Turns.Store> => ({
        snapshot: (id, epoch, content) =>
          Effect.andThen(note, store.snapshot(id, epoch, content)).pipe(
            Effect.tap(() => Effect.sync(() => contents.push(content)))
          )
      })
    }
  }

  const steady = counting()
  test("are written once an interval, and only when a reader would see a difference", () =>
    Effect.gen(function*() {
      const fiber = yield* launch(messageId, [{
        text: "a b c d e f g h i j",
        chunkDelayMillis: 100,
        gate: "half",
        gateAfter: 9
      }])
      yield* pass(10_000)
      const fake = yield* FakeOpencode
      const { calls, contents } = steady
      assert.isAtLeast(calls.length, 2)
      assert.isAtMost(calls.length, 3)
      for (const [index, millis] of calls.entries()) {
        if (index > 0) assert.isAtLeast(millis - (calls[index - 1] ?? 0), 500)
      }
      assert.isAtMost(calls.at(-1) ?? 0, 1500)
      assert.strictEqual(contents.at(-1)?.content, "a b c d e f g h i ")
      assert.deepInclude(yield* row, { status: "pending", content: "a b c d e f g h i " })
      yield* fake.release("half")
      yield* ended(fiber, 1000)
    }), { store: steady.store })

  test("are written one at a time to a slow store, and none follows the end", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      yield* pass(10_000)
      yield* fake.release("half")
      assert.strictEqual((yield* ended(fiber)).value.content, "one two three")
      const finished = yield* row
      yield* pass(10_000)
      assert.deepStrictEqual(yield* row, finished)
    }), {
    store: (store) => {
      let inFlight = 0
      return {
        snapshot: (...args) =>
          Effect.acquireUseRelease(
            Effect.sync(() => assert.strictEqual(++inFlight, 1, "snapshots at once")),
            () => Effect.andThen(Effect.sleep("3 seconds"), store.snapshot(...args)),
            () =>
              Effect.sync(() => {
                inFlight--
              })
          )
      }
    }
  })

  const failing = noting()
  test("that fail are made up for by the next one, and harm nothing", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      yield* pass(1000)
      assert.deepInclude(yield* row, { content: "" })
      yield* pass(500)
      assert.deepInclude(yield* row, { content: "one two " })
      assert.deepStrictEqual(failing.calls, [500, 1000, 1500])
      yield* fake.release("half")
      assert.strictEqual((yield* ended(fiber)).value.status, "completed")
      assert.deepStrictEqual(yield* Turns.reports, [])
    }), {
    store: (store) => ({
      snapshot: (...args) =>
        Effect.andThen(
          failing.note,
          Effect.suspend(() =>
            failing.calls.length < 3 ? Effect.fail(Turns.unavailable("snapshot")) : store.snapshot(...args)
          )
        )
    })
  })
})

describe("an interrupted turn with the policy release", () => {
  test("leaves a pending row that is free, with what was streamed, and the agent at work", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      yield* Fiber.interrupt(fiber)
      assert.deepInclude(yield* row, { status: "pending", epoch: 1, content: "one two ", leaseUntilMillis: 0 })
      assert.isTrue(yield* isOrphan)
      assert.lengthOf(yield* Turns.aborts, 0)
      assert.notInclude(yield* names, "turn.finished")
      assert.deepStrictEqual(yield* Turns.reports, [])
      yield* fake.release("half")
    }).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release")))

  test("while it waits keeps its place in the queue for the next worker", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch("first", halfway)
      const fiber = yield* launch(messageId, [{ text: "two" }])
      yield* Fiber.interrupt(fiber)
      assert.deepInclude(yield* row, { status: "queued", leaseUntilMillis: 0 })
      assert.isTrue(yield* isOrphan)
      yield* fake.release("half")
      yield* ended(first)
    }).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release")))

  test("is free although its snapshot cannot be stored", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      yield* Fiber.interrupt(fiber)
      assert.isTrue(yield* isOrphan)
      assert.deepStrictEqual(yield* Turns.features, ["snapshot"])
      yield* fake.release("half")
    }).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release")), {
    store: () => ({ snapshot: () => Effect.fail(Turns.unavailable("snapshot", false)) })
  })
})

describe("a prompt whose owner cannot ask the store whether the turn is still its own", () => {
  const failing = [
    ["fails", Effect.fail(Turns.unavailable("getState"))],
    ["does not answer", Effect.never]
  ] as const
  for (const [what, getState] of failing) {
    test(`is not posted, and the turn ends within a bounded time: a store that ${what}`, () =>
      Effect.gen(function*() {
        const { millis, value } = yield* ended(yield* launch(messageId, [{ text: "Hi." }]), 60_000)
        assert.deepStrictEqual([value.status, value.error?._tag], ["failed", "StoreError"])
        assert.deepInclude(yield* row, {
          status: "error",
          error: Turns.storedError(value.error)
        })
        assert.lengthOf(yield* Turns.prompts, 0)
        assert.isAtMost(millis, 40_000)
      }), { store: () => ({ getState: () => getState }) })
  }

  let isDown = true
  test("is posted when the store is back", () =>
    Effect.gen(function*() {
      const fiber = yield* launch(messageId, [{ text: "Hi." }])
      assert.lengthOf(yield* Turns.prompts, 0)
      isDown = false
      assert.strictEqual((yield* ended(fiber, 5000)).value.content, "Hi.")
    }), {
    store: (store) => ({
      getState: (id) => Effect.suspend(() => isDown ? Effect.fail(Turns.unavailable("getState")) : store.getState(id))
    })
  })
})
