/**
 * OpenCode as a model of `effect/ai`, against a real OpenCode with a scripted model.
 */
import { assert } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { SessionId } from "@opencode-turn/core/Ids"
import * as OpencodeLanguageModel from "@opencode-turn/core/OpencodeLanguageModel"
import * as OpencodeTool from "@opencode-turn/core/OpencodeTool"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Schema, Stream } from "effect"
import { Chat, LanguageModel, type Response } from "effect/ai"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"

const model = OpencodeLanguageModel.layer({ config: { title: "a test" } })
const toolkit = OpencodeTool.toolkit

const textOf = (parts: ReadonlyArray<Response.AnyPart>) =>
  parts.map((part) => part.type === "text-delta" ? part.delta : "").join("")

onBothLines(
  "a model of effect/ai",
  {
    layerOf: RealServer.onLine(RealServer.nested),
    exceptions: {
      "tells a refused call as denied": "2.x records a call that was refused with a message as a failed one"
    }
  },
  (it, tools) => {
    const shell = tools.line === "1.x" ? "OpencodeBash" : "OpencodeShell"

    it.effect("has the system text of a chat", () =>
      Effect.gen(function*() {
        const { requests } = yield* ScriptedModel.ScriptedModel
        const chat = yield* Chat.fromPrompt([{ role: "system", content: "Be short." }])
        const { text } = yield* chat.generateText({ prompt: ScriptedModel.prompt("Say.", [{ text: "Said." }]) })
        assert.strictEqual(text, "Said.")
        const last = (yield* requests).findLast(({ isTitle }) => !isTitle)
        assert.include(last?.messages.map(({ text }) => text).join("\n"), "Be short.")
      }).pipe(Effect.provide(model)))

    it.effect("answers a chat with text, tools and a value in one session", () =>
      Effect.gen(function*() {
        const chat = yield* Chat.empty
        const used = { input: 100, output: 20, reasoning: 5, cacheRead: 60 }
        const first = yield* chat.generateText({
          prompt: ScriptedModel.prompt("Look.", [
            { reasoning: "I think.", text: "I look.", ...tools.shell("echo hello"), usage: used },
            { text: "Done.", usage: used }
          ]),
          toolkit
        })
        assert.strictEqual(first.text, "I look.\n\nDone.")
        assert.strictEqual(first.reasoningText, "I think.")
        assert.strictEqual(first.finishReason, "stop")
        assert.deepEqual(first.toolResults.map(({ name, result }) => [name, String(result).split("\n")[0]]), [
          [shell, "hello"]
        ])
        assert.deepEqual(first.usage.inputTokens, { uncached: 80, cacheRead: 120, cacheWrite: 0, total: 200 })
        assert.deepEqual(first.usage.outputTokens, { text: 30, reasoning: 10, total: 40 })

        const second = yield* chat.generateObject({
          prompt: ScriptedModel.prompt("Who?", [
            tools.value({ name: "Ada", born: "1815-12-10T00:00:00.000Z" })
          ]),
          schema: Schema.Struct({ name: Schema.String, born: Schema.Date })
        })
        assert.deepEqual([second.value.name, second.value.born.getUTCFullYear()], ["Ada", 1815])

        const parts = yield* Stream.runCollect(
          chat.streamText({ prompt: ScriptedModel.prompt("Bye.", [{ text: "Bye, and thanks." }]), toolkit })
        )
        assert.strictEqual(textOf(parts), "Bye, and thanks.")
        const ids = [...first.content, ...second.content, ...parts].flatMap((part) =>
          part.type === "finish" ? [part.metadata.opencode?.sessionId] : []
        )
        assert.lengthOf(ids, 3)
        assert.lengthOf(new Set(ids), 1)
      }).pipe(Effect.provide(model), Effect.provideService(HumanGate.HumanGate, HumanGate.allow)))

    it.effect("tells a refused call as denied", () =>
      Effect.gen(function*() {
        const { toolResults } = yield* LanguageModel.generateText({
          prompt: ScriptedModel.prompt("Do it.", [tools.shell("rm -r build"), { text: "I could not." }]),
          toolkit
        }).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.deny))
        assert.propertyVal(toolResults[0]?.result, "type", "execution-denied")
      }).pipe(Effect.provide(model)))

    it.effect("tells refused and failed calls as failures", () =>
      Effect.gen(function*() {
        const response = yield* LanguageModel.generateText({
          prompt: ScriptedModel.prompt("Do it.", [
            tools.shell("rm -r build"),
            tools.read("/nowhere/none.txt"),
            { text: "I could do nothing." }
          ]),
          toolkit
        }).pipe(
          Effect.provideService(HumanGate.HumanGate, HumanGate.deny)
        )
        const results = response.toolResults.map(({ isFailure, name }) => [name, isFailure])
        assert.deepEqual(results, [[shell, true], ["OpencodeRead", true]])
        assert.strictEqual(response.text, "I could do nothing.")
      }).pipe(Effect.provide(model)))

    it.effect("fails as the model's provider did", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(LanguageModel.generateText({
          prompt: ScriptedModel.prompt("Do it.", [{ fail: 401, message: "no such key" }])
        }))
        assert.strictEqual(error.reason._tag, "AuthenticationError")
        assert.include(error.message, "no such key")
        const limit = yield* Effect.flip(
          LanguageModel.generateText({
            prompt: ScriptedModel.prompt("Do it.", [{ fail: 400, message: "an odd request" }])
          })
        )
        assert.strictEqual(limit.reason._tag, "InvalidUserInputError")
      }).pipe(Effect.provide(model)))

    it.effect("gives the stored answer to a request that is repeated", () =>
      Effect.gen(function*() {
        const ask = LanguageModel.generateText({ prompt: ScriptedModel.prompt("Do it.", [{ text: "Once." }]) }).pipe(
          OpencodeLanguageModel.withConfigOverride({ messageId: "workflow-7/step-2" })
        )
        const first = yield* ask
        assert.deepEqual((yield* ask).content, first.content)
        const finish = first.content.find((part) => part.type === "finish")
        const client = yield* Client.Client
        const sessionId = SessionId.make(finish?.metadata.opencode?.sessionId ?? "")
        const { messages } = yield* client.listMessages(sessionId, { limit: 100 })
        assert.lengthOf(messages.filter(({ info }) => info.role === "user"), 1)
      }).pipe(Effect.provide(model)))
  }
)
