/** Whole turns against every hostile behaviour: each one ends, and the next one on the server that behaves again completes. */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { assert, it } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as FakeServer from "@opencode-turn/testing/FakeServer"
import * as Hostile from "@opencode-turn/testing/Hostile"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"

const password = "correct horse battery staple"
const fake = { password: Redacted.make(password) }

const steps: ReadonlyArray<Step> = [
  { reasoning: "let me think", text: "I look.", tool: "bash", args: { command: "ls" } },
  { text: "That is it." }
]

const turn = (steps: ReadonlyArray<Step>) =>
  runTurn({
    conversationId: "42",
    prompt: FakeOpencode.prompt("Do it.", steps),
    title: "a title",
    permission: [{ permission: "bash", pattern: "*", action: "ask" }]
  }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.allow))

/** How a turn may end that a server keeps from its answer: told by the server or its silence, and nothing of our own that broke. */
const ends = [
  "AnswerTooLarge",
  "BudgetExceeded",
  "DecodeError",
  "RequestTimeout",
  "StatusError",
  "StreamLost",
  "TransportError",
  "TurnUnfinished",
  "UnsupportedServer"
]

const assertEnded = ({ content, error, message, reply, status }: TurnResult) => {
  if (error === undefined) {
    assert.strictEqual(status, "completed")
    assert.match(content, /^I look\.[^]*That is it\./)
  } else assert.include(ends, error._tag, error.message)
  assert.notInclude(["queued", "pending"], message?.status)
  const told = JSON.stringify([error, error?.message, message, reply])
  assert.notInclude(told, password)
  assert.notInclude(told, btoa(`opencode:${password}`))
}

/** The server behaves again: the same conversation goes on. */
const assertHealthy = Effect.fnUntraced(function*<E, R>(turn: Effect.Effect<TurnResult, E, R>) {
  const fake = yield* FakeOpencode.FakeOpencode
  yield* fake.clearFaults
  yield* fake.cutEvents
  const next = yield* turn
  assert.strictEqual(next.error, undefined)
  assert.strictEqual(next.content, "healthy")
  const store = yield* SessionStore
  assert.deepStrictEqual(yield* store.listByStatus({ status: "pending", limit: 10 }), [])
})

const budget = Duration.seconds(60)
/** So long the parts of an end may take beside the budget: the last look, the abort with its readings, and subagents. */
const endSeconds = 30

const onTestClock = <E, R>(turn: Effect.Effect<TurnResult, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(turn)
    const isDone = () => fiber.pollUnsafe() !== undefined
    const seconds = Duration.toSeconds(budget) + endSeconds
    for (let second = 0; second < seconds && !isDone(); second++) yield* TestClock.adjust("1 second")
    assert.isTrue(isDone(), "the turn still runs")
    return yield* Fiber.join(fiber)
  })

// Nothing decompresses in memory: that is asked over the network.
it.effect.each(Hostile.behaviours().filter(({ name }) => !name.startsWith("a compressed answer")))(
  "a turn ends, and the next one completes: $name",
  (behaviour) =>
    Effect.gen(function*() {
      yield* Hostile.unleash(behaviour)
      assertEnded(yield* onTestClock(turn(steps)))
      yield* assertHealthy(onTestClock(turn([{ text: "healthy" }])))
    }).pipe(
      Effect.provideService(TurnPolicy.Budget, { wallClock: budget }),
      Effect.provide(Layer.mergeAll(FakeOpencode.layerTest(fake), MemorySessionStore.layer, Tracer.layerCollect()))
    )
)

// Over a network, where the client decompresses, follows and buffers as it does in a program.

const overNetwork = (http: typeof FetchHttpClient.layer) =>
  Layer.unwrap(Effect.map(FakeServer.FakeServer, ({ url }) => Client.layer({ ...fake, baseUrl: url }))).pipe(
    Layer.provide([http, FakeServer.layer()]),
    Layer.provideMerge(Layer.mergeAll(FakeOpencode.layer(fake), MemorySessionStore.layer, Tracer.layerCollect()))
  )

/** Four times what is kept of an answer or an event, with room for what is not collected yet. Without a limit it is GBs in seconds. */
const maxBytes = 512 * 1024 * 1024

const heapBytes = () => {
  const { external, heapUsed } = process.memoryUsage()
  return heapUsed + external
}

it.live.each(
  [
    { name: "an answer that never ends, for the messages", client: "undici" },
    { name: "a compressed answer that never ends, for the messages", client: "fetch" },
    { name: "an error that never ends, for the prompt", client: "undici" },
    { name: "an event that never ends", client: "undici" },
    { name: "one event of 65 MiB", client: "fetch" },
    { name: "message ids of 1 MB", client: "undici" },
    { name: "a body that breaks in the middle, for the messages", client: "undici" },
    { name: "a redirect, for the session", client: "fetch" }
  ] as const
)("over a network a turn ends within a bound of memory: $name ($client)", ({ client, name }) =>
  Effect.gen(function*() {
    const behaviour = yield* Effect.fromNullishOr(Hostile.behaviours().find((behaviour) => behaviour.name === name))
    const before = heapBytes()
    let most = before
    const watch = Effect.forever(Effect.delay(
      Effect.sync(() => {
        most = Math.max(most, heapBytes())
      }),
      "20 millis"
    ))
    yield* Hostile.unleash(behaviour)
    assertEnded(yield* Effect.raceFirst(turn(steps), watch))
    assert.isBelow(most - before, maxBytes)
    yield* assertHealthy(turn([{ text: "healthy" }]))
  }).pipe(
    Effect.provideService(TurnPolicy.Budget, { wallClock: Duration.seconds(30) }),
    Effect.provide(overNetwork(client === "fetch" ? FetchHttpClient.layer : NodeHttpClient.layerUndici))
  ))
