/**
 * The whole pipeline against a real OpenCode with a scripted model.
 */
import { assert, it } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import type { SessionId } from "@opencode-turn/core/Ids"
import * as Tracer from "@opencode-turn/core/Tracer"
import { runTurn, streamTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as FaultProxy from "@opencode-turn/testing/FaultProxy"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Fiber, Redacted, Ref, Schema, Stream } from "effect"
import * as RealServer from "../support/RealServer.ts"
import { base, bash, gate, isIdle, turn, until } from "../support/RealTurns.ts"

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

/** Calls a subagent that says the text. */
const look = (text: string, fields: object = {}): ScriptedModel.Step => ({
  tool: "task",
  args: {
    description: "look",
    prompt: ScriptedModel.prompt("Look.", [{ text, usage: { input: 1000, output: 100 } }]),
    subagent_type: "general",
    ...fields
  }
})

const askBash = [{ permission: "bash", pattern: "*", action: "ask" }] as const

it.layer(RealServer.layer, { excludeTestServices: true, timeout: "5 minutes" })("a turn on the real server", (it) => {
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

  it.effect("finds the answer if the context overflows after an earlier turn", () =>
    Effect.gen(function*() {
      const first = turn([{ text: "hello" }])
      const { reply, sessionId } = yield* runTurn(first)
      const overflow = { fail: 400, message: "prompt is too long: context_length_exceeded" }
      const result = yield* runTurn({
        ...turn([overflow, { text: "The answer." }]),
        conversationId: first.conversationId
      })
      assert.strictEqual(result.status, "completed", String(result.error?.message))
      assert.strictEqual(result.content, "The answer.")
      assert.lengthOf(yield* userMessages(result), 4)
      assert.isDefined(sessionId)
      const client = yield* Client.Client
      const { cost } = (yield* client.getSession(sessionId)).usage
      assert.closeTo(result.usage.root.cost, cost - reply.usage.cost, 1e-12)
    }))

  it.effect("counts the work of a subagent's session from its latest call", () =>
    Effect.gen(function*() {
      // The first turn ends in the message that calls the subagent: all that it said is newer.
      const first = base([{ ...look("one"), tools: [{ tool: "StructuredOutput", args: { n: 1 } }] }])
      const { sessionId, subagents } = yield* runTurn({ ...first, output: Schema.Struct({ n: Schema.Int }) })
      const child = subagents[0]?.sessionId
      assert.isDefined(child)
      const second = turn([look("two", { task_id: child }), { text: "Done." }])
      const result = yield* runTurn({ ...second, conversationId: first.conversationId })
      assert.strictEqual(result.sessionId, sessionId)
      assert.deepStrictEqual(
        result.subagents.map(({ sessionId, status, text, usage }) => [sessionId, status, text, usage.tokens.input]),
        [[child, "completed", "two", 1000]]
      )
    }))

  it.effect("runs a loop of reasoning and tools, and sums the usage of all steps", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([
        { reasoning: "I should look.", text: "I look.", ...bash("echo one") },
        bash("echo two"),
        { text: "Both ran." }
      ], { permission: [{ permission: "bash", pattern: "*", action: "allow" }] }))
      yield* assertCompleted(result, "I look.\n\nBoth ran.")
      assert.strictEqual(result.reply.reasoning, "I should look.")
      assert.deepEqual(result.reply.tools.map((tool) => [tool.tool, tool.status, tool.output]), [
        ["bash", "completed", "one\n"],
        ["bash", "completed", "two\n"]
      ])
      const client = yield* Client.Client
      assert.isDefined(result.sessionId)
      const session = yield* client.getSession(result.sessionId)
      assert.deepEqual(result.reply.usage.tokens, session.usage.tokens)
      assert.closeTo(result.reply.usage.cost, session.usage.cost, 1e-12)
      assert.isAbove(result.reply.usage.cost, 0)
    }))

  it.effect("keeps the session for the second turn of a conversation", () =>
    Effect.gen(function*() {
      const first = yield* runTurn(turn([{ text: "One." }]))
      const { conversationId } = first
      const second = yield* runTurn(turn([{ text: "Two." }], { conversationId }))
      assert.strictEqual(second.sessionId, first.sessionId)
      assert.isFalse(second.isNewSession)
      assert.strictEqual(second.content, "Two.")
      const messages = yield* messagesOf(first.sessionId)
      assert.deepEqual(messages.map(({ info }) => info.role), ["user", "assistant", "user", "assistant"])
      assert.deepEqual(messages.map(({ info }) => info.id), messages.map(({ info }) => info.id).toSorted())
    }))

  it.effect("lets a person allow a command", () =>
    Effect.gen(function*() {
      const person = yield* gate({ _tag: "Permission", reply: { reply: "once" } })
      const result = yield* runTurn(turn([bash("echo allowed"), { text: "Ran." }], { permission: askBash }))
        .pipe(person.provide)
      yield* assertCompleted(result, "Ran.")
      const [ask] = yield* person.asked
      assert(ask?._tag === "Permission")
      assert.deepEqual([ask.permission, ask.patterns], ["bash", ["echo allowed"]])
      assert.strictEqual(result.reply.tools[0]?.output, "allowed\n")
    }))

  it.effect("tells the model why a command was refused, and goes on", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([bash("echo never"), { text: "Then not." }], { permission: askBash }))
      yield* assertCompleted(result, "Then not.")
      assert.strictEqual(result.reply.tools[0]?.status, "error")
      assert.include(result.reply.tools[0]?.error, "Nobody is here to answer")
    }))

  it.effect("ends as refused with a refusal without a message, because the server stops the agent", () =>
    Effect.gen(function*() {
      const person = yield* gate({ _tag: "Reject" })
      const result = yield* runTurn(turn([{ text: "I try.", ...bash("echo no") }, { text: "Never said." }], {
        permission: askBash
      })).pipe(person.provide)
      assert(result.error?._tag === "Refused")
      assert.deepEqual(result.error.refusals, [{ tool: "bash", asked: "echo no" }])
      assert.deepInclude(result, { status: "error", content: "I try.", isFallback: false })
      assert.isTrue(result.reply.tools[0]?.isRefused)
    }))

  it.effect("lets a person answer questions", () =>
    Effect.gen(function*() {
      const person = yield* gate({ _tag: "Answers", answers: [["Blue"]] })
      const result = yield* runTurn(turn([
        {
          tool: "question",
          args: {
            questions: [{
              question: "Which colour?",
              header: "Colour",
              options: [{ label: "Red", description: "warm" }, { label: "Blue", description: "cold" }]
            }]
          }
        },
        { text: "Blue it is." }
      ])).pipe(person.provide)
      yield* assertCompleted(result, "Blue it is.")
      const [ask] = yield* person.asked
      assert(ask?._tag === "Question")
      assert.strictEqual(ask.questions[0]?.question, "Which colour?")
      assert.include(result.reply.tools[0]?.output, "Blue")
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
      const prompt = ScriptedModel.prompt("Read it.", [
        { tool: "read", args: { filePath: "/etc/hostname" } },
        { text: "The child is done." }
      ])
      const result = yield* runTurn(turn([
        { tool: "task", args: { description: "child", prompt, subagent_type: "general" } },
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
      assert.match(result.error.url ?? "", /^http:\/\/127\.0\.0\.1:\d+\/v1\/chat\/completions$/)
      assert.strictEqual(result.message?.status, "error")
      assert.strictEqual(result.content, "Sorry, an error occurred while generating this response.")
    }))

  for (const [what, input] of [["model", { model: "scripted/nope" }], ["agent", { agent: "nope" }]] as const) {
    it.effect(`ends with the server's own error for an unknown ${what}`, () =>
      Effect.gen(function*() {
        const result = yield* runTurn(turn([{ text: "Never." }], input))
        assert.strictEqual(result.status, "error")
        assert(result.error?._tag === "Upstream")
        assert.match(result.error.message, /^(?:Model|Agent) not found/)
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
    ["a tool call and then nothing", [bash("echo one"), {}], {
      finish: "stop",
      hasReasoning: false,
      tools: ["bash"]
    }],
    ["an end at the output limit before the first word", [bash("echo one"), { reasoning: "Hm.", finish: "length" }], {
      finish: "length",
      hasReasoning: true,
      tools: ["bash"]
    }],
    ["blank text", [{ text: " \n\u200b" }], { finish: "stop", hasReasoning: false, tools: [] }]
  ]
  for (const [what, steps, fields] of silent) {
    it.effect(`takes ${what} for no answer, and says what there was`, () =>
      Effect.gen(function*() {
        const result = yield* runTurn(turn(steps, {
          permission: [{ permission: "bash", pattern: "*", action: "allow" }]
        }))
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
      const allow = { permission: [{ permission: "bash", pattern: "*", action: "allow" }] } as const
      const cut = yield* runTurn(turn([{ text: "Half of", finish: "length" }]))
      yield* assertCompleted(cut, "Half of")
      assert.deepInclude(cut.message, { finish: "length", isFallback: false })
      const early = yield* runTurn(turn([{ text: "I look.", ...bash("echo one") }, {}], allow))
      yield* assertCompleted(early, "I look.")
      assert.deepInclude(early, { finish: "stop", isFallback: false })
      const filtered = yield* runTurn(turn([{ text: "Half of", finish: "content_filter" }]))
      assert.deepInclude(filtered, { status: "error", content: "Half of", isFallback: false, finish: "content-filter" })
    }))

  it.effect("completes a turn of silent work if AllowSilent is set", () =>
    Effect.gen(function*() {
      const result = yield* runTurn(turn([bash("echo one"), {}], {
        permission: [{ permission: "bash", pattern: "*", action: "allow" }]
      })).pipe(Effect.provideService(TurnPolicy.AllowSilent, true))
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
      const client = yield* Client.Client
      yield* until(Effect.map(client.statuses, (statuses) => statuses.size > 0))
      yield* Fiber.interrupt(fiber)
      const result = yield* Ref.get(finished)
      assert.strictEqual(result?.status, "cancelled")
      assert.match(result?.content ?? "", /^one two/)
      assert.deepInclude(result?.message, { status: "cancelled", isFallback: false, finish: null })
      assert.isTrue(yield* isIdle)
      yield* model.release("abort")
    }))

  it.effect("reads single messages if the server can no longer list them", () =>
    Effect.gen(function*() {
      const client = yield* Client.Client
      const first = yield* runTurn(turn([{ text: "Before." }]))
      assert.isDefined(first.sessionId)
      const structured = yield* client.sendMessage(first.sessionId, {
        parts: [{
          type: "text",
          text: ScriptedModel.prompt("As JSON.", [{ tool: "StructuredOutput", args: { answer: 42 } }])
        }],
        format: {
          type: "json_schema",
          schema: { type: "object", properties: { answer: { type: "number" } }, required: ["answer"] }
        }
      })
      assert(structured.info.role === "assistant")
      assert.deepEqual(structured.info.structured, { answer: 42 })
      const listed = yield* Effect.flip(client.listMessages(first.sessionId, { limit: 10 }))
      assert(listed._tag === "StatusError")
      assert.strictEqual(listed.status, 400)
      const single = yield* client.getMessage(first.sessionId, structured.info.id)
      assert.deepEqual(single.info, structured.info)

      const second = yield* runTurn(turn([{ text: "After." }], { conversationId: first.conversationId }))
      assert.strictEqual(second.status, "completed", String(second.error?.message))
      assert.strictEqual(second.content, "After.")
    }))

  it.effect("loses nothing when the event connection is cut, and does not prompt again", () =>
    Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const server = yield* OpencodeServer.OpencodeServer
      const calls = yield* model.modelCalls
      yield* Effect.gen(function*() {
        const proxy = yield* FaultProxy.FaultProxy
        const fiber = yield* Effect.forkChild(
          Effect.gen(function*() {
            const result = yield* runTurn(turn([
              { text: "before the cut and after it", gate: "cut", gateAfter: 2 }
            ]))
            yield* assertCompleted(result, "before the cut and after it")
          }).pipe(Effect.provide(RealServer.layerClient(server, proxy.url)))
        )
        yield* model.reached("cut")
        assert.strictEqual(yield* proxy.cutEvents, 1)
        yield* until(
          Effect.map(proxy.requests, (lines) => lines.filter((line) => line.includes("/event")).length === 2)
        )
        yield* model.release("cut")
        yield* Fiber.join(fiber)
        const requests = yield* proxy.requests
        assert.lengthOf(requests.filter((line) => line.includes("/prompt_async")), 1)
      }).pipe(Effect.provide(FaultProxy.layer(server.url)))
      assert.strictEqual(yield* model.modelCalls, calls + 1)
    }))
})

it.layer(RealServer.layerWithoutServer, { excludeTestServices: true, timeout: "5 minutes" })(
  "a server that is killed in the middle of a turn",
  (it) => {
    it.effect(
      "finishes the turn when it is back, with one user message and no doubled text",
      () =>
        Effect.gen(function*() {
          const model = yield* ScriptedModel.ScriptedModel
          const { options } = yield* RealServer.Workplace
          const first = yield* OpencodeServer.make({ ...options, password: Redacted.make("the same") })
          const port = Number(new URL(first.url).port)
          const traced = yield* Effect.gen(function*() {
            const fiber = yield* Effect.forkChild(runTurn(turn([
              { text: "half of an answer", gate: "kill", gateAfter: 2, ending: "hang" },
              { text: "The whole answer." }
            ])))
            yield* model.reached("kill")
            yield* first.kill
            yield* OpencodeServer.make({ ...options, port, password: Redacted.make("the same") })
            const result = yield* Fiber.join(fiber)
            yield* assertCompleted(result, "The whole answer.")
            assert.isFalse(result.isRecreated)
            return yield* Effect.flatMap(Tracer.TraceLog, (log) => log.events)
          }).pipe(Effect.provide(RealServer.layerClient(first)))
          assert.include(traced.map((event) => event.name), "opencode.stream.interrupted")
          assert.strictEqual(yield* model.modelCalls, 2)
          yield* model.release("kill")
        }).pipe(Effect.scoped)
    )
  }
)
