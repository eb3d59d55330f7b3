import { assert, describe } from "@effect/vitest"
import { cancelTurn } from "@opencode-turn/core/CancelTurn"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { SessionId } from "@opencode-turn/core/Ids"
import type { Timing } from "@opencode-turn/core/Timing"
import * as Timings from "@opencode-turn/core/Timing"
import { resumeTurn, runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as Usage from "@opencode-turn/core/Usage"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { ended, halfway, launch, pass, takeOver } = Carrying
const { messageId, row, test } = Turns

/** The stored account is that of the result, and it adds up. */
const assertStored = Effect.fnUntraced(
  function*({ durationMillis, firstTokenMillis, message, timing, usage }: TurnResult) {
    assert.strictEqual(Timings.total(timing), durationMillis)
    const stored = message?.account
    assert.deepInclude(stored, { timing, models: usage.models, firstTokenMillis: firstTokenMillis ?? null })
    assert.deepStrictEqual((yield* row)?.account, stored)
    assert.deepStrictEqual(Usage.sum(usage.models), usage.total)
  }
)

/** The times that are not 0, in seconds. */
const seconds = (timing: Timing | undefined): object =>
  Object.fromEntries(
    Object.entries(timing ?? {}).flatMap(([purpose, millis]) =>
      millis === 0 ? [] : [[purpose.replace("Millis", ""), Number(millis) / 1000]]
    )
  )

const bash = { tool: "bash", args: { command: "echo hi" } }
const asking: ReadonlyArray<Step> = [{ text: "I run it.", ...bash }, { text: "Done." }]
const askAlways = { permission: [{ permission: "bash", pattern: "*", action: "ask" }] } as const
const patiently = (millis: number): HumanGate.Gate => () =>
  Effect.as(Effect.sleep(millis), { _tag: "Permission", reply: { reply: "once" } })

/** A process that is killed writes nothing more; its turn is an orphan once its lease has run out. */
const killed = { owners: 0 }
const isDead = (epoch: number) => epoch <= killed.owners
const mortal = {
  store: (store: Turns.Store): Partial<Turns.Store> => {
    return {
      snapshot: (id, epoch, content, since) =>
        isDead(epoch) ? Effect.succeed(false) : store.snapshot(id, epoch, content, since),
      release: (id, epoch) => isDead(epoch) ? Effect.succeed(false) : store.release(id, epoch)
    }
  }
}

const kill = Effect.fnUntraced(function*<A, E>(fiber: Fiber.Fiber<A, E>, epoch = 1) {
  killed.owners = epoch
  yield* Fiber.interrupt(fiber)
  killed.owners = 0
})

const leaving = Effect.provideService(TurnPolicy.OnInterrupt, "release")

const begin = (steps: ReadonlyArray<Step>, input?: Partial<TurnInput>) => leaving(launch(messageId, steps, input))

/** Gives the fake, and the first owner of a turn that is half said. */
const beginHalf = Effect.gen(function*() {
  const fake = yield* FakeOpencode
  const first = yield* begin(halfway)
  yield* fake.reached("half")
  return { fake, first }
})

/** Takes the turn over as soon as nobody holds it. */
const resume = Effect.gen(function*() {
  const fiber = yield* Effect.forkChild(leaving(resumeTurn(yield* takeOver(messageId))))
  yield* Turns.rest
  return fiber
})

describe("the stored account of a turn", () => {
  test("is that of its result, with the share of each model and the time to the first token", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(Turns.turn([{ text: "I run it.", ...bash }, { text: "Done." }]))
      yield* assertStored(result)
      assert.deepStrictEqual(result.message?.account?.models.map(({ model, steps }) => [model, steps]), [[
        "scripted/m",
        2
      ]])
      assert.isNumber(result.message?.account?.firstTokenMillis)
    }))

  const ends: ReadonlyArray<readonly [string, ReadonlyArray<Step>, Partial<TurnInput>]> = [
    ["an error of its provider", [{ fail: 400, message: "no" }], {}],
    ["no answer", [{ reasoning: "Hm." }], {}],
    ["an input that fails", [], { agent: Effect.die(new Error("a bug")) }]
  ]
  for (const [what, steps, input] of ends) {
    test(`is that of a turn that ended with ${what}`, () =>
      Effect.gen(function*() {
        const { value } = yield* ended(yield* launch(messageId, steps, input), 60_000)
        assert.isDefined(value.error)
        yield* assertStored(value)
      }))
  }

  test("is there while the turn runs, as of its last snapshot", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      yield* fake.reached("half")
      yield* pass(1000)
      assert.deepStrictEqual(seconds((yield* row)?.account?.timing), { model: 0.5 })
      yield* fake.release("half")
      const { value } = yield* ended(fiber, 1000)
      yield* assertStored(value)
      assert.deepStrictEqual(seconds(value.timing), { model: 1 })
    }))

  test("is made anew every five seconds while the turn runs", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const words = "word ".repeat(20).trim()
      const fiber = yield* launch(messageId, [{ text: words, chunkDelayMillis: 1000, gate: "half", gateAfter: 15 }])
      const seen = new Set<number | undefined>()
      for (let second = 0; second < 12; second++) {
        yield* pass(1000)
        seen.add((yield* row)?.account?.untilMillis)
      }
      assert.isAtMost(seen.size, 5)
      assert.isAtLeast(seen.size, 2)
      yield* fake.release("half")
      const { value } = yield* ended(fiber, 30_000)
      yield* assertStored(value)
    }))

  test("counts the wait for a person", () =>
    Effect.gen(function*() {
      const fiber = yield* launch(messageId, asking, askAlways).pipe(
        Effect.provideService(HumanGate.HumanGate, patiently(20_000))
      )
      const { value } = yield* ended(fiber, 30_000)
      yield* assertStored(value)
      assert.deepStrictEqual(seconds(value.timing), { people: 20 })
    }))

  test("is that of a turn that another process cancelled", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* launch(messageId, halfway)
      yield* fake.reached("half")
      yield* pass(3000)
      yield* cancelTurn(messageId)
      const { value } = yield* ended(fiber, 5000)
      assert.strictEqual(value.status, "cancelled")
      yield* assertStored(value)
      assert.deepStrictEqual(seconds(value.timing), { model: 3 })
    }))
})

describe("a turn of several owners", () => {
  test("has one account, in which the model goes on while nobody is there", () =>
    Effect.gen(function*() {
      const { fake, first } = yield* beginHalf
      yield* pass(2000)
      yield* kill(first)
      yield* pass(6000)
      const second = yield* resume
      yield* pass(1000)
      yield* fake.release("half")
      const { value } = yield* ended(second, 1000)
      assert.deepStrictEqual(seconds(value.timing), { model: 9 })
      assert.strictEqual(value.firstTokenMillis, 0)
      yield* assertStored(value)
    }), mortal)

  test("was an orphan while nobody was there and nothing was at work", () =>
    Effect.gen(function*() {
      const { fake, first } = yield* beginHalf
      yield* pass(2000)
      yield* kill(first)
      yield* pass(1000)
      yield* fake.release("half")
      yield* pass(6000)
      const { value } = yield* ended(yield* resume, 1000)
      assert.deepStrictEqual(seconds(value.timing), { model: 3, orphaned: 6 })
      yield* assertStored(value)
    }), mortal)

  test("waited for a person before, between and after", () =>
    Effect.gen(function*() {
      const never = Effect.provideService(HumanGate.HumanGate, () => Effect.never)
      const first = yield* never(begin(asking, askAlways))
      yield* pass(2000)
      yield* kill(first)
      yield* pass(6000)
      const second = yield* resume.pipe(Effect.provideService(HumanGate.HumanGate, patiently(3000)))
      const { value } = yield* ended(second, 5000)
      assert.deepStrictEqual(seconds(value.timing), { people: 11 })
      yield* assertStored(value)
    }), mortal)

  test("keeps what was measured in a session that is lost", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const { fake, first } = yield* beginHalf
      yield* pass(2000)
      yield* kill(first)
      yield* pass(6000)
      yield* client.deleteSession((yield* row)?.started?.sessionId ?? SessionId.make(""))
      const second = yield* resume
      yield* pass(1000)
      yield* fake.release("half")
      const { value } = yield* ended(second, 1000)
      assert.isTrue(value.isRecreated)
      // The last snapshot of the first owner was made after half a second, because its model said nothing more.
      assert.deepStrictEqual(seconds(value.timing), { model: 1.5, orphaned: 7.5 })
      yield* assertStored(value)
    }), mortal)

  test("tells the share of each of three owners once", () =>
    Effect.gen(function*() {
      const startedMillis = yield* Clock.currentTimeMillis
      const { fake, first } = yield* beginHalf
      yield* pass(1500)
      // A release says until when its owner carried the turn.
      yield* Fiber.interrupt(first)
      assert.strictEqual((yield* row)?.account?.untilMillis, startedMillis + 1500)
      yield* pass(500)
      const second = yield* resume
      yield* pass(1000)
      yield* kill(second, (yield* row)?.epoch)
      yield* pass(5000)
      yield* fake.release("half")
      yield* pass(1000)
      const { value } = yield* ended(yield* resume, 1000)
      assert.deepStrictEqual(seconds(value.timing), { model: 8, orphaned: 1 })
      assert.strictEqual(value.durationMillis, (yield* Clock.currentTimeMillis) - startedMillis)
      yield* assertStored(value)
    }), mortal)

  test("waited in the queue, also if its owner was killed as soon as it was its turn", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const before = yield* launch("before", halfway)
      yield* fake.reached("half")
      const first = yield* begin([{ text: "Hi.", gate: "later" }])
      yield* pass(3000)
      yield* fake.release("half")
      yield* ended(before, 1000)
      yield* Turns.rest
      assert.strictEqual((yield* row)?.status, "pending")
      yield* kill(first)
      yield* pass(6000)
      const second = yield* resume
      yield* fake.release("later")
      const { value } = yield* ended(second, 1000)
      assert.strictEqual(value.timing.queueMillis, 3000)
      yield* assertStored(value)
    }), mortal)

  test("was only queued if its owner was killed in the queue", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const before = yield* launch("before", halfway)
      yield* fake.reached("half")
      const first = yield* begin([{ text: "Hi." }])
      yield* pass(2000)
      yield* kill(first)
      yield* pass(5000)
      yield* fake.release("half")
      yield* ended(before, 1000)
      const { value } = yield* ended(yield* resume, 1000)
      assert.deepStrictEqual(seconds(value.timing), { queue: 7 })
      yield* assertStored(value)
    }), mortal)

  test(
    "is cancelled by another process for an owner that was killed, and its account goes to the cancel",
    () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const first = yield* begin(halfway)
        yield* fake.reached("half")
        yield* pass(2000)
        yield* kill(first)
        yield* pass(6000)
        const { account, createdMillis, finishedMillis } = yield* cancelTurn(messageId)
        assert.strictEqual(account && Timings.total(account.timing), (finishedMillis ?? 0) - createdMillis)
        assert.deepStrictEqual(seconds(account?.timing), { model: 8 })
        yield* TestClock.adjust("1 second")
      }),
    mortal
  )
})
