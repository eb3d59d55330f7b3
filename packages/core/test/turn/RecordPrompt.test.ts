import { recordPrompt, recordRepair } from "#turn/RecordPrompt"
import { assert, describe } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Effect from "effect/Effect"
import * as Turns from "../support/turns.ts"

const { conversationId, messageId, row, test, turn } = Turns

const claimed = Effect.gen(function*() {
  const client = yield* Client
  const store = yield* SessionStore
  const { id: sessionId } = yield* client.createSession({})
  const message = yield* store.claim({
    id: messageId,
    conversationId,
    prompt: [{ type: "text", text: "Do it." }],
    lease: { owner: "this one", millis: 4000 }
  })
  return { message, sessionId }
})

const cancelled = (store: Turns.Store) => store.cancel(messageId, "Stopped.")
const taken = (store: Turns.Store) =>
  Effect.andThen(store.release(messageId, 1), store.takeOver(messageId, { owner: "another", millis: 4000 }))

describe("recording the ids of a prompt", () => {
  const endings = [
    { what: "was cancelled", tag: "TurnCancelled", end: cancelled },
    { what: "belongs to another owner", tag: "TurnTakenOver", end: taken },
    {
      what: "is gone",
      tag: "TurnTakenOver",
      end: (store: Turns.Store) => Effect.andThen(cancelled(store), store.prune(Infinity))
    }
  ] as const
  for (const { end, tag, what } of endings) {
    test(`fails and changes nothing if the message ${what}`, () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const { message, sessionId } = yield* claimed
        yield* end(store)
        const before = yield* row
        const error = yield* Effect.flip(recordPrompt(turn([{ text: "Hi." }]), message, { sessionId, isNew: true }))
        assert.strictEqual(error._tag, tag)
        assert.deepStrictEqual(yield* row, before)
      }))
  }

  test("fails for a repair of the turn as well", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const { message, sessionId } = yield* claimed
      const request = yield* recordPrompt(turn([{ text: "Hi." }]), message, { sessionId, isNew: true })
      yield* taken(store)
      const before = yield* row
      const exchange = {
        promptId: request.prompt.ids.promptId,
        sessionId,
        messages: [],
        steps: [],
        isAccepted: true,
        isCurrent: true,
        unread: { lost: [], hidden: [], other: [] }
      }
      const repair = recordRepair(request, exchange, { text: "Once more.", why: "invalid" }, message)
      assert.strictEqual((yield* Effect.flip(repair))._tag, "TurnTakenOver")
      assert.deepStrictEqual(yield* row, before)
    }))
})
