import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Finished } from "../support/driving.ts"
import { finish, lasts, layer, run, start } from "../support/driving.ts"

const bash = (command: string): Step => ({ tool: "bash", args: { command } })

/** A model that takes some time for each answer. */
const many = (step: (n: number) => Step, count = 100): ReadonlyArray<Step> =>
  Array.from({ length: count }, (_, n) => ({ ...step(n), delayMillis: 10 }))

/** Checks that the guard ended the turn after a few calls, that nothing still runs, and that its text is kept. */
const assertStopped = Effect.fnUntraced(function*(
  { modelCalls, result, trace }: Finished,
  content: RegExp,
  mostCalls = 10
) {
  const { error, status } = result
  assert.strictEqual(status, "error", error?.message)
  assert.strictEqual(result.message?.status, "error")
  assert.strictEqual(result.message?.error?.tag, error?._tag)
  assert.match(result.content, content)
  assert.isAtMost(modelCalls, mostCalls, "model calls")
  assert.strictEqual(trace.at(-1), "turn.finished")
  assert.deepStrictEqual([...(yield* (yield* Client).statuses)], [], "sessions that still run")
  return error
})

it.effect.each<{ readonly name: string; readonly step: (n: number) => Step }>([
  { name: "a finish reason of no known kind", step: () => ({ text: "words", finish: "weird" }) },
  { name: "such a reason, and new words", step: (n) => ({ text: `words ${n}`, finish: "weird" }) },
  {
    name: "such a reason, new words, and a call with the same result",
    step: (n) => ({ text: `words ${n}`, ...bash("echo same"), finish: "weird" })
  },
  { name: "such a reason, and thoughts alone", step: () => ({ reasoning: "hm", finish: "odd" }) },
  { name: "no tool call where it says that it called one", step: () => ({ text: "words", finish: "tool_calls" }) }
])("ends a turn whose repeated model calls bring nothing new: $name", ({ step }) =>
  Effect.gen(function*() {
    const end = yield* run(many(step), 5)
    const error = yield* assertStopped(end, /words|Sorry/)
    assert(error?._tag === "NoProgress")
    assert.strictEqual(error.steps, 8)
    assert.strictEqual(error.allSteps, end.modelCalls, "steps in all")
    assert.include(error.message, "8 steps in a row")
  }).pipe(Effect.provide(layer())))

it.effect("ends a turn that repeats a call with the same result later, because it may wait for something", () =>
  Effect.gen(function*() {
    const end = yield* run(many(() => ({ text: "words", ...bash("echo same") })), 5)
    const error = yield* assertStopped(end, /words/, 20)
    assert(error?._tag === "NoProgress")
    assert.strictEqual(error.steps, 16)
  }).pipe(Effect.provide(layer())))

it.effect("ends a turn whose subagent's repeated model calls bring nothing new", () =>
  Effect.gen(function*() {
    const script = many((n) => ({ text: `words ${n}`, finish: "weird" }))
    const end = yield* run([{
      tool: "task",
      args: { description: "look", prompt: FakeOpencode.prompt("Look.", script), subagent_type: "general" }
    }], 5)
    const error = yield* assertStopped(end, /Sorry/)
    assert(error?._tag === "NoProgress")
    assert.strictEqual(error.sessionId, end.result.subagents[0]?.sessionId)
  }).pipe(Effect.provide(layer())))

it.effect("ends a turn whose context overflows again after it was compacted, with the words of the provider", () =>
  Effect.gen(function*() {
    const overflow: Step = {
      fail: 400,
      message: "prompt is too long: context_length_exceeded",
      times: 1000,
      delayMillis: 10
    }
    // The prompt, and with it the script, is posted anew only where something was said before it.
    yield* run([{ text: "hello" }])
    const running = yield* start([], { prompt: FakeOpencode.prompt("Do it.", [overflow]) })
    const end = yield* finish(running, 5)
    const error = yield* assertStopped(end, /Sorry|no script/)
    assert(error?._tag === "Upstream", error?.message)
    assert.strictEqual(error.name, "ContextOverflowError")
    assert.strictEqual(error.reason, overflow.message)
  }).pipe(Effect.provide(layer())))

it.effect.each([
  { name: "a hundred calls", steps: many((n) => bash(`echo ${n}`)) },
  { name: "a hundred edits", steps: many((n) => ({ tool: "write", args: { filePath: "a.txt", content: `${n}` } })) },
  {
    name: "calls that are seven times the same, now and then",
    steps: many((n) => bash(`echo ${Math.floor(n / 8)}`), 80)
  },
  {
    name: "a to-do list that is written again and again",
    steps: many((n) => ({
      tool: "todowrite",
      args: { todos: [{ content: `item ${n}`, status: "pending", priority: "low" }] }
    }))
  }
])("lets a turn with progress work: $name", ({ steps }) =>
  Effect.gen(function*() {
    const end = yield* run([...steps, { text: "done" }], 60)
    assert.strictEqual(end.result.status, "completed", end.result.error?.message)
    assert.strictEqual(end.result.content, "done")
  }).pipe(Effect.provide(layer())))

it.effect.each([
  { name: "sooner", limit: 3, calls: 5 },
  { name: "later", limit: 20, calls: 22 }
])("ends such a turn $name where the policy says so", ({ calls, limit }) =>
  Effect.gen(function*() {
    const { modelCalls, result } = yield* run(many(() => ({ text: "words", finish: "weird" })), 5)
    assert.strictEqual(result.error?._tag, "NoProgress")
    assert.isAtMost(modelCalls, calls)
  }).pipe(Effect.provideService(TurnPolicy.MaxIdleSteps, limit), Effect.provide(layer())))

it.effect("never ends such a turn without a limit", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start(many(() => ({ text: "words", finish: "weird" })))
    yield* lasts(running, "1 second")
    assert.isAtLeast(yield* fake.modelCalls, 50)
    yield* Fiber.interrupt(running.fiber)
  }).pipe(Effect.provideService(TurnPolicy.MaxIdleSteps, Infinity), Effect.provide(layer())))
