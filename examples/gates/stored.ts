/**
 * Another process decides: the ask waits in the store, and `answerAsk` from anywhere wakes the turn. Here both sides run
 * in one process, and share nothing but the store.
 */
import { NodeRuntime } from "@effect/platform-node"
import { runTurn } from "@opencode-turn/core"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import { Console, Effect, Fiber, Schedule } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const steps = [
  { tool: "bash", args: { command: "echo released", description: "Release it" } },
  { text: "It is released." }
]

/** What the back end of an approval page would do. */
const approve = Effect.gen(function*() {
  const [pending] = yield* StoredGate.pendingAsks().pipe(
    Effect.repeat({ until: (asks) => asks.length > 0, schedule: Schedule.spaced("200 millis") })
  )
  if (pending?.ask._tag !== "Permission") return
  yield* Console.log(
    `${pending.conversationId} waits for ${pending.id.slice(0, 4)}…: ${pending.ask.patterns.join(", ")}`
  )
  yield* StoredGate.answerAsk(pending.id, { _tag: "Permission", reply: { reply: "once" } })
})

const program = Effect.gen(function*() {
  const turn = yield* Effect.forkChild(
    runTurn({ conversationId: "stored", prompt: "Release it." }).pipe(Effect.provide(StoredGate.layer))
  )
  yield* approve
  const { content } = yield* Fiber.join(turn)
  yield* Console.log(content)
})

NodeRuntime.runMain(program.pipe(Effect.provide(ScriptedOpencode.layer(steps))))
