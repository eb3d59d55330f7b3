import { assert, describe, it } from "@effect/vitest"
import type { Answer, PermissionAsk, QuestionAsk } from "@opencode-turn/core/Ask"
import { checkAnswer } from "@opencode-turn/core/Ask"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { AskId, AssistantMessageId, ConversationId, SessionId } from "@opencode-turn/core/Ids"
import { HumanTimeout } from "@opencode-turn/core/TurnError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"

const id = AskId.make("per_1")
const sessionId = SessionId.make("ses_1")
const permission = (...patterns: ReadonlyArray<string>): PermissionAsk => ({
  _tag: "Permission",
  id,
  sessionId,
  permission: "bash",
  patterns,
  always: [],
  metadata: {}
})
const choice = { question: "Which?", header: "Pick", options: [{ label: "A", description: "" }] }
const question = (
  ...questions: ReadonlyArray<{ readonly multiple?: boolean; readonly custom?: boolean }>
): QuestionAsk => ({
  _tag: "Question",
  id,
  sessionId,
  questions: questions.map((fields) => ({ ...choice, multiple: false, custom: true, ...fields }))
})
const asking: HumanGate.Asking = {
  conversationId: ConversationId.make("42"),
  messageId: AssistantMessageId.make("m"),
  sessionId,
  openedBy: undefined,
  subagent: undefined,
  isOpen: () => true
}

const once: Answer = { _tag: "Permission", reply: { reply: "once" } }
const answers = (...answers: ReadonlyArray<ReadonlyArray<string>>): Answer => ({ _tag: "Answers", answers })
const messageOf = (answer: Answer): string => (answer._tag === "Reject" ? (answer.message ?? "") : answer._tag)

describe("rules", () => {
  const gate = HumanGate.rules([
    { permission: "bash", pattern: "git *", action: "allow" },
    { permission: "bash", pattern: "git push *", action: "deny", message: "A person pushes, after a review." },
    { permission: "bash", pattern: "rm *", action: "deny" }
  ])

  it.effect("allow once what a rule allows", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* gate(permission("git status", "git diff"), asking), once)
    }))

  it.effect("refuse what a rule denies, and tell the model the rule and the denied text", () =>
    Effect.gen(function*() {
      const message = messageOf(yield* gate(permission("git status", "rm -r ."), asking))
      assert.include(message, "bash for \"rm *\"")
      assert.include(message, "\"rm -r .\"")
    }))

  it.effect("pass the rule's message to the model", () =>
    Effect.gen(function*() {
      const message = messageOf(yield* gate(permission("git push"), asking))
      assert.include(message, "bash for \"git push *\"")
      assert.include(message, "A person pushes, after a review.")
    }))

  it.effect("let the first matching rule decide with match first", () =>
    Effect.gen(function*() {
      const first = HumanGate.rules([
        { permission: "bash", pattern: "git *", action: "allow" },
        { permission: "bash", pattern: "*", action: "deny" }
      ], { match: "first" })
      assert.deepStrictEqual(yield* first(permission("git push"), asking), once)
      assert.strictEqual((yield* first(permission("ls"), asking))._tag, "Reject")
    }))

  it.effect("without another gate, refuse questions, and permissions that the rules leave open", () =>
    Effect.gen(function*() {
      for (const ask of [permission("ls"), permission("git status", "ls"), question({})]) {
        assert.include(messageOf(yield* gate(ask, asking)), "Nobody is here to answer")
      }
    }))

  it.effect("pass an undecided ask to another gate", () =>
    Effect.gen(function*() {
      const taken: Array<string> = []
      const gate = HumanGate.rules([
        { permission: "*", pattern: "*", action: "allow" },
        { permission: "bash", pattern: "git push *", action: "ask" }
      ], {
        otherwise: (ask, { conversationId }) =>
          Effect.sync(() => {
            taken.push(`${ask._tag} of ${conversationId}`)
            return { _tag: "Skip" }
          })
      })
      yield* gate(permission("ls"), asking)
      yield* gate(permission("git push"), asking)
      yield* gate(question({}), asking)
      assert.deepStrictEqual(taken, ["Permission of 42", "Question of 42"])
    }))
})

class Desk extends Context.Service<Desk, { readonly answer: Answer }>()("test/Desk") {}

/** The messages that the error reporter receives. */
const reporting = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const reports: Array<string> = []
  const layer = ErrorReporter.layer([ErrorReporter.make(({ attributes, error }) => {
    reports.push(`${error.message} (${attributes["ask"]})`)
  })])
  return Effect.map(Effect.provide(effect, layer), (value) => ({ value, reports }))
}

describe("callback", () => {
  it.effect("calls a function with the services of the context that created the gate", () =>
    Effect.gen(function*() {
      const layer = HumanGate.layerCallback(() => Effect.map(Desk, ({ answer }) => answer)).pipe(
        Layer.provide(Layer.succeed(Desk, { answer: once }))
      )
      const gate = yield* Effect.provide(HumanGate.HumanGate, layer)
      assert.deepStrictEqual(yield* gate(permission("ls"), asking), once)
    }))

  it.effect("passes the ask and the turn behind it to the function", () =>
    Effect.gen(function*() {
      const gate = yield* HumanGate.callback((ask, { messageId }) =>
        Effect.succeed({ _tag: "Reject", message: `${ask.id} of ${messageId}` })
      )
      assert.strictEqual(messageOf(yield* gate(permission("ls"), asking)), "per_1 of m")
    }))

  it.effect.each([
    { name: "fails", f: () => Effect.fail("no network") },
    { name: "dies", f: () => Effect.die(new Error("a mistake")) },
    {
      name: "throws",
      f: (): Effect.Effect<Answer> => {
        throw new Error("a mistake")
      }
    }
  ])(
    "refuses with a message for the model and reports the failure when the function $name",
    ({ f }) =>
      Effect.gen(function*() {
        const gate = yield* HumanGate.callback<string>(f)
        const { reports, value } = yield* reporting(gate(permission("ls"), asking))
        assert.include(messageOf(value), "The ask could not be answered.")
        assert.deepStrictEqual(reports, ["human gate failed; everything else went on (per_1)"])
      })
  )

  it.effect("is interrupted with its gate, and then reports nothing", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const gate = yield* HumanGate.callback(() =>
        Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted++))
      )
      const { reports, value } = yield* reporting(Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(gate(permission("ls"), asking), { startImmediately: true })
        yield* Fiber.interrupt(fiber)
        return yield* Fiber.await(fiber)
      }))
      assert.isTrue(Exit.isFailure(value))
      assert.strictEqual(interrupted, 1)
      assert.deepStrictEqual(reports, [])
    }))
})

/** Never answers, and records at its interruption whether the ask was open. */
const patient = () => {
  const atInterrupt: Array<boolean> = []
  const gate: HumanGate.Gate = (_, { isOpen }) =>
    Effect.onInterrupt(Effect.never, () => Effect.sync(() => void atInterrupt.push(isOpen())))
  return { gate, atInterrupt }
}
const start = (gate: HumanGate.Gate) => Effect.forkChild(gate(permission("ls"), asking), { startImmediately: true })

describe("within", () => {
  it.effect("gives an answer that comes in time", () =>
    Effect.gen(function*() {
      const gate = HumanGate.within(() => Effect.delay(Effect.succeed(once), "4 minutes"), "5 minutes", "fail")
      const fiber = yield* start(gate)
      yield* TestClock.adjust("4 minutes")
      assert.deepStrictEqual(yield* Fiber.join(fiber), once)
    }))

  it.effect("refuses at its limit and not before, and tells the model why", () =>
    Effect.gen(function*() {
      const { atInterrupt, gate } = patient()
      const fiber = yield* start(HumanGate.within(gate, "5 minutes", "deny"))
      yield* TestClock.adjust("299 seconds")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 second")
      assert.include(messageOf(yield* Fiber.join(fiber)), "Nobody answered within 5m.")
      assert.deepStrictEqual(atInterrupt, [false])
    }))

  it.effect("fails at its limit with the fallback fail", () =>
    Effect.gen(function*() {
      const { atInterrupt, gate } = patient()
      const fiber = yield* start(HumanGate.within(gate, "5 minutes", "fail"))
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(
        yield* Effect.flip(Fiber.join(fiber)),
        new HumanTimeout({ askId: id, millis: 300_000 })
      )
      assert.deepStrictEqual(atInterrupt, [false])
    }))

  it.effect("does not wait for a gate that cannot be interrupted", () =>
    Effect.gen(function*() {
      const fiber = yield* start(HumanGate.within(() => Effect.uninterruptible(Effect.never), "1 second", "deny"))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Reject")
    }))

  it.effect("interrupts its gate when it is interrupted itself, and leaves the ask as open as it was", () =>
    Effect.gen(function*() {
      const { atInterrupt, gate } = patient()
      yield* Fiber.interrupt(yield* start(HumanGate.within(gate, "5 minutes", "deny")))
      assert.deepStrictEqual(atInterrupt, [true])
    }))

  it.effect("fails with the failure of its gate", () =>
    Effect.gen(function*() {
      const inner = HumanGate.within(() => Effect.never, "1 second", "fail")
      const fiber = yield* start(HumanGate.within(inner, "5 minutes", "deny"))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber))).millis, 1000)
    }))
})

describe("answers", () => {
  it.each([
    { name: "a permission to a permission", ask: permission("ls"), answer: once },
    { name: "a rejection", ask: permission("ls"), answer: { _tag: "Reject" } as const },
    { name: "a dismissal", ask: question({}), answer: { _tag: "Reject" } as const },
    { name: "a label", ask: question({ custom: false }), answer: answers(["A"]) },
    { name: "several labels", ask: question({ multiple: true }), answer: answers(["A", "mine"]) },
    { name: "free text", ask: question({}), answer: answers(["mine"]) },
    { name: "one of two questions left unanswered", ask: question({}, {}), answer: answers([], ["A"]) },
    { name: "no answer to no question", ask: question(), answer: answers() }
  ])("fit: $name", ({ answer, ask }) => {
    assert.isUndefined(checkAnswer(ask, answer))
  })

  it.each([
    {
      name: "answers to a permission",
      ask: permission("ls"),
      answer: answers(["A"]),
      reason: "expected Permission, got Answers"
    },
    { name: "a permission to a question", ask: question({}), answer: once, reason: "expected Answers, got Permission" },
    { name: "too few", ask: question({}, {}), answer: answers(["A"]), reason: "expected 2 answers, got 1" },
    { name: "too many", ask: question({}), answer: answers(["A"], ["A"]), reason: "expected 1 answer, got 2" },
    { name: "an empty text", ask: question({}, {}), answer: answers(["A"], [""]), reason: "question 2 is empty" },
    {
      name: "two labels for a question that accepts one",
      ask: question({}),
      answer: answers(["A", "B"]),
      reason: "accepts one answer"
    },
    { name: "a word", ask: permission("ls"), answer: "once", reason: "expected Answers, Permission, Reject or Skip" },
    {
      name: "nothing",
      ask: permission("ls"),
      answer: undefined,
      reason: "expected Answers, Permission, Reject or Skip"
    },
    {
      name: "an unknown tag",
      ask: permission("ls"),
      answer: { _tag: "reject" },
      reason: "expected Answers, Permission, Reject or Skip"
    },
    {
      name: "a permission without its reply",
      ask: permission("ls"),
      answer: { _tag: "Permission", reply: "once" },
      reason: "expected Answers, Permission, Reject or Skip"
    },
    {
      name: "free text for a question without it",
      ask: question({ custom: false, multiple: true }),
      answer: answers(["A", "mine"]),
      reason: "only the labels"
    }
  ])("do not fit: $name", ({ answer, ask, reason }) => {
    assert.include(checkAnswer(ask, answer) ?? "", reason)
  })
})
