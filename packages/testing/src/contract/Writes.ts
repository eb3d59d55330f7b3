/**
 * Tests of the owner's writes, and of the writes that an epoch refuses.
 */
import { assert } from "@effect/vitest"
import type { PromptRecord } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { startedBy } from "@opencode-turn/core/StoredMessage"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import {
  completed,
  newTurn,
  offsetOf,
  recordOf,
  session,
  stored,
  type StoreTests,
  terminals,
  transitions
} from "./Samples.ts"

export const writes = (it: StoreTests): void => {
  it.effect("keeps the prompt that the owner recorded last", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const pending = yield* store.claim(turn)
      assert.isTrue(yield* store.recordPrompt(turn.id, 1, recordOf(turn.prompt)))
      const promptRecord = recordOf(turn.prompt)
      const started = startedBy(promptRecord)
      assert.deepStrictEqual(yield* stored(turn.id), { ...pending, promptRecord, started, revision: 2 })
      const other: PromptRecord = { sessionId: session("other"), prompt: { parts: turn.prompt } }
      assert.isTrue(yield* store.recordPrompt(turn.id, 1, other))
      assert.deepStrictEqual(yield* stored(turn.id), { ...pending, promptRecord: other, revision: 3 })
    }))

  it.effect("records a prompt whose parts differ from the message's prompt, and a prompt without parts", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const pending = yield* store.claim(turn)
      const own = recordOf(turn.prompt)
      const again: PromptRecord = recordOf([{ type: "text", text: "Once more, please." }])
      const nothing: PromptRecord = recordOf([])
      for (const [n, promptRecord] of [own, again, nothing, own].entries()) {
        assert.isTrue(yield* store.recordPrompt(turn.id, 1, promptRecord))
        assert.deepStrictEqual(yield* stored(turn.id), {
          ...pending,
          promptRecord,
          started: startedBy(promptRecord),
          revision: n + 2
        })
      }
    }))

  it.effect.each(terminals)(
    "ends a message as $status, once, at the time of the clock",
    (outcome) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        const pending = yield* store.claim(turn)
        yield* TestClock.adjust("5 seconds")
        const finishedMillis = yield* Clock.currentTimeMillis
        assert.isTrue(yield* store.finalize(turn.id, 1, outcome))
        yield* TestClock.adjust("5 seconds")
        assert.isFalse(yield* store.finalize(turn.id, 1, outcome))
        assert.deepStrictEqual(yield* stored(turn.id), {
          ...pending,
          ...outcome,
          offset: offsetOf(outcome),
          revision: 2,
          finishedMillis
        })
      })
  )

  it.effect("keeps the recorded prompt of a message that has ended", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      yield* store.recordPrompt(turn.id, 1, recordOf(turn.prompt))
      yield* store.finalize(turn.id, 1, completed)
      assert.deepStrictEqual((yield* stored(turn.id)).promptRecord, recordOf(turn.prompt))
    }))

  it.effect.each([{ epoch: 1, is: "older" }, { epoch: 3, is: "newer" }])(
    "changes nothing for an owner whose epoch is $is than the message's",
    ({ epoch }) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        const taken = yield* store.claim(turn)
        assert.strictEqual(taken.epoch, 2)
        assert.isFalse(yield* store.recordPrompt(turn.id, epoch, recordOf(turn.prompt)))
        for (const outcome of terminals) {
          assert.isFalse(yield* store.finalize(turn.id, epoch, outcome))
        }
        assert.isFalse(yield* store.keepPartial(turn.id, epoch, completed))
        assert.deepStrictEqual(yield* stored(turn.id), taken)

        const cancelled = yield* store.cancel(turn.id, "stopped")
        assert.isFalse(yield* store.keepPartial(turn.id, epoch, completed))
        assert.deepStrictEqual(yield* stored(turn.id), cancelled)
      })
  )

  it.effect("changes nothing for a message that does not exist", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const { id, prompt } = yield* newTurn
      assert.isFalse(yield* store.recordPrompt(id, 1, recordOf(prompt)))
      assert.isFalse(yield* store.finalize(id, 1, completed))
      assert.isFalse(yield* store.keepPartial(id, 1, completed))
      assert.deepStrictEqual(yield* store.getMessage(id), Option.none())
    }))

  it.effect.each(transitions)(
    "never leaves $name",
    ({ from, to }) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        assert.isTrue(yield* store.finalize(turn.id, 1, from))
        const ended = yield* stored(turn.id)
        yield* TestClock.adjust("1 second")
        for (const epoch of [0, 1, 2]) {
          assert.isFalse(yield* store.finalize(turn.id, epoch, { ...to, content: "too late" }))
          assert.isFalse(yield* store.recordPrompt(turn.id, epoch, recordOf(turn.prompt)))
        }
        if (to.status === "cancelled") {
          yield* Effect.exit(store.cancel(turn.id, "too late"))
        }
        if (from.status !== "cancelled") {
          assert.isFalse(yield* store.keepPartial(turn.id, 1, to))
        }
        assert.deepStrictEqual(yield* stored(turn.id), ended)
      })
  )
}
