/**
 * What only OpenCode 2.x can do or does in another way: the whole pipeline against a beta of it with a scripted model. The other files have
 * what it does as 1.x does.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import { AssistantMessageId, type MessageId, type SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn, streamTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Deferred, Duration, Effect, Fiber, Option, Ref, Stream } from "effect"
import { isIdle, turn, until } from "../support/RealTurns.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"
import * as Tools from "../support/Tools.ts"
import * as Host from "../versions/Host.ts"

const { shell, task } = Tools.of["2.x"]

const hang = (name: string): ReadonlyArray<Step> => [{ text: "one two", gate: name, gateAfter: 1 }]

const modelCalls = Effect.flatMap(ScriptedModel.ScriptedModel, (model) => model.modelCalls)

/** The prompts that the server has of the turn's session, and what it wrote itself to go on with an answer. */
const inputsOf = Effect.fnUntraced(function*(result: TurnResult) {
  const client = yield* Client.Client
  assert.isDefined(result.sessionId)
  const { messages } = yield* client.listMessages(result.sessionId, { limit: 100 })
  return messages.flatMap(({ info }) => (info.role === "user" ? [info.isContinuation ? "continuation" : "prompt"] : []))
})

const assertCompleted = (result: TurnResult, content: string) => {
  assert.strictEqual(result.status, "completed", String(result.error?.message))
  assert.strictEqual(result.content, content)
}

describe.skipIf(SharedOpencode.isMissing("2.x"))("a turn on OpenCode 2.x", () => {
  it.layer(Host.layerOf("2.x"), { excludeTestServices: true, timeout: "5 minutes" })((it) => {
    for (
      const [what, input] of [
        ["limited tools", { tools: { shell: false } }],
        ["permission rules", { permission: [{ permission: "shell", pattern: "*", action: "deny" }] }]
      ] as const
    ) {
      it.effect(`is refused before anything is asked of the model if it has ${what}`, () =>
        Effect.gen(function*() {
          const before = yield* modelCalls
          const result = yield* runTurn(turn([{ text: "Never." }], input))
          assert.deepStrictEqual([result.status, result.error?._tag], ["failed", "UnsupportedOperation"])
          assert.strictEqual(yield* modelCalls, before)
        }))
    }

    it.effect("gives its system text to the model, and the turns after it do not", () =>
      Effect.gen(function*() {
        const { crash } = yield* Host.Host
        const model = yield* ScriptedModel.ScriptedModel
        const conversationId = "instructed"
        const system = "Speak like a pirate."
        /** What the model reads of it, in order. */
        const told = Effect.map(model.requests, (requests) =>
          (requests.findLast(({ isTitle }) =>
            !isTitle
          )?.messages ?? []).flatMap(({ text }) => text.match(/Speak like a [a-z]+|no longer applies/g) ?? []))
        const pirate = "Speak like a pirate"
        assertCompleted(yield* runTurn(turn([shell("echo hi"), { text: "Aye." }], { conversationId, system })), "Aye.")
        assert.deepStrictEqual(yield* told, [pirate])
        // Taken back and given again before the next step, it has not changed.
        assertCompleted(yield* runTurn(turn([{ text: "Aye." }], { conversationId, system })), "Aye.")
        assert.deepStrictEqual(yield* told, [pirate])
        assertCompleted(yield* runTurn(turn([{ text: "Yes." }], { conversationId })), "Yes.")
        assert.deepStrictEqual(yield* told, [pirate, "no longer applies"])
        const robot = turn([{ text: "Beep." }], { conversationId, system: "Speak like a robot." })
        assertCompleted(yield* runTurn(robot), "Beep.")
        assert.deepStrictEqual(yield* told, [pirate, "no longer applies", "Speak like a robot"])
        // A server that dies has the text still when it is back.
        const fiber = yield* Effect.forkChild(
          runTurn(turn([{ text: "first", gate: "instructed", gateAfter: 1, ending: "hang" }, { text: "Meow." }], {
            conversationId,
            system: "Speak like a cat."
          }))
        )
        yield* model.reached("instructed")
        yield* crash
        assertCompleted(yield* Fiber.join(fiber), "Meow.")
        assert.strictEqual((yield* told).at(-1), "Speak like a cat")
        assertCompleted(yield* runTurn(turn([{ text: "Yes." }], { conversationId })), "Yes.")
        assert.strictEqual((yield* told).at(-1), "no longer applies")
      }), 180_000)

    it.effect("takes an answer whose finish reason is unknown for its end", () =>
      Effect.gen(function*() {
        const before = yield* modelCalls
        const result = yield* runTurn(turn([{ text: "All of it.", finish: "weird" }, { text: "Never." }]))
        assertCompleted(result, "All of it.")
        assert.strictEqual(result.finish, "other")
        assert.strictEqual((yield* modelCalls) - before, 1)
      }))

    it.effect("chooses the agent and the model of the session where the turn names them", () =>
      Effect.gen(function*() {
        const client = yield* Client.Client
        const first = yield* runTurn(turn([{ text: "One." }], { agent: "plan", model: "scripted/m" }))
        assertCompleted(first, "One.")
        assert.isDefined(first.sessionId)
        const session = yield* client.getSession(first.sessionId)
        assert.deepStrictEqual([session.agent, session.model?.modelId], ["plan", "m"])
      }))

    it.effect("that is cancelled stops its subagent, and one in the background too", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const finished = yield* Ref.make<TurnResult | undefined>(undefined)
        const begun = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(
          streamTurn(turn([
            task("background", hang("background"), { background: true }),
            task("foreground", hang("foreground")),
            { text: "Never." }
          ], { onTurnFinished: (result) => Ref.set(finished, result) })).pipe(
            Stream.runForEach(() => Deferred.succeed(begun, undefined))
          )
        )
        yield* model.reached("background")
        yield* model.reached("foreground")
        yield* Deferred.await(begun)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual((yield* Ref.get(finished))?.status, "cancelled")
        yield* until(isIdle)
        yield* model.release("background")
        yield* model.release("foreground")
      }))

    const ends: ReadonlyArray<readonly [string, Step, boolean]> = [
      ["stops it", { text: "one two", gate: "other stopped", gateAfter: 1 }, true],
      ["stops it between two tries of the model", { fail: 500, times: 9 }, true],
      ["has it fail", { fail: 400, delayMillis: 4000 }, false]
    ]
    it.effect.each(ends)(
      "that waits behind another client's prompt is answered if that client %s",
      ([, step, isStopped]) =>
        Effect.gen(function*() {
          const client = yield* Client.Client
          const store = yield* SessionStore
          const model = yield* ScriptedModel.ScriptedModel
          const input = turn([{ text: "First." }])
          const { sessionId } = yield* runTurn(input)
          assert.isDefined(sessionId)
          const before = yield* modelCalls
          yield* client.prompt(sessionId, ScriptedModel.prompt("other", [step]))
          yield* until(Effect.map(modelCalls, (calls) => calls > before))
          const messageId = AssistantMessageId.make(`waits-${before}`)
          const fiber = yield* Effect.forkChild(
            runTurn(turn([{ text: "Ours." }], { conversationId: input.conversationId, messageId })).pipe(
              Effect.provideService(TurnPolicy.SessionIdle, Duration.seconds(1))
            )
          )
          yield* until(Effect.gen(function*() {
            const row = Option.getOrUndefined(yield* store.getMessage(messageId))
            const promptId = row?.promptRecord?.prompt.ids?.promptId
            return promptId !== undefined && (yield* client.hasPrompt(sessionId, promptId))
          }))
          if (isStopped) yield* client.abortSession(sessionId)
          yield* model.release("other stopped")
          assertCompleted(yield* Fiber.join(fiber), "Ours.")
        })
    )

    it.effect("says of a subagent in the background that it works on, and not that it was stopped", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const fiber = yield* Effect.forkChild(runTurn(turn([
          task("background", hang("outlives"), { background: true }),
          { text: "It works on.", gate: "answer" }
        ])))
        yield* model.reached("outlives")
        yield* model.reached("answer")
        yield* model.release("answer")
        const ended = yield* Fiber.join(fiber)
        assertCompleted(ended, "It works on.")
        assert.deepStrictEqual(ended.subagents.map(({ status, title }) => [title, status]), [["background", "running"]])
        assert.deepStrictEqual(ended.message?.subagents.map(({ status }) => status), ["running"])
        yield* model.release("outlives")
        yield* until(isIdle)
      }))

    it.effect("is carried on once by two workers at the same time", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const client = yield* Client.Client
        const store = yield* SessionStore
        const { crash } = yield* Host.Host
        const before = yield* modelCalls
        const fiber = yield* Effect.forkChild(
          runTurn(turn([
            { text: "one two", gate: "workers", gateAfter: 1, ending: "hang" },
            { text: "From the start." }
          ], { messageId: "asm_workers" })).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
        )
        yield* model.reached("workers")
        yield* Fiber.interrupt(fiber)
        yield* crash
        const row = Option.getOrUndefined(yield* store.getMessage(AssistantMessageId.make("asm_workers")))
        const { prompt, sessionId } = row?.promptRecord ?? assert.fail("no prompt is stored")
        const { ids } = prompt
        assert.isDefined(ids)
        const worker = client.carryOn(sessionId, { ...prompt, ids })
        yield* Effect.all([worker, worker], { concurrency: 2 })
        const [result] = yield* TurnWorker.resumeTurns()
        assert.isDefined(result)
        assertCompleted(result, "From the start.")
        assert.deepStrictEqual(yield* inputsOf(result), ["prompt", "continuation"])
        // The broken step is asked again, once.
        assert.strictEqual((yield* modelCalls) - before, 2)
      }), 180_000)

    it.effect("whose server dies twice is carried on twice", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const { crash } = yield* Host.Host
        const fiber = yield* Effect.forkChild(
          runTurn(turn([
            { text: "first try", gate: "one", gateAfter: 1, ending: "hang" },
            { text: "second try", gate: "two", gateAfter: 1, ending: "hang" },
            { text: "The third holds." }
          ])).pipe(Effect.provideService(TurnPolicy.MaxReposts, 3))
        )
        yield* model.reached("one")
        yield* crash
        yield* model.reached("two")
        yield* crash
        const result = yield* Fiber.join(fiber)
        assertCompleted(result, "The third holds.")
        assert.deepStrictEqual(yield* inputsOf(result), ["prompt", "continuation", "continuation"])
      }), 180_000)

    it.effect("leaves a session that can be forked and sent a message", () =>
      Effect.gen(function*() {
        const client = yield* Client.Client
        const { sessionId } = yield* runTurn(turn([{ text: "One." }]))
        assert.isDefined(sessionId)
        const fork = yield* client.forkSession(sessionId, {})
        assert.notStrictEqual(fork.id, sessionId)
        const { messages } = yield* client.listMessages(fork.id, { limit: 10 })
        assert.deepStrictEqual(messages.map(({ info }) => info.role), ["user", "assistant"])
        const { info, parts } = yield* client.sendMessage(fork.id, ScriptedModel.prompt("Two.", [{ text: "Two." }]))
        assert.strictEqual(info.role, "assistant")
        assert.deepStrictEqual(parts.flatMap((part) => (part.type === "text" ? [part.text] : [])), ["Two."])
        // A model that the server does not have would get no answer.
        const error = yield* Effect.flip(client.sendMessage(fork.id, {
          parts: [{ type: "text", text: ScriptedModel.prompt("Three.", [{ text: "Never." }]) }],
          model: { providerId: "scripted", modelId: "nope" }
        }))
        assert.deepStrictEqual([error._tag, error.message.includes("scripted/nope")], ["UnsupportedOperation", true])
      }))

    it.effect("is asked in words to call an agent that its prompt mentions", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const prompt = ScriptedModel.prompt("Look.", [{ text: "Looked." }])
        const result = yield* runTurn(turn([], {
          prompt: [{ type: "text", text: prompt }, { type: "agent", name: "explore" }]
        }))
        assertCompleted(result, "Looked.")
        const told = (yield* model.requests).flatMap(({ messages }) => messages.map(({ text }) => text))
        assert.isTrue(told.some((text) => text.startsWith("Look.") && text.endsWith("with the agent: explore")))
      }))

    it.effect("that is posted again while it runs and after its end asks the model nothing", () =>
      Effect.gen(function*() {
        const model = yield* ScriptedModel.ScriptedModel
        const client = yield* Client.Client
        const before = yield* modelCalls
        const input = turn([{ text: "Once and for all.", gate: "again", gateAfter: 1 }])
        const started = yield* Deferred.make<{ readonly sessionId: SessionId; readonly promptId: MessageId }>()
        const fiber = yield* Effect.forkChild(runTurn({
          ...input,
          observers: [(update) => update._tag === "Started" ? Deferred.succeed(started, update) : Effect.void]
        }))
        const { promptId, sessionId } = yield* Deferred.await(started)
        const again = client.prompt(sessionId, {
          ids: { promptId, partIds: [] },
          parts: [{ type: "text", text: String(input.prompt) }]
        })
        yield* model.reached("again")
        yield* again
        yield* model.release("again")
        const result = yield* Fiber.join(fiber)
        assertCompleted(result, "Once and for all.")
        yield* again
        yield* until(isIdle)
        assert.strictEqual((yield* modelCalls) - before, 1)
        assert.deepStrictEqual(yield* inputsOf(result), ["prompt"])
      }))
  })
})
