import { assert, describe, it } from "@effect/vitest"
import * as Tracer from "@opencode-turn/core/Tracer"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as TestClock from "effect/testing/TestClock"
import * as EffectTracer from "effect/Tracer"
import * as Turns from "../support/turns.ts"

const finished: Tracer.TurnFinished = {
  status: "completed",
  duration_ms: 1200,
  cost: 0.25,
  input_tokens: 7,
  output_tokens: 3,
  tool_count: 1,
  finish: "stop",
  first_token_ms: 100,
  queue_ms: 0,
  people_ms: 0,
  model_ms: 800,
  tools_ms: 300,
  retries_ms: 0,
  orphaned_ms: 0,
  other_ms: 100,
  error: null,
  error_message: null
}
const emit = Effect.flatMap(Tracer.Tracer, (tracer) => tracer.emit("turn.finished", finished))

it.effect("uses the prefix opencode unless the product sets its own", () =>
  Effect.gen(function*() {
    const log = yield* Tracer.TraceLog
    yield* emit
    assert.deepStrictEqual(yield* log.events, [{ name: "opencode.turn.finished", payload: { ...finished } }])
    const other = yield* Effect.provide(Effect.andThen(emit, Effect.flatMap(Tracer.TraceLog, (log) => log.events)), [
      Tracer.layerCollect({ prefix: "chat" })
    ])
    assert.deepStrictEqual(other.map((event) => event.name), ["chat.turn.finished"])
  }).pipe(Effect.provide(Tracer.layerCollect())))

it.effect("layerNoop emits nothing", () => Effect.provide(emit, Tracer.layerNoop))

it.effect("layerLog logs the name, with the payload as annotations", () =>
  Effect.gen(function*() {
    const lines: Array<unknown> = []
    const logger = Logger.make(({ fiber, logLevel, message }) => {
      lines.push([logLevel, message, fiber.getRef(References.CurrentLogAnnotations)])
    })
    yield* emit.pipe(Effect.provide([Tracer.layerLog({ prefix: "chat" }), Logger.layer([logger])]))
    assert.deepStrictEqual(lines, [["Info", ["chat.turn.finished"], { ...finished }]])
  }))

describe("layerSpan", () => {
  it.effect("adds the event to the current span", () =>
    Effect.gen(function*() {
      const events: Array<unknown> = []
      const tracer = EffectTracer.make({
        span: (options) => {
          const span = new EffectTracer.NativeSpan(options)
          const { event } = span
          span.event = (...args) => {
            events.push([span.name, ...args])
            event.apply(span, args)
          }
          return span
        }
      })
      yield* TestClock.adjust("2 millis")
      yield* emit.pipe(
        Effect.withSpan("Turn.runTurn"),
        Effect.provide(Tracer.layerSpan()),
        Effect.withTracer(tracer)
      )
      assert.deepStrictEqual(events, [["Turn.runTurn", "opencode.turn.finished", 2_000_000n, { ...finished }]])
    }))

  it.effect("needs no span", () => Effect.provide(emit, Tracer.layerSpan()))
})

describe("a failing sink", () => {
  const sinks: ReadonlyArray<readonly [string, () => Effect.Effect<void>]> = [
    ["dies", () => Effect.die(new Error("no disk"))],
    ["throws", () => {
      throw new Error("no disk")
    }],
    ["interrupts itself", () => Effect.interrupt],
    ["hangs", () => Effect.never]
  ]
  for (const [what, sink] of sinks) {
    Turns.test(`is reported and changes nothing when it ${what}`, () =>
      Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(
          runTurn(Turns.turn([{ text: "Hi." }])).pipe(
            Effect.provide(Layer.succeed(Tracer.Tracer, Tracer.make(sink))),
            Effect.provideService(TurnPolicy.CallbackTimeout, Duration.millis(100))
          )
        )
        for (let step = 0; step < 10; step++) {
          yield* Turns.rest
          yield* TestClock.adjust("100 millis")
        }
        const result = yield* Fiber.join(fiber)
        assert.deepStrictEqual([result.status, result.content], ["completed", "Hi."])
        const reports = yield* Turns.reports
        assert.deepStrictEqual(reports.map((report) => report.attributes["event"]), [
          "opencode.response.started",
          "opencode.session.created",
          "opencode.stream.completed",
          "opencode.turn.finished"
        ])
      }))
  }
})
