import { Streams } from "#cli/setup/Streams"
import type { Ending } from "#cli/view/Ending"
import * as TurnView from "#cli/view/TurnView"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, it } from "@effect/vitest"
import { AssistantMessageId } from "@opencode-turn/core/Ids"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import { Effect, Fiber, Layer, Ref } from "effect"
import { TestClock } from "effect/testing"

it.effect("says once that a server is silent while the turn waits for it", () =>
  Effect.gen(function*() {
    const told = yield* Ref.make(0)
    const tell = Ref.update(told, (count) => count + 1)
    const waiting = yield* Effect.forkChild(TurnView.tellSilence(tell)(Effect.never))
    yield* TestClock.adjust("9 seconds")
    assert.strictEqual(yield* Ref.get(told), 0)
    yield* TestClock.adjust("1 minute")
    assert.strictEqual(yield* Ref.get(told), 1)
    yield* Fiber.interrupt(waiting)
    assert.strictEqual(yield* TurnView.tellSilence(tell)(Effect.succeed(3)), 3)
    yield* TestClock.adjust("1 minute")
    assert.strictEqual(yield* Ref.get(told), 1)
  }))

it.effect("gives and shows the end of a turn that another worker took over", () =>
  Effect.gen(function*() {
    const fake = yield* FakeOpencode.FakeOpencode
    const store = yield* SessionStore
    const id = AssistantMessageId.make("asm_frozen")
    const shown: Array<Ending> = []
    const view: TurnView.View = {
      update: () => Effect.void,
      note: () => Effect.void,
      tick: Effect.void,
      pause: Effect.void,
      wait: () => Effect.void,
      finish: (ending) => Effect.sync(() => void shown.push(ending)),
      fail: () => Effect.void
    }
    const prompt = FakeOpencode.prompt("Go.", [{ text: "one two three", gate: "half", gateAfter: 2 }])
    const running = yield* Effect.forkChild(
      TurnView.run({ conversationId: "c", messageId: id, prompt }, {
        view,
        permission: "allow",
        onQuit: Effect.void
      })
    )
    yield* fake.reached("half")
    yield* store.release(id, 1)
    yield* store.takeOver(id, { owner: "another", millis: 4000 })
    const result = yield* Fiber.join(running)
    assert.deepStrictEqual([result.status, result.error?._tag], ["failed", "TurnTakenOver"])
    assert.deepStrictEqual(shown, [result])
    yield* fake.release("half")
  }).pipe(
    Effect.provide(Layer.mergeAll(
      FakeOpencode.layerTest(),
      Layer.effect(SessionStore, MemorySessionStore.make),
      Tracer.layerNoop,
      NodeServices.layer,
      Layer.succeed(
        Streams,
        Streams.of({
          answer: () => Effect.void,
          progress: () => Effect.void,
          aside: () => Effect.void,
          holdAsides: Effect.void,
          isShared: false,
          isScreen: false,
          hasColor: false,
          columns: () => 100
        })
      )
    ))
  ))
