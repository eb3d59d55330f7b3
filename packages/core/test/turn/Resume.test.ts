import { assert, describe } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { SessionId } from "@opencode-turn/core/Ids"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { resumeTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Faults from "@opencode-turn/testing/Faults"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Carrying from "../support/carrying.ts"
import * as Driving from "../support/driving.ts"
import * as Turns from "../support/turns.ts"

const { ended, halfway, launch, leave, pass, takeOver } = Carrying
const { conversationId, messageId, names, payloads, row, test } = Turns

/** Says two words, and when it is asked again begins anew. */
const killed: ReadonlyArray<Step> = [
  { text: "one two three", gate: "half", gateAfter: 2, ending: "hang" },
  { text: "From the start." }
]

/** Takes the message over and resumes it, as far as it can go. */
const resume = Effect.fnUntraced(function*<E = never, R = never>(extras?: Partial<TurnInput<E, R>>) {
  const fiber = yield* Effect.forkChild(resumeTurn(yield* takeOver(messageId), extras))
  yield* Turns.rest
  return fiber
})

/** A turn whose worker let it go, or died, in the middle of its answer, after its snapshot. */
const abandon = Effect.fnUntraced(function*(steps = halfway) {
  const fake = yield* FakeOpencode
  const fiber = yield* launch(messageId, steps).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
  yield* fake.reached("half")
  yield* Fiber.interrupt(fiber)
  assert.deepInclude(yield* row, { status: "pending", content: "one two " })
  return fiber
})

/** What a reader of the updates sees after each of them. */
const shownBy = () => {
  const updates: Array<ReplyUpdate> = []
  return {
    shown: () => updates.map((_, index) => Turns.readText(updates.slice(0, index + 1))),
    observers: [(update: ReplyUpdate) => Effect.sync(() => void updates.push(update))]
  }
}

const assertAnswered = Effect.fnUntraced(function*(
  result: TurnResult,
  expected: { readonly text: string; readonly modelCalls?: number; readonly posts?: number }
) {
  const fake = yield* FakeOpencode
  assert.isUndefined(result.error, result.error?.message)
  assert.strictEqual(result.content, expected.text)
  assert.deepInclude(yield* row, { status: "completed", content: expected.text, epoch: 2, owner: "worker" })
  assert.strictEqual(yield* fake.modelCalls, expected.modelCalls ?? 1, "model calls")
  assert.lengthOf(yield* Turns.prompts, expected.posts ?? 1)
  assert.strictEqual(yield* fake.userMessageCount(result.sessionId ?? ""), 1, "user messages")
  assert.deepStrictEqual(yield* Turns.reports, [])
})

describe("a turn that was claimed and has no prompt yet", () => {
  test("runs with the choices of its draft", () =>
    Effect.gen(function*() {
      const permission = [{ permission: "bash", pattern: "*", action: "deny" }] as const
      yield* leave([{ text: "Hi." }], {
        stage: "claimed",
        draft: { agent: "plan", model: "scripted/m", system: "Be brief.", title: "A talk", permission }
      })
      const { value } = yield* ended(yield* resume())
      yield* assertAnswered(value, { text: "Hi." })
      const [post] = yield* Turns.prompts
      const [created] = yield* Turns.requests("POST", /^\/session$/)
      assert.deepInclude(post?.body, {
        agent: "plan",
        model: { providerID: "scripted", modelID: "m" },
        system: "Be brief."
      })
      assert.deepStrictEqual(created?.body, {
        title: "A talk",
        permission: [...permission],
        metadata: { conversationId: "conversation" }
      })
      assert.deepStrictEqual(yield* names, ["session.created", "stream.completed", "turn.finished"])
    }))

  test("takes values that cannot be stored from the worker, but not its own identity", () =>
    Effect.gen(function*() {
      yield* leave([{ text: "Hi." }], { stage: "claimed" })
      const told: Array<string> = []
      const { value } = yield* ended(
        yield* resume({
          conversationId: "another",
          messageId: "another",
          prompt: "another",
          agent: Effect.succeed("plan"),
          onFinalized: ({ id }) => Effect.sync(() => void told.push(`finalized ${id}`)),
          onTurnFinished: ({ status }) => Effect.sync(() => void told.push(`finished ${status}`))
        })
      )
      yield* assertAnswered(value, { text: "Hi." })
      assert.strictEqual(value.conversationId, conversationId)
      assert.deepInclude((yield* Turns.prompts)[0]?.body, { agent: "plan" })
      assert.deepStrictEqual(told, [`finalized ${messageId}`, "finished completed"])
    }))

  test("in the queue waits for its turn", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      const first = yield* launch("first", halfway)
      yield* store.claim({
        id: messageId,
        conversationId,
        prompt: Carrying.promptOf([{ text: "Hi." }]),
        lease: { owner: "dead", millis: 0 },
        whenBusy: "queue"
      })
      const fiber = yield* resume()
      yield* pass(10_000)
      assert.deepInclude(yield* row, { status: "queued", epoch: 2 })
      yield* fake.release("half")
      yield* ended(first)
      const { value } = yield* ended(fiber, 500)
      assert.strictEqual(value.content, "Hi.")
      // Nobody had started it.
      assert.lengthOf(yield* payloads("response.started"), 2)
      assert.lengthOf(yield* payloads("turn.finished"), 2)
    }))

  test("ends with an error if its row cannot be run", () =>
    Effect.gen(function*() {
      yield* leave([], { stage: "claimed", draft: { model: "nonsense" } })
      const { value } = yield* ended(yield* resume())
      assert.strictEqual(value.error?._tag, "InvalidInput")
      assert.deepInclude(yield* row, { status: "error" })
    }))
})

describe("a turn whose ids were recorded", () => {
  test("and never posted is posted under them", () =>
    Effect.gen(function*() {
      const { promptId } = yield* leave([{ text: "Hi." }], { stage: "recorded" })
      const { millis, value } = yield* ended(yield* resume())
      assert.strictEqual(millis, 0)
      assert.strictEqual(value.promptId, promptId)
      yield* assertAnswered(value, { text: "Hi." })
      assert.notInclude(yield* names, "response.started")
    }))

  test("and is answered is read", () =>
    Effect.gen(function*() {
      yield* leave([{ text: "Hi." }], { stage: "posted" })
      const { millis, value } = yield* ended(yield* resume())
      assert.strictEqual(millis, 0)
      yield* assertAnswered(value, { text: "Hi." })
      assert.deepStrictEqual(yield* names, ["response.recovered_from_exchange", "turn.finished"])
    }))

  test("and runs is followed to its end", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave(halfway, { stage: "posted" })
      const fiber = yield* resume()
      yield* pass(3000)
      assert.isUndefined(fiber.pollUnsafe())
      yield* fake.release("half")
      yield* assertAnswered((yield* ended(fiber)).value, { text: "one two three" })
      assert.lengthOf(yield* payloads("turn.finished"), 1)
    }))

  test("and was left unfinished by a killed server is reposted under them", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { promptId } = yield* leave(killed, { stage: "posted" })
      yield* fake.kill
      yield* fake.start
      const { value } = yield* ended(yield* resume(), 10_000)
      assert.strictEqual(value.promptId, promptId)
      yield* assertAnswered(value, { text: "From the start.", modelCalls: 2, posts: 2 })
    }))

  test("in a session that is lost gets a new one", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { promptId, sessionId } = yield* leave([{ text: "Hi." }], { stage: "posted" })
      yield* fake.deleteSession(sessionId ?? "")
      const { value } = yield* ended(yield* resume())
      assert.isTrue(value.isRecreated)
      assert.notStrictEqual(value.promptId, promptId)
      yield* assertAnswered(value, { text: "Hi.", modelCalls: 2, posts: 2 })
    }))

  test("and failed upstream ends with that error, and is not reposted", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave([{ fail: 400, message: "no" }, { text: "Never." }], { stage: "posted" })
      const { value } = yield* ended(yield* resume())
      assert.deepStrictEqual([value.status, value.error?._tag], ["error", "Upstream"])
      assert.deepInclude(yield* row, { status: "error", epoch: 2 })
      assert.strictEqual(yield* fake.modelCalls, 1)
      assert.lengthOf(yield* Turns.prompts, 1)
    }))

  test("and was aborted on the server is cancelled, and keeps its text", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const fake = yield* FakeOpencode
      const { sessionId } = yield* leave([...halfway, { text: "Never." }], { stage: "posted" })
      yield* client.abortSession(SessionId.make(sessionId ?? ""))
      yield* Turns.rest
      const { value } = yield* ended(yield* resume())
      assert.deepStrictEqual([value.status, value.content], ["cancelled", "one two "])
      assert.strictEqual(yield* fake.modelCalls, 1)
      assert.lengthOf(yield* Turns.prompts, 1)
    }))
})

describe("the reply of a resumed turn", () => {
  test("shows the last snapshot until the server says more, and nothing twice", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* abandon()
      const { observers, shown } = shownBy()
      const fiber = yield* resume({ observers })
      yield* pass(5000)
      assert.deepInclude(yield* row, { content: "one two " })
      assert.strictEqual(shown().at(-1), "one two ")
      yield* fake.release("half")
      const { value } = yield* ended(fiber)
      yield* assertAnswered(value, { text: "one two three" })
      assert.strictEqual(shown().at(-1), "one two three")
      // It shows nothing before it has begun.
      const [first, ...texts] = shown()
      assert.strictEqual(first, "")
      for (const text of texts) assert.isTrue("one two three".startsWith(text) && text !== "", `"${text}"`)
      assert.deepStrictEqual(yield* names, [
        "response.started",
        "session.created",
        "stream.completed",
        "turn.finished"
      ])
    }))

  test("is the server's in the end, even if the answer started again", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* abandon(killed)
      yield* fake.kill
      yield* fake.start
      const { value } = yield* ended(yield* resume(), 10_000)
      yield* assertAnswered(value, { text: "From the start.", modelCalls: 2, posts: 2 })
    }))

  test("is kept if the server is unreachable, even if the turn fails because of that", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* abandon()
      yield* fake.fail({ method: "GET" }, Faults.status(503), Infinity)
      const fiber = yield* resume()
      yield* pass(1500)
      assert.isUndefined(fiber.pollUnsafe())
      assert.deepInclude(yield* row, { status: "pending", content: "one two " })
      const { value } = yield* ended(fiber, 300_000)
      assert.strictEqual(value.error?._tag, "StatusError")
      assert.deepInclude(yield* row, { status: "error", content: "one two " })
      yield* fake.clearFaults
      yield* fake.release("half")
    }))

  test("is kept if the resumed turn is released before the server answered", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* abandon()
      yield* fake.hang({ method: "GET" })
      const fiber = yield* resume().pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
      yield* Fiber.interrupt(fiber)
      assert.deepInclude(yield* row, { status: "pending", content: "one two ", epoch: 2 })
      yield* fake.clearFaults
      yield* fake.release("half")
    }))

  test("is kept if the resumed turn is cancelled", () =>
    Effect.gen(function*() {
      yield* abandon()
      const fiber = yield* resume()
      yield* Fiber.interrupt(fiber)
      assert.deepInclude(yield* row, { status: "cancelled", content: "one two ", epoch: 2 })
      assert.lengthOf(yield* Turns.aborts, 1)
    }))
})

/** The last message has its reason to end and no time of it: a server that is killed between the two leaves it so (1.18.33). */
const withoutEnds = Driving.rewritten((body) =>
  JSON.parse(JSON.stringify(body, (key, value) => (key === "completed" ? undefined : value)))
)

describe("an answer whose end the server was killed over", () => {
  test("is read, and its prompt is not reposted", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave([{ text: "All of it." }], { stage: "posted" })
      yield* fake.fail({ method: "GET", path: /\/message$/ }, withoutEnds, Infinity)
      const { value } = yield* ended(yield* resume(), 10_000)
      yield* assertAnswered(value, { text: "All of it." })
    }))
})

describe("the limits of a resumed turn", () => {
  test("are the turn's own, not those of the worker", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const store = yield* SessionStore
      const fiber = yield* launch(messageId, halfway).pipe(
        Effect.provideService(TurnPolicy.OnInterrupt, "release"),
        Effect.provideService(TurnPolicy.Budget, { wallClock: Duration.seconds(20) })
      )
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual((yield* row)?.draft?.policy, { budget: { wallClockMillis: 20_000 } })
      yield* store.release(messageId, 1)
      const resumed = yield* resume().pipe(Effect.provideService(TurnPolicy.Budget, { wallClock: Duration.seconds(5) }))
      yield* pass(19_000, 1000)
      assert.isUndefined(resumed.pollUnsafe())
      assert.strictEqual((yield* ended(resumed, 1001)).value.error?._tag, "BudgetExceeded")
      yield* fake.release("half")
    }))

  test("decide whether it may end in silence", () =>
    Effect.gen(function*() {
      for (const [name, allowSilent] of [["silent", true], ["spoken", false]] as const) {
        yield* leave([{ reasoning: "Hm." }], {
          stage: "posted",
          name,
          conversation: name,
          draft: { policy: { allowSilent } }
        })
        const resuming = yield* Effect.forkChild(
          Effect.provideService(
            resumeTurn(yield* takeOver(Carrying.messageIdOf(name))),
            TurnPolicy.AllowSilent,
            !allowSilent
          )
        )
        const { value } = yield* ended(resuming, 10_000)
        assert.deepInclude(value, {
          status: allowSilent ? "completed" : "error",
          isFallback: !allowSilent,
          finish: "stop"
        })
        assert.deepInclude(value.message, { isFallback: !allowSilent, finish: "stop" })
      }
    }))

  test("are the defaults if it has none", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      yield* leave(halfway, { stage: "posted" })
      const resumed = yield* resume().pipe(Effect.provideService(TurnPolicy.Budget, { wallClock: Duration.seconds(5) }))
      yield* pass(60_000, 1000)
      yield* fake.release("half")
      assert.strictEqual((yield* ended(resumed)).value.content, "one two three")
    }))
})
