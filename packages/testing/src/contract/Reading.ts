/**
 * Tests that lists return what was stored.
 */
import { assert } from "@effect/vitest"
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import type { Outcome } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { excerptOf, startedBy, stateOf } from "@opencode-turn/core/StoredMessage"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import {
  completed,
  contents,
  leaseOf,
  newConversation,
  newTurn,
  newTurnOf,
  numbers,
  partsOf,
  promptOf,
  recordOf,
  someUsage,
  stored,
  type StoreTests,
  subagentsOf
} from "./Samples.ts"

export const reading = (it: StoreTests): void => {
  it.effect("lists the newest messages of the conversation, oldest first, however many share a millisecond", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const conversationId = yield* newConversation
      const elsewhere = yield* newConversation
      const ids: Array<AssistantMessageId> = []
      for (const n of numbers(12)) {
        // Pairs of messages share a millisecond.
        if (n % 2 === 0) {
          yield* TestClock.adjust("1 milli")
        }
        const turn = yield* newTurnOf(conversationId)
        const other = yield* newTurnOf(elsewhere)
        yield* store.claim(turn)
        yield* store.claim(other)
        yield* store.finalize(turn.id, 1, completed)
        yield* store.finalize(other.id, 1, completed)
        ids.push(turn.id)
      }
      const list = (limit: number) =>
        Effect.map(store.listMessages(conversationId, limit), (messages) => messages.map((message) => message.id))
      for (const limit of [1, 2, 5, 11, 12]) {
        assert.deepStrictEqual(yield* list(limit), ids.slice(12 - limit))
      }
      for (const limit of [13, 1000, Number.MAX_SAFE_INTEGER, Infinity]) {
        assert.deepStrictEqual(yield* list(limit), ids)
      }
      for (const limit of [0, -1, NaN]) {
        assert.deepStrictEqual(yield* list(limit), [])
      }
      assert.deepStrictEqual(yield* list(2.9), ids.slice(10))
      assert.deepStrictEqual(yield* store.listMessages(yield* newConversation, 10), [])
    }))

  it.effect("keeps a message in its place in the list when it is claimed again or ends later", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const first = yield* newTurn
      yield* store.claim(first)
      yield* store.cancel(first.id, "")
      const second = yield* newTurnOf(first.conversationId)
      yield* store.claim(second)
      yield* TestClock.adjust("1 second")
      yield* store.claim(second)
      yield* store.claim(first)
      yield* store.keepPartial(first.id, 1, completed)
      assert.deepStrictEqual(yield* store.listMessages(first.conversationId, 10), [
        yield* stored(first.id),
        yield* stored(second.id)
      ])
    }))

  it.effect.each(contents)("gives back what was stored: $name", ({ text }) =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = { ...(yield* newTurn), prompt: promptOf(text) }
      const promptRecord = recordOf(turn.prompt, text)
      const outcome: Outcome = {
        status: "error",
        content: text,
        isFallback: true,
        finish: text,
        parts: partsOf(text),
        usage: someUsage,
        subagents: subagentsOf(text),
        error: { tag: "Upstream", message: text }
      }
      const pending = yield* store.claim(turn)
      assert.deepStrictEqual(pending.prompt, turn.prompt)
      assert.strictEqual(pending.excerpt, excerptOf(turn.prompt))
      assert.isTrue(yield* store.recordPrompt(turn.id, 1, promptRecord))
      assert.isTrue(yield* store.finalize(turn.id, 1, outcome))
      const message = yield* stored(turn.id)
      assert.deepStrictEqual(message, {
        ...pending,
        ...outcome,
        promptRecord,
        started: startedBy(promptRecord),
        offset: message.offset,
        revision: 3,
        finishedMillis: message.finishedMillis
      })
      assert.deepStrictEqual(yield* store.listMessages(turn.conversationId, 1), [message])
    }))

  it.effect("reads the same state as the whole message after every change", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = { ...(yield* newTurn), whenBusy: "queue", lease: leaseOf("first") } as const
      assert.deepStrictEqual(yield* store.getState(turn.id), Option.none())
      const before = yield* newTurnOf(turn.conversationId)
      yield* store.claim(before)
      const changes: ReadonlyArray<readonly [Effect.Effect<unknown, unknown>, object]> = [
        [store.claim(turn), { status: "queued", epoch: 1, revision: 1 }],
        [store.cancel(before.id, ""), { status: "queued", epoch: 1, revision: 1 }],
        [store.claim(turn), { status: "pending", epoch: 1, revision: 2 }],
        [store.renew(turn.id, 1, { millis: 1_000 }), { status: "pending", epoch: 1, revision: 2 }],
        [store.recordPrompt(turn.id, 1, recordOf(turn.prompt)), { status: "pending", epoch: 1, revision: 3 }],
        [store.snapshot(turn.id, 1, completed), { status: "pending", epoch: 1, revision: 4 }],
        [store.release(turn.id, 1), { status: "pending", epoch: 1, revision: 4 }],
        [store.takeOver(turn.id, leaseOf("second")), { status: "pending", epoch: 2, revision: 5 }],
        [store.snapshot(turn.id, 1, completed), { status: "pending", epoch: 2, revision: 5 }],
        [store.cancel(turn.id, "Stopped."), { status: "cancelled", epoch: 2, revision: 6 }],
        [store.keepPartial(turn.id, 2, completed), { status: "cancelled", epoch: 2, revision: 7 }]
      ]
      for (const [change, state] of changes) {
        yield* change
        const message = yield* stored(turn.id)
        assert.deepInclude(message, state)
        assert.deepStrictEqual(yield* store.getState(turn.id), Option.some(stateOf(message)))
      }
    }))

  it.effect("gives back a cancel's content and a partial reply of any characters", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      for (const { text } of contents) {
        const turn = yield* newTurn
        yield* store.claim(turn)
        assert.strictEqual((yield* store.cancel(turn.id, text)).content, text)
        const partial = {
          content: text,
          isFallback: false,
          finish: text,
          parts: partsOf(text),
          usage: someUsage,
          subagents: subagentsOf(text)
        }
        assert.isTrue(yield* store.keepPartial(turn.id, 1, partial))
        assert.deepInclude(yield* stored(turn.id), partial)
      }
    }))
}
