/** The order in which refusals reach the server, and the further course of a turn whose agent they stopped. */
import { assert, describe } from "@effect/vitest"
import type { Answer } from "@opencode-turn/core/Ask"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import { resumeTurn, runTurn, streamTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { ended, takeOver } from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { messageId, rest, row, test } = Turns

const permission = [{ permission: "bash", pattern: "*", action: "ask" } as const]
const bash = (...commands: ReadonlyArray<string>): Step => ({
  tools: commands.map((command) => ({ tool: "bash", args: { command } }))
})
const question = {
  tool: "question",
  args: { questions: [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }] }
}
const done: Step = { text: "done" }
const once: Answer = { _tag: "Permission", reply: { reply: "once" } }
const always: Answer = { _tag: "Permission", reply: { reply: "always" } }
const no: Answer = { _tag: "Reject" }
const because = (message: string): Answer => ({ _tag: "Reject", message })

const turn = (steps: ReadonlyArray<Step>, input: Partial<TurnInput> = {}) => Turns.turn(steps, { permission, ...input })

const isQuestion = "a question"

/** A person who answers several asks one by one. */
const person = Effect.sync(() => {
  const decisions = new Map<string, Deferred.Deferred<Answer>>()
  const asked: Array<string> = []
  const decisionOf = (name: string) => {
    const known = decisions.get(name) ?? Deferred.makeUnsafe<Answer>()
    decisions.set(name, known)
    return known
  }
  const gate: HumanGate.Gate = (ask) => {
    const name = ask._tag === "Question" ? isQuestion : ask.patterns.join()
    asked.push(name)
    return Deferred.await(decisionOf(name))
  }
  return {
    asked,
    decide: (name: string, answer: Answer) => Effect.andThen(Deferred.succeed(decisionOf(name), answer), rest),
    start: (steps: ReadonlyArray<Step>, input: Partial<TurnInput> = {}) =>
      runTurn(turn(steps, input)).pipe(
        Effect.provideService(HumanGate.HumanGate, gate),
        Effect.forkChild,
        Effect.tap(() => rest)
      )
  }
})

const gated = (...answers: ReadonlyArray<Answer>) => {
  const left = [...answers]
  return Effect.provideService(HumanGate.HumanGate, () => Effect.sync((): Answer => left.shift() ?? { _tag: "Skip" }))
}

/** The answers that reached the server, in their order. */
const replies = Effect.map(Turns.requests("POST", /\/(?:reply|reject)$/), (all) =>
  all.map(({ body }) => {
    const { message, reply } = Object(body)
    return message === undefined ? reply ?? (Object(body).answers === undefined ? "dismiss" : "answers") : message
  }))

const told = Effect.map(Turns.prompts, (posts) => posts.slice(1).map(({ body }) => JSON.stringify(body)))

/** The results of the tools of the first step. */
const outcomes = Effect.gen(function*() {
  const fake = yield* FakeOpencode
  const sessionId = (yield* row)?.promptRecord?.sessionId
  const messages = sessionId === undefined ? [] : yield* fake.messages(sessionId)
  const first = messages.find(({ info }) => info.role === "assistant")
  return (first?.parts ?? []).flatMap((part) => (part.type === "tool" ? [part.state.output ?? part.state.error] : []))
})

describe("a refusal", () => {
  for (const [name, answer] of [["once", once], ["always", always]] as const) {
    test(`waits until the other asks of its session are allowed ${name}, and then does not stop the agent`, () =>
      Effect.gen(function*() {
        const { decide, start } = yield* person
        const running = yield* start([bash("echo a", "touch b"), done])
        yield* decide("echo a", because("not a"))
        assert.deepStrictEqual(yield* replies, [])
        yield* decide("touch b", answer)
        const { value } = yield* ended(running)
        assert.strictEqual(value.content, "done", value.error?.message)
        assert.deepStrictEqual(yield* replies, [name, "not a"])
        assert.lengthOf(yield* Turns.prompts, 1)
      }))
  }

  test("waits for the answer to a question, and a dismissal for a permission", () =>
    Effect.gen(function*() {
      const { decide, start } = yield* person
      const running = yield* start([{ tools: [{ tool: "bash", args: { command: "echo a" } }, question] }, done])
      yield* decide("echo a", because("not a"))
      yield* decide(isQuestion, { _tag: "Answers", answers: [["A"]] })
      assert.strictEqual((yield* ended(running)).value.content, "done")
      assert.deepStrictEqual(yield* replies, ["answers", "not a"])
    }))

  test("of a question waits for a permission of the same session", () =>
    Effect.gen(function*() {
      const { decide, start } = yield* person
      const running = yield* start([{ tools: [question, { tool: "bash", args: { command: "echo a" } }] }, done])
      yield* decide(isQuestion, because("decide yourself"))
      yield* decide("echo a", once)
      assert.strictEqual((yield* ended(running)).value.content, "done")
      assert.deepStrictEqual(yield* replies, ["once", "dismiss"])
      assert.include((yield* told).join(), "question (Which?): decide yourself")
    }))

  test("waits for every other ask; refusals with a reason go first, and the allowed tools run", () =>
    Effect.gen(function*() {
      const { decide, start } = yield* person
      const running = yield* start([bash("echo a", "echo b", "echo c"), done])
      yield* decide("echo a", no)
      yield* decide("echo c", because("not c"))
      assert.deepStrictEqual(yield* replies, [])
      yield* decide("echo b", once)
      const { value } = yield* ended(running)
      assert.deepStrictEqual(yield* replies, ["once", "not c", "reject"])
      assert.deepStrictEqual((yield* outcomes)[1], "b\n")
      // A refusal without a reason keeps the agent stopped.
      assert(value.error?._tag === "Refused")
      assert.deepStrictEqual(value.error.refusals, [
        { tool: "bash", asked: "echo a" },
        { tool: "bash", asked: "echo c", reason: "not c" }
      ])
    }))

  test("is sent after another client has answered the other ask", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const { decide, start } = yield* person
      const running = yield* start([bash("echo a", "echo b"), done])
      yield* decide("echo a", because("not a"))
      const other = (yield* client.permissions).find(({ patterns }) => patterns.includes("echo b"))
      assert(other !== undefined)
      yield* client.answerPermission(other.id, { reply: "once" })
      assert.strictEqual((yield* ended(running)).value.content, "done")
      assert.deepStrictEqual(yield* replies, ["once", "not a"])
    }))

  test("that is held back is dropped if another client answers its ask", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const { decide, start } = yield* person
      const running = yield* start([bash("echo a", "echo b"), done])
      yield* decide("echo a", because("not a"))
      const own = (yield* client.permissions).find(({ patterns }) => patterns.includes("echo a"))
      assert(own !== undefined)
      yield* client.answerPermission(own.id, { reply: "once" })
      yield* rest
      yield* decide("echo b", once)
      assert.strictEqual((yield* ended(running)).value.content, "done")
      assert.deepStrictEqual(yield* replies, ["once", "once"])
      assert.deepStrictEqual(yield* outcomes, ["a\n", "b\n"])
    }))

  test("waits no longer than RefusalHold for an ask that was left to another client", () =>
    Effect.gen(function*() {
      const { decide, start } = yield* person
      const running = yield* start([bash("echo a", "echo b"), done])
      yield* decide("echo b", { _tag: "Skip" })
      yield* decide("echo a", because("not a"))
      yield* TestClock.adjust("59 seconds")
      yield* rest
      assert.deepStrictEqual(yield* replies, [])
      yield* TestClock.adjust("1 second")
      const { value } = yield* ended(running)
      assert.strictEqual(value.content, "done", value.error?.message)
      assert.include((yield* told).join(), "bash (echo b): It was refused only together with the others.")
    }).pipe(Effect.provideService(TurnPolicy.RefusalHold, Duration.minutes(1))))

  test("waits for an allowance on its way to the server", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: /\/reply$/ }, Faults.status(503), 3)
      const { decide, start } = yield* person
      const running = yield* start([bash("echo a", "echo b"), done])
      yield* decide("echo a", because("not a"))
      yield* decide("echo b", once)
      assert.strictEqual((yield* ended(running, 30_000)).value.content, "done")
      assert.deepStrictEqual((yield* replies).slice(-2), ["once", "not a"])
      assert.deepStrictEqual((yield* outcomes)[1], "b\n")
    }))

  test("stops no deadline during another open ask, and does not hold back the rejections of an abort", () =>
    Effect.gen(function*() {
      const { decide, start } = yield* person
      const running = yield* start([bash("echo a", "echo b"), done])
      yield* decide("echo a", because("not a"))
      yield* TestClock.adjust("1 hour")
      yield* rest
      assert.isUndefined(running.pollUnsafe())
      const client = yield* Client
      yield* Fiber.interrupt(running)
      assert.deepStrictEqual(yield* client.permissions, [])
      assert.strictEqual((yield* row)?.status, "cancelled")
    }).pipe(Effect.provideService(TurnPolicy.Budget, { wallClock: "1 minute", stall: "1 minute" })))

  test("does not wait for an ask of another session of the turn", () =>
    Effect.gen(function*() {
      const task = (command: string) => ({
        tool: "task",
        args: { description: "sub", prompt: prompt("look", [bash(command), done]), subagent_type: "general" }
      })
      const { asked, decide, start } = yield* person
      const running = yield* start([{ tools: [task("echo a"), task("echo b")] }, done])
      assert.sameMembers(asked, ["echo a", "echo b"])
      yield* decide("echo a", no)
      assert.deepStrictEqual(yield* replies, ["reject"])
      yield* decide("echo b", once)
      assert.strictEqual((yield* ended(running)).value.content, "done")
    }), { fake: { permission } })

  test("in the store takes effect after the allowance that was given later", () =>
    Effect.gen(function*() {
      const running = yield* Effect.forkChild(
        runTurn(turn([bash("echo a", "echo b"), done])).pipe(Effect.provide(StoredGate.layer))
      )
      yield* rest
      const [a, b] = yield* StoredGate.pendingAsks()
      assert(a !== undefined && b !== undefined)
      yield* StoredGate.answerAsk(a.id, because("not a"))
      yield* rest
      yield* StoredGate.answerAsk(b.id, once)
      assert.strictEqual((yield* ended(running, 2000)).value.content, "done")
      assert.deepStrictEqual(yield* replies, ["once", "not a"])
      assert.deepStrictEqual((yield* outcomes)[1], "b\n")
    }))

  test("that was held back by a worker that went away is found again in the store", () =>
    Effect.gen(function*() {
      const first = yield* Effect.forkChild(
        runTurn(turn([bash("echo a", "echo b"), done])).pipe(
          Effect.provide(StoredGate.layer),
          Effect.provideService(TurnPolicy.OnInterrupt, "release")
        )
      )
      yield* rest
      const [a, b] = yield* StoredGate.pendingAsks()
      assert(a !== undefined && b !== undefined)
      yield* StoredGate.answerAsk(a.id, because("not a"))
      yield* rest
      yield* Fiber.interrupt(first)
      const second = yield* Effect.forkChild(
        resumeTurn(yield* takeOver(messageId)).pipe(Effect.provide(StoredGate.layer))
      )
      yield* rest
      assert.deepStrictEqual(yield* replies, [])
      yield* StoredGate.answerAsk(b.id, once)
      assert.strictEqual((yield* ended(second, 2000)).value.content, "done")
      assert.deepStrictEqual(yield* replies, ["once", "not a"])
    }))
})

describe("an agent that refusals have stopped", () => {
  test("is prompted with the refusals and their reasons, under new ids", () =>
    Effect.gen(function*() {
      const updates = Array.from(yield* Stream.runCollect(streamTurn(turn([bash("echo a", "echo b"), done]))))
      const last = updates.at(-1)
      assert(last?._tag === "Finished")
      assert.deepInclude(last.result, { status: "completed", content: "done" })
      const posts = yield* Turns.prompts
      assert.lengthOf(new Set(posts.map(({ body }) => Object(body).messageID)), 2)
      const [text = ""] = yield* told
      for (const command of ["echo a", "echo b"]) {
        assert.include(text, `bash (${command}): Nobody is here to answer.`)
      }
      assert.deepInclude((yield* row)?.promptRecord, { refusals: 1 })
    }))

  test("keeps the refused call among the tools of the result and of the stored message", () =>
    Effect.gen(function*() {
      const { reply, trace, usage } = yield* runTurn(turn([bash("echo a", "echo b"), bash("echo c"), done])).pipe(
        gated(because("not a"), because("not b"), once)
      )
      const calls = reply.tools.map(({ input, isRefused, refusal, status }) =>
        [input["command"], status, isRefused === true || refusal !== undefined] as const
      )
      assert.deepStrictEqual(calls, [
        ["echo a", "error", true],
        ["echo b", "error", true],
        ["echo c", "completed", false]
      ])
      assert.strictEqual(reply.tools[0]?.refusal, "not a")
      assert.strictEqual(reply.text, "done")
      assert.strictEqual(trace.tool_count, 3)
      const stored = yield* row
      assert.deepStrictEqual(stored?.parts, reply.parts)
      assert.deepStrictEqual(stored?.usage, usage.total)
    }))

  test("is prompted only as often as the policy allows, and then the turn's error lists the refusals", () =>
    Effect.gen(function*() {
      const step = bash("echo a", "echo b")
      const result = yield* runTurn(turn([step, step, step, done]))
      assert(result.error?._tag === "Refused")
      assert.strictEqual(result.error.repairs, 1)
      assert.deepStrictEqual(result.error.refusals.map(({ asked }) => asked), ["echo a", "echo b"])
      assert.include(result.error.message, "bash (echo a) was refused: Nobody is here to answer.")
      assert.strictEqual(result.status, "error")
      assert.isTrue(result.isFallback)
      assert.lengthOf(yield* Turns.prompts, 2)
      assert.deepInclude(yield* row, { status: "error", error: Turns.storedError(result.error) })
    }))

  test("is not prompted again if the policy allows no repair", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([bash("echo a", "echo b"), done]))
      assert.strictEqual(result.error?._tag, "Refused")
      assert.lengthOf(yield* Turns.prompts, 1)
      assert.deepInclude((yield* row)?.draft?.policy, { refusalRepairs: 0 })
    }).pipe(Effect.provideService(TurnPolicy.RefusalRepairs, 0)))

  test("is prompted with the calls that rules denied, after the allowed calls have run", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([bash("rm a", "rm b", "echo c"), done])).pipe(
        Effect.provideService(
          HumanGate.HumanGate,
          HumanGate.rules([
            { permission: "bash", pattern: "*", action: "allow" },
            { permission: "bash", pattern: "rm *", action: "deny", message: "Keep the files." }
          ])
        )
      )
      assert.strictEqual(result.content, "done", result.error?.message)
      assert.deepStrictEqual((yield* outcomes)[2], "c\n")
      assert.include((yield* told).join(), "Keep the files.")
    }))

  test("is prompted with the reason why a question was dismissed", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([{ tools: [question] }, done])).pipe(gated(because("You decide.")))
      assert.strictEqual(result.content, "done")
      assert.include((yield* told).join(), "question (Which?): You decide.")
    }))

  test("is prompted by both the default gate and `allow` that nobody answers questions", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([{ tools: [question] }, done])).pipe(
        Effect.provideService(HumanGate.HumanGate, HumanGate.allow)
      )
      assert.strictEqual(result.content, "done")
      assert.include((yield* told).join(), "question (Which?): Nobody is here to answer.")
    }))

  test("stays stopped after a refusal without a reason, whatever the earlier refusals said", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([{ text: "I try", ...bash("echo a") }, done])).pipe(
        gated({ _tag: "Permission", reply: { reply: "reject" } })
      )
      assert.strictEqual(result.error?._tag, "Refused")
      assert.deepInclude(result, { status: "error", content: "I try", isFallback: false })
    }))

  test("that is a subagent ends, and its opener reads the reason and goes on", () =>
    Effect.gen(function*() {
      const child = { description: "sub", prompt: prompt("look", [bash("echo a", "echo b")]), subagent_type: "general" }
      const result = yield* runTurn(turn([{ tool: "task", args: child }, done]))
      assert.deepInclude(result, { status: "completed", content: "done" })
      assert.lengthOf(yield* Turns.prompts, 1)
      assert.include(result.reply.tools[0]?.error, "Subagent failed")
      assert.strictEqual(result.subagents[0]?.status, "error")
    }), { fake: { permission } })

  test("is not prompted again if a rule of the server denied the call", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(
        turn([bash("rm a", "rm b"), done], { permission: [{ permission: "bash", pattern: "rm *", action: "deny" }] })
      )
      assert.deepInclude(result, { status: "completed", content: "done" })
      for (const tool of result.reply.tools) {
        assert.deepInclude(tool, { status: "error" })
        assert.isUndefined(tool.isRefused)
      }
      assert.lengthOf(yield* Turns.prompts, 1)
    }))
})

describe("a worker that went away", () => {
  /** The turn as a worker left it that was killed once the server had its refusals, and before it could tell the agent. */
  const abandon = Effect.fnUntraced(function*(answer: Answer, steps: ReadonlyArray<Step>) {
    const fake = yield* FakeOpencode
    // The worker reads the stored answer before it tells the agent.
    const hideRecord = fake.fail({ method: "GET", path: /\/message/ }, Faults.hang, Infinity)
    const fiber = yield* Effect.forkChild(
      runTurn(turn(steps)).pipe(
        Effect.provideService(HumanGate.HumanGate, () => Effect.as(hideRecord, answer)),
        Effect.provideService(TurnPolicy.OnInterrupt, "release")
      )
    )
    yield* rest
    yield* rest
    yield* Fiber.interrupt(fiber)
    yield* fake.clearFaults
    return yield* takeOver(messageId)
  })

  test("after the refusals leaves the reason to the next worker, which prompts the agent with it", () =>
    Effect.gen(function*() {
      const taken = yield* abandon(because("not now"), [bash("echo a", "echo b"), done])
      assert.isUndefined(taken.promptRecord?.earlier)
      const result = yield* resumeTurn(taken)
      assert.deepInclude(result, { status: "completed", content: "done" })
      assert.include((yield* told).join(), "bash (echo a): not now")
      assert.lengthOf(yield* Turns.prompts, 2)
    }))

  test("after refusals without a reason leaves a turn that ends as refused", () =>
    Effect.gen(function*() {
      const result = yield* resumeTurn(yield* abandon(no, [bash("echo a", "echo b"), done]))
      assert(result.error?._tag === "Refused")
      assert.deepStrictEqual(result.error.refusals.map(({ asked }) => asked), ["echo a", "echo b"])
    }))

  test("after the repair leaves a turn whose agent is not prompted another time", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const step = bash("echo a", "echo b")
      const fiber = yield* Effect.forkChild(
        runTurn(turn([step, { ...step, text: "again", gate: "here" }, done])).pipe(
          Effect.provideService(TurnPolicy.OnInterrupt, "release")
        )
      )
      yield* fake.reached("here")
      yield* Fiber.interrupt(fiber)
      const taken = yield* takeOver(messageId)
      assert.deepInclude(taken.promptRecord, { refusals: 1 })
      yield* fake.release("here")
      const result = yield* resumeTurn(taken)
      assert(result.error?._tag === "Refused")
      assert.strictEqual(result.error.repairs, 1)
      assert.lengthOf(result.reply.tools, 4)
      assert.lengthOf(new Set(result.reply.tools.map(({ id }) => id)), 4)
      assert.lengthOf(new Set((yield* Turns.prompts).map(({ body }) => Object(body).messageID)), 2)
    }))
})
