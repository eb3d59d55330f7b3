import { assert, describe, it } from "@effect/vitest"
import { SessionId } from "@opencode-turn/core/Ids"
import { runTurn } from "@opencode-turn/core/Turn"
import { EmptyStream } from "@opencode-turn/core/TurnError"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as Turns from "../support/turns.ts"

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
  test("ends the turn with the provider's words", () =>
    Effect.gen(function*() {
      const result = yield* run([{ fail: 400, message: "no such parameter" }])
      assert.strictEqual(result.status, "error")
      assert(result.error?._tag === "Upstream")
      assert.deepInclude(result.error, { name: "APIError", reason: "no such parameter", statusCode: 400 })
      assert.strictEqual(result.content, sorry)
      assert.deepInclude(yield* row, {
        status: "error",
        content: sorry,
        error: {
          tag: "Upstream",
          message: "APIError 400: no such parameter",
          details: {
            name: "APIError",
            reason: "no such parameter",
            statusCode: 400,
            isRetryable: false,
            ...(result.error.url !== undefined && { url: result.error.url })
          }
        }
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
        "response.upstream_error",
        "response.error",
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

  test("of an unknown model is reported, although the server stores no message for it", () =>
    Effect.gen(function*() {
      const result = yield* run([], { model: "nope/zip" })
      assert(result.error?._tag === "Upstream")
      assert.match(result.error.reason, /not found/)
      assert.strictEqual(result.status, "error")
    }))

  test("is found although the server stores it after the idle", () =>
    Effect.gen(function*() {
      const result = yield* run([{ fail: 400, message: "no" }])
      assert.strictEqual(result.error?._tag, "Upstream")
    }), { fake: { raceDelay: "2 millis" } })
})

const allowed: Partial<TurnInput> = { permission: [{ permission: "bash", pattern: "*", action: "allow" }] }
const bash: Step = { tool: "bash", args: { command: "echo one" } }

describe("an answer without words", () => {
  const silent: ReadonlyArray<
    readonly [
      string,
      ReadonlyArray<Step>,
      { readonly finish: string; readonly hasReasoning: boolean; readonly tools: ReadonlyArray<string> }
    ]
  > = [
    ["of thoughts alone", [{ reasoning: "I think." }], { finish: "stop", hasReasoning: true, tools: [] }],
    ["of tool calls and then nothing", [bash, bash, {}], { finish: "stop", hasReasoning: false, tools: ["bash"] }],
    ["of a tool call and then thoughts", [bash, { reasoning: "Done." }], {
      finish: "stop",
      hasReasoning: true,
      tools: ["bash"]
    }],
    ["that was cut off before its first word", [{ finish: "length" }], {
      finish: "length",
      hasReasoning: false,
      tools: []
    }],
    ["that was cut off while it thought", [{ reasoning: "I think.", finish: "length" }], {
      finish: "length",
      hasReasoning: true,
      tools: []
    }],
    ["of blank text", [{ text: " \n\t " }], { finish: "stop", hasReasoning: false, tools: [] }],
    ["of characters that are not drawn", [{ text: "\u200b\u00a0\ufeff\u2060\u00ad\u3164" }], {
      finish: "stop",
      hasReasoning: false,
      tools: []
    }],
    ["of blank text beside and after a tool call", [{ text: "\n\n", ...bash }, { text: " " }], {
      finish: "stop",
      hasReasoning: false,
      tools: ["bash"]
    }]
  ]
  for (const [what, steps, fields] of silent) {
    test(`${what} is an error that describes the rest of the answer, and keeps its parts`, () =>
      Effect.gen(function*() {
        const result = yield* run(steps, allowed)
        assert.deepStrictEqual([result.status, result.error?._tag], ["error", "EmptyStream"])
        assert.deepInclude(result.error, fields)
        assert.deepInclude(result, { content: sorry, isFallback: true, finish: fields.finish })
        assert.deepInclude(yield* row, {
          status: "error",
          content: sorry,
          isFallback: true,
          finish: fields.finish,
          parts: result.reply.parts,
          error: Turns.storedError(result.error)
        })
        assert.isNotEmpty(result.reply.parts)
        assert.deepStrictEqual(yield* payloads("response.error"), [
          { reason: "empty_stream", message_id: messageId, subject_id: conversationId }
        ])
        assert.deepInclude(result.trace, { status: "error", error: "EmptyStream" })
        assert.lengthOf(yield* Turns.aborts, 0)
      }))

    test(`${what} completes if the product allows silence and the answer is not entirely empty`, () =>
      Effect.gen(function*() {
        const result = yield* run(steps, allowed).pipe(Effect.provideService(TurnPolicy.AllowSilent, true))
        const hasSomething = what !== "that was cut off before its first word"
        assert.strictEqual(result.error?._tag, hasSomething ? undefined : "EmptyStream")
        assert.deepInclude(result, {
          status: hasSomething ? "completed" : "error",
          content: hasSomething ? result.reply.text : sorry,
          isFallback: !hasSomething,
          finish: fields.finish
        })
      }))
  }

  const spoken: ReadonlyArray<readonly [string, ReadonlyArray<Step>, string, string]> = [
    ["beside a tool call, and then nothing", [{ text: "I look.", ...bash }, {}], "I look.", "stop"],
    ["and was cut off", [{ text: "Half of", finish: "length" }], "Half of", "length"],
    ["after blank text", [{ text: " \n", ...bash }, { text: "Done." }], " \n\n\nDone.", "stop"],
    ["of one sign", [{ text: "👍" }], "👍", "stop"]
  ]
  for (const [what, steps, content, finish] of spoken) {
    test(`does not fail if the agent said something ${what}`, () =>
      Effect.gen(function*() {
        const result = yield* run(steps, allowed)
        assert.deepInclude(result, { status: "completed", content, isFallback: false, finish })
        assert.deepInclude(yield* row, { status: "completed", content, isFallback: false, finish })
      }))
  }

  test("does not fail if it has a structured value", () =>
    Effect.gen(function*() {
      const result = yield* runTurn({
        ...turn([{ tool: "StructuredOutput", args: { n: 1 } }]),
        output: Schema.Struct({ n: Schema.Int })
      })
      assert.deepInclude(result, {
        status: "completed",
        content: "{\n  \"n\": 1\n}",
        isFallback: false,
        finish: "tool-calls"
      })
    }))

  for (
    const [name, text, expected] of [
      ["keeps the streamed text if its record is blank", " ", "I said it."],
      ["takes the text of the record if that is shorter than the streamed one", "I said", "I said"]
    ] as const
  ) {
    test(name, () =>
      Effect.gen(function*() {
        const result = yield* run([{ text: "I said it." }])
        assert.deepInclude(result, { status: "completed", content: expected, isFallback: false })
        assert.strictEqual(result.reply.text, expected)
        assert.deepInclude(yield* row, { content: expected, parts: result.reply.parts })
      }), {
      client: (client) => ({
        listMessages: (...args) =>
          Effect.map(client.listMessages(...args), (page) => ({
            ...page,
            messages: page.messages.map((message) => ({
              ...message,
              parts: message.parts.map((part) => (part.type === "text" ? { ...part, text } : part))
            }))
          }))
      })
    })
  }

  it("describes the rest of the answer", () => {
    assert.strictEqual(silence({}), "the agent ended the turn without a word")
    assert.strictEqual(silence({ finish: "stop" }), "the agent ended the turn without a word (stop)")
    assert.strictEqual(
      silence({ finish: "length", hasReasoning: true }),
      "the answer was cut off at the output limit before its first word (length): it thought"
    )
    assert.strictEqual(
      silence({ finish: "stop", hasReasoning: true, tools: ["bash", "read"] }),
      "the agent ended the turn without a word (stop): it thought, and used bash and read"
    )
    assert.match(silence({ tools: ["a", "b", "c", "d", "e", "f", "g"] }), /: it used a, b, c, d, e and 2 more$/)
  })
})

const silence = (fields: Partial<ConstructorParameters<typeof EmptyStream>[0]>): string =>
  new EmptyStream({ sessionId: SessionId.make("ses_1"), hasReasoning: false, tools: [], ...fields }).message

describe("an empty answer", () => {
  test("is read again, and is then an error", () =>
    Effect.gen(function*() {
      const result = yield* run([{ text: "" }])
      assert.deepStrictEqual([result.status, result.error?._tag], ["error", "EmptyStream"])
      assert.strictEqual(result.durationMillis, 2000)
      assert.strictEqual(result.content, sorry)
      assert.deepInclude(yield* row, {
        status: "error",
        error: Turns.storedError(result.error)
      })
      assert.deepStrictEqual(yield* payloads("response.error"), [
        { reason: "empty_stream", message_id: messageId, subject_id: conversationId }
      ])
      assert.deepStrictEqual(yield* payloads("response.upstream_error"), [])
      assert.lengthOf(yield* Turns.aborts, 0)
    }))

  test("that is stored late is found by the second read", () =>
    Effect.gen(function*() {
      const result = yield* run([{ text: "Late." }])
      assert.deepStrictEqual([result.status, result.content], ["completed", "Late."])
      assert.strictEqual(result.durationMillis, 2000)
      assert.deepStrictEqual(yield* payloads("response.recovered_from_exchange"), [{ message_id: messageId }])
    }), {
    client: (client) => {
      // The first two reads: the baseline and the exchange.
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

  test("shows the product's words", () =>
    Effect.gen(function*() {
      const result = yield* run([{ text: "" }])
      assert.strictEqual(result.content, sorry)
      const other = yield* run([{ text: "" }], { messageId: "second" }).pipe(
        Effect.provideService(TurnPolicy.FallbackContent, "Nothing came.")
      )
      assert.strictEqual(other.content, "Nothing came.")
    }))

  test("does not fail if a person refused a call: the refused call is the answer", () =>
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
