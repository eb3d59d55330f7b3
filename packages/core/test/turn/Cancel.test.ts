import { assert, describe } from "@effect/vitest"
import * as Artifact from "@opencode-turn/core/Artifact"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { SessionId } from "@opencode-turn/core/Ids"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn, streamTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as Usage from "@opencode-turn/core/Usage"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Turns from "../support/turns.ts"

const { messageId, names, row, test, turn } = Turns

/** Sends two words, waits at the gate `half`, and never ends on its own. */
const halfway: ReadonlyArray<Step> = [{ text: "one two three", gate: "half", gateAfter: 2 }]
const isIdle = Effect.flatMap(Client, (client) => Effect.map(client.statuses, (statuses) => statuses.size === 0))

/** Starts a turn and waits until half of its answer has arrived. */
const start = Effect.fnUntraced(function*<E = never, R = never>(input: Partial<TurnInput<E, R>> = {}, steps = halfway) {
  const fake = yield* FakeOpencode
  const fiber = yield* Effect.forkChild(runTurn(turn(steps, input)))
  yield* fake.reached("half")
  yield* Turns.rest
  return fiber
})

describe("a cancel by another process", () => {
  test("is noticed at once: the session is aborted, and what was streamed is kept", () =>
    Effect.gen(function*() {
      const fiber = yield* start({ onFinalized: () => Effect.die("the write was not ours") })
      yield* TestClock.adjust("500 millis")
      assert.strictEqual((yield* Turns.cancel).content, "Stopped.")
      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result.status, "cancelled")
      assert.strictEqual(result.error?._tag, "TurnCancelled")
      assert.strictEqual(result.content, "one two ")
      assert.deepInclude(yield* row, {
        status: "cancelled",
        content: "one two ",
        isFallback: false,
        finish: null,
        parts: result.reply.parts,
        error: null
      })
      assert.deepStrictEqual(result.message, yield* row)
      assert.lengthOf(yield* Turns.aborts, 1)
      assert.isTrue(yield* isIdle)
      assert.strictEqual((yield* names).at(-1), "turn.finished")
      assert.deepInclude(result.trace, { status: "cancelled", error: "TurnCancelled", duration_ms: 500 })
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test("keeps the words of the cancel if nothing was streamed", () =>
    Effect.gen(function*() {
      const fiber = yield* start({}, [{ text: "one", gate: "half", gateAfter: 0 }])
      yield* Turns.cancel
      yield* TestClock.adjust("1 seconds")
      const result = yield* Fiber.join(fiber)
      assert.deepInclude(result, { status: "cancelled", content: "Stopped.", isFallback: true, finish: undefined })
    }))

  test("during the creation of the session ends the turn before the prompt", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: "/session" }, Faults.holdAt("create"))
      const fiber = yield* Effect.forkChild(runTurn(turn(halfway)))
      yield* fake.reached("create")
      yield* Turns.cancel
      yield* TestClock.adjust("1 seconds")
      yield* fake.release("create")
      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result.status, "cancelled")
      assert.lengthOf(yield* Turns.prompts, 0)
      assert.lengthOf(yield* Turns.aborts, 0)
      assert.deepStrictEqual(yield* fake.sessions, [])
    }))

  test("between claim and prompt ends the turn when it records the ids", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const cancelling = Effect.as(Effect.orDie(store.cancel(messageId, "Stopped.")), "scripted/m")
      const result = yield* runTurn(turn(halfway, { model: cancelling }))
      assert.strictEqual(result.status, "cancelled")
      assert.lengthOf(yield* Turns.prompts, 0)
    }))

  test(
    "between the end of the stream and the terminal write stays, and keeps the whole answer",
    () =>
      Effect.gen(function*() {
        const result = yield* runTurn(turn([{ text: "All of it." }], { onFinalized: () => Effect.die("not ours") }))
        assert.strictEqual(result.status, "cancelled")
        assert.strictEqual(result.error?._tag, "TurnCancelled")
        assert.deepInclude(yield* row, { status: "cancelled", content: "All of it.", isFallback: false, finish: null })
        assert.lengthOf(yield* Turns.aborts, 0)
        assert.include(yield* names, "stream.completed")
        assert.deepStrictEqual(yield* Turns.reports, [])
      }),
    {
      store: (store) => ({
        finalize: (id, epoch, outcome) =>
          Effect.orDie(store.cancel(id, "Stopped.")).pipe(Effect.andThen(store.finalize(id, epoch, outcome)))
      })
    }
  )

  let failuresLeft = 0
  test("is noticed although the store fails now and then", () =>
    Effect.gen(function*() {
      const fiber = yield* start()
      failuresLeft = 2
      yield* Turns.cancel
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* Fiber.join(fiber)).status, "cancelled")
    }), {
    store: (store) => ({
      getMessage: (id) =>
        Effect.suspend(() => failuresLeft-- > 0 ? Effect.fail(Turns.unavailable("getMessage")) : store.getMessage(id))
    })
  })

  test("of the session on the server cancels the turn", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const fake = yield* FakeOpencode
      const fiber = yield* start()
      yield* client.abortSession(SessionId.make((yield* fake.sessions)[0] ?? ""))
      yield* TestClock.adjust("1 seconds")
      const result = yield* Fiber.join(fiber)
      assert.deepStrictEqual([result.status, result.error?._tag], ["cancelled", "TurnCancelled"])
      assert.deepInclude(yield* row, {
        status: "cancelled",
        content: "one two ",
        error: { tag: "TurnCancelled", message: "message message was cancelled", details: { messageId } }
      })
      assert.strictEqual(yield* fake.modelCalls, 1)
    }))
})

describe("a turn that another worker took over", () => {
  /** Its owner gave no sign of life for the length of a lease. */
  const takeOver = Effect.fnUntraced(function*(store: Turns.Store) {
    yield* store.release(messageId, 1)
    return Option.getOrUndefined(yield* store.takeOver(messageId, { owner: "another", millis: 4000 }))
  }, Effect.orDie)

  test("fails, aborts nothing, and leaves the row alone", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      const fiber = yield* start({ onFinalized: () => Effect.die("not ours") })
      const taken = yield* takeOver(store)
      assert.strictEqual(taken?.epoch, 2)
      const result = yield* Fiber.join(fiber)
      assert.deepStrictEqual([result.status, result.error?._tag], ["failed", "TurnTakenOver"])
      assert.deepStrictEqual(result.message, taken)
      assert.deepStrictEqual(yield* row, taken)
      assert.lengthOf(yield* Turns.aborts, 0)
      assert.isFalse(yield* isIdle)
      yield* fake.release("half")
    }))

  test("names no changed file, because its new owner does", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      const wrote = { tool: "write", args: { filePath: "notes.md", content: "one" } }
      const fiber = yield* start({}, [wrote, ...halfway])
      yield* takeOver(store)
      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result.error?._tag, "TurnTakenOver")
      assert.deepStrictEqual(result.reply.tools.map(({ tool }) => tool), ["write"])
      assert.deepStrictEqual(result.artifacts, Artifact.none)
      assert.lengthOf(yield* Turns.requests("GET", /\/diff$/), 0)
      yield* fake.release("half")
    }))

  test("before its prompt never sends the prompt", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const result = yield* runTurn(turn(halfway, { model: Effect.as(takeOver(store), "scripted/m") }))
      assert.deepStrictEqual([result.status, result.error?._tag], ["failed", "TurnTakenOver"])
      assert.lengthOf(yield* Turns.prompts, 0)
      assert.deepInclude(yield* row, { status: "pending", epoch: 2 })
    }))

  test("just before its terminal write fails as well", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([{ text: "Hi." }]))
      assert.deepStrictEqual([result.status, result.error?._tag], ["failed", "TurnTakenOver"])
      assert.deepInclude(yield* row, { status: "pending", epoch: 2, content: "" })
    }), {
    store: (store) => ({
      finalize: (id, epoch, outcome) => Effect.andThen(takeOver(store), store.finalize(id, epoch, outcome))
    })
  })
})

describe("an interrupted turn", () => {
  /** Interrupts the turn, lets time pass while it stops, and gives how long it took. */
  const interrupt = Effect.fnUntraced(function*<A, E>(fiber: Fiber.Fiber<A, E>, seconds = 0) {
    const before = yield* Clock.currentTimeMillis
    const done = yield* Effect.forkChild(Fiber.interrupt(fiber))
    yield* Turns.rest
    for (let second = 0; second < seconds && done.pollUnsafe() === undefined; second++) {
      yield* TestClock.adjust("1 seconds")
      yield* Turns.rest
    }
    yield* Fiber.join(done)
    const exit = yield* Fiber.await(fiber)
    assert(Exit.isFailure(exit))
    assert.isTrue(Cause.hasInterruptsOnly(exit.cause))
    return (yield* Clock.currentTimeMillis) - before
  })

  const watched = Effect.gen(function*() {
    const finished = yield* Ref.make<ReadonlyArray<TurnResult>>([])
    const finalized = yield* Ref.make<ReadonlyArray<StoredMessage>>([])
    return {
      finished: Ref.get(finished),
      finalized: Ref.get(finalized),
      input: {
        onTurnFinished: (result: TurnResult) => Ref.update(finished, (all) => [...all, result]),
        onFinalized: (message: StoredMessage) => Ref.update(finalized, (all) => [...all, message])
      }
    }
  })

  test("during the stream aborts the session, keeps what was streamed, and notifies everybody", () =>
    Effect.gen(function*() {
      const { finalized, finished, input } = yield* watched
      const fiber = yield* start(input)
      assert.strictEqual(yield* interrupt(fiber), 0)
      assert.lengthOf(yield* Turns.aborts, 1)
      assert.isTrue(yield* isIdle)
      assert.deepInclude(yield* row, {
        status: "cancelled",
        content: "one two ",
        error: { tag: "TurnCancelled", message: "message message was cancelled", details: { messageId } }
      })
      const [result] = yield* finished
      assert.strictEqual(result?.status, "cancelled")
      assert.deepStrictEqual<unknown>(yield* finalized, [yield* row])
      assert.deepStrictEqual((yield* names).slice(-1), ["turn.finished"])
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test("before it began does nothing", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* Effect.forkChild(runTurn(turn(halfway)))
      yield* Fiber.interrupt(fiber)
      assert.isUndefined(yield* row)
      assert.deepStrictEqual(yield* fake.requests, [])
      assert.deepStrictEqual(yield* names, [])
    }))

  const claimed = Latch.makeUnsafe()
  test("while it is claimed leaves no pending message", () =>
    Effect.gen(function*() {
      const { finished, input } = yield* watched
      const fiber = yield* Effect.forkChild(runTurn(turn(halfway, input)))
      yield* claimed.await
      yield* interrupt(fiber)
      assert.deepInclude(yield* row, { status: "cancelled", content: "Response was stopped." })
      assert.strictEqual((yield* finished)[0]?.status, "cancelled")
    }), {
    // The row is written, and the store's response is lost.
    store: (store) => ({
      claim: (claim) => store.claim(claim).pipe(Effect.andThen(claimed.open), Effect.andThen(Effect.never))
    })
  })

  for (const what of ["was ended", "was deleted"] as const) {
    const isClaimed = Latch.makeUnsafe()
    test(
      `while it is claimed reports its end although the message ${what} just before the cancel`,
      () =>
        Effect.gen(function*() {
          const { finished, input } = yield* watched
          const fiber = yield* Effect.forkChild(runTurn(turn(halfway, input)))
          yield* isClaimed.await
          yield* interrupt(fiber)
          const [result, ...others] = yield* finished
          assert.isEmpty(others)
          assert.isDefined(result)
          assert.strictEqual(result.error?._tag, "TurnCancelled")
          assert.deepStrictEqual(result.message, yield* row)
          assert.strictEqual(result.content, what === "was ended" ? "Hi." : "")
          assert.deepStrictEqual(yield* Turns.reports, [])
        }),
      {
        store: (store) => ({
          // The row is written, and the store's response is lost.
          claim: (claim) => store.claim(claim).pipe(Effect.andThen(isClaimed.open), Effect.andThen(Effect.never)),
          cancel: (id, content) =>
            store.finalize(id, 1, { status: "completed", content: "Hi.", parts: [], usage: Usage.zero, error: null })
              .pipe(
                Effect.andThen(what === "was deleted" ? store.prune(Infinity) : Effect.void),
                Effect.andThen(store.cancel(id, content))
              )
        })
      }
    )
  }

  for (
    const [what, fault] of [["before", Faults.holdAt("create")], ["after", Faults.holdAnswerAt("create")]] as const
  ) {
    test(`while its session is made, ${what} the server made it, leaves no session behind`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        yield* fake.fail({ method: "POST", path: "/session" }, fault)
        const fiber = yield* Effect.forkChild(runTurn(turn(halfway)))
        yield* fake.reached("create")
        yield* Effect.forkChild(Effect.delay(fake.release("create"), "2 seconds"))
        assert.strictEqual(yield* interrupt(fiber, 2), 2000)
        assert.deepStrictEqual(yield* fake.sessions, [])
        assert.deepInclude(yield* row, { status: "cancelled", content: "Response was stopped." })
        assert.lengthOf(yield* Turns.prompts, 0)
        assert.lengthOf(yield* Turns.aborts, 0)
      }))
  }

  test("while the server does not answer at all ends within StopTimeout", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.hang({ method: "POST", path: "/session" })
      const fiber = yield* Effect.forkChild(runTurn(turn(halfway)))
      yield* Turns.rest
      assert.strictEqual(yield* interrupt(fiber, 6), 5000)
      assert.deepInclude(yield* row, { status: "cancelled" })
      assert.deepStrictEqual(yield* Turns.features, ["wait for a session made in vain"])
    }))

  test("while the prompt is posted aborts what the server may have begun", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: /prompt_async$/ }, Faults.holdAnswerAt("post"))
      const fiber = yield* Effect.forkChild(runTurn(turn([{ text: "one two", ending: "hang" }])))
      yield* fake.reached("post")
      yield* Turns.rest
      yield* interrupt(fiber)
      assert.isTrue(yield* isIdle)
      assert.deepInclude(yield* row, { status: "cancelled", content: "one two" })
    }))

  test("in the delay before the second read of an empty answer ends at once", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(runTurn(turn([{ text: "" }])))
      yield* Turns.rest
      assert.isUndefined(fiber.pollUnsafe())
      assert.include(yield* names, "stream.completed")
      assert.strictEqual(yield* interrupt(fiber), 0)
      assert.deepInclude(yield* row, { status: "cancelled", content: "Response was stopped." })
    }))

  test("while an effect of its input runs ends at once", () =>
    Effect.gen(function*() {
      const released = yield* Ref.make(false)
      const fiber = yield* Effect.forkChild(
        runTurn(turn(halfway, { model: Effect.ensuring(Effect.never, Ref.set(released, true)) }))
      )
      yield* Turns.rest
      yield* interrupt(fiber)
      assert.isTrue(yield* Ref.get(released))
      assert.deepInclude(yield* row, { status: "cancelled" })
      assert.lengthOf(yield* Turns.prompts, 0)
    }))

  test("during a callback keeps the outcome, and waits for the callback", () =>
    Effect.gen(function*() {
      const entered = yield* Latch.make()
      const wasFinished = yield* Ref.make(false)
      const fiber = yield* Effect.forkChild(runTurn(turn([{ text: "Hi." }], {
        onFinalized: () =>
          entered.open.pipe(Effect.andThen(Effect.sleep("1 seconds")), Effect.andThen(Ref.set(wasFinished, true)))
      })))
      yield* entered.await
      assert.strictEqual(yield* interrupt(fiber, 2), 1000)
      assert.isTrue(yield* Ref.get(wasFinished))
      assert.deepInclude(yield* row, { status: "completed", content: "Hi." })
      assert.lengthOf(yield* Turns.aborts, 0)
    }))

  test("aborts its subagents too", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const child = prompt("x", [{ text: "child text", gate: "half", gateAfter: 1 }])
      const fiber = yield* start({}, [
        { tool: "task", args: { description: "child", prompt: child, subagent_type: "general" } }
      ])
      assert.lengthOf(yield* fake.sessions, 2)
      yield* interrupt(fiber)
      assert.isTrue(yield* isIdle)
      assert.deepStrictEqual((yield* row)?.subagents.map(({ status }) => status), ["cancelled"])
      const paths = (yield* Turns.aborts).map((request) => request.path.split("/")[2] ?? "")
      assert.sameMembers(paths, [...yield* fake.sessions])
    }))

  test("while a person is asked interrupts the gate", () =>
    Effect.gen(function*() {
      const asked = yield* Latch.make()
      const isOver = yield* Ref.make(false)
      const permission = [{ permission: "bash", pattern: "*", action: "ask" }] as const
      const fiber = yield* Effect.forkChild(
        runTurn(turn([{ tool: "bash", args: { command: "echo one" } }], { permission })).pipe(
          Effect.provideService(HumanGate.HumanGate, () =>
            asked.open.pipe(Effect.andThen(Effect.never), Effect.ensuring(Ref.set(isOver, true))))
        )
      )
      yield* asked.await
      yield* interrupt(fiber)
      assert.isTrue(yield* Ref.get(isOver))
      assert.deepInclude(yield* row, { status: "cancelled" })
      assert.isTrue(yield* isIdle)
    }))

  test("gives up a hanging abort after StopTimeout", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* start()
      yield* fake.hang({ method: "POST", path: /abort$/ })
      assert.strictEqual(yield* interrupt(fiber, 6), 5000)
      assert.deepInclude(yield* row, { status: "cancelled", content: "one two " })
      assert.deepStrictEqual(yield* Turns.features, ["abort"])
      yield* fake.release("half")
    }))

  test("retries a failed abort", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* start()
      yield* fake.fail({ method: "POST", path: /abort$/ }, Faults.status(503))
      assert.isAtMost(yield* interrupt(fiber, 3), 1000)
      assert.isTrue(yield* isIdle)
      assert.lengthOf(yield* Turns.aborts, 2)
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test(
    "ends after five seconds if the store hangs, and reports that its end was not stored",
    () =>
      Effect.gen(function*() {
        const fiber = yield* start()
        assert.strictEqual(yield* interrupt(fiber, 6), 5000)
        assert.isTrue(yield* isIdle)
        assert.deepStrictEqual(yield* Turns.features, ["conclude"])
      }),
    { store: () => ({ finalize: () => Effect.never, renew: () => Effect.never }) }
  )

  test("waits for a slow terminal write while the lease can be kept, but not for ever", () =>
    Effect.gen(function*() {
      const fiber = yield* start()
      assert.strictEqual(yield* interrupt(fiber, 61), 60_000)
      assert.deepStrictEqual(yield* Turns.features, ["conclude"])
    }), { store: () => ({ finalize: () => Effect.never }) })

  test("keeps what the server stored after the last event", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.dropEvents((event) => event.type === "message.part.delta")
      const fiber = yield* start()
      yield* interrupt(fiber)
      assert.deepInclude(yield* row, { status: "cancelled", content: "one two " })
    }))
})

describe("a reader of a stream that leaves", () => {
  test("cancels the turn", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* streamTurn(turn(halfway)).pipe(
        Stream.filter((update) => update._tag === "TextDelta"),
        Stream.take(1),
        Stream.runDrain
      )
      assert.isTrue(yield* isIdle)
      assert.lengthOf(yield* Turns.aborts, 1)
      assert.deepInclude(yield* row, { status: "cancelled", content: "one two " })
      assert.strictEqual((yield* names).at(-1), "turn.finished")
      yield* fake.release("half")
    }))

  test("by being interrupted does the same", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* Effect.forkChild(Stream.runDrain(streamTurn(turn(halfway))))
      yield* fake.reached("half")
      yield* Turns.rest
      yield* Fiber.interrupt(fiber)
      assert.isTrue(yield* isIdle)
      assert.deepInclude(yield* row, { status: "cancelled", content: "one two " })
    }))
})
