/**
 * Turns on OpenCode 2.x whose server ends in the middle: one prompt, one answer, and a reason for each further call of the model. The same on
 * the real beta is in `Restarts.test.ts` of platform-node.
 */
import { assert, describe } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import type { SessionId } from "@opencode-turn/core/Ids"
import type { SessionStore } from "@opencode-turn/core/SessionStore"
import { resumeTurn, runTurn } from "@opencode-turn/core/Turn"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"

import { FakeTool } from "@opencode-turn/testing"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { ended, pass, takeOver } = Carrying
const { messageId, rest, test } = Turns

type Fake = FakeOpencode.FakeOpencode["Service"]

/** How a server ends. */
const ends = { "a crash": (fake: Fake) => fake.kill, "SIGTERM": (fake: Fake) => fake.terminate } as const

const shell = (gate?: string): Step => ({
  tool: "shell",
  args: gate === undefined ? { command: "echo ran" } : FakeTool.withOutcome({ command: "echo ran" }, { gate })
})

const posts = Effect.map(
  Turns.requests("POST", /\/(prompt|synthetic)$/),
  (all) => all.map(({ path }) => path.split("/").at(-1))
)

const startOf = (fake: Fake) => Effect.andThen(fake.start, rest)

/** One user message, this answer, and so many calls of the model. */
const assertOnce = Effect.fnUntraced(function*(
  { content, error, sessionId }: TurnResult,
  expected: { readonly content: string; readonly calls: number }
) {
  const fake = yield* FakeOpencode.FakeOpencode
  assert.isUndefined(error, error?.message)
  assert.deepStrictEqual(
    { content, calls: yield* fake.modelCalls, prompts: yield* fake.userMessageCount(sessionId ?? "") },
    { ...expected, prompts: 1 }
  )
  // Nothing begins behind the end.
  yield* pass(10_000)
  assert.strictEqual(yield* fake.modelCalls, expected.calls, "model calls after the end")
})

interface Point {
  readonly name: string
  readonly steps: ReadonlyArray<Step>
  /** The gate at which the server ends; it opens with the server's next start. */
  readonly gate: string
  readonly content: string
  /** Calls of the model: one for each step, and one for each step that broke off. */
  readonly calls: number
}

const points: ReadonlyArray<Point> = [
  {
    name: "before the model has said a word",
    steps: [{ text: "Hello.", gate: "here", gateAfter: 0 }],
    gate: "here",
    content: "Hello.",
    // The broken step is asked again.
    calls: 2
  },
  {
    name: "in the middle of a text",
    steps: [{ text: "one two three", gate: "here", gateAfter: 2, ending: "hang" }, { text: "From the start." }],
    gate: "here",
    content: "From the start.",
    // The broken step is asked again.
    calls: 2
  },
  {
    name: "while a tool runs",
    steps: [shell("here"), { text: "After the tool." }],
    gate: "here",
    content: "After the tool.",
    // The call of the tool stays and has failed, so that its step is not asked again.
    calls: 2
  },
  {
    name: "between two steps",
    steps: [shell(), { text: "After the tool.", gate: "here", gateAfter: 0 }],
    gate: "here",
    content: "After the tool.",
    // The second step is asked again.
    calls: 3
  }
]

for (const line of ["2.x", "2.x release"] as const) {
  for (const managed of [false, true]) {
    const fake = { line, managed }
    describe(`a turn on ${line}${managed ? ", managed," : ""} whose server ends`, () => {
      for (const [how, end] of Object.entries(ends)) {
        for (const { calls, content, gate, name, steps } of points) {
          test(`${name}, by ${how}`, () =>
            Effect.gen(function*() {
              const fake = yield* FakeOpencode.FakeOpencode
              const fiber = yield* Effect.forkChild(runTurn(Turns.turn(steps)))
              yield* fake.reached(gate)
              yield* rest
              yield* end(fake)
              yield* rest
              yield* fake.release(gate)
              yield* startOf(fake)
              const { value } = yield* ended(fiber, 60_000)
              const kept = how === "SIGTERM" && name.includes("middle") ? "one two \n\n" : ""
              yield* assertOnce(value, { content: kept + content, calls })
            }), { fake })
        }

        test(`while a person is asked, by ${how}`, () =>
          Effect.gen(function*() {
            const fake = yield* FakeOpencode.FakeOpencode
            const asked = yield* Deferred.make<void>()
            const gate: HumanGate.Gate = () => Effect.andThen(Deferred.succeed(asked, undefined), Effect.never)
            const fiber = yield* Effect.forkChild(
              runTurn(Turns.turn([shell(), { text: "Then not." }])).pipe(
                Effect.provideService(HumanGate.HumanGate, gate)
              )
            )
            yield* Deferred.await(asked)
            yield* end(fake)
            yield* startOf(fake)
            const { value } = yield* ended(fiber, 60_000)
            // The call of the tool has failed with its ask.
            yield* assertOnce(value, { content: "Then not.", calls: 2 })
          }), { fake: { ...fake, permission: [{ permission: "bash", pattern: "*", action: "ask" }] } })

        test(`after its end and before anybody has seen it, by ${how}`, () =>
          Effect.gen(function*() {
            const fake = yield* FakeOpencode.FakeOpencode
            const fiber = yield* Effect.forkChild(runTurn(Turns.turn([{ text: "All.", gate: "here", gateAfter: 0 }])))
            yield* fake.reached("here")
            yield* rest
            yield* fake.muteEvents
            yield* fake.release("here")
            yield* rest
            yield* end(fake)
            yield* fake.unmuteEvents
            yield* startOf(fake)
            const { value } = yield* ended(fiber, 60_000)
            yield* assertOnce(value, { content: "All.", calls: 1 })
          }), { fake })

        test(`with the answer to the post, before the prompt is read, by ${how}`, () =>
          Effect.gen(function*() {
            const fake = yield* FakeOpencode.FakeOpencode
            yield* fake.fail({ method: "POST", path: /\/prompt$/ }, (serve) => Effect.tap(serve, () => end(fake)))
            const fiber = yield* Effect.forkChild(runTurn(Turns.turn([{ text: "Once." }])))
            yield* rest
            yield* startOf(fake)
            const { value } = yield* ended(fiber, 60_000)
            yield* assertOnce(value, { content: "Once.", calls: 1 })
            assert.notInclude(yield* posts, "synthetic")
          }), { fake })

        test(`twice, by ${how}`, () =>
          Effect.gen(function*() {
            const fake = yield* FakeOpencode.FakeOpencode
            const steps: ReadonlyArray<Step> = [shell("one"), shell("two"), { text: "At last." }]
            const fiber = yield* Effect.forkChild(runTurn(Turns.turn(steps)))
            for (const gate of ["one", "two"]) {
              yield* ended(yield* Effect.forkChild(fake.reached(gate)), 60_000)
              yield* end(fake)
              yield* rest
              yield* startOf(fake)
            }
            const { value } = yield* ended(fiber, 60_000)
            // Each call of a tool stays and has failed.
            yield* assertOnce(value, { content: "At last.", calls: 3 })
          }), { fake })
      }
    })
  }
}

/** A turn whose first step breaks off with its server, and whose second one answers. */
const broken: ReadonlyArray<Step> = [
  { text: "one two three", gate: "half", gateAfter: 2, ending: "hang" },
  { text: "From the start." }
]

/** Runs a turn until its server has come back from a crash, with a fault for the input by which it goes on. */
const carriedOn = Effect.fnUntraced(function*(fault: Faults.Fault, steps = broken) {
  const fake = yield* FakeOpencode.FakeOpencode
  yield* fake.fail({ method: "POST", path: /\/synthetic$/ }, fault)
  const fiber = yield* Effect.forkChild(runTurn(Turns.turn(steps)))
  yield* fake.reached("half")
  yield* fake.restart
  return fiber
})

for (const line of ["2.x", "2.x release"] as const) {
  const options = { fake: { line } }
  describe(`a turn on ${line} that goes on`, () => {
    test("asks once if the answer to the post is lost", () =>
      Effect.gen(function*() {
        const { value } = yield* ended(yield* carriedOn(Faults.lostAnswer), 60_000)
        yield* assertOnce(value, { content: "From the start.", calls: 2 })
        assert.strictEqual((yield* posts).filter((kind) => kind === "synthetic").length, 1)
      }), options)

    test(
      "asks once if the answer to the post is lost with the server, before the input is read",
      () =>
        Effect.gen(function*() {
          const fake = yield* FakeOpencode.FakeOpencode
          const fiber = yield* carriedOn((serve) => Effect.tap(serve, () => fake.kill))
          yield* pass(10_000)
          yield* startOf(fake)
          const { value } = yield* ended(fiber, 60_000)
          yield* assertOnce(value, { content: "From the start.", calls: 2 })
        }),
      options
    )

    test("asks once if the input of a worker that lost the turn comes behind the answer", () =>
      Effect.gen(function*() {
        const { late, worker } = yield* twoWorkers(broken)
        const { value } = yield* ended(worker, 60_000)
        yield* late
        yield* assertOnce(value, { content: "From the start.", calls: 2 })
      }), options)

    test("asks once for each break if that worker saw an earlier one", () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        const { late, worker } = yield* twoWorkers([
          ...broken.slice(0, 1),
          { text: "four five six", gate: "second", gateAfter: 2, ending: "hang" },
          { text: "From the start." }
        ])
        yield* ended(yield* Effect.forkChild(fake.reached("second")), 60_000)
        yield* fake.restart
        const { value } = yield* ended(worker, 60_000)
        yield* late
        // Each broken step is asked again.
        yield* assertOnce(value, { content: "From the start.", calls: 3 })
      }), options)
  })
}

/** A worker that took a broken turn over, and the input to go on of another one, which the server gets late. */
const twoWorkers = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>) {
  const fake = yield* FakeOpencode.FakeOpencode
  const client = yield* Client
  const { promptId, sessionId } = yield* Carrying.leave(steps, { stage: "posted" })
  assert(promptId !== undefined && sessionId !== undefined)
  yield* fake.restart
  yield* fake.fail({ method: "POST", path: /\/synthetic$/ }, Faults.reset)
  const first = client.carryOn(sessionId, { parts: Carrying.promptOf(steps), ids: { promptId, partIds: [] } })
  yield* ended(yield* Effect.forkChild(Effect.exit(first)), 60_000)
  const [lost] = yield* Turns.requests("POST", /\/synthetic$/)
  assert.isDefined(lost)
  return {
    late: Effect.andThen(fake.handle({ ...lost, body: JSON.stringify(lost.body) }), rest),
    worker: yield* Effect.forkChild(resumeTurn(yield* takeOver(messageId)))
  }
})

describe("a managed server of OpenCode 2.x that is slow to go on by itself", () => {
  for (const line of ["2.x", "2.x release"] as const) {
    test(`leaves it to the turn that was faster: ${line}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        const fiber = yield* Effect.forkChild(runTurn(Turns.turn(broken)))
        yield* fake.reached("half")
        yield* fake.terminate
        yield* startOf(fake)
        const { value } = yield* ended(fiber, 60_000)
        yield* pass(20_000)
        yield* assertOnce(value, { content: "one two \n\nFrom the start.", calls: 2 })
      }), { fake: { line, managed: true, resumeDelay: "15 seconds" } })

    test(`and has begun when the turn looks, goes on alone: ${line}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        yield* fake.fail({ method: "POST", path: /\/prompt$/ }, (serve) => serve)
        // The server begins between the turn's last look and its post.
        yield* fake.fail({ method: "POST", path: /\/prompt$/ }, Faults.delay("20 seconds"))
        const fiber = yield* Effect.forkChild(
          runTurn(Turns.turn([
            ...broken.slice(0, 1),
            { text: "Slowly.", gate: "slow", gateAfter: 0 }
          ]))
        )
        yield* fake.reached("half")
        yield* fake.terminate
        yield* startOf(fake)
        yield* pass(60_000)
        yield* fake.release("slow")
        const { value } = yield* ended(fiber, 60_000)
        yield* assertOnce(value, { content: "one two \n\nSlowly.", calls: 2 })
        assert.notInclude(yield* posts, "synthetic")
      }), { fake: { line, managed: true, resumeDelay: "15 seconds" } })
  }
})

/** The first summary hangs, and the others are whole. */
const dying = () => {
  let calls = 0
  return () => ({
    text: "half a summary",
    ...(calls++ === 0 && { gate: "summary", gateAfter: 1, ending: "hang" as const })
  })
}

/** The server dies while it summarises in the middle of the turn. */
const left = Effect.fnUntraced(function*(sessionId: Effect.Effect<SessionId | undefined, unknown, SessionStore>) {
  const fake = yield* FakeOpencode.FakeOpencode
  const client = yield* Client
  yield* fake.reached("here")
  yield* rest
  const id = yield* Effect.orDie(sessionId)
  assert.isDefined(id)
  const order = yield* Effect.forkChild(Effect.exit(client.compactSession(id)), { startImmediately: true })
  yield* rest
  yield* fake.release("here")
  yield* fake.reached("summary")
  yield* fake.restart
  yield* Effect.forkChild(Fiber.join(order))
})
const sessionOfRow = Effect.map(Turns.row, (row) => row?.promptRecord?.sessionId)

describe("an order of another client to summarise, which its server left", () => {
  for (const line of ["2.x", "2.x release"] as const) {
    for (const managed of [false, true]) {
      test(
        `is not in the way of the answer that goes on: ${line}${managed ? ", managed" : ""}`,
        () =>
          Effect.gen(function*() {
            const fiber = yield* Effect.forkChild(runTurn(Turns.turn([shell("here"), { text: "After all." }])))
            yield* left(sessionOfRow)
            const { value } = yield* ended(fiber, 60_000)
            assert.isUndefined(value.error, value.error?.message)
            assert.strictEqual(value.content, "After all.")
          }),
        { fake: { line, managed, summary: dying() } }
      )

      test(`is not in the way of another worker: ${line}${managed ? ", managed" : ""}`, () =>
        Effect.gen(function*() {
          yield* Carrying.leave([shell("here"), { text: "After all." }], { stage: "posted" })
          yield* left(sessionOfRow)
          const { value } = yield* ended(yield* Effect.forkChild(resumeTurn(yield* takeOver(messageId))), 60_000)
          assert.isUndefined(value.error, value.error?.message)
          assert.strictEqual(value.content, "After all.")
        }), { fake: { line, managed, summary: dying() } })

      test(
        `is not in the way of a prompt that another worker recorded: ${line}${managed ? ", managed" : ""}`,
        () =>
          Effect.gen(function*() {
            const fake = yield* FakeOpencode.FakeOpencode
            const client = yield* Client
            const { sessionId } = yield* runTurn(Turns.turn([{ text: "Before." }], { messageId: "before" }))
            assert.isDefined(sessionId)
            yield* Carrying.leave([{ text: "After all." }], { stage: "recorded" })
            const order = yield* Effect.forkChild(Effect.exit(client.compactSession(sessionId)), {
              startImmediately: true
            })
            yield* fake.reached("summary")
            yield* fake.restart
            yield* Effect.forkChild(Fiber.join(order))
            const { value } = yield* ended(yield* Effect.forkChild(resumeTurn(yield* takeOver(messageId))), 60_000)
            assert.isUndefined(value.error, value.error?.message)
            assert.strictEqual(value.content, "After all.")
          }),
        { fake: { line, managed, summary: dying() } }
      )
    }
  }
})

/** A turn that waits with its subagent in the background. */
const withBackground: ReadonlyArray<Step> = [
  {
    tool: "subagent",
    args: {
      agent: "general",
      description: "look",
      background: true,
      prompt: FakeOpencode.prompt("Look.", [
        { text: "child one", gate: "child", gateAfter: 1, ending: "hang" },
        { text: "Never." }
      ])
    }
  },
  { text: "one two", gate: "half", gateAfter: 1, ending: "hang" },
  { text: "Never." }
]

describe("a turn on OpenCode 2.x with a subagent in the background", () => {
  test("says that it works on when the turn ends before it, as does the stored message", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const fiber = yield* Effect.forkChild(runTurn(Turns.turn([
        ...withBackground.slice(0, 1),
        { text: "It works on.", gate: "answer" }
      ])))
      yield* fake.reached("child")
      yield* fake.reached("answer")
      yield* rest
      yield* fake.release("answer")
      const { value } = yield* ended(fiber, 60_000)
      assert.strictEqual(value.status, "completed")
      assert.deepStrictEqual(value.subagents.map(({ status, text }) => [status, text]), [["running", "child "]])
      assert.deepStrictEqual(value.message?.subagents.map(({ status }) => status), ["running"])
    }), { fake: { line: "2.x" } })

  for (const managed of [false, true]) {
    for (const [how, end] of Object.entries(ends)) {
      test(
        `that is cancelled when its server is back stops both, ${managed ? "managed" : "plain"}, after ${how}`,
        () =>
          Effect.gen(function*() {
            const fake = yield* FakeOpencode.FakeOpencode
            const fiber = yield* Effect.forkChild(runTurn(Turns.turn(withBackground)))
            yield* fake.reached("child")
            yield* fake.reached("half")
            yield* rest
            yield* end(fake)
            yield* rest
            yield* fake.start
            yield* Turns.cancel
            const { value } = yield* ended(fiber, 60_000)
            assert.strictEqual(value.status, "cancelled")
            const client = yield* Client
            const statuses = yield* client.statuses
            assert.deepStrictEqual(Array.from(statuses.keys()), [])
            const calls = yield* fake.modelCalls
            yield* pass(10_000)
            assert.strictEqual(yield* fake.modelCalls, calls, "model calls behind the end")
          }),
        { fake: { line: "2.x", managed } }
      )
    }
  }
})
