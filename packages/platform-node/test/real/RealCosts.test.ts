/**
 * What a turn costs on the real servers is what they count for it. Each call of the model costs 0.00002 dollars, if it says nothing else.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import { AssistantMessageId } from "@opencode-turn/core/Ids"
import { forkConversation } from "@opencode-turn/core/Operations"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Fiber, Option } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { isIdle, say, turn, until } from "../support/RealTurns.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"
import * as Tools from "../support/Tools.ts"
import * as Host from "../versions/Host.ts"

const plain = 0.00002
/** What a call costs that uses this. */
const used = { usage: { input: 1000, output: 100 } }
const usedCost = 0.0012
const overflow: Step = { fail: 413, message: "prompt is too long" }
const done: Step = { text: "Done." }

/** The sum of the sessions of a turn, as their server counts it. */
const counted = Effect.fnUntraced(function*({ sessionId, subagents }: TurnResult) {
  const client = yield* Client.Client
  const ids = [sessionId, ...subagents.map(({ sessionId }) => sessionId)].filter((id) => id !== undefined)
  const costs = yield* Effect.forEach(ids, (id) => Effect.map(client.getSession(id), ({ usage }) => usage.cost))
  return costs.reduce((sum, cost) => sum + cost, 0)
})

/** The sum of a session that has its title, before the next turn. */
const titled = Effect.fnUntraced(function*(first: TurnResult, line: Tools.Tools["line"]) {
  // 1.x counts no title.
  const expected = first.usage.total.cost + (line === "2.x" ? plain : 0)
  yield* until(Effect.map(counted(first), (cost) => Math.abs(cost - expected) < 1e-9))
  return expected
})

/** The account of a turn in all its places. */
const assertAccount = Effect.fnUntraced(function*({ message, usage }: TurnResult, cost: number) {
  assert.closeTo(usage.total.cost, cost, 1e-9)
  assert.closeTo(usage.root.cost + usage.subagents.cost, cost, 1e-9)
  assert.closeTo(usage.models.reduce((sum, { cost }) => sum + cost, 0), cost, 1e-9)
  assert.deepStrictEqual(usage.models.map(({ model }) => model), ["scripted/m"])
  const row = Option.getOrUndefined(yield* (yield* SessionStore).getMessage(message?.id ?? assert.fail("not stored")))
  assert.deepStrictEqual(row?.usage, usage.total)
  assert.deepStrictEqual(row?.account?.models, usage.models)
})

onBothLines(
  "a turn on the real server costs what that counts",
  { layerOf: RealServer.onLine() },
  (it, { line, shell, task }) => {
    const cases: ReadonlyArray<readonly [name: string, steps: ReadonlyArray<Step>, status: TurnResult["status"]]> = [
      ["for a summary that it needs", [shell("echo hi"), overflow, done], "completed"],
      ["for a summary that its subagent needs", [task("look", [shell("echo hi"), overflow, done]), done], "completed"],
      ["for a step that is tried again", [shell("echo hi"), { fail: 500 }, done], "completed"],
      ["for a step that fails behind others", [shell("echo hi"), { fail: 400 }], "error"],
      ["for a subagent that fails", [task("look", [shell("echo hi"), { fail: 400 }]), done], "completed"]
    ]
    for (const [index, [name, steps, status]] of cases.entries()) {
      it.effect(name, () =>
        Effect.gen(function*() {
          const before = yield* titled(yield* say(`cost ${index}`, "one"), line)
          const result = yield* runTurn(turn(steps, { conversationId: `cost ${index}` }))
          assert.strictEqual(result.status, status, result.error?.message)
          const cost = (yield* counted(result)) - before
          assert.isAbove(cost, 0)
          yield* assertAccount(result, cost)
        }))
    }

    it.effect("and a summary may exceed its budget", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        yield* say("dear", "one")
        const steps = [{ ...shell("echo hi") }, overflow, { text: "a b", gate: `behind ${line}`, gateAfter: 1 }]
        // The first step is taken anew behind the summary.
        const result = yield* runTurn(turn(steps, { conversationId: "dear" })).pipe(
          Effect.provideService(TurnPolicy.Budget, { cost: 2.5 * plain })
        )
        assert.strictEqual(result.error?._tag, "BudgetExceeded", result.error?.message)
        assert.isAtLeast(result.usage.total.cost, 3 * plain - 1e-9)
        yield* model.release(`behind ${line}`)
        yield* until(isIdle)
      }))

    it.effect("if it is cancelled while a tool runs", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const messageId = AssistantMessageId.make(`stopped ${line}`)
        const fiber = yield* Effect.forkChild(
          runTurn(turn([{ ...shell("echo hi; sleep 60"), ...used }, done], { messageId }))
        )
        const message = Effect.map(store.getMessage(messageId), Option.getOrUndefined)
        yield* until(Effect.map(message, (message) => message?.parts.some((part) => part.type === "tool") === true))
        yield* store.cancel(messageId, "Stopped.")
        const result = yield* Fiber.join(fiber)
        assert.strictEqual(result.status, "cancelled")
        // 1.x counts a step with the end of its tools (1.18.33).
        yield* assertAccount(result, line === "1.x" ? 0 : usedCost)
      }))

    it.effect("but for what a fork has copied", () =>
      Effect.gen(function*() {
        yield* say("copied", "one", [shell("echo hi")])
        yield* forkConversation({ conversationId: "copied", into: "copy" })
        yield* assertAccount(yield* say("copy", "two"), plain)
      }))
  }
)

describe.skipIf(SharedOpencode.isMissing("2.x"))("a turn on OpenCode 2.x costs what its server keeps", () => {
  const { shell, task } = Tools.of["2.x"]

  it.layer(Host.layerOf("2.x", { summary: () => ({ text: "the summary", gate: "summary", gateAfter: 1, ...used }) }), {
    excludeTestServices: true,
    timeout: "5 minutes"
  })((it) => {
    for (const [signal, kept] of [["SIGKILL", 0], ["SIGTERM", usedCost]] as const) {
      it.effect(`of a step whose tool runs when it ends with ${signal}`, () =>
        Effect.gen(function*() {
          const { end, restart } = yield* Host.Host
          const store = yield* SessionStore
          const messageId = AssistantMessageId.make(`tool ${signal}`)
          const fiber = yield* Effect.forkChild(
            runTurn(turn([{ ...shell("echo hi; sleep 60"), ...used }, done], { messageId }))
          )
          const message = Effect.map(store.getMessage(messageId), Option.getOrUndefined)
          yield* until(
            Effect.map(message, (message) =>
              message?.parts.some((part) => part.type === "tool" && part.status === "running") === true)
          )
          yield* end(signal)
          yield* restart
          const result = yield* Fiber.join(fiber)
          assert.deepStrictEqual([result.status, result.content], ["completed", "Done."], result.error?.message)
          yield* assertAccount(result, kept + plain)
        }))
    }

    it.effect("of a summary that is written anew when its server has died, and that nobody orders", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const { crash } = yield* Host.Host
        const full = { text: "answer to full", usage: { input: 95_000, output: 100 } }
        yield* runTurn(turn([full], { conversationId: "full" }))
        const fiber = yield* Effect.forkChild(runTurn(turn([done], { conversationId: "full" })))
        yield* model.reached("summary")
        yield* crash
        yield* model.release("summary")
        const result = yield* Fiber.join(fiber)
        assert.deepStrictEqual([result.status, result.content], ["completed", "Done."], result.error?.message)
        yield* assertAccount(result, usedCost + plain)
        yield* say("full", "next")
        const summaries = (yield* model.requests).filter(({ isSummary }) => isSummary)
        assert.lengthOf(summaries, 2)
      }))

    it.effect("but for what a subagent in the background does after its end, which costs of no turn", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const steps = [shell("echo hi"), { text: "Found.", gate: "outlives", gateAfter: 0, ...used }]
        const result = yield* runTurn(
          turn([task("look", steps, { background: true }), { text: "It works on." }], { conversationId: "background" })
        )
        assert.strictEqual(result.status, "completed")
        yield* model.reached("outlives")
        assert.isBelow(result.usage.total.cost, 3 * plain + 1e-9)
        yield* model.release("outlives")
        yield* until(isIdle)
        yield* assertAccount(yield* say("background", "next"), plain)
      }))
  })
})
