import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Fault } from "@opencode-turn/testing/Faults"
import * as Storm from "@opencode-turn/testing/Storm"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { assertCompleted, finish, layer, rest, start } from "../support/driving.ts"

/** With this many, quadratic work would take minutes. */
const many = 10_000

const isAnswer = { method: "POST", path: /\/(?:permission|question)\/[^/]+\/(?:reply|reject)$/ }
const isAbort = { method: "POST", path: /\/abort$/ }
const within = (budget: TurnPolicy.Budget) => Effect.provideService(TurnPolicy.Budget, budget)
const unlimited = within({ openAsks: Infinity, subagents: Infinity, messages: Infinity, parts: Infinity })
const gated = (gate: HumanGate.Gate) => Effect.provideService(HumanGate.HumanGate, gate)

/** A turn that has sent text and waits for its model while the storm takes place. */
const startStorm = Effect.fnUntraced(function*(
  storm: (place: Storm.Storm) => ReadonlyArray<Storm.StormEvent>,
  count: number
) {
  const fake = yield* FakeOpencode
  const running = yield* start([{ text: "some words", gate: "model" }])
  const sessionId = (yield* fake.sessions)[0] ?? ""
  const messageId = (yield* fake.messages(sessionId)).at(-1)?.info.id ?? ""
  const place = { sessionId, messageId, count }
  yield* Effect.forEach(storm(place), fake.emit, { discard: true })
  return { running, ...place }
})

/** Counts the requests and the concurrent ones among them. Each takes some turns of the scheduler. */
const counting = () => {
  const counts = { all: 0, now: 0, most: 0 }
  const fault: Fault = (serve) =>
    Effect.suspend(() => {
      counts.all++
      counts.most = Math.max(counts.most, ++counts.now)
      return Effect.repeat(Effect.yieldNow, { times: 5 }).pipe(Effect.andThen(serve))
    }).pipe(Effect.ensuring(Effect.sync(() => counts.now--)))
  return { counts, fault }
}

const storms = [
  { name: "permissions", count: many, storm: Storm.permissions },
  { name: "questions", count: many, storm: Storm.questions },
  // Each is read at the end, and the fake takes its time.
  { name: "subagents", count: 3000, storm: Storm.subagents },
  { name: "open texts", count: 20_000, storm: Storm.openTexts },
  { name: "tools in one message", count: many, storm: Storm.tools },
  { name: "to-do lists", count: many, storm: Storm.todos },
  { name: "prompts of others", count: many, storm: Storm.prompts }
] as const

// The work of a storm

it.effect.each(storms)(
  "a turn without limits comes through a storm of $count $name",
  ({ count, storm }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { running, sessionId } = yield* startStorm(storm, count)
      yield* rest
      assert.isFalse(running.isDone())
      yield* fake.emit({ type: "session.idle", properties: { sessionID: sessionId } })
      yield* fake.release("model")
      const { result } = yield* finish(running, 30)
      assert.strictEqual(result.status, "completed", result.error?.message)
      assert.strictEqual(result.content, "some words")
    }).pipe(unlimited, gated(HumanGate.wait), Effect.provide(layer()))
)

it.effect.each([
  { name: "permissions", storm: Storm.permissions },
  { name: "questions", storm: Storm.questions }
])(
  "answers $name with a bounded number of posts at once, and each of them once",
  ({ storm }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { counts, fault } = counting()
      yield* fake.fail(isAnswer, fault, Infinity)
      const { running } = yield* startStorm(storm, 900)
      yield* Effect.repeat(rest, { until: () => counts.all >= 900 })
      yield* rest
      assert.strictEqual(counts.all, 900)
      assert.isAtMost(counts.most, 8)
      yield* fake.release("model")
      assertCompleted(yield* finish(running, 30), { text: "some words", modelCalls: 1 })
    }).pipe(gated(HumanGate.allow), Effect.provide(layer())),
  { timeout: 60_000 }
)

it.effect(
  "sends the refusals of a storm after all of them are known, having read the server's lists once or twice",
  () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { counts, fault } = counting()
      yield* fake.fail(isAnswer, fault, Infinity)
      yield* startStorm(Storm.permissions, 900)
      yield* Effect.repeat(rest, { until: () => counts.all >= 900 })
      yield* rest
      assert.strictEqual(counts.all, 900)
      assert.strictEqual(counts.most, 1)
      const lists = (yield* fake.requests).filter(({ method, path }) => method === "GET" && path === "/permission")
      assert.isAtMost(lists.length, 4)
    }).pipe(gated(HumanGate.deny), Effect.provide(layer())),
  { timeout: 60_000 }
)

// The limits of a turn

it.effect.each<{
  readonly name: string
  readonly limit: keyof TurnPolicy.Budget & keyof typeof TurnPolicy.defaultSize
  readonly storm: (place: Storm.Storm) => ReadonlyArray<Storm.StormEvent>
}>([
  { name: "permissions", limit: "openAsks", storm: Storm.permissions },
  { name: "questions", limit: "openAsks", storm: Storm.questions },
  { name: "subagents", limit: "subagents", storm: Storm.subagents },
  { name: "open texts", limit: "parts", storm: Storm.openTexts },
  { name: "tools", limit: "parts", storm: Storm.tools },
  { name: "prompts of others", limit: "messages", storm: Storm.prompts }
])(
  "ends a turn with more $name than its budget allows, keeps what it said, and stops its session",
  ({ limit, storm }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const client = yield* Client
      const { counts, fault } = counting()
      yield* fake.fail(isAbort, fault, Infinity)
      const { running, sessionId } = yield* startStorm(storm, 60)
      const { requests, result } = yield* finish(running, 30)
      assert(result.error?._tag === "BudgetExceeded", result.error?.message)
      assert.deepInclude(result.error, { limit, allowed: 50 })
      assert.isAbove(result.error.value, 50)
      assert.include(result.error.message, "; allowed: 50")
      assert.strictEqual(result.status, "error")
      assert.strictEqual(result.message?.status, "error")
      assert.include(result.content, "some words")
      assert.isAtMost(counts.most, 4)
      assert.isTrue(requests.some(({ path }) => path === `/session/${sessionId}/abort`))
      assert.deepStrictEqual([...(yield* client.statuses).keys()], [])
    }).pipe(
      within({ [limit]: 50 }),
      gated(HumanGate.wait),
      Effect.provide(layer())
    )
)

// That of parts is applied in the same way, and takes a hundred thousand of them.
it.effect.each(
  [
    { limit: "openAsks", storm: Storm.permissions },
    { limit: "subagents", storm: Storm.subagents },
    { limit: "messages", storm: Storm.prompts }
  ] as const
)(
  "applies the default limit of $limit if the budget does not set one",
  ({ limit, storm }) =>
    Effect.gen(function*() {
      const allowed = TurnPolicy.defaultSize[limit]
      const { running } = yield* startStorm(storm, allowed + 10)
      const { result } = yield* finish(running, 30)
      assert.deepInclude(result.error, { _tag: "BudgetExceeded", limit, allowed })
    }).pipe(gated(HumanGate.wait), Effect.provide(layer()))
)

it.effect("refuses an invalid limit", () =>
  Effect.gen(function*() {
    const { error } = yield* runTurn({ conversationId: "42", prompt: "hello" })
    assert.deepInclude(error, { _tag: "InvalidInput", field: "TurnPolicy.Budget" })
  }).pipe(within({ subagents: -1 }), Effect.provide(layer())))

// Other turns

it.effect.each([
  { name: "permissions", storm: Storm.permissions },
  { name: "subagents", storm: Storm.subagents },
  { name: "tools", storm: Storm.tools }
])(
  "a turn ends while another one on the same client is at work on a storm of $name",
  ({ storm }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const { counts, fault } = counting()
      yield* fake.fail(isAnswer, fault, Infinity)
      const { running, ...place } = yield* startStorm(storm, 0)
      yield* fake.script([{ text: "the other answer", gate: "other" }])
      const other = yield* Effect.forkChild(runTurn({ conversationId: "other", prompt: "hello" }))
      yield* fake.reached("other")
      const events = storm({ ...place, count: many })
      const send = (part: ReadonlyArray<Storm.StormEvent>) => Effect.forEach(part, fake.emit, { discard: true })
      yield* send(events.slice(0, events.length / 2))
      yield* fake.release("other")
      let left = events.slice(events.length / 2)
      // The storm goes on for as long as the other turn runs.
      const storming = Effect.whileLoop({
        while: () => left.length > 0 && other.pollUnsafe() === undefined,
        body: () => {
          const [now, later] = [left.slice(0, 10), left.slice(10)]
          left = later
          return Effect.andThen(send(now), Effect.yieldNow)
        },
        step: () => {}
      })
      yield* storming
      const { content, status } = yield* Fiber.join(other)
      assert.deepStrictEqual({ content, status }, { content: "the other answer", status: "completed" })
      assert.isAbove(left.length, 0, "the storm had ended before the other turn")
      assert.isFalse(running.isDone())
      assert.isAtMost(counts.most, 8)
      assert.isBelow(counts.all, many)
      yield* Fiber.interrupt(running.fiber)
    }).pipe(unlimited, gated(HumanGate.allow), Effect.provide(layer()))
)
