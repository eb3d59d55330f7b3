/**
 * The spans of whole turns on a real OpenCode, compared with written ones.
 */
import { assert } from "@effect/vitest"
import type { Answer } from "@opencode-turn/core/Ask"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { AssistantMessageId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Timing from "@opencode-turn/core/Timing"
import { resumeTurn, runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import { Effect, Fiber, Option } from "effect"
import type * as Tracer from "effect/Tracer"
import * as Spans from "../../../core/test/support/spans.ts"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { gate, turn, until } from "../support/RealTurns.ts"

const once: Answer = { _tag: "Permission", reply: { reply: "once" } }

const slowly: HumanGate.Gate = () => Effect.as(Effect.sleep("100 millis"), once)

/** The account adds up, and is stored as the result tells it. */
const assertStored = ({ durationMillis, firstTokenMillis, message, timing, usage }: TurnResult) => {
  assert.strictEqual(Timing.total(timing), durationMillis)
  assert.deepInclude(message?.account, {
    timing,
    models: usage.models,
    firstTokenMillis: firstTokenMillis ?? null
  })
}

/** What holds for the spans of every turn: they have the result's totals, the conversation, and a place in time. */
const assertAgrees = (spans: ReadonlyArray<Tracer.NativeSpan>, result: TurnResult) => {
  const { cost, tokens } = result.usage.total
  const chats = spans.filter(({ name }) => name.startsWith("chat"))
  const total = (attribute: string) => Spans.sum(chats, attribute)
  assert.closeTo(total("gen_ai.usage.cost"), cost, 1e-12)
  assert.deepStrictEqual({
    input: total("gen_ai.usage.input_tokens"),
    output: total("gen_ai.usage.output_tokens"),
    cacheRead: total("gen_ai.usage.cache_read.input_tokens"),
    cacheWrite: total("gen_ai.usage.cache_write.input_tokens"),
    reasoning: total("gen_ai.usage.reasoning.output_tokens")
  }, {
    input: tokens.input + tokens.cacheRead + tokens.cacheWrite,
    output: tokens.output + tokens.reasoning,
    cacheRead: tokens.cacheRead,
    cacheWrite: tokens.cacheWrite,
    reasoning: tokens.reasoning
  })
  assert.strictEqual(Spans.sum(spans, "opencode.turn.cost"), cost)
  assert.strictEqual(chats.length, result.usage.models.reduce((sum, { steps }) => sum + steps, 0))
  assertStored(result)
  assert.isAtMost(spans.length, 12)
  for (const span of spans) {
    const { status } = span
    assert.strictEqual(span.attributes.get("gen_ai.conversation.id"), result.conversationId, span.name)
    assert(status._tag === "Ended")
    assert.isTrue(status.startTime <= status.endTime, span.name)
    const parent = Option.getOrUndefined(span.parent)
    if (parent?._tag === "Span") {
      assert.isTrue(parent.status.startTime <= status.startTime, `${span.name} in its parent`)
    }
  }
}

const run = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>) {
  const { spans, value } = yield* Spans.recorded(runTurn(turn(steps)))
  assert.strictEqual(value.status, "completed", value.error?.message)
  assertAgrees(spans, value)
  return { spans, result: value }
})

onBothLines(
  "the spans of a turn on the real server",
  { layerOf: RealServer.onLine(RealServer.nested) },
  (it, tools) => {
    const { shell, task } = tools.names

    it.effect("without tools are two", () =>
      Effect.gen(function*() {
        const { result, spans } = yield* run([{ reasoning: "hm", text: "Hi." }])
        assert.deepStrictEqual(Spans.tree(spans), [{ invoke_agent: ["chat m"] }])
        const [chat] = Spans.named(spans, "chat m")
        assert.deepInclude(Spans.attributesOf(chat), {
          "gen_ai.operation.name": "chat",
          "gen_ai.agent.name": "build",
          "gen_ai.provider.name": "scripted",
          "gen_ai.request.model": "m",
          "gen_ai.response.model": "m",
          "gen_ai.response.finish_reasons": ["stop"],
          "server.address": "127.0.0.1"
        })
        assert.isAbove(Number(chat?.attributes.get("gen_ai.response.time_to_first_chunk")), 0)
        assert.deepInclude(Spans.attributesOf(Spans.named(spans, "invoke_agent")[0]), {
          "gen_ai.operation.name": "invoke_agent",
          "gen_ai.agent.name": "build",
          "gen_ai.output.type": "text",
          "opencode.session.id": result.sessionId,
          "opencode.turn.status": "completed"
        })
        assert.isAbove(result.timing.modelMillis, 0)
        assert.isAbove(result.firstTokenMillis ?? 0, 0)
      }))

    it.effect("give the model the time from its call, and not from its first word", () =>
      Effect.gen(function*() {
        const delayMillis = 500
        const { result, spans } = yield* run([
          { ...tools.shell("true"), delayMillis },
          { text: "Done.", delayMillis }
        ])
        assert.isAtLeast(result.timing.modelMillis, 2 * delayMillis)
        for (const { attributes } of Spans.named(spans, "chat m")) {
          assert.isAtLeast(Number(attributes.get("gen_ai.response.time_to_first_chunk")), delayMillis / 1000)
        }
      }))

    it.effect("with a loop of tools have each step and each tool, and show which tool failed", () =>
      Effect.gen(function*() {
        const provided = yield* gate(once, once)
        const { result, spans } = yield* provided.provide(run([
          tools.shell("echo hi"),
          tools.read("/nowhere/at/all"),
          { text: "Done." }
        ]))
        assert.deepStrictEqual(Spans.tree(spans), [{
          invoke_agent: [
            "chat m",
            { [`execute_tool ${shell}`]: ["wait_for_person permission"] },
            "chat m",
            { "execute_tool read ToolFailed (failed)": ["wait_for_person permission"] },
            "chat m"
          ]
        }])
        assert.isAbove(result.timing.toolsMillis, 0)
      }))

    it.effect("with a subagent that needs a permission have the subagent below its tool", () =>
      Effect.gen(function*() {
        const child = tools.task("look", [tools.shell("echo child"), { text: "The child is done." }])
        const { result, spans } = yield* Effect.provideService(
          run([child, { text: "Done." }]),
          HumanGate.HumanGate,
          slowly
        )
        assert.deepStrictEqual(Spans.tree(spans), [{
          invoke_agent: [
            "chat m",
            {
              [`execute_tool ${task}`]: [{
                "invoke_agent general": [
                  "chat m",
                  { [`execute_tool ${shell}`]: ["wait_for_person permission"] },
                  "chat m"
                ]
              }]
            },
            "chat m"
          ]
        }])
        const [general] = Spans.named(spans, "invoke_agent general")
        const { input } = result.usage.subagents.tokens
        assert.strictEqual(general?.attributes.get("gen_ai.usage.input_tokens"), input)
        assert.deepInclude(Spans.attributesOf(Spans.named(spans, "wait_for_person permission")[0]), {
          "gen_ai.agent.name": "general",
          "opencode.ask.kind": "permission",
          "opencode.ask.name": shell,
          "opencode.ask.resolved": true
        })
        assert.isAbove(result.timing.peopleMillis, 0)
      }))

    it.effect("with a repeated call of the model have the retry as an event of its step", () =>
      Effect.gen(function*() {
        const { result, spans } = yield* run([
          { fail: 500, message: "overloaded", headers: { "retry-after-ms": "50" } },
          { text: "Done." }
        ])
        assert.deepStrictEqual(Spans.tree(spans), [{ invoke_agent: ["chat m 1 retries"] }])
        const [retry] = Spans.named(spans, "chat m")[0]?.events ?? []
        assert.deepInclude(retry?.[2], { "opencode.retry.attempt": 1, "opencode.retry.reason": "overloaded" })
        assert.isAbove(result.timing.retriesMillis, 0)
      }))

    it.effect("that was taken over are written by the process that ends it, with a link to where it began", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const input = turn([tools.shell("echo hi"), { text: "Done." }], { messageId: "asm_spans" })
        const asking = yield* gate()
        const first = Spans.make()
        const running = yield* Effect.forkChild(
          runTurn(input).pipe(
            asking.provide,
            Effect.provideService(TurnPolicy.OnInterrupt, "release"),
            Effect.withTracer(first.tracer)
          )
        )
        yield* until(Effect.map(asking.asked, (asks) => asks.length === 1))
        yield* Fiber.interrupt(running)
        assert.deepStrictEqual(Spans.tree(first.spans()), ["invoke_agent (interrupted)"])

        const id = AssistantMessageId.make("asm_spans")
        const taken = yield* store.takeOver(id, { owner: "second", millis: 15_000 })
        assert(Option.isSome(taken))
        const answering = yield* gate(once)
        const { spans, value } = yield* Spans.recorded(answering.provide(resumeTurn(taken.value)))
        assert.strictEqual(value.content, "Done.", value.error?.message)
        assert.deepStrictEqual(Spans.tree(spans), [{
          invoke_agent: ["chat m", { [`execute_tool ${shell}`]: ["wait_for_person permission"] }, "chat m"]
        }])
        const [began] = first.spans()
        const [ended] = Spans.named(spans, "invoke_agent")
        assert.deepStrictEqual(ended?.links.map(({ span }) => [span.traceId, span.spanId]), [[
          began?.traceId,
          began?.spanId
        ]])
        assert.notStrictEqual(ended?.traceId, began?.traceId)
        assertStored(value)
        // The first owner saw the first token, and the person was asked before, between and after.
        assert.isAbove(value.firstTokenMillis ?? 0, 0)
        assert.isAbove(value.timing.peopleMillis, 0)
        const stored = Option.getOrUndefined(yield* store.getMessage(id))
        assert.deepStrictEqual(stored?.account, value.message?.account)
        assert.closeTo(value.durationMillis, (stored?.finishedMillis ?? 0) - (stored?.createdMillis ?? 0), 1000)
      }))
  }
)
