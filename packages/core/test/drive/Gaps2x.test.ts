/** Turns on OpenCode 2.x whose stream is cut, at each of their events: a gap is closed by the messages and the open asks, as on 1.x. */
import { assert, describe, it } from "@effect/vitest"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { assertNeverGarbled, atEvent, atEveryEvent, layer, start } from "../support/driving.ts"

type Line = "2.x" | "2.x release"

/** The speed of a real server, so that a lost stream is back in the middle of the turn. */
const slowly = (steps: ReadonlyArray<Step>): ReadonlyArray<Step> =>
  steps.map((step) => ({ ...step, delayMillis: 150, ...("text" in step && { chunks: 3, chunkDelayMillis: 80 }) }))

const shell: Step = {
  reasoning: "let me think about it",
  text: "First I look around here.",
  tool: "shell",
  args: { command: "echo one; sleep 0.2; echo two" }
}
const done: Step = { text: "And that is the whole answer." }
const question: Step = {
  tool: "question",
  args: { questions: [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }] }
}
const subagent: Step = {
  tool: "subagent",
  args: {
    agent: "general",
    description: "sub",
    prompt: FakeOpencode.prompt(
      "look",
      slowly([{ tool: "shell", args: { command: "echo in" } }, { text: "child text" }])
    )
  }
}

const cases: ReadonlyArray<
  { readonly name: string; readonly steps: ReadonlyArray<Step>; readonly model?: string; readonly status: string }
> = [
  { name: "a tool between two texts", steps: slowly([shell, done]), status: "completed" },
  { name: "a question", steps: slowly([question, done]), status: "completed" },
  { name: "a subagent that asks", steps: slowly([subagent, done]), status: "completed" },
  { name: "a failure of the provider", steps: slowly([shell, { fail: 400 }]), status: "error" },
  { name: "a model that the server cannot call", steps: [done], model: "scripted/broken", status: "error" }
]

const gate: HumanGate.Gate = (ask, asking) =>
  ask._tag === "Question" ? Effect.succeed({ _tag: "Answers", answers: [["A"]] }) : HumanGate.allow(ask, asking)

/** What a result tells, but for the times. */
const told = (result: TurnResult) => ({
  status: result.status,
  content: result.content,
  error: result.error?.message,
  finish: result.finish,
  usage: result.usage.total,
  parts: result.reply.parts.map((part) =>
    part.type === "tool"
      ? [part.tool, part.status, part.output, part.error]
      : part.type === "text" || part.type === "reasoning"
      ? [part.type, part.text]
      : [part.type]
  ),
  subagents: result.subagents.map(({ status, text, usage }) => ({ status, text, usage }))
})

const run = Effect.fnUntraced(function*(
  { model, steps }: typeof cases[number],
  line: Line,
  n: number
) {
  return yield* Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const { count } = yield* atEvent(n, fake.cutEvents)
    const running = yield* start(steps, model === undefined ? {} : { model })
    for (let second = 0; second < 60 && !running.isDone(); second++) yield* TestClock.adjust("1 second")
    assert.isTrue(running.isDone(), "the turn still runs")
    const result = yield* Fiber.join(running.fiber)
    assertNeverGarbled(running.updates, result)
    yield* TestClock.adjust("2 seconds")
    assert.strictEqual(yield* fake.eventConnections, 0, "event connections")
    return {
      count: count(),
      modelCalls: yield* fake.modelCalls,
      userMessages: yield* fake.userMessageCount(result.sessionId ?? ""),
      told: told(result)
    }
  }).pipe(
    Effect.provideService(HumanGate.HumanGate, gate),
    Effect.provide(
      layer({ line, models: { broken: "broken" }, permission: [{ permission: "bash", pattern: "*", action: "ask" }] })
    )
  )
})

/** The names of the release mean the same (`Tapes.test.ts`), so one turn is enough for them. */
const linesOf = ({ name }: typeof cases[number]): ReadonlyArray<Line> =>
  name === cases[0]?.name ? ["2.x", "2.x release"] : ["2.x"]

describe("a turn whose stream is cut", () => {
  for (const turn of cases) {
    it.effect.each(linesOf(turn))(
      `at any of its events has the result of one that is not: ${turn.name} (%s)`,
      (line) =>
        Effect.gen(function*() {
          const uncut = yield* run(turn, line, Infinity)
          assert.strictEqual(uncut.told.status, turn.status)
          const count = yield* atEveryEvent((n) =>
            Effect.gen(function*() {
              const cut = yield* run(turn, line, n)
              assert.deepStrictEqual(cut.told, uncut.told)
              assert.strictEqual(cut.userMessages, 1, "user messages")
              assert.strictEqual(cut.modelCalls, uncut.modelCalls, "model calls")
              return cut
            })
          )
          assert.isAbove(count, 4)
        })
    )
  }
})
