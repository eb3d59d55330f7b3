import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { AskId, SessionId } from "@opencode-turn/core/Ids"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import {
  answered,
  asked,
  assertCompleted,
  assertNeverGarbled,
  atEvent,
  atEveryEvent,
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

/** The tape at the speed of a real server, so that a lost stream is back in the middle of the turn. */
const slow: ReadonlyArray<Step> = tape.map((step) => ({
  ...step,
  ...("tool" in step && { args: { command: "echo one; sleep 0.2; echo two" } }),
  delayMillis: 150,
  chunks: 3,
  chunkDelayMillis: 80
}))
const bashAsks = [{ permission: "bash", pattern: "*", action: "ask" } as const]
const wait = Effect.provideService(HumanGate.HumanGate, HumanGate.wait)
const allow = Effect.provideService(HumanGate.HumanGate, HumanGate.allow)

// Cut

it.effect("completes with the server's text wherever the stream is cut", () =>
  Effect.gen(function*() {
    const count = yield* atEveryEvent((n) =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        const { count } = yield* atEvent(n, fake.cutEvents)
        const running = yield* start(slow)
        const end = yield* finish(running, 30)
        assertCompleted(end, { text: tapeText, modelCalls: 2 })
        assertNeverGarbled(running.updates, end.result)
        // Nobody reads the stream after the last events.
        if (n < count() - 5) assert.include(end.trace, "stream.interrupted")
        return { count: count() }
      }).pipe(Effect.provide(layer()))
    )
    assert.isAbove(count, 40)
  }))

it.effect("completes with the server's text however often the stream is cut", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start(slow)
    yield* Effect.forkChild(Effect.forever(Effect.delay(fake.cutEvents, "130 millis")))
    const end = yield* finish(running, 30)
    assertCompleted(end, { text: tapeText, modelCalls: 2 })
    assertNeverGarbled(running.updates, end.result)
  }).pipe(Effect.provide(layer())))

it.effect("survives a cut between the idle and the read of the exchange", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.fail({ path: "/session/status" }, Faults.holdAt("status"))
    const running = yield* start(tape)
    yield* fake.cutEvents
    yield* rest
    yield* fake.release("status")
    assertCompleted(yield* finish(running, 2), { text: tapeText, modelCalls: 2 })
  }).pipe(Effect.provide(layer())))

it.effect("finds an ask that was opened during a gap, shows it and gets it answered", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ tool: "bash", args: { command: "ls" }, delayMillis: 1000 }, { text: "done" }], {
      permission: bashAsks
    })
    yield* fake.fail({ path: "/event" }, Faults.delay("2 seconds"))
    yield* fake.cutEvents
    const end = yield* finish(running, 6)
    assertCompleted(end, { text: "done", modelCalls: 2 })
    assert.isAbove(asked(running.updates).length, 0)
    assert.strictEqual(end.requests.filter(({ path }) => path.endsWith("/reply")).length, 1)
  }).pipe(allow, Effect.provide(layer())))

it.effect("notices that another client answered an ask during a gap", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const interrupted: Array<string> = []
    const gate: HumanGate.Gate = (ask) =>
      Effect.onInterrupt(Effect.never, () => Effect.sync(() => void interrupted.push(ask.id)))
    const end = yield* Effect.gen(function*() {
      const running = yield* start([{ tool: "bash", args: { command: "ls" } }, { text: "words", delayMillis: 9000 }], {
        permission: bashAsks
      })
      const [ask] = yield* client.permissions
      assert(ask !== undefined)
      yield* fake.fail({ path: "/event" }, Faults.delay("2 seconds"))
      yield* fake.cutEvents
      yield* client.answerPermission(ask.id, { reply: "once" })
      yield* TestClock.adjust("3 seconds")
      yield* rest
      assert.deepStrictEqual(interrupted, [ask.id])
      const resolved = running.updates.findLast((update) => update._tag === "Reset" || update._tag === "AskResolved")
      assert.isTrue(resolved?._tag === "AskResolved" || (resolved !== undefined && resolved.asks.length === 0))
      return yield* finish(running, 10)
    }).pipe(Effect.provideService(HumanGate.HumanGate, gate))
    assertCompleted(end, { text: "words", modelCalls: 2 })
  }).pipe(Effect.provide(layer())))

it.effect("keeps an ask that is opened during the read of the open asks after a gap", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ tool: "bash", args: { command: "ls" }, delayMillis: 3000 }, { text: "done" }], {
      permission: bashAsks
    })
    // The list is read before the ask is opened, and arrives after it.
    yield* fake.fail({ path: "/permission" }, Faults.holdAnswerAt("list"))
    yield* fake.cutEvents
    yield* TestClock.adjust("4 seconds")
    yield* fake.release("list")
    yield* rest
    assertCompleted(yield* finish(running, 5), { text: "done", modelCalls: 2 })
  }).pipe(allow, Effect.provide(layer())))

it.effect("adopts a subagent that was opened during a gap, and answers its ask", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([
      {
        tool: "task",
        args: {
          description: "sub",
          prompt: FakeOpencode.prompt("look", [
            { tool: "read", args: { filePath: "/etc/hostname" }, delayMillis: 1000 },
            { text: "child done" }
          ]),
          subagent_type: "general"
        },
        delayMillis: 500
      },
      { text: "root done" }
    ])
    yield* fake.fail({ path: "/event" }, Faults.delay("3 seconds"))
    yield* fake.cutEvents
    const { result, ...end } = yield* finish(running, 10)
    assert.strictEqual(result.content, "root done")
    assert.strictEqual(result.subagents.length, 1)
    assert.strictEqual(end.modelCalls, 4)
    assert.strictEqual(end.posts.length, 1)
    assert.deepStrictEqual(asked(running.updates).map(({ sessionId }) => sessionId), [
      result.subagents[0]?.sessionId
    ])
  }).pipe(allow, Effect.provide(layer())))

it.effect("retries the reads after a gap until they succeed", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ tool: "bash", args: { command: "ls" }, delayMillis: 1000 }, { text: "done" }], {
      permission: bashAsks
    })
    yield* fake.fail({ path: "/event" }, Faults.delay("2 seconds"))
    yield* fake.fail({ path: "/permission" }, Faults.status(503), 12)
    yield* fake.cutEvents
    assertCompleted(yield* finish(running, 40), { text: "done", modelCalls: 2 })
  }).pipe(allow, Effect.provide(layer())))

it.effect("is not delayed by a subagent that the server cannot list", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const child = FakeOpencode.prompt("look", [{ text: "child done" }])
    const running = yield* start([
      { tool: "task", args: { description: "sub", prompt: child, subagent_type: "general" } },
      { text: "words", gate: "words" }
    ])
    yield* fake.reached("words")
    const [root = ""] = (yield* fake.requests).flatMap(({ path }) =>
      path.endsWith("/prompt_async") ? [path.split("/")[2]] : []
    )
    yield* fake.fail(
      ({ path }) => path.startsWith("/session/") && !path.startsWith(`/session/${root}`) && path !== "/session/status",
      Faults.status(500),
      Infinity
    )
    yield* fake.cutEvents
    yield* TestClock.adjust("1 seconds")
    yield* fake.release("words")
    const { result } = yield* finish(running, 30)
    assert.strictEqual(result.status, "completed", result.error?.message)
    assert.strictEqual(result.content, "words")
    assert.deepStrictEqual(result.subagents.map(({ text }) => text), ["child done"])
  }).pipe(Effect.provide(layer())))

it.effect("goes on when the server fails the reads after a gap", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ text: "words", gate: "words" }])
    yield* fake.fail({ path: /\/permission|\/question|\/children/ }, Faults.htmlPage, Infinity)
    yield* fake.cutEvents
    yield* TestClock.adjust("1 seconds")
    yield* fake.release("words")
    assertCompleted(yield* finish(running, 3), { text: "words", modelCalls: 1 })
  }).pipe(Effect.provide(layer())))

// Silence

it.effect("reopens the stream after half a minute without any sign of life, and completes", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ text: "words", gate: "words" }])
    yield* fake.muteEvents
    yield* fake.release("words")
    yield* TestClock.adjust("29 seconds")
    assert.isFalse(running.isDone())
    yield* fake.unmuteEvents
    const end = yield* finish(running, 3)
    assertCompleted(end, { text: "words", modelCalls: 1 })
    assert.include(end.trace, "stream.interrupted")
  }).pipe(Effect.provide(layer())))

// Doubled and lost events

it.effect("completes in the same way when every event comes twice", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.duplicateEvents(() => true)
    const running = yield* start(slow)
    const end = yield* finish(running, 10)
    assertCompleted(end, { text: tapeText, modelCalls: 2 })
    assertNeverGarbled(running.updates, end.result)
  }).pipe(Effect.provide(layer())))

it.effect(
  "completes with the server's text whichever single event is lost, within seconds",
  () =>
    atEveryEvent((n) =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        let count = 0
        yield* fake.dropEvents(() => ++count === n)
        const running = yield* start(slow)
        const end = yield* finish(running, 12)
        assertCompleted(end, { text: tapeText, modelCalls: 2 })
        return { count }
      }).pipe(Effect.provide(layer()))
    )
)

it.effect.each([
  "session.updated",
  "message.updated",
  "message.part.updated",
  "message.part.delta",
  "session.status",
  "session.idle",
  "session.diff"
])("completes with the server's text within seconds when every %s is lost", (type) =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.dropEvents((event) => event.type === type)
    const running = yield* start(slow)
    assertCompleted(yield* finish(running, 12), { text: tapeText, modelCalls: 2 })
  }).pipe(Effect.provide(layer())))

it.effect("asks the server half a second after the last message's end if no idle follows", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.dropEvents(({ type }) => type === "session.status" || type === "session.idle")
    const running = yield* start(tape)
    yield* TestClock.adjust("499 millis")
    yield* rest
    assert.isFalse(running.isDone())
    yield* TestClock.adjust("1 millis")
    const end = yield* finish(running)
    assertCompleted(end, { text: tapeText, modelCalls: 2 })
    assert.notInclude(end.trace, "response.waiting_for_final_text")
  }).pipe(Effect.provide(layer())))

it.effect("goes on when the event of an answered ask is lost", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.dropEvents(({ type }) => type === "permission.replied")
    const running = yield* start([{ tool: "bash", args: { command: "ls" } }, { text: "done" }], {
      permission: bashAsks
    })
    const [ask] = yield* client.permissions
    yield* client.answerPermission(ask?.id ?? AskId.make(""), { reply: "once" })
    assertCompleted(yield* finish(running, 3), { text: "done", modelCalls: 2 })
  }).pipe(wait, Effect.provide(layer())))

// Killed and restarted

it.effect(
  "reposts the same ids wherever the server is killed and restarted at once",
  () =>
    Effect.gen(function*() {
      const count = yield* atEveryEvent((n) =>
        Effect.gen(function*() {
          const fake = yield* FakeOpencode.FakeOpencode
          const { count } = yield* atEvent(n, fake.restart)
          const running = yield* start(slow)
          const { result, ...end } = yield* finish(running, 40)
          assert.strictEqual(result.status, "completed", result.error?.message)
          assert.strictEqual(result.content, end.serverText)
          assert.isTrue(result.content.endsWith("whole answer."))
          assert.strictEqual(end.userMessages, 1)
          assert.isAtMost(end.modelCalls, 3)
          assert.isAtMost(end.posts.length, 2)
          assert.strictEqual(new Set(end.posts.map(({ body }) => JSON.stringify(body))).size, 1)
          assert.strictEqual(end.connections, 0)
          return { count: count() }
        }).pipe(Effect.provide(layer()))
      )
      assert.isAbove(count, 40)
    })
)

it.effect(
  "reposts wherever the server is killed and returns only after twenty seconds",
  () =>
    atEveryEvent((n) =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode.FakeOpencode
        const { count } = yield* atEvent(
          n,
          fake.kill.pipe(Effect.andThen(Effect.sleep("20 seconds")), Effect.andThen(fake.start))
        )
        const running = yield* start(slow)
        const { result, ...end } = yield* finish(running, 90)
        assert.strictEqual(result.status, "completed", result.error?.message)
        assert.strictEqual(result.content, end.serverText)
        assert.strictEqual(end.userMessages, 1)
        assert.isAtMost(end.modelCalls, 3)
        return { count: count() }
      }).pipe(Effect.provide(layer()))
    )
)

it.effect("notices after the server's return that the prompt never arrived, and posts it", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.fail(isPost, Faults.holdAt("never"))
    const running = yield* start(tape)
    yield* fake.kill
    yield* TestClock.adjust("30 seconds")
    yield* fake.start
    assertCompleted(yield* finish(running, 20), { text: tapeText, modelCalls: 2, posts: 2 })
  }).pipe(Effect.provide(layer())))

it.effect("reposts a prompt that the server had accepted and not begun when it died", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ text: "lost", ending: "hang" }, { text: "from the start" }])
    let posts = 0
    yield* fake.fail(isPost, (serve) => Effect.andThen(Effect.sync(() => void posts++), serve), Infinity)
    yield* fake.fail(
      { method: "GET", path: /\/message$/ },
      rewritten((body) => posts > 0 || !Array.isArray(body) ? body : body.filter(({ info }) => info.role === "user")),
      Infinity
    )
    yield* fake.restart
    const { result, ...end } = yield* finish(running, 10)
    assert.strictEqual(result.status, "completed", result.error?.message)
    assert.isTrue(result.content.endsWith("from the start"), result.content)
    assert.strictEqual(end.posts.length, 2)
    assert.strictEqual(end.userMessages, 1)
  }).pipe(Effect.provide(layer())))

it.effect("reposts a prompt that the server accepted and lost", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.fail(isPost, answered(204, ""))
    const running = yield* start(tape)
    const [sessionID = ""] = yield* fake.sessions
    for (const type of ["busy", "idle"]) {
      yield* fake.emit({ type: "session.status", properties: { sessionID, status: { type } } })
    }
    assertCompleted(yield* finish(running, 5), { text: tapeText, modelCalls: 2, posts: 2 })
  }).pipe(Effect.provide(layer())))

it.effect("is not ended by the retry of another session that is found after a gap", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ text: "words", gate: "words" }])
    const retry = { type: "retry", attempt: 1, message: "slow down", next: 7_200_000 }
    yield* fake.fail(
      { path: "/session/status" },
      rewritten((body) => Object.assign({ ses_other: retry }, body)),
      Infinity
    )
    yield* fake.cutEvents
    yield* TestClock.adjust("5 seconds")
    yield* rest
    assert.isFalse(running.isDone())
    yield* fake.release("words")
    assertCompleted(yield* finish(running, 5), { text: "words", modelCalls: 1 })
  }).pipe(Effect.provide(layer())))

it.effect("drops an ask that died with the server, and reposts", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ tool: "bash", args: { command: "ls" } }, { text: "without it" }], {
      permission: bashAsks
    })
    assert.strictEqual(asked(running.updates).length, 1)
    yield* fake.restart
    const { result, ...end } = yield* finish(running, 10)
    assert.strictEqual(result.status, "completed")
    assert.strictEqual(end.userMessages, 1)
    assert.strictEqual(end.posts.length, 2)
  }).pipe(wait, Effect.provide(layer())))

it.effect("reposts only after the stream is back", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ text: "words", gate: "words" }])
    const [sessionID = ""] = yield* fake.sessions
    // The server has forgotten its work on the turn.
    yield* fake.fail({ path: "/session/status" }, answered(200, "{}"), Infinity)
    yield* fake.emit({ type: "session.idle", properties: { sessionID } })
    yield* fake.fail({ path: "/event" }, Faults.reset, 6)
    yield* fake.cutEvents
    const posts = Effect.map(fake.requests, (all) => all.filter(isPost).length)
    const connections = Effect.map(fake.requests, (all) => all.filter(({ path }) => path === "/event").length)
    while ((yield* connections) < 8) {
      assert.strictEqual(yield* posts, 1)
      yield* TestClock.adjust("500 millis")
    }
    yield* TestClock.adjust("500 millis")
    assert.strictEqual(yield* posts, 2)
    yield* fake.clearFaults
    yield* fake.release("words")
    assertCompleted(yield* finish(running, 5), { text: "words", modelCalls: 1, posts: 2 })
  }).pipe(Effect.provide(layer())))

it.effect("gives up after the allowed reposts", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ text: "words", ending: "hang", times: 9 }])
    for (let kills = 0; kills < 3; kills++) {
      yield* fake.restart
      yield* TestClock.adjust("5 seconds")
      yield* rest
    }
    const { result, ...end } = yield* finish(running, 10)
    assert.deepInclude(result.error, { _tag: "TurnUnfinished", isSuperseded: false })
    assert.strictEqual(end.modelCalls, 3)
    assert.strictEqual(end.userMessages, 1)
  }).pipe(Effect.provideService(TurnPolicy.MaxReposts, 2), Effect.provide(layer())))

it.effect("doubles the wait after each repost", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ text: "words", ending: "hang" }])
    const [sessionID = ""] = yield* fake.sessions
    // The server has forgotten the turn, and accepts the prompt without beginning it.
    yield* fake.fail({ path: "/session/status" }, answered(200, "{}"), Infinity)
    const posted: Array<number> = []
    yield* fake.fail(
      isPost,
      (...args) =>
        Effect.andThen(
          Effect.map(Clock.currentTimeMillis, (millis) => void posted.push(millis)),
          answered(204, "")(...args)
        ),
      Infinity
    )
    yield* fake.emit({ type: "session.idle", properties: { sessionID } })
    yield* rest
    while (!running.isDone()) {
      yield* TestClock.adjust("50 millis")
      yield* rest
    }
    // Each repost needs a session that is idle at two reads, a quarter of a second apart.
    assert.deepStrictEqual(posted, [250, 2500, 6750])
    const { result, ...end } = yield* finish(running)
    assert.deepInclude(result.error, { _tag: "TurnUnfinished", isSuperseded: false })
    assert.strictEqual(end.nowMillis, 15_000)
  }).pipe(Effect.provideService(TurnPolicy.FinalExchangePoll, Duration.seconds(1)), Effect.provide(layer())))

it.effect("does not repost a prompt that a later one has followed", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ text: "words", ending: "hang" }])
    const { sessionId } = yield* Effect.map(fake.requests, (all) => {
      const sessionId = all.find(isPost)?.path.split("/")[2] ?? ""
      return { sessionId }
    })
    yield* fake.script([{ text: "theirs", ending: "hang" }])
    yield* client.prompt(SessionId.make(sessionId), "another prompt")
    yield* fake.restart
    const { result, ...end } = yield* finish(running, 10)
    assert.deepInclude(result.error, { _tag: "TurnUnfinished", isSuperseded: true })
    assert.include(result.error?.message, "another prompt took over")
    assert.strictEqual(end.posts.length, 2)
    assert.strictEqual(end.modelCalls, 1)
  }).pipe(Effect.provide(layer())))

it.effect("does not repost a prompt that failed just before the server died", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ fail: 400 }])
    yield* fake.restart
    const { result, ...end } = yield* finish(running, 10)
    assert.strictEqual(result.error?._tag, "Upstream")
    assert.strictEqual(end.posts.length, 1)
    assert.strictEqual(end.modelCalls, 1)
  }).pipe(Effect.provide(layer({ raceDelay: "10 seconds" }))))

it.effect("ends by its deadline when the server does not come back", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start([{ text: "words", ending: "hang" }])
    yield* fake.kill
    const { result, ...end } = yield* finish(running, 80)
    assert.strictEqual(result.error?._tag, "BudgetExceeded")
    assert.strictEqual(result.content, "words")
    assert.strictEqual(end.posts.length, 1)
  }).pipe(Effect.provideService(TurnPolicy.Budget, { wallClock: Duration.seconds(60) }), Effect.provide(layer())))

it.effect("posts once in a later turn of a session", () =>
  Effect.gen(function*() {
    yield* run(tape)
    const fake = yield* FakeOpencode.FakeOpencode
    const running = yield* start(slow)
    yield* fake.restart
    const { result, ...end } = yield* finish(running, 20)
    assert.strictEqual(result.status, "completed")
    assert.strictEqual(end.userMessages, 2)
    assert.isTrue(end.serverText.endsWith(result.content))
  }).pipe(Effect.provide(layer())))
