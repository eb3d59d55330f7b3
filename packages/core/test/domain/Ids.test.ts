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

it.effect("makes ids in the server's format", () =>
  Effect.gen(function*() {
    const { partIds, promptId } = yield* Ids.makePromptIds(after(newest), 3)
    assert.match(promptId, /^msg_[0-9a-f]{12}[0-9A-Za-z]{14}$/)
    for (const id of partIds) assert.match(id, /^prt_[0-9a-f]{12}[0-9A-Za-z]{14}$/)
  }))

it.effect("sorts a prompt right after the newest message, whatever random parts the two ids have", () =>
  Effect.gen(function*() {
    const last = Ids.MessageId.make("msg_2092e8827003zzzzzzzzzzzzzz")
    for (let round = 0; round < 200; round++) {
      const { promptId } = yield* Ids.makePromptIds(after(last, 5_000_000_000_000), 1)
      assert.isAbove(promptId.localeCompare(last, "en"), 0)
      assert.isTrue(promptId > last)
      assert.strictEqual(promptId.slice(4, 16), "2092e8827004")
    }
  }))

it.effect("without a known message, sorts a prompt after the session's last change by the server's clock", () =>
  Effect.gen(function*() {
    const updated = 1_795_450_374_179
    const { promptId } = yield* Ids.makePromptIds(after(undefined, updated), 1)
    const time = (BigInt(updated) * 4096n) & ((1n << 48n) - 1n)
    assert.strictEqual(BigInt(`0x${promptId.slice(4, 16)}`), time + 1n)
    // The server itself made this id in the same millisecond or later.
    assert.isTrue(promptId < "msg_2092e883b0016tYs4QBla5om2J")
  }))

it.effect("ignores a message id in another format and uses the session's last change", () =>
  Effect.gen(function*() {
    const updated = 1_795_450_374_179
    const odd = yield* Ids.makePromptIds(after(Ids.MessageId.make("msg_mine"), updated), 1)
    const none = yield* Ids.makePromptIds(after(undefined, updated), 1)
    assert.strictEqual(odd.promptId.slice(0, 16), none.promptId.slice(0, 16))
  }))

it.effect("never reads the local clock", () =>
  Effect.gen(function*() {
    const early = yield* Ids.makePromptIds(after(newest), 1)
    yield* TestClock.setTime(4_000_000_000_000)
    const late = yield* Ids.makePromptIds(after(newest), 1)
    assert.strictEqual(early.promptId.slice(0, 16), late.promptId.slice(0, 16))
    assert.notStrictEqual(early.promptId, late.promptId)
  }))

it.effect("sorts the ids of parts by their position", () =>
  Effect.gen(function*() {
    const { partIds } = yield* Ids.makePromptIds(after(newest), 5_000)
    assert.strictEqual(new Set(partIds).size, 5_000)
    assert.deepStrictEqual(partIds.toSorted(), [...partIds])
  }))

it.effect("makes different ids of its own, with 130 random bits each", () =>
  Effect.gen(function*() {
    const ids = yield* Effect.replicateEffect(Ids.makeId("turn"), 100)
    assert.strictEqual(new Set(ids).size, 100)
    for (const id of ids) assert.match(id, /^turn_[0-9A-Za-z]{22}$/)
  }))

it("rejects an empty id of a conversation or an assistant message", () => {
  assert.isFalse(Schema.is(Ids.ConversationId)(""))
  assert.isFalse(Schema.is(Ids.AssistantMessageId)(""))
})
