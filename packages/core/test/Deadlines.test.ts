import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
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
} from "./driving.ts"

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
  "calls a session stale that takes the prompt and does nothing: $name",
  ({ millis, policy }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail(isPost, answered(204, ""), Infinity)
      const running = yield* start(tape)
      // Once in the session, and once in the one that takes its place.
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

it.effect("asks the server when the first event is late, and completes if the answer is there", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.dropEvents(() => true)
    const end = yield* endsAfter(yield* start(tape), 120_000)
    assertCompleted(end, { text: tapeText, modelCalls: 2 })
  }).pipe(Effect.provide(layer())))

it.effect("asks the server when the first event is late, and waits on while the session works", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.dropEvents(() => true)
    const running = yield* start([{ text: "slow", gate: "slow" }])
    yield* lasts(running, "200 seconds")
    yield* fake.release("slow")
    assertCompleted(yield* endsAfter(running, 40_000), { text: "slow", modelCalls: 1 })
  }).pipe(Effect.provide(layer())))

// WholeStream

it.effect.each([
  { name: "600 s by default", millis: 600_000, policy: undefined },
  { name: "as long as the policy says", millis: 90_000, policy: Duration.seconds(90) }
])(
  "ends a turn that lasts too long, aborts it and keeps its text: $name",
  ({ millis, policy }) =>
    Effect.gen(function*() {
      const running = yield* start([{ text: "words without end", ending: "hang" }])
      const end = yield* endsAfter(running, millis)
      const { error } = end.result
      assert(error?._tag === "TurnTimeout")
      assert.strictEqual(error.limit, "wholeStream")
      assert.strictEqual(error.millis, millis)
      assert.strictEqual(end.result.content, "words without end")
      assert.isTrue(end.requests.some(({ path }) => path.endsWith("/abort")))
      assert.include(end.trace, "stream.interrupted")
      assert.strictEqual(end.connections, 0)
    }).pipe(
      (test) => (policy === undefined ? test : Effect.provideService(test, TurnPolicy.WholeStream, policy)),
      Effect.provide(layer())
    )
)

it.effect("completes at the end of its time if the answer is there and just nobody said so", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "done in secret", gate: "secret" }])
    yield* fake.dropEvents(() => true)
    yield* fake.release("secret")
    assertCompleted(yield* endsAfter(running, 600_000), { text: "done in secret", modelCalls: 1 })
  }).pipe(Effect.provide(layer())))

it.effect("ends at its time although the server answers nothing any more", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "words", ending: "hang" }])
    yield* fake.kill
    // The abort and the last look each have their own short limit.
    yield* lasts(running, "599 seconds")
    const end = yield* finish(running, 20)
    assert.strictEqual(end.result.error?._tag, "TurnTimeout")
    assert.strictEqual(end.result.content, "words")
    assert.strictEqual(end.result.message?.status, "error")
  }).pipe(Effect.provide(layer())))

it.effect("ends at its time although a request is never answered", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(({ query }) => query["limit"] === "50", () => Effect.never, Infinity)
    const running = yield* start([{ text: "words" }])
    yield* lasts(running, "89 seconds")
    const end = yield* finish(running, 15)
    const { error } = end.result
    assert(error?._tag === "TurnTimeout")
    assert.strictEqual(error.limit, "wholeStream")
  }).pipe(Effect.provideService(TurnPolicy.WholeStream, Duration.seconds(90)), Effect.provide(layer())))

// IdleStream

const idleStream = Effect.provideService(TurnPolicy.IdleStream, Option.some(Duration.seconds(20)))

it.effect("asks nothing while a tool works in silence, unless the policy says so", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "slow", gate: "slow" }])
    const before = (yield* fake.requests).length
    yield* lasts(running, "500 seconds")
    assert.strictEqual((yield* fake.requests).length, before)
    yield* fake.release("slow")
    assertCompleted(yield* finish(running), { text: "slow", modelCalls: 1 })
  }).pipe(Effect.provide(layer())))

it.effect("asks after the silence that the policy allows, and waits on while the session works", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "slow", gate: "slow" }])
    const looks = Effect.map(fake.requests, (all) => all.filter(({ path }) => path === "/session/status").length)
    yield* lasts(running, "19999 millis")
    assert.strictEqual(yield* looks, 0)
    yield* lasts(running, "1 millis")
    assert.strictEqual(yield* looks, 1)
    yield* lasts(running, "40 seconds")
    assert.strictEqual(yield* looks, 3)
    yield* fake.release("slow")
    assertCompleted(yield* finish(running), { text: "slow", modelCalls: 1 })
  }).pipe(idleStream, Effect.provide(layer())))

it.effect("resumes a session that fell silent and turns out to be idle and unfinished", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "slow", gate: "slow" }])
    // The server has forgotten that it works on it, for two looks.
    yield* fake.fail({ path: "/session/status" }, answered(200, "{}"), 2)
    yield* lasts(running, "20250 millis")
    yield* fake.release("slow")
    assertCompleted(yield* finish(running, 5), { text: "slow", modelCalls: 1, posts: 2 })
  }).pipe(idleStream, Effect.provide(layer())))

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
    assert.strictEqual(error.limit, "finalExchange")
    assert.strictEqual(error.millis, millis)
    const waits = end.events.filter(({ name }) => name === "opencode.response.waiting_for_final_text")
    assert.deepStrictEqual(waits.map(({ payload }) => payload["subject_id"]), ["42"])
    assert.strictEqual(end.requests.filter(({ path }) => path === "/session/status").length, looks)
  }).pipe(
    (test) => (policy === undefined ? test : Effect.provideService(test, TurnPolicy.FinalExchange, policy)),
    Effect.provide(layer())
  ))

it.effect("takes the final exchange when it comes while it is waited for", () =>
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

it.effect("tells of activity at most every five minutes, also when there are only heartbeats", () =>
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
  }).pipe(Effect.provideService(TurnPolicy.WholeStream, Duration.hours(1)), Effect.provide(layer())))

// Blocked

const answerQuestion = Effect.gen(function*() {
  const client = yield* Client
  const [ask] = yield* client.questions
  assert(ask !== undefined)
  yield* client.answerQuestion(ask.id, [["A"]])
  yield* rest
})

it.effect.each(["30 minutes", "10 hours"] as const)(
  "lets every deadline stand still for %s while a person is asked, and then go on with what was left",
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
      const end = yield* endsAfter(running, 500_000)
      assert.strictEqual(end.result.error?._tag, "TurnTimeout")
      assert.strictEqual(end.result.content, "words")
    }).pipe(
      idleStreamOf("9 minutes"),
      Effect.provideService(HumanGate.HumanGate, HumanGate.wait),
      Effect.provide(layer())
    )
)

function idleStreamOf(duration: Duration.Input) {
  return Effect.provideService(TurnPolicy.IdleStream, Option.some(Duration.fromInputUnsafe(duration)))
}

it.effect("tells of activity while a person is asked", () =>
  Effect.gen(function*() {
    let ticks = 0
    const running = yield* start([question], { onActivityTick: () => Effect.sync(() => void ticks++) })
    yield* lasts(running, "20 minutes")
    assert.strictEqual(ticks, 4)
  }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer())))

it.effect("stands still until the last of two overlapping requests is answered", () =>
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
    const end = yield* endsAfter(running, 600_000)
    assert.strictEqual(end.result.error?._tag, "TurnTimeout")
  }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer())))

it.effect("stands still for a request that is opened while the end is waited for", () =>
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

it.effect("counts the time again once a person has answered, also if the server does not take the answer", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail({ path: /\/question\/.*\/reply/ }, () => Effect.never, Infinity)
    const running = yield* start([question], {})
    const end = yield* endsAfter(running, 600_000)
    assert.strictEqual(end.result.error?._tag, "TurnTimeout")
  }).pipe(
    Effect.provideService(
      HumanGate.HumanGate,
      () => Effect.succeed({ _tag: "Answers", answers: [["A"]] })
    ),
    Effect.provide(layer())
  ))

it.effect("needs no time at all by itself", () =>
  Effect.gen(function*() {
    const end = yield* run(tape)
    assert.strictEqual(end.nowMillis, 0)
  }).pipe(Effect.provide(layer())))
