import { assert, describe, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { ModelRequest, Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { assertFields } from "../../support/http.ts"

const model = { providerId: "scripted", modelId: "m" }

/** A conversation with these words gets no summary, or a summary at the gate. */
const summary = ({ messages }: ModelRequest): Step => {
  const said = messages.map(({ text }) => text).join(" ")
  if (said.includes("refuse")) return { fail: 400, message: "no summary today" }
  return said.includes("hold") ? { text: "half a summary", gate: "summary", gateAfter: 1 } : { text: "the summary" }
}

const spoken = Effect.fnUntraced(function*(words: string) {
  const client = yield* Client
  const { id } = yield* client.createSession({})
  yield* client.sendMessage(id, FakeOpencode.prompt(words, [{ text: "answer" }]))
  return id
})

const answerTo = (words: string, id: Effect.Success<ReturnType<typeof spoken>>) =>
  Effect.gen(function*() {
    const client = yield* Client
    const message = yield* client.sendMessage(id, FakeOpencode.prompt(words, [{ text: `answer to ${words}` }]))
    return message.parts.flatMap((part) => (part.type === "text" ? [part.text] : []))
  })

describe("a compaction", () => {
  it.effect("gives the summary and what it cost", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const id = yield* spoken("one")
      const compacted = yield* client.compactSession(id, model)
      assertFields(compacted, { text: "the summary" })
      assert.isAbove(compacted.usage.cost, 0)
      assert.deepStrictEqual(yield* answerTo("two", id), ["answer to two"])
    }).pipe(Effect.provide(FakeOpencode.layerTest({ summary }))))

  it.effect("of a conversation whose newest message is a summary asks no model", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const fake = yield* FakeOpencode.FakeOpencode
      const id = yield* spoken("one")
      const first = yield* client.compactSession(id, model)
      assert.deepStrictEqual(yield* client.compactSession(id, model), { ...first, isNew: false })
      assert.lengthOf((yield* fake.requests).filter(({ path }) => path.endsWith("/summarize")), 1)
    }).pipe(Effect.provide(FakeOpencode.layerTest({ summary }))))

  it.effect("that the provider refuses fails with its words, and the next prompt is answered", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const id = yield* spoken("refuse")
      const error = yield* Effect.flip(client.compactSession(id, model))
      assertFields(error, { _tag: "CompactionFailed", sessionId: id })
      assert.include(error.message, "no summary today")
      assert.lengthOf((yield* client.listMessages(id, { limit: 9 })).messages, 2)
      assert.deepStrictEqual(yield* answerTo("two", id), ["answer to two"])
    }).pipe(Effect.provide(FakeOpencode.layerTest({ summary }))))

  it.effect("by an unknown model fails, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const id = yield* spoken("one")
      const error = yield* Effect.flip(client.compactSession(id, { providerId: "a", modelId: "b" }))
      assert.strictEqual(error._tag, "CompactionFailed")
      assert.lengthOf((yield* client.listMessages(id, { limit: 9 })).messages, 2)
    }).pipe(Effect.provide(FakeOpencode.layerTest({ summary }))))

  it.effect("that is interrupted stops, and the next prompt is answered", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const fake = yield* FakeOpencode.FakeOpencode
      const id = yield* spoken("hold")
      const fiber = yield* Effect.forkChild(client.compactSession(id, model))
      yield* fake.reached("summary")
      yield* Fiber.interrupt(fiber)
      assert.isFalse((yield* client.statuses).has(id))
      assert.lengthOf((yield* client.listMessages(id, { limit: 9 })).messages, 2)
      assert.deepStrictEqual(yield* answerTo("two", id), ["answer to two"])
    }).pipe(Effect.provide(FakeOpencode.layerTest({ summary }))))

  it.effect("takes back the order that a killed server left behind", () =>
    Effect.gen(function*() {
      const client = yield* Client
      const fake = yield* FakeOpencode.FakeOpencode
      const id = yield* spoken("hold")
      const fiber = yield* Effect.forkChild(Effect.exit(client.compactSession(id, model)))
      yield* fake.reached("summary")
      yield* fake.restart
      yield* Fiber.join(fiber)
      yield* fake.release("summary")
      assertFields(yield* client.compactSession(id, model), { text: "half a summary" })
      assert.lengthOf((yield* client.listMessages(id, { limit: 9 })).messages, 4)
    }).pipe(Effect.provide(FakeOpencode.layerTest({ summary }))))
})
