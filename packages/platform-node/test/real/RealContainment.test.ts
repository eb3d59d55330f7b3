/**
 * What one turn's trouble does to others on a real OpenCode, what is reported of it, and a server that is killed while a person is
 * asked.
 */
import { assert } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Duration, Effect, ErrorReporter, Fiber, Stream } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { turn, until } from "../support/RealTurns.ts"

interface Report {
  readonly message: string
  readonly severity: string
  readonly attributes: Readonly<Record<string, unknown>>
}

/** Runs the effect, and gives what was reported beside what it came to. */
const reporting = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const reports: Array<Report> = []
    const reporter = ErrorReporter.make(({ attributes, error, severity }) => {
      reports.push({ message: error.message, severity, attributes })
    })
    return Effect.map(Effect.provide(effect, ErrorReporter.layer([reporter])), (value) => ({ value, reports }))
  })

const boom = () => {
  throw new Error("boom")
}

onBothLines("one turn among others", { layerOf: (line) => RealServer.layerAloneOf({ line }) }, (it, tools) => {
  it.effect("that has an observer that throws ends as the others do, and the report names it", () =>
    Effect.gen(function*() {
      const steps = [{ text: "one " }]
      const bad = turn(steps, { observers: [boom] })
      const { reports, value: [first, second] } = yield* reporting(
        Effect.all([runTurn(bad), runTurn(turn([{ text: "two" }]))], { concurrency: 2 })
      )
      assert.deepEqual([first.status, second.status], ["completed", "completed"])
      assert.strictEqual(second.content, "two")
      assert.isAbove(reports.length, 0)
      for (const { attributes } of reports) {
        assert.deepInclude(attributes, {
          feature: "observer",
          conversation: bad.conversationId,
          message: first.messageId
        })
      }
    }))

  it.effect("is not touched by a subscriber of the same client that throws, which leaves alone", () =>
    Effect.gen(function*() {
      const client = yield* Client.Client
      const model = yield* ScriptedModel.ScriptedModel
      const { id } = yield* client.createSession({ title: "subscribed" })
      let closed = 0
      const { reports, value: [result, other] } = yield* reporting(
        Effect.gen(function*() {
          yield* client.subscribe(id, {
            onEvent: boom,
            onFlush: () => {},
            onHeartbeat: () => {},
            onLost: () => {},
            onGap: () => {},
            onClosed: () => {
              closed++
            }
          })
          const running = yield* Effect.forkChild(
            runTurn(turn([{ text: "one two three", gate: "others", gateAfter: 1 }]))
          )
          yield* model.reached("others")
          const other = yield* Stream.runCollect(client.stream(id, ScriptedModel.prompt("Go.", [{ text: "beside" }])))
          yield* model.release("others")
          return [yield* Fiber.join(running), Array.from(other)] as const
        })
      )
      assert.deepInclude(result, { status: "completed", content: "one two three" })
      assert.isTrue(other.some((event) => event._tag === "PartUpdated" && event.part.type === "text"))
      assert.strictEqual(closed, 1)
      assert.lengthOf(reports, 1)
      assert.deepInclude(reports[0]?.attributes, { feature: "subscriber", session: id })
    }).pipe(Effect.scoped))

  it.effect("is reported with its conversation, message and feature when its model fails", () =>
    Effect.gen(function*() {
      const input = turn([{ fail: 400, message: "no such model" }])
      const { reports: [report, ...others], value } = yield* reporting(runTurn(input)).pipe(
        Effect.provideService(TurnPolicy.ErrorFeature, "support-bot")
      )
      assert.strictEqual(value.error?._tag, "Upstream")
      assert.deepEqual(others, [])
      assert.strictEqual(report?.severity, "Error")
      assert.include(report?.message, "no such model")
      assert.deepInclude(report?.attributes, {
        feature: "support-bot",
        conversation: input.conversationId,
        message: value.messageId,
        status: "error",
        error: "Upstream"
      })
    }))

  // The last one: the server is gone then.
  it.effect("ends with its streamed content when the server is killed during an ask, and refuses a later answer", () =>
    Effect.gen(function*() {
      const server = yield* OpencodeServer.OpencodeServer
      const input = turn([{ text: "I try.", ...tools.shell("echo asked") }, { text: "never" }])
      const running = yield* runTurn(input).pipe(
        Effect.provide(StoredGate.layer),
        Effect.provideService(TurnPolicy.ServerAbsence, Duration.seconds(2)),
        Effect.forkChild
      )
      const pending = StoredGate.pendingAsks({ conversationId: input.conversationId })
      yield* until(Effect.map(pending, (asks) => asks.length === 1))
      const [ask] = yield* pending
      assert.isDefined(ask)
      yield* server.kill
      const result = yield* Fiber.join(running)
      assert.strictEqual(result.status, "failed", result.error?.message)
      assert.include(["StreamLost", "TransportError"], result.error?._tag)
      assert.strictEqual(result.content, "I try.")
      assert.strictEqual(result.message?.status, "error")
      const store = yield* SessionStore
      assert.deepEqual(yield* pending, [])
      assert.strictEqual((yield* Effect.fromOption(yield* store.getAsk(ask.id))).status, "withdrawn")
      const late = yield* Effect.flip(
        StoredGate.answerAsk(ask.id, { _tag: "Permission", reply: { reply: "once" } })
      )
      assert.strictEqual(late._tag, "AskClosed")
    }))
})
