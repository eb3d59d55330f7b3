/** The folder of a conversation. */
import { assert, describe } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import { layerHttpClient } from "@opencode-turn/testing/FakeHttpClient"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { messageId, row, test, turn } = Turns

/** Gives an effect a client of its own for the folder. */
const within = (directory: string | undefined) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(FakeOpencode, (fake) =>
    Effect.provide(
      effect,
      Client.layer({ baseUrl: "http://fake", directory }).pipe(Layer.provide(layerHttpClient(fake.handle)))
    ))

const say = (words: string, id: string) => runTurn({ ...turn([{ text: words }]), messageId: id })

const names = [
  "a%20b",
  "a b",
  "100%",
  "%",
  "a#b",
  "a&b",
  "a+b",
  "a?b",
  "a%2Fb",
  "q\"'q",
  "日本語",
  "🚀 go",
  "%E6%97%A5"
]

describe("the folder of a turn", () => {
  for (const name of names) {
    test(`is the given one: ${name}`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const folder = `/project/${name}`
        const result = yield* say("Hi.", "m1").pipe(within(folder))
        assert.strictEqual(result.status, "completed", result.error?.message)
        const again = yield* say("Hi again.", "m2").pipe(within(folder))
        assert.strictEqual(again.status, "completed", again.error?.message)
        assert(result.sessionId !== undefined)
        const messages = yield* fake.messages(result.sessionId)
        const folders = messages.flatMap(({ info }) => info.role === "assistant" ? [info.path.cwd] : [])
        assert.deepStrictEqual(folders, [folder, folder])
      }))
  }

  test("that is missing fails the turn before a session is created, and the next turn may name the right one", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.missing(["/typo"])
      const failed = yield* say("Hi.", "m1").pipe(within("/typo"))
      assert.strictEqual(failed.status, "failed")
      assert(failed.error?._tag === "UnknownDirectory")
      assert.strictEqual(failed.error.directory, "/typo")
      assert.deepStrictEqual(yield* fake.sessions, [])
      const worked = yield* say("Hi.", "m2").pipe(within("/project"))
      assert.strictEqual(worked.status, "completed", worked.error?.message)
    }))

  test("is checked again half a minute later: one that was deleted between two turns fails the second", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const second = yield* Effect.gen(function*() {
        yield* say("Hi.", "m1")
        yield* fake.missing(["/here"])
        yield* TestClock.adjust("31 seconds")
        return yield* say("Hi.", "m2")
      }).pipe(within("/here"))
      assert.strictEqual(second.error?._tag, "UnknownDirectory")
    }))

  test("is not asked for again by a long-lived client", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const asked = yield* Effect.gen(function*() {
        yield* say("Hi.", "m1")
        yield* say("Hi.", "m2")
        const before = (yield* fake.requests).length
        yield* say("Hi.", "m3")
        return (yield* fake.requests).slice(before).map(({ path }) => path.replace(/ses_[^/]+/, "*"))
      }).pipe(within("/here"))
      assert.deepStrictEqual(asked, [
        "/session/status",
        "/session/*",
        "/session/*/message",
        "/session/*/prompt_async",
        "/session/*/message"
      ])
    }))

  for (
    const [first, other] of [["/one", "/two"], ["/one", undefined], [undefined, "/two"], ["/one", "/One"]] as const
  ) {
    test(`that changed from ${first} to ${other} is refused with both named, and nothing is sent`, () =>
      Effect.gen(function*() {
        yield* say("Hi.", "m1").pipe(within(first))
        const refused = yield* say("Hi.", "m2").pipe(within(other))
        assert.strictEqual(refused.status, "failed")
        assert(refused.error?._tag === "DirectoryMismatch")
        assert.strictEqual(refused.error.sessionDirectory, first ?? "/project")
        assert.strictEqual(refused.error.directory, other ?? "/project")
        assert.lengthOf(yield* Turns.prompts, 1)
        const back = yield* say("Hi.", "m3").pipe(within(first))
        assert.strictEqual(back.status, "completed", back.error?.message)
      }))
  }

  test("may have another spelling", () =>
    Effect.gen(function*() {
      const ways = [
        "/project/src",
        "/project/src/",
        "/project//src",
        "/project/./src",
        "/project/x/../src",
        "src",
        "./src"
      ]
      for (const [index, way] of ways.entries()) {
        const result = yield* say("Hi.", `m${index}`).pipe(within(way))
        assert.strictEqual(result.status, "completed", result.error?.message)
      }
    }))

  test("of an orphan decides which worker drives it; a worker of another folder leaves it unchanged", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* Carrying.launch(messageId, Carrying.halfway).pipe(
        Effect.provideService(TurnPolicy.OnInterrupt, "release")
      )
      yield* fake.reached("half")
      yield* Fiber.interrupt(fiber)
      yield* fake.release("half")
      const before = yield* row
      yield* fake.missing(["/gone"])
      for (const folder of ["/elsewhere", "/gone"]) {
        assert.deepStrictEqual(yield* TurnWorker.resumeTurns().pipe(within(folder)), [])
        assert.deepStrictEqual(yield* row, before)
      }
      const [result] = yield* TurnWorker.resumeTurns()
      assert.strictEqual(result?.status, "completed", result?.error?.message)
    }))

  test("of a turn that was taken over in the wrong folder is noticed, and the turn is released", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const fiber = yield* Carrying.launch(messageId, Carrying.halfway).pipe(
        Effect.provideService(TurnPolicy.OnInterrupt, "release")
      )
      yield* fake.reached("half")
      yield* Fiber.interrupt(fiber)
      yield* fake.release("half")
      const wrong = yield* runTurn({ ...turn([]), messageId }).pipe(within("/elsewhere"))
      assert.strictEqual(wrong.error?._tag, "DirectoryMismatch")
      assert.deepInclude(yield* row, { status: "pending", owner: null })
      assert.lengthOf(yield* Turns.aborts, 0)
      const [result] = yield* TurnWorker.resumeTurns()
      assert.strictEqual(result?.status, "completed", result?.error?.message)
    }))
})
