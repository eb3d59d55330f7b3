import { readBackTo } from "#drive/ReadExchange"
import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { MessageId, SessionId } from "@opencode-turn/core/Ids"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Fault } from "@opencode-turn/testing/Faults"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Hostile from "@opencode-turn/testing/Hostile"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { assertCompleted, finish, layer, rest, run, start } from "../support/driving.ts"

const isList = { method: "GET", path: /\/message$/ }
const within = (budget: TurnPolicy.Budget) => Effect.provideService(TurnPolicy.Budget, budget)
const promptId = MessageId.make("msg_000000000001Prompt")

const lists = Effect.gen(function*() {
  const fake = yield* FakeOpencode
  return (yield* fake.requests).filter(({ method, path }) => method === "GET" && path.endsWith("/message"))
})

it.effect.each<{ name: string; fault: Fault; pages: number; messages: number }>([
  { name: "the same page with the same cursor", fault: Hostile.samePage("same"), pages: 2, messages: 1 },
  { name: "the same page with other cursors", fault: Hostile.samePage("other"), pages: 2, messages: 1 },
  { name: "empty pages", fault: Hostile.emptyPages(), pages: 1, messages: 0 },
  { name: "other messages for ever", fault: Hostile.endlessPages(), pages: 1000, messages: 1000 }
])("reading a session of endless pages ends: $name", ({ fault, messages, pages }) =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const client = yield* Client
    const { id } = yield* client.createSession({})
    yield* fake.fail(isList, fault, Infinity)
    const read = yield* readBackTo(id, promptId)
    assert.isFalse(read.isWhole)
    assert.lengthOf(read.messages, messages)
    assert.lengthOf(yield* lists, pages)
  }).pipe(Effect.provide(layer())))

it.effect("pages that are too large in total end the read with an error", () =>
  Effect.gen(function*() {
    let pages = 0
    const client = yield* Client
    const sessionId = SessionId.make("ses_1")
    const large: Partial<Client["Service"]> = {
      listMessages: () =>
        Effect.sync(() => {
          pages++
          const info = { sessionId, role: "user", createdMillis: 1, isContinuation: false } as const
          return {
            messages: [{ info: { ...info, id: MessageId.make(`msg_9${1000 - pages}`) }, parts: [] }],
            before: Option.some(String(pages)),
            size: 60 * 1024 * 1024
          }
        })
    }
    const error = yield* readBackTo(sessionId, promptId).pipe(
      Effect.provide(Layer.succeed(Client, Client.of({ ...client, ...large }))),
      Effect.flip
    )
    assert.strictEqual(error.message, "OpenCode's answer is larger than 256 MiB (list messages)")
    assert.strictEqual(pages, 5)
  }).pipe(Effect.provide(layer())))

it.effect("a page that is too large is read message by message", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "small", gate: "gate" }])
    yield* fake.fail(
      (request) => isList.path.test(request.path) && request.query["limit"] !== "1",
      Hostile.endlessBody,
      Infinity
    )
    yield* fake.release("gate")
    assertCompleted(yield* finish(running, 5), { text: "small", modelCalls: 1 })
  }).pipe(Effect.provide(layer())))

it.effect("a turn ends if every message of its session is too large", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "large", gate: "gate" }])
    yield* fake.fail(isList, Hostile.endlessBody, Infinity)
    yield* fake.release("gate")
    const { result } = yield* finish(running, 5)
    assert.strictEqual(result.error?._tag, "AnswerTooLarge")
    assert.strictEqual(result.content, "large")
    assert.strictEqual(result.message?.status, "error")
  }).pipe(Effect.provide(layer())))

// Time

/**
 * The time that the turn's end may take beyond the budget: the last read, the abort with its reads, and the subagents.
 */
const endSeconds = 15

it.effect("a turn whose stored messages come in endless slow pages ends with its budget", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "words", gate: "gate" }])
    yield* fake.fail(isList, Hostile.endlessPages("1 second"), Infinity)
    yield* fake.release("gate")
    const { result } = yield* finish(running, 5 + endSeconds)
    assert.strictEqual(result.error?._tag, "BudgetExceeded")
    assert.strictEqual(result.content, "words")
  }).pipe(within({ wallClock: Duration.seconds(5) }), Effect.provide(layer())))

it.effect("the second read of an empty answer ends with the budget, and the first read counts", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "", gate: "gate" }])
    // The first one is for the end.
    yield* fake.fail(isList, Faults.delay(0), 1)
    yield* fake.fail(isList, Hostile.endlessPages("1 second"), Infinity)
    yield* fake.release("gate")
    const { result } = yield* finish(running, 10 + endSeconds)
    assert.strictEqual(result.error?._tag, "EmptyStream")
  }).pipe(within({ wallClock: Duration.seconds(5) }), Effect.provide(layer())))

it.effect("it ends without a time budget too", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    const running = yield* start([{ text: "", gate: "gate" }])
    yield* fake.fail(isList, Faults.delay(0), 1)
    yield* fake.fail(isList, Hostile.endlessPages("1 second"), Infinity)
    yield* fake.release("gate")
    const { result } = yield* finish(running, 122 + endSeconds)
    assert.strictEqual(result.error?._tag, "EmptyStream")
  }).pipe(Effect.provide(layer())))

it.effect.each([
  { name: "the session", path: /^\/session\/[^/]+$/ },
  { name: "the status", path: /^\/session\/status$/ },
  { name: "the newest message", path: /\/message$/ }
])("the time budget limits the reads before the prompt: $name", ({ path }) =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    assertCompleted(yield* run([{ text: "one" }]), { text: "one", modelCalls: 1 })
    yield* fake.fail({ method: "GET", path }, Faults.hang, Infinity)
    const running = yield* start([{ text: "two" }])
    const { result } = yield* finish(running, 3 + endSeconds)
    assert.deepInclude(result.error, { _tag: "BudgetExceeded", limit: "wallClock", allowed: 3000 })
  }).pipe(within({ wallClock: Duration.seconds(3) }), Effect.provide(layer())))

it.effect("the time before the prompt counts", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode
    yield* fake.fail({ method: "GET", path: /\/message$/ }, Faults.delay("2 seconds"), 1)
    const running = yield* start([{ text: "words", delayMillis: 10_000 }])
    const { result } = yield* finish(running, 3 + endSeconds)
    assert.deepInclude(result.error, { _tag: "BudgetExceeded", limit: "wallClock", value: 3001 })
    yield* rest
  }).pipe(within({ wallClock: Duration.seconds(3) }), Effect.provide(layer())))
