import { assert, describe } from "@effect/vitest"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import * as Carrying from "../support/carrying.ts"
import * as Spans from "../support/spans.ts"
import * as Turns from "../support/turns.ts"

const { test, turn } = Turns

const steps: ReadonlyArray<Step> = [
  { text: "I run it.", tool: "bash", args: { command: "echo secret" } },
  { text: "It said secret." }
]
const small = [{ invoke_agent: ["chat m", "chat m", "execute_tool bash"] }]

/** All that the spans hold, as text. */
const written = (spans: ReadonlyArray<Tracer.NativeSpan>): string =>
  JSON.stringify(spans.map(({ events, name, status, attributes }) => [
    name,
    Array.from(attributes),
    events.map(([event, , attributes]) => [event, attributes]),
    status._tag === "Ended" && Exit.isFailure(status.exit) ? status.exit.cause.reasons : []
  ]))

const onTurnFinished = () => Effect.withSpan(Effect.void, "callback")

const read = (span: Tracer.NativeSpan | undefined, name: string): unknown =>
  JSON.parse(String(span?.attributes.get(name)))

const redact = (attribute: string, content: string): string | undefined => {
  if (attribute === "gen_ai.tool.call.result") return undefined
  if (attribute === "gen_ai.input.messages") throw new Error("broken")
  return content.replaceAll("secret", "***")
}

const slowly: HumanGate.Gate = () =>
  Effect.as(Effect.sleep("5 seconds"), { _tag: "Permission", reply: { reply: "once" } })

describe("the spans of a turn", () => {
  test("are its agent, its model steps and its tools, and hold nothing that was said", () =>
    Effect.gen(function*() {
      const { spans } = yield* Spans.recorded(runTurn(turn(steps, { system: "secret" })))
      assert.deepStrictEqual(Spans.tree(spans), small)
      assert.notInclude(written(spans), "secret")
    }))

  test("name the agent that was chosen", () =>
    Effect.gen(function*() {
      const { spans } = yield* Spans.recorded(runTurn(turn([{ text: "Hi." }], { agent: "plan", model: "scripted/m" })))
      assert.deepStrictEqual(Spans.tree(spans), [{ "invoke_agent plan": ["chat m"] }])
    }))

  test("are below the span of the caller, also one of another process", () =>
    Effect.gen(function*() {
      const caller = Tracer.externalSpan({ traceId: "0".repeat(31) + "1", spanId: "0".repeat(15) + "2" })
      const { spans } = yield* Spans.recorded(Effect.withParentSpan(runTurn(turn(steps)), caller))
      const [root] = Spans.named(spans, "invoke_agent")
      assert.strictEqual(root && Option.getOrUndefined(root.parent)?.spanId, caller.spanId)
      assert.deepStrictEqual(Array.from(new Set(spans.map(({ traceId }) => traceId))), [caller.traceId])
      const unsampled = Tracer.externalSpan({ ...caller, sampled: false })
      const none = yield* Spans.recorded(Effect.withParentSpan(runTurn(turn(steps, { messageId: "m2" })), unsampled))
      assert.deepStrictEqual(none.spans, [])
      const off = yield* Spans.recorded(Effect.withTracerEnabled(runTurn(turn(steps, { messageId: "m3" })), false))
      assert.deepStrictEqual(off.spans, [])
    }))

  test("carry the annotations of the caller, and the spans of callbacks are below the turn's", () =>
    Effect.gen(function*() {
      const { spans } = yield* Spans.recorded(
        Effect.annotateSpans(runTurn(turn(steps, { onTurnFinished })), "user.id", "ann")
      )
      assert.sameMembers(
        Spans.tree(spans).flatMap((tree) => typeof tree === "string" ? [] : tree["invoke_agent"] ?? []),
        ["chat m", "chat m", "execute_tool bash", "callback"]
      )
      for (const span of spans) {
        assert.strictEqual(span.attributes.get("user.id"), "ann", span.name)
        assert.strictEqual(span.attributes.get("gen_ai.conversation.id"), Turns.conversationId, span.name)
      }
    }))

  test("include the steps of the pipeline and the requests if that is asked for", () =>
    Effect.gen(function*() {
      const { spans } = yield* Spans.recorded(
        Effect.provideService(runTurn(turn(steps)), TurnPolicy.TraceDetail, "pipeline")
      )
      const names = new Set(spans.map(({ name }) => name))
      for (const name of ["Turn.claim", "Turn.ensureSession", "Turn.drive", "Turn.settle", "Turn.finalize"]) {
        assert.isTrue(names.has(name), name)
      }
      for (const span of spans) {
        assert.strictEqual(span.attributes.get("gen_ai.conversation.id"), Turns.conversationId, span.name)
      }
    }))

  test("hold what was said if that is asked for", () =>
    Effect.gen(function*() {
      const { spans } = yield* Spans.recorded(
        Effect.provideService(runTurn(turn(steps, { system: "be kind" })), TurnPolicy.TraceContent, true)
      )
      const [agent] = Spans.named(spans, "invoke_agent")
      const [chat] = Spans.named(spans, "chat m")
      const [tool] = Spans.named(spans, "execute_tool bash")
      assert.deepStrictEqual(read(agent, "gen_ai.output.messages"), [{
        role: "assistant",
        parts: [{ type: "text", content: "I run it.\n\nIt said secret." }],
        finish_reason: "stop"
      }])
      assert.deepStrictEqual(read(agent, "gen_ai.system_instructions"), [{ type: "text", content: "be kind" }])
      assert.include(String(agent?.attributes.get("gen_ai.input.messages")), "echo secret")
      assert.include(String(chat?.attributes.get("gen_ai.output.messages")), "I run it.")
      assert.deepStrictEqual(read(tool, "gen_ai.tool.call.arguments"), { command: "echo secret" })
      assert.include(String(tool?.attributes.get("gen_ai.tool.call.result")), "secret")
    }))

  test("hold only what a redactor lets through, and nothing where it fails", () =>
    Effect.gen(function*() {
      const { spans } = yield* Spans.recorded(
        Effect.provideService(runTurn(turn(steps)), TurnPolicy.TraceContent, redact)
      )
      assert.notInclude(written(spans), "secret")
      assert.include(written(spans), "echo ***")
    }))

  test("tell how a turn ended: a failure of the model, and a cancel, which is no failure", () =>
    Effect.gen(function*() {
      const failing = yield* Spans.recorded(runTurn(turn([{ fail: 400, message: "no such model" }])))
      assert.deepStrictEqual(Spans.tree(failing.spans), [{
        "invoke_agent Upstream (failed)": ["chat m Upstream (failed)"]
      }])
      const recorder = Spans.make()
      const fiber = yield* Carrying.launch("cancelled", Carrying.halfway).pipe(Effect.withTracer(recorder.tracer))
      yield* Turns.rest
      yield* Fiber.interrupt(fiber)
      const [root] = Spans.tree(recorder.spans())
      assert.deepStrictEqual(Object.keys(Object(root)), ["invoke_agent TurnCancelled (interrupted)"])
    }))

  test("say nothing of the answer where it does not fit, nor of what was refused", () =>
    Effect.gen(function*() {
      const output = Schema.Struct({ secret: Schema.Finite })
      const { spans } = yield* Spans.recorded(
        Effect.provideService(
          runTurn({ ...turn([{ text: "{\"secret\": \"x\"}" }]), output }),
          TurnPolicy.OutputRepairs,
          0
        )
      )
      assert.strictEqual(Spans.named(spans, "invoke_agent")[0]?.attributes.get("error.type"), "OutputInvalid")
      assert.notInclude(written(spans), "secret")
    }))
})

describe("the timing of a turn", () => {
  test("tells how long people were asked, and how long the turn waited for the one before it", () =>
    Effect.gen(function*() {
      const permission = [{ permission: "bash", pattern: "*", action: "ask" }] as const
      const asking = turn([{ tool: "bash", args: { command: "true" } }, { text: "Done." }], { permission })
      const first = yield* Effect.forkChild(
        Effect.provideService(runTurn({ ...asking, messageId: "first" }), HumanGate.HumanGate, slowly)
      )
      yield* Turns.rest
      const second = yield* Effect.forkChild(runTurn(turn([{ text: "Hi." }], { messageId: "second" })))
      yield* Turns.rest
      yield* TestClock.adjust("5 seconds")
      yield* Turns.rest
      const asked = yield* Fiber.join(first)
      const queued = yield* Fiber.join(second)
      assert.deepInclude(asked.timing, { queueMillis: 0, peopleMillis: 5000, otherMillis: 0 })
      assert.deepInclude(queued.timing, { queueMillis: 5000, peopleMillis: 0, otherMillis: 0 })
    }))
})
