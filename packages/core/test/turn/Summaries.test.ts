/**
 * What a summary costs that the server needs in the middle of a turn: it is part of the turn's account, on both lines of OpenCode. The same on
 * the real servers is in `RealCosts.test.ts` of platform-node. Summaries that somebody orders are in `Operations.test.ts`.
 */
import { assert, describe } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import type { SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { resumeTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { ended, launch, rowOf } = Carrying
const { rest, test } = Turns

/** What the summary takes: 0.0012 dollars. */
const used = { input: 1000, output: 100 }
const summaryCost = 0.0012

const overflow: Step = { fail: 413, message: "prompt is too long" }

/** The step after which the context is full. */
const full = { usage: { input: 95_000, output: 100 } }

const say = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>, name: string, input: Partial<TurnInput> = {}) {
  return (yield* ended(yield* launch(name, steps, input), 60_000)).value
})

/** What the server counts for these sessions. The fake makes no titles. */
const counted = Effect.fnUntraced(function*(ids: ReadonlyArray<SessionId | undefined>) {
  const client = yield* Client
  const costs = yield* Effect.forEach(
    ids.filter((id) => id !== undefined),
    (id) => Effect.map(client.getSession(id), ({ usage }) => usage.cost)
  )
  return costs.reduce((sum, cost) => sum + cost, 0)
})

const sessionsOf = ({ sessionId, subagents }: TurnResult) => [
  sessionId,
  ...subagents.map(({ sessionId }) => sessionId)
]

/** The account of a turn in all its places. */
const assertAccount = Effect.fnUntraced(function*(name: string, { usage }: TurnResult, cost: number) {
  assert.closeTo(usage.total.cost, cost, 1e-9)
  assert.closeTo(usage.root.cost + usage.subagents.cost, cost, 1e-9)
  assert.closeTo(usage.models.reduce((sum, { cost }) => sum + cost, 0), cost, 1e-9)
  assert.deepStrictEqual(usage.models.map(({ model }) => model), ["scripted/m"])
  const row = yield* rowOf(name)
  assert.deepStrictEqual(row?.usage, usage.total)
  assert.deepStrictEqual(row?.account?.models, usage.models)
})

for (const line of ["1.x", "2.x", "2.x release"] as const) {
  const shell: Step = line === "1.x"
    ? { tool: "bash", args: { command: "echo hi", description: "greet" } }
    : { tool: "shell", args: { command: "echo hi" } }
  const subagent = (steps: ReadonlyArray<Step>): Step => ({
    tool: line === "1.x" ? "task" : "subagent",
    args: {
      ...(line === "1.x" ? { subagent_type: "general" } : { agent: "general" }),
      description: "child",
      prompt: FakeOpencode.prompt("Look.", steps)
    }
  })
  const fake = (summary: Step): { readonly fake: FakeOpencode.Options } => ({ fake: { line, summary: () => summary } })
  const telling = fake({ text: "the summary", usage: used })

  describe(`a summary that the server needs in the middle of a turn: ${line}`, () => {
    test("costs of the turn", () =>
      Effect.gen(function*() {
        yield* say([{ text: "One." }], "one")
        const before = yield* counted([(yield* rowOf("one"))?.started?.sessionId])
        const result = yield* say([shell, overflow, { text: "Two." }], "two")
        assert.strictEqual(result.status, "completed", result.error?.message)
        const cost = (yield* counted([result.sessionId])) - before
        assert.isAbove(cost, summaryCost)
        yield* assertAccount("two", result, cost)
        // What the summary says is for the model alone.
        assert.notInclude(result.content, "the summary")
      }), telling)

    test("costs of the turn whose first step it comes before", () =>
      Effect.gen(function*() {
        const result = yield* say([overflow, { text: "One." }], "one")
        assert.strictEqual(result.status, "completed", result.error?.message)
        yield* assertAccount("one", result, summaryCost + 0.00002)
      }), telling)

    test("costs of the turn whose subagent needs it", () =>
      Effect.gen(function*() {
        const child = [shell, overflow, { text: "found" }]
        const result = yield* say([subagent(child), { text: "Done." }], "one")
        assert.strictEqual(result.status, "completed", result.error?.message)
        assert.isAbove(result.usage.subagents.cost, summaryCost)
        yield* assertAccount("one", result, yield* counted(sessionsOf(result)))
      }), telling)

    test("counts for the budget, which stops the turn", () =>
      Effect.gen(function*() {
        const server = yield* FakeOpencode.FakeOpencode
        yield* say([{ text: "One." }], "one")
        const steps = [shell, overflow, { text: "a b", gate: "behind", gateAfter: 1 }]
        const fiber = yield* launch("two", steps).pipe(
          Effect.provideService(TurnPolicy.Budget, { cost: 0.001 })
        )
        const { value } = yield* ended(fiber, 60_000)
        assert.strictEqual(value.error?._tag, "BudgetExceeded", value.error?.message)
        assert.isAbove(value.usage.total.cost, summaryCost)
        yield* server.release("behind")
      }), telling)

    test("that gives no summary costs all the same", () =>
      Effect.gen(function*() {
        const result = yield* say([overflow, { text: "One." }], "one")
        // 1.x takes any words for a summary (1.18.33).
        assert.strictEqual(result.status, line === "1.x" ? "completed" : "error")
        yield* assertAccount("one", result, yield* counted([result.sessionId]))
      }), fake({ text: " ", usage: used }))

    test("costs of the turn that another worker carries on", () =>
      Effect.gen(function*() {
        const server = yield* FakeOpencode.FakeOpencode
        yield* say([{ text: "One." }], "one")
        const fiber = yield* launch("two", [overflow, { text: "a b", gate: "behind", gateAfter: 1 }]).pipe(
          Effect.provideService(TurnPolicy.OnInterrupt, "release")
        )
        yield* Carrying.pass(5000)
        yield* server.reached("behind")
        yield* Fiber.interrupt(fiber)
        yield* server.release("behind")
        const taken = yield* Carrying.takeOver(Carrying.messageIdOf("two"))
        yield* ended(yield* Effect.forkChild(resumeTurn(taken)), 60_000)
        const row = yield* rowOf("two")
        assert.strictEqual(row?.status, "completed")
        assert.closeTo(row?.usage.cost ?? 0, summaryCost + 0.00002, 1e-9)
      }), telling)

    test("is no stall, however slowly its words come", () =>
      Effect.gen(function*() {
        const fiber = yield* launch("one", [overflow, { text: "One." }]).pipe(
          Effect.provideService(TurnPolicy.Budget, { stall: "1 minute" })
        )
        const { value } = yield* ended(fiber, 300_000)
        assert.strictEqual(value.status, "completed", value.error?.message)
        yield* assertAccount("one", value, summaryCost + 0.00002)
        assert.isAtLeast(value.timing.modelMillis, 160_000)
      }), fake({ text: "one two three four", chunkDelayMillis: 40_000, usage: used }))

    test("does not hold up the words behind it", () =>
      Effect.gen(function*() {
        const server = yield* FakeOpencode.FakeOpencode
        yield* say([{ text: "One." }], "one")
        const fiber = yield* launch("two", [overflow, { text: "a b c", gate: "behind", gateAfter: 2 }])
        yield* Carrying.pass(5000)
        yield* server.reached("behind")
        yield* Carrying.pass(1000)
        const text = (yield* rowOf("two"))?.parts.find((part) => part.type === "text")
        assert.deepInclude(text, { text: "a b " })
        yield* server.release("behind")
        assert.strictEqual((yield* ended(fiber, 60_000)).value.content, "a b c")
      }), telling)

    test("that is stopped in the middle has cost nothing that the server knows of", () =>
      Effect.gen(function*() {
        const server = yield* FakeOpencode.FakeOpencode
        const store = yield* SessionStore
        const fiber = yield* launch("one", [overflow, { text: "One." }])
        yield* server.reached("summary")
        yield* rest
        yield* store.cancel(Carrying.messageIdOf("one"), "Stopped.")
        const { value } = yield* ended(fiber, 60_000)
        assert.strictEqual(value.status, "cancelled")
        assert.strictEqual(value.usage.total.cost, yield* counted([value.sessionId]))
        yield* server.release("summary")
        assert.strictEqual((yield* say([{ text: "Two." }], "two")).content, "Two.")
      }), fake({ text: "the summary", usage: used, gate: "summary", gateAfter: 1 }))

    if (line === "1.x") return
    for (const [how, end] of [["killed", "kill"], ["asked to end", "terminate"]] as const) {
      test(
        `whose server is ${how} is written anew, and neither ordered nor taken for an answer`,
        () =>
          Effect.gen(function*() {
            const server = yield* FakeOpencode.FakeOpencode
            yield* say([{ text: "One.", ...full }], "one")
            const fiber = yield* launch("two", [{ text: "Two." }])
            yield* server.reached("summary")
            yield* rest
            yield* server[end]
            yield* server.release("summary")
            yield* server.start
            const { value } = yield* ended(fiber, 60_000)
            assert.deepStrictEqual([value.status, value.content], ["completed", "Two."], value.error?.message)
            yield* assertAccount("two", value, summaryCost + 0.00002)
            const three = yield* say([{ text: "Three." }], "three")
            assert.strictEqual(three.content, "Three.")
            yield* assertAccount("three", three, 0.00002)
            assert.deepStrictEqual(yield* Turns.requests("POST", /\/compact$/), [])
          }),
        fake({ text: "the summary", usage: used, gate: "summary", gateAfter: 1 })
      )
    }

    test("behind which the turn is stopped does not make the next prompt its own", () =>
      Effect.gen(function*() {
        const server = yield* FakeOpencode.FakeOpencode
        const store = yield* SessionStore
        yield* say([{ text: "One." }], "one")
        const fiber = yield* launch("two", [overflow, { text: "Two.", gate: "behind", gateAfter: 0 }])
        yield* server.reached("behind")
        yield* rest
        yield* store.cancel(Carrying.messageIdOf("two"), "Stopped.")
        const { value } = yield* ended(fiber, 60_000)
        yield* assertAccount("two", value, summaryCost)
        yield* server.release("behind")
        const three = yield* say([{ text: "Three." }], "three")
        assert.deepStrictEqual([three.status, three.content], ["completed", "Three."])
        yield* assertAccount("three", three, 0.00002)
      }), telling)
  })
}
