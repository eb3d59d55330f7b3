/**
 * Refusals against a real OpenCode: what the server makes of them, and what the turn makes of that, for each kind of gate.
 *
 * Measured with 1.18.33. The first permission that is rejected takes the other open ones of its session with it, without its message;
 * questions stay open. A rejection without a message and a dismissed question stop the agent without an error, and the `finish` of the
 * step is `tool-calls`. A subagent that is stopped fails its `task`, whose error has the text of its last refused call.
 */
import { assert } from "@effect/vitest"
import type { Answer } from "@opencode-turn/core/Ask"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import { resumeTurn, runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Deferred, Effect, Fiber, Option, Schema } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { base, turn, until } from "../support/RealTurns.ts"

const question = {
  tool: "question",
  args: { questions: [{ question: "Which?", header: "Pick", options: [{ label: "A", description: "first" }] }] }
}
const done: Step = { text: "Done without." }
const once: Answer = { _tag: "Permission", reply: { reply: "once" } }

/** A gate that decides nothing before everything has been asked, and then in the order in which it was told. */
const together = Effect.fnUntraced(function*(answers: Readonly<Record<string, Answer>>) {
  const names = Object.keys(answers)
  const decisions = new Map<string, Deferred.Deferred<Answer>>()
  for (const name of names) decisions.set(name, yield* Deferred.make<Answer>())
  const asked = new Set<string>()
  const gate: HumanGate.Gate = (ask) => {
    const name = ask._tag === "Question" ? "question" : ask.patterns.join()
    const decision = decisions.get(name)
    if (decision === undefined) return Effect.succeed(once)
    asked.add(name)
    return Deferred.await(decision)
  }
  const decide = Effect.gen(function*() {
    yield* until(Effect.sync(() => asked.size === names.length))
    for (const name of names) {
      const decision = decisions.get(name)
      const answer = answers[name]
      if (decision !== undefined && answer !== undefined) yield* Deferred.succeed(decision, answer)
      yield* Effect.sleep("200 millis")
    }
  })
  return <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function*() {
      const running = yield* Effect.forkChild(Effect.provideService(effect, HumanGate.HumanGate, gate))
      yield* decide
      return yield* Fiber.join(running)
    })
})

/** The last prompt of the user that the model was sent. */
const lastPrompt = Effect.gen(function*() {
  const model = yield* ScriptedModel.ScriptedModel
  const requests = yield* model.requests
  const last = requests.findLast(({ isTitle }) => !isTitle)
  return last?.messages.findLast(({ role }) => role === "user")?.text ?? ""
})

onBothLines(
  "refusals on the real server",
  {
    layerOf: RealServer.onLine(RealServer.nested),
    exceptions: {
      "a call that was refused with a message has it": "2.x keeps no reason with a call"
    }
  },
  (it, tools) => {
    const step = (...commands: ReadonlyArray<string>): Step => ({ tools: commands.map(tools.shell) })
    const { shell } = tools.names
    /** What became of each call. */
    const outcomes = ({ reply }: TurnResult) => reply.tools.map((tool) => tools.printed(tool) ?? tool.error)

    it.effect("an early refusal lets tools run that are allowed after it, and the agent goes on", () =>
      Effect.gen(function*() {
        const decided = yield* together({ "echo a": { _tag: "Reject", message: "not a" }, "echo b": once })
        const result = yield* decided(runTurn(turn([step("echo a", "echo b"), done])))
        assert.strictEqual(result.content, "Done without.", result.error?.message)
        assert.deepEqual(result.reply.tools.map(({ status }) => status), ["error", "completed"])
        assert.strictEqual(outcomes(result)[1], "b")
      }))

    it.effect("a call that was refused with a message has it", () =>
      Effect.gen(function*() {
        const decided = yield* together({ "echo a": { _tag: "Reject", message: "not a" } })
        const { reply } = yield* decided(runTurn(turn([step("echo a"), done])))
        assert.strictEqual(reply.tools[0]?.refusal, "not a")
      }))

    it.effect("a dismissed question waits for an open permission, and the agent reads its reason", () =>
      Effect.gen(function*() {
        const decided = yield* together({ question: { _tag: "Reject", message: "You decide." }, "echo a": once })
        const steps: ReadonlyArray<Step> = [
          { tools: [question, tools.shell("echo a")] },
          done
        ]
        const result = yield* decided(runTurn(turn(steps)))
        assert.strictEqual(result.content, "Done without.", result.error?.message)
        assert.include(yield* lastPrompt, "- question (Which?): You decide.")
      }))

    it.effect("the default gate refuses two commands of one step, and the agent reads the reason or goes on by itself", () =>
      Effect.gen(function*() {
        const result = yield* runTurn(turn([step("echo a", "echo b"), done]))
        assert.deepInclude(result, { status: "completed", content: "Done without." })
        // Neither ran, so nothing may have changed without a word.
        assert.deepStrictEqual(result.artifacts, { files: [], unread: [] })
      }))

    it.effect("two refusals that stop the agent are repeated to it with their reasons, and only once", () =>
      Effect.gen(function*() {
        const refusals = {
          "echo a": { _tag: "Reject", message: "not a" },
          "echo b": { _tag: "Reject", message: "not b" }
        } as const
        const told = yield* together(refusals)
        const result = yield* told(runTurn(turn([step("echo a", "echo b"), done])))
        assert.deepInclude(result, { status: "completed", content: "Done without." })
        const prompt = yield* lastPrompt
        assert.include(prompt, `- ${shell} (echo a): not a`)
        assert.include(prompt, `- ${shell} (echo b): not b`)
        assert.deepEqual(result.reply.tools.map(({ input }) => input["command"]), ["echo a", "echo b"])
        assert.deepEqual(result.message?.parts, result.reply.parts)
        assert.isTrue(result.reply.tools[1]?.isRefused)

        const never = yield* together(refusals)
        const stopped = yield* never(runTurn(turn([step("echo a", "echo b"), done]))).pipe(
          Effect.provideService(TurnPolicy.RefusalRepairs, 0)
        )
        assert(stopped.error?._tag === "Refused")
        assert.strictEqual(stopped.status, "error")
        assert.deepEqual(stopped.error.refusals, [
          { tool: shell, asked: "echo a", reason: "not a" },
          { tool: shell, asked: "echo b", reason: "not b" }
        ])
      }))

    it.effect("a refusal without a message ends the turn as refused after the allowed tools have run", () =>
      Effect.gen(function*() {
        const decided = yield* together({ "echo a": { _tag: "Reject" }, "echo b": once })
        const result = yield* decided(runTurn(turn([step("echo a", "echo b"), done])))
        assert(result.error?._tag === "Refused")
        assert.deepEqual(result.error.refusals, [{ tool: shell, asked: "echo a" }])
        assert.isTrue(result.isFallback)
        assert.strictEqual(outcomes(result)[1], "b")
      }))

    it.effect("rules that deny one command at once leave the other one its permission, or have it called again", () =>
      Effect.gen(function*() {
        const result = yield* runTurn(turn([step("echo a", "touch b"), done])).pipe(
          Effect.provideService(
            HumanGate.HumanGate,
            HumanGate.rules([
              { permission: shell, pattern: "*", action: "allow" },
              { permission: shell, pattern: "echo *", action: "deny", message: "Be silent." }
            ])
          )
        )
        assert.deepInclude(result, { status: "completed", content: "Done without." })
      }))

    it.effect("the agent reads the refusals of a function too", () =>
      Effect.gen(function*() {
        const gate = yield* HumanGate.callback(() =>
          Effect.as(Effect.sleep("300 millis"), { _tag: "Reject", message: "The chat is closed." } as const)
        )
        const result = yield* runTurn(turn([step("echo a", "echo b"), done])).pipe(
          Effect.provideService(HumanGate.HumanGate, gate)
        )
        assert.deepInclude(result, { status: "completed", content: "Done without." })
        assert.include(yield* lastPrompt, `- ${shell} (echo b): The chat is closed.`)
      }))

    it.effect("stored answers take effect in whatever order they are given, and after a worker went away", () =>
      Effect.gen(function*() {
        const store = yield* SessionStore
        const input = turn([step("echo a", "echo b"), done], { messageId: "asm_stored" })
        const first = yield* Effect.forkChild(
          runTurn(input).pipe(
            Effect.provide(StoredGate.layer),
            Effect.provideService(TurnPolicy.OnInterrupt, "release")
          )
        )
        const pending = StoredGate.pendingAsks({ messageId: "asm_stored" })
        yield* until(Effect.map(pending, (asks) => asks.length === 2))
        const asks = yield* pending
        const idOf = (command: string) =>
          asks.find(({ ask }) => ask._tag === "Permission" && ask.patterns.includes(command))?.id ?? ""
        yield* StoredGate.answerAsk(idOf("echo a"), { _tag: "Reject", message: "not a" })
        yield* Effect.sleep("200 millis")
        yield* Fiber.interrupt(first)
        const [row] = asks
        const taken = row === undefined
          ? Option.none()
          : yield* store.takeOver(row.messageId, { owner: "second", millis: 15_000 })
        assert(Option.isSome(taken))
        const second = yield* Effect.forkChild(resumeTurn(taken.value).pipe(Effect.provide(StoredGate.layer)))
        yield* Effect.sleep("200 millis")
        yield* StoredGate.answerAsk(idOf("echo b"), once)
        const result = yield* Fiber.join(second)
        assert.strictEqual(result.content, "Done without.", result.error?.message)
        assert.deepEqual(outcomes(result)[1], "b")
      }))

    it.effect("a subagent that refusals stopped fails its task, and its opener goes on", () =>
      Effect.gen(function*() {
        const decided = yield* together({
          "echo a": { _tag: "Reject", message: "not a" },
          "echo b": { _tag: "Reject", message: "not b" }
        })
        const child = tools.task("two", [step("echo a", "echo b"), { text: "never" }])
        const result = yield* decided(runTurn(turn([child, done])))
        assert.deepInclude(result, { status: "completed", content: "Done without." })
        assert.match(result.reply.tools[0]?.error ?? "", /^Subagent (?:failed|cancelled)/)
        assert.deepEqual(result.subagents.map(({ status }) => status), ["error"])
      }))

    it.effect("a subagent goes on after a refusal that was given before an allowance", () =>
      Effect.gen(function*() {
        const decided = yield* together({ "echo a": { _tag: "Reject", message: "not a" }, "echo b": once })
        const child = tools.task("two more", [step("echo a", "echo b"), { text: "The child is done." }])
        const result = yield* decided(runTurn(turn([child, done])))
        assert.deepInclude(result, { status: "completed", content: "Done without." })
        assert.deepEqual(result.subagents.map(({ text }) => text), ["The child is done."])
      }))

    it.effect("the agent gives the requested value after it has read the refusals", () =>
      Effect.gen(function*() {
        const decided = yield* together({
          "echo a": { _tag: "Reject", message: "not a" },
          "echo b": { _tag: "Reject", message: "not b" }
        })
        const steps: ReadonlyArray<Step> = [step("echo a", "echo b"), tools.value({ n: 1 })]
        const result = yield* decided(runTurn({ ...base(steps), output: Schema.Struct({ n: Schema.Int }) }))
        assert.deepEqual(result.output, { n: 1 }, result.error?.message)
      }))

    it.effect("a denial by a rule of the server fails the call, and does not stop the turn", () =>
      Effect.gen(function*() {
        const result = yield* runTurn(
          turn([tools.shell("echo denied"), done])
        )
        assert.deepInclude(result, { status: "completed", content: "Done without." })
        const [tool] = result.reply.tools
        assert(tool !== undefined)
        assert.strictEqual(tool.status, "error")
        assert.isDefined(tool.error)
        assert.isUndefined(tool.isRefused)
      }))
  }
)
