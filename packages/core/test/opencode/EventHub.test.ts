import { assert, it } from "@effect/vitest"
import type { EventsError } from "@opencode-turn/core/ClientError"
import { StatusError, StreamLost, TransportError, Unauthorized } from "@opencode-turn/core/ClientError"
import * as EventHub from "@opencode-turn/core/EventHub"
import type { SessionId } from "@opencode-turn/core/Ids"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { connected, heartbeat, scripted } from "../support/connections.ts"
import * as Make from "../support/make.ts"

const { child, grandchild, root, stranger } = Make
const origin = "http://127.0.0.1:4096"
const refused = new TransportError({ operation: "open event stream", origin, reason: "ECONNREFUSED" })
const unauthorized = new Unauthorized({ origin, status: 401 })

/** A subscriber that records its notifications. */
const recorder = (overrides: Partial<EventHub.Subscriber> = {}) => {
  const heard: Array<string> = []
  const note = (word: string) => () => {
    heard.push(word)
  }
  const subscriber: EventHub.Subscriber = {
    onEvent: (event) => {
      heard.push(event._tag === "PartDelta" ? event.delta : event._tag)
    },
    onFlush: note("flush"),
    onHeartbeat: note("heartbeat"),
    onLost: (error: EventsError) => {
      heard.push(`lost ${error._tag}`)
    },
    onGap: note("gap"),
    onClosed: (error: EventsError) => {
      heard.push(`closed ${error._tag}`)
    },
    ...overrides
  }
  return { subscriber, heard, clear: () => heard.splice(0) }
}

/** A hub over a scripted server, and a way to subscribe with a separate scope. */
const start = Effect.gen(function*() {
  const server = yield* scripted
  const hub = yield* EventHub.make({ origin, events: server.events })
  const subscribe = (sessionId: SessionId, subscriber: EventHub.Subscriber) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const fiber = yield* Effect.forkChild(Scope.provide(hub.subscribe(sessionId, subscriber), scope))
      yield* server.settle
      return { fiber, leave: Effect.andThen(Scope.close(scope, Exit.void), server.settle) }
    })
  return { ...server, hub, subscribe }
})

/** A hub with one live subscriber to `root`. */
const live = Effect.gen(function*() {
  const hub = yield* start
  const first = recorder()
  const { fiber, leave } = yield* hub.subscribe(root, first.subscriber)
  yield* hub.send([connected])
  const subscription = yield* Fiber.join(fiber)
  return { ...hub, first, leave, subscription }
})

const delta = (text: string, sessionId = root) => Make.delta("a", text, { sessionId })

it.effect("one connection serves all subscribers: opened by the first, closed 2 s after the last", () =>
  Effect.gen(function*() {
    const { connections, leave, open, subscribe } = yield* live
    assert.strictEqual(connections(), 1)
    const second = yield* subscribe(stranger, recorder().subscriber)
    yield* Fiber.join(second.fiber)
    assert.strictEqual(connections(), 1)
    yield* leave
    assert.strictEqual(open(), 1)
    yield* second.leave
    yield* TestClock.adjust("1999 millis")
    assert.strictEqual(open(), 1)
    yield* TestClock.adjust("1 millis")
    assert.strictEqual(open(), 0)
    const third = yield* subscribe(root, recorder().subscriber)
    assert.strictEqual(connections(), 2)
    yield* third.leave
  }))

it.effect("a subscriber within that time is live at once, and gets no earlier event", () =>
  Effect.gen(function*() {
    const { connections, first, leave, send, subscribe } = yield* live
    yield* leave
    yield* send([delta("meanwhile")])
    yield* TestClock.adjust("1 second")
    const next = recorder()
    const { fiber } = yield* subscribe(root, next.subscriber)
    yield* Fiber.join(fiber)
    yield* TestClock.adjust("20 seconds")
    assert.strictEqual(connections(), 1)
    yield* send([delta("after")])
    assert.deepStrictEqual(next.heard, ["after", "flush"])
    assert.deepStrictEqual(first.heard, [])
  }))

it.effect("a new subscriber does not wait for a connection that was lost while nobody listened", () =>
  Effect.gen(function*() {
    const { connections, end, leave, open, send, subscribe } = yield* live
    yield* leave
    yield* end
    const { fiber } = yield* subscribe(root, recorder().subscriber)
    assert.strictEqual(connections(), 2)
    yield* send([connected])
    yield* Fiber.join(fiber)
    assert.strictEqual(open(), 1)
  }))

it.effect("a new subscriber does not get the refusal of a connection while nobody listened", () =>
  Effect.gen(function*() {
    const { connections, end, leave, refuse, send, subscribe } = yield* live
    yield* leave
    refuse(unauthorized)
    yield* end
    yield* TestClock.adjust("120 millis")
    assert.strictEqual(connections(), 2)
    refuse(undefined)
    const { fiber } = yield* subscribe(root, recorder().subscriber)
    yield* send([connected])
    yield* Fiber.join(fiber)
  }))

it.effect("the end of the hub's scope closes an idle connection at once", () =>
  Effect.gen(function*() {
    const server = yield* scripted
    const scope = yield* Scope.make()
    const hub = yield* Scope.provide(EventHub.make({ origin, events: server.events }), scope)
    const fiber = yield* Effect.forkChild(Effect.scoped(hub.subscribe(root, recorder().subscriber)))
    yield* server.settle
    yield* server.send([connected])
    yield* Fiber.join(fiber)
    assert.strictEqual(server.open(), 1)
    yield* Scope.close(scope, Exit.void)
    assert.strictEqual(server.open(), 0)
  }))

it.effect("nothing is opened before somebody subscribes", () =>
  Effect.gen(function*() {
    const { connections, settle } = yield* start
    yield* settle
    assert.strictEqual(connections(), 0)
  }))

it.effect("a subscription succeeds after the server's `connected`, and not before", () =>
  Effect.gen(function*() {
    const { send, subscribe } = yield* start
    const { fiber } = yield* subscribe(root, recorder().subscriber)
    yield* send([heartbeat], [delta("early")])
    assert.isUndefined(fiber.pollUnsafe())
    yield* send([connected])
    assert.isDefined(fiber.pollUnsafe())
    yield* (yield* Fiber.join(fiber)).connected
  }))

it.effect("events reach the subscribers of their session, in order, with one flush for all waiting reads", () =>
  Effect.gen(function*() {
    const { first, send, subscribe } = yield* live
    const same = recorder()
    const other = recorder()
    yield* subscribe(root, same.subscriber)
    yield* subscribe(stranger, other.subscriber)
    yield* send([delta("a"), delta("x", stranger), delta("b")], [delta("c")], [Make.idle(child)])
    assert.deepStrictEqual(first.heard, ["a", "b", "c", "flush"])
    assert.deepStrictEqual(same.heard, first.heard)
    assert.deepStrictEqual(other.heard, ["x", "flush"])
    yield* send([delta("d")])
    assert.deepStrictEqual(first.heard.slice(4), ["d", "flush"])
  }))

it.effect("reads before the end of a connection are flushed before the loss is announced", () =>
  Effect.gen(function*() {
    const { first, sendLast } = yield* live
    yield* sendLast([delta("a")])
    assert.deepStrictEqual(first.heard, ["a", "flush", "lost StreamLost"])
  }))

it.effect("subagents at any depth are adopted, until the last subscriber leaves", () =>
  Effect.gen(function*() {
    const { first, leave, send, subscribe, subscription } = yield* live
    yield* send(
      [delta("not yet", child)],
      [Make.opened(child, root), delta("child", child)],
      [Make.opened(grandchild, child), delta("grandchild", grandchild)],
      [Make.opened(stranger), delta("stranger", stranger)]
    )
    assert.deepStrictEqual(first.clear(), [
      "SessionOpened",
      "child",
      "SessionOpened",
      "grandchild",
      "flush"
    ])
    subscription.adopt(stranger)
    yield* send([delta("adopted", stranger)])
    assert.deepStrictEqual(first.clear(), ["adopted", "flush"])
    const other = recorder()
    yield* subscribe(child, other.subscriber)
    yield* leave
    yield* send([delta("root"), delta("child", child), delta("grandchild", grandchild)])
    assert.deepStrictEqual(first.heard, [])
    assert.deepStrictEqual(other.heard, ["child", "flush"])
  }))

it.effect("a session of an earlier turn is adopted when a tool continues it", () =>
  Effect.gen(function*() {
    const { first, send } = yield* live
    const task = Make.tool("prt_task", { status: "running", subagent: child })
    yield* send([delta("not yet", child)], [Make.part(task)], [delta("child", child)])
    assert.deepStrictEqual(first.heard, ["PartUpdated", "child", "flush"])
  }))

it.effect("heartbeats reach every subscriber", () =>
  Effect.gen(function*() {
    const { first, send } = yield* live
    yield* send([heartbeat])
    assert.deepStrictEqual(first.heard, ["heartbeat"])
  }))

it.effect("only live subscribers learn of a lost connection, and get a gap when it is back", () =>
  Effect.gen(function*() {
    const { connections, end, first, send, subscribe } = yield* live
    yield* end
    assert.deepStrictEqual(first.clear(), ["lost StreamLost"])
    const late = recorder()
    const { fiber } = yield* subscribe(root, late.subscriber)
    yield* TestClock.adjust("120 millis")
    assert.strictEqual(connections(), 2)
    assert.deepStrictEqual(first.heard, [])
    yield* send([connected, delta("after")])
    assert.deepStrictEqual(first.clear(), ["gap", "after", "flush"])
    assert.deepStrictEqual(late.heard, ["after", "flush"])
    yield* Fiber.join(fiber)
    yield* end
    assert.deepStrictEqual(first.heard, ["lost StreamLost"])
    assert.deepStrictEqual(late.heard.slice(2), ["lost StreamLost"])
  }))

it.effect("`connected` of a subscription waits while the connection is lost", () =>
  Effect.gen(function*() {
    const { end, send, settle, subscription } = yield* live
    yield* end
    const waiting = yield* Effect.forkChild(subscription.connected)
    yield* settle
    assert.isUndefined(waiting.pollUnsafe())
    yield* TestClock.adjust("120 millis")
    yield* send([connected])
    yield* Fiber.join(waiting)
  }))

it.effect("silence without even a heartbeat for 30 s is a loss, heartbeats are not", () =>
  Effect.gen(function*() {
    const { connections, first, send } = yield* live
    for (let beat = 0; beat < 12; beat++) {
      yield* TestClock.adjust("10 seconds")
      yield* send([heartbeat])
    }
    assert.strictEqual(connections(), 1)
    first.clear()
    yield* TestClock.adjust("29999 millis")
    assert.deepStrictEqual(first.heard, [])
    yield* TestClock.adjust("1 millis")
    assert.deepStrictEqual(first.heard, ["lost StreamLost"])
    yield* TestClock.adjust("120 millis")
    assert.strictEqual(connections(), 2)
  }))

it.effect("a connection that opens and sends nothing is given up like a silent one", () =>
  Effect.gen(function*() {
    const { connections, subscribe } = yield* start
    yield* subscribe(root, recorder().subscriber)
    yield* TestClock.adjust("29 seconds")
    assert.strictEqual(connections(), 1)
    yield* TestClock.adjust("2 seconds")
    assert.strictEqual(connections(), 2)
  }).pipe(Effect.provideService(TurnPolicy.ConnectTimeout, Duration.minutes(1))))

it.effect("attempts follow a backoff from 100 ms, doubling to 5 s", () =>
  Effect.gen(function*() {
    const { end, openedMillis, refuse } = yield* live
    refuse(refused)
    yield* end
    yield* TestClock.adjust("1 minute")
    const opened = openedMillis()
    const delays = opened.slice(1).map((at, index) => at - (opened[index] ?? 0))
    const nominal = [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]
    for (const [index, delay] of nominal.entries()) {
      assert.isAtLeast(delays[index] ?? 0, delay * 0.8 - 1, `delay ${index}`)
      assert.isAtMost(delays[index] ?? Infinity, delay * 1.2 + 1, `delay ${index}`)
    }
  }))

it.effect("the backoff starts again only after a steady connection", () =>
  Effect.gen(function*() {
    const { connections, end, refuse, send } = yield* live
    const reconnect = Effect.gen(function*() {
      const before = connections()
      const from = yield* Clock.currentTimeMillis
      while (connections() === before) yield* TestClock.adjust("10 millis")
      return (yield* Clock.currentTimeMillis) - from
    })
    refuse(refused)
    yield* end
    yield* TestClock.adjust("20 seconds")
    refuse(undefined)
    yield* reconnect
    yield* send([connected])
    yield* TestClock.adjust("1 second")
    yield* end
    assert.isAbove(yield* reconnect, 3000)
    yield* send([connected])
    yield* TestClock.adjust("6 seconds")
    yield* end
    assert.isBelow(yield* reconnect, 150)
  }))

it.effect("a refused password fails the subscription at once and closes the others; later ones fail too", () =>
  Effect.gen(function*() {
    const { connections, end, first, refuse, subscribe } = yield* live
    refuse(unauthorized)
    yield* end
    const second = recorder()
    const { fiber } = yield* subscribe(stranger, second.subscriber)
    yield* TestClock.adjust("120 millis")
    assert.strictEqual(yield* Effect.flip(Fiber.join(fiber)), unauthorized)
    assert.deepStrictEqual(first.heard, ["lost StreamLost", "closed Unauthorized"])
    assert.deepStrictEqual(second.heard, [])
    const third = yield* subscribe(root, recorder().subscriber)
    assert.strictEqual(yield* Effect.flip(Fiber.join(third.fiber)), unauthorized)
    assert.strictEqual(connections(), 2)
  }))

it.effect("a subscriber opens a new connection after everybody left a closed one", () =>
  Effect.gen(function*() {
    const { connections, end, leave, refuse, send, subscribe } = yield* live
    refuse(unauthorized)
    yield* end
    yield* TestClock.adjust("120 millis")
    yield* leave
    refuse(undefined)
    const { fiber } = yield* subscribe(root, recorder().subscriber)
    assert.strictEqual(connections(), 3)
    yield* send([connected])
    yield* Fiber.join(fiber)
  }))

it.effect("a subscription that does not become live in time fails with the last error", () =>
  Effect.gen(function*() {
    const { refuse, subscribe } = yield* start
    refuse(refused)
    const { fiber } = yield* subscribe(root, recorder().subscriber)
    yield* TestClock.adjust("15 seconds")
    assert.strictEqual(yield* Effect.flip(Fiber.join(fiber)), refused)
  }))

it.effect("a subscription that fails without an error says how long it waited", () =>
  Effect.gen(function*() {
    const { subscribe } = yield* start
    const { fiber } = yield* subscribe(root, recorder().subscriber)
    yield* TestClock.adjust("15 seconds")
    assert.deepInclude(yield* Effect.flip(Fiber.join(fiber)), {
      _tag: "StreamLost",
      reason: "it did not open within 15000 ms"
    })
  }))

it.effect("a failed subscriber leaves at once, whatever the caller's scope does", () =>
  Effect.gen(function*() {
    const { hub, open, refuse, send, settle } = yield* start
    const first = recorder()
    const attempt = yield* Effect.forkChild(Effect.exit(hub.subscribe(root, first.subscriber)))
    yield* TestClock.adjust("15 seconds")
    assert.isTrue(Exit.isFailure(yield* Fiber.join(attempt)))
    assert.strictEqual(open(), 0)
    refuse(undefined)
    const second = yield* Effect.forkChild(hub.subscribe(root, recorder().subscriber))
    yield* settle
    yield* send([connected, delta("after")])
    yield* Fiber.join(second)
    assert.deepStrictEqual(first.heard, [])
  }))

it.effect("an error that no retry mends closes the stream: a missing route", () =>
  Effect.gen(function*() {
    const { connections, refuse, subscribe } = yield* start
    refuse(new StatusError({ operation: "open event stream", status: 404, name: "error", detail: "" }))
    const { fiber } = yield* subscribe(root, recorder().subscriber)
    assert.deepInclude(yield* Effect.flip(Fiber.join(fiber)), { _tag: "StatusError", status: 404 })
    assert.strictEqual(connections(), 1)
  }))

const boom = () => {
  throw new Error("boom")
}

const throwing: ReadonlyArray<readonly [keyof EventHub.Subscriber, ReadonlyArray<string>]> = [
  ["onEvent", ["closed StreamLost"]],
  ["onFlush", ["x", "closed StreamLost"]],
  ["onHeartbeat", ["x", "flush", "closed StreamLost"]],
  ["onLost", ["x", "flush", "heartbeat", "closed StreamLost"]],
  ["onGap", ["x", "flush", "heartbeat", "lost StreamLost", "closed StreamLost"]]
]

it.effect.each(throwing)(
  "only the subscriber that throws is removed, and it is reported: %s",
  ([callback, heard]) =>
    Effect.gen(function*() {
      const reported: Array<unknown> = []
      const reporter = ErrorReporter.make(({ attributes, severity }) => {
        reported.push({ ...attributes, severity })
      })
      yield* Effect.gen(function*() {
        const { connections, end, first, open, send, subscribe } = yield* live
        const bad = recorder({ [callback]: boom })
        const last = recorder()
        yield* Fiber.join((yield* subscribe(stranger, bad.subscriber)).fiber)
        yield* Fiber.join((yield* subscribe(stranger, last.subscriber)).fiber)
        yield* send([delta("x", stranger)])
        yield* send([heartbeat])
        yield* end
        yield* TestClock.adjust("10 seconds")
        yield* send([connected])
        yield* send([delta("y", stranger), delta("z")])
        assert.deepStrictEqual(first.heard.slice(-3), ["gap", "z", "flush"])
        assert.deepStrictEqual(last.heard.slice(-3), ["gap", "y", "flush"])
        assert.deepStrictEqual(bad.heard.filter((word, index) => bad.heard.indexOf(word) === index), heard)
        assert.strictEqual(connections(), 2)
        assert.strictEqual(open(), 1)
        assert.deepStrictEqual(reported, [{
          feature: "subscriber",
          handled: true,
          session: stranger,
          severity: "Warn"
        }])
      }).pipe(Effect.provide(ErrorReporter.layer([reporter])))
    })
)

it.effect("a subscriber that throws at its removal harms no other", () =>
  Effect.gen(function*() {
    const { fail, first, open, send, subscribe } = yield* live
    const last = recorder()
    for (const subscriber of [recorder({ onEvent: boom, onClosed: boom }), recorder({ onClosed: boom }), last]) {
      yield* Fiber.join((yield* subscribe(stranger, subscriber.subscriber)).fiber)
    }
    yield* send([delta("x", stranger)])
    assert.deepStrictEqual(last.heard, ["x", "flush"])
    yield* fail(unauthorized)
    assert.deepStrictEqual(first.heard, ["closed Unauthorized"])
    assert.deepStrictEqual(last.heard, ["x", "flush", "closed Unauthorized"])
    assert.strictEqual(open(), 0)
  }))

it.effect("a stream with a too large event is reopened", () =>
  Effect.gen(function*() {
    const { connections, fail, first } = yield* live
    yield* fail(new StreamLost({ origin, reason: "an event was larger than can be read" }))
    assert.deepStrictEqual(first.heard, ["lost StreamLost"])
    yield* TestClock.adjust("120 millis")
    assert.strictEqual(connections(), 2)
  }))

const unread = (sessionId?: SessionId) => ({ _tag: "Unread", sessionId }) as const

it.effect("an unreadable event is a gap for the subscribers of its session", () =>
  Effect.gen(function*() {
    const { first, send, subscribe } = yield* live
    const second = recorder()
    yield* subscribe(stranger, second.subscriber)
    yield* send([unread(root)])
    assert.deepStrictEqual([first.heard, second.heard], [["gap"], []])
  }))

it.effect("an unreadable event of a session without subscribers is a gap for everybody", () =>
  Effect.gen(function*() {
    const { first, send, subscribe } = yield* live
    const second = recorder()
    yield* subscribe(stranger, second.subscriber)
    yield* send([unread(child)])
    assert.deepStrictEqual([first.heard, second.heard], [["gap"], ["gap"]])
  }))

it.effect("in a flood of unreadable events, the first makes a gap at once and the others make one a second", () =>
  Effect.gen(function*() {
    const { first, send } = yield* live
    yield* send(Array.from({ length: 100 }, () => unread()))
    assert.deepStrictEqual(first.heard, ["gap"])
    yield* TestClock.adjust("999 millis")
    assert.deepStrictEqual(first.heard, ["gap"])
    yield* TestClock.adjust("1 millis")
    assert.deepStrictEqual(first.heard, ["gap", "gap"])
    yield* TestClock.adjust("20 seconds")
    assert.deepStrictEqual(first.heard, ["gap", "gap"])
    yield* send([unread()])
    assert.deepStrictEqual(first.heard, ["gap", "gap", "gap"])
  }))
