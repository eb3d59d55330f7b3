/**
 * The whole pipeline against a real OpenCode with a scripted model.
 */
import { assert } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import type { SessionId } from "@opencode-turn/core/Ids"
import { runTurn, streamTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Fiber, Ref, Schema, Stream } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { base, busy, gate, isIdle, turn, until } from "../support/RealTurns.ts"

const messagesOf = (sessionId: SessionId | undefined) =>
  Effect.gen(function*() {
    const client = yield* Client.Client
    assert.isDefined(sessionId)
    return (yield* client.listMessages(sessionId, { limit: 100 })).messages
  })

const userMessages = (result: TurnResult) =>
  Effect.map(messagesOf(result.sessionId), (messages) => messages.filter(({ info }) => info.role === "user"))

/** What the server itself says the answer is. */
const serverText = (result: TurnResult) =>
  Effect.map(
    messagesOf(result.sessionId),
    (messages) =>
      messages.flatMap(({ info, parts }) =>
        info.role === "assistant" && info.parentId === result.promptId
          ? parts.flatMap((part) => (part.type === "text" && part.text !== "" ? [part.text] : []))
          : []
      ).join("\n\n")
  )

/** Completed, and equal in text and usage to the server's own record. */
const assertCompleted = Effect.fnUntraced(function*(result: TurnResult, text: string) {
  assert.strictEqual(result.status, "completed", String(result.error?.message))
  assert.strictEqual(result.content, text)
  assert.strictEqual(result.message?.content, text)
  assert.strictEqual(yield* serverText(result), text)
  assert.lengthOf(yield* userMessages(result), 1)
})

onBothLines("a turn on the real server", {
  layerOf: RealServer.onLine(),
  exceptions: {
    "counts the work of a subagent's session from its latest call":
      "2.x opens a new session for each call of a subagent",
    "adds up to what the server says that the session used": "2.x adds the cost of its title",
    "keeps the to-do list, which only the stream has": "2.x has no to-do tool",
    "names the url of the provider that failed": "2.x does not tell it"
  }
}, (it, tools) => {
  it.effect("streams plain text and stores it", () =>
    Effect.gen(function*() {
      const updates = Array.from(yield* Stream.runCollect(streamTurn(turn([{ text: "Hello from the model." }]))))
      const last = updates.at(-1)
      assert(last?._tag === "Finished")
      yield* assertCompleted(last.result, "Hello from the model.")
      const streamed = updates.flatMap((update) => (update._tag === "TextDelta" ? [update.delta] : []))
      assert.strictEqual(streamed.join(""), "Hello from the model.")
      assert.isTrue(last.result.isNewSession)
      assert.isFalse(updates.some((update) => update._tag === "Reset"))
    }))

  const overflow = { fail: 400, message: "prompt is too long: context_length_exceeded" }

  it.effect("finds the answer if the context overflows after an earlier turn", () =>
    Effect.gen(function*() {
      const first = turn([{ text: "hello" }])
      const { sessionId } = yield* runTurn(first)
      const result = yield* runTurn({
        ...turn([overflow, { text: "The answer." }]),
        conversationId: first.conversationId
      })
      assert.strictEqual(result.status, "completed", String(result.error?.message))
      assert.strictEqual(result.content, "The answer.")
      assert.strictEqual(result.sessionId, sessionId)
    }))

  const look = (text: string, session?: string) =>
    tools.task("look", [{ text, usage: { input: 1000, output: 100 } }], session === undefined ? {} : { session })

  it.effect("counts the work of a subagent's session from its latest call", () =>
    Effect.gen(function*() {
      // The first turn ends in the message that calls the subagent: all that it said is newer.
      const first = base([{ ...look("one"), tools: [{ tool: "StructuredOutput", args: { n: 1 } }] }])
      const { sessionId, subagents } = yield* runTurn({ ...first, output: Schema.Struct({ n: Schema.Int }) })
      const child = subagents[0]?.sessionId
      assert.isDefined(child)
      const second = turn([look("two", child), { text: "Done." }])
      const result = yield* runTurn({ ...second, conversationId: first.conversationId })
      assert.strictEqual(result.sessionId, sessionId)
      assert.deepStrictEqual(
        result.subagents.map(({ sessionId, status, text, usage }) => [sessionId, status, text, usage.tokens.input]),
        [[child, "completed", "two", 1000]]
      )
    }))

  it.effect("stores with a subagent why it failed", () =>
    Effect.gen(function*() {
      const failing = tools.task("look", [{ fail: 400, message: "no such luck" }])
      const { message, subagents } = yield* runTurn(turn([failing, { text: "Done." }]))
      assert.deepStrictEqual(subagents.map(({ status }) => status), ["error"])
      assert.include(subagents[0]?.failure?.message, "no such luck")
      assert.deepStrictEqual(message?.subagents, subagents)
    }))

  it.effect("runs a loop of reasoning and tools, and sums the usage of all steps", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([
        { reasoning: "I should look.", text: "I look.", ...tools.shell("echo one") },
        tools.shell("echo two"),
        { text: "Both ran." }
      ]))
      yield* assertCompleted(result, "I look.\n\nBoth ran.")
      assert.strictEqual(result.reply.reasoning, "I should look.")
      assert.deepEqual(result.reply.tools.map((tool) => [tool.tool, tool.status, tools.printed(tool)]), [
        [tools.names.shell, "completed", "one"],
        [tools.names.shell, "completed", "two"]
      ])
      assert.strictEqual(result.reply.usage.tokens.input, 30)
      assert.closeTo(result.reply.usage.cost, 0.00006, 1e-12)
    }))

  it.effect("adds up to what the server says that the session used", () =>
    Effect.gen(function*() {
      const { reply, sessionId } = yield* runTurn(turn([tools.shell("echo one"), { text: "It ran." }]))
      const client = yield* Client.Client
      assert.isDefined(sessionId)
      const session = yield* client.getSession(sessionId)
      assert.deepEqual(reply.usage.tokens, session.usage.tokens)
      assert.closeTo(reply.usage.cost, session.usage.cost, 1e-12)
    }))

  it.effect("ends as refused with a refusal without a message, because the server stops the agent", () =>
    Effect.gen(function*() {
      const person = yield* gate({ _tag: "Reject" })
      const result = yield* runTurn(turn([{ text: "I try.", ...tools.shell("echo asked") }, { text: "Never said." }]))
        .pipe(
          person.provide
        )
      assert(result.error?._tag === "Refused")
      assert.deepEqual(result.error.refusals, [{ tool: tools.names.shell, asked: "echo asked" }])
      assert.deepInclude(result, { status: "error", content: "I try.", isFallback: false })
      assert.isTrue(result.reply.tools[0]?.isRefused)
    }))

  it.effect("keeps the to-do list, which only the stream has", () =>
    Effect.gen(function*() {
      const todos = [{ content: "look", status: "in_progress", priority: "high" }]
      const result = yield* runTurn(turn([{ tool: "todowrite", args: { todos } }, { text: "Listed." }]))
      yield* assertCompleted(result, "Listed.")
      assert.deepEqual(result.reply.todos, [{ content: "look", status: "in_progress", priority: "high" }])
      assert.deepEqual(
        result.reply.parts.filter((part) => part.type !== "step-finish").map((part) => part.type),
        ["tool", "todos", "text"]
      )
    }))

  it.effect("answers a subagent that asks for a permission", () =>
    Effect.gen(function*() {
      const person = yield* gate({ _tag: "Permission", reply: { reply: "once" } })
      const result = yield* runTurn(turn([
        tools.task("child", [tools.read("/etc/hostname"), { text: "The child is done." }]),
        { text: "The parent is done." }
      ])).pipe(person.provide)
      yield* assertCompleted(result, "The parent is done.")
      const [ask] = yield* person.asked
      assert(ask?._tag === "Permission")
      assert.strictEqual(ask.permission, "external_directory")
      assert.strictEqual(ask.sessionId, result.subagents[0]?.sessionId)
      assert.notStrictEqual(ask.sessionId, result.sessionId)
      assert.strictEqual(result.reply.tools[0]?.subagent, ask.sessionId)
      assert.include(result.reply.tools[0]?.output, "The child is done.")
    }))

  it.effect("outlasts a failure that the server retries", () =>
    Effect.gen(function*() {
      const updates = Array.from(
        yield* Stream.runCollect(streamTurn(turn([
          { fail: 500, message: "overloaded", headers: { "retry-after-ms": "50" } },
          { text: "At last." }
        ])))
      )
      const last = updates.at(-1)
      assert(last?._tag === "Finished")
      yield* assertCompleted(last.result, "At last.")
      const retry = updates.find((update) => update._tag === "Retrying")
      assert.strictEqual(retry?.retry.message, "overloaded")
    }))

  it.effect("ends with the upstream error that the model's provider gave", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([{ fail: 400, message: "no such parameter" }]))
      assert.strictEqual(result.status, "error")
      assert(result.error?._tag === "Upstream")
      assert.deepEqual(
        [result.error.name, result.error.reason, result.error.statusCode, result.error.isRetryable],
        ["APIError", "no such parameter", 400, false]
      )
      assert.strictEqual(result.message?.status, "error")
      assert.strictEqual(result.content, "Sorry, an error occurred while generating this response.")
    }))

  it.effect("names the url of the provider that failed", () =>
    Effect.gen(function*() {
      const { error } = yield* runTurn(turn([{ fail: 400, message: "no such parameter" }]))
      assert(error?._tag === "Upstream")
      assert.match(error.url ?? "", /^http:\/\/127\.0\.0\.1:\d+\/v1\/chat\/completions$/)
    }))

  for (const [what, input] of [["model", { model: "scripted/nope" }], ["agent", { agent: "nope" }]] as const) {
    it.effect(`ends with the server's own error for an unknown ${what}`, () =>
      Effect.gen(function*() {
        const result = yield* runTurn(turn([{ text: "Never." }], input))
        assert.strictEqual(result.status, "error")
        assert(result.error?._tag === "Upstream")
        assert.match(
          result.error.message,
          /^(?:provider\.no-route: )?(?:Model|Agent) (?:not found|unavailable): .*nope/
        )
      }))
  }

  const silent: ReadonlyArray<
    readonly [
      string,
      ReadonlyArray<ScriptedModel.Step>,
      { readonly finish: string; readonly hasReasoning: boolean; readonly tools: ReadonlyArray<string> }
    ]
  > = [
    ["nothing at all", [{ text: "" }], { finish: "stop", hasReasoning: false, tools: [] }],
    ["thoughts alone", [{ reasoning: "I think." }], { finish: "stop", hasReasoning: true, tools: [] }],
    ["a tool call and then nothing", [tools.shell("echo one"), {}], {
      finish: "stop",
      hasReasoning: false,
      tools: [tools.names.shell]
    }],
    ["an end at the output limit before the first word", [tools.shell("echo one"), {
      reasoning: "Hm.",
      finish: "length"
    }], {
      finish: "length",
      hasReasoning: true,
      tools: [tools.names.shell]
    }],
    ["blank text", [{ text: " \n\u200b" }], { finish: "stop", hasReasoning: false, tools: [] }]
  ]
  for (const [what, steps, fields] of silent) {
    it.effect(`takes ${what} for no answer, and says what there was`, () =>
      Effect.gen(function*() {
        const result = yield* runTurn(turn(steps))
        assert.deepStrictEqual([result.status, result.error?._tag], ["error", "EmptyStream"])
        assert.deepInclude(result.error, fields)
        assert.deepInclude(result, { isFallback: true, finish: fields.finish })
        assert.deepInclude(result.message, {
          status: "error",
          content: "Sorry, an error occurred while generating this response.",
          isFallback: true,
          finish: fields.finish,
          parts: result.reply.parts
        })
      }))
  }

  it.effect("takes words for an answer, whatever ended it and whatever followed", () =>
    Effect.gen(function*() {
      const cut = yield* runTurn(turn([{ text: "Half of", finish: "length" }]))
      yield* assertCompleted(cut, "Half of")
      assert.deepInclude(cut.message, { finish: "length", isFallback: false })
      const early = yield* runTurn(turn([{ text: "I look.", ...tools.shell("echo one") }, {}]))
      yield* assertCompleted(early, "I look.")
      assert.deepInclude(early, { finish: "stop", isFallback: false })
      const filtered = yield* runTurn(turn([{ text: "Half of", finish: "content_filter" }]))
      assert.deepInclude(filtered, { status: "error", content: "Half of", isFallback: false, finish: "content-filter" })
    }))

  it.effect("completes a turn of silent work if AllowSilent is set", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([tools.shell("echo one"), {}])).pipe(
        Effect.provideService(TurnPolicy.AllowSilent, true)
      )
      assert.deepInclude(result, { status: "completed", content: "", isFallback: false, finish: "stop" })
    }))

  it.effect("aborts the session when it is interrupted, and keeps the streamed content", () =>
    Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const finished = yield* Ref.make<TurnResult | undefined>(undefined)
      const fiber = yield* Effect.forkChild(runTurn(turn([{ text: "one two three", gate: "abort", gateAfter: 2 }], {
        onTurnFinished: (result) => Ref.set(finished, result)
      })))
      yield* model.reached("abort")
      yield* until(Effect.map(busy, (ids) => ids.size > 0))
      yield* Fiber.interrupt(fiber)
      const result = yield* Ref.get(finished)
      assert.strictEqual(result?.status, "cancelled")
      assert.match(result?.content ?? "", /^one two/)
      assert.deepInclude(result?.message, { status: "cancelled", isFallback: false, finish: null })
      assert.isTrue(yield* isIdle)
      yield* model.release("abort")
    }))
})
