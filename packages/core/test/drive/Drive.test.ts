import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { SessionId } from "@opencode-turn/core/Ids"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as TestClock from "effect/testing/TestClock"
import {
  assertCompleted,
  assertNeverGarbled,
  finish,
  isPost,
  layer,
  rest,
  rewritten,
  run,
  start,
  tape,
  tapeText
} from "../support/driving.ts"

it.effect("prompts once, after the stream is connected, and completes without the clock", () =>
  Effect.gen(function*() {
    const running = yield* start(tape)
    const end = yield* finish(running)
    assertCompleted(end, { text: tapeText, modelCalls: 2 })
    assertNeverGarbled(running.updates, end.result)
    assert.deepStrictEqual(end.trace, ["response.started", "session.created", "stream.completed", "turn.finished"])
  }).pipe(Effect.provide(layer())))

it.effect("holds the prompt back until the server says that the stream is connected", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail({ path: "/event" }, Faults.holdAt("stream"))
    const running = yield* start(tape)
    assert.isFalse((yield* fake.requests).some(isPost))
    yield* fake.release("stream")
    yield* rest
    assertCompleted(yield* finish(running), { text: tapeText, modelCalls: 2 })
  }).pipe(Effect.provide(layer())))

// The prompt

const lookups = (requests: ReadonlyArray<{ readonly method: string; readonly path: string }>) =>
  requests.filter(({ method, path }) => method === "GET" && /\/message\/msg_/.test(path)).length

it.effect.each([
  { name: "reset", fault: Faults.reset, posts: 2 },
  { name: "503", fault: Faults.status(503), posts: 2 },
  { name: "429", fault: Faults.status(429), posts: 2 },
  { name: "409", fault: Faults.status(409), posts: 2 },
  { name: "never answered", fault: Faults.hang, posts: 2 },
  { name: "answer lost", fault: Faults.lostAnswer, posts: 1 },
  { name: "answer never comes", fault: Faults.hangAfter, posts: 1 }
])("reposts the same ids only if the server does not have them: $name", ({ fault, posts }) =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(isPost, fault)
    const end = yield* run(tape, 40)
    assertCompleted(end, { text: tapeText, modelCalls: 2, posts })
    assert.strictEqual(lookups(end.requests), 1)
  }).pipe(Effect.provide(layer())))

it.effect("does not repost while it cannot find out whether the server has the prompt", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(isPost, Faults.lostAnswer)
    yield* fake.fail({ path: /\/message\/msg_/ }, Faults.status(503), 2)
    const end = yield* run([{ fail: 400, message: "no" }], 10)
    assert.strictEqual(end.result.error?._tag, "Upstream")
    assert.strictEqual(end.posts.length, 1)
    assert.strictEqual(end.modelCalls, 1)
  }).pipe(Effect.provide(layer())))

it.effect("treats a prompt that the server has and cannot show as accepted", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(isPost, Faults.lostAnswer)
    yield* fake.fail({ path: /\/message\/msg_/ }, Faults.status(400))
    assertCompleted(yield* run(tape, 10), { text: tapeText, modelCalls: 2 })
  }).pipe(Effect.provide(layer())))

it.effect.each([
  { status: 400, tag: "StatusError" },
  { status: 401, tag: "Unauthorized" },
  { status: 413, tag: "StatusError" }
])("fails at once when the server refuses the prompt for good: $status", ({ status, tag }) =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(isPost, Faults.status(status))
    const end = yield* run(tape)
    assert.strictEqual(end.result.error?._tag, tag)
    assert.strictEqual(end.posts.length, 1)
    assert.strictEqual(end.connections, 0)
  }).pipe(Effect.provide(layer())))

it.effect("goes on in a new session when the server has lost the old one", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(isPost, Faults.status(404))
    const end = yield* run(tape)
    assert.strictEqual(end.result.status, "completed")
    assert.isTrue(end.result.isRecreated)
    assert.strictEqual(end.modelCalls, 2)
  }).pipe(Effect.provide(layer())))

it.effect("gives up a prompt that the server never accepts after a few reposts", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(isPost, Faults.status(503), Infinity)
    const end = yield* run(tape, 10)
    assert.strictEqual(end.result.error?._tag, "StatusError")
    assert.strictEqual(end.posts.length, 5)
    assert.strictEqual(end.modelCalls, 0)
  }).pipe(Effect.provide(layer())))

// The end

it.effect("ends with the provider's error, although it is stored after the session became idle", () =>
  Effect.gen(function*() {
    const end = yield* run([{ fail: 400, message: "no such thing" }], 1)
    const { error } = end.result
    assert(error?._tag === "Upstream")
    assert.strictEqual(error.reason, "no such thing")
    assert.strictEqual(error.statusCode, 400)
    assert.strictEqual(end.result.status, "error")
    assert.strictEqual(end.posts.length, 1)
    assert.strictEqual(end.modelCalls, 1)
    assert.notInclude(end.trace, "response.waiting_for_final_text")
  }).pipe(Effect.provide(layer({ raceDelay: "2 millis" }))))

it.effect("ends with the provider's error at once if only the failed message's event arrives", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.dropEvents(({ type }) => type !== "message.updated")
    const end = yield* run([{ fail: 400, message: "no such thing" }])
    assert(end.result.error?._tag === "Upstream")
    assert.strictEqual(end.result.error.reason, "no such thing")
    assert.strictEqual(end.nowMillis, 0)
  }).pipe(Effect.provide(layer())))

it.effect("ends with the provider's error even long after the idle", () =>
  Effect.gen(function*() {
    const end = yield* run([{ fail: 400 }], 3)
    assert.strictEqual(end.result.error?._tag, "Upstream")
    assert.strictEqual(end.modelCalls, 1)
    assert.strictEqual(end.posts.length, 1)
  }).pipe(Effect.provide(layer({ raceDelay: "2 seconds" }))))

it.effect("keeps what was said before a later step failed", () =>
  Effect.gen(function*() {
    const end = yield* run([...tape.slice(0, 1), { fail: 400 }], 1)
    assert.strictEqual(end.result.error?._tag, "Upstream")
    assert.strictEqual(end.result.content, "First I look around here.")
    assert.strictEqual(end.modelCalls, 2)
  }).pipe(Effect.provide(layer({ raceDelay: "2 millis" }))))

it.effect("is cancelled when another client aborts the session, and keeps the partial text", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "some partial words", ending: "hang" }])
    const [sessionId = ""] = yield* fake.sessions
    yield* Effect.forkChild(client.abortSession(SessionId.make(sessionId)))
    const end = yield* finish(running, 1)
    assert.strictEqual(end.result.status, "cancelled")
    assert.strictEqual(end.result.content, "some partial words")
    assert.strictEqual(end.posts.length, 1)
    assert.strictEqual(end.modelCalls, 1)
  }).pipe(Effect.provide(layer({ raceDelay: "2 millis" }))))

it.effect("ends promptly for an unknown agent, although the server sends no idle", () =>
  Effect.gen(function*() {
    const end = yield* run(tape, 5, { agent: "nope" })
    const { error } = end.result
    assert(error?._tag === "Upstream")
    assert.include(error.reason, "Agent not found")
    assert.strictEqual(end.posts.length, 1)
  }).pipe(Effect.provide(layer())))

it.effect("reads the end of a failed session again after the server was unreachable", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(
      isPost,
      (serve) => Effect.andThen(fake.fail({ method: "GET", path: /\/message$/ }, Faults.status(503), Infinity), serve)
    )
    const running = yield* start(tape, { agent: "nope" })
    yield* TestClock.adjust("10 seconds")
    assert.isFalse(running.isDone())
    yield* fake.clearFaults
    const { error } = (yield* finish(running, 15)).result
    assert(error?._tag === "Upstream", error?.message)
    assert.include(error.reason, "Agent not found")
  }).pipe(Effect.provide(layer())))

it.effect("ends at once for an unknown model, which the session would keep, and sends no prompt", () =>
  Effect.gen(function*() {
    const end = yield* run(tape, 5, { model: "nope/zip" })
    const { error } = end.result
    assert(error?._tag === "Upstream")
    assert.include(error.reason, "Model not found")
    assert.strictEqual(end.posts.length, 0)
    assert.strictEqual(end.modelCalls, 0)
  }).pipe(Effect.provide(layer())))

it.effect("waits for the model's retries, and shows them", () =>
  Effect.gen(function*() {
    const running = yield* start([{ fail: 500, message: "boom", times: 2 }, { text: "at last" }])
    const end = yield* finish(running, 10)
    assertCompleted(end, { text: "at last", modelCalls: 3 })
    assert.deepStrictEqual(
      running.updates.flatMap((update) => (update._tag === "Retrying" ? [update.retry.attempt] : [])),
      [1, 2]
    )
  }).pipe(Effect.provide(layer())))

it.effect("keeps only the server's text when the model's connection broke mid-answer", () =>
  Effect.gen(function*() {
    const running = yield* start([{ text: "given up half way", ending: "cut" }, { text: "after it" }])
    const end = yield* finish(running, 5)
    assertCompleted(end, { text: "after it", modelCalls: 2 })
    assertNeverGarbled(running.updates, end.result)
  }).pipe(Effect.provide(layer())))

it.effect("completes with the real answer after the context overflowed, without the summary", () =>
  Effect.gen(function*() {
    const running = yield* start([])
    const end = yield* finish(running, 5)
    assert.strictEqual(end.result.status, "completed")
    assert.strictEqual(end.result.content, "the real answer")
    assert.strictEqual(end.posts.length, 1)
    assert.strictEqual(end.modelCalls, 2)
    assert.notInclude(JSON.stringify(running.updates), "Scripted title")
  }).pipe(Effect.provide(layer({
    script: (_request, earlier) =>
      earlier.length === 0 ? { fail: 413, message: "prompt is too long" } : { text: "the real answer" }
  }))))

it.effect("reads the stored messages again when the answer has no content yet", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail(
      { method: "GET", path: /\/message$/ },
      rewritten((body) => (Array.isArray(body) ? body.map((message) => ({ ...message, parts: [] })) : body)),
      // The first read is the baseline's.
      2
    )
    const running = yield* start([{ text: "late" }])
    yield* TestClock.adjust("1999 millis")
    assert.isFalse(running.isDone())
    yield* TestClock.adjust("1 millis")
    const end = yield* finish(running)
    assertCompleted(end, { text: "late", modelCalls: 1 })
    assert.include(end.trace, "response.recovered_from_exchange")
  }).pipe(Effect.provide(layer())))

it.effect("ignores another prompt of the same session", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "mine", gate: "mine" }])
    const [sessionId = ""] = yield* fake.sessions
    yield* fake.script([{ text: "theirs", gate: "theirs" }])
    yield* client.prompt(SessionId.make(sessionId), "another prompt")
    yield* fake.release("mine")
    yield* rest
    // The session does not become idle in between, so only the end of this turn's message tells the end.
    const end = yield* finish(running, 3)
    assert.strictEqual(end.result.status, "completed")
    assert.strictEqual(end.result.content, "mine")
    assert.strictEqual(end.posts.length, 2)
  }).pipe(Effect.provide(layer())))

it.effect("ends with its own last message, however long another prompt of the session runs behind it, or fails", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "mine", gate: "mine" }])
    const [sessionID = ""] = yield* fake.sessions
    yield* fake.script([{ text: "theirs takes a while", chunkDelayMillis: 300, ending: "hang" }])
    yield* client.prompt(SessionId.make(sessionID), "another prompt")
    yield* fake.release("mine")
    yield* rest
    const error = { name: "APIError", data: { message: "theirs", isRetryable: false } }
    yield* fake.emit({ type: "session.error", properties: { sessionID, error } })
    const end = yield* finish(running, 1)
    assert.strictEqual(end.result.status, "completed", end.result.error?.message)
    assert.strictEqual(end.result.content, "mine")
    assert.deepStrictEqual(end.requests.filter(({ path }) => path.endsWith("/abort")), [], "theirs goes on")
  }).pipe(Effect.provide(layer())))

it.effect("does not end with late events of the previous turn", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const first = yield* run([{ text: "before" }])
    assert.strictEqual(first.result.status, "completed")
    const sessionID = first.result.sessionId
    const [user] = first.messages
    yield* fake.fail(isPost, Faults.holdAt("prompt"))
    const running = yield* start([{ text: "now", gate: "now" }])
    const leftovers = [
      { type: "session.error", properties: { sessionID, error: { name: "UnknownError", data: { message: "old" } } } },
      { type: "session.status", properties: { sessionID, status: { type: "idle" } } },
      { type: "session.idle", properties: { sessionID } },
      { type: "session.diff", properties: { sessionID, diff: [] } },
      { type: "message.updated", properties: { sessionID, info: user?.info } },
      ...first.messages.map(({ info }) => ({ type: "message.updated", properties: { sessionID, info } }))
    ]
    yield* Effect.forEach(leftovers, fake.emit)
    yield* fake.release("prompt")
    yield* rest
    // Once more, now that something of this turn was seen; but no error: that one counts.
    yield* Effect.forEach(leftovers.slice(1), fake.emit)
    yield* TestClock.adjust("30 seconds")
    assert.isFalse(running.isDone())
    yield* fake.release("now")
    const end = yield* finish(running, 3)
    assert.strictEqual(end.result.status, "completed")
    assert.strictEqual(end.result.content, "now")
    assert.strictEqual(end.posts.length, 2)
    assert.strictEqual(end.modelCalls, 2)
  }).pipe(Effect.provide(layer())))

it.effect("is not ended by an old idle while its model is silent for longer than the wait for an end", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "thought about it", delayMillis: 300_000 }])
    const [sessionID = ""] = yield* fake.sessions
    yield* fake.emit({ type: "session.idle", properties: { sessionID } })
    yield* fake.emit({ type: "session.status", properties: { sessionID, status: { type: "busy" } } })
    assertCompleted(yield* finish(running, 301), { text: "thought about it", modelCalls: 1 })
  }).pipe(Effect.provide(layer())))

it.effect("continues in a new session when the session was deleted", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "lost", ending: "hang" }])
    const [sessionId = ""] = yield* fake.sessions
    yield* fake.script([{ text: "again" }])
    yield* fake.deleteSession(sessionId)
    const end = yield* finish(running, 1)
    assert.strictEqual(end.result.status, "completed")
    assert.strictEqual(end.result.content, "again")
    assert.isTrue(end.result.isRecreated)
    assert.strictEqual(end.connections, 0)
  }).pipe(Effect.provide(layer())))

it.effect("measures the time to the first text", () =>
  Effect.gen(function*() {
    const running = yield* start([{ text: "slow", delayMillis: 1500 }])
    const end = yield* finish(running, 2)
    const completed = end.events.find(({ name }) => name === "opencode.stream.completed")
    assert.strictEqual(completed?.payload["first_token_ms"], Duration.toMillis("1500 millis"))
    assert.isTrue(Predicate.isNumber(completed?.payload["event_count"]))
  }).pipe(Effect.provide(layer())))

it.effect("measures from its own start, whatever the clock shows", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* TestClock.adjust("1 hour")
    const running = yield* start([{ text: "slow", delayMillis: 1500, gate: "slow" }])
    yield* TestClock.adjust("2 seconds")
    yield* fake.cutEvents
    yield* TestClock.adjust("1 seconds")
    yield* fake.release("slow")
    const end = yield* finish(running, 2)
    assert.strictEqual(end.result.content, "slow")
    const payloadOf = (name: string) => end.events.find((event) => event.name === `opencode.${name}`)?.payload
    assert.deepInclude(payloadOf("stream.interrupted"), { duration_ms: 2000 })
    assert.deepInclude(payloadOf("stream.completed"), { duration_ms: 3000, first_token_ms: 1500 })
    assert.deepInclude(payloadOf("turn.finished"), { duration_ms: 3000 })
    assert.strictEqual(end.result.durationMillis, 3000)
  }).pipe(Effect.provide(layer())))
