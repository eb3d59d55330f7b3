import { findOrphans, makeCarry, sweepOrphans, work } from "#cli/run/Resume"
import { failed } from "#cli/setup/Failure"
import { Streams } from "#cli/setup/Streams"
import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"

const idOf = (number: number) => AssistantMessageId.make(`asm_${String(number).padStart(2, "0")}`)

/** Stores turns without an owner, the first one first. */
const storeOrphans = Effect.fnUntraced(function*(count: number) {
  const store = yield* SessionStore
  for (let number = 0; number < count; number++) {
    const { epoch, id } = yield* store.claim({
      id: idOf(number),
      conversationId: ConversationId.make(`conversation ${number}`),
      prompt: [{ type: "text", text: "go" }],
      draft: { origin: "http://one:4096" },
      lease: { owner: "gone", millis: 1000 }
    })
    yield* store.release(id, epoch)
    yield* TestClock.adjust(1)
  }
})

/** Sweeps a few times, and gives how often each turn was carried. */
const sweeps = Effect.fnUntraced(function*(
  times: number,
  carry: (id: AssistantMessageId) => Effect.Effect<void, ReturnType<typeof failed>>
) {
  const carried = new Map<AssistantMessageId, number>()
  const sweeping = yield* Effect.forkChild(
    sweepOrphans(({ id }) => {
      carried.set(id, (carried.get(id) ?? 0) + 1)
      return carry(id)
    }, () => Effect.void)
  )
  for (let time = 0; time < times; time++) yield* TestClock.adjust(yield* TurnPolicy.SweepInterval)
  yield* Fiber.interrupt(sweeping)
  return carried
})

it.effect("turns that cannot be resumed do not hide those behind them, and are tried again", () =>
  Effect.gen(function*() {
    yield* storeOrphans(50)
    const isBad = (id: AssistantMessageId) => id < idOf(40)
    const carried = yield* sweeps(10, (id) => isBad(id) ? Effect.fail(failed("unreachable")) : Effect.void)
    assert.lengthOf(carried, 50)
    assert.isAbove(carried.get(idOf(0)) ?? 0, 1)
  }).pipe(Effect.provide(MemorySessionStore.layer)))

it.effect("turns that are being taken over do not hide those behind them", () =>
  Effect.gen(function*() {
    yield* storeOrphans(20)
    const carried = yield* sweeps(5, (id) => id < idOf(15) ? Effect.never : Effect.fail(failed("unreachable")))
    assert.lengthOf(carried, 20)
  }).pipe(Effect.provide(MemorySessionStore.layer)))

it.effect("leaves a turn of another server alone, says so once, and carries those behind it", () =>
  Effect.gen(function*() {
    const store = yield* SessionStore
    const client = yield* Client
    yield* storeOrphans(2)
    const conversationId = ConversationId.make("conversation 0")
    const elsewhere = yield* client.createSession({})
    yield* store.setSession(conversationId, Option.none(), elsewhere.id)
    yield* client.deleteSession(elsewhere.id)
    const told: Array<string> = []
    const streams = Streams.of({
      answer: () => Effect.void,
      progress: (text) => Effect.sync(() => void told.push(text)),
      aside: () => Effect.void,
      holdAsides: Effect.void,
      isShared: false,
      isScreen: false,
      hasColor: false,
      columns: () => 100
    })
    const ended: Array<string> = []
    const clients = () => Effect.succeed(Context.make(Client, client))
    const working = yield* makeCarry(
      clients,
      ({ messageId }) => Effect.sync(() => void ended.push(messageId))
    ).pipe(Effect.flatMap((carry) => work(carry, clients)), Effect.provideService(Streams, streams), Effect.forkChild)
    for (let time = 0; time < 5; time++) yield* TestClock.adjust(yield* TurnPolicy.SweepInterval)
    yield* Fiber.interrupt(working)
    assert.deepStrictEqual(told, [
      `opencode-turn: asm_00 is left alone: the turn began on OpenCode at http://one:4096, and OpenCode at ` +
      `${client.origin} does not know its session: carry it on there, or cancel it\n`
    ])
    assert.deepInclude(Option.getOrThrow(yield* store.getMessage(idOf(0))), { status: "pending", epoch: 1 })
    assert.deepStrictEqual(ended, [idOf(1)])
  }).pipe(
    Effect.provide(Layer.mergeAll(FakeOpencode.layerTest(), MemorySessionStore.layer, Tracer.layerNoop))
  ))

it.effect("waits for the lease of an owner that died on a busy machine, which had asked for more time", () =>
  Effect.gen(function*() {
    const store = yield* SessionStore
    yield* store.claim({
      id: idOf(0),
      conversationId: ConversationId.make("conversation"),
      prompt: [],
      lease: { owner: "gone", millis: 15_000 }
    })
    const finding = yield* Effect.forkChild(findOrphans({ note: () => Effect.void }))
    yield* TestClock.adjust("15 seconds")
    assert.deepStrictEqual((yield* Fiber.join(finding)).map(({ id }) => id), [idOf(0)])
  }).pipe(Effect.provide(MemorySessionStore.layer)))
