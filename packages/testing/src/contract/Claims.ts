/**
 * Tests of claims without a lease: who creates the message, who takes it over, who is refused.
 */
import { assert } from "@effect/vitest"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { startedBy } from "@opencode-turn/core/StoredMessage"
import { TurnInProgress } from "@opencode-turn/core/TurnError"
import * as Usage from "@opencode-turn/core/Usage"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import {
  completed,
  newConversation,
  newTurn,
  newTurnOf,
  numbers,
  recordOf,
  stored,
  type StoreTests,
  terminals
} from "./Samples.ts"

export const claims = (it: StoreTests): void => {
  it.effect("makes a pending message of epoch 1, empty but for the prompt, at the time of the clock", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* TestClock.adjust("1234 millis")
      const createdMillis = yield* Clock.currentTimeMillis
      const message = yield* store.claim(turn)
      const expected: StoredMessage = {
        ...turn,
        position: message.position,
        status: "pending",
        epoch: 1,
        revision: 1,
        offset: 0,
        excerpt: "What is in this repository?",
        started: null,
        owner: null,
        leaseUntilMillis: null,
        takeovers: 0,
        account: null,
        revertedBy: null,
        draft: null,
        promptRecord: null,
        content: "",
        isFallback: false,
        finish: null,
        parts: [],
        usage: Usage.zero,
        subagents: [],
        waits: [],
        error: null,
        createdMillis,
        finishedMillis: null
      }
      assert.deepStrictEqual(message, expected)
      assert.deepStrictEqual(yield* store.getMessage(turn.id), Option.some(expected))
    }))

  it.effect("raises the epoch of a pending message that is claimed again, and changes nothing else", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const first = yield* store.claim(turn)
      assert.isTrue(yield* store.recordPrompt(turn.id, 1, recordOf(turn.prompt)))
      yield* TestClock.adjust("1 minute")
      const again = yield* store.claim({ ...turn, prompt: [{ type: "text", text: "something else" }] })
      const promptRecord = recordOf(turn.prompt)
      const started = startedBy(promptRecord)
      assert.deepStrictEqual(again, { ...first, epoch: 2, revision: 3, promptRecord, started })
      assert.strictEqual((yield* store.claim(turn)).epoch, 3)
      assert.strictEqual((yield* stored(turn.id)).epoch, 3)
    }))

  it.effect("gives every one of 50 concurrent claimants of one id an epoch of its own", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const claimed = yield* Effect.forEach(numbers(50), () => store.claim(turn), { concurrency: "unbounded" })
      assert.deepStrictEqual(
        claimed.map((message) => message.epoch).sort((a, b) => a - b),
        numbers(50).map((n) => n + 1)
      )
      assert.lengthOf(yield* store.listMessages(turn.conversationId, 10), 1)
    }))

  it.effect.each(terminals)(
    "gives a message that is $status back unchanged when it is claimed again",
    (outcome) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        assert.isTrue(yield* store.finalize(turn.id, 1, outcome))
        const ended = yield* stored(turn.id)
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(yield* store.claim({ ...turn, prompt: [] }), ended)
        // A later turn of the conversation does not affect the ended message.
        yield* store.claim(yield* newTurnOf(turn.conversationId))
        assert.deepStrictEqual(yield* store.claim(turn), ended)
        assert.deepStrictEqual(yield* stored(turn.id), ended)
      })
  )

  it.effect("fails with TurnInProgress, naming the pending message, while another one is pending", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const next = yield* newTurnOf(turn.conversationId)
      const pending = yield* store.claim(turn)
      const error = yield* Effect.flip(store.claim(next))
      assert.deepInclude(error, {
        _tag: "TurnInProgress",
        conversationId: turn.conversationId,
        messageId: turn.id
      })
      assert.deepStrictEqual(yield* store.getMessage(next.id), Option.none())
      assert.deepStrictEqual(yield* stored(turn.id), pending)
    }))

  it.effect.each(terminals)(
    "lets the next turn be claimed once the message is $status",
    (outcome) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        yield* store.finalize(turn.id, 1, outcome)
        const next = yield* newTurnOf(turn.conversationId)
        assert.deepInclude(yield* store.claim(next), { id: next.id, status: "pending", epoch: 1 })
      })
  )

  it.effect("lets one of 100 concurrent turns of a conversation in, and names it to the others", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const conversationId = yield* newConversation
      const claimNext = Effect.flatMap(newTurnOf(conversationId), store.claim)
      const claim = () => Effect.result(claimNext)
      const results = yield* Effect.forEach(numbers(100), claim, { concurrency: "unbounded" })
      const winners = results.filter(Result.isSuccess).map((result) => result.success)
      assert.lengthOf(winners, 1)
      assert.deepStrictEqual(yield* store.listMessages(conversationId, 100), winners)
      const refused = winners.map((winner) => new TurnInProgress({ conversationId, messageId: winner.id }))
      const errors = results.filter(Result.isFailure).map((result) => result.failure)
      assert.deepStrictEqual(errors.map(String), numbers(99).flatMap(() => refused.map(String)))
    }))

  it.effect("does not give a message away to another conversation", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const stranger = { ...turn, conversationId: yield* newConversation }
      const pending = yield* store.claim(turn)
      assert.deepInclude(yield* Effect.flip(store.claim(stranger)), { _tag: "StoreError", isRetryable: false })
      assert.deepStrictEqual(yield* stored(turn.id), pending)
      yield* store.finalize(turn.id, 1, completed)
      assert.deepInclude(yield* Effect.flip(store.claim(stranger)), { _tag: "StoreError", isRetryable: false })
    }))
}
