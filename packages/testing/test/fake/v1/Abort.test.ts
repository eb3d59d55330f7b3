import * as Tool from "#fake/Tool"
import { assert, it } from "@effect/vitest"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { answersOf, childrenOf, newSession, permissions, post, request } from "../faking.ts"

const allowsTasks = [{ permission: "task", pattern: "*", action: "allow" }] as const

const withFake = Effect.provide(FakeOpencode.layerTest({
  subagentDepth: 2,
  agents: { nester: { mode: "subagent", permission: allowsTasks } }
}))

const task = (steps: ReadonlyArray<Step>, agent = "general"): Step => ({
  tool: "task",
  args: { description: "look", prompt: FakeOpencode.prompt("look", steps), subagent_type: agent }
})

const asking: Step = { tool: "read", args: { filePath: "/etc/hostname" } }
const running: Step = { tool: "bash", args: Tool.withOutcome({ command: "make" }, { gate: "never" }) }

const abort = (session: string) => request("POST", `/session/${session}/abort`)

it.effect("goes on after an abort while a subagent asks, and ends as if it had not been aborted", () =>
  Effect.gen(function*() {
    const session = yield* newSession()
    yield* post(session, [task([asking, { text: "never said" }]), { text: "root done" }])
    yield* TestClock.adjust(0)
    yield* abort(session)
    assert.deepStrictEqual(yield* answersOf(session), ["tool-calls: Task cancelled", "stop: root done"])
    const [child = ""] = yield* childrenOf(session)
    assert.deepStrictEqual(yield* answersOf(child), ["MessageAbortedError: Tool execution aborted"])

    const [stale = ""] = yield* permissions
    const reply = { reply: "reject" }
    assert.strictEqual((yield* request("POST", `/permission/${stale}/reply`, reply)).status, 200)
    assert.deepStrictEqual(yield* permissions, [])
  }).pipe(withFake))

it.effect("stops a turn that still runs 250 ms after an abort while a subagent asks", () =>
  Effect.gen(function*() {
    const session = yield* newSession()
    yield* post(session, [task([asking]), { text: "half", ending: "hang" }])
    yield* TestClock.adjust(0)
    const aborting = yield* Effect.forkChild(abort(session))
    yield* TestClock.adjust("249 millis")
    assert.deepStrictEqual(yield* answersOf(session), ["tool-calls: Task cancelled", "open: "])
    yield* TestClock.adjust("1 millis")
    yield* Fiber.join(aborting)
    assert.deepStrictEqual(yield* answersOf(session), ["tool-calls: Task cancelled", "MessageAbortedError: half"])
  }).pipe(withFake))

it.effect("takes no further step if a subagent's ask was rejected before the abort", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    yield* post(session, [task([asking]), { text: "half", gate: "half", ending: "hang" }])
    yield* TestClock.adjust(0)
    const [ask = ""] = yield* permissions
    yield* request("POST", `/permission/${ask}/reply`, { reply: "reject" })
    yield* fake.reached("half")
    yield* abort(session)
    const [first, last] = yield* answersOf(session)
    assert.match(first ?? "", /^tool-calls: Subagent failed \(task_id: ses_\w+\): The user rejected permission/)
    assert.strictEqual(last, "MessageAbortedError: half")
    assert.deepStrictEqual(yield* permissions, [])
  }).pipe(withFake))

it.effect("ends the step and aborts the next message while a subagent of a subagent runs a tool", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    yield* post(session, [task([task([running])], "nester"), { text: "never said" }])
    yield* fake.reached("never")
    yield* abort(session)
    const [child = ""] = yield* childrenOf(session)
    const [grandchild = ""] = yield* childrenOf(child)
    assert.deepStrictEqual(yield* answersOf(session), ["tool-calls: Task cancelled", "MessageAbortedError"])
    assert.deepStrictEqual(yield* answersOf(child), ["tool-calls: Task cancelled", "MessageAbortedError"])
    assert.strictEqual((yield* answersOf(grandchild)).length, 1)
    assert.strictEqual(yield* fake.modelCalls, 3)
    assert.deepStrictEqual((yield* request("GET", "/session/status")).body, {})
  }).pipe(withFake))

it.effect("lets a turn go on whose subagent alone was aborted", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession()
    yield* post(session, [task([running]), { text: "root done" }])
    yield* fake.reached("never")
    const [child = ""] = yield* childrenOf(session)
    yield* abort(child)
    yield* TestClock.adjust(0)
    assert.deepStrictEqual(yield* answersOf(session), ["tool-calls: Task cancelled", "stop: root done"])
  }).pipe(withFake))
