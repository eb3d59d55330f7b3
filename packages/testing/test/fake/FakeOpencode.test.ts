import * as Tool from "#fake/Tool"
import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as Client_ from "@opencode-turn/core/Client"
import type { SessionId } from "@opencode-turn/core/Ids"
import { makePromptIds } from "@opencode-turn/core/Ids"
import type { Message } from "@opencode-turn/core/Message"
import type { Prompt } from "@opencode-turn/core/Prompt"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as FakeServer from "@opencode-turn/testing/FakeServer"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { FetchHttpClient } from "effect/http"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"

const withFake = (options?: FakeOpencode.Options) => Effect.provide(FakeOpencode.layerTest(options))

const textOf = (message: Message) => message.parts.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("")

const newSession = Effect.gen(function*() {
  const { id } = yield* (yield* Client).createSession({ title: "t" })
  return id
})

/** A prompt under ids of its own, as a turn posts it. */
const identified = (steps: ReadonlyArray<Step>) =>
  Effect.map(makePromptIds({ newestMessageId: undefined, sessionUpdatedMillis: 0 }, 1), (ids): Prompt => ({
    ids,
    parts: [{ type: "text", text: FakeOpencode.prompt("go", steps) }]
  }))

const eventsOf = (session: SessionId, steps: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const client = yield* Client
    return yield* Stream.runCollect(client.stream(session, FakeOpencode.prompt("go", steps)))
  })

const bash = (command: string): Step => ({ tool: "bash", args: { command } })

const answers = (session: SessionId) =>
  Effect.map(
    Effect.flatMap(Client, (client) => client.listMessages(session, { limit: 50 })),
    ({ messages }) => messages.filter(({ info }) => info.role === "assistant").map(textOf)
  )

it.effect("streams a turn in the order of the real server", () =>
  Effect.gen(function*() {
    const session = yield* newSession
    const events = yield* eventsOf(session, [{ reasoning: "hm", text: "all well", chunks: 2 }])
    const seen = events.flatMap((event) =>
      event._tag === "PartDelta"
        ? [event.delta]
        : event._tag === "PartUpdated"
        ? [`${event.part.type}${"isComplete" in event.part && event.part.isComplete ? "." : ""}`]
        : event._tag === "StatusChanged"
        ? [event.status.type]
        : []
    )
    assert.deepStrictEqual(seen, [
      "text",
      "busy",
      "busy",
      "reasoning",
      "h",
      "m",
      "reasoning.",
      "text",
      "all ",
      "well",
      "text.",
      "step-finish",
      "busy",
      "idle"
    ])
    assert.deepStrictEqual(yield* answers(session), ["all well"])
  }).pipe(withFake()))

it.effect("pages through messages from the newest to the oldest", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const session = yield* newSession
    for (const text of ["one", "two", "three"]) {
      yield* client.sendMessage(session, FakeOpencode.prompt("go", [{ text }]))
    }
    const newest = yield* client.listMessages(session, { limit: 4 })
    assert.deepStrictEqual(newest.messages.map(({ info }) => info.role), ["user", "assistant", "user", "assistant"])
    const oldest = yield* client.listMessages(session, { limit: 4, before: Option.getOrThrow(newest.before) })
    assert.deepStrictEqual(oldest.messages.map(textOf), ["", "one"])
    assert.isTrue(Option.isNone(oldest.before))
  }).pipe(withFake()))

it.effect("gives prompts the scripts that wait for them, one each", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const [first, second] = [yield* newSession, yield* newSession]
    yield* fake.script([{ text: "for the second" }], second)
    yield* fake.script([{ text: "for anybody" }])
    assert.strictEqual(textOf(yield* client.sendMessage(first, "hello")), "for anybody")
    assert.strictEqual(textOf(yield* client.sendMessage(second, "hello")), "for the second")
    assert.strictEqual(textOf(yield* client.sendMessage(second, "hello")), "The script has no more steps.")
    assert.strictEqual(yield* fake.modelCalls, 3)
  }).pipe(withFake()))

it.effect("retries the model by the clock, and says until when", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const session = yield* newSession
    const turn = yield* Effect.forkChild(eventsOf(session, [{ fail: 500, message: "boom" }, { text: "done" }]))
    yield* TestClock.adjust("1999 millis")
    assert.deepStrictEqual(
      [...(yield* client.statuses).values()],
      [{ type: "retry", attempt: 1, message: "boom", nextMillis: 2000 }]
    )
    yield* TestClock.adjust("1 millis")
    yield* Fiber.join(turn)
    assert.deepStrictEqual(yield* answers(session), ["done"])
  }).pipe(withFake()))

it.effect("is idle before the message of a failed turn says so", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const session = yield* newSession
    const events = yield* eventsOf(session, [{ fail: 401, message: "bad key" }])
    assert.deepStrictEqual(events.flatMap((event) => (event._tag === "SessionFailed" ? [event.failure.message] : [])), [
      "bad key"
    ])
    const completed = Effect.map(
      client.listMessages(session, { limit: 1 }),
      ({ messages: [last] }) => last?.info.role === "assistant" && last.info.completedMillis !== undefined
    )
    assert.isFalse(yield* completed)
    yield* TestClock.adjust("2 millis")
    assert.isTrue(yield* completed)
  }).pipe(withFake({ raceDelay: "2 millis" })))

it.effect("keeps the partial text of an aborted turn, which a message shows only after the end", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    yield* client.prompt(session, FakeOpencode.prompt("go", [{ text: "some words", gate: "said", ending: "hang" }]))
    yield* fake.reached("said")
    assert.deepStrictEqual(yield* answers(session), [""])
    yield* client.abortSession(session)
    assert.deepStrictEqual(yield* answers(session), ["some words"])
    assert.strictEqual((yield* client.statuses).size, 0)
    const last = (yield* fake.messages(session)).at(-1)
    assert.strictEqual(last?.info.role === "assistant" && last.info.error?.name, "MessageAbortedError")
  }).pipe(withFake()))

it.effect("asks for a permission, goes on when it is granted, and does not ask again after `always`", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const { id } = yield* client.createSession({ permission: [{ permission: "bash", pattern: "*", action: "ask" }] })
    const turn = yield* Effect.forkChild(eventsOf(id, [bash("echo a"), bash("echo b"), { text: "done" }]))
    yield* TestClock.adjust(0)
    const [ask] = yield* client.permissions
    assert.deepInclude(ask, { permission: "bash", patterns: ["echo a"], always: ["echo *"] })
    if (ask !== undefined) yield* client.answerPermission(ask.id, { reply: "always" })
    const events = yield* Fiber.join(turn)
    assert.strictEqual(events.filter(({ _tag }) => _tag === "Asked").length, 1)
    const outputs = (yield* fake.messages(id)).flatMap(({ parts }) =>
      parts.flatMap((part) => (part.type === "tool" ? [part.state.output] : []))
    )
    assert.deepStrictEqual(outputs, ["a\n", "b\n"])
  }).pipe(withFake()))

it.effect("ends the turn when a question is dismissed", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    const questions = [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }]
    const turn = yield* Effect.forkChild(
      eventsOf(session, [{ tool: "question", args: { questions } }, { text: "never said" }])
    )
    yield* TestClock.adjust(0)
    const [ask] = yield* client.questions
    assert.strictEqual(ask?.questions[0]?.question, "Which?")
    if (ask !== undefined) {
      yield* client.rejectQuestion(ask.id)
      const error = yield* Effect.flip(client.rejectQuestion(ask.id))
      assert.strictEqual(error._tag, "AskNotFound")
    }
    yield* Fiber.join(turn)
    assert.strictEqual(yield* fake.modelCalls, 1)
  }).pipe(withFake()))

it.effect("gives a call the outcome of the script, and hides it from everybody", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    yield* fake.script([
      { tool: "bash", args: Tool.withOutcome({ command: "make" }, { error: "make: no targets" }) },
      { text: "it failed" }
    ])
    assert.strictEqual(textOf(yield* client.sendMessage(session, "build it")), "it failed")
    const [call] = (yield* fake.messages(session)).flatMap(({ parts }) => parts.filter((part) => part.type === "tool"))
    assert.deepInclude(call?.type === "tool" ? call.state : undefined, {
      status: "error",
      input: { command: "make" },
      error: "make: no targets"
    })
  }).pipe(withFake()))

it.effect("runs a subagent in a session of its own, and aborts it with its parent", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    const child = FakeOpencode.prompt("look", [{ text: "child hangs", gate: "child", ending: "hang" }])
    const turn = yield* Effect.forkChild(eventsOf(session, [
      { tool: "task", args: { description: "look", prompt: child, subagent_type: "general" } }
    ]))
    yield* fake.reached("child")
    const [subagent] = yield* client.children(session)
    assert.deepInclude(subagent, { agent: "general", parentId: session, title: "look (@general subagent)" })
    assert.strictEqual((yield* client.statuses).size, 2)
    yield* client.abortSession(session)
    yield* Fiber.join(turn)
    assert.strictEqual((yield* client.statuses).size, 0)
    assert.deepStrictEqual(subagent && (yield* answers(subagent.id)), ["child hangs"])
  }).pipe(withFake()))

it.effect("leaves a killed turn as it was, and resumes it when the same prompt is posted again", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    const prompt = yield* identified([{ text: "half", gate: "half", ending: "hang" }, { text: "the whole" }])
    yield* client.prompt(session, prompt)
    yield* fake.reached("half")
    yield* fake.restart
    assert.strictEqual((yield* client.statuses).size, 0)
    const broken = (yield* fake.messages(session)).at(-1)
    assert.isTrue(broken?.info.role === "assistant" && broken.info.time.completed === undefined)

    yield* client.prompt(session, prompt)
    yield* TestClock.adjust(0)
    assert.deepStrictEqual(yield* answers(session), ["", "the whole"])
    assert.strictEqual(yield* fake.userMessageCount(session), 1)

    yield* client.prompt(session, prompt)
    yield* TestClock.adjust(0)
    assert.strictEqual(yield* fake.modelCalls, 2)
  }).pipe(withFake()))

it.effect("refuses everything while it is dead", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    yield* fake.kill
    assert.strictEqual((yield* Effect.flip(client.getSession(session)))._tag, "TransportError")
    yield* fake.start
    assert.strictEqual((yield* client.getSession(session)).id, session)
  }).pipe(withFake()))

it.effect("applies a fault as often as requested, and acts on a request whose answer is lost", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    const read = Effect.flip(client.getSession(session))
    const path = `/session/${session}`
    yield* fake.fail({ method: "GET", path }, Faults.status(503), 2)
    for (const _ of [1, 2]) assert.deepInclude(yield* read, { _tag: "StatusError", status: 503 })
    assert.strictEqual((yield* client.getSession(session)).id, session)
    yield* fake.fail({ path }, Faults.reset)
    assert.strictEqual((yield* read)._tag, "TransportError")
    yield* fake.fail({ path }, Faults.malformed)
    assert.strictEqual((yield* read)._tag, "DecodeError")
    yield* fake.fail({ path }, Faults.htmlPage)
    // The server was known before: a page in between is waited for as a 502 is.
    assert.strictEqual((yield* read)._tag, "TransportError")

    yield* fake.fail({ path: /prompt_async$/ }, Faults.lostAnswer)
    const lost = yield* Effect.flip(client.prompt(session, FakeOpencode.prompt("go", [{ text: "done" }])))
    assert.strictEqual(lost._tag, "TransportError")
    assert.strictEqual(yield* fake.userMessageCount(session), 1)

    yield* fake.hang({ path })
    const hanging = yield* Effect.forkChild(read)
    yield* TestClock.adjust("30 seconds")
    assert.strictEqual((yield* Fiber.join(hanging))._tag, "RequestTimeout")
  }).pipe(withFake()))

it.effect("loses, doubles and invents events on demand", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    const deltas = Effect.map(
      eventsOf(session, [{ text: "a b c" }]),
      (events) => events.flatMap((event) => (event._tag === "PartDelta" ? [event.delta] : []))
    )
    yield* fake.dropEvents(({ properties }) => properties["delta"] === "b ", 1)
    assert.deepStrictEqual(yield* deltas, ["a ", "c"])
    yield* fake.duplicateEvents(({ properties }) => properties["delta"] === "b ", 1)
    assert.deepStrictEqual(yield* deltas, ["a ", "b ", "b ", "c"])

    const turn = yield* Effect.forkChild(eventsOf(session, [{ ending: "hang" }]))
    yield* TestClock.adjust(0)
    yield* fake.emit({ type: "session.idle", properties: { sessionID: session } })
    const events = yield* Fiber.join(turn)
    assert.strictEqual(events.at(-1)?._tag, "StatusChanged")
  }).pipe(withFake()))

it.effect("sends heartbeats by the clock, and nothing while it is mute", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    let heartbeats = 0
    let losses = 0
    yield* client.subscribe(session, {
      onEvent: () => {},
      onFlush: () => {},
      onHeartbeat: () => heartbeats++,
      onLost: () => losses++,
      onGap: () => {},
      onClosed: () => {}
    })
    yield* TestClock.adjust("25 seconds")
    assert.strictEqual(heartbeats, 2)
    assert.strictEqual(yield* fake.eventConnections, 1)
    yield* fake.muteEvents
    yield* TestClock.adjust("29 seconds")
    assert.deepStrictEqual([heartbeats, losses], [2, 1])
    yield* fake.unmuteEvents
    yield* fake.cutEvents
    yield* TestClock.adjust("15 seconds")
    assert.isAbove(heartbeats, 2)
  }).pipe(Effect.scoped, withFake()))

it.effect("wants its password, and records requests without it", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    const requests = yield* fake.requests
    const [health] = requests
    const create = requests.find(({ method }) => method === "POST")
    assert.deepInclude(health, { method: "GET", path: "/global/health", isAuthorized: true })
    assert.deepInclude(create, { method: "POST", path: "/session", body: { title: "t" } })
    assert.notProperty(create?.headers, "authorization")
    const response = yield* fake.handle({
      method: "GET",
      path: `/session/${session}`,
      query: {},
      headers: {},
      body: ""
    })
    assert.deepInclude(response, { status: 401, body: "" })
  }).pipe(withFake({ password: Redacted.make("secret") })))

it.effect("deletes a session behind the client's back", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    yield* fake.deleteSession(session)
    assert.strictEqual((yield* Effect.flip(client.prompt(session, "hello")))._tag, "SessionNotFound")
  }).pipe(withFake()))

it.live("serves the same over HTTP, and breaks connections there too", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const session = yield* newSession
    const events = yield* eventsOf(session, [{ text: "over HTTP" }])
    assert.strictEqual(events.at(-1)?._tag, "StatusChanged")
    assert.deepStrictEqual(yield* answers(session), ["over HTTP"])
    yield* fake.fail({ path: `/session/${session}` }, Faults.reset)
    assert.strictEqual((yield* Effect.flip(client.getSession(session)))._tag, "TransportError")

    const turn = yield* Effect.forkChild(
      client.sendMessage(session, FakeOpencode.prompt("go", [{ text: "half", gate: "half", ending: "hang" }]))
    )
    yield* fake.reached("half")
    yield* fake.restart
    assert.strictEqual((yield* Effect.flip(Fiber.join(turn)))._tag, "TransportError")
  }).pipe(Effect.provide(
    Layer.unwrap(Effect.map(FakeServer.FakeServer, ({ url }) => Client_.layer({ baseUrl: url }))).pipe(
      Layer.provide(FakeServer.layer()),
      Layer.provideMerge(FakeOpencode.layer()),
      Layer.provide(FetchHttpClient.layer)
    )
  )))
