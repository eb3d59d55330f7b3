/**
 * Turns that are cancelled beside the end and the next start of their server: they stay cancelled, no session works for them, and the
 * conversation goes on. `Stops.test.ts` of core has the same on the fake, with servers that nobody reaches.
 */
import { assert, it } from "@effect/vitest"
import { cancelTurn } from "@opencode-turn/core/CancelTurn"
import { AssistantMessageId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Fiber, Layer } from "effect"
import { describe } from "vitest"
import { onBothLines } from "../support/BothLines.ts"
import * as RealTurns from "../support/RealTurns.ts"
import { until } from "../support/RealTurns.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"
import * as Host from "../versions/Host.ts"

/** When a turn is cancelled. */
type Moment = "while the server ends" | "while the server is down" | "when the server is back"
const moments: ReadonlyArray<Moment> = ["while the server ends", "while the server is down", "when the server is back"]

/** What a turn stands at: its steps, and the gates that tell that it stands there. */
interface Point {
  readonly name: string
  readonly steps: (name: string, host: Host.Host["Service"]) => ReadonlyArray<Step>
  readonly gates: (name: string) => ReadonlyArray<string>
}

const half = (gate: string): Step => ({ text: "one two three", gate, gateAfter: 2, ending: "hang" })

const points: ReadonlyArray<Point> = [
  { name: "a text", steps: (name) => [half(name), { text: "More." }], gates: (name) => [name] },
  {
    name: "a subagent",
    steps: (name, { tools }) => [
      tools.task(`Do ${name}`, [half(`${name}, child`), { text: "Child." }]),
      { text: "More." }
    ],
    gates: (name) => [`${name}, child`]
  }
]

const background: Point = {
  name: "a subagent in the background",
  steps: (name, { tools }) => [
    tools.task(`Do ${name}`, [half(`${name}, child`), { text: "Child." }], { background: true }),
    half(name),
    { text: "More." },
    { text: "Even more." }
  ],
  gates: (name) => [`${name}, child`, name]
}

const inputOf = (name: string, steps: ReadonlyArray<Step>, input: Partial<TurnInput> = {}): TurnInput =>
  RealTurns.turn(steps, { prompt: ScriptedModel.prompt(`Do ${name}.`, steps), ...input })

/** How often the model was asked for a turn or its subagents. */
const callsOf = (name: string) =>
  Effect.gen(function*() {
    const model = yield* ScriptedModel.ScriptedModel
    return (yield* model.requests).filter(({ isTitle, messages }) =>
      !isTitle && messages.some(({ role, text }) => role === "user" && text.includes(`Do ${name}`))
    ).length
  })

/** Ends the server while turns stand at each point, starts it again, and cancels each of them at each moment. */
const restart = Effect.fnUntraced(function*(
  round: string,
  signal: "SIGKILL" | "SIGTERM",
  { goesOn = false, hasWorker }: { readonly goesOn?: boolean; readonly hasWorker: boolean }
) {
  const model = yield* ScriptedModel.ScriptedModel
  const host = yield* Host.Host
  const store = yield* SessionStore
  if (hasWorker) yield* Layer.build(TurnWorker.layer())
  const all = host.tools.line === "2.x" ? [...points, background] : points
  const turns = yield* Effect.forEach(
    all.flatMap((point) => moments.map((moment) => ({ point, moment }))),
    ({ moment, point }) =>
      Effect.gen(function*() {
        const name = `${round}: ${point.name}, ${moment}`
        const id = AssistantMessageId.make(`asm_${name.replaceAll(/\W/g, "")}`)
        const input = inputOf(name, point.steps(name, host), { messageId: id })
        const fiber = yield* Effect.forkScoped(runTurn(input))
        yield* Effect.forEach(point.gates(name), model.reached)
        return { name, id, moment, fiber, conversationId: input.conversationId, gates: point.gates(name) }
      }),
    { concurrency: "unbounded" }
  )
  const at = (moment: Moment) => turns.filter((turn) => turn.moment === moment)
  const cancelAll = (moment: Moment) =>
    Effect.forEach(at(moment), ({ id }) => cancelTurn(id), { concurrency: "unbounded" })

  const first = yield* Effect.forkScoped(cancelAll("while the server ends"))
  yield* host.end(signal)
  yield* cancelAll("while the server is down")
  yield* host.restart
  yield* cancelAll("when the server is back")
  yield* Fiber.join(first)
  for (const { gates } of turns) yield* Effect.forEach(gates, model.release)
  for (const { fiber, name } of turns) assert.strictEqual((yield* Fiber.join(fiber)).status, "cancelled", name)
  // A worker stops what is due, or else the next turn of each conversation does.
  if (hasWorker) {
    yield* until(Effect.map(store.listStops({ limit: 99 }), (stops) => stops.length === 0))
    yield* until(RealTurns.isIdle)
  }
  const before = yield* Effect.forEach(turns, ({ name }) => callsOf(name))
  for (const { conversationId, name } of turns) {
    const steps: ReadonlyArray<Step> = [{ text: "Next." }]
    const input = inputOf("the next", steps, { conversationId })
    const { content, status } = yield* runTurn(input)
    assert.strictEqual(status, "completed", name)
    assert.strictEqual(content, "Next.", name)
  }
  yield* until(RealTurns.isIdle)
  assert.lengthOf(yield* store.listStops({ limit: 99 }), 0)
  // A server that goes on by itself asks until the next turn of the conversation stops it.
  if (goesOn && !hasWorker) return
  // The next turn asks with what was said before it.
  const after = yield* Effect.forEach(turns, ({ name }) => callsOf(name))
  assert.deepStrictEqual(after, before.map((calls) => calls + 1))
})

onBothLines("turns that are cancelled", { layerOf: (line) => Host.layerOf(line) }, (it) => {
  it.effect(
    "while their server is killed stay cancelled",
    () => restart("kill", "SIGKILL", { hasWorker: true }),
    180_000
  )
})

describe.skipIf(SharedOpencode.isMissing("2.x"))("turns whose server of OpenCode 2.x goes on by itself", () => {
  it.layer(Host.layerOf("2.x", undefined, { isManaged: true }), { excludeTestServices: true, timeout: "5 minutes" })(
    (it) => {
      it.effect(
        "and that are cancelled meanwhile stay cancelled, where a worker looks",
        () => restart("worker", "SIGTERM", { goesOn: true, hasWorker: true }),
        180_000
      )
      it.effect(
        "and that are cancelled meanwhile stay cancelled, where nobody looks",
        () => restart("none", "SIGTERM", { goesOn: true, hasWorker: false }),
        180_000
      )
    }
  )
})
