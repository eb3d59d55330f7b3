/**
 * Structured answers and budgets against a real OpenCode with a scripted model.
 */
import { assert } from "@effect/vitest"
import { runTurn } from "@opencode-turn/core/Turn"
import type { BudgetExceeded } from "@opencode-turn/core/TurnError"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Duration, Effect, Schema } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { base, isIdle, until } from "../support/RealTurns.ts"

const Weather = Schema.Struct({ city: Schema.String, celsius: Schema.Finite, at: Schema.DateTimeUtcFromString })

const used = { input: 1000, output: 100 }

const right = { city: "Oslo", celsius: -3.5, at: "2026-01-02T03:04:05.000Z" }
const wrong = { city: "Oslo", celsius: "cold", at: "2026-01-02T03:04:05.000Z" }

/** What two steps used. */
const usedTwice = {
  cost: 0.0024,
  tokens: { input: 2000, output: 200, reasoning: 0, cacheRead: 0, cacheWrite: 0 }
}

onBothLines(
  "an answer that is a value",
  { layerOf: RealServer.onLine() },
  (it, tools) => {
    const value = (args: Schema.JsonObject): Step => ({ ...tools.value(args), usage: used })
    const work = tools.shell("echo work")

    it.effect("is decoded, stored as JSON, and typed", () =>
      Effect.gen(function*() {
        const turn = base([{ ...work, usage: used }, value(right)])
        const result = yield* runTurn({ ...turn, output: Weather })
        assert.strictEqual(result.status, "completed", result.error?.message)
        assert.deepEqual([result.output?.city, result.output?.celsius], ["Oslo", -3.5])
        assert.strictEqual(result.output?.at.epochMilliseconds, Date.UTC(2026, 0, 2, 3, 4, 5))
        assert.deepEqual(JSON.parse(result.content), right)
        assert.strictEqual(result.message?.content, result.content)
        assert.deepEqual(result.usage.total, usedTwice)
      }))

    it.effect("leaves a session behind in which the next turns go on, with a value or without", () =>
      Effect.gen(function*() {
        const { conversationId, ...input } = base([value(right)])
        const next = (steps: ReadonlyArray<Step>) => ({ ...base(steps), conversationId })
        const results = [
          yield* runTurn({ conversationId, ...input, output: Weather }),
          yield* runTurn(next([{ text: "Only words." }])),
          yield* runTurn({ ...next([value({ ...right, city: "Bergen" })]), output: Weather })
        ]
        const [first] = results
        assert.deepEqual(results.map(({ status }) => status), ["completed", "completed", "completed"])
        assert.strictEqual(results[1]?.content, "Only words.")
        assert.include(results[2]?.content, "Bergen")
        assert.isTrue(results.every((result) => result.sessionId === first?.sessionId && !result.isRecreated))
      }))

    it.effect("is read from the text if the model writes it there as JSON, between its words", () =>
      Effect.gen(function*() {
        const json = JSON.stringify(right)
        for (
          const text of ["This is the weather:\n\n```json\n" + json + "\n```\n\nTake a coat.", `It is cold. ${json}`]
        ) {
          const result = yield* runTurn({ ...base([{ text, usage: used }]), output: Weather })
          assert.strictEqual(result.status, "completed", result.error?.message)
          assert.strictEqual(result.output?.celsius, -3.5)
          assert.deepEqual(JSON.parse(result.content), right)
          assert.strictEqual(result.usage.total.tokens.output, used.output)
        }
      }))

    it.effect("is requested once more if it does not fit, and both answers count", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const before = (yield* model.requests).length
        // The repair has no script of its own: the model goes on with the script of the first prompt.
        const result = yield* runTurn({ ...base([value(wrong), value(right)]), output: Weather })
        assert.strictEqual(result.status, "completed", result.error?.message)
        assert.strictEqual(result.output?.celsius, -3.5)
        const requests = (yield* model.requests).slice(before).filter(({ isTitle }) => !isTitle)
        assert.lengthOf(requests, 2)
        assert.include(requests[1]?.messages.map(({ text }) => text).join("\n"), "- celsius: ")
        assert.deepEqual(result.usage.total, usedTwice)
      }))

    it.effect("that never fits ends the turn with its issues", () =>
      Effect.gen(function*() {
        const result = yield* runTurn({
          ...base([value(wrong), { text: "It is cold.", usage: used }]),
          output: Weather
        })
        assert.strictEqual(result.status, "error")
        assert(result.error?._tag === "OutputInvalid")
        assert.strictEqual(result.error.repairs, 1)
        assert.deepEqual(result.error.issues, [{ path: "", message: "it is no JSON" }])
        assert.isUndefined(result.output)
        assert.strictEqual(result.content, "It is cold.")
        assert.strictEqual(result.message?.status, "error")
        assert.deepEqual(result.usage.total, usedTwice)

        const unrepaired = yield* runTurn({ ...base([value(wrong), value(right)]), output: Weather }).pipe(
          Effect.provideService(TurnPolicy.OutputRepairs, 0)
        )
        assert(unrepaired.error?._tag === "OutputInvalid")
        assert.deepEqual(unrepaired.error.issues.map(({ path }) => path), ["celsius"])
      }))

    const cases: ReadonlyArray<{
      readonly limit: BudgetExceeded["limit"]
      readonly budget: TurnPolicy.Budget
      readonly steps: ReadonlyArray<Step>
    }> = [
      {
        limit: "cost",
        budget: { cost: 0.001 },
        steps: [{ text: "Cheap.", ...work, usage: used }, { text: "No more.", ending: "hang" }]
      },
      {
        limit: "tokens",
        budget: { tokens: 1000 },
        steps: [{ text: "Few.", ...work, usage: used }, { text: "No more.", ending: "hang" }]
      },
      {
        limit: "steps",
        budget: { steps: 1 },
        steps: [{ text: "One.", ...work, usage: used }, { text: "No more.", ending: "hang" }]
      },
      {
        limit: "modelRetries",
        budget: { modelRetries: 1 },
        steps: [
          { fail: 500, message: "overloaded", headers: { "retry-after-ms": "20" }, times: 2 },
          { text: "Never.", ending: "hang" }
        ]
      },
      {
        // The first words have to come within these times, however busy the machine is.
        limit: "stall",
        budget: { stall: Duration.seconds(4) },
        steps: [{ text: "And then", ending: "hang" }]
      },
      {
        limit: "wallClock",
        budget: { wallClock: Duration.seconds(5) },
        steps: [{ text: "Slowly and slowly on", ending: "hang" }]
      }
    ]
    for (const { budget, limit, steps } of cases) {
      it.effect(`is given up if the turn exceeds its budget: ${limit}`, () =>
        Effect.gen(function*() {
          const result = yield* runTurn(base(steps)).pipe(Effect.provideService(TurnPolicy.Budget, budget))
          assert.strictEqual(result.status, "error")
          assert(result.error?._tag === "BudgetExceeded", result.error?.message)
          assert.strictEqual(result.error.limit, limit)
          assert.isAbove(result.error.value, result.error.allowed)
          assert.strictEqual(result.message?.status, "error")
          yield* until(isIdle)
          // What was streamed is kept.
          const said = steps.flatMap((step) => ("text" in step && step.text !== undefined ? [step.text] : []))
          if (limit === "modelRetries") return
          assert.notStrictEqual(result.content, "")
          assert.strictEqual(said.join("\n\n").slice(0, result.content.length), result.content)
        }))
    }
  }
)
