/**
 * Tests of the snapshots of a reply while it is streamed.
 */
import { assert } from "@effect/vitest"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { startedBy } from "@opencode-turn/core/StoredMessage"
import * as Effect from "effect/Effect"
import {
  completed,
  contents,
  failed,
  newTurn,
  partsOf,
  recordOf,
  someUsage,
  stored,
  type StoreTests,
  subagentsOf,
  terminals
} from "./Samples.ts"

export const snapshots = (it: StoreTests): void => {
  it.effect("stores what was streamed so far, the last of it, and leaves the message pending", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      const pending = yield* store.claim(turn)
      yield* store.recordPrompt(turn.id, 1, recordOf(turn.prompt))
      // An outcome has more fields than a snapshot; this content has no subagents.
      for (
        const { content, finish = null, isFallback = false, parts, subagents, usage } of [failed, completed, failed]
      ) {
        const streamed = { content, isFallback, finish, parts, usage, ...(subagents !== undefined && { subagents }) }
        assert.isTrue(yield* store.snapshot(turn.id, 1, { ...failed, ...streamed }))
        const message = yield* stored(turn.id)
        assert.deepStrictEqual(message, {
          ...pending,
          promptRecord: recordOf(turn.prompt),
          started: startedBy(recordOf(turn.prompt)),
          offset: message.offset,
          content,
          isFallback,
          finish,
          parts,
          usage,
          subagents: subagents ?? [],
          revision: message.revision
        })
      }
    }))

  it.effect("reads a snapshot without end fields as text of the agent whose step has not ended", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      assert.isTrue(yield* store.snapshot(turn.id, 1, { ...failed, finish: "length" }))
      assert.deepInclude(yield* stored(turn.id), { isFallback: true, finish: "length" })
      assert.isTrue(yield* store.snapshot(turn.id, 1, { content: "I", parts: [], usage: someUsage }))
      assert.deepInclude(yield* stored(turn.id), { content: "I", isFallback: false, finish: null })
    }))

  it.effect("gives a snapshot of any characters back", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      for (const { text } of contents) {
        const turn = yield* newTurn
        yield* store.claim(turn)
        const content = { content: text, parts: partsOf(text), usage: someUsage, subagents: subagentsOf(text) }
        assert.isTrue(yield* store.snapshot(turn.id, 1, content))
        assert.deepInclude(yield* stored(turn.id), content)
      }
    }))

  it.effect("takes no snapshot of another epoch, of an ended message, or of one that there is not", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      for (const outcome of terminals) {
        const turn = yield* newTurn
        const pending = yield* store.claim(turn)
        assert.isFalse(yield* store.snapshot(turn.id, 0, completed))
        assert.isFalse(yield* store.snapshot(turn.id, 2, completed))
        assert.deepStrictEqual(yield* stored(turn.id), pending)
        yield* store.finalize(turn.id, 1, outcome)
        const ended = yield* stored(turn.id)
        assert.isFalse(yield* store.snapshot(turn.id, 1, { ...completed, content: "late" }))
        assert.deepStrictEqual(yield* stored(turn.id), ended)
      }
      assert.isFalse(yield* store.snapshot((yield* newTurn).id, 1, completed))
    }))

  it.effect("keeps the reply of the last snapshot when the message is cancelled", () =>
    Effect.gen(function*() {
      const store = yield* SessionStore
      const turn = yield* newTurn
      yield* store.claim(turn)
      yield* store.snapshot(turn.id, 1, completed)
      const cancelled = yield* store.cancel(turn.id, "Stopped.")
      const { parts, usage } = completed
      const subagents = subagentsOf("It is a workspace.")
      assert.deepInclude(cancelled, { content: "Stopped.", isFallback: true, finish: null, parts, usage, subagents })
    }))
}
