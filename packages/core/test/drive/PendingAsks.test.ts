import { findPending } from "#drive/PendingAsks"
import { assert, it } from "@effect/vitest"
import type { Ask } from "@opencode-turn/core/Ask"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { AskId, MessageId, SessionId } from "@opencode-turn/core/Ids"
import * as Reply from "@opencode-turn/core/Reply"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { answered, asked, finish, lasts, layer, rest, run, start } from "../support/driving.ts"

const permission = [{ permission: "bash", pattern: "*", action: "ask" } as const]
const echo = (text: string) => ({ tool: "bash", args: { command: `echo ${text}` } })
const reading = (steps: ReadonlyArray<Step>): Step => ({
  tool: "task",
  args: { description: "sub", prompt: FakeOpencode.prompt("look", steps), subagent_type: "general" }
})
const readsOutside: Step = { tool: "read", args: { filePath: "/etc/hostname" } }

/** A session of the conversation with such a run whose owner is gone. */
const orphaned = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>) {
  const client = yield* Client
  const fake = yield* FakeOpencode.FakeOpencode
  const { result } = yield* run([{ text: "before" }], 0, { permission })
  assert(result.sessionId !== undefined)
  yield* fake.script(steps)
  yield* client.prompt(result.sessionId, "an orphan's")
  yield* rest
  return result.sessionId
})

const allow = Effect.provideService(HumanGate.HumanGate, HumanGate.allow)

it.effect("answers the ask of a run without an owner, and then gets its own prompt answered", () =>
  Effect.gen(function*() {
    const sessionId = yield* orphaned([{ tools: [echo("a"), echo("b")] }, { text: "theirs" }])
    const running = yield* start([{ text: "mine" }])
    const { result, ...end } = yield* finish(running, 3)
    assert.strictEqual(result.status, "completed", result.error?.message)
    assert.strictEqual(result.content, "mine")
    assert.strictEqual(result.sessionId, sessionId)
    assert.strictEqual(new Set(asked(running.updates).map(({ id }) => id)).size, 2)
    assert.strictEqual(end.requests.filter(({ path }) => path.endsWith("/reply")).length, 2)
  }).pipe(allow, Effect.provide(layer())))

it.effect("answers asks of the subagents of a run without an owner, old and new", () =>
  Effect.gen(function*() {
    yield* orphaned([
      reading([readsOutside, readsOutside, { text: "child done" }]),
      { text: "theirs" }
    ])
    const running = yield* start([{ text: "mine" }])
    const { result } = yield* finish(running, 3)
    assert.strictEqual(result.status, "completed", result.error?.message)
    assert.strictEqual(result.content, "mine")
    assert.strictEqual(asked(running.updates).length, 2)
  }).pipe(allow, Effect.provide(layer())))

it.effect("stops its deadlines while a person answers an ask from before the turn", () =>
  Effect.gen(function*() {
    const client = yield* Client
    yield* orphaned([echo("a"), { text: "theirs" }])
    const running = yield* start([{ text: "mine" }])
    yield* lasts(running, "3 hours")
    const [ask] = yield* client.permissions
    assert(ask !== undefined)
    yield* client.answerPermission(ask.id, { reply: "once" })
    const { result } = yield* finish(running, 1)
    assert.strictEqual(result.content, "mine")
  }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.wait), Effect.provide(layer())))

it.effect("keeps an ask from before the turn at the gate during a cut of the stream", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* orphaned([echo("a"), { text: "theirs" }])
    const running = yield* start([{ text: "mine" }])
    yield* lasts(running, "5 seconds")
    yield* fake.cutEvents
    const { result } = yield* finish(running, 120)
    assert.strictEqual(result.content, "mine", result.error?.message)
    assert.strictEqual(asked(running.updates).length, 1)
  }).pipe(
    Effect.provideService(
      HumanGate.HumanGate,
      (ask, asking) => Effect.andThen(Effect.sleep("90 seconds"), HumanGate.allow(ask, asking))
    ),
    Effect.provide(layer())
  ))

it.effect("drops an ask of an aborted run, although the server still lists it", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const sessionId = yield* orphaned([echo("a"), { text: "theirs" }])
    yield* client.abortSession(sessionId)
    yield* fake.script([{ text: "theirs again", delayMillis: 10_000 }])
    yield* client.prompt(sessionId, "another orphan's")
    yield* rest
    assert.strictEqual((yield* client.permissions).length, 1)
    const running = yield* start([{ text: "mine" }])
    const { result } = yield* finish(running, 15)
    assert.strictEqual(result.content, "mine")
    assert.deepStrictEqual(asked(running.updates), [])
  }).pipe(allow, Effect.provide(layer())))

it.effect.each([
  { name: "refused", path: /\/permission|\/question|\/children/, fault: Faults.htmlPage },
  { name: "the message that asks is refused", path: /\/message\/msg_/, fault: Faults.status(400) }
])("goes on when the server cannot list the asks: $name", ({ fault, path }) =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* orphaned([{ text: "theirs", delayMillis: 10_000 }])
    yield* fake.fail({ path }, fault, Infinity)
    const { result } = yield* finish(yield* start([{ text: "mine" }]), 15)
    assert.strictEqual(result.content, "mine", result.error?.message)
  }).pipe(allow, Effect.provide(layer())))

it.effect("sends no such read when its session is idle", () =>
  Effect.gen(function*() {
    yield* run([{ text: "before" }])
    const { requests } = yield* run([{ text: "mine" }])
    assert.deepStrictEqual(requests.filter(({ path }) => /\/permission|\/question|\/children/.test(path)), [])
  }).pipe(Effect.provide(layer())))

// findPending

const reply = Reply.make({ sessionId: SessionId.make("ses_root"), promptId: MessageId.make("msg_1") })
const busy = new Map([[reply.sessionId, { type: "busy" } as const]])
const listing = (asks: ReadonlyArray<Record<string, unknown>>) =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.fail({ path: "/permission" }, answered(200, JSON.stringify(asks)), Infinity)
  })
const wireAsk = {
  id: "per_1",
  sessionID: "ses_root",
  permission: "bash",
  patterns: ["ls"],
  metadata: {},
  always: []
}

it.effect("treats an ask without a message as open while its session is busy", () =>
  Effect.gen(function*() {
    yield* listing([wireAsk, { ...wireAsk, id: "per_2", sessionID: "ses_foreign" }])
    assert.deepStrictEqual((yield* findPending(reply, busy)).map(({ id }) => id), [AskId.make("per_1")])
    assert.deepStrictEqual(yield* findPending(reply, new Map()), [])
  }).pipe(Effect.provide(layer())))

it.effect("treats an ask as closed if its message is gone, and as open if its message is unreadable", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* listing([{ ...wireAsk, tool: { messageID: "msg_2", callID: "call_1" } }])
    assert.deepStrictEqual(yield* findPending(reply, busy), [])
    yield* fake.fail({ path: /\/message\/msg_2/ }, Faults.status(400))
    assert.strictEqual((yield* findPending(reply, busy)).length, 1)
  }).pipe(Effect.provide(layer())))

it.effect("keeps the reply's asks if the server cannot list the asks", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const ask: Ask = {
      _tag: "Question",
      id: AskId.make("que_1"),
      sessionId: reply.sessionId,
      questions: []
    }
    const known = Reply.apply(reply, { _tag: "Asked", eventId: undefined, sessionId: reply.sessionId, ask })
    yield* fake.fail({ path: "/question" }, Faults.htmlPage)
    assert.deepStrictEqual(yield* findPending(known, busy), [ask])
    yield* TestClock.adjust(0)
  }).pipe(Effect.provide(layer())))
