/**
 * What a turn costs is what the server counts for it, however the turn goes: on both lines of OpenCode, and under the names of the release of
 * 2.x. The same on the real servers is in `RealCosts.test.ts` of platform-node; summaries are in `Summaries.test.ts`.
 */
import { assert, describe } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import type { SessionId } from "@opencode-turn/core/Ids"
import { forkConversation } from "@opencode-turn/core/Operations"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import { FakeTool } from "@opencode-turn/testing"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { ended, launch, pass, rowOf } = Carrying
const { test } = Turns

const used = { usage: { input: 1000, output: 100 } }
/** What a call of the model costs that uses this, and one that says nothing else. */
const [usedCost, plainCost] = [0.0012, 0.00002]
const done: Step = { text: "Done." }

const refuse: HumanGate.Gate = () => Effect.succeed({ _tag: "Reject" })

const say = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>, name: string, input: Partial<TurnInput> = {}) {
  return (yield* ended(yield* launch(name, steps, input), 120_000)).value
})

const counted = Effect.fnUntraced(function*(id: SessionId | undefined) {
  const client = yield* Client
  assert.isDefined(id)
  return (yield* client.getSession(id)).usage.cost
})

/** The account of a turn in all its places. */
const assertAccount = Effect.fnUntraced(function*(name: string, { usage }: TurnResult, cost: number) {
  assert.closeTo(usage.total.cost, cost, 1e-9)
  assert.closeTo(usage.root.cost + usage.subagents.cost, cost, 1e-9)
  assert.closeTo(usage.models.reduce((sum, { cost }) => sum + cost, 0), cost, 1e-9)
  const row = yield* rowOf(name)
  assert.deepStrictEqual(row?.usage, usage.total)
  assert.deepStrictEqual(row?.account?.models, usage.models)
})

for (const line of ["1.x", "2.x", "2.x release"] as const) {
  const is1x = line === "1.x"
  const shell = (outcome?: FakeTool.Outcome): Step => {
    const args = is1x ? { command: "echo hi", description: "greet" } : { command: "echo hi" }
    const given = outcome === undefined ? args : FakeTool.withOutcome(args, outcome)
    return { tool: is1x ? "bash" : "shell", args: given, ...used }
  }
  const subagent = (steps: ReadonlyArray<Step>, fields = {}): Step => ({
    tool: is1x ? "task" : "subagent",
    args: {
      ...(is1x ? { subagent_type: "general" } : { agent: "general" }),
      description: "child",
      prompt: FakeOpencode.prompt("Look.", steps),
      ...fields
    }
  })
  const fake = { fake: { line } }

  describe(`a turn costs what the server counts for it: ${line}`, () => {
    const cases: ReadonlyArray<readonly [name: string, steps: ReadonlyArray<Step>, cost: number]> = [
      ["that calls tools", [shell(), done], usedCost + plainCost],
      ["whose step is tried again", [shell(), { fail: 500 }, { fail: 429 }, done], usedCost + plainCost],
      ["whose last step fails", [shell(), { fail: 400 }], usedCost],
      ["whose answer is cut off", [{ text: "Half of", finish: "length", ...used }], usedCost],
      ["whose answer is filtered", [shell(), { text: "Half of", finish: "content_filter", ...used }], 2 * usedCost],
      ["whose tool fails", [shell({ error: "no" }), done], usedCost + plainCost],
      ["whose subagent calls tools", [subagent([shell(), done]), done], usedCost + 3 * plainCost],
      ["whose subagent fails", [subagent([shell(), { fail: 400 }]), done], usedCost + 2 * plainCost]
    ]
    for (const [name, steps, cost] of cases) {
      test(name, () =>
        Effect.gen(function*() {
          yield* assertAccount("one", yield* say(steps, "one"), cost)
        }), fake)
    }

    test("that a refusal stops", () =>
      Effect.gen(function*() {
        const fiber = yield* launch("one", [shell({ ask: { permission: "bash", patterns: ["echo"] } }), done]).pipe(
          Effect.provideService(HumanGate.HumanGate, refuse)
        )
        const { value } = yield* ended(fiber, 60_000)
        assert.strictEqual(value.error?._tag, "Refused")
        yield* assertAccount("one", value, yield* counted(value.sessionId))
      }), fake)

    const hanging = [
      ["its tool runs", [shell({ gate: "runs" })]],
      ["its subagent's tool runs", [subagent([shell({ gate: "runs" })])]]
    ] as const
    for (const [name, steps] of hanging) {
      test(`that is cancelled while ${name}`, () =>
        Effect.gen(function*() {
          const server = yield* FakeOpencode.FakeOpencode
          const store = yield* SessionStore
          const fiber = yield* launch("one", steps)
          yield* server.reached("runs")
          yield* pass(1000)
          yield* store.cancel(Carrying.messageIdOf("one"), "Stopped.")
          const { value } = yield* ended(fiber, 60_000)
          assert.strictEqual(value.status, "cancelled")
          const costs = yield* Effect.forEach([value, ...value.subagents], ({ sessionId }) => counted(sessionId))
          const cost = costs.reduce((sum, cost) => sum + cost, 0)
          // 1.x counts a step with the end of its tools (1.18.33).
          if (!is1x) assert.isAbove(cost, 0)
          yield* assertAccount("one", value, cost)
        }), fake)
    }

    test("that begins a fork, without what it copied", () =>
      Effect.gen(function*() {
        const one = yield* say([shell(), done], "one")
        yield* forkConversation({ conversationId: Turns.conversationId, into: "copy" })
        const two = yield* say([done], "two", { conversationId: "copy" })
        assert.notStrictEqual(two.sessionId, one.sessionId)
        yield* assertAccount("two", two, plainCost)
      }), fake)

    test("that calls a subagent again counts what is new", () =>
      Effect.gen(function*() {
        const one = yield* say([subagent([shell(), done]), done], "one")
        const [child] = one.subagents
        const two = yield* say([subagent([shell(), done], is1x ? { task_id: child?.sessionId } : {}), done], "two")
        yield* assertAccount("two", two, usedCost + 3 * plainCost)
      }), fake)

    if (is1x) return
    const ends = [["killed", "kill", 0], ["asked to end", "terminate", usedCost]] as const
    for (const [how, end, kept] of ends) {
      test(`whose server is ${how} while a tool runs`, () =>
        Effect.gen(function*() {
          const server = yield* FakeOpencode.FakeOpencode
          const fiber = yield* launch("one", [shell({ gate: "runs" }), done])
          yield* server.reached("runs")
          yield* Turns.rest
          yield* server[end]
          yield* server.release("runs")
          yield* server.start
          const { value } = yield* ended(fiber, 60_000)
          assert.strictEqual(value.status, "completed", value.error?.message)
          // What a killed server had not stored is lost.
          yield* assertAccount("one", value, kept + plainCost)
        }), fake)
    }
  })
}
