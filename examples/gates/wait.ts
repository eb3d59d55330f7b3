/**
 * Another client of the same server answers, OpenCode's own interface for example: the turn leaves the ask to it, and goes on
 * when it hears of the answer. Here the other client is a fiber beside the turn.
 */
import { NodeRuntime } from "@effect/platform-node"
import { runTurn } from "@opencode-turn/core"
import { Client } from "@opencode-turn/core/Client"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { Console, Effect, Fiber, Schedule } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const steps = [
  { tool: "bash", args: { command: "echo elsewhere", description: "Say where" } },
  { text: "It was answered elsewhere." }
]

/** What a person does in the other client. */
const answerElsewhere = Effect.gen(function*() {
  const client = yield* Client
  const [ask] = yield* client.permissions.pipe(
    Effect.repeat({ until: (asks) => asks.length > 0, schedule: Schedule.spaced("200 millis") })
  )
  if (ask === undefined) return
  yield* Console.log(`the other client allows ${ask.patterns.join(", ")}`)
  yield* client.answerPermission(ask.id, { reply: "once" })
})

const program = Effect.gen(function*() {
  const turn = yield* Effect.forkChild(runTurn({ conversationId: "wait", prompt: "Say where." }))
  yield* answerElsewhere
  const { content } = yield* Fiber.join(turn)
  yield* Console.log(content)
})

NodeRuntime.runMain(program.pipe(Effect.provide([HumanGate.layer(HumanGate.wait), ScriptedOpencode.layer(steps)])))
