import * as Budget from "#drive/Budget"
import * as Deadlines from "#drive/Deadlines"
import * as LiveReply from "#drive/LiveReply"
import * as PromptCell from "#drive/PromptCell"
import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { MessageId, SessionId } from "@opencode-turn/core/Ids"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import type { Finished } from "../support/driving.ts"
import { assertCompleted, endsAfter, finish, lasts, layer, rest, run, start } from "../support/driving.ts"

const within = (budget: TurnPolicy.Budget) => Effect.provideService(TurnPolicy.Budget, budget)

/** A step that costs 0.002 dollars and 1500 tokens. */
const usage = { input: 1000, output: 500, reasoning: 100, cacheRead: 0 }
const works = (text: string): Step => ({ text, tool: "bash", args: { command: "echo hi" }, usage })
const says = (text: string): Step => ({ text, usage })
const hangs: Step = { text: "words", ending: "hang" }
const thinks: Step = { text: "words", delayMillis: 60_000 }
const question: Step = {
  tool: "question",
  args: { questions: [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }] }
}
const subagent = (steps: ReadonlyArray<Step>): Step => ({
  tool: "task",
  args: { description: "sub", prompt: FakeOpencode.prompt("look", steps), subagent_type: "general" },
  usage
})

/** Checks that the turn exceeded its budget, that no session works on it any more, and that its text is kept. */
const assertExceeded = Effect.fnUntraced(function*(
  { connections, result, trace }: Finished,
  expected: {
    readonly limit: keyof TurnPolicy.Budget
    readonly allowed: number
    readonly value: number
    readonly content: string
  }
) {
  const { error } = result
  assert(error?._tag === "BudgetExceeded", error?.message ?? result.status)
  const { allowed, limit, value } = error
  assert.deepStrictEqual({ limit, allowed, value, content: result.content }, expected)
  assert.strictEqual(result.status, "error")
  assert.strictEqual(result.message?.status, "error")
  assert.strictEqual(result.message?.error?.tag, "BudgetExceeded")
  assert.strictEqual(result.message?.content, expected.content)
  assert.strictEqual(connections, 0)
  assert.strictEqual(trace.at(-1), "turn.finished")
  const client = yield* Client
  assert.deepStrictEqual([...(yield* client.statuses).keys()], [], "sessions that still run")
})

// The limits

const spent: Budget.Spent = {
  cost: 1,
  tokens: 1,
  modelRetries: 1,
  steps: 1,
  wallClockMillis: 1,
  stallMillis: 1
}

it.each([
  { limit: "cost", crossed: { cost: 0.99 } },
  { limit: "tokens", crossed: { tokens: 0 } },
  { limit: "modelRetries", crossed: { modelRetries: 0 } },
  { limit: "steps", crossed: { steps: 0 } },
  { limit: "wallClock", crossed: { wallClock: Duration.zero } },
  { limit: "stall", crossed: { stall: Duration.zero } }
])("is exceeded above the limit, and not at it: $limit", ({ crossed, limit }) => {
  const met: TurnPolicy.Budget = {
    cost: 1,
    tokens: 1,
    modelRetries: 1,
    steps: 1,
    wallClock: Duration.millis(1),
    stall: Duration.millis(1)
  }
  assert.isUndefined(Budget.exceeded({}, spent))
  assert.isUndefined(Budget.exceeded(met, spent))
  const over = Budget.exceeded({ ...met, ...crossed }, spent)
  assert.strictEqual(over?.limit, limit)
  assert.strictEqual(over?.value, 1)
})

// Cost and tokens

it.effect.each(
  [
    { name: "cost", budget: { cost: 0.003 }, allowed: 0.003, value: 0.004 },
    { name: "tokens", budget: { tokens: 2999 }, allowed: 2999, value: 3000 }
  ] as const
)("ends a turn as soon as it crosses a limit: $name", ({ allowed, budget, name, value }) =>
  Effect.gen(function*() {
    const end = yield* run([works("one"), works("two"), thinks])
    yield* assertExceeded(end, { limit: name, allowed, value, content: "one\n\ntwo" })
    assert.strictEqual(end.posts.length, 1)
    assert.strictEqual(end.nowMillis, 0)
  }).pipe(within(budget), Effect.provide(layer())))

it.effect.each(
  [
    { name: "cost", budget: { cost: 0.003 }, allowed: 0.003, value: 0.004 },
    { name: "tokens", budget: { tokens: 2999 }, allowed: 2999, value: 3000 },
    { name: "steps", budget: { steps: 1 }, allowed: 1, value: 2 }
  ] as const
)(
  "ends a turn whose last step crosses a limit, although the answer is there: $name",
  ({ allowed, budget, name, value }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      // The stream leaves out the end, so only the stored messages have it.
      const running = yield* start([{ ...works("one"), gate: "one" }, says("two")])
      yield* fake.dropEvents(({ type }) => type !== "session.idle")
      yield* fake.release("one")
      yield* assertExceeded(yield* finish(running, 3), { limit: name, allowed, value, content: "one\n\ntwo" })
    }).pipe(within(budget), Effect.provide(layer()))
)

it.effect.each([
  { name: "cost", budget: { cost: 0.004 } },
  { name: "tokens", budget: { tokens: 3000 } },
  { name: "steps", budget: { steps: 2 } },
  { name: "modelRetries", budget: { modelRetries: 0 } },
  { name: "wallClock", budget: { wallClock: Duration.zero } },
  { name: "stall", budget: { stall: Duration.zero } }
])("completes exactly at its limit: $name", ({ budget }) =>
  Effect.gen(function*() {
    assertCompleted(yield* run([works("one"), says("two")]), { text: "one\n\ntwo", modelCalls: 2 })
  }).pipe(within(budget), Effect.provide(layer())))

it.effect("counts after a gap in the stream the usage during the gap", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ ...works("one"), gate: "one" }, hangs])
    yield* fake.fail({ path: "/event" }, Faults.delay("2 seconds"))
    yield* fake.cutEvents
    yield* fake.release("one")
    const end = yield* finish(running, 4)
    yield* assertExceeded(end, { limit: "cost", allowed: 0.001, value: 0.002, content: "one\n\nwords" })
  }).pipe(within({ cost: 0.001 }), Effect.provide(layer())))

// Steps

it.effect("stops the step above the limit when it begins", () =>
  Effect.gen(function*() {
    const end = yield* run([works("one"), thinks])
    yield* assertExceeded(end, { limit: "steps", allowed: 1, value: 2, content: "one" })
    assert.strictEqual(end.nowMillis, 0)
  }).pipe(within({ steps: 1 }), Effect.provide(layer())))

// Retries of the model

it.effect("stops when OpenCode announces a retry above the limit", () =>
  Effect.gen(function*() {
    const end = yield* run([works("one"), { fail: 500, message: "boom", times: 9 }], 60)
    yield* assertExceeded(end, { limit: "modelRetries", allowed: 2, value: 3, content: "one" })
    // The first try, and the two allowed retries.
    assert.strictEqual(end.modelCalls, 4)
  }).pipe(within({ modelRetries: 2 }), Effect.provide(layer())))

it.effect("completes when the model answers at the last allowed try", () =>
  Effect.gen(function*() {
    const end = yield* run([{ fail: 500, message: "boom", times: 2 }, { text: "at last" }], 10)
    assertCompleted(end, { text: "at last", modelCalls: 3 })
  }).pipe(within({ modelRetries: 2 }), Effect.provide(layer())))

// Wall clock

it.effect("ends a turn that exceeds its wall clock limit", () =>
  Effect.gen(function*() {
    const end = yield* endsAfter(yield* start([hangs]), 60_001)
    yield* assertExceeded(end, { limit: "wallClock", allowed: 60_000, value: 60_001, content: "words" })
  }).pipe(within({ wallClock: Duration.minutes(1) }), Effect.provide(layer())))

it.effect("completes at the last allowed moment", () =>
  Effect.gen(function*() {
    const end = yield* endsAfter(yield* start([{ text: "late", delayMillis: 60_000 }]), 60_000)
    assertCompleted(end, { text: "late", modelCalls: 1 })
  }).pipe(within({ wallClock: Duration.minutes(1) }), Effect.provide(layer())))

// Stall

it.effect("ends a turn that stays silent for too long, despite heartbeats", () =>
  Effect.gen(function*() {
    // Events come after 8, 16 and 24 seconds.
    const running = yield* start([{ text: "a b c", chunks: 3, chunkDelayMillis: 8000, ending: "hang" }])
    const end = yield* endsAfter(running, 24_000 + 10_001)
    yield* assertExceeded(end, { limit: "stall", allowed: 10_000, value: 10_001, content: "a b c" })
  }).pipe(within({ stall: Duration.seconds(10) }), Effect.provide(layer())))

it.effect("completes after any time while events keep coming", () =>
  Effect.gen(function*() {
    const running = yield* start([
      { text: "a b c", chunks: 3, chunkDelayMillis: 9000 },
      subagent([{ text: "d e f", chunks: 3, chunkDelayMillis: 9000 }])
    ])
    const end = yield* finish(running, 200)
    assert.strictEqual(end.result.status, "completed", end.result.error?.message)
  }).pipe(within({ stall: Duration.seconds(10) }), Effect.provide(layer())))

it.effect("counts events that a gap hid as a sign of life", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ ...works("one"), delayMillis: 3000 }, { text: "two", delayMillis: 9000 }])
    yield* fake.fail({ path: "/event" }, Faults.delay("5 seconds"))
    yield* fake.cutEvents
    assertCompleted(yield* finish(running, 20), { text: "one\n\ntwo", modelCalls: 2 })
  }).pipe(within({ stall: Duration.seconds(10) }), Effect.provide(layer())))

it.effect("does not count a reopened stream without news as a sign of life", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([works("one"), hangs])
    yield* lasts(running, "6 seconds")
    yield* fake.cutEvents
    const end = yield* endsAfter(running, 4001)
    assert.include(end.trace, "stream.interrupted")
    yield* assertExceeded(end, { limit: "stall", allowed: 10_000, value: 10_001, content: "one\n\nwords" })
  }).pipe(within({ stall: Duration.seconds(10) }), Effect.provide(layer())))

// While a person is asked

it.effect.each(
  [
    { name: "wallClock", budget: { wallClock: Duration.minutes(1) }, millis: 50_001, value: 60_001 },
    { name: "stall", budget: { stall: Duration.minutes(1) }, millis: 60_001, value: 60_001 }
  ] as const
)(
  "stands still while a person is asked, and then continues with the remaining time: $name",
  (limited) =>
    Effect.gen(function*() {
      const { budget, millis, name, value } = limited
      yield* Effect.gen(function*() {
        const client = yield* Client
        const running = yield* start([{ ...question, delayMillis: 10_000 }, hangs])
        yield* lasts(running, "10 seconds")
        yield* lasts(running, "30 minutes")
        const [ask] = yield* client.questions
        assert(ask !== undefined)
        yield* client.answerQuestion(ask.id, [["A"]])
        yield* rest
        const end = yield* endsAfter(running, millis)
        yield* assertExceeded(end, { limit: name, allowed: 60_000, value, content: "words" })
      }).pipe(within(budget))
    }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer()))
)

// Subagents

it.effect.each(
  [
    // The root's own step does not end while its tool runs.
    { name: "cost", budget: { cost: 0.003 }, allowed: 0.003, value: 0.004 },
    { name: "tokens", budget: { tokens: 2999 }, allowed: 2999, value: 3000 },
    { name: "steps", budget: { steps: 2 }, allowed: 2, value: 3 }
  ] as const
)(
  "counts the usage of subagents, and stops them too: $name",
  ({ allowed, budget, name, value }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const end = yield* run([
        {
          ...subagent([works("child one"), { ...works("child two"), delayMillis: 1000 }, thinks]),
          text: "I ask somebody"
        },
        hangs
      ], 2)
      yield* assertExceeded(end, { limit: name, allowed, value, content: "I ask somebody" })
      const [, child = ""] = yield* fake.sessions
      const [last] = (yield* fake.messages(child)).toReversed()
      assert.strictEqual(last?.info.role === "assistant" && last.info.error?.name, "MessageAbortedError")
    }).pipe(within(budget), Effect.provide(layer()))
)

it.effect("counts the retries of a subagent's model", () =>
  Effect.gen(function*() {
    const end = yield* run([
      { ...subagent([{ fail: 500, message: "boom", times: 9 }]), text: "I ask somebody" },
      hangs
    ], 30)
    yield* assertExceeded(end, { limit: "modelRetries", allowed: 1, value: 2, content: "I ask somebody" })
  }).pipe(within({ modelRetries: 1 }), Effect.provide(layer())))

// What was used before

const before: Budget.SpentBefore = {
  usage: { cost: 0.5, tokens: { input: 10, output: 10, reasoning: 10, cacheRead: 10, cacheWrite: 10 } },
  steps: 3,
  retries: 2,
  wallClockMillis: 4000
}

const makeCell = Effect.gen(function*() {
  return yield* PromptCell.make({
    sessionId: SessionId.make("ses_1"),
    promptId: MessageId.make("msg_1"),
    spentMillis: before.wallClockMillis,
    limits: {
      firstEventMillis: 120_000,
      finalExchangeMillis: 30_000,
      pollMillis: 500,
      activityTickMillis: 300_000,
      absenceMillis: 600_000,
      maxReposts: 3,
      maxIdleSteps: 8,
      budget: yield* TurnPolicy.Budget
    }
  })
})

it.effect.each(
  [
    { name: "cost", limits: { cost: 0.4 }, value: 0.5 },
    { name: "tokens", limits: { tokens: 49 }, value: 50 },
    { name: "steps", limits: { steps: 2 }, value: 3 },
    { name: "modelRetries", limits: { modelRetries: 1 }, value: 2 }
  ] as const
)("counts the usage of all prompts: $name", ({ limits, name, value }) =>
  Effect.gen(function*() {
    const over = yield* Effect.flip(Budget.check(before))
    assert.deepStrictEqual([over.limit, over.value], [name, value])
  }).pipe(within(limits)))

it.effect("counts the time of earlier prompts, and passes it to the next one", () =>
  Effect.gen(function*() {
    const live = yield* LiveReply.make
    const cell = yield* makeCell
    const check = Budget.checkNow(cell, live, before)
    const untilDue = Effect.suspend(() => cell.until(() => false, Budget.timeDue(cell.state())))
    const watch = yield* Effect.forkChild(Effect.flip(Effect.forever(Effect.andThen(untilDue, check))))
    yield* TestClock.adjust("2 seconds")
    cell.tell({ _tag: "Changed", asks: { isBlocked: true } })
    yield* TestClock.adjust("1 hour")
    cell.tell({ _tag: "Changed", asks: { isBlocked: false } })
    yield* TestClock.adjust("4000 millis")
    assert.isUndefined(watch.pollUnsafe())
    assert.strictEqual(Budget.wallClockMillis(cell), 10_000)
    yield* TestClock.adjust("1 millis")
    assert.strictEqual((yield* Fiber.join(watch)).value, 10_001)
  }).pipe(within({ wallClock: Duration.seconds(10) })))

it.effect("counts the time of earlier prompts in a whole turn", () =>
  Effect.gen(function*() {
    const slow = { tool: "StructuredOutput", delayMillis: 7000 }
    const running = yield* start([{ ...slow, args: { n: "one" } }, { ...slow, args: { n: 1 } }], {
      output: Schema.Struct({ n: Schema.Int })
    })
    const { result } = yield* endsAfter(running, 10_001)
    assert(result.error?._tag === "BudgetExceeded", result.error?.message)
    assert.deepInclude(result.error, { limit: "wallClock", allowed: 10_000, value: 10_001 })
  }).pipe(within({ wallClock: Duration.seconds(10) }), Effect.provide(layer())))

it.effect("limits only silence by default, and with an infinite limit not even silence", () =>
  Effect.gen(function*() {
    const timeDue = Effect.map(makeCell, (cell) => Deadlines.timeLimit(cell.state(), cell.state().limits).dueMillis)
    assert.strictEqual(yield* timeDue, 600_001)
    assert.strictEqual(yield* timeDue.pipe(within({ stall: Duration.infinity })), Infinity)
    yield* Budget.check(before)
  }))

it.effect.each([{ cost: NaN }, { tokens: -1 }, { steps: NaN }])(
  "refuses impossible limits: %j",
  (budget) =>
    Effect.gen(function*() {
      const { requests, result } = yield* run([says("never")])
      assert.strictEqual(result.status, "failed")
      assert(result.error?._tag === "InvalidInput")
      assert.strictEqual(result.error.field, "TurnPolicy.Budget")
      assert.deepStrictEqual(requests, [])
    }).pipe(within(budget), Effect.provide(layer()))
)
