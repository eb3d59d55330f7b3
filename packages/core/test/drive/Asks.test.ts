import * as AnswerAsks from "#drive/AnswerAsks"
import * as LiveReply from "#drive/LiveReply"
import { assert, it } from "@effect/vitest"
import type { Answer } from "@opencode-turn/core/Ask"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { AskId, AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { Refusal } from "@opencode-turn/core/TurnError"
import { HumanTimeout } from "@opencode-turn/core/TurnError"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as TestClock from "effect/testing/TestClock"
import type { Finished, Running } from "../support/driving.ts"
import { asked, assertCompleted, finish, layer, rest, run, start } from "../support/driving.ts"
import * as Make from "../support/make.ts"

const permission = [{ permission: "bash", pattern: "*", action: "ask" } as const]
const bash = (...commands: ReadonlyArray<string>): Step => ({
  tools: commands.map((command) => ({ tool: "bash", args: { command } }))
})
const question: Step = {
  tool: "question",
  args: {
    questions: [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }]
  }
}
const done: Step = { text: "done" }

const answering = (...answers: ReadonlyArray<Answer>) => {
  const left = [...answers]
  return Effect.provideService(
    HumanGate.HumanGate,
    () => Effect.sync((): Answer => left.shift() ?? { _tag: "Skip" })
  )
}
const gated = (gate: HumanGate.Gate) => Effect.provideService(HumanGate.HumanGate, gate)

/** What is reported while it runs. */
const reporting = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const reported: Array<string> = []
  const reporter = ErrorReporter.make(({ error }) => {
    reported.push(error.message)
  })
  return Effect.map(Effect.provide(effect, ErrorReporter.layer([reporter])), (end) => ({ end, reported }))
}

/** The answers that reached the server. */
const replies = ({ requests }: Finished) =>
  requests.filter(({ method, path }) => method === "POST" && /\/(?:reply|reject)$/.test(path)).map(({ body }) => body)

const tools = ({ result }: Finished) => result.reply.tools.map(({ error, output }) => error ?? output)

/** Checks that a person's refusal ended the turn, and what it says about that. */
const assertRefused = (
  { connections, modelCalls, result, trace, userMessages }: Finished,
  expected: { readonly text: string; readonly refusals: ReadonlyArray<Refusal> }
) => {
  assert(result.error?._tag === "Refused", result.error?.message)
  assert.deepStrictEqual(result.error.refusals, expected.refusals)
  assert.strictEqual(result.status, "error")
  assert.strictEqual(result.content, expected.text)
  assert.deepInclude(result.message, { status: "error", content: expected.text, isFallback: false })
  assert.strictEqual(modelCalls, 1, "model calls")
  assert.strictEqual(userMessages, 1, "user messages")
  assert.strictEqual(connections, 0, "event connections")
  assert.strictEqual(trace.at(-1), "turn.finished")
}

// Answers

it.effect("allows once, and is asked again for the next command", () =>
  Effect.gen(function*() {
    const end = yield* run([bash("echo a"), bash("echo b"), done], 0, { permission })
    assertCompleted(end, { text: "done", modelCalls: 3 })
    assert.deepStrictEqual(replies(end), [{ reply: "once" }, { reply: "once" }])
    assert.deepStrictEqual(tools(end), ["a\n", "b\n"])
  }).pipe(gated(HumanGate.allow), Effect.provide(layer())))

it.effect("allows always, and is not asked again", () =>
  Effect.gen(function*() {
    const end = yield* run([bash("echo a"), bash("echo b"), done], 0, { permission })
    assertCompleted(end, { text: "done", modelCalls: 3 })
    assert.deepStrictEqual(replies(end), [{ reply: "always" }])
  }).pipe(answering({ _tag: "Permission", reply: { reply: "always" } }), Effect.provide(layer())))

it.effect("ends as refused at once when a permission is rejected without a reason", () =>
  Effect.gen(function*() {
    const end = yield* run([{ text: "I try", ...bash("ls") }, done], 1, { permission })
    assertRefused(end, { text: "I try", refusals: [{ tool: "bash", asked: "ls" }] })
    assert.strictEqual(end.nowMillis, 0)
    assert.deepStrictEqual(tools(end), ["The user rejected permission to use this specific tool call."])
  }).pipe(answering({ _tag: "Reject" }), Effect.provide(layer())))

it.effect("goes on when a permission is rejected with a message for the model", () =>
  Effect.gen(function*() {
    const end = yield* run([bash("rm -r ."), done], 0, { permission })
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.include(tools(end).join(), "use ls instead")
  }).pipe(answering({ _tag: "Reject", message: "use ls instead" }), Effect.provide(layer())))

it.effect("by default tells the model that nobody is there", () =>
  Effect.gen(function*() {
    const end = yield* run([bash("ls"), done], 0, { permission })
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.include(tools(end).join(), "Nobody is here to answer")
  }).pipe(Effect.provide(layer())))

it.effect("answers a question", () =>
  Effect.gen(function*() {
    const end = yield* run([question, done])
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.deepStrictEqual(replies(end), [{ answers: [["A"]] }])
  }).pipe(answering({ _tag: "Answers", answers: [["A"]] }), Effect.provide(layer())))

it.effect("ends as refused at once when a question is dismissed without a reason", () =>
  Effect.gen(function*() {
    const end = yield* run([{ ...question, text: "I ask" }, done])
    assertRefused(end, { text: "I ask", refusals: [{ tool: "question", asked: "Which?" }] })
    assert.deepStrictEqual(tools(end), ["The user dismissed this question"])
  }).pipe(answering({ _tag: "Reject" }), Effect.provide(layer())))

it.effect.each([
  {
    name: "answers to a permission",
    step: bash("ls"),
    answer: { _tag: "Answers", answers: [["A"]] } as const,
    reply: { reply: "reject", message: "The ask could not be answered." }
  },
  {
    name: "a permission to a question",
    step: { ...question, text: "I ask" },
    answer: { _tag: "Permission", reply: { reply: "once" } } as const,
    reply: undefined
  }
])("sends an answer of the wrong kind as a rejection: $name", ({ answer, reply, step }) =>
  Effect.gen(function*() {
    const end = yield* run([step, done], 0, { permission })
    assert.strictEqual(end.result.content, "done")
    assert.deepStrictEqual(replies(end), [reply])
  }).pipe(answering(answer), Effect.provide(layer())))

it.effect("leaves a skipped ask to another client, and calls the gate only once", () =>
  Effect.gen(function*() {
    const client = yield* Client
    let calls = 0
    const gate: HumanGate.Gate = () => Effect.sync((): Answer => (calls++, { _tag: "Skip" }))
    const end = yield* Effect.gen(function*() {
      const running = yield* start([bash("ls", "pwd"), done], { permission })
      const asks = yield* client.permissions
      for (const ask of asks) {
        yield* client.answerPermission(ask.id, { reply: "once" })
        yield* rest
      }
      return yield* finish(running)
    }).pipe(gated(gate))
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.strictEqual(calls, 2)
  }).pipe(Effect.provide(layer())))

it.effect.each([
  { name: "two labels where one is asked for", answer: { _tag: "Answers", answers: [["A", "B"]] } as const },
  { name: "no answer at all", answer: { _tag: "Answers", answers: [] } as const }
])("dismisses a question and reports an answer that does not fit: $name", ({ answer }) =>
  Effect.gen(function*() {
    const { end, reported } = yield* reporting(run([{ ...question, text: "I ask" }, done]))
    assert.strictEqual(end.result.content, "done")
    assert.deepStrictEqual(replies(end), [undefined])
    assert.include(JSON.stringify(end.posts[1]?.body), "The ask could not be answered.")
    assert.include(reported.join(), "human gate")
  }).pipe(answering(answer), Effect.provide(layer())))

// Gates that misbehave

it.effect.each([
  { name: "dies", gate: () => Effect.die(new Error("gate")) },
  { name: "interrupts itself", gate: () => Effect.interrupt },
  {
    name: "throws",
    gate: () => {
      throw new Error("gate")
    }
  }
])("rejects and reports when the gate $name", ({ gate }) =>
  Effect.gen(function*() {
    const { end, reported } = yield* reporting(run([bash("ls"), done], 0, { permission }).pipe(gated(gate)))
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.include(tools(end).join(), "The ask could not be answered.")
    assert.include(reported.join(), "human gate")
  }).pipe(Effect.provide(layer())))

it.effect("lets the turn end even if its gate cannot be interrupted", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const running = yield* start([bash("ls"), done], { permission }).pipe(
      gated(() => Effect.uninterruptible(Effect.never))
    )
    const [ask] = yield* client.permissions
    yield* client.answerPermission(ask?.id ?? AskId.make(""), { reply: "once" })
    assertCompleted(yield* finish(running, 1), { text: "done", modelCalls: 2 })
  }).pipe(Effect.provide(layer())))

// Others who answer

/** Never answers, and records each ask, and at its interruption whether the ask is still open. */
const hanging = () => {
  const interrupted: Array<string> = []
  const wasOpen: Array<boolean> = []
  const gate: HumanGate.Gate = (ask, { isOpen }) => {
    wasOpen.push(isOpen())
    return Effect.onInterrupt(Effect.never, () =>
      Effect.sync(() => {
        interrupted.push(ask.id)
        wasOpen.push(isOpen())
      }))
  }
  return { gate, interrupted, wasOpen }
}

it.effect("interrupts the gate when another client answers first, and sends nothing", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const { gate, interrupted, wasOpen } = hanging()
    const running = yield* start([bash("ls"), done], { permission }).pipe(gated(gate))
    const [ask] = yield* client.permissions
    assert(ask !== undefined)
    yield* client.answerPermission(ask.id, { reply: "once" })
    const end = yield* finish(running, 1)
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.deepStrictEqual(interrupted, [ask.id])
    assert.deepStrictEqual(wasOpen, [true, false])
    assert.strictEqual(replies(end).length, 1)
  }).pipe(Effect.provide(layer())))

it.effect("interrupts the gate when the server restarts and loses its ask", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const { gate, interrupted, wasOpen } = hanging()
    const running = yield* start([bash("ls"), done], { permission }).pipe(gated(gate))
    yield* fake.restart
    const end = yield* finish(running, 30)
    assert.isUndefined(end.result.error, end.result.error?.message)
    assert.strictEqual(interrupted.length, 1)
    assert.deepStrictEqual(wasOpen, [true, false])
  }).pipe(Effect.provide(layer())))

it.effect("interrupts the gate when the turn is stopped, with the ask still open", () =>
  Effect.gen(function*() {
    const { gate, interrupted, wasOpen } = hanging()
    const running = yield* start([bash("ls"), done], { permission }).pipe(gated(gate))
    yield* Effect.forkChild(Effect.sync(() => running.fiber.interruptUnsafe()))
    yield* TestClock.adjust("1 seconds")
    yield* rest
    assert.isTrue(running.isDone())
    assert.strictEqual(interrupted.length, 1)
    assert.deepStrictEqual(wasOpen, [true, true])
  }).pipe(Effect.provide(layer())))

it.effect("treats an ask that the server no longer knows as answered", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.fail({ path: /\/permission\/.*\/reply$/ }, Faults.holdAt("reply"))
    const running = yield* start([bash("ls"), done], { permission })
    const [ask] = yield* client.permissions
    yield* client.answerPermission(ask?.id ?? AskId.make(""), { reply: "once" })
    yield* fake.release("reply")
    assertCompleted(yield* finish(running, 1), { text: "done", modelCalls: 2 })
  }).pipe(gated(HumanGate.allow), Effect.provide(layer())))

// Nobody in time

const isAbort = ({ method, path }: { readonly method: string; readonly path: string }): boolean =>
  method === "POST" && path.endsWith("/abort")

it.effect("ends the turn and aborts the session when nobody answers in time and the gate fails", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ text: "I try", ...bash("ls") }, done], { permission })
    yield* TestClock.adjust("59 minutes")
    yield* rest
    assert.isFalse(running.isDone())
    const end = yield* finish(running, 60)
    assert.strictEqual(end.result.error?._tag, "HumanTimeout")
    assert.strictEqual(end.result.message?.status, "error")
    assert.strictEqual(end.result.content, "I try")
    assert.strictEqual((yield* fake.requests).filter(isAbort).length, 1)
    assert.strictEqual(end.connections, 0)
  }).pipe(gated(HumanGate.within(() => Effect.never, "1 hour", "fail")), Effect.provide(layer())))

it.effect("goes on when nobody answers in time and the gate refuses then", () =>
  Effect.gen(function*() {
    const running = yield* start([bash("ls"), done], { permission })
    yield* TestClock.adjust("1 hour")
    const end = yield* finish(running, 1)
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.include(tools(end).join(), "Nobody answered within 1h.")
  }).pipe(gated(HumanGate.within(() => Effect.never, "1 hour", "deny")), Effect.provide(layer())))

it.effect.each([
  { name: "fails where nobody answered in time", isAnswered: false },
  { name: "does not fail where somebody else answered in the same moment", isAnswered: true }
])("$name", ({ isAnswered }) =>
  Effect.gen(function*() {
    const isOver = yield* Deferred.make<void>()
    const live = yield* LiveReply.make
    live.begin({ sessionId: Make.root, promptId: Make.promptId })
    live.apply(Make.asked("per_1"))
    const turn = { conversationId: ConversationId.make("42"), messageId: AssistantMessageId.make("m") }
    const asks = yield* AnswerAsks.make(live, turn).pipe(
      gated(({ id }) => Effect.andThen(Deferred.await(isOver), Effect.fail(new HumanTimeout({ askId: id, millis: 1 }))))
    )
    const failed = yield* Effect.forkChild(Effect.flip(asks.failed))
    yield* asks.sync
    yield* rest
    // The turn's loop has not seen it yet.
    if (isAnswered) live.apply(Make.resolved("per_1"))
    yield* Deferred.succeed(isOver, undefined)
    yield* rest
    assert.strictEqual(failed.pollUnsafe() !== undefined, !isAnswered)
  }).pipe(Effect.provide(layer())))

// The answer's way

const isReply = { method: "POST", path: /\/reply$/ }

it.effect.each([
  { name: "503", fault: Faults.status(503), times: 3 },
  { name: "reset", fault: Faults.reset, times: 8 },
  { name: "answer lost", fault: Faults.lostAnswer, times: 1 },
  { name: "never answered", fault: Faults.hang, times: 1 }
])("retries an answer until it has arrived, without asking again: $name", ({ fault, times }) =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.fail(isReply, fault, times)
    let calls = 0
    const end = yield* run([bash("echo a"), done], 60, { permission }).pipe(
      gated((ask, asking) => Effect.andThen(Effect.sync(() => void calls++), HumanGate.allow(ask, asking)))
    )
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.deepStrictEqual(tools(end), ["a\n"])
    assert.strictEqual(calls, 1)
  }).pipe(Effect.provide(layer())))

it.effect("rejects an ask whose answer the server refuses, so that the turn goes on", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.fail(isReply, Faults.status(400))
    const end = yield* run([bash("ls"), done], 1, { permission })
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.include(tools(end).join(), "The ask could not be answered.")
  }).pipe(gated(HumanGate.allow), Effect.provide(layer())))

it.effect("delivers an answer that a lost connection delayed, because its ask is still open", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    let calls = 0
    const running = yield* start([bash("echo a"), done], { permission }).pipe(
      gated(() =>
        Effect.as(
          Effect.delay(Effect.sync(() => void calls++), "10 seconds"),
          { _tag: "Permission", reply: { reply: "once" } } as const
        )
      )
    )
    yield* TestClock.adjust("9 seconds")
    yield* fake.fail(() => true, Faults.reset, Infinity)
    yield* fake.cutEvents
    yield* TestClock.adjust("30 seconds")
    yield* fake.clearFaults
    const end = yield* finish(running, 20)
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.deepStrictEqual(tools(end), ["a\n"])
    assert.strictEqual(calls, 1)
  }).pipe(Effect.provide(layer())))

// Taken over

it.effect("answers asks from before the takeover, without prompting again", () =>
  Effect.gen(function*() {
    const first = yield* start([bash("echo a"), done], { permission, messageId: "m" }).pipe(
      gated(HumanGate.wait)
    )
    assert.strictEqual(asked(first.updates).length, 1)
    const store = yield* SessionStore
    yield* store.release(AssistantMessageId.make("m"), 1)
    const second = yield* start([], { permission, messageId: "m" }).pipe(gated(HumanGate.allow))
    const end = yield* finish(second, 3)
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.deepStrictEqual(tools(end), ["a\n"])
    const { result } = yield* finish(first, 3)
    assert.strictEqual(result.error?._tag, "TurnTakenOver")
  }).pipe(Effect.provide(layer())))

// Subagents

const task = {
  description: "sub",
  prompt: FakeOpencode.prompt("look", [
    { tool: "read", args: { filePath: "/etc/hostname" } },
    { text: "child done" }
  ]),
  subagent_type: "general"
}
const subagent: Step = { tool: "task", args: task }

it.effect("answers a subagent's ask", () =>
  Effect.gen(function*() {
    const running = yield* start([subagent, done])
    const end = yield* finish(running)
    assert.strictEqual(end.result.content, "done")
    assert.strictEqual(end.modelCalls, 4)
    const [ask] = asked(running.updates)
    assert.strictEqual(ask?.sessionId, end.result.subagents[0]?.sessionId)
    assert(ask?._tag === "Permission")
    assert.strictEqual(ask.permission, "external_directory")
  }).pipe(gated(HumanGate.allow), Effect.provide(layer())))

it.effect("answers two concurrent subagents separately", () =>
  Effect.gen(function*() {
    const call = { tool: "task", args: task }
    const end = yield* run([{ tools: [call, call] }, done], 1)
    assert.strictEqual(end.result.content, "done")
    assert.strictEqual(end.result.subagents.length, 2)
    assert.strictEqual(replies(end).length, 2)
  }).pipe(gated(HumanGate.allow), Effect.provide(layer())))

it.effect("ignores another session's ask", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const other = yield* client.createSession({ permission })
    yield* fake.script([bash("ls")], other.id)
    yield* client.prompt(other.id, "another conversation")
    const running: Running = yield* start([done])
    const end = yield* finish(running)
    assertCompleted({ ...end, posts: end.posts.slice(1) }, { text: "done", modelCalls: 2 })
    assert.strictEqual(asked(running.updates).length, 0)
    assert.strictEqual((yield* client.permissions).length, 1)
  }).pipe(gated(HumanGate.allow), Effect.provide(layer())))
