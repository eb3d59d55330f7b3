import { baseline, promptOnce, readExchange } from "#drive/ReadExchange"
import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import type { SessionId } from "@opencode-turn/core/Ids"
import { makePromptIds } from "@opencode-turn/core/Ids"
import * as Reply from "@opencode-turn/core/Reply"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import {
  answered,
  assertCompleted,
  finish,
  isPost,
  layer,
  rest,
  run,
  start,
  tape,
  tapeText
} from "../support/driving.ts"

const isList = { method: "GET", path: /\/message$/ }

/** Prompts that nobody answers, as fast as the server can store them. */
const fill = Effect.fnUntraced(function*(sessionId: SessionId, count: number) {
  const fake = yield* FakeOpencode
  const body = JSON.stringify({ parts: [{ type: "text", text: "old" }], noReply: true })
  for (let index = 0; index < count; index++) {
    yield* fake.handle({ method: "POST", path: `/session/${sessionId}/prompt_async`, query: {}, headers: {}, body })
  }
})

const post = Effect.fnUntraced(function*(sessionId: SessionId, steps: ReadonlyArray<Step>) {
  const fake = yield* FakeOpencode
  yield* fake.script(steps)
  const ids = yield* makePromptIds(yield* baseline(sessionId), 1)
  yield* promptOnce({ sessionId, prompt: { ids, parts: [{ type: "text", text: "hello" }] } })
  yield* rest
  return { sessionId, promptId: ids.promptId }
})

const pages = Effect.gen(function*() {
  const fake = yield* FakeOpencode
  return (yield* fake.requests).filter(({ method, path }) => method === "GET" && path.endsWith("/message"))
})

it.effect("reads an exchange of any length completely", () =>
  Effect.gen(function*() {
    const steps = Array.from({ length: 119 }, (_, index) => ({ tool: "bash", args: { command: `echo ${index}` } }))
    const end = yield* run([...steps, { text: "that was a lot" }])
    assertCompleted(end, { text: "that was a lot", modelCalls: 120 })
    assert.deepStrictEqual(
      end.result.reply.tools.map(({ output }) => output),
      steps.map((_, index) => `${index}\n`)
    )
    assert.strictEqual((yield* pages).length, 1 + 3)
  }).pipe(Effect.provide(layer())))

it.effect("reads no further than its prompt, however long the session is", () =>
  Effect.gen(function*() {
    const first = yield* run(tape)
    const { sessionId } = first.result
    assert(sessionId !== undefined)
    yield* fill(sessionId, 10_000)
    const before = (yield* pages).length
    const requestsBefore = first.requests.length
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "still here", gate: "gate" }])
    yield* fake.cutEvents
    yield* TestClock.adjust("1 seconds")
    yield* fake.release("gate")
    const end = yield* finish(running, 2)
    assert.strictEqual(end.result.content, "still here")
    const read = (yield* pages).slice(before)
    // For the ids, after the gap, and at the end.
    assert.deepStrictEqual(read.map(({ query }) => query["limit"]), ["1", "3", "3"])
    assert.isBelow(end.requests.length - requestsBefore - 10_000, 20)
  }).pipe(Effect.provide(layer())))

it.effect("pages back over messages after the prompt", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const { id } = yield* client.createSession({})
    const ids = yield* post(id, [{ text: "mine" }])
    yield* fill(id, 130)
    const exchange = yield* readExchange(ids)
    assert.isTrue(exchange.isAccepted)
    assert.isFalse(exchange.isCurrent)
    assert.strictEqual(exchange.steps.length, 1)
    assert.strictEqual((yield* pages).length, 1 + 3)
  }).pipe(Effect.provide(layer())))

it.effect("finds nothing of a prompt that the server does not have", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const { id } = yield* client.createSession({})
    const ids = yield* makePromptIds(yield* baseline(id), 1)
    const exchange = yield* readExchange({ sessionId: id, promptId: ids.promptId })
    assert.isFalse(exchange.isAccepted)
    assert.deepStrictEqual(exchange.steps, [])
  }).pipe(Effect.provide(layer())))

it.effect("makes ids that sort after all messages of the session", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const { id } = yield* client.createSession({})
    yield* fill(id, 3)
    const floor = yield* baseline(id)
    const fake = yield* FakeOpencode
    const stored = yield* fake.messages(id)
    assert.strictEqual(floor.newestMessageId, stored.at(-1)?.info.id)
    const ids = yield* makePromptIds(floor, 1)
    for (const { info } of stored) assert.isBelow(Number(info.id < ids.promptId ? 0 : 1), 1)
  }).pipe(Effect.provide(layer())))

// A session that cannot be listed

it.effect("uses the session's time as its newest message if it cannot be listed", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode
    const session = yield* client.createSession({})
    yield* fake.fail(isList, Faults.status(400))
    assert.deepStrictEqual(yield* baseline(session.id), {
      newestMessageId: undefined,
      sessionUpdatedMillis: session.updatedMillis
    })
  }).pipe(Effect.provide(layer())))

it.effect("reads message by message if a session cannot be listed, even without the prompt", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode
    const { id } = yield* client.createSession({})
    const ids = yield* post(id, tape)
    const { messages } = yield* client.listMessages(id, { limit: 9 })
    const known = Reply.fromMessages(ids, messages)
    yield* fake.fail(isList, Faults.status(400), Infinity)
    yield* fake.fail({ path: new RegExp(`/message/${ids.promptId}$`) }, Faults.status(400), Infinity)
    const exchange = yield* readExchange(ids, known)
    assert.isTrue(exchange.isAccepted)
    assert.deepStrictEqual(exchange.steps.map(({ info }) => info.finish), ["tool-calls", "stop"])
    // One message is gone, so it is not part of the exchange.
    yield* fake.fail({ path: new RegExp(`/message/${Reply.messages(known)[0]?.id}$`) }, Faults.status(404))
    assert.strictEqual((yield* readExchange(ids, known)).steps.length, 1)
  }).pipe(Effect.provide(layer())))

it.effect("completes a turn in a session that cannot be listed", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(isList, Faults.status(400), Infinity)
    assertCompleted(yield* run(tape), { text: tapeText, modelCalls: 2 })
  }).pipe(Effect.provide(layer())))

// Reads that go wrong

it.effect("retries a read that was cut short, a few times", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode
    const { id } = yield* client.createSession({})
    const ids = yield* post(id, tape)
    yield* fake.fail(isList, Faults.malformed, 2)
    const reading = yield* Effect.forkChild(readExchange(ids))
    yield* TestClock.adjust("2 seconds")
    assert.strictEqual((yield* Fiber.join(reading)).steps.length, 2)

    yield* fake.fail(isList, Faults.malformed, Infinity)
    const failing = yield* Effect.forkChild(Effect.flip(readExchange(ids)))
    yield* TestClock.adjust("10 seconds")
    assert.strictEqual((yield* Fiber.join(failing))._tag, "DecodeError")
  }).pipe(Effect.provide(layer())))

it.effect("posts a prompt without ids once, whatever happens", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode
    const { id } = yield* client.createSession({})
    yield* fake.fail(isPost, Faults.lostAnswer)
    const error = yield* Effect.flip(promptOnce({ sessionId: id, prompt: { parts: [{ type: "text", text: "x" }] } }))
    assert.strictEqual(error._tag, "TransportError")
    assert.strictEqual((yield* fake.requests).filter(isPost).length, 1)
  }).pipe(Effect.provide(layer())))

it.effect("reposts a prompt that the server accepted and lost", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(isPost, answered(204, ""))
    const running = yield* start(tape)
    yield* TestClock.adjust("1 seconds")
    // Only a gap is a reason to ask the server; otherwise the turn waits for the first event.
    yield* fake.cutEvents
    assertCompleted(yield* finish(running, 5), { text: tapeText, modelCalls: 2, posts: 2 })
  }).pipe(Effect.provide(layer())))
