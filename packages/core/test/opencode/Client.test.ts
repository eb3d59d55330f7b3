import * as AnyDialect from "#opencode/AnyDialect"
import type { Dialect } from "#opencode/Dialect"
import { assert, describe, it } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import { SessionNotFound, StatusError, TransportError, Unauthorized } from "@opencode-turn/core/ClientError"
import type { SessionStatus } from "@opencode-turn/core/Message"
import type { ServerEvent } from "@opencode-turn/core/TurnEvent"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { connected, scripted } from "../support/connections.ts"
import { connect, empty, json } from "../support/http.ts"
import * as Make from "../support/make.ts"
import { tapes } from "../support/tapes.ts"

const { answerId, child, root, stranger } = Make
const origin = "http://127.0.0.1:4096"

/** A client whose requests go to a server in memory and whose event stream comes from the test. */
const start = (overrides: Partial<Dialect> = {}) =>
  Effect.gen(function*() {
    const connection = yield* scripted
    const server = connect(({ path }) => (path === "/session/status" ? json({}) : empty(204)))
    const dialect = yield* Effect.provideService(
      AnyDialect.make({ baseUrl: origin }),
      HttpClient.HttpClient,
      server.client
    )
    const client = yield* Client.make({ ...dialect, events: connection.events, ...overrides })
    return { ...connection, server, client }
  })

/** How long a connection is kept for the next subscriber. */
const idle = "2 seconds"

const tags = (events: ReadonlyArray<Client.StreamEvent>) =>
  events.map((
    event
  ) => (event._tag === "PartDelta" ? event.delta : event._tag === "Gap" ? `gap: ${event.reason}` : event._tag))

/** Streams a prompt to its end in a fiber; `seen` holds the events so far. */
const streaming = (client: Client.Client["Service"]) =>
  Effect.gen(function*() {
    const seen: Array<Client.StreamEvent> = []
    const fiber = yield* Effect.forkChild(
      Stream.runForEach(client.stream(root, "go"), (event) =>
        Effect.sync(() => {
          seen.push(event)
        }))
    )
    yield* TestClock.adjust(0)
    return { seen, fiber }
  })

/** Streams a prompt to a reader that holds the first event and waits for `read`. */
const reading = (client: Client.Client["Service"]) =>
  Effect.gen(function*() {
    const seen: Array<Client.StreamEvent> = []
    const isReading = yield* Deferred.make<void>()
    const fiber = yield* Effect.forkChild(
      Stream.runForEach(client.stream(root, "go"), (event) =>
        Effect.andThen(
          Deferred.await(isReading),
          Effect.sync(() => {
            seen.push(event)
          })
        ))
    )
    yield* TestClock.adjust(0)
    return { seen, fiber, read: Deferred.succeed(isReading, undefined) }
  })

describe("stream", () => {
  it.effect("subscribes, prompts once the connection is live, and ends when the session is idle", () =>
    Effect.gen(function*() {
      const { client, open, send, server } = yield* start()
      const { fiber, seen } = yield* streaming(client)
      assert.lengthOf(server.requests(), 0)
      yield* send([connected])
      assert.deepStrictEqual(server.requests().map(({ path }) => path), ["/session/ses_root/prompt_async"])
      assert.deepStrictEqual(server.requests()[0]?.body, { parts: [{ type: "text", text: "go" }] })
      yield* send(
        [Make.busy(), Make.delta("a", "one"), Make.delta("x", "stranger", { sessionId: stranger })],
        [Make.opened(child, root), Make.delta("c", "child", { sessionId: child }), Make.idle(child)],
        [Make.idle(), Make.message(Make.user())]
      )
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(tags(seen), [
        "StatusChanged",
        "one",
        "SessionOpened",
        "child",
        "StatusChanged",
        "StatusChanged"
      ])
      yield* TestClock.adjust(idle)
      assert.strictEqual(open(), 0)
    }))

  it.effect("every recorded turn comes to an end", () =>
    Effect.gen(function*() {
      for (const { events, ids, name } of tapes) {
        const { client, send } = yield* start()
        const fiber = yield* Effect.forkChild(Stream.runCollect(client.stream(ids.sessionId, "go")))
        yield* TestClock.adjust(0)
        yield* send([connected], events.filter((event) => event._tag !== "Connected"))
        const last = (yield* Fiber.join(fiber)).at(-1)
        assert.deepInclude(last, { _tag: "StatusChanged", sessionId: ids.sessionId, status: { type: "idle" } }, name)
      }
    }))

  it.effect("does not end at the second `idle` of an earlier aborted run", () =>
    Effect.gen(function*() {
      const { client, send } = yield* start()
      const { fiber, seen } = yield* streaming(client)
      yield* send([connected], [Make.failed("MessageAbortedError"), Make.idle()])
      assert.isUndefined(fiber.pollUnsafe())
      yield* send([Make.busy(), Make.delta("a", "one"), Make.idle()])
      yield* Fiber.join(fiber)
      assert.include(tags(seen), "one")
    }))

  it.effect("ends when the session fails before it began, or is deleted", () =>
    Effect.gen(function*() {
      const endings: ReadonlyArray<ServerEvent> = [
        Make.failed("UnknownError", "Agent not found"),
        { _tag: "SessionDeleted", ...Make.base() }
      ]
      for (const ending of endings) {
        const { client, send } = yield* start()
        const { fiber, seen } = yield* streaming(client)
        yield* send([connected], [ending])
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(tags(seen), [ending._tag])
      }
    }))

  it.effect("does not end at a failure during the run, because a compaction may follow", () =>
    Effect.gen(function*() {
      const { client, send } = yield* start()
      const { fiber } = yield* streaming(client)
      yield* send([connected], [Make.busy(), Make.failed("ContextOverflowError")])
      assert.isUndefined(fiber.pollUnsafe())
      yield* Fiber.interrupt(fiber)
    }))

  it.effect("marks a reconnect as a gap, and goes on while the server is busy", () =>
    Effect.gen(function*() {
      const statuses = new Map<typeof root, SessionStatus>([[root, { type: "busy" }]])
      const { client, end, send } = yield* start({ statuses: Effect.succeed(statuses) })
      const { fiber, seen } = yield* streaming(client)
      yield* send([connected], [Make.busy()])
      yield* end
      yield* TestClock.adjust("120 millis")
      yield* send([connected], [Make.delta("a", "after")])
      assert.deepStrictEqual(tags(seen), ["StatusChanged", "gap: reconnect", "after"])
      yield* send([Make.idle()])
      yield* Fiber.join(fiber)
    }))

  it.effect("finds an `idle` that a gap hid by asking the server, even on a second attempt", () =>
    Effect.gen(function*() {
      let attempts = 0
      const refused = new TransportError({ operation: "session status", origin, reason: "ECONNREFUSED" })
      const { client, end, send } = yield* start({
        statuses: Effect.suspend(() => (++attempts === 1 ? Effect.fail(refused) : Effect.succeed(new Map())))
      })
      const { fiber, seen } = yield* streaming(client)
      yield* send([connected], [Make.busy()])
      yield* end
      yield* TestClock.adjust("120 millis")
      yield* send([connected])
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(tags(seen), ["StatusChanged", "gap: reconnect", "StatusChanged"])
      assert.strictEqual(attempts, 2)
    }))

  it.effect("gives a slow reader a gap for the events that it missed, and the end", () =>
    Effect.gen(function*() {
      const { client, send } = yield* start()
      const { fiber, read, seen } = yield* reading(client)
      yield* send([connected, Make.busy()])
      yield* send(Array.from({ length: 10_000 }, (_, index) => Make.delta("a", String(index))), [Make.idle()])
      yield* read
      yield* Fiber.join(fiber)
      assert.include(tags(seen), "gap: overflow")
      assert.isAtMost(seen.length, 4_200)
      assert.deepStrictEqual(tags(seen).slice(-2), ["9999", "StatusChanged"])
    }))

  it.effect("keeps the mark of a reconnect for a slow reader, however many events follow", () =>
    Effect.gen(function*() {
      const statuses = yield* Ref.make(0)
      const { client, end, send } = yield* start({
        statuses: Effect.as(Ref.update(statuses, (count) => count + 1), new Map())
      })
      const { fiber, read, seen } = yield* reading(client)
      yield* send([connected, Make.busy()])
      yield* end
      yield* TestClock.adjust("5 seconds")
      yield* send([connected])
      yield* send(Array.from({ length: 10_000 }, (_, index) => Make.delta("a", String(index))))
      yield* read
      yield* Fiber.join(fiber)
      assert.include(tags(seen), "gap: overflow")
      assert.include(tags(seen), "gap: reconnect")
      assert.strictEqual(yield* Ref.get(statuses), 1)
      assert.strictEqual(tags(seen).at(-1), "StatusChanged")
    }))

  it.effect("keeps the end in a full queue, whatever comes after it", () =>
    Effect.gen(function*() {
      const { client, send } = yield* start()
      const { fiber, read, seen } = yield* reading(client)
      yield* send([connected, Make.busy()])
      yield* send(Array.from({ length: 4_095 }, (_, index) => Make.delta("a", String(index))), [Make.idle()])
      yield* send(Array.from({ length: 10 }, () => Make.message(Make.user())))
      yield* read
      yield* Fiber.join(fiber)
      assert.lengthOf(seen, 4_097)
      assert.deepStrictEqual(tags(seen).slice(-2), ["4094", "StatusChanged"])
    }))

  it.effect("fails with the error of the prompt, the subscription or the connection", () =>
    Effect.gen(function*() {
      const missing = new SessionNotFound({ sessionId: root })
      const one = yield* start({ prompt: () => Effect.fail(missing) })
      const prompted = yield* streaming(one.client)
      yield* one.send([connected])
      assert.strictEqual(yield* Effect.flip(Fiber.join(prompted.fiber)), missing)
      yield* TestClock.adjust(idle)
      assert.strictEqual(one.open(), 0)

      const two = yield* start()
      two.refuse(new Unauthorized({ origin, status: 401 }))
      const refused = yield* streaming(two.client)
      assert.strictEqual((yield* Effect.flip(Fiber.join(refused.fiber)))._tag, "Unauthorized")

      const three = yield* start()
      const cut = yield* streaming(three.client)
      yield* three.send([connected], [Make.busy(), Make.delta("a", "one")])
      yield* three.fail(new StatusError({ operation: "open event stream", status: 404, name: "error", detail: "" }))
      assert.strictEqual((yield* Effect.flip(Fiber.join(cut.fiber)))._tag, "StatusError")
      assert.deepStrictEqual(tags(cut.seen), ["StatusChanged", "one"])
    }))

  it.effect("closes the subscription when the reader leaves", () =>
    Effect.gen(function*() {
      const { client, open, send } = yield* start()
      const fiber = yield* Effect.forkChild(Stream.runCollect(Stream.take(client.stream(root, "go"), 1)))
      yield* TestClock.adjust(0)
      yield* send([connected], [Make.busy()])
      assert.lengthOf(yield* Fiber.join(fiber), 1)
      yield* TestClock.adjust(idle)
      assert.strictEqual(open(), 0)
    }))
})

it.effect("`sendMessage` gives the last message of the answer, from text or from a prompt", () =>
  Effect.gen(function*() {
    const wire = {
      info: {
        role: "assistant",
        id: answerId,
        sessionID: root,
        parentID: "msg_1",
        time: { created: 1, completed: 2 },
        finish: "stop",
        cost: 0,
        tokens: { input: 0, output: 0, reasoning: 0, cache: { read: 0, write: 0 } }
      },
      parts: []
    }
    const server = connect(() => json(wire))
    const layer = Client.layer({ baseUrl: origin }).pipe(
      Layer.provide(Layer.succeed(HttpClient.HttpClient, server.client))
    )
    yield* Effect.gen(function*() {
      const client = yield* Client.Client
      const message = yield* client.sendMessage(root, "go")
      assert.strictEqual(message.info.id, answerId)
      yield* client.sendMessage(root, { parts: [{ type: "text", text: "go" }], agent: "plan" })
      yield* client.prompt(root, "go")
    }).pipe(Effect.provide(layer))
    assert.deepStrictEqual(server.requests().map(({ body, path }) => [path, body]), [
      ["/session/ses_root/message", { parts: [{ type: "text", text: "go" }] }],
      ["/session/ses_root/message", { parts: [{ type: "text", text: "go" }], agent: "plan" }],
      ["/session/ses_root/prompt_async", { parts: [{ type: "text", text: "go" }] }]
    ])
  }))
