/** Turns that end while their server is away: it is stopped once it is back, also if it goes on by itself. */
import { assert, describe } from "@effect/vitest"
import { cancelTurn } from "@opencode-turn/core/CancelTurn"
import { Client } from "@opencode-turn/core/Client"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { ended, launch, messageIdOf, pass, until } = Carrying
const { rest, test } = Turns

type Fake = FakeOpencode.FakeOpencode["Service"]

const lines = ["1.x", "2.x", "2.x release"] as const

/** Says two words, and would say the third and more. */
const long: ReadonlyArray<Step> = [{ text: "one two three", gate: "half", gateAfter: 2 }, { text: "More." }]

/** The same with a subagent in the background, which has said a word. */
const withBackground: ReadonlyArray<Step> = [
  {
    tool: "subagent",
    args: {
      agent: "general",
      description: "look",
      background: true,
      prompt: FakeOpencode.prompt("Look.", [{ text: "child one", gate: "child", gateAfter: 1 }])
    }
  },
  ...long
]

const isIdle = Effect.flatMap(Client, (client) => Effect.map(client.statuses, (active) => active.size === 0))

const dueStops = Effect.flatMap(SessionStore, (store) => Effect.map(store.listStops({ limit: 9 }), (due) => due.length))

const isSettled = Effect.map(dueStops, (due) => due === 0)

const begun = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>, name = "first") {
  const fake = yield* FakeOpencode.FakeOpencode
  const fiber = yield* launch(name, steps)
  yield* fake.reached("half")
  if (steps === withBackground) yield* fake.reached("child")
  yield* rest
  return fiber
})

/** Nobody reaches the server, which works on. */
const away = Effect.flatMap(FakeOpencode.FakeOpencode, (fake) =>
  Effect.gen(function*() {
    yield* fake.fail({ path: /./ }, Faults.reset, Infinity)
    yield* fake.cutEvents
  }))

const back = Effect.flatMap(FakeOpencode.FakeOpencode, (fake) => fake.clearFaults)

/** Cancels as another process does while nobody reaches the server, and waits until the owner has ended. */
const cancelAway = Effect.fnUntraced(function*(owner: Effect.Success<ReturnType<typeof begun>>) {
  const { value } = yield* ended(yield* Effect.forkChild(cancelTurn(messageIdOf("first"))), 20_000)
  assert.strictEqual(value.status, "cancelled")
  assert.strictEqual((yield* ended(owner, 20_000)).value.status, "cancelled")
  yield* pass(5000)
  assert.strictEqual(yield* dueStops, 1)
})

/** A turn that is cancelled while nobody reaches its server. */
const cancelledAway = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>) {
  const owner = yield* begun(steps)
  yield* away
  yield* cancelAway(owner)
})

/** Nothing is asked of the model any more, whatever the time. */
const assertStill = Effect.fnUntraced(function*(calls: number) {
  const fake = yield* FakeOpencode.FakeOpencode
  assert.isTrue(yield* isIdle)
  yield* pass(30_000)
  assert.isTrue(yield* isIdle)
  assert.strictEqual(yield* fake.modelCalls, calls)
})

for (const line of lines) {
  const options = { fake: { line } }
  describe(`a turn that ends while its server is out of reach: ${line}`, () => {
    test("and is cancelled, is stopped by a worker once the server answers", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        yield* cancelledAway(long)
        yield* Layer.build(TurnWorker.layer())
        yield* pass(10_000)
        yield* back
        assert.isFalse(yield* isIdle)
        yield* until(isSettled, 70_000)
        yield* assertStill(1)
        assert.deepInclude(yield* Carrying.rowOf("first"), { status: "cancelled", content: "one two " })
        yield* fake.release("half")
      }), options)

    test("and is cancelled, is stopped by a job that looks for orphans", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        yield* cancelledAway(long)
        yield* back
        assert.deepStrictEqual(yield* TurnWorker.resumeTurns(), [])
        assert.strictEqual(yield* dueStops, 0)
        yield* assertStill(1)
        yield* fake.release("half")
      }), options)

    test("and is cancelled, is stopped by the next turn before its prompt", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        yield* cancelledAway(long)
        yield* back
        const { value } = yield* ended(yield* launch("next", [{ text: "Next." }]), 30_000)
        assert.deepStrictEqual([value.status, value.content], ["completed", "Next."])
        assert.strictEqual(yield* dueStops, 0)
        yield* assertStill(2)
        yield* fake.release("half")
      }), options)

    test("and fails, is stopped as well", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        const owner = yield* begun(long)
        yield* away
        const { value } = yield* ended(owner, 180_000)
        assert.strictEqual(value.status, "failed")
        yield* pass(5000)
        assert.strictEqual(yield* dueStops, 1)
        yield* back
        yield* TurnWorker.resumeTurns()
        assert.strictEqual(yield* dueStops, 0)
        yield* assertStill(1)
        assert.deepInclude(yield* Carrying.rowOf("first"), { status: "error", content: "one two " })
        yield* fake.release("half")
      }), options)

    test("has nothing to stop if its answer has ended meanwhile", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        yield* cancelledAway(long.slice(0, 1))
        yield* fake.release("half")
        yield* rest
        yield* back
        const before = yield* Turns.requests("POST", /\/(abort|interrupt)$/)
        yield* TurnWorker.resumeTurns()
        assert.strictEqual(yield* dueStops, 0)
        assert.deepStrictEqual(yield* Turns.requests("POST", /\/(abort|interrupt)$/), before)
      }), options)

    test("is settled if its session is gone", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        yield* cancelledAway(long)
        yield* Effect.forEach(yield* fake.sessions, fake.deleteSession)
        yield* back
        yield* TurnWorker.resumeTurns()
        assert.strictEqual(yield* dueStops, 0)
        yield* fake.release("half")
      }), options)
  })

  describe(`a turn that was stopped at once: ${line}`, () => {
    test("leaves nothing to stop, whoever cancelled it", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        const owner = yield* begun(long)
        yield* ended(yield* Effect.forkChild(cancelTurn(messageIdOf("first"))), 2000)
        yield* ended(owner, 2000)
        yield* pass(5000)
        assert.strictEqual(yield* dueStops, 0)
        yield* fake.release("half")
      }), options)
  })
}

const starts = { "at once": undefined, "after 15 seconds": "15 seconds" } as const

for (const line of ["2.x", "2.x release"] as const) {
  for (const [when, resumeDelay] of Object.entries(starts)) {
    const fake = { line, managed: true, ...(resumeDelay !== undefined && { resumeDelay }) }
    describe(`a turn on ${line} whose managed server goes on ${when}`, () => {
      for (
        const [what, steps] of Object.entries({ "alone": long, "with a subagent in the background": withBackground })
      ) {
        /** What the server asks before anybody can stop it, in no time. */
        const unavoidable = resumeDelay !== undefined ? 0 : line === "2.x" && steps === withBackground ? 2 : 1
        const before = steps === withBackground ? 3 : 1

        test(
          `and that is cancelled while the server is down, is stopped by a worker: ${what}`,
          () =>
            Effect.gen(function*() {
              const server = yield* FakeOpencode.FakeOpencode
              yield* Layer.build(TurnWorker.layer())
              const owner = yield* begun(steps)
              yield* server.terminate
              yield* cancelAway(owner)
              yield* server.start
              yield* until(isSettled, 70_000)
              yield* assertStill(before + unavoidable)
            }),
          { fake }
        )

        test(
          `and that is cancelled while the server is down, is stopped by the next turn: ${what}`,
          () =>
            Effect.gen(function*() {
              const server = yield* FakeOpencode.FakeOpencode
              const owner = yield* begun(steps)
              yield* server.terminate
              yield* cancelAway(owner)
              yield* server.start
              const { value } = yield* ended(yield* launch("next", [{ text: "Next." }]), 30_000)
              assert.strictEqual(value.status, "completed")
              assert.match(value.content, /Next\.$/)
              yield* assertStill(before + unavoidable + 1)
            }),
          { fake }
        )

        test(`and that is cancelled as soon as the server is back, is stopped: ${what}`, () =>
          Effect.gen(function*() {
            const server: Fake = yield* FakeOpencode.FakeOpencode
            const owner = yield* begun(steps).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
            yield* server.terminate
            yield* server.start
            yield* ended(yield* Effect.forkChild(cancelTurn(messageIdOf("first"))), 20_000)
            yield* ended(owner, 20_000)
            yield* assertStill(before + unavoidable)
            assert.strictEqual(yield* dueStops, 0)
          }), { fake })
      }
    })
  }
}
