/**
 * Turns that a real OpenCode would carry on without an end, or that share their session, and how they end.
 */
import { assert } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import { runTurn } from "@opencode-turn/core/Turn"
import type { NoProgress } from "@opencode-turn/core/TurnError"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Deferred, Effect, Fiber } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { busy, isIdle, shows, turn, until } from "../support/RealTurns.ts"

/** How often the model was called while the turn ran, titles apart. */
const runCounted = (input: TurnInput) =>
  Effect.gen(function*() {
    const model = yield* ScriptedModel.ScriptedModel
    const calls = Effect.map(model.requests, (all) => all.filter(({ isTitle }) => !isTitle).length)
    const before = yield* calls
    const result = yield* runTurn(input)
    yield* until(isIdle)
    return { result, calls: (yield* calls) - before }
  })

const assertStopped = (
  { calls, result }: { readonly calls: number; readonly result: TurnResult },
  mostCalls: number
) => {
  assert.strictEqual(result.status, "error", result.error?.message)
  assert.strictEqual(result.message?.error?.tag, result.error?._tag)
  assert.isAtMost(calls, mostCalls, "model calls")
}

/** A step that was begun when the session was aborted may not have called the model yet. */
const assertCounted = ({ allSteps }: NoProgress, calls: number) => {
  assert.isAtLeast(allSteps, calls, "steps")
  assert.isAtMost(allSteps, calls + 1, "steps")
}

const unknownReason = "2.x ends an answer whose finish reason is unknown, unless it called a tool"

onBothLines("a turn on the real server", {
  layerOf: RealServer.onLine(),
  exceptions: {
    "ends if every finish reason is of an unknown kind": unknownReason,
    "ends if every finish reason of a subagent is of an unknown kind": unknownReason
  }
}, (it, tools) => {
  it.effect("ends if every finish reason is of an unknown kind", () =>
    Effect.gen(function*() {
      const steps = Array.from({ length: 400 }, (_, n) => ({ text: `words ${n}`, finish: "weird" }))
      const ended = yield* runCounted(turn(steps))
      assertStopped(ended, 25)
      assert(ended.result.error?._tag === "NoProgress")
      assert.strictEqual(ended.result.error.steps, 8)
      assertCounted(ended.result.error, ended.calls)
      assert.include(ended.result.content, "words")
    }))

  it.effect("ends if every finish reason of a subagent is of an unknown kind", () =>
    Effect.gen(function*() {
      const script = Array.from({ length: 400 }, () => ({ text: "words", finish: "weird" }))
      const ended = yield* runCounted(turn([tools.task("Look.", script)]))
      assertStopped(ended, 25)
      assert(ended.result.error?._tag === "NoProgress")
      assertCounted(ended.result.error, ended.calls)
    }))

  it.effect("ends if every finish reason is of an unknown kind, and each step repeats a call", () =>
    Effect.gen(function*() {
      const steps = Array.from(
        { length: 400 },
        (_, n) => ({ text: `words ${n}`, ...tools.shell("echo same"), finish: "weird" })
      )
      const ended = yield* runCounted(turn(steps))
      assertStopped(ended, 25)
      assert(ended.result.error?._tag === "NoProgress")
      assert.strictEqual(ended.result.error.steps, 8)
    }))

  it.effect("ends if the same call has the same result again and again", () =>
    Effect.gen(function*() {
      const steps = Array.from({ length: 60 }, () => tools.shell("echo same"))
      const ended = yield* runCounted(turn(steps))
      assertStopped(ended, 25)
      assert(ended.result.error?._tag === "NoProgress")
      assertCounted(ended.result.error, ended.calls)
    }))

  it.effect("ends with the provider's message if the context overflows again after a compaction", () =>
    Effect.gen(function*() {
      const first = turn([{ text: "hello" }])
      yield* runTurn(first)
      const overflow = { fail: 400, message: "prompt is too long: context_length_exceeded", times: 1000 }
      const ended = yield* runCounted({ ...turn([overflow]), conversationId: first.conversationId })
      assertStopped(ended, 10)
      assert(ended.result.error?._tag === "Upstream")
      assert.strictEqual(ended.result.error.reason, overflow.message)
    }))

  it.effect("ends if the provider asks for a retry in two hours", () =>
    Effect.gen(function*() {
      const soMany = { fail: 429, message: "slow down please", headers: { "retry-after": "7200" } }
      const ended = yield* runCounted(turn([soMany, { text: "never" }])).pipe(
        Effect.provideService(TurnPolicy.Budget, { wallClock: "10 minutes" })
      )
      assertStopped(ended, 1)
      assert(ended.result.error?._tag === "Upstream")
      assert.strictEqual(ended.result.error.reason, "slow down please")
      assert.isAbove(ended.result.error.retryAtMillis ?? 0, Date.now() + 7_000_000)
    }))

  it.effect("sends its prompt once if its session is deleted after a tool has run, and the next turn makes a new session", () =>
    Effect.gen(function*() {
      const client = yield* Client.Client
      const model = yield* ScriptedModel.ScriptedModel
      const isStreaming = yield* Deferred.make<void>()
      const steps = [tools.shell("echo once >> lost.txt"), { text: "These are lost.", gate: "lost" }]
      const input = turn(steps, {
        observers: [(update) => shows(update, "These") ? Deferred.succeed(isStreaming, undefined) : Effect.void]
      })
      const fiber = yield* Effect.forkChild(runTurn(input))
      yield* Deferred.await(isStreaming)
      const [sessionId] = [...(yield* busy)]
      assert.isDefined(sessionId)
      yield* client.deleteSession(sessionId)
      const result = yield* Fiber.join(fiber)
      assert(result.error?._tag === "SessionLost", result.error?.message ?? result.status)
      assert.deepStrictEqual(result.error.tools, [tools.names.shell])
      assert.include(result.content, "These")
      yield* model.release("lost")
      const next = yield* runTurn({ ...turn([{ text: "Anew." }]), conversationId: input.conversationId })
      assert.strictEqual(next.content, "Anew.", next.error?.message)
      assert.notStrictEqual(next.sessionId, sessionId)
    }))

  it.effect("completes with its own words while another client's prompt is answered behind it", () =>
    Effect.gen(function*() {
      const client = yield* Client.Client
      const model = yield* ScriptedModel.ScriptedModel
      const isStreaming = yield* Deferred.make<void>()
      const input = turn([{ text: "These are mine.", gate: "mine" }], {
        observers: [(update) => shows(update, "These") ? Deferred.succeed(isStreaming, undefined) : Effect.void]
      })
      const fiber = yield* Effect.forkChild(runTurn(input))
      yield* Deferred.await(isStreaming)
      const [sessionId] = [...(yield* busy)]
      assert.isDefined(sessionId)
      yield* client.prompt(sessionId, ScriptedModel.prompt("Theirs.", [{ text: "These are theirs.", gate: "theirs" }]))
      yield* model.release("mine")
      // The other answer is still held back: the session was never idle.
      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result.status, "completed", result.error?.message)
      assert.strictEqual(result.content, "These are mine.")
      assert.isTrue((yield* busy).has(sessionId))
      yield* model.release("theirs")
      yield* until(isIdle)
    }))
})
