/**
 * Servers that end in the middle of turns and come back: one prompt, one answer, and a reason for each further call of the model. Every restart
 * meets a turn at each of its points. `Restarts2x.test.ts` of core has the other combinations on the fake.
 */
import { assert, it } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Deferred, Duration, Effect, Fiber, FileSystem, Option, type Scope } from "effect"
import { describe } from "vitest"
import { onBothLines } from "../support/BothLines.ts"
import * as RealTurns from "../support/RealTurns.ts"
import { until } from "../support/RealTurns.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"
import * as Host from "../versions/Host.ts"

/** A turn that has come to its point, and what it must come to. */
interface Met {
  readonly name: string
  /** The end of the turn, after the restart. */
  readonly result: Effect.Effect<TurnResult, unknown, Host.Services>
  readonly content: RegExp
  /** Calls of the model: one for each step, and one for each step that broke off. */
  readonly calls: number
  /** The prompts of its session; 1 by default. */
  readonly prompts?: number
}

/** A turn that the requests of the model can be told by. */
const turn = (name: string, steps: ReadonlyArray<Step>, input: Partial<TurnInput> = {}): TurnInput =>
  RealTurns.turn(steps, { prompt: ScriptedModel.prompt(`Do ${name}.`, steps), ...input })

const callsOf = (name: string) =>
  Effect.gen(function*() {
    const model = yield* ScriptedModel.ScriptedModel
    return (yield* model.requests).filter(({ isTitle, messages }) =>
      !isTitle && messages.some(({ role, text }) => role === "user" && text.startsWith(`Do ${name}.`))
    ).length
  })

const halfway = (gate: string): Step => ({ text: "one two three", gate, gateAfter: 2, ending: "hang" })
const silent = (gate: string, text: string): Step => ({ text, gate, gateAfter: 0 })

const silentTurn = Effect.fnUntraced(function*(round: string) {
  const name = `${round}: before the model has said a word`
  const model = yield* ScriptedModel.ScriptedModel
  const { loseAnswers } = yield* Host.Host
  yield* loseAnswers(1)
  const fiber = yield* Effect.forkScoped(runTurn(turn(name, [silent(name, "Hello.")])))
  yield* model.reached(name)
  // The broken step is asked again.
  return { name, result: Fiber.join(fiber), content: /^Hello\.$/, calls: 2 }
})

const textTurn = Effect.fnUntraced(function*(round: string) {
  const name = `${round}: in the middle of a text`
  const model = yield* ScriptedModel.ScriptedModel
  const fiber = yield* Effect.forkScoped(runTurn(turn(name, [halfway(name), { text: "From the start." }])))
  yield* model.reached(name)
  // The broken step is asked again. 2.x keeps the words before SIGTERM.
  return { name, result: Fiber.join(fiber), content: /^(one (two )?\n\n)?From the start\.$/, calls: 2 }
})

const toolTurn = Effect.fnUntraced(function*(round: string) {
  const name = `${round}: while a tool runs`
  const fs = yield* FileSystem.FileSystem
  const { directory, tools } = yield* Host.Host
  const trace = `${directory}/${round}.txt`
  const steps = [tools.shell(`echo ran >> ${trace}; sleep 60`), { text: "After the tool." }]
  const fiber = yield* Effect.forkScoped(runTurn(turn(name, steps)))
  yield* until(Effect.orDie(fs.exists(trace)))
  const result = Effect.tap(
    Fiber.join(fiber),
    () => Effect.map(Effect.orDie(fs.readFileString(trace)), (runs) => assert.strictEqual(runs, "ran\n"))
  )
  // The call of the tool stays and has failed, so that its step is not asked again.
  return { name, result, content: /^After the tool\.$/, calls: 2 }
})

const askTurn = Effect.fnUntraced(function*(round: string) {
  const name = `${round}: while a person is asked`
  const { tools } = yield* Host.Host
  const asked = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkScoped(
    runTurn(turn(name, [tools.shell("echo asked"), { text: "Then not." }])).pipe(
      Effect.provideService(
        HumanGate.HumanGate,
        () => Effect.andThen(Deferred.succeed(asked, undefined), Effect.never)
      )
    )
  )
  yield* Deferred.await(asked)
  // The call of the tool has failed with its ask.
  return { name, result: Fiber.join(fiber), content: /^Then not\.$/, calls: 2 }
})

const stepsTurn = Effect.fnUntraced(function*(round: string) {
  const name = `${round}: between two steps`
  const model = yield* ScriptedModel.ScriptedModel
  const { tools } = yield* Host.Host
  const steps = [tools.shell("echo one"), silent(name, "After the tool.")]
  const fiber = yield* Effect.forkScoped(runTurn(turn(name, steps)))
  yield* model.reached(name)
  // The second step is asked again.
  return { name, result: Fiber.join(fiber), content: /^After the tool\.$/, calls: 3 }
})

const endedTurn = Effect.fnUntraced(function*(round: string) {
  const name = `${round}: after its end and before anybody has seen it`
  const model = yield* ScriptedModel.ScriptedModel
  const client = yield* Client.Client
  const store = yield* SessionStore
  const input = turn(name, [silent(name, "All.")])
  const fiber = yield* Effect.forkScoped(
    runTurn(input).pipe(Effect.provideService(TurnPolicy.OnInterrupt, "release"))
  )
  yield* model.reached(name)
  yield* Fiber.interrupt(fiber)
  yield* model.release(name)
  const sessionId = Option.getOrThrow(yield* store.getSession(ConversationId.make(input.conversationId)))
  yield* until(Effect.map(client.statuses, (statuses) => !statuses.has(sessionId)))
  const result = Effect.map(TurnWorker.resumeTurns(), ([result]) => {
    assert.isDefined(result)
    return result
  })
  return { name, result, content: /^All\.$/, calls: 1 }
})

/** Its prompt waits behind another client's, which breaks off. */
const waitingTurn = Effect.fnUntraced(function*(round: string) {
  const name = `${round}: before the prompt is read`
  const model = yield* ScriptedModel.ScriptedModel
  const client = yield* Client.Client
  const store = yield* SessionStore
  const { conversationId, sessionId } = yield* runTurn(turn(`${round}: the turn before`, [{ text: "Before." }]))
  assert.isDefined(sessionId)
  yield* client.prompt(sessionId, {
    parts: [{ type: "text", text: ScriptedModel.prompt("Do another thing.", [halfway(name)]) }]
  })
  yield* model.reached(name)
  const messageId = AssistantMessageId.make(`asm_${round}`)
  const fiber = yield* Effect.forkScoped(
    runTurn(turn(name, [{ text: "Once." }], { conversationId, messageId })).pipe(
      Effect.provideService(TurnPolicy.SessionIdle, Duration.zero)
    )
  )
  yield* until(Effect.gen(function*() {
    const row = Option.getOrUndefined(yield* store.getMessage(messageId))
    const promptId = row?.promptRecord?.prompt.ids?.promptId
    return promptId !== undefined && (yield* client.hasPrompt(sessionId, promptId))
  }))
  return { name, result: Fiber.join(fiber), content: /^Once\.$/, calls: 1, prompts: 3 }
})

const points: ReadonlyArray<(round: string) => Effect.Effect<Met, unknown, Host.Services | Scope.Scope>> = [
  endedTurn,
  waitingTurn,
  silentTurn,
  textTurn,
  toolTurn,
  askTurn,
  stepsTurn
]

/** Ends the server while a turn stands at each point, and starts it again. */
const restart = Effect.fnUntraced(function*(round: string, signal: "SIGKILL" | "SIGTERM") {
  const model = yield* ScriptedModel.ScriptedModel
  const client = yield* Client.Client
  const host = yield* Host.Host
  const met = yield* Effect.all(points.map((point) => point(round)), { concurrency: "unbounded" })
  yield* host.end(signal)
  for (const { name } of met) yield* model.release(name)
  yield* host.loseAnswers(3)
  yield* host.restart
  for (const { calls, content, name, prompts = 1, result } of met) {
    const { content: said, error, promptId, sessionId } = yield* result
    assert.isUndefined(error, `${name}: ${error?.message}`)
    assert.match(said, content, name)
    assert.isDefined(sessionId)
    const { messages } = yield* client.listMessages(sessionId, { limit: 100 })
    const asked = messages.flatMap(({ info }) => (info.role === "user" && !info.isContinuation ? [info.id] : []))
    assert.strictEqual(asked.length, prompts, `prompts of the turn ${name}`)
    assert.strictEqual(asked.filter((id) => id === promptId).length, 1, `its prompt: ${name}`)
    assert.strictEqual(yield* callsOf(name), calls, `calls of the model: ${name}`)
  }
  yield* until(RealTurns.isIdle)
  for (const { calls, name } of met) assert.strictEqual(yield* callsOf(name), calls, `calls behind the end: ${name}`)
})

onBothLines("turns whose server", { layerOf: (line) => Host.layerOf(line) }, (it) => {
  it.effect("is stopped come to their one end, wherever they are", () => restart("stopped", "SIGTERM"), 180_000)
})

describe.skipIf(SharedOpencode.isMissing("2.x"))("turns whose server of OpenCode 2.x goes on by itself", () => {
  it.layer(Host.layerOf("2.x", undefined, { isManaged: true }), { excludeTestServices: true, timeout: "5 minutes" })(
    (it) => {
      it.effect("and is stopped come to their one end, wherever they are", () => restart("managed", "SIGTERM"), 180_000)
      // The beta does not go on after a crash, so that this is a crash of any server of it.
      it.effect("and is killed come to their one end, wherever they are", () => restart("killed", "SIGKILL"), 180_000)
    }
  )
})
