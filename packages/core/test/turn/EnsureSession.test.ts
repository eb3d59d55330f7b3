import { ensureSession, recreateSession } from "#turn/EnsureSession"
import { assert, describe } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import * as Turns from "../support/turns.ts"

const { conversationId, names, payloads, row, test, turn } = Turns

const ensure = ensureSession(conversationId, { title: "A talk" })
const stored = Effect.flatMap(
  SessionStore,
  (store) => Effect.map(store.getSession(conversationId), Option.getOrUndefined)
)

/** Starts the effect, advances the clock until it ends, and returns its exit. */
const exitOf = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>, seconds = 10) {
  const fiber = yield* Effect.forkChild(effect)
  for (let second = 0; second < seconds && fiber.pollUnsafe() === undefined; second++) {
    yield* Turns.rest
    yield* TestClock.adjust("1 seconds")
  }
  return yield* Fiber.await(fiber)
})

describe("ensureSession", () => {
  test("makes a session once, stores it, and finds it again", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* ensure
      assert.isTrue(first.isNew)
      assert.deepStrictEqual(yield* ensure, { sessionId: first.sessionId, isNew: false })
      assert.deepStrictEqual(yield* fake.sessions, [first.sessionId])
      assert.strictEqual(yield* stored, first.sessionId)
      assert.deepStrictEqual(yield* payloads("session.created"), [
        { session_id: first.sessionId, subject_id: conversationId }
      ])
      assert.deepStrictEqual((yield* Turns.requests("POST", /^\/session$/))[0]?.body, { title: "A talk" })
    }))

  test("of many concurrent turns keeps one session, and deletes the others", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: "/session" }, Faults.holdAnswerAt("race"), 20)
      const fiber = yield* Effect.forkChild(Effect.all(Array.from({ length: 20 }, () => ensure), {
        concurrency: "unbounded"
      }))
      yield* Turns.rest
      assert.lengthOf(yield* fake.sessions, 20)
      yield* fake.release("race")
      const all = yield* Fiber.join(fiber)
      assert.deepStrictEqual(yield* fake.sessions, [(yield* stored) ?? ""])
      for (const ensured of all) assert.strictEqual(ensured.sessionId, yield* stored)
      assert.lengthOf(all.filter((ensured) => ensured.isNew), 1)
      assert.lengthOf(yield* payloads("session.created"), 1)
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test("of many concurrent first turns lets one run, and rejects the others", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const results = yield* Effect.all(
        Array.from({ length: 20 }, (_, index) => runTurn(turn([{ text: "Hi." }], { messageId: `message-${index}` }))),
        { concurrency: "unbounded" }
      ).pipe(Effect.provideService(TurnPolicy.WhenBusy, "reject"))
      assert.lengthOf(results.filter((result) => result.status === "completed"), 1)
      assert.lengthOf(results.filter((result) => result.error?._tag === "TurnInProgress"), 19)
      assert.lengthOf(yield* fake.sessions, 1)
      assert.lengthOf(yield* payloads("session.created"), 1)
    }))

  test("fails if the server refuses, and stores nothing", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: "/session" }, Faults.status(400))
      const error = yield* Effect.flip(ensure)
      assert.strictEqual(error._tag, "StatusError")
      assert.isUndefined(yield* stored)
      assert.deepStrictEqual(yield* names, [])
    }))

  test("retries a momentary failure of the server", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: "/session" }, Faults.status(503), 2)
      const exit = yield* exitOf(ensure)
      assert(Exit.isSuccess(exit))
      assert.isTrue(exit.value.isNew)
      assert.deepStrictEqual(yield* fake.sessions, [exit.value.sessionId])
    }))

  test("is a failed turn with a stored row if the server stays down", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: "/session" }, Faults.status(503), 20)
      const exit = yield* exitOf(runTurn(turn([{ text: "Hi." }])))
      assert(Exit.isSuccess(exit))
      assert.deepStrictEqual([exit.value.status, exit.value.error?._tag], ["failed", "StatusError"])
      assert.isUndefined(exit.value.sessionId)
      assert.deepInclude(yield* row, { status: "error" })
      assert.deepStrictEqual(yield* names, ["response.started", "turn.finished"])
      assert.deepInclude((yield* payloads("turn.finished"))[0], { error: "StatusError" })
    }))

  test("deletes its session if the store cannot keep it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const exit = yield* exitOf(ensure)
      assert(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* fake.sessions, [])
      assert.isUndefined(yield* stored)
    }), { store: () => ({ setSession: () => Effect.fail(Turns.unavailable("setSession")) }) })

  test("keeps its session if the store kept it and the store's response was lost", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const exit = yield* exitOf(ensure)
      assert(Exit.isSuccess(exit))
      assert.isTrue(exit.value.isNew)
      assert.deepStrictEqual(yield* fake.sessions, [exit.value.sessionId])
      assert.strictEqual(yield* stored, exit.value.sessionId)
    }), {
    store: (store) => {
      let isLost = true
      return {
        setSession: (...args) =>
          Effect.tap(store.setSession(...args), () => {
            const wasLost = isLost
            isLost = false
            return wasLost ? Effect.fail(Turns.unavailable("setSession")) : Effect.void
          })
      }
    }
  })

  for (const isApplied of [false, true]) {
    const entered = Latch.makeUnsafe()
    test(
      `that is interrupted while it stores its session leaves no orphan: ${isApplied ? "stored" : "not stored"}`,
      () =>
        Effect.gen(function*() {
          const fake = yield* FakeOpencode
          const fiber = yield* Effect.forkChild(ensure)
          yield* entered.await
          assert.lengthOf(yield* fake.sessions, 1)
          yield* Fiber.interrupt(fiber)
          const [kept] = yield* fake.sessions
          assert.strictEqual(kept, yield* stored)
          assert.strictEqual(kept !== undefined, isApplied)
        }),
      {
        store: (store) => ({
          setSession: (...args) =>
            (isApplied ? Effect.asVoid(store.setSession(...args)) : Effect.void).pipe(
              Effect.andThen(entered.open),
              Effect.andThen(Effect.never)
            )
        })
      }
    )
  }

  test("that cannot delete an unneeded session reports it, and goes on", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      yield* fake.fail({ method: "POST", path: "/session" }, Faults.holdAnswerAt("race"))
      yield* fake.fail({ method: "DELETE" }, Faults.status(400))
      const fiber = yield* Effect.forkChild(ensure)
      yield* fake.reached("race")
      const { id: winner } = yield* Effect.flatMap(Client, (client) => client.createSession({}))
      yield* store.setSession(conversationId, Option.none(), winner)
      yield* fake.release("race")
      assert.deepStrictEqual(yield* Fiber.join(fiber), { sessionId: winner, isNew: false })
      const [report] = yield* Turns.reports
      assert.deepInclude(report?.attributes, {
        feature: "delete a session made in vain",
        conversation: conversationId
      })
      assert.deepStrictEqual(yield* payloads("session.created"), [])
    }))
})

describe("recreateSession", () => {
  test("of many concurrent turns replaces the lost session once", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { sessionId: lost } = yield* ensure
      yield* fake.deleteSession(lost)
      const all = yield* Effect.all(
        Array.from({ length: 20 }, () => recreateSession(conversationId, lost, {})),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(yield* fake.sessions, [(yield* stored) ?? ""])
      for (const ensured of all) assert.strictEqual(ensured.sessionId, yield* stored)
      assert.lengthOf(all.filter((ensured) => ensured.isNew), 1)
      assert.lengthOf(yield* payloads("session.created"), 1)
    }))

  test("takes the session that another turn created in the meantime", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { sessionId } = yield* ensure
      const again = yield* recreateSession(conversationId, SessionId.make("ses_older"), {})
      assert.deepStrictEqual(again, { sessionId, isNew: false })
      assert.deepStrictEqual(yield* fake.sessions, [sessionId])
    }))
})
