/** The server of an unfinished turn, where several servers share a store. */
import { assert, describe } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import { layerHttpClient } from "@opencode-turn/testing/FakeHttpClient"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Carrying from "../support/carrying.ts"
import { logged } from "../support/logs.ts"
import * as Turns from "../support/turns.ts"

const { messageId, row, test, turn } = Turns

type Fake = FakeOpencode.FakeOpencode["Service"]

/** Gives an effect a client of the server under this address. */
const at = (origin: string, fake: Fake) =>
  Effect.provide(Client.layer({ baseUrl: origin }).pipe(Layer.provide(layerHttpClient(fake.handle))))

const otherServer = Effect.map(
  Layer.build(Layer.fresh(FakeOpencode.layer())),
  (context) => Context.get(context, FakeOpencode.FakeOpencode)
)

/** What changed something at the server. */
const sentTo = (fake: Fake) =>
  Effect.map(fake.requests, (all) => all.flatMap(({ method, path }) => method === "GET" ? [] : [`${method} ${path}`]))

/** A worker begins a turn and lets it go. */
const leave = Effect.gen(function*() {
  const fake = yield* FakeOpencode.FakeOpencode
  const fiber = yield* Carrying.launch(messageId, Carrying.halfway).pipe(
    Effect.provideService(TurnPolicy.OnInterrupt, "release")
  )
  yield* fake.reached("half")
  yield* Fiber.interrupt(fiber)
  yield* fake.release("half")
  return fake
})

const carry = Effect.map(TurnWorker.resumeTurns(), ([result]) => [result?.content, result?.error?.message])
const whole = ["one two three", undefined]

describe("an unfinished turn", () => {
  test("is left alone by a worker of another server, which says so, and is carried on by one of its own", () =>
    Effect.gen(function*() {
      yield* leave
      const other = yield* otherServer
      const before = yield* row
      const { lines, value } = yield* logged(TurnWorker.resumeTurns().pipe(at("http://other:4096", other)))
      assert.deepStrictEqual(value, [])
      assert.deepStrictEqual(yield* row, before)
      assert.deepStrictEqual(yield* sentTo(other), [])
      assert.deepStrictEqual(lines.map(({ level, text }) => [level, text]), [
        ["Warn", "turn left to a worker of another server"]
      ])
      assert.deepInclude(lines[0]?.fields, { message: messageId, origin: before?.draft?.origin })
      assert.deepStrictEqual(yield* carry, whole)
    }))

  test("is carried on under another name of its server", () =>
    Effect.gen(function*() {
      const fake = yield* leave
      assert.deepStrictEqual(yield* carry.pipe(at("http://another-name:1", fake)), whole)
      assert.lengthOf(yield* Turns.prompts, 1)
    }))

  test("that was taken over on another server is noticed, and the turn is released", () =>
    Effect.gen(function*() {
      yield* leave
      const other = yield* otherServer
      const wrong = yield* runTurn(turn([], { messageId })).pipe(at("http://other:4096", other))
      assert(wrong.error?._tag === "ServerMismatch")
      assert.include(wrong.error.message, "OpenCode at http://other:4096 does not know its session")
      assert.deepInclude(yield* row, { status: "pending", owner: null })
      assert.deepStrictEqual(yield* sentTo(other), [])
      assert.deepStrictEqual(yield* carry, whole)
    }))

  test("that was not prompted yet is left to its own server, where its conversation is", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      yield* runTurn(turn([{ text: "Before." }], { messageId: "before" }))
      const { origin } = yield* Client.Client
      yield* Carrying.leave([{ text: "After." }], { stage: "claimed", draft: { origin } })
      const other = yield* otherServer
      assert.deepStrictEqual(yield* TurnWorker.resumeTurns().pipe(at("http://other:4096", other)), [])
      assert.deepStrictEqual(yield* sentTo(other), [])
      const [result] = yield* TurnWorker.resumeTurns()
      assert.deepStrictEqual([result?.content, result?.sessionId], ["After.", (yield* fake.sessions)[0]])
    }))

  test("is not taken over by a turn that waits behind it on another server", () =>
    Effect.gen(function*() {
      yield* leave
      const other = yield* otherServer
      const before = yield* row
      const waiting = yield* Carrying.launch("waiting", [{ text: "Next." }]).pipe(at("http://other:4096", other))
      yield* Carrying.pass(30_000)
      assert.deepStrictEqual(yield* row, before)
      assert.deepStrictEqual(yield* sentTo(other), [])
      yield* Fiber.interrupt(waiting)
      assert.deepStrictEqual(yield* carry, whole)
    }))

  test("of which nobody knows where it began is prompted again where its session is lost", () =>
    Effect.gen(function*() {
      const client = yield* Client.Client
      const fake = yield* FakeOpencode.FakeOpencode
      const { sessionId } = yield* Carrying.leave([{ text: "Hi." }], { stage: "recorded", draft: {} })
      assert(sessionId !== undefined)
      yield* client.deleteSession(sessionId)
      assert.deepStrictEqual(yield* carry.pipe(at("http://another-name:1", fake)), ["Hi.", undefined])
    }))
})

describe("an ended turn whose server was out of reach", () => {
  test("is stopped by a worker of its own server alone", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      const store = yield* SessionStore
      const client = yield* Client.Client
      const due = Effect.map(store.listStops({ limit: 9 }), (stops) => stops.length)
      const fiber = yield* Carrying.launch(messageId, Carrying.halfway)
      yield* fake.fail({ path: /./ }, Faults.reset, Infinity)
      yield* Turns.cancel
      yield* Carrying.ended(fiber, 20_000)
      yield* Carrying.pass(5000)
      yield* fake.clearFaults
      const other = yield* otherServer
      yield* TurnWorker.resumeTurns().pipe(at("http://other:4096", other))
      assert.deepStrictEqual(yield* sentTo(other), [])
      assert.strictEqual(yield* due, 1)
      assert.strictEqual((yield* client.statuses).size, 1)
      yield* TurnWorker.resumeTurns()
      assert.strictEqual(yield* due, 0)
      assert.strictEqual((yield* client.statuses).size, 0)
      yield* fake.release("half")
    }))
})

describe("a new turn of a conversation whose session is on another server", () => {
  const sessionOf = Effect.flatMap(SessionStore, (store) => store.getSession(Turns.conversationId))
  const next = runTurn(turn([{ text: "Elsewhere." }], { messageId: "next" }))

  for (const line of ["1.x", "2.x"] as const) {
    test(`fails, sends nothing, and leaves the session to the conversation: ${line}`, () =>
      Effect.gen(function*() {
        yield* runTurn(turn([{ text: "Before." }]))
        const before = yield* sessionOf
        const other = yield* otherServer
        const result = yield* next.pipe(at("http://other:4096", other))
        assert(result.error?._tag === "ServerMismatch")
        assert.strictEqual(result.status, "failed")
        assert.include(result.error.message, "use that server, or begin another conversation")
        assert.deepStrictEqual(yield* sentTo(other), [])
        assert.deepStrictEqual(yield* sessionOf, before)
        const after = yield* runTurn(turn([{ text: "After." }], { messageId: "after" }))
        assert.deepStrictEqual([after.content, after.isNewSession, after.isRecreated], ["After.", false, false])
      }), { fake: { line } })
  }

  test("begins anew there if the policy says so, and tells it", () =>
    Effect.gen(function*() {
      yield* runTurn(turn([{ text: "Before." }]))
      const other = yield* otherServer
      const result = yield* next.pipe(
        at("http://other:4096", other),
        Effect.provideService(TurnPolicy.OnLostSession, "resend")
      )
      assert.deepStrictEqual([result.content, result.isRecreated], ["Elsewhere.", true])
    }))

  test("goes on under another name of its server, and begins anew if its own server has lost the session", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode.FakeOpencode
      yield* runTurn(turn([{ text: "Before." }]))
      const named = yield* next.pipe(at("http://another-name:1", fake))
      assert.deepStrictEqual([named.content, named.isRecreated], ["Elsewhere.", false])
      yield* Effect.forEach(yield* fake.sessions, fake.deleteSession)
      const again = yield* runTurn(turn([{ text: "Again." }], { messageId: "again" }))
      assert.deepStrictEqual([again.content, again.isRecreated], ["Again.", true])
    }))
})
