import { assert, describe } from "@effect/vitest"
import { cancelTurn } from "@opencode-turn/core/CancelTurn"
import { SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as Usage from "@opencode-turn/core/Usage"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Carrying from "../support/carrying.ts"
import * as Turns from "../support/turns.ts"

const { ended, halfway, launch, leave, messageIdOf, pass, rowOf } = Carrying
const { conversationId, payloads, test } = Turns

/** The one session of the test. */
const session = Effect.gen(function*() {
  const fake = yield* FakeOpencode
  const [id, ...others] = yield* fake.sessions
  assert.isEmpty(others)
  return SessionId.make(id ?? "")
})

const texts = Effect.gen(function*() {
  const fake = yield* FakeOpencode
  return (yield* fake.messages(yield* session)).flatMap(({ info, parts }) =>
    info.role === "assistant" ? parts.flatMap((part) => (part.type === "text" ? [part.text] : [])) : []
  )
})

const statuses = (...names: ReadonlyArray<string>) =>
  Effect.forEach(names, (name) => Effect.map(rowOf(name), (row) => row?.status))

describe("the turns of one conversation", () => {
  test("run in the order in which they came, each with a prompt and an answer of its own", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const finished: Array<string> = []
      const onTurnFinished = ({ messageId }: TurnResult) => Effect.sync(() => void finished.push(messageId))
      const first = yield* launch("m1", halfway, { onTurnFinished })
      const others = yield* Effect.forEach(
        ["m2", "m3", "m4", "m5"],
        (name) => launch(name, [{ text: `the answer to ${name}` }], { onTurnFinished })
      )
      assert.deepStrictEqual(yield* statuses("m1", "m2", "m3", "m4", "m5"), [
        "pending",
        "queued",
        "queued",
        "queued",
        "queued"
      ])
      yield* pass(60_000, 5000)
      assert.deepStrictEqual(finished, [])
      yield* fake.release("half")
      for (const fiber of [first, ...others]) {
        assert.strictEqual((yield* ended(fiber, 2000)).value.status, "completed")
      }
      assert.deepStrictEqual(finished, ["m1", "m2", "m3", "m4", "m5"])
      assert.deepStrictEqual(yield* texts, [
        "one two three",
        "the answer to m2",
        "the answer to m3",
        "the answer to m4",
        "the answer to m5"
      ])
      assert.strictEqual(yield* fake.userMessageCount(yield* session), 5)
      assert.lengthOf(yield* Turns.prompts, 5)
      assert.lengthOf(yield* payloads("response.started"), 5)
      assert.lengthOf(yield* payloads("turn.finished"), 5)
      assert.deepStrictEqual((yield* Effect.forEach(["m1", "m3", "m5"], rowOf)).map((row) => row?.epoch), [1, 1, 1])
    }))

  test("queue up to MaxQueued, and the next one fails", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch("m1", halfway)
      const waiting = yield* launch("m2", [{ text: "two" }])
      const refused = yield* launch("m3", [{ text: "three" }])
      const { value } = yield* ended(refused)
      assert(value.error?._tag === "TurnInProgress")
      assert.strictEqual(value.error.messageId, messageIdOf("m1"))
      assert.isUndefined(yield* rowOf("m3"))
      yield* fake.release("half")
      yield* ended(first)
      assert.strictEqual((yield* ended(waiting, 500)).value.content, "two")
    }).pipe(Effect.provideService(TurnPolicy.MaxQueued, 1)))

  test("do not queue with the policy reject", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch("m1", halfway)
      const { value } = yield* ended(yield* launch("m2", [{ text: "two" }]))
      assert.strictEqual(value.error?._tag, "TurnInProgress")
      assert.isUndefined(yield* rowOf("m2"))
      yield* fake.release("half")
      assert.strictEqual((yield* ended(first)).value.content, "one two three")
    }).pipe(Effect.provideService(TurnPolicy.WhenBusy, "reject")))

  test("give way to one that replaces them: what runs is aborted once and kept, what waits is cancelled", () =>
    Effect.gen(function*() {
      const first = yield* launch("m1", halfway)
      const second = yield* launch("m2", [{ text: "two" }])
      const third = yield* launch("m3", [{ text: "three" }])
      const fourth = yield* launch("m4", [{ text: "four" }]).pipe(
        Effect.provideService(TurnPolicy.WhenBusy, "replace")
      )
      assert.strictEqual((yield* ended(fourth, 2000)).value.content, "four")
      assert.strictEqual((yield* ended(first)).value.content, "one two ")
      for (const fiber of [second, third]) assert.strictEqual((yield* ended(fiber, 500)).value.status, "cancelled")
      assert.deepStrictEqual(yield* statuses("m1", "m2", "m3", "m4"), [
        "cancelled",
        "cancelled",
        "cancelled",
        "completed"
      ])
      assert.strictEqual((yield* rowOf("m1"))?.content, "one two ")
      assert.lengthOf(yield* Turns.aborts, 1)
      assert.lengthOf(yield* Turns.prompts, 2)
      assert.deepStrictEqual(yield* Turns.reports, [])
    }))

  test("do not give way to themselves: one that runs already is not replaced by its double", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch("m1", halfway)
      const double = yield* launch("m1", halfway).pipe(Effect.provideService(TurnPolicy.WhenBusy, "replace"))
      assert.strictEqual((yield* ended(double)).value.error?._tag, "TurnInProgress")
      yield* fake.release("half")
      assert.strictEqual((yield* ended(first)).value.content, "one two three")
    }))

  test("are replaced even if the blocking turn ends by itself just then", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const lease = { owner: "another", millis: 60_000 }
      yield* store.claim({ id: messageIdOf("m1"), conversationId, prompt: [], lease })
      const next = yield* launch("m2", [{ text: "two" }]).pipe(Effect.provideService(TurnPolicy.WhenBusy, "replace"))
      assert.strictEqual((yield* ended(next)).value.content, "two")
      assert.deepStrictEqual(yield* statuses("m1", "m2"), ["completed", "completed"])
    }), {
    store: (store) => ({
      cancel: (id, content) =>
        Effect.andThen(
          store.finalize(id, 1, { status: "completed", content: "one", parts: [], usage: Usage.zero, error: null }),
          store.cancel(id, content)
        )
    })
  })

  test("keep waiting if another worker takes over the blocking turn first", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave(halfway, { stage: "posted", name: "orphan" })
      const next = yield* launch("next", [{ text: "after it" }])
      yield* pass(2000)
      assert.deepInclude(yield* rowOf("orphan"), { status: "pending", epoch: 2, owner: "another" })
      assert.deepStrictEqual(yield* statuses("next"), ["queued"])
      const store = yield* SessionStore
      yield* store.cancel(messageIdOf("orphan"), "Stopped.")
      yield* fake.release("half")
      assert.strictEqual((yield* ended(next, 500)).value.content, "after it")
    }), {
    store: (store) => ({
      takeOver: (id) => Effect.as(store.takeOver(id, { owner: "another", millis: 60_000 }), Option.none())
    })
  })

  test("go on when a queued turn is interrupted or cancelled", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch("m1", halfway)
      const second = yield* launch("m2", [{ text: "two" }])
      const third = yield* launch("m3", [{ text: "three" }])
      const fourth = yield* launch("m4", [{ text: "four" }])
      yield* Fiber.interrupt(second)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(second)))
      assert.strictEqual((yield* cancelTurn(messageIdOf("m3"))).status, "cancelled")
      const { millis, value } = yield* ended(third, 500)
      assert.deepStrictEqual([value.status, value.error?._tag], ["cancelled", "TurnCancelled"])
      assert.isAtMost(millis, 250)
      yield* fake.release("half")
      assert.strictEqual((yield* ended(first)).value.content, "one two three")
      assert.strictEqual((yield* ended(fourth, 500)).value.content, "four")
      assert.deepStrictEqual(yield* statuses("m2", "m3"), ["cancelled", "cancelled"])
      assert.lengthOf(yield* Turns.prompts, 2)
      assert.lengthOf(yield* Turns.aborts, 0)
    }))

  test("do not wait for a queued turn whose worker died", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      const first = yield* launch("m1", halfway)
      yield* store.claim({
        id: messageIdOf("dead"),
        conversationId,
        prompt: [{ type: "text", text: "never" }],
        lease: { owner: "dead", millis: 1000 },
        whenBusy: "queue"
      })
      const third = yield* launch("m3", [{ text: "three" }])
      yield* pass(2000)
      yield* fake.release("half")
      yield* ended(first)
      assert.strictEqual((yield* ended(third, 500)).value.content, "three")
      assert.deepStrictEqual(yield* statuses("dead"), ["queued"])
    }))

  test("take over a blocking turn whose worker died, and end it first", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { sessionId } = yield* leave(halfway, { stage: "posted", name: "orphan", leaseMillis: 4000 })
      const next = yield* launch("next", [{ text: "after it" }])
      yield* pass(3000)
      assert.deepInclude(yield* rowOf("orphan"), { status: "pending", epoch: 1 })
      yield* pass(10_000, 500)
      // The orphan runs for longer than a lease, and neither turn is lost meanwhile.
      assert.deepInclude(yield* rowOf("orphan"), { status: "pending", epoch: 2 })
      const store = yield* SessionStore
      assert.isEmpty(yield* store.listOrphans(10))
      yield* fake.release("half")
      assert.strictEqual((yield* ended(next, 500)).value.content, "after it")
      assert.deepInclude(yield* rowOf("orphan"), { status: "completed", content: "one two three", epoch: 2 })
      assert.strictEqual(yield* fake.userMessageCount(sessionId ?? ""), 2)
      assert.strictEqual(yield* fake.modelCalls, 2)
    }))

  test("find the blocking turn behind any number of messages that were cancelled in the queue", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      yield* leave(halfway, { stage: "posted", name: "orphan", leaseMillis: 4000 })
      for (let n = 0; n < 50; n++) {
        const id = messageIdOf(`waiting-${n}`)
        yield* store.claim({
          id,
          conversationId,
          prompt: [{ type: "text", text: "never" }],
          lease: { owner: "gone", millis: 1000 },
          whenBusy: "queue"
        })
        yield* store.cancel(id, "Stopped.")
      }
      yield* fake.release("half")
      const next = yield* launch("next", [{ text: "after it" }])
      yield* pass(8000, 500)
      assert.strictEqual((yield* ended(next, 500)).value.content, "after it")
      assert.deepInclude(yield* rowOf("orphan"), { status: "completed", content: "one two three", epoch: 2 })
    }))

  const polled: Array<number> = []
  test(
    "look for their place once every QueuePoll, not when the blocking turn writes its reply, and at once when it has ended",
    () =>
      Effect.gen(function*() {
        const fake = yield* FakeOpencode
        const first = yield* launch("m1", halfway)
        const second = yield* launch("m2", [{ text: "two" }])
        yield* pass(1600, 100)
        // The snapshot of the turn before it was written at 500 ms.
        assert.deepInclude(yield* rowOf("m1"), { content: "one two " })
        assert.deepStrictEqual(polled, [0, 400, 800, 1200, 1600])
        yield* fake.release("half")
        yield* ended(first)
        assert.strictEqual((yield* ended(second)).value.content, "two")
      }).pipe(Effect.provideService(TurnPolicy.QueuePoll, Duration.millis(400))),
    {
      store: (store) => ({
        findBlocker: (id) =>
          Effect.andThen(
            Effect.map(Clock.currentTimeMillis, (millis) => {
              if (polled.at(-1) !== millis) polled.push(millis)
            }),
            store.findBlocker(id)
          )
      })
    }
  )

  test("keep waiting and poll again if the store cannot name the blocking turn", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave(halfway, { stage: "posted", name: "orphan" })
      yield* fake.release("half")
      const next = yield* launch("next", [{ text: "after it" }])
      assert.deepStrictEqual(yield* statuses("orphan", "next"), ["pending", "queued"])
      yield* pass(3000)
      assert.deepStrictEqual(yield* statuses("orphan", "next"), ["pending", "queued"])
      assert.strictEqual((yield* ended(next, 3000)).value.content, "after it")
      assert.deepInclude(yield* rowOf("orphan"), { status: "completed", epoch: 2 })
    }), {
    store: (store) => {
      let calls = 0
      return {
        findOrphan: (...args) =>
          Effect.suspend(() =>
            ++calls <= 2 ? Effect.fail(Turns.unavailable("findOrphan", false)) : store.findOrphan(...args)
          )
      }
    }
  })

  test("release the orphan that they drive to the next worker when they are interrupted", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave(halfway, { stage: "posted", name: "orphan" })
      const next = yield* launch("next", [{ text: "after it" }])
      yield* pass(500)
      assert.deepInclude(yield* rowOf("orphan"), { status: "pending", epoch: 2 })
      yield* Fiber.interrupt(next)
      assert.deepInclude(yield* rowOf("orphan"), { status: "pending", epoch: 2 })
      assert.deepInclude(yield* rowOf("next"), { status: "cancelled" })
      const store = yield* SessionStore
      assert.lengthOf(yield* store.listOrphans(10), 1)
      assert.lengthOf(yield* Turns.aborts, 0)
      yield* fake.release("half")
    }))

  test("drive an orphan under its own limits, not under theirs", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave(halfway, { stage: "posted", name: "orphan" })
      const next = yield* launch("next", [{ text: "after it" }]).pipe(
        Effect.provideService(TurnPolicy.Budget, { wallClock: TurnPolicy.Lease.defaultValue() })
      )
      yield* pass(20_000, 1000)
      yield* fake.release("half")
      assert.strictEqual((yield* ended(next, 500)).value.content, "after it")
      assert.deepInclude(yield* rowOf("orphan"), { status: "completed" })
    }))

  test("that were taken over while they were frozen in the queue end quietly", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      const first = yield* launch("m1", halfway)
      const second = yield* launch("m2", [{ text: "two" }])
      yield* store.release(messageIdOf("m2"), 1)
      const taken = yield* Carrying.takeOver(messageIdOf("m2"), "another")
      const { value } = yield* ended(second, 1000)
      assert.strictEqual(value.error?._tag, "TurnTakenOver")
      assert.deepStrictEqual(yield* rowOf("m2"), taken)
      yield* fake.release("half")
      yield* ended(first)
      assert.lengthOf(yield* payloads("turn.finished"), 1)
    }))
})

describe("the turn after a cancelled one", () => {
  test("waits until the session was aborted, and is not aborted itself", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* fake.fail({ method: "POST", path: /abort$/ }, Faults.holdAt("abort"))
      const first = yield* launch("m1", halfway)
      const second = yield* launch("m2", [{ text: "two" }])
      yield* (yield* SessionStore).cancel(messageIdOf("m1"), "Stopped.")
      yield* pass(1500)
      assert.deepStrictEqual(yield* statuses("m2"), ["pending"])
      assert.lengthOf(yield* Turns.prompts, 1)
      yield* fake.release("abort")
      assert.strictEqual((yield* ended(first)).value.content, "one two ")
      assert.strictEqual((yield* ended(second, 500)).value.content, "two")
      assert.lengthOf(yield* Turns.aborts, 1)
      assert.strictEqual(yield* fake.modelCalls, 2)
    }))

  test("that did not wait for longer is not aborted either", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const first = yield* launch("m1", halfway)
      const second = yield* launch("m2", [{ text: "two" }])
      yield* fake.fail({ method: "GET", path: /\/message$/ }, Faults.holdAt("read"))
      yield* (yield* SessionStore).cancel(messageIdOf("m1"), "Stopped.")
      yield* pass(3000)
      assert.lengthOf(yield* Turns.prompts, 2)
      yield* fake.release("read")
      assert.strictEqual((yield* ended(first, 500)).value.status, "cancelled")
      assert.lengthOf(yield* Turns.aborts, 0)
      yield* fake.release("half")
      assert.strictEqual((yield* ended(second, 4000)).value.content, "two")
      assert.deepStrictEqual(yield* texts, ["one two three", "two"])
    }))

  test("starts at once if the session is idle or the server cannot tell", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* ended(yield* launch("m1", [{ text: "one" }]))
      yield* ended(yield* launch("m2", [{ text: "two" }]))
      yield* fake.fail({ method: "GET", path: "/session/status" }, Faults.status(400))
      const { millis, value } = yield* ended(yield* launch("m3", [{ text: "three" }]))
      assert.strictEqual(value.content, "three")
      assert.strictEqual(millis, 0)
    }))
})
