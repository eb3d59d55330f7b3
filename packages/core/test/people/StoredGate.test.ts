import { assert, describe } from "@effect/vitest"
import type { Answer, Ask } from "@opencode-turn/core/Ask"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { AskId, AssistantMessageId, SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import { resumeTurn, runTurn } from "@opencode-turn/core/Turn"
import { HumanTimeout } from "@opencode-turn/core/TurnError"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { ended, pass, takeOver } from "../support/carrying.ts"
import * as Make from "../support/make.ts"
import * as Turns from "../support/turns.ts"

const { conversationId, messageId, test } = Turns

const once: Answer = { _tag: "Permission", reply: { reply: "once" } }
const question: Ask = {
  _tag: "Question",
  id: AskId.make("que_1"),
  sessionId: SessionId.make("ses_1"),
  questions: [{
    question: "Which?",
    header: "Pick",
    options: [{ label: "A", description: "" }],
    multiple: false,
    custom: false
  }]
}
const permission = Make.permission("per_1")

const claim = (id = messageId) =>
  Effect.flatMap(
    SessionStore,
    (store) => store.claim({ id, conversationId, prompt: [], lease: { owner: "w", millis: 0 } })
  )

/** The stored ask. */
const stored = (id: string) =>
  Effect.flatMap(SessionStore, (store) => Effect.map(store.getAsk(AskId.make(id)), Option.getOrUndefined))

/** Puts an ask to a worker's gate. `isOpen` is the server's view. */
const put = Effect.fnUntraced(function*(ask: Ask, wrap: (gate: HumanGate.Gate) => HumanGate.Gate = identity) {
  const server = { isOpen: true }
  const gate = wrap(yield* StoredGate.gate)
  const asking = {
    conversationId,
    messageId,
    sessionId: ask.sessionId,
    openedBy: undefined,
    subagent: undefined,
    isOpen: () => server.isOpen
  }
  const fiber = yield* Effect.forkChild(gate(ask, asking))
  yield* Turns.rest
  return { fiber, server }
})

/** The reason for rejecting an answer. */
const refused = (id: string, answer: Answer) => Effect.flip(StoredGate.answerAsk(id, answer))

const pendingIds = (filter?: Parameters<typeof StoredGate.pendingAsks>[0]) =>
  Effect.map(StoredGate.pendingAsks(filter), (asks) => asks.map(({ id }) => `${id}`))

describe("a stored ask", () => {
  test("waits in the store, however long, for an answer of any process", () =>
    Effect.gen(function*() {
      yield* claim()
      const { fiber } = yield* put(permission)
      assert.deepInclude(yield* stored("per_1"), { status: "open", ask: permission, messageId, conversationId })
      yield* TestClock.adjust("30 days")
      assert.isUndefined(fiber.pollUnsafe())
      assert.deepInclude(yield* StoredGate.answerAsk("per_1", once), { status: "answered", answer: once })
      assert.deepStrictEqual((yield* ended(fiber)).value, once)
    }))

  test("stays open when its worker goes away, and its answer reaches the next worker", () =>
    Effect.gen(function*() {
      yield* claim()
      const first = yield* put(permission)
      yield* Fiber.interrupt(first.fiber)
      assert.strictEqual((yield* stored("per_1"))?.status, "open")
      yield* StoredGate.answerAsk("per_1", once)
      const second = yield* put(permission)
      assert.deepStrictEqual((yield* ended(second.fiber)).value, once)
    }))

  test("is withdrawn when the server needs no answer any more", () =>
    Effect.gen(function*() {
      yield* claim()
      const { fiber, server } = yield* put(permission)
      server.isOpen = false
      yield* Fiber.interrupt(fiber)
      assert.strictEqual((yield* stored("per_1"))?.status, "withdrawn")
    }))

  test("is withdrawn and refused at its time limit", () =>
    Effect.gen(function*() {
      yield* claim()
      const { fiber } = yield* put(permission, (gate) => HumanGate.within(gate, "1 hour", "deny"))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* ended(fiber)).value._tag, "Reject")
      assert.strictEqual((yield* stored("per_1"))?.status, "withdrawn")
    }))

  test("is refused by the next worker if its worker died right after giving it up", () =>
    Effect.gen(function*() {
      yield* claim()
      const first = yield* put(permission, (gate) => HumanGate.within(gate, "1 hour", "deny"))
      yield* TestClock.adjust("1 hour")
      yield* ended(first.fiber)
      const second = yield* put(permission)
      const { value } = yield* ended(second.fiber)
      assert(value._tag === "Reject")
      assert.include(value.message, "Nobody answered in time.")
    }))

  test("is skipped when its turn ends", () =>
    Effect.gen(function*() {
      yield* claim()
      const { fiber } = yield* put(permission)
      yield* Turns.cancel
      // The ask itself is not notified: the turn interrupts its gate.
      yield* Fiber.interrupt(fiber)
      assert.strictEqual((yield* stored("per_1"))?.status, "withdrawn")
      const late = yield* put(permission)
      assert.deepStrictEqual((yield* ended(late.fiber)).value, { _tag: "Skip" })
    }))

  test("is skipped when it is withdrawn in the store", () =>
    Effect.gen(function*() {
      yield* claim()
      const { fiber } = yield* put(permission)
      const store = yield* SessionStore
      yield* store.withdrawAsk(AskId.make("per_1"))
      assert.deepStrictEqual((yield* ended(fiber)).value, { _tag: "Skip" })
    }))
})

describe("a store", () => {
  let failures = 0
  const failing = (isRetryable: boolean) => (store: Turns.Store): Partial<Turns.Store> => ({
    openAsk: (ask) =>
      Effect.suspend(() =>
        failures-- > 0 ? Effect.fail(Turns.unavailable("openAsk", isRetryable)) : store.openAsk(ask)
      ),
    getAsk: (id) =>
      Effect.suspend(() => failures-- > 0 ? Effect.fail(Turns.unavailable("getAsk", isRetryable)) : store.getAsk(id))
  })

  test("that is unreachable when an agent asks keeps the ask waiting", () =>
    Effect.gen(function*() {
      failures = 100
      yield* claim()
      const { fiber } = yield* put(permission)
      yield* pass(10 * 60_000, 5000)
      assert.isUndefined(fiber.pollUnsafe())
      yield* StoredGate.answerAsk("per_1", once)
      assert.deepStrictEqual((yield* ended(fiber)).value, once)
      assert.deepStrictEqual(yield* Turns.reports, [])
    }), { store: failing(true) })

  test("that is unreachable when the answer is read is read again", () =>
    Effect.gen(function*() {
      failures = 0
      yield* claim()
      const { fiber } = yield* put(permission)
      const store = yield* SessionStore
      failures = 20
      yield* store.answerAsk(AskId.make("per_1"), once)
      assert.deepStrictEqual((yield* ended(fiber, 120_000)).value, once)
    }), { store: failing(true) })

  test("that cannot keep an ask is reported, and the ask refused", () =>
    Effect.gen(function*() {
      failures = 1
      yield* claim()
      const { fiber } = yield* put(permission)
      const { value } = yield* ended(fiber)
      assert.strictEqual(value._tag, "Reject")
      assert.deepStrictEqual(yield* Turns.features, ["stored gate"])
    }), { store: failing(false) })

  test("that hangs in a withdrawal delays nobody", () =>
    Effect.gen(function*() {
      yield* claim()
      const { fiber, server } = yield* put(permission)
      server.isOpen = false
      const stopping = yield* Effect.forkChild(Fiber.interrupt(fiber))
      const { millis } = yield* ended(stopping, 10_000)
      assert.strictEqual(millis, 5000)
      assert.deepStrictEqual(yield* Turns.features, ["stored gate"])
    }), { store: () => ({ withdrawAsk: () => Effect.never }) })
})

describe("answerAsk", () => {
  test("rejects an answer that does not fit, and leaves the ask open", () =>
    Effect.gen(function*() {
      yield* claim()
      const atPermission = yield* put(permission)
      const atQuestion = yield* put(question)
      for (
        const [id, answer, reason] of [
          ["per_1", { _tag: "Answers", answers: [["A"]] }, "expected Permission, got Answers"],
          ["per_1", { _tag: "Skip" }, "cannot be skipped"],
          ["que_1", once, "expected Answers, got Permission"],
          ["que_1", { _tag: "Answers", answers: [["B"]] }, "only the labels"]
        ] as const
      ) {
        const error = yield* refused(id, answer)
        assert(error._tag === "InvalidAnswer")
        assert.strictEqual(error.askId, AskId.make(id))
        assert.include(error.message, reason)
        assert.strictEqual((yield* stored(id))?.status, "open")
      }
      yield* StoredGate.answerAsk("per_1", { _tag: "Reject", message: "no" })
      yield* StoredGate.answerAsk("que_1", { _tag: "Answers", answers: [["A"]] })
      assert.deepStrictEqual((yield* ended(atPermission.fiber)).value, { _tag: "Reject", message: "no" })
      assert.deepStrictEqual((yield* ended(atQuestion.fiber)).value, { _tag: "Answers", answers: [["A"]] })
    }))

  test("may be answered by one who was told of it before it was stored", () =>
    Effect.gen(function*() {
      yield* claim()
      const early = yield* Effect.forkChild(StoredGate.answerAsk("per_1", once))
      yield* Turns.rest
      yield* TestClock.adjust("1 second")
      const { fiber } = yield* put(permission)
      assert.strictEqual((yield* Fiber.join(early)).status, "answered")
      assert.deepStrictEqual((yield* ended(fiber)).value, once)
    }))

  test("distinguishes an unknown ask from a closed one", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      yield* claim()
      const open = (id: string) => store.openAsk({ messageId, conversationId, ask: Make.permission(id) })
      yield* open("per_answered")
      yield* open("per_withdrawn")
      yield* open("per_ended")
      yield* StoredGate.answerAsk("per_answered", once)
      yield* store.withdrawAsk(AskId.make("per_withdrawn"))
      const unknown = yield* Effect.forkChild(refused("per_none", once))
      yield* Turns.rest
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Fiber.join(unknown))._tag, "UnknownAsk")
      assert.deepInclude(yield* refused("per_answered", { _tag: "Reject" }), {
        _tag: "AskClosed",
        status: "answered"
      })
      assert.deepInclude(yield* refused("per_withdrawn", once), { _tag: "AskClosed", status: "withdrawn" })
      yield* Turns.cancel
      assert.deepInclude(yield* refused("per_ended", once), { _tag: "AskClosed", status: "withdrawn" })
    }))

  test(
    "succeeds again with the same answer, because the first success may have been lost",
    () =>
      Effect.gen(function*() {
        yield* claim()
        yield* put(permission)
        const answering = yield* Effect.forkChild(StoredGate.answerAsk("per_1", once))
        const answered = (yield* ended(answering, 5000)).value
        assert.deepInclude(answered, { status: "answered", answer: once })
        assert.deepStrictEqual(yield* StoredGate.answerAsk("per_1", once), answered)
      }),
    {
      store: (store) => {
        let lost = 0
        return {
          answerAsk: (id, answer) =>
            Effect.tap(
              store.answerAsk(id, answer),
              () => lost++ === 0 ? Effect.fail(Turns.unavailable("answerAsk")) : Effect.void
            )
        }
      }
    }
  )
})

describe("pendingAsks", () => {
  test("lists the open asks of all, of a conversation or of a message", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      yield* claim()
      for (const id of ["per_1", "per_2", "per_3"]) {
        yield* store.openAsk({ messageId, conversationId, ask: Make.permission(id) })
      }
      yield* StoredGate.answerAsk("per_2", once)
      assert.deepStrictEqual(yield* pendingIds(), ["per_1", "per_3"])
      assert.deepStrictEqual(yield* pendingIds({ limit: 1 }), ["per_1"])
      assert.deepStrictEqual(yield* pendingIds({ conversationId }), ["per_1", "per_3"])
      assert.deepStrictEqual(yield* pendingIds({ messageId: AssistantMessageId.make("other") }), [])
    }))
})

const bash = (command: string) => ({ tool: "bash", args: { command } })

describe("a turn", () => {
  const steps: ReadonlyArray<Step> = [bash("echo a"), { text: "done" }]
  const asks = [{ permission: "bash", pattern: "*", action: "ask" } as const]

  const launch = Effect.fnUntraced(function*(input: Partial<TurnInput> = {}) {
    const fiber = yield* Effect.forkChild(runTurn(Turns.turn(steps, { permission: asks, ...input })))
    yield* Turns.rest
    return fiber
  })

  const onlyAsk = Effect.map(StoredGate.pendingAsks({ messageId }), (pending) => {
    assert.lengthOf(pending, 1)
    return pending[0]?.id ?? ""
  })

  const assertAnswered = Effect.fnUntraced(function*(result: TurnResult) {
    const fake = yield* FakeOpencode
    assert.isUndefined(result.error, result.error?.message)
    assert.strictEqual(result.content, "done")
    assert.deepStrictEqual(result.reply.tools.map(({ output }) => output), ["a\n"])
    assert.strictEqual(yield* fake.modelCalls, 2, "model calls")
    assert.lengthOf(yield* Turns.prompts, 1)
    assert.lengthOf(yield* Turns.aborts, 0)
    assert.deepStrictEqual(yield* Turns.reports, [])
    assert.deepStrictEqual(yield* StoredGate.pendingAsks(), [])
  })

  const replies = Turns.requests("POST", /\/(?:reply|reject)$/)
  const gated = Effect.provide(StoredGate.layer)

  test("waits half an hour for a person without passing a deadline", () =>
    Effect.gen(function*() {
      const fiber = yield* launch()
      const id = yield* onlyAsk
      yield* pass(30 * 60_000, 10_000)
      assert.isUndefined(fiber.pollUnsafe())
      assert.deepStrictEqual(yield* replies, [])
      yield* StoredGate.answerAsk(id, once)
      yield* assertAnswered((yield* ended(fiber, 1000)).value)
      assert.deepStrictEqual((yield* replies).map(({ body }) => body), [{ reply: "once" }])
    }).pipe(gated))

  test("passes a person's message to the model", () =>
    Effect.gen(function*() {
      const fiber = yield* launch()
      yield* StoredGate.answerAsk(yield* onlyAsk, { _tag: "Reject", message: "use ls instead" })
      const { value } = yield* ended(fiber)
      assert.strictEqual(value.status, "completed")
      assert.include(value.reply.tools[0]?.error, "use ls instead")
    }).pipe(gated))

  test("whose worker went away finds the answer that came in the meantime", () =>
    Effect.gen(function*() {
      const first = yield* launch().pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
      const id = yield* onlyAsk
      yield* Fiber.interrupt(first)
      yield* pass(60_000, 10_000)
      assert.strictEqual(yield* onlyAsk, id)
      yield* StoredGate.answerAsk(id, once)
      const second = yield* Effect.forkChild(Effect.flatMap(takeOver(messageId), (taken) => resumeTurn(taken)))
      yield* assertAnswered((yield* ended(second, 10_000)).value)
    }).pipe(gated))

  test("whose worker went away while another client answered does not ask again", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const two = [{ tools: [bash("echo a"), bash("echo b")] }, { text: "done" }]
      const first = yield* launch({ prompt: prompt("Do it.", two) }).pipe(
        Effect.provideService(TurnPolicy.OnInterrupt, "release")
      )
      const [gone, left] = yield* StoredGate.pendingAsks({ messageId })
      assert(gone !== undefined && left !== undefined)
      yield* Fiber.interrupt(first)
      yield* client.answerPermission(gone.id, { reply: "once" })
      const second = yield* Effect.forkChild(Effect.flatMap(takeOver(messageId), (taken) => resumeTurn(taken)))
      yield* pass(1000)
      assert.strictEqual(yield* onlyAsk, left.id)
      assert.deepInclude(yield* refused(gone.id, once), { _tag: "AskClosed", status: "withdrawn" })
      yield* StoredGate.answerAsk(left.id, once)
      assert.strictEqual((yield* ended(second, 10_000)).value.content, "done")
    }).pipe(gated))

  test("whose worker died keeps its ask, and another worker drives the turn to its end", () =>
    Effect.gen(function*() {
      const first = yield* launch().pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
      const id = yield* onlyAsk
      yield* Fiber.interrupt(first)
      const second = yield* Effect.forkChild(TurnWorker.resumeTurns())
      yield* pass(60_000, 10_000)
      assert.isUndefined(second.pollUnsafe())
      assert.strictEqual(yield* onlyAsk, id)
      yield* StoredGate.answerAsk(id, once)
      const [result] = (yield* ended(second, 10_000)).value
      assert(result !== undefined)
      yield* assertAnswered(result)
    }).pipe(gated))

  test("goes on when another client answers, and the stored ask is withdrawn", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const fiber = yield* launch()
      const id = yield* onlyAsk
      yield* client.answerPermission(AskId.make(id), { reply: "once" })
      yield* Turns.rest
      assert.strictEqual((yield* stored(id))?.status, "withdrawn")
      yield* assertAnswered((yield* ended(fiber, 1000)).value)
      assert.lengthOf(yield* replies, 1)
      assert.strictEqual((yield* Effect.flip(StoredGate.answerAsk(id, once)))._tag, "AskClosed")
    }).pipe(gated))

  test("withdraws its asks when it is stopped", () =>
    Effect.gen(function*() {
      const fiber = yield* launch()
      const id = yield* onlyAsk
      const stopping = yield* Effect.forkChild(Fiber.interrupt(fiber))
      yield* ended(stopping, 10_000)
      assert.strictEqual((yield* Turns.row)?.status, "cancelled")
      assert.strictEqual((yield* stored(id))?.status, "withdrawn")
    }).pipe(gated))

  test("ends if nobody answers in time and the gate fails on that", () =>
    Effect.gen(function*() {
      const fiber = yield* launch()
      const id = yield* onlyAsk
      yield* pass(60 * 60_000, 10_000)
      const { value } = yield* ended(fiber, 10_000)
      assert.deepStrictEqual(value.error, new HumanTimeout({ askId: AskId.make(id), millis: 3_600_000 }))
      assert.lengthOf(yield* Turns.aborts, 1)
      assert.strictEqual((yield* stored(id))?.status, "withdrawn")
    }).pipe(
      Effect.provide(
        Layer.effect(
          HumanGate.HumanGate,
          Effect.map(StoredGate.gate, (gate) => HumanGate.within(gate, "1 hour", "fail"))
        )
      )
    ))

  test("goes on if nobody answers in time and the gate refuses on that", () =>
    Effect.gen(function*() {
      const fiber = yield* launch()
      const id = yield* onlyAsk
      yield* pass(60 * 60_000, 10_000)
      const { value } = yield* ended(fiber, 10_000)
      assert.strictEqual(value.content, "done")
      assert.include(value.reply.tools[0]?.error, "Nobody answered within 1h.")
      assert.strictEqual((yield* stored(id))?.status, "withdrawn")
    }).pipe(
      Effect.provide(
        Layer.effect(
          HumanGate.HumanGate,
          Effect.map(StoredGate.gate, (gate) => HumanGate.within(gate, "1 hour", "deny"))
        )
      )
    ))
})
