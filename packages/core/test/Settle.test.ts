import { assert, describe } from "@effect/vitest"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Turns from "./turns.ts"

const { conversationId, messageId, names, payloads, row, test, turn } = Turns

const sorry = "Sorry, an error occurred while generating this response."

const run = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>, input: Partial<TurnInput> = {}) {
  const fiber = yield* Effect.forkChild(runTurn(turn(steps, input)))
  for (let second = 0; second < 10 && fiber.pollUnsafe() === undefined; second++) {
    yield* Turns.rest
    yield* TestClock.adjust("500 millis")
  }
  return yield* Fiber.join(fiber)
})

describe("an upstream error", () => {
  test("ends the turn with what the provider said", () =>
    Effect.gen(function*() {
      const result = yield* run([{ fail: 400, message: "no such parameter" }])
      assert.strictEqual(result.status, "error")
      assert(result.error?._tag === "Upstream")
      assert.deepInclude(result.error, { name: "APIError", reason: "no such parameter", statusCode: 400 })
      assert.strictEqual(result.content, sorry)
      assert.deepInclude(yield* row, {
        status: "error",
        content: sorry,
        error: { tag: "Upstream", message: "APIError 400: no such parameter" }
      })
      assert.deepStrictEqual(yield* payloads("response.error"), [
        { reason: "upstream_llm_error", message_id: messageId, subject_id: conversationId }
      ])
      assert.deepStrictEqual(yield* payloads("response.upstream_error"), [{
        error_name: "APIError",
        error_message: "no such parameter",
        status_code: 400,
        provider_url: result.error.url ?? null
      }])
      assert.deepInclude(result.trace, {
        status: "error",
        error: "Upstream",
        error_message: "APIError 400: no such parameter"
      })
      assert.deepStrictEqual((yield* names).slice(-4), [
        "stream.completed",
        "response.error",
        "response.upstream_error",
        "turn.finished"
      ])
      assert.lengthOf(yield* Turns.aborts, 0)
    }))

  test("is traced with at most 200 characters of its message", () =>
    Effect.gen(function*() {
      const result = yield* run([{ fail: 400, message: "x".repeat(1000) }])
      assert.strictEqual((yield* payloads("response.upstream_error"))[0]?.["error_message"], "x".repeat(200))
      assert.strictEqual(result.trace.error_message?.length, 200)
      assert(result.error?._tag === "Upstream")
      assert.lengthOf(result.error.reason, 1000)
    }))

  test("keeps the text that came before it", () =>
    Effect.gen(function*() {
      const result = yield* run([
        { text: "Half of it.", tool: "bash", args: { command: "echo one" } },
        { fail: 400, message: "no" }
      ])
      assert.deepStrictEqual([result.status, result.error?._tag], ["error", "Upstream"])
      assert.strictEqual(result.content, "Half of it.")
      assert.deepInclude(yield* row, { status: "error", content: "Half of it.", parts: result.reply.parts })
    }))

  test("of a filtered answer keeps its partial text", () =>
    Effect.gen(function*() {
      const result = yield* run([{ text: "Something rude", finish: "content_filter" }])
      assert(result.error?._tag === "Upstream")
      assert.strictEqual(result.error.name, "ContentFilterError")
      assert.strictEqual(result.content, "Something rude")
      assert.deepInclude((yield* payloads("response.upstream_error"))[0], { status_code: null, provider_url: null })
    }))

  test("of an unknown model, for which the server stores no message, is told too", () =>
    Effect.gen(function*() {
      const result = yield* run([], { model: "nope/zip" })
      assert(result.error?._tag === "Upstream")
      assert.match(result.error.reason, /not found/)
      assert.strictEqual(result.status, "error")
    }))

  test("is found out although it is stored after the server said that it is idle", () =>
    Effect.gen(function*() {
      const result = yield* run([{ fail: 400, message: "no" }])
      assert.strictEqual(result.error?._tag, "Upstream")
    }), { fake: { raceDelay: "2 millis" } })
})

describe("an empty answer", () => {
  test("is read once more, and is then an error", () =>
    Effect.gen(function*() {
      const result = yield* run([{ text: "" }])
      assert.deepStrictEqual([result.status, result.error?._tag], ["error", "EmptyStream"])
      assert.strictEqual(result.durationMillis, 2000)
      assert.strictEqual(result.content, sorry)
      assert.deepInclude(yield* row, {
        status: "error",
        error: { tag: "EmptyStream", message: String(result.error?.message) }
      })
      assert.deepStrictEqual(yield* payloads("response.error"), [
        { reason: "empty_stream", message_id: messageId, subject_id: conversationId }
      ])
      assert.deepStrictEqual(yield* payloads("response.upstream_error"), [])
      assert.lengthOf(yield* Turns.aborts, 0)
    }))

  test("that is stored only now is found by the second reading", () =>
    Effect.gen(function*() {
      const result = yield* run([{ text: "Late." }])
      assert.deepStrictEqual([result.status, result.content], ["completed", "Late."])
      assert.strictEqual(result.durationMillis, 2000)
      assert.deepStrictEqual(yield* payloads("response.recovered_from_exchange"), [{ message_id: messageId }])
    }), {
    client: (client) => {
      // The baseline and the first reading of the exchange.
      let early = 2
      return {
        listMessages: (...args) =>
          Effect.map(client.listMessages(...args), (page) =>
            early-- > 0
              ? { ...page, messages: page.messages.map((message) => ({ ...message, parts: [] })) }
              : page)
      }
    }
  })

  test("shows the words that the product chose", () =>
    Effect.gen(function*() {
      const result = yield* run([{ text: "" }])
      assert.strictEqual(result.content, sorry)
      const other = yield* run([{ text: "" }], { messageId: "second" }).pipe(
        Effect.provideService(TurnPolicy.FallbackContent, "Nothing came.")
      )
      assert.strictEqual(other.content, "Nothing came.")
    }))

  test("of a person's refusal is none: the refused call is the answer", () =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const result = yield* run([{ tool: "bash", args: { command: "echo no" } }], {
        permission: [{ permission: "bash", pattern: "*", action: "deny" }]
      })
      assert.strictEqual(result.status, "completed")
      assert.lengthOf(result.reply.tools, 1)
      assert.isAtLeast(yield* fake.modelCalls, 1)
    }))
})
