import { assert, it } from "@effect/vitest"
import * as Ids from "@opencode-turn/core/Ids"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"

const newest = Ids.MessageId.make("msg_2092e8827003v07BWavOpryET6")
const after = (newestMessageId: Ids.MessageId | undefined, sessionUpdatedMillis = 0) => ({
  newestMessageId,
  sessionUpdatedMillis
})

it.effect("the ids are of the server's form", () =>
  Effect.gen(function*() {
    const { partIds, promptId } = yield* Ids.makePromptIds(after(newest), 3)
    assert.match(promptId, /^msg_[0-9a-f]{12}[0-9A-Za-z]{14}$/)
    for (const id of partIds) assert.match(id, /^prt_[0-9a-f]{12}[0-9A-Za-z]{14}$/)
  }))

it.effect("a prompt sorts right after the newest message, whatever the random part of either", () =>
  Effect.gen(function*() {
    const last = Ids.MessageId.make("msg_2092e8827003zzzzzzzzzzzzzz")
    for (let round = 0; round < 200; round++) {
      const { promptId } = yield* Ids.makePromptIds(after(last, 5_000_000_000_000), 1)
      assert.isAbove(promptId.localeCompare(last, "en"), 0)
      assert.isTrue(promptId > last)
      assert.strictEqual(promptId.slice(4, 16), "2092e8827004")
    }
  }))

it.effect("where no message is known it sorts after the last change of the session, by the server's clock", () =>
  Effect.gen(function*() {
    const updated = 1_795_450_374_179
    const { promptId } = yield* Ids.makePromptIds(after(undefined, updated), 1)
    const time = (BigInt(updated) * 4096n) & ((1n << 48n) - 1n)
    assert.strictEqual(BigInt(`0x${promptId.slice(4, 16)}`), time + 1n)
    // An id that the server itself made in the same millisecond or later.
    assert.isTrue(promptId < "msg_2092e883b0016tYs4QBla5om2J")
  }))

it.effect("an id of another form counts for nothing, and the last change of the session for all", () =>
  Effect.gen(function*() {
    const updated = 1_795_450_374_179
    const odd = yield* Ids.makePromptIds(after(Ids.MessageId.make("msg_mine"), updated), 1)
    const none = yield* Ids.makePromptIds(after(undefined, updated), 1)
    assert.strictEqual(odd.promptId.slice(0, 16), none.promptId.slice(0, 16))
  }))

it.effect("the local clock is never asked", () =>
  Effect.gen(function*() {
    const early = yield* Ids.makePromptIds(after(newest), 1)
    yield* TestClock.setTime(4_000_000_000_000)
    const late = yield* Ids.makePromptIds(after(newest), 1)
    assert.strictEqual(early.promptId.slice(0, 16), late.promptId.slice(0, 16))
    assert.notStrictEqual(early.promptId, late.promptId)
  }))

it.effect("the ids of parts sort by their position", () =>
  Effect.gen(function*() {
    const { partIds } = yield* Ids.makePromptIds(after(newest), 5_000)
    assert.strictEqual(new Set(partIds).size, 5_000)
    assert.deepStrictEqual(partIds.toSorted(), [...partIds])
  }))

it.effect("own ids differ, and their random part has 130 bits", () =>
  Effect.gen(function*() {
    const ids = yield* Effect.replicateEffect(Ids.makeId("turn"), 100)
    assert.strictEqual(new Set(ids).size, 100)
    for (const id of ids) assert.match(id, /^turn_[0-9A-Za-z]{22}$/)
  }))

it("a conversation and an assistant message must have a name", () => {
  assert.isFalse(Schema.is(Ids.ConversationId)(""))
  assert.isFalse(Schema.is(Ids.AssistantMessageId)(""))
})
