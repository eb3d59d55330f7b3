/**
 * The contract of `SessionStore`, as tests: every implementation passes this one suite.
 *
 * **Responsibilities**: what the contract says of any store, observed through its methods alone.
 *
 * **Not responsibilities**: what only one implementation has: files, migrations, rows that cannot be decoded.
 *
 * **Gotchas**
 *
 * This module registers vitest tests, so it works inside a vitest run only, with `vitest` and `@effect/vitest` installed.
 *
 * **Example** (Testing a store of your own)
 *
 * ```ts
 * // test/MyStore.test.ts
 * import { describeSessionStore } from "@opencode-turn/testing/SessionStoreContract"
 * import { layer } from "../src/MyStore.ts"
 *
 * describeSessionStore("MyStore", layer)
 * ```
 *
 * @since 0.1.0
 */
import { assert, layer as sharing } from "@effect/vitest"
import { AssistantMessageId, ConversationId, makeId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { Part } from "@opencode-turn/core/Part"
import type { PromptPart } from "@opencode-turn/core/Prompt"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { Content, Outcome, StoredMessage, StoredRequest } from "@opencode-turn/core/SessionStore"
import { TurnInProgress } from "@opencode-turn/core/TurnError"
import * as Usage from "@opencode-turn/core/Usage"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How often a cancel and a terminal write race for the same message. Default: 200. */
  readonly rounds?: number | undefined
}

/**
 * Registers the contract's tests for one store.
 *
 * **Details**
 *
 * The store is built once for all tests, under the test clock, and may hold anything already: every test makes
 * conversations of its own.
 *
 * @category testing
 * @since 0.1.0
 */
export const describeSessionStore = <E>(
  name: string,
  layer: Layer.Layer<SessionStore, E>,
  options: Options = {}
): void =>
  sharing(layer)(`${name}: the contract of SessionStore`, (it) => {
    // sessions

    it.effect("knows no session of a conversation that never had one", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        assert.deepStrictEqual(yield* store.getSession(yield* newConversation), Option.none())
      }))

    it.effect("stores a session only over the one that was expected", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const conversation = yield* newConversation
        const [first, second, third] = [session("a"), session("b"), session("c")]
        const is = (expected: SessionId) =>
          Effect.map(
            store.getSession(conversation),
            (stored) => assert.deepStrictEqual(stored, Option.some(expected))
          )

        assert.isFalse(yield* store.setSession(conversation, Option.some(first), second))
        assert.deepStrictEqual(yield* store.getSession(conversation), Option.none())
        assert.isTrue(yield* store.setSession(conversation, Option.none(), first))
        yield* is(first)
        assert.isFalse(yield* store.setSession(conversation, Option.none(), second))
        assert.isFalse(yield* store.setSession(conversation, Option.some(third), second))
        yield* is(first)
        assert.isTrue(yield* store.setSession(conversation, Option.some(first), second))
        yield* is(second)
        assert.isFalse(yield* store.setSession(conversation, Option.some(first), third))
        yield* is(second)
        assert.isTrue(yield* store.setSession(conversation, Option.some(second), second))
        yield* is(second)
      }))

    it.effect("lets one of 50 concurrent writers store the first session, and one replace it", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const conversation = yield* newConversation
        const race = (expected: Option.Option<SessionId>, label: string) =>
          Effect.gen(function*() {
            const candidates = numbers(50).map((n) => session(`${label}${n}`))
            const isWinner = yield* Effect.forEach(
              candidates,
              (candidate) => store.setSession(conversation, expected, candidate),
              { concurrency: "unbounded" }
            )
            const winners = candidates.filter((_, index) => isWinner[index])
            assert.lengthOf(winners, 1)
            assert.deepStrictEqual(yield* store.getSession(conversation), Option.fromUndefinedOr(winners[0]))
            return Option.fromUndefinedOr(winners[0])
          })
        yield* race(yield* race(Option.none(), "first"), "second")
      }))

    // claim

    it.effect("makes a pending message of epoch 1, empty but for the prompt, at the time of the clock", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* TestClock.adjust("1234 millis")
        const createdMillis = yield* Clock.currentTimeMillis
        const message = yield* store.claim(turn)
        const expected: StoredMessage = {
          ...turn,
          status: "pending",
          epoch: 1,
          request: null,
          content: "",
          parts: [],
          usage: Usage.zero,
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
        assert.isTrue(yield* store.recordRequest(turn.id, 1, requestOf(turn.prompt)))
        yield* TestClock.adjust("1 minute")
        const again = yield* store.claim({ ...turn, prompt: [{ type: "text", text: "something else" }] })
        assert.deepStrictEqual(again, { ...first, epoch: 2, request: requestOf(turn.prompt) })
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

    it.effect.each(terminals)("gives a message that is $status back unchanged when it is claimed again", (outcome) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        assert.isTrue(yield* store.finalize(turn.id, 1, outcome))
        const ended = yield* stored(turn.id)
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(yield* store.claim({ ...turn, prompt: [] }), ended)
        // A later turn of the conversation does not make the ended message less there.
        yield* store.claim(yield* newTurnOf(turn.conversationId))
        assert.deepStrictEqual(yield* store.claim(turn), ended)
        assert.deepStrictEqual(yield* stored(turn.id), ended)
      }))

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

    it.effect.each(terminals)("lets the next turn be claimed once the message is $status", (outcome) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        yield* store.finalize(turn.id, 1, outcome)
        const next = yield* newTurnOf(turn.conversationId)
        assert.deepInclude(yield* store.claim(next), { id: next.id, status: "pending", epoch: 1 })
      }))

    it.effect("lets one of 100 concurrent turns of a conversation in, and names it to the others", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const conversationId = yield* newConversation
        const claimNext = Effect.flatMap(newTurnOf(conversationId), store.claim)
        const claim = () =>
          Effect.result(claimNext)
        const results = yield* Effect.forEach(numbers(100), claim, { concurrency: "unbounded" })
        const winners = results.filter(Result.isSuccess).map((result) =>
          result.success
        )
        assert.lengthOf(winners, 1)
        assert.deepStrictEqual(yield* store.listMessages(conversationId, 100), winners)
        const refused = winners.map((winner) =>
          new TurnInProgress({ conversationId, messageId: winner.id })
        )
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

    // the owner's writes

    it.effect("records the request of the owner, and the last one when there are several", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        const pending = yield* store.claim(turn)
        assert.isTrue(yield* store.recordRequest(turn.id, 1, requestOf(turn.prompt)))
        assert.deepStrictEqual(yield* stored(turn.id), { ...pending, request: requestOf(turn.prompt) })
        const other: StoredRequest = { sessionId: session("other"), prompt: { parts: turn.prompt } }
        assert.isTrue(yield* store.recordRequest(turn.id, 1, other))
        assert.deepStrictEqual(yield* stored(turn.id), { ...pending, request: other })
      }))

    it.effect.each(terminals)("ends a message as $status, once, at the time of the clock", (outcome) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        const pending = yield* store.claim(turn)
        yield* TestClock.adjust("5 seconds")
        const finishedMillis = yield* Clock.currentTimeMillis
        assert.isTrue(yield* store.finalize(turn.id, 1, outcome))
        yield* TestClock.adjust("5 seconds")
        assert.isFalse(yield* store.finalize(turn.id, 1, outcome))
        assert.deepStrictEqual(yield* stored(turn.id), { ...pending, ...outcome, finishedMillis })
      }))

    it.effect("keeps the request of a message that has ended", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        yield* store.recordRequest(turn.id, 1, requestOf(turn.prompt))
        yield* store.finalize(turn.id, 1, completed)
        assert.deepStrictEqual((yield* stored(turn.id)).request, requestOf(turn.prompt))
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
          assert.isFalse(yield* store.recordRequest(turn.id, epoch, requestOf(turn.prompt)))
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
        assert.isFalse(yield* store.recordRequest(id, 1, requestOf(prompt)))
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
            assert.isFalse(yield* store.recordRequest(turn.id, epoch, requestOf(turn.prompt)))
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

    // cancel

    it.effect("cancels a pending message whoever owns it, and gives it back", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        yield* store.recordRequest(turn.id, 1, requestOf(turn.prompt))
        const owned = yield* store.claim(turn)
        yield* TestClock.adjust("3 seconds")
        const finishedMillis = yield* Clock.currentTimeMillis
        const cancelled = yield* store.cancel(turn.id, "Stopped by you.")
        assert.deepStrictEqual(cancelled, { ...owned, status: "cancelled", content: "Stopped by you.", finishedMillis })
        assert.deepStrictEqual(yield* stored(turn.id), cancelled)
      }))

    it.effect("changes nothing when a cancelled message is cancelled again", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        const cancelled = yield* store.cancel(turn.id, "first")
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* store.cancel(turn.id, "second"), cancelled)
        assert.deepStrictEqual(yield* stored(turn.id), cancelled)
      }))

    it.effect.each([{ outcome: completed, status: completed.status }, { outcome: failed, status: failed.status }])(
      "fails with AlreadyFinished when the message is $status, and leaves it as it is",
      ({ outcome }) =>
        Effect.gen(function*() {
          const store = yield* SessionStore
          const turn = yield* newTurn
          yield* store.claim(turn)
          yield* store.finalize(turn.id, 1, outcome)
          const ended = yield* stored(turn.id)
          assert.deepInclude(yield* Effect.flip(store.cancel(turn.id, "too late")), {
            _tag: "AlreadyFinished",
            messageId: turn.id,
            status: outcome.status
          })
          assert.deepStrictEqual(yield* stored(turn.id), ended)
        })
    )

    it.effect("fails with UnknownMessage when there is no such message, and makes none", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const { id } = yield* newTurn
        assert.deepInclude(yield* Effect.flip(store.cancel(id, "")), { _tag: "UnknownMessage", messageId: id })
        assert.deepStrictEqual(yield* store.getMessage(id), Option.none())
      }))

    it.effect("has one winner whenever a cancel races the terminal write, and keeps the winner's content", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const conversationId = yield* newConversation
        for (const round of numbers(options.rounds ?? 200)) {
          const turn = yield* newTurnOf(conversationId)
          yield* store.claim(turn)
          const cancel = Effect.map(Effect.result(store.cancel(turn.id, "stopped")), (cancelled) => ({ cancelled }))
          const finalize = Effect.map(store.finalize(turn.id, 1, completed), (isFinalized) => ({ isFinalized }))
          const { cancelled, isFinalized } = round % 2 === 0
            ? yield* race(cancel, finalize)
            : yield* race(finalize, cancel)
          const message = yield* stored(turn.id)
          if (isFinalized) {
            assert.deepInclude(message, completed)
            assert.deepNestedInclude(cancelled, { "failure._tag": "AlreadyFinished" })
          } else {
            assert.deepInclude(message, { status: "cancelled", content: "stopped", parts: [] })
            assert.deepNestedInclude(cancelled, { _tag: "Success", success: message })
          }
        }
      }))

    // what was streamed before the cancel

    it.effect("adds what was streamed to a cancelled message, whose status and time stay", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        yield* store.claim(turn)
        const cancelled = yield* store.cancel(turn.id, "Stopped.")
        yield* TestClock.adjust("1 second")
        const partial: Content = { content: "as far as it", parts: partsOf("as far as it"), usage: someUsage }
        assert.isTrue(yield* store.keepPartial(turn.id, 2, partial))
        assert.deepStrictEqual(yield* stored(turn.id), { ...cancelled, ...partial })
      }))

    it.effect("takes nothing but the content from what was streamed, also when it is given more", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        const cancelled = yield* store.cancel(turn.id, "Stopped.")
        assert.isTrue(yield* store.keepPartial(turn.id, 1, failed))
        assert.deepStrictEqual(yield* stored(turn.id), {
          ...cancelled,
          content: failed.content,
          parts: failed.parts,
          usage: failed.usage
        })
      }))

    it.effect("adds nothing to a message that is not cancelled", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        for (const outcome of [undefined, completed, failed]) {
          const turn = yield* newTurn
          yield* store.claim(turn)
          if (outcome !== undefined) {
            yield* store.finalize(turn.id, 1, outcome)
          }
          const before = yield* stored(turn.id)
          assert.isFalse(yield* store.keepPartial(turn.id, 1, { content: "late", parts: [], usage: Usage.zero }))
          assert.deepStrictEqual(yield* stored(turn.id), before)
        }
      }))

    // reading

    it.effect("lists the newest messages of the conversation, oldest first, however many share a millisecond", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const conversationId = yield* newConversation
        const elsewhere = yield* newConversation
        const ids: Array<AssistantMessageId> = []
        for (const n of numbers(12)) {
          // Pairs of messages share their millisecond.
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
          Effect.map(store.listMessages(conversationId, limit), (messages) =>
            messages.map((message) =>
              message.id
            ))
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
        const request = requestOf(turn.prompt, text)
        const outcome: Outcome = {
          status: "error",
          content: text,
          parts: partsOf(text),
          usage: someUsage,
          error: { tag: "Upstream", message: text }
        }
        const pending = yield* store.claim(turn)
        assert.deepStrictEqual(pending.prompt, turn.prompt)
        assert.isTrue(yield* store.recordRequest(turn.id, 1, request))
        assert.isTrue(yield* store.finalize(turn.id, 1, outcome))
        const message = yield* stored(turn.id)
        assert.deepStrictEqual(message, { ...pending, ...outcome, request, finishedMillis: message.finishedMillis })
        assert.deepStrictEqual(yield* store.listMessages(turn.conversationId, 1), [message])
      }))

    it.effect("gives back a cancel's content and a partial reply of any characters", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        for (const { text } of contents) {
          const turn = yield* newTurn
          yield* store.claim(turn)
          assert.strictEqual((yield* store.cancel(turn.id, text)).content, text)
          assert.isTrue(yield* store.keepPartial(turn.id, 1, { content: text, parts: partsOf(text), usage: someUsage }))
          assert.deepInclude(yield* stored(turn.id), { content: text, parts: partsOf(text), usage: someUsage })
        }
      }))

    // isolation

    it.effect("keeps two conversations apart", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const left = yield* newTurn
        const right = yield* newTurn
        yield* store.claim(left)
        yield* store.setSession(left.conversationId, Option.none(), session("left"))
        const untouched = yield* store.claim(right)
        assert.deepStrictEqual(yield* store.getSession(right.conversationId), Option.none())
        yield* store.setSession(right.conversationId, Option.none(), session("right"))

        yield* store.recordRequest(left.id, 1, requestOf(left.prompt))
        yield* store.finalize(left.id, 1, completed)
        yield* store.claim(yield* newTurnOf(left.conversationId))
        assert.deepStrictEqual(yield* stored(right.id), untouched)
        assert.deepStrictEqual(yield* store.listMessages(right.conversationId, 10), [untouched])
        assert.deepStrictEqual(yield* store.getSession(left.conversationId), Option.some(session("left")))
        assert.deepStrictEqual(yield* store.getSession(right.conversationId), Option.some(session("right")))
      }))

    it.effect.each(hostileIds)("takes $name for an id and nothing else", ({ id: hostile }) =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        // The hostile text comes first and last, and the random rest keeps two runs on one database apart.
        const wrap = (prefix: string) => Effect.map(makeId(prefix), (random) => `${hostile}${random}${hostile}`)
        const bystander = yield* newTurn
        const untouched = yield* store.claim(bystander)
        const conversationId = ConversationId.make(yield* wrap("con"))
        const turn = { ...(yield* newTurnOf(conversationId)), id: AssistantMessageId.make(yield* wrap("msg")) }

        assert.isTrue(yield* store.setSession(conversationId, Option.none(), session(hostile)))
        assert.isTrue(yield* store.setSession(conversationId, Option.some(session(hostile)), session(`${hostile}2`)))
        assert.deepStrictEqual(yield* store.getSession(conversationId), Option.some(session(`${hostile}2`)))
        yield* store.claim(turn)
        const error = yield* Effect.flip(store.claim(yield* newTurnOf(conversationId)))
        assert.deepInclude(error, { _tag: "TurnInProgress", conversationId, messageId: turn.id })
        assert.isTrue(yield* store.recordRequest(turn.id, 1, requestOf(turn.prompt)))
        assert.strictEqual((yield* store.cancel(turn.id, hostile)).id, turn.id)
        assert.isTrue(yield* store.keepPartial(turn.id, 1, completed))
        assert.deepStrictEqual(yield* store.listMessages(conversationId, 10), [yield* stored(turn.id)])
        assert.deepStrictEqual(yield* stored(bystander.id), untouched)
      }))

    it.effect("tells ids apart that differ only in case or in a trailing space", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const turn = yield* newTurn
        yield* store.claim(turn)
        yield* store.setSession(turn.conversationId, Option.none(), session("one"))
        for (const change of [(id: string) => id.toUpperCase(), (id: string) => `${id} `]) {
          const id = AssistantMessageId.make(change(turn.id))
          const conversationId = ConversationId.make(change(turn.conversationId))
          assert.deepStrictEqual(yield* store.getMessage(id), Option.none())
          assert.deepStrictEqual(yield* store.listMessages(conversationId, 10), [])
          assert.deepStrictEqual(yield* store.getSession(conversationId), Option.none())
          assert.strictEqual((yield* store.claim({ ...turn, id, conversationId })).epoch, 1)
        }
      }))

    // all of it together

    it.effect.prop(
      "moves every message forward only, with at most one pending, whatever is asked in whatever order",
      { steps: Schema.Array(Schema.Literals(steps)).check(Schema.isMaxLength(20)) },
      ({ steps }) =>
        Effect.gen(function*() {
          const store = yield* SessionStore
          const conversationId = yield* newConversation
          const turns = [yield* newTurnOf(conversationId), yield* newTurnOf(conversationId)] as const
          let before: ReadonlyArray<StoredMessage> = []
          for (const step of steps) {
            const turn = turns[step.endsWith("the first") ? 0 : 1]
            const known = before.find((message) => message.id === turn.id)
            yield* ask(step, turn, known?.epoch ?? 1)
            const after = yield* store.listMessages(conversationId, 10)
            assert.isAtMost(after.filter((message) => message.status === "pending").length, 1)
            for (const old of before) {
              const now = after.find((message) => message.id === old.id)
              assert.isAtLeast(now?.epoch ?? 0, old.epoch)
              if (old.status !== "pending") {
                assert.deepInclude(now, { status: old.status, finishedMillis: old.finishedMillis, epoch: old.epoch })
              }
              if (step.startsWith("an old owner")) assert.deepStrictEqual(now, old)
            }
            before = after
          }
        })
    )
  })

// internal

const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, n) => n)

const session = (name: string): SessionId => SessionId.make(`ses_${name}`)

const newConversation = Effect.map(makeId("con"), (id) => ConversationId.make(id))

const newTurnOf = (conversationId: ConversationId) =>
  Effect.map(makeId("asm"), (id) => {
    const prompt: ReadonlyArray<PromptPart> = [{ type: "text", text: "What is in this repository?" }]
    return { id: AssistantMessageId.make(id), conversationId, prompt }
  })

const newTurn = Effect.flatMap(newConversation, newTurnOf)

const stored = Effect.fnUntraced(function*(id: AssistantMessageId) {
  const store = yield* SessionStore
  return yield* Effect.fromOption(yield* store.getMessage(id))
})

const race = <A, B, E1, E2>(first: Effect.Effect<A, E1>, second: Effect.Effect<B, E2>) =>
  Effect.zipWith(first, second, (a, b) => ({ ...a, ...b }), { concurrent: true })

const promptOf = (text: string): ReadonlyArray<PromptPart> => [
  { type: "text", text },
  { type: "file", mediaType: "text/plain", url: `data:text/plain,${encodeURIComponent("a b")}`, filename: text },
  { type: "file", mediaType: "image/png", url: "https://example.com/picture.png" },
  { type: "agent", name: text }
]

const requestOf = (parts: ReadonlyArray<PromptPart>, text = "plain"): StoredRequest => ({
  sessionId: session("of the request"),
  prompt: {
    ids: {
      promptId: MessageId.make("msg_0123456789abPrompt"),
      partIds: parts.map((_, index) => PartId.make(`prt_0123456789ab${index}`))
    },
    parts,
    agent: "build",
    model: { providerId: "anthropic", modelId: "claude-sonnet-4-5" },
    variant: "high",
    system: text,
    format: { type: "object", properties: { answer: { type: "string", description: text } }, required: ["answer"] }
  }
})

const someUsage: Usage.Usage = {
  cost: 0.000123456789,
  tokens: { input: 12_345, output: 678, reasoning: 9, cacheRead: 1_000_000, cacheWrite: 0 }
}

const partId = (name: string): PartId => PartId.make(`prt_${name}`)

/** One part of every type and status, with `text` wherever a part holds text. */
const partsOf = (text: string): ReadonlyArray<Part> => {
  const messageId = MessageId.make("msg_0123456789abAnswer")
  const tool = { type: "tool", messageId, callId: "call_1", tool: "bash" } as const
  return [
    { type: "reasoning", id: partId("reasoning"), messageId, text, isComplete: true },
    { ...tool, id: partId("pending"), status: "pending", input: {} },
    { ...tool, id: partId("running"), status: "running", input: { command: text }, title: text, startedMillis: 1.5 },
    {
      ...tool,
      id: partId("completed"),
      status: "completed",
      input: { command: text, nested: { list: [1, null, true, { deep: text }] }, [text]: text },
      title: text,
      output: text,
      metadata: { exit: 0, truncated: false },
      subagent: session("child"),
      startedMillis: 1_754_000_000_000,
      endedMillis: 1_754_000_000_001
    },
    { ...tool, id: partId("error"), status: "error", input: {}, error: text, isRefused: true },
    {
      type: "file",
      id: partId("file"),
      messageId,
      mediaType: "image/png",
      url: "data:image/png;base64,AA==",
      filename: text
    },
    { type: "patch", id: partId("patch"), messageId, files: ["src/a.ts", text] },
    { type: "step-finish", id: partId("finish"), messageId, reason: "stop", ...someUsage },
    { type: "text", id: partId("text"), messageId, text, isComplete: false },
    {
      type: "todos",
      id: partId("todos"),
      todos: [{ content: text, status: "in_progress", priority: "high" }, { content: text, status: "cancelled" }]
    }
  ]
}

const completed: Outcome = {
  status: "completed",
  content: "It is a workspace.",
  parts: partsOf("It is a workspace."),
  usage: someUsage,
  error: null
}

const failed: Outcome = {
  status: "error",
  content: "The model could not be reached.",
  parts: [],
  usage: Usage.zero,
  error: { tag: "Upstream", message: "the provider said 529" }
}

const interrupted: Outcome = { ...failed, status: "cancelled", content: "Stopped.", error: null }

const terminals: ReadonlyArray<Outcome> = [completed, interrupted, failed]

const transitions = terminals.flatMap((from) =>
  terminals.map((to) => ({ from, to, name: `${from.status} for ${to.status}` }))
)

const contents = [
  { name: "no text at all", text: "" },
  { name: "text of many scripts", text: "żółć, 日本語, עברית, Ünïcode, e\u0301 and \u00e9" },
  { name: "emoji of several code points", text: "👩‍👩‍👧‍👦 🏳️‍🌈 𝒯𝓊𝓇𝓃 🇺🇳" },
  { name: "line breaks, tabs, quotes and backslashes", text: "a\r\nb\tc\u2028d \"e\" 'f' `g` \\n \\u0000 %s $1 ?" },
  { name: "NUL and other control characters", text: "before\u0000after\u0001\u001b[31m\u007f\u0000" },
  { name: "half a surrogate pair, which a cut stream leaves", text: "cut \ud83d" },
  { name: "a byte order mark", text: "\ufeffmarked" },
  { name: "text that looks like JSON or SQL", text: "{\"status\":\"pending\"}'); DROP TABLE messages; --" },
  { name: "a megabyte of text", text: "0123456789abcdeé".repeat(65_536) }
]

const hostileIds = [
  { name: "a single quote", id: "'" },
  { name: "a double quote", id: "\"" },
  { name: "SQL that drops a table", id: "'; DROP TABLE opencode_turn_assistant_messages; --" },
  { name: "SQL that is always true", id: "' OR '1'='1" },
  { name: "a LIKE pattern", id: "%_%" },
  { name: "a placeholder", id: "?1 $1 :id @id" },
  { name: "a number", id: "0012" },
  { name: "the name of a property that every object has", id: "__proto__" },
  { name: "unicode with spaces around it", id: " żółć 👩‍👧 " }
]

const steps = [
  "claim the first",
  "claim the second",
  "finalize the first",
  "finalize the second",
  "fail the first",
  "cancel the first",
  "cancel the second",
  "keep the partial reply of the first",
  "record the request of the second",
  "an old owner finalizes the first",
  "an old owner records the request of the second"
] as const

const ask = Effect.fnUntraced(function*(
  step: typeof steps[number],
  turn: Effect.Success<typeof newTurn>,
  epoch: number
) {
  const store = yield* SessionStore
  switch (step) {
    case "claim the first":
    case "claim the second":
      return yield* Effect.exit(store.claim(turn))
    case "finalize the first":
    case "finalize the second":
      return yield* store.finalize(turn.id, epoch, completed)
    case "fail the first":
      return yield* store.finalize(turn.id, epoch, failed)
    case "cancel the first":
    case "cancel the second":
      return yield* Effect.exit(store.cancel(turn.id, "stopped"))
    case "keep the partial reply of the first":
      return yield* store.keepPartial(turn.id, epoch, completed)
    case "record the request of the second":
      return yield* store.recordRequest(turn.id, epoch, requestOf(turn.prompt))
    case "an old owner finalizes the first":
      return yield* store.finalize(turn.id, epoch - 1, completed)
    case "an old owner records the request of the second":
      return yield* store.recordRequest(turn.id, epoch - 1, requestOf(turn.prompt))
  }
})
