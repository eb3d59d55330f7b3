/**
 * The scripts that `pnpm versions` runs on each server: what a turn must do on every version of OpenCode that people run.
 */
import type { Answer, PermissionRule } from "@opencode-turn/core/Ask"
import { cancelTurn } from "@opencode-turn/core/CancelTurn"
import * as Client from "@opencode-turn/core/Client"
import { AssistantMessageId } from "@opencode-turn/core/Ids"
import { runTurn, streamTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import * as FaultProxy from "@opencode-turn/testing/FaultProxy"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Deferred, Effect, Fiber, Ref, Schema, Stream } from "effect"
import assert from "node:assert/strict"
import { existsSync } from "node:fs"
import { base, gate, isIdle, shows, turn, until } from "../support/RealTurns.ts"
import type { Services } from "./Host.ts"
import { Host } from "./Host.ts"

/** A script that succeeds if the turn holds on the server. */
export interface Script {
  readonly name: string
  readonly run: Effect.Effect<void, unknown, Services>
}

const shell = (command: string) => Effect.map(Host, ({ tools }) => tools.shell(command))

const task = (steps: ReadonlyArray<Step>) => Effect.map(Host, ({ tools }) => tools.task("Look.", steps))

const once: Answer = { _tag: "Permission", reply: { reply: "once" } }

const deny = (permission: string, pattern = "*"): PermissionRule => ({ permission, pattern, action: "deny" })

const assertCompleted = (result: TurnResult, content: string) => {
  assert.equal(result.status, "completed", `the turn ended with ${result.error?._tag}: ${result.error?.message}`)
  assert.equal(result.content, content)
}

/** The server has one user message of the turn, and the model was called this often. */
const assertOnce = Effect.fnUntraced(function*(result: TurnResult, before: number, calls: number) {
  const client = yield* Client.Client
  assert(result.sessionId !== undefined)
  const { messages } = yield* client.listMessages(result.sessionId, { limit: 100 })
  // 2.x goes on with an interrupted answer by a message of its own.
  const prompts = messages.filter(({ info }) => info.role === "user" && !info.isContinuation)
  assert.equal(prompts.length, 1, "number of user messages")
  const model = yield* ScriptedModel.ScriptedModel
  assert.equal((yield* model.modelCalls) - before, calls, "number of model calls")
})

const modelCalls = Effect.flatMap(ScriptedModel.ScriptedModel, (model) => model.modelCalls)

export const scripts: ReadonlyArray<Script> = [
  {
    name: "tool loop",
    run: Effect.gen(function*() {
      const before = yield* modelCalls
      const result = yield* runTurn(turn([
        { reasoning: "I should look.", text: "I look.", ...yield* shell("echo one") },
        yield* shell("echo two"),
        { text: "Both ran." }
      ]))
      assertCompleted(result, "I look.\n\nBoth ran.")
      assert.equal(result.reply.reasoning, "I should look.")
      const { tools } = yield* Host
      assert.deepEqual(result.reply.tools.map((tool) => [tool.status, tools.printed(tool)]), [
        ["completed", "one"],
        ["completed", "two"]
      ])
      assert.equal(result.usage.total.tokens.input, 30)
      yield* assertOnce(result, before, 3)
    })
  },
  {
    name: "permission",
    run: Effect.gen(function*() {
      const person = yield* gate(once)
      const result = yield* runTurn(turn([yield* shell("echo asked"), { text: "Ran." }])).pipe(person.provide)
      assertCompleted(result, "Ran.")
      assert.deepEqual((yield* person.asked).map((ask) => ask._tag), ["Permission"])
      assert.equal((yield* Host).tools.printed(result.reply.tools[0]), "asked")
    })
  },
  {
    name: "refusal with a reason",
    run: Effect.gen(function*() {
      const result = yield* runTurn(turn([yield* shell("echo asked"), { text: "Then not." }]))
      assertCompleted(result, "Then not.")
      assert.equal(result.reply.tools[0]?.status, "error")
    })
  },
  {
    name: "a subagent's permission",
    run: Effect.gen(function*() {
      const person = yield* gate(once)
      const result = yield* runTurn(turn([
        yield* task([yield* shell("echo asked by the child"), { text: "The child is done." }]),
        { text: "The parent is done." }
      ])).pipe(person.provide)
      assertCompleted(result, "The parent is done.")
      const [ask] = yield* person.asked
      assert(ask !== undefined)
      assert.deepEqual([ask.sessionId], result.subagents.map(({ sessionId }) => sessionId))
      assert.equal(result.subagents[0]?.text, "The child is done.")
      assert.equal(result.usage.subagents.tokens.input, 20)
    })
  },
  {
    name: "second turn",
    run: Effect.gen(function*() {
      const { conversationId, sessionId } = yield* runTurn(turn([{ text: "One." }]))
      const second = yield* runTurn(turn([{ text: "Two." }], { conversationId }))
      assertCompleted(second, "Two.")
      assert.deepEqual([second.sessionId, second.isNewSession], [sessionId, false])
    })
  },
  {
    name: "fatal 400",
    run: Effect.gen(function*() {
      const before = yield* modelCalls
      const result = yield* runTurn(turn([{ fail: 400, message: "no such parameter" }]))
      assert.equal(result.status, "error")
      assert.equal(result.error?._tag, "Upstream")
      assert.match(result.error.message, /no such parameter/)
      yield* assertOnce(result, before, 1)
    })
  },
  {
    name: "question",
    run: Effect.gen(function*() {
      const person = yield* gate({ _tag: "Answers", answers: [["Blue"]] })
      const options = [{ label: "Red", description: "warm" }, { label: "Blue", description: "cold" }]
      const result = yield* runTurn(turn([
        { tool: "question", args: { questions: [{ question: "Which colour?", header: "Colour", options }] } },
        { text: "Blue it is." }
      ])).pipe(person.provide)
      assertCompleted(result, "Blue it is.")
      assert.match(result.reply.tools[0]?.output ?? "", /Blue/)
    })
  },
  {
    name: "abort",
    run: Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const said = yield* Deferred.make<void>()
      const finished = yield* Ref.make<TurnResult | undefined>(undefined)
      const fiber = yield* Effect.forkChild(
        streamTurn(turn([{ text: "one two three", gate: "abort", gateAfter: 2 }], {
          onTurnFinished: (result) => Ref.set(finished, result)
        })).pipe(
          Stream.filter((update) => shows(update, "two")),
          Stream.runForEach(() => Deferred.succeed(said, undefined))
        )
      )
      yield* Deferred.await(said)
      yield* Fiber.interrupt(fiber)
      const result = yield* Ref.get(finished)
      assert.equal(result?.status, "cancelled")
      assert.match(result.content, /^one two/)
      yield* until(isIdle)
      yield* model.release("abort")
    })
  },
  {
    name: "typed output",
    run: Effect.gen(function*() {
      const Answer = Schema.Struct({ n: Schema.Int })
      const { tools } = yield* Host
      const result = yield* runTurn({ ...base([tools.value({ n: 42 })]), output: Answer })
      assert.equal(result.status, "completed", `the turn ended with ${result.error?._tag}: ${result.error?.message}`)
      assert.deepEqual(result.output, { n: 42 })
    })
  },
  {
    name: "files",
    run: Effect.gen(function*() {
      const { directory, tools } = yield* Host
      const result = yield* runTurn(turn([
        tools.write(`${directory}/made.txt`, "one\ntwo\n"),
        { text: "Written." }
      ]))
      assertCompleted(result, "Written.")
      assert.deepEqual(
        result.artifacts.files.map(({ additions, change, path }) => [path, change, additions]),
        [["made.txt", "added", 2]]
      )
    })
  },
  {
    name: "to-dos",
    run: Effect.gen(function*() {
      const todos = [{ id: "1", content: "look", status: "in_progress", priority: "high" }]
      const result = yield* runTurn(turn([{ tool: "todowrite", args: { todos } }, { text: "Listed." }]))
      assertCompleted(result, "Listed.")
      assert.equal(result.reply.tools[0]?.status, "completed", "the server has no tool for to-dos")
      assert.deepEqual(result.reply.todos.map(({ content, status }) => [content, status]), [["look", "in_progress"]])
    })
  },
  {
    name: "killed server",
    run: Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const { crash } = yield* Host
      const before = yield* modelCalls
      const fiber = yield* Effect.forkChild(runTurn(turn([
        { text: "half of an answer", gate: "kill", gateAfter: 2, ending: "hang" },
        { text: "The whole answer." }
      ])))
      yield* model.reached("kill")
      yield* crash
      const result = yield* Fiber.join(fiber)
      assertCompleted(result, "The whole answer.")
      yield* assertOnce(result, before, 2)
      yield* model.release("kill")
    })
  },
  {
    name: "stopped server",
    run: Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const { end, restart } = yield* Host
      const before = yield* modelCalls
      const fiber = yield* Effect.forkChild(runTurn(turn([
        yield* shell("echo one"),
        { text: "half of an answer", gate: "stop", gateAfter: 2, ending: "hang" },
        { text: "The whole answer." }
      ])))
      yield* model.reached("stop")
      yield* end("SIGTERM")
      yield* restart
      const result = yield* Fiber.join(fiber)
      assert.equal(result.status, "completed", `the turn ended with ${result.error?._tag}: ${result.error?.message}`)
      // 2.x keeps the words before the end.
      assert.match(result.content, /^(half (of )?\n\n)?The whole answer\.$/)
      yield* assertOnce(result, before, 3)
      yield* model.release("stop")
    })
  },
  {
    name: "cancel while the server is down",
    run: Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const { end, restart } = yield* Host
      const messageId = AssistantMessageId.make("asm_cancel_down")
      const input = turn([{ text: "one two three", gate: "down", gateAfter: 2, ending: "hang" }, { text: "Never." }], {
        messageId
      })
      const fiber = yield* Effect.forkChild(runTurn(input))
      yield* model.reached("down")
      yield* end("SIGKILL")
      yield* cancelTurn(messageId)
      assert.equal((yield* Fiber.join(fiber)).status, "cancelled")
      const before = yield* modelCalls
      yield* restart
      assertCompleted(yield* runTurn(turn([{ text: "Next." }], { conversationId: input.conversationId })), "Next.")
      assert.equal((yield* modelCalls) - before, 1, "number of model calls")
      yield* until(isIdle)
      yield* model.release("down")
    })
  },
  {
    name: "another worker resumes",
    run: Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const before = yield* modelCalls
      const fiber = yield* Effect.forkChild(
        runTurn(turn([{ text: "one two three", gate: "worker", gateAfter: 2 }])).pipe(
          Effect.provideService(TurnPolicy.OnInterrupt, "release")
        )
      )
      yield* model.reached("worker")
      yield* Fiber.interrupt(fiber)
      const worker = yield* Effect.forkChild(TurnWorker.resumeTurns())
      yield* model.release("worker")
      const [result] = yield* Fiber.join(worker)
      assert(result !== undefined)
      assertCompleted(result, "one two three")
      yield* assertOnce(result, before, 1)
    })
  },
  {
    name: "lost answer of the post",
    run: Effect.gen(function*() {
      const { loseAnswers } = yield* Host
      const before = yield* modelCalls
      yield* loseAnswers(2)
      const result = yield* runTurn(turn([yield* shell("echo one"), { text: "Once." }]))
      assertCompleted(result, "Once.")
      yield* assertOnce(result, before, 2)
    })
  },
  {
    name: "rules of a session",
    run: Effect.gen(function*() {
      const { tools } = yield* Host
      const result = yield* runTurn(turn([yield* shell("echo denied"), { text: "It was denied." }], {
        permission: [deny(tools.names.shell, "echo denied"), deny(tools.names.task)]
      }))
      assertCompleted(result, "It was denied.")
      assert.equal(result.reply.tools[0]?.status, "error")
    })
  },
  {
    name: "more rules for a session",
    run: Effect.gen(function*() {
      const { tools } = yield* Host
      const client = yield* Client.Client
      const { conversationId, sessionId } = yield* runTurn(turn([{ text: "Without rules." }]))
      assert(sessionId !== undefined)
      yield* client.updateSession(sessionId, {
        permission: [deny(tools.names.shell, "echo denied"), deny(tools.names.task)]
      })
      const steps = [yield* shell("echo denied"), { text: "It was denied." }]
      const result = yield* runTurn(turn(steps, { conversationId }))
      assertCompleted(result, "It was denied.")
      assert.equal(result.reply.tools[0]?.status, "error")
    })
  },
  {
    name: "metadata of a session",
    run: Effect.gen(function*() {
      const result = yield* runTurn(turn([{ text: "Done." }], { metadata: { ticket: "42" } }))
      assertCompleted(result, "Done.")
      const client = yield* Client.Client
      assert(result.sessionId !== undefined)
      const { metadata } = yield* client.getSession(result.sessionId)
      // What the result tells is what the server shows.
      assert.deepEqual(result.dropped, metadata?.["ticket"] === "42" ? [] : ["metadata"])
      assert.deepEqual(result.dropped, [], "the server keeps no metadata, which the result tells")
    })
  },
  {
    name: "tools of a turn",
    run: Effect.gen(function*() {
      const { tools } = yield* Host
      const model = yield* ScriptedModel.ScriptedModel
      const result = yield* runTurn(turn([{ text: "Without a shell." }], {
        tools: { [tools.names.shell]: false, [tools.names.task]: false }
      }))
      assertCompleted(result, "Without a shell.")
      const offered = (yield* model.requests).findLast(({ isTitle }) => !isTitle)?.tools ?? []
      assert.deepEqual([offered.includes(tools.names.shell), offered.includes("read")], [false, true])
    })
  },
  {
    name: "rules and tools of subagents",
    run: Effect.gen(function*() {
      const { directory, tools } = yield* Host
      const file = `${directory}/touched-by-a-subagent`
      const steps = [yield* task([yield* shell(`touch ${file}`), { text: "Looked." }]), { text: "Done." }]
      for (const limit of [{ permission: [deny(tools.names.shell)] }, { tools: { [tools.names.shell]: false } }]) {
        const result = yield* runTurn(turn(steps, limit))
        assert(!existsSync(file), "a subagent did what was denied")
        assertCompleted(result, "Done.")
      }
    })
  },
  {
    name: "unknown agent",
    run: Effect.gen(function*() {
      const result = yield* runTurn(turn([{ text: "Never." }], { agent: "nope" }))
      assert.equal(result.error?._tag, "Upstream", `the turn ended as ${result.status}`)
      assert.match(result.error.message, /nope/)
    })
  },
  {
    name: "unknown model",
    run: Effect.gen(function*() {
      const result = yield* runTurn(turn([{ text: "Never." }], { model: "scripted/nope" }))
      assert.notEqual(result.error, undefined, `the turn ended as ${result.status}`)
    })
  },
  {
    name: "unknown folder",
    run: Effect.gen(function*() {
      const { elsewhere } = yield* Host
      const result = yield* Effect.provide(runTurn(turn([{ text: "Never." }])), elsewhere("/nowhere/at/all"))
      assert.equal(result.error?._tag, "UnknownDirectory", "the server works in folders that do not exist")
    })
  },
  {
    name: "attached file",
    run: Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const { prompt } = base([{ text: "Read." }])
      const result = yield* runTurn(turn([], {
        prompt: [{ type: "text", text: prompt }, {
          type: "file",
          mediaType: "text/plain",
          filename: "notes.txt",
          url: `data:text/plain;base64,${btoa("the colour is teal")}`
        }]
      }))
      assertCompleted(result, "Read.")
      const last = (yield* model.requests).findLast(({ isTitle }) => !isTitle)
      assert.match(last?.messages.map(({ text }) => text).join("\n") ?? "", /the colour is teal/)
    })
  },
  {
    name: "steps, cost and a budget",
    run: Effect.gen(function*() {
      const result = yield* runTurn(turn([yield* shell("echo one"), yield* shell("echo two"), { text: "Never." }]))
        .pipe(
          Effect.provideService(TurnPolicy.Budget, { steps: 1 })
        )
      assert.equal(result.error?._tag, "BudgetExceeded")
      assert(result.usage.total.cost > 0)
      yield* until(isIdle)
    })
  },
  {
    name: "a failure that the server retries",
    run: Effect.gen(function*() {
      const result = yield* runTurn(turn([
        { fail: 500, message: "overloaded", headers: { "retry-after-ms": "50" } },
        { text: "At last." }
      ]))
      assertCompleted(result, "At last.")
    })
  },
  {
    name: "cut event stream",
    run: Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const { proxied } = yield* Host
      yield* Effect.gen(function*() {
        const proxy = yield* FaultProxy.FaultProxy
        const fiber = yield* Effect.forkChild(runTurn(turn([{ text: "before and after", gate: "cut", gateAfter: 2 }])))
        yield* model.reached("cut")
        yield* proxy.cutEvents
        yield* model.release("cut")
        assertCompleted(yield* Fiber.join(fiber), "before and after")
      }).pipe(Effect.provide(proxied))
    })
  }
]
