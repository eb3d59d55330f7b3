import { assert, describe } from "@effect/vitest"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import { zero } from "@opencode-turn/core/Usage"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { ended, halfway, isEnded, launch, leave, pass, rowOf, until } = Carrying
const { messageId, names, payloads, row, test } = Turns

const bash = { tool: "bash", args: { command: "echo hi" } }

/** A worker that sweeps until it is closed, or the test ends. */
const work = Effect.fnUntraced(function*(options?: TurnWorker.Options) {
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  yield* Layer.buildWithScope(TurnWorker.layer(options), scope)
  yield* Turns.rest
  return { close: Scope.close(scope, Exit.void) }
})

/** A turn whose process shuts down in the middle of its answer. */
const release = Effect.gen(function*() {
  const fake = yield* FakeOpencode
  const fiber = yield* launch(messageId, halfway).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
  yield* fake.reached("half")
  yield* Fiber.interrupt(fiber)
})

/** A turn whose workers died repeatedly. */
const deadly = Effect.fnUntraced(function*(takeovers: number) {
  const store = yield* SessionStore
  const { row } = yield* leave(halfway, { stage: "posted" })
  yield* store.snapshot(messageId, row.epoch, {
    content: "one two ",
    parts: [],
    usage: zero,
    finish: null,
    isFallback: false
  })
  for (let n = 0; n < takeovers; n++) yield* store.takeOver(messageId, { owner: `dead-${n}`, millis: 0 })
})

describe("a turn that kills its workers", () => {
  test("is ended by the worker that finds too many takeovers, and keeps its text", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* deadly(5)
      yield* work()
      yield* until(isEnded(messageId), 10_000)
      const { content, error, status } = (yield* row) ?? {}
      assert.deepStrictEqual([status, error?.tag], ["error", "TakenOverTooOften"])
      assert.include(content, "one two")
      assert.lengthOf(yield* Turns.prompts, 1, "it is not driven")
      yield* fake.release("half")
    }))

  test("is driven until it has too many takeovers", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* deadly(4)
      yield* fake.release("half")
      yield* work()
      yield* until(isEnded(messageId), 10_000)
      assert.deepInclude(yield* row, { status: "completed", content: "one two three" })
    }))

  let refusals = 0
  const refuse = Effect.suspend(() => {
    refusals++
    return Effect.fail(Turns.unavailable("finalize", false))
  })

  test("is dropped by a worker that repeatedly failed to store its end", () =>
    Effect.gen(function*() {
      yield* leave([{ text: "Hi." }], { stage: "posted" })
      const worker = yield* work()
      yield* pass(120_000, 500)
      yield* worker.close
      // Each attempt makes two writes: the whole outcome, and the text alone.
      assert.isAtMost(refusals, 14)
      assert.deepInclude(yield* row, { status: "pending" })
    }), { store: () => ({ finalize: () => refuse }) })
})

describe("an end that the store rejects", () => {
  test("is stored as an error with the text alone", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(Turns.turn([{ text: "Hi.", ...bash }, { text: "Bye." }]))
      assert.strictEqual(result.message?.status, "error")
      assert.deepInclude(yield* row, { status: "error", content: "Hi.\n\nBye.", parts: [] })
      assert.include((yield* row)?.error?.message, "the disk is on fire")
      assert.include(yield* Turns.features, "finalize")
    }), {
    store: (store) => ({
      finalize: (id, epoch, outcome) =>
        outcome.parts.length > 0
          ? Effect.fail(Turns.unavailable("finalize", false))
          : store.finalize(id, epoch, outcome)
    })
  })
})

describe("a report", () => {
  test("names the failed turn, its error, and the feature of the policy", () =>
    Effect.gen(function*() {
      yield* runTurn(Turns.turn([{ fail: 400, message: "no such model" }])).pipe(
        Effect.provideService(TurnPolicy.ErrorFeature, "support-bot")
      )
      const [report, ...others] = yield* Turns.reports
      assert.deepStrictEqual(others, [])
      assert.strictEqual(report?.severity, "Error")
      assert.include(report?.message, "no such model")
      assert.deepInclude(report?.attributes, {
        feature: "support-bot",
        conversation: Turns.conversationId,
        message: messageId,
        status: "error",
        error: "Upstream"
      })
    }))

  test("leaves out cancelled turns and turns with invalid input", () =>
    Effect.gen(function*() {
      const fiber = yield* launch(messageId, halfway)
      yield* Turns.cancel
      yield* ended(fiber, 5000)
      yield* runTurn({ conversationId: "", prompt: "hello" })
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))
})

describe("a worker", () => {
  test("resumes a turn that was released within two seconds", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* work()
      yield* pass(900, 100)
      yield* release
      yield* fake.release("half")
      assert.isAtMost(yield* until(isEnded(messageId), 2000), 1000)
      assert.deepInclude(yield* row, { status: "completed", content: "one two three", epoch: 2 })
      assert.strictEqual(yield* fake.modelCalls, 1)
    }))

  test("resumes the turn of a dead worker within six seconds of its last sign of life", () =>
    Effect.gen(function*() {
      yield* work()
      yield* pass(900, 100)
      yield* leave([{ text: "Hi." }], { stage: "posted", leaseMillis: 4000 })
      const millis = yield* until(isEnded(messageId), 6000)
      assert.isAbove(millis, 3900)
      assert.isAtMost(millis, 5000)
      assert.deepInclude(yield* row, { status: "completed", content: "Hi." })
    }))

  test("drives each orphan once, with any number of workers", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const conversations = Array.from({ length: 20 }, (_, index) => `m${index}`)
      yield* Effect.forEach([1, 2, 3], () => work())
      yield* Effect.forEach(
        conversations,
        (name) => leave([{ text: `Hi ${name}.` }], { stage: "claimed", name, conversation: name })
      )
      yield* pass(3000)
      for (const name of conversations) {
        assert.deepInclude(yield* rowOf(name), { status: "completed", content: `Hi ${name}.`, epoch: 2 })
      }
      assert.strictEqual(yield* fake.modelCalls, 20)
      assert.lengthOf(yield* Turns.prompts, 20)
      assert.lengthOf(yield* payloads("turn.finished"), 20)
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test("drives a queue in its order", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      yield* leave([{ text: "one" }], { stage: "posted", name: "m1" })
      for (const name of ["m2", "m3"]) {
        yield* store.claim({
          id: Carrying.messageIdOf(name),
          conversationId: Turns.conversationId,
          prompt: Carrying.promptOf([{ text: name }]),
          lease: { owner: "dead", millis: 0 },
          whenBusy: "queue"
        })
      }
      yield* work({ maxConcurrent: 2 })
      yield* until(isEnded("m3"), 5000)
      const rows = yield* Effect.forEach(["m1", "m2", "m3"], rowOf)
      assert.deepStrictEqual(rows.map((row) => row?.content), ["one", "m2", "m3"])
      const [session] = yield* fake.sessions
      assert.strictEqual(yield* fake.userMessageCount(session ?? ""), 3)
    }))

  test("drives no more turns at once than its limit", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* Effect.forEach(
        ["m1", "m2", "m3"],
        (name) => leave(halfway, { stage: "claimed", name, conversation: name })
      )
      yield* work({ maxConcurrent: 2 })
      yield* pass(5000)
      assert.lengthOf(yield* Turns.prompts, 2)
      assert.deepInclude(yield* rowOf("m3"), { epoch: 1 })
      yield* fake.release("half")
      yield* until(isEnded("m3"), 2000)
    }))

  test("passes values that cannot be stored to its turns", () =>
    Effect.gen(function*() {
      const told: Array<string> = []
      yield* leave([{ text: "Hi." }], { stage: "claimed" })
      yield* work({
        extras: ({ id }) => ({
          onTurnFinished: ({ content }) => Effect.sync(() => void told.push(`${id}: ${content}`))
        })
      })
      yield* until(isEnded(messageId), 1000)
      assert.deepStrictEqual(told, [`${messageId}: Hi.`])
    }))

  test("that is closed releases its turns, and the next one ends them within a sweep", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      yield* leave(halfway, { stage: "posted" })
      const worker = yield* work()
      yield* pass(1500)
      yield* worker.close
      const left = yield* row
      assert.deepInclude(left, { status: "pending", epoch: 2, leaseUntilMillis: 1500 })
      assert.lengthOf(yield* store.listOrphans(1), 1)
      assert.lengthOf(yield* Turns.aborts, 0)
      yield* fake.release("half")
      yield* work()
      assert.isAtMost(yield* until(isEnded(messageId), 1000), 1000)
      assert.deepInclude(yield* row, { status: "completed", content: "one two three", epoch: 3 })
      assert.strictEqual(yield* fake.modelCalls, 1)
      assert.lengthOf(yield* payloads("turn.finished"), 1)
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test("that is closed stores the streamed reply", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave(halfway, { stage: "claimed" })
      const worker = yield* work()
      yield* fake.reached("half")
      yield* Turns.rest
      assert.deepInclude(yield* row, { content: "" })
      yield* worker.close
      assert.deepInclude(yield* row, { status: "pending", content: "one two " })
      yield* fake.release("half")
    }))

  let isDown = true
  test("reports a store that fails, and goes on when it is back", () =>
    Effect.gen(function*() {
      yield* leave([{ text: "Hi." }], { stage: "claimed" })
      yield* work()
      yield* pass(2500)
      assert.deepStrictEqual(yield* Turns.features, ["sweep", "sweep", "sweep"])
      isDown = false
      yield* until(isEnded(messageId), 1000)
    }), {
    store: (store) => ({
      listOrphans: (limit) =>
        Effect.suspend(() => isDown ? Effect.fail(Turns.unavailable("listOrphans")) : store.listOrphans(limit))
    })
  })

  let failures = 0
  test(
    "reports a turn that fails without a result, and retries it after its lease",
    () =>
      Effect.gen(function*() {
        yield* leave([{ text: "Hi." }], { stage: "claimed", name: "broken", conversation: "broken" })
        yield* leave([{ text: "Hi." }], { stage: "claimed" })
        yield* work()
        yield* until(isEnded(messageId), 1000)
        assert.deepStrictEqual(yield* Turns.features, ["finalize", "resume"])
        assert.deepInclude(yield* rowOf("broken"), { status: "pending" })
        yield* until(isEnded("broken"), 6000)
        assert.deepInclude(yield* rowOf("broken"), { status: "completed", epoch: 3 })
      }),
    {
      store: (store) => ({
        finalize: (id, epoch, outcome) =>
          Effect.suspend(() =>
            id === "broken" && failures++ < 2
              ? Effect.fail(Turns.unavailable("finalize", false))
              : store.finalize(id, epoch, outcome)
          )
      })
    }
  )
})

describe("resumeTurns", () => {
  test("drives each orphan once, and gives the results", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave([{ text: "One." }], { stage: "claimed", name: "m1", conversation: "m1" })
      yield* leave([{ fail: 400, message: "no" }], { stage: "posted", name: "m2", conversation: "m2" })
      const owned = yield* launch("m3", halfway)
      const { value } = yield* ended(yield* Effect.forkChild(TurnWorker.resumeTurns()))
      assert.deepStrictEqual(value.map(({ messageId, status }) => [messageId, status]), [
        ["m1", "completed"],
        ["m2", "error"]
      ])
      assert.isEmpty((yield* ended(yield* Effect.forkChild(TurnWorker.resumeTurns()))).value)
      yield* fake.release("half")
      assert.strictEqual((yield* ended(owned)).value.message?.epoch, 1)
    }))

  test("releases its turns when it is interrupted", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave(halfway, { stage: "posted" })
      const fiber = yield* Effect.forkChild(TurnWorker.resumeTurns())
      yield* pass(500)
      yield* Fiber.interrupt(fiber)
      assert.deepInclude(yield* row, { status: "pending", leaseUntilMillis: 500 })
      assert.lengthOf(yield* Turns.aborts, 0)
      assert.notInclude(yield* names, "turn.finished")
      yield* fake.release("half")
    }))

  test("fails if the store cannot list the orphans", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(TurnWorker.resumeTurns())
      assert.strictEqual(error.operation, "listOrphans")
    }), { store: () => ({ listOrphans: () => Effect.fail(Turns.unavailable("listOrphans", false)) }) })
})
