/**
 * Turns of a real OpenCode in the clients of other protocols: a subagent that asks, a page that is loaded anew, a run that is interrupted.
 */
import { assert } from "@effect/vitest"
import { AskId, ConversationId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Option } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as Gateways from "../support/Gateways.ts"
import { agentOf, asks, Chat, textOf } from "../support/Pages.ts"
import * as RealServer from "../support/RealServer.ts"
import { until } from "../support/RealTurns.ts"

const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

const once = { _tag: "Permission", reply: { reply: "once" } }

onBothLines(
  "a turn of a real OpenCode",
  {
    layerOf: RealServer.onLine(RealServer.nested),
    exceptions: { "has its to-dos in the clients of both protocols": "2.x has no to-do tool" }
  },
  (it, tools) => {
    /** A command that asks, a subagent whose command asks, and an answer. */
    const steps: ReadonlyArray<Step> = [
      { reasoning: "Hm.", text: "Let me see.", ...tools.shell("echo root") },
      tools.task("look around", [tools.shell("echo child"), { text: "Found it." }]),
      { text: "All done." }
    ]

    it.effect("is one message on two pages of the AI SDK and in their history, with its approvals and subagent", () =>
      Effect.gen(function*() {
        const gateway = yield* Gateways.open({ worker: false })
        const chat = new Chat(gateway, [], "sdk")
        const sent = chat.sendMessage({ text: ScriptedModel.prompt("Do it.", steps) })
        const store = yield* SessionStore
        // The page shows an ask before the store has it.
        const answer = (id: string) =>
          until(Effect.map(store.getAsk(AskId.make(id)), Option.isSome)).pipe(
            Effect.andThen(gateway.call(`/asks/${id}/answer`, { body: once }))
          )
        const first = yield* chat.until((message) => asks(message).length > 0)
        assert.deepStrictEqual(asks(first).map(({ toolName }) => toolName), [tools.names.shell])
        const other = new Chat(gateway, [], "sdk")
        const followed = other.resumeStream()
        yield* other.until((message) => asks(message).length > 0)
        const id = asks(first)[0]?.approval.id ?? ""
        assert.strictEqual((yield* answer(id)).status, 200)
        const second = yield* chat.until((message) => asks(message).some(({ approval }) => approval.id !== id))
        // The subagent's permission is a call of its own.
        assert.strictEqual(asks(second)[0]?.toolCallId, asks(second)[0]?.approval.id)
        assert.strictEqual((yield* answer(asks(second)[0]?.approval.id ?? "")).status, 200)
        yield* Effect.promise(() => Promise.all([sent, followed]))
        const last = chat.lastMessage
        assert.strictEqual(textOf(last), "Let me see.All done.")
        assert.deepStrictEqual(json(other.lastMessage), json(last))
        const kinds = last?.parts.map(({ type }) => type) ?? []
        assert.includeMembers(kinds, ["reasoning", "text", "dynamic-tool", "data-step", "data-subagent"])
        const subagent = last?.parts.find(({ type }) => type === "data-subagent")
        assert.deepInclude(json(subagent), { type: "data-subagent" })
        assert.include(JSON.stringify(subagent), "\"status\":\"completed\",\"text\":\"Found it.\"")
        const history = JSON.parse((yield* gateway.call("/ai-sdk/sdk/messages")).text)
        assert.deepStrictEqual(history.items[1], json(last))
      }).pipe(Effect.scoped))

    it.effect("runs in a client of AG-UI until it asks, and goes on with each resume", () =>
      Effect.gen(function*() {
        const gateway = yield* Gateways.open({ worker: false })
        const agent = agentOf(gateway)
        agent.addMessage({ id: "m", role: "user", content: ScriptedModel.prompt("Do it.", steps) })
        yield* Effect.promise(() => agent.runAgent())
        const interrupts: Array<object> = []
        while (agent.pendingInterrupts.length > 0) {
          interrupts.push(...agent.pendingInterrupts)
          const resume = agent.pendingInterrupts.map((interrupt: { readonly id: string }) => ({
            interruptId: interrupt.id,
            status: "resolved" as const,
            payload: { reply: "once" }
          }))
          yield* Effect.promise(() => agent.runAgent({ resume }))
        }
        assert.lengthOf(interrupts, 2)
        assert.deepInclude(interrupts[0], { reason: "permission", message: `${tools.names.shell}: echo root` })
        assert.property(interrupts[1], "subagentRunId")
        const own = agent.messages.filter(({ subagentRunId }) => subagentRunId === undefined)
        assert.deepStrictEqual(own.map(({ role }) => role), [
          "user",
          "reasoning",
          "assistant",
          "assistant",
          "tool",
          "assistant",
          "tool",
          "assistant"
        ])
        assert.strictEqual(own.at(-1)?.content, "All done.")
        const store = yield* SessionStore
        const [turn] = yield* store.listMessages(ConversationId.make("c"), 1)
        assert.strictEqual(turn?.status, "completed")
      }).pipe(Effect.scoped))

    it.effect("has its to-dos in the clients of both protocols", () =>
      Effect.gen(function*() {
        const todos = [{ id: "1", content: "look", status: "in_progress", priority: "high" }]
        const prompt = ScriptedModel.prompt("Plan.", [{ tool: "todowrite", args: { todos } }, { text: "Planned." }])
        const gateway = yield* Gateways.open({ worker: false })
        const chat = new Chat(gateway, [], "todos")
        yield* Effect.promise(() => chat.sendMessage({ text: prompt }))
        assert.isTrue(chat.lastMessage?.parts.some(({ type }) => type === "data-todos"))
        const agent = agentOf(gateway)
        agent.addMessage({ id: "m", role: "user", content: prompt })
        yield* Effect.promise(() => agent.runAgent())
        assert.deepInclude(agent.state.todos[0], { content: "look" })
      }).pipe(Effect.scoped))
  }
)
