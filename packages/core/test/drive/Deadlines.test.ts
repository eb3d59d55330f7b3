import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import {
  answered,
  asked,
  assertCompleted,
  endsAfter,
  finish,
  isPost,
  lasts,
  layer,
  rest,
  run,
  start,
  tape,
  tapeText
} from "../support/driving.ts"

const question: Step = {
  tool: "question",
  args: {
    questions: [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }]
  }
}

// FirstEvent

it.effect.each([
  { name: "120 s by default", millis: 120_000, policy: undefined },
  { name: "as long as the policy says", millis: 7000, policy: Duration.seconds(7) }
])(
  "calls a session stale that accepts the prompt and does nothing: $name",
  ({ millis, policy }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail(isPost, answered(204, ""), Infinity)
      const running = yield* start(tape)
      // Once in the session, and once in its replacement.
      yield* lasts(running, millis)
      const end = yield* endsAfter(running, millis)
      const { error } = end.result
      assert(error?._tag === "StaleSession")
      assert.strictEqual(error.silentMillis, millis)
      assert.strictEqual(end.posts.length, 2)
      assert.strictEqual(end.modelCalls, 0)
    }).pipe(
      (test) => (policy === undefined ? test : Effect.provideService(test, TurnPolicy.FirstEvent, policy)),
      Effect.provide(layer())
    )
)

it.effect("asks the server after a late first event, and completes if the answer is there", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.dropEvents(() => true)
    const end = yield* endsAfter(yield* start(tape), 120_000)
    assertCompleted(end, { text: tapeText, modelCalls: 2 })
  }).pipe(Effect.provide(layer())))

it.effect("asks the server after a late first event, and keeps waiting while the session works", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.dropEvents(() => true)
    const running = yield* start([{ text: "slow", gate: "slow" }])
    yield* lasts(running, "200 seconds")
    yield* fake.release("slow")
    assertCompleted(yield* endsAfter(running, 40_000), { text: "slow", modelCalls: 1 })
  }).pipe(Effect.provide(layer())))

it.effect("ends with the first idle after a read of a part of the answer, without any other event", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.dropEvents(({ type }) => type !== "session.idle")
    const running = yield* start([{ text: "slow", gate: "slow" }])
    yield* lasts(running, "120 seconds")
    yield* fake.release("slow")
    assertCompleted(yield* finish(running), { text: "slow", modelCalls: 1 })
  }).pipe(Effect.provide(layer())))

// Budgets of time

it.effect("lets a healthy turn work for hours, and sends no read while events come", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const slow = { text: "step", tool: "bash", delayMillis: 500_000 } as const
    const steps = Array.from({ length: 12 }, (_, n): Step => ({ ...slow, args: { command: `echo ${n}` } }))
    const running = yield* start([...steps, { text: "done", gate: "done" }])
    yield* lasts(running, "100 minutes")
    assert.strictEqual((yield* fake.requests).filter(({ path }) => path === "/session/status").length, 0)
    yield* fake.release("done")
    const end = yield* finish(running)
    assert.strictEqual(end.result.status, "completed")
  }).pipe(Effect.provide(layer())))

it.effect.each([
  { name: "10 minutes by default", millis: 600_000, budget: {} },
  { name: "also where other limits are given", millis: 600_000, budget: { cost: 5 } },
  { name: "as long as the budget says", millis: 90_000, budget: { stall: Duration.seconds(90) } }
])(
  "ends a silent turn, aborts it and keeps its text: $name",
  ({ budget, millis }) =>
    Effect.gen(function*() {
      const running = yield* start([{ text: "words without end", ending: "hang" }])
      const end = yield* endsAfter(running, millis + 1)
      const { error } = end.result
      assert(error?._tag === "BudgetExceeded")
      assert.strictEqual(error.limit, "stall")
      assert.strictEqual(error.allowed, millis)
      assert.strictEqual(end.result.content, "words without end")
      assert.isTrue(end.requests.some(({ path }) => path.endsWith("/abort")))
      assert.include(end.trace, "stream.interrupted")
      assert.strictEqual(end.connections, 0)
    }).pipe(Effect.provideService(TurnPolicy.Budget, budget), Effect.provide(layer()))
)

it.effect("waits without a limit if the budget allows endless silence", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "slow", gate: "slow" }])
    const before = (yield* fake.requests).length
    yield* lasts(running, "4 hours")
    assert.strictEqual((yield* fake.requests).length, before, "it asks nothing meanwhile")
    yield* fake.release("slow")
    assertCompleted(yield* finish(running), { text: "slow", modelCalls: 1 })
  }).pipe(Effect.provideService(TurnPolicy.Budget, { stall: Duration.infinity }), Effect.provide(layer())))

it.effect.each([
  { name: "of silence", budget: {}, millis: 600_001 },
  { name: "of the whole turn", budget: { wallClock: Duration.seconds(90) }, millis: 90_001 }
])(
  "completes at its limit $name if the answer is there without an event",
  ({ budget, millis }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const running = yield* start([{ text: "done in secret", gate: "secret" }])
      yield* fake.dropEvents(() => true)
      yield* fake.release("secret")
      assertCompleted(yield* endsAfter(running, millis), { text: "done in secret", modelCalls: 1 })
    }).pipe(Effect.provideService(TurnPolicy.Budget, budget), Effect.provide(layer()))
)

it.effect("ends at its limit although a request hangs", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(({ query }) => "limit" in query && query["limit"] !== "1", () => Effect.never, Infinity)
    const running = yield* start([{ text: "words" }])
    yield* lasts(running, "89 seconds")
    const { error } = (yield* finish(running, 15)).result
    assert(error?._tag === "BudgetExceeded")
    assert.strictEqual(error.limit, "wallClock")
  }).pipe(Effect.provideService(TurnPolicy.Budget, { wallClock: Duration.seconds(90) }), Effect.provide(layer())))

it.effect("reports the last failure with a crossed limit, in the error and in the row", () =>
  Effect.gen(function*() {
    const running = yield* start([
      { fail: 503, message: "<html>502 Bad Gateway</html>" },
      { text: "words", ending: "hang" }
    ])
    const { result } = yield* finish(running, 40)
    assert(result.error?._tag === "BudgetExceeded", result.error?.message)
    assert.strictEqual(result.error.last?.message, "<html>502 Bad Gateway</html>")
    assert.include(result.error.message, "502 Bad Gateway")
    assert.include(result.message?.error?.message, "502 Bad Gateway")
  }).pipe(Effect.provideService(TurnPolicy.Budget, { wallClock: Duration.seconds(30) }), Effect.provide(layer())))

// A retry that comes too late

const soMany: Step = { fail: 429, message: "slow down please", headers: { "retry-after": "7200" } }

it.effect.each([
  { name: "its limit", budget: { wallClock: Duration.seconds(40) }, limit: "wallClock", allowedMillis: 40_000 },
  { name: "the silence that a turn may have", budget: {}, limit: "stall", allowedMillis: 600_000 }
])(
  "ends at once if the next call of the model is later than $name allows",
  ({ allowedMillis, budget, limit }) =>
    Effect.gen(function*() {
      const end = yield* run([soMany, { text: "never" }])
      const { error, status } = end.result
      assert(error?._tag === "Upstream", error?.message)
      assert.strictEqual(status, "error")
      assert.strictEqual(error.reason, "slow down please")
      assert.strictEqual(error.retryAtMillis, 7_200_000)
      assert.include(error.message, "1970-01-01T02:00:00")
      assert.deepStrictEqual([error.limit, error.allowedMillis], [limit, allowedMillis])
      assert.deepStrictEqual(end.trace.slice(-3), ["response.upstream_error", "response.error", "turn.finished"])
      assert.strictEqual(end.nowMillis, 0)
      assert.strictEqual(end.modelCalls, 1)
      assert.deepStrictEqual([...(yield* (yield* Client).statuses)], [], "sessions that still run")
    }).pipe(Effect.provideService(TurnPolicy.Budget, budget), Effect.provide(layer()))
)

it.effect("waits for a retry in time, and for any retry without a limit", () =>
  Effect.gen(function*() {
    const running = yield* start([soMany, { text: "after two hours" }])
    yield* lasts(running, "119 minutes")
    assertCompleted(yield* finish(running, 61), { text: "after two hours", modelCalls: 2 })
  }).pipe(Effect.provideService(TurnPolicy.Budget, { stall: Duration.infinity }), Effect.provide(layer())))

it.effect("waits for a retry of any length while a person is asked", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([question, { text: "words" }])
    const [sessionID = ""] = yield* fake.sessions
    const status = { type: "retry", attempt: 1, message: "slow down", next: 7_200_000 }
    yield* fake.emit({ type: "session.status", properties: { sessionID, status } })
    yield* lasts(running, "3 hours")
    yield* answerQuestion
    assertCompleted(yield* finish(running, 1), { text: "words", modelCalls: 2 })
  }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer())))

// A server that is gone

it.effect.each([
  { name: "2 minutes by default", seconds: 120, policy: undefined },
  { name: "as long as the policy says", seconds: 600, policy: Duration.minutes(10) }
])("ends as lost when the server is unreachable for too long: $name", ({ policy, seconds }) =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "words", ending: "hang" }])
    yield* fake.kill
    yield* rest
    yield* lasts(running, Duration.seconds(seconds - 1))
    // The last read and the abort have their own short limits.
    const end = yield* finish(running, 20)
    assert.include(["StreamLost", "TransportError"], end.result.error?._tag)
    assert.strictEqual(end.result.status, "failed")
    assert.strictEqual(end.result.content, "words")
    assert.strictEqual(end.result.message?.status, "error")
  }).pipe(
    Effect.provideService(TurnPolicy.Budget, { stall: Duration.infinity }),
    (test) => (policy === undefined ? test : Effect.provideService(test, TurnPolicy.ServerAbsence, policy)),
    Effect.provide(layer())
  ))

it.effect("waits on while the stream cannot be opened and the server answers", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "slow", gate: "slow" }])
    yield* fake.fail({ path: "/event" }, answered(502, "<html>Bad Gateway</html>"), Infinity)
    yield* fake.cutEvents
    yield* lasts(running, "1 hour")
    yield* fake.release("slow")
    const end = yield* finish(running, 130)
    assert.strictEqual(end.result.content, "slow")
  }).pipe(Effect.provideService(TurnPolicy.Budget, { stall: Duration.infinity }), Effect.provide(layer())))

// FinalExchange

it.effect.each([
  { name: "120 s by default", millis: 120_000, looks: 61, policy: undefined },
  { name: "as long as the policy says", millis: 5000, looks: 4, policy: Duration.seconds(5) }
])("waits for the final exchange, and no longer: $name", ({ looks, millis, policy }) =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "words", ending: "hang" }])
    const [sessionID = ""] = yield* fake.sessions
    yield* fake.emit({ type: "session.idle", properties: { sessionID } })
    const end = yield* endsAfter(running, millis)
    const { error } = end.result
    assert(error?._tag === "TurnTimeout")
    assert.strictEqual(error.millis, millis)
    const waits = end.events.filter(({ name }) => name === "opencode.response.waiting_for_final_text")
    assert.deepStrictEqual(waits.map(({ payload }) => payload["subject_id"]), ["42"])
    assert.strictEqual(end.requests.filter(({ path }) => path === "/session/status").length, looks)
  }).pipe(
    (test) => (policy === undefined ? test : Effect.provideService(test, TurnPolicy.FinalExchange, policy)),
    Effect.provide(layer())
  ))

it.effect("fails with the error of the server's reads if the final exchange cannot be read", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "words", ending: "hang" }])
    const [sessionID = ""] = yield* fake.sessions
    yield* fake.fail({ method: "GET" }, answered(503, ""), Infinity)
    yield* fake.emit({ type: "session.idle", properties: { sessionID } })
    const { error } = (yield* finish(running, 140)).result
    assert(error?._tag === "TurnTimeout", error?.message)
    assert.strictEqual(error.last?.name, "StatusError")
  }).pipe(Effect.provide(layer())))

it.effect("takes the final exchange when it arrives during the wait", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "late", gate: "late" }])
    const [sessionID = ""] = yield* fake.sessions
    yield* fake.dropEvents(() => true)
    yield* fake.emit({ type: "session.idle", properties: { sessionID } })
    yield* lasts(running, "31 seconds")
    yield* fake.release("late")
    assertCompleted(yield* endsAfter(running, 1000), { text: "late", modelCalls: 1 })
  }).pipe(Effect.provide(layer())))

// ActivityTick

it.effect("ticks for activity at most every five minutes, even with heartbeats only", () =>
  Effect.gen(function*() {
    const ticks: Array<string> = []
    const running = yield* start([{ text: "words", ending: "hang" }], {
      onActivityTick: (conversationId) => Effect.sync(() => void ticks.push(conversationId))
    })
    yield* lasts(running, "299 seconds")
    assert.deepStrictEqual(ticks, [])
    yield* lasts(running, "1 seconds")
    assert.deepStrictEqual(ticks, ["42"])
    yield* lasts(running, "15 minutes")
    assert.strictEqual(ticks.length, 4)
  }).pipe(Effect.provideService(TurnPolicy.Budget, { stall: Duration.infinity }), Effect.provide(layer())))

// Blocked

const answerQuestion = Effect.gen(function*() {
  const client = yield* Client
  const [ask] = yield* client.questions
  assert(ask !== undefined)
  yield* client.answerQuestion(ask.id, [["A"]])
  yield* rest
})

it.effect.each(["30 minutes", "10 hours"] as const)(
  "stops every deadline for %s while a person is asked, and then continues with the remaining time",
  (duration) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const running = yield* start([{ ...question, delayMillis: 100_000 }, { text: "words", ending: "hang" }])
      yield* lasts(running, "100 seconds")
      assert.strictEqual(asked(running.updates).length, 1)
      const looks = (yield* fake.requests).length
      yield* lasts(running, duration)
      assert.strictEqual((yield* fake.requests).length, looks, "it asks nothing meanwhile")
      yield* answerQuestion
      const end = yield* endsAfter(running, 500_001)
      assert.strictEqual(end.result.error?._tag, "BudgetExceeded")
      assert.strictEqual(end.result.content, "words")
    }).pipe(
      Effect.provideService(TurnPolicy.Budget, { wallClock: Duration.minutes(10) }),
      Effect.provideService(HumanGate.HumanGate, HumanGate.wait),
      Effect.provide(layer())
    )
)

// A person is asked, and the server is gone

it.effect("waits for a person without a limit while the server is reachable", () =>
  Effect.gen(function*() {
    const running = yield* start([question, { text: "words" }])
    yield* lasts(running, "4 hours")
    yield* answerQuestion
    assertCompleted(yield* finish(running), { text: "words", modelCalls: 2 })
  }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer())))

it.effect("ends when the server is unreachable while a person is asked, and keeps its text", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ ...question, text: "I have a question." }])
    yield* lasts(running, "1 hour")
    yield* fake.kill
    yield* rest
    yield* lasts(running, "119 seconds")
    const end = yield* finish(running, 20)
    assert.include(["StreamLost", "TransportError"], end.result.error?._tag)
    assert.strictEqual(end.result.content, "I have a question.")
    assert.strictEqual(end.result.message?.status, "error")
  }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer())))

it.effect("keeps waiting for a person after the server was unreachable for a minute", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([question, { text: "words" }])
    let isDown = true
    yield* fake.fail(
      { path: "/event" },
      (serve, ...rest) => isDown ? answered(502, "")(serve, ...rest) : serve,
      Infinity
    )
    yield* fake.cutEvents
    yield* lasts(running, "60 seconds")
    isDown = false
    yield* lasts(running, "4 hours")
    yield* answerQuestion
    const end = yield* finish(running, 10)
    assert.strictEqual(end.result.content, "words")
  }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer())))

it.effect("ticks for activity while a person is asked", () =>
  Effect.gen(function*() {
    let ticks = 0
    const running = yield* start([question], { onActivityTick: () => Effect.sync(() => void ticks++) })
    yield* lasts(running, "20 minutes")
    assert.strictEqual(ticks, 4)
  }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer())))

it.effect("stands still until the last of two overlapping asks is answered", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const running = yield* start([
      { tools: [{ tool: "bash", args: { command: "echo a" } }, { tool: "bash", args: { command: "echo b" } }] },
      { text: "words", ending: "hang" }
    ], { permission: [{ permission: "bash", pattern: "*", action: "ask" }] })
    yield* lasts(running, "10 minutes")
    const [first, second] = yield* client.permissions
    assert(first !== undefined && second !== undefined)
    yield* client.answerPermission(first.id, { reply: "once" })
    yield* lasts(running, "20 minutes")
    yield* client.answerPermission(second.id, { reply: "once" })
    yield* rest
    const end = yield* endsAfter(running, 600_001)
    assert.strictEqual(end.result.error?._tag, "BudgetExceeded")
  }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer())))

it.effect("stands still for an ask that is opened during the wait for the end", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ ...question, delayMillis: 50_000 }, { text: "words", gate: "words" }])
    const [sessionID = ""] = yield* fake.sessions
    yield* fake.emit({ type: "session.idle", properties: { sessionID } })
    yield* lasts(running, "50 seconds")
    yield* lasts(running, "3 hours")
    yield* answerQuestion
    yield* lasts(running, "60 seconds")
    yield* fake.release("words")
    const end = yield* finish(running)
    assertCompleted(end, { text: "words", modelCalls: 2 })
  }).pipe(
    Effect.provideService(HumanGate.HumanGate, HumanGate.wait),
    Effect.provide(layer())
  ))

it.effect("counts the time again after a person's answer, even if the server rejects it", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail({ path: /\/question\/.*\/reply/ }, () => Effect.never, Infinity)
    const running = yield* start([question], {})
    const end = yield* endsAfter(running, 600_001)
    assert.strictEqual(end.result.error?._tag, "BudgetExceeded")
  }).pipe(
    Effect.provideService(
      HumanGate.HumanGate,
      () => Effect.succeed({ _tag: "Answers", answers: [["A"]] })
    ),
    Effect.provide(layer())
  ))

it.effect("a turn ends at the moment of its last event", () =>
  Effect.gen(function*() {
    const end = yield* run(tape)
    assert.strictEqual(end.nowMillis, 0)
  }).pipe(Effect.provide(layer())))
