import * as LiveReply from "#drive/LiveReply"
import { assert, describe, it } from "@effect/vitest"
import * as Reply from "@opencode-turn/core/Reply"
import * as ReplyUpdate from "@opencode-turn/core/ReplyUpdate"
import type { TurnUpdate } from "@opencode-turn/core/Turn"
import { streamTurn } from "@opencode-turn/core/Turn"
import type { TurnEvent } from "@opencode-turn/core/TurnEvent"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Ref from "effect/Ref"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Make from "../support/make.ts"
import * as Tapes from "../support/tapes.ts"
import * as Turns from "../support/turns.ts"

const { promptId, root } = Make
const answer = Make.message(Make.assistant())
const open = Make.part(Make.text("a", "", false))

/** A live reply that has begun, and what its watcher has got. */
const watched = Effect.gen(function*() {
  const live = yield* LiveReply.make
  const queue = yield* live.watch
  live.begin({ sessionId: root, promptId })
  return {
    live,
    read: Queue.clear(queue),
    send: (...events: ReadonlyArray<TurnEvent>) => {
      for (const event of events) live.apply(event)
      live.flush()
    }
  }
})
const tags = (updates: ReadonlyArray<ReplyUpdate.ReplyUpdate>) => updates.map((update) => update._tag)

describe("a watcher", () => {
  it.effect("gets nothing before the flush, then one delta for each part and read", () =>
    Effect.gen(function*() {
      const { live, read, send } = yield* watched
      send(answer, open)
      yield* read
      for (const word of ["one ", "two ", "three"]) live.apply(Make.delta("a", word))
      assert.deepStrictEqual(yield* read, [])
      live.flush()
      assert.deepStrictEqual(yield* read, [{
        _tag: "TextDelta",
        partId: Make.text("a", "").id,
        delta: "one two three"
      }])
    }))

  it.effect("gets the changes of reasoning, tools, to-dos, subagents, asks and retries too", () =>
    Effect.gen(function*() {
      const { read, send } = yield* watched
      send(answer, Make.part(Make.thought("r", "", false)), Make.delta("r", "hm"), Make.part(Make.thought("r", "hm.")))
      send(Make.todos("look"))
      send(Make.opened(Make.child, root), Make.asked("per_1"), Make.resolved("per_1"), Make.retry(1), Make.busy())
      assert.deepStrictEqual(tags(yield* read), [
        "PartChanged",
        "ReasoningDelta",
        "PartChanged",
        "TodosChanged",
        "SubagentChanged",
        "Asked",
        "AskResolved",
        "Retrying"
      ])
    }))

  it.effect("gets nothing for foreign sessions, for the user's message, and for events that change nothing", () =>
    Effect.gen(function*() {
      const { read, send } = yield* watched
      send(answer, open, Make.delta("a", "one"))
      yield* read
      send(answer, open, Make.delta("a", "x", { sessionId: Make.stranger }), Make.message(Make.user()), Make.busy())
      assert.deepStrictEqual(yield* read, [])
    }))

  it.effect("gets parts that came before their message once the message is known", () =>
    Effect.gen(function*() {
      const { live, read, send } = yield* watched
      send(open, Make.delta("a", "early"), Make.part(Make.tool("t")))
      assert.deepStrictEqual(yield* read, [])
      send(answer)
      const parts = Reply.parts(live.current())
      assert.lengthOf(parts, 2)
      assert.deepStrictEqual(yield* read, parts.map((part) => ({ _tag: "PartChanged", part })))
    }))

  it.effect("gets the whole reply if such a part precedes one that is already shown", () =>
    Effect.gen(function*() {
      const { live, read, send } = yield* watched
      send(Make.part(Make.text("b", "", false, "msg_21")), answer, open, Make.delta("a", "one"))
      yield* read
      send(Make.message(Make.assistant("msg_21")))
      assert.deepStrictEqual(yield* read, [{
        _tag: "Reset",
        reason: "reconciled",
        ...ReplyUpdate.shown(live.current())
      }])
    }))

  it.effect("is told which parts were removed, and which asks ended with their run", () =>
    Effect.gen(function*() {
      const { read, send } = yield* watched
      const { id } = Make.text("a", "")
      send(answer, open, Make.delta("a", "one"), Make.part(Make.tool("t")), Make.asked("per_1"))
      const before = yield* read
      send({ _tag: "PartRemoved", ...Make.base(), messageId: Make.answerId, partId: id })
      const removed = yield* read
      assert.deepStrictEqual(removed, [{ _tag: "PartRemoved", partId: id }])
      assert.strictEqual(Turns.readText([...before, ...removed]), "")
      send({ _tag: "MessageRemoved", ...Make.base(), messageId: Make.answerId })
      assert.deepStrictEqual(yield* read, [{ _tag: "PartRemoved", partId: Make.tool("t").id }])
      send(Make.idle())
      assert.deepStrictEqual(yield* read, [{ _tag: "AskResolved", askId: Make.permission("per_1").id }])
    }))

  it.effect("is told that the text of a failed attempt of the model is void before it gets the text of the next attempt", () =>
    Effect.gen(function*() {
      const { read, send } = yield* watched
      send(answer, open, Make.delta("a", "half of"))
      const before = yield* read
      send(Make.retry(1))
      const retrying = yield* read
      assert.deepStrictEqual(tags(retrying), ["PartChanged", "Retrying"])
      assert.deepStrictEqual(retrying[0], { _tag: "PartChanged", part: Make.text("a", "", false) })
      send(Make.busy(), Make.part(Make.text("b", "", false)), Make.delta("b", "all of it"))
      assert.strictEqual(Turns.readText([...before, ...retrying, ...(yield* read)]), "all of it")
    }))

  it.effect("gets the whole reply when a read of the record changes it, and nothing if the reader sees no change", () =>
    Effect.gen(function*() {
      const { live, read, send } = yield* watched
      send(answer, open, Make.delta("a", "one"))
      yield* read
      live.update(Reply.markGap)
      assert.deepStrictEqual(yield* read, [])
      live.update((reply) => Reply.merge(reply, [Make.stored(Make.ended(), Make.text("a", "one two"))]))
      assert.deepStrictEqual(yield* read, [{
        _tag: "Reset",
        reason: "reconciled",
        ...ReplyUpdate.shown(live.current())
      }])
      live.update((reply) => Reply.syncAsks(reply, [Make.permission("per_1")]))
      const [asked] = yield* read
      assert(asked?._tag === "Reset")
      assert.lengthOf(asked.asks, 1)
    }))

  it.effect("is told to forget its text when the reply begins anew, but not at its first beginning", () =>
    Effect.gen(function*() {
      const { live, read, send } = yield* watched
      assert.deepStrictEqual(yield* read, [])
      send(answer, open, Make.delta("a", "one"))
      live.begin({ sessionId: Make.stranger, promptId })
      const all = yield* read
      assert.deepStrictEqual(tags(all), ["PartChanged", "TextDelta", "Reset"])
      assert.deepInclude(all[2], { reason: "recreated", ...ReplyUpdate.shown(live.current()) })
      assert.strictEqual(live.current().sessionId, Make.stranger)
    }))

  it.effect("that is too slow gets one reset instead of the waiting updates, and then the updates that follow", () =>
    Effect.gen(function*() {
      const { live, read, send } = yield* watched
      send(answer, open, Make.part(Make.text("b", "", false)))
      for (const id of ["a", "b", "a"]) send(Make.delta(id, id))
      assert.deepStrictEqual(tags(yield* read), ["Reset", "TextDelta"])
      send(Make.delta("a", "!"))
      assert.deepStrictEqual(tags(yield* read), ["TextDelta"])
      assert.strictEqual(Reply.text(live.current()), "aa!\n\nb")
    }).pipe(Effect.provideService(TurnPolicy.ObserverBuffer, 3)))

  it.effect("that reads seldom gets the deltas of several reads joined, up to a length", () =>
    Effect.gen(function*() {
      const { read, send } = yield* watched
      send(answer, open)
      yield* read
      for (const word of ["one ", "two ", "three"]) send(Make.delta("a", word))
      const joined = yield* read
      assert.deepStrictEqual(joined, [{ _tag: "TextDelta", partId: Make.text("a", "").id, delta: "one two three" }])
      send(Make.delta("a", "!"))
      assert.strictEqual(Turns.readText([...joined, ...(yield* read)]), "one two three!")
      for (let count = 0; count < 20; count++) send(Make.delta("a", "x".repeat(1000)))
      const long = yield* read
      assert.isAbove(long.length, 1)
      assert.lengthOf(Turns.readText(long), 20_000)
    }))

  it.effect("gets the end after the remaining updates", () =>
    Effect.gen(function*() {
      const { live, send } = yield* watched
      const second = yield* live.watch
      send(answer, open)
      live.apply(Make.delta("a", "last"))
      yield* live.end
      const all = Array.from(yield* Stream.runCollect(Stream.fromQueue(second)))
      assert.deepStrictEqual(tags(all), ["PartChanged", "TextDelta"])
    }))
})

describe("the text that a watcher collects from the updates", () => {
  /** The recorded events as a bad network and a killed server may bring them. */
  const disturbed = Effect.fnUntraced(function*(events: ReadonlyArray<TurnEvent>) {
    const all: Array<TurnEvent> = []
    for (const event of events) {
      const chance = yield* Random.next
      if (chance < 0.08) continue
      if (chance < 0.16) all.push(event)
      if (chance < 0.26 && all.length > 0) all.splice(-1, 0, event)
      else all.push(event)
    }
    return all
  })

  for (const tape of Tapes.tapes) {
    it.effect(`is the text of the reply, however the stream is disturbed: ${tape.name}`, () =>
      Effect.gen(function*() {
        for (let round = 0; round < 25; round++) {
          const live = yield* LiveReply.make
          const queue = yield* live.watch
          live.begin(tape.ids)
          const updates: Array<ReplyUpdate.ReplyUpdate> = []
          const read = Effect.map(Queue.clear(queue), (some) => {
            updates.push(...some)
          })
          for (const event of yield* disturbed(tape.events.filter(Tapes.isTurnEvent))) {
            live.apply(event)
            const chance = yield* Random.next
            if (chance < 0.4) live.flush()
            if (chance < 0.15) yield* read
            if (chance < 0.02) {
              live.update(Reply.markGap)
              live.update((reply) => Reply.merge(reply, tape.messages))
            }
          }
          live.flush()
          yield* read
          assert.strictEqual(Turns.readText(updates), Reply.text(live.current()), `round ${round}`)
          live.update((reply) => Reply.reconcile(reply, tape.messages))
          yield* read
          assert.strictEqual(Turns.readText(updates), Reply.text(live.current()), `round ${round}, reconciled`)
          assert.strictEqual(Reply.text(live.current()), Reply.text(Reply.fromMessages(tape.ids, tape.messages)))
        }
      }).pipe(Effect.provideService(TurnPolicy.ObserverBuffer, 8), Random.withSeed(tape.name)))
  }

  const scripts: ReadonlyArray<readonly [string, ReadonlyArray<Step>, string]> = [
    ["text", [{ text: "Some words of text.", chunkDelayMillis: 5 }], "Some words of text."],
    [
      "a tool loop",
      [
        { reasoning: "Hm hm.", text: "I look.", tool: "bash", args: { command: "echo one" }, chunkDelayMillis: 5 },
        { text: "All done now.", chunkDelayMillis: 5 }
      ],
      "I look.\n\nAll done now."
    ],
    [
      "a subagent",
      [
        {
          tool: "task",
          args: {
            description: "child",
            prompt: prompt("x", [{ text: "The child's words.", chunkDelayMillis: 5 }]),
            subagent_type: "general"
          }
        },
        { text: "The parent's words.", chunkDelayMillis: 5 }
      ],
      "The parent's words."
    ],
    [
      "a connection of the model that is cut",
      [
        { text: "half of an", ending: "cut", chunkDelayMillis: 5 },
        { text: "the whole answer", chunkDelayMillis: 5 }
      ],
      "the whole answer"
    ]
  ]
  const disturbances: ReadonlyArray<readonly [string, Effect.Effect<unknown, never, FakeOpencode>]> = [
    ["an unbroken stream", Effect.void],
    ["a stream that is cut", Effect.flatMap(FakeOpencode, (fake) => fake.cutEvents)],
    [
      "lost deltas",
      Effect.flatMap(FakeOpencode, (fake) => fake.dropEvents((event) => event.type === "message.part.delta", 2))
    ],
    [
      "parts whose end is lost",
      Effect.flatMap(FakeOpencode, (fake) => fake.dropEvents((event) => event.type === "message.part.updated", 2))
    ],
    ["doubled events", Effect.flatMap(FakeOpencode, (fake) => fake.duplicateEvents(() => true))]
  ]
  for (const [script, steps, text] of scripts) {
    for (const [disturbance, disturb] of disturbances) {
      for (const atMillis of [3, 12, 18]) {
        Turns.test(`is the answer: ${script}, ${disturbance} after ${atMillis} ms`, () =>
          Effect.gen(function*() {
            const updates = yield* Ref.make<ReadonlyArray<TurnUpdate>>([])
            const fiber = yield* Effect.forkChild(
              Stream.runForEach(
                streamTurn(Turns.turn(steps)),
                (update) => Ref.update(updates, (all) => [...all, update])
              )
            )
            yield* Turns.rest
            yield* TestClock.adjust(atMillis)
            yield* Turns.rest
            yield* disturb
            for (let second = 0; second < 60 && fiber.pollUnsafe() === undefined; second++) {
              yield* Turns.rest
              yield* TestClock.adjust(second < 20 ? 10 : 1000)
            }
            yield* Fiber.join(fiber)
            const all = yield* Ref.get(updates)
            const last = all.at(-1)
            assert(last?._tag === "Finished")
            assert.strictEqual(last.result.content, text)
            assert.strictEqual(Turns.readText(all), text)
          }))
      }
    }
  }

  Turns.test("is the answer even if the reader is slow", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const slow = yield* Latch.make()
      const updates = yield* Ref.make<ReadonlyArray<TurnUpdate>>([])
      const steps = [{
        text: "one two three four five six seven eight",
        gate: "half",
        gateAfter: 6,
        chunkDelayMillis: 1
      }]
      const fiber = yield* Effect.forkChild(
        Stream.runForEach(
          streamTurn(Turns.turn(steps)),
          (update) => Effect.andThen(slow.await, Ref.update(updates, (all) => [...all, update]))
        ).pipe(Effect.provideService(TurnPolicy.ObserverBuffer, 2))
      )
      yield* Turns.rest
      for (let step = 0; step < 10; step++) {
        yield* TestClock.adjust(1)
        yield* Turns.rest
      }
      yield* fake.reached("half")
      yield* slow.open
      yield* fake.release("half")
      for (let step = 0; step < 10; step++) {
        yield* Turns.rest
        yield* TestClock.adjust(1)
      }
      yield* Fiber.join(fiber)
      const all = yield* Ref.get(updates)
      assert.isTrue(all.some((update) => update._tag === "Reset" && update.reason === "overflow"))
      assert.strictEqual(Turns.readText(all), "one two three four five six seven eight")
    }))
})
