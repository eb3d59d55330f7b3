/**
 * Nobody is asked, and everything is allowed for this once: for an agent in a container of its own, for example.
 */
import { NodeRuntime } from "@effect/platform-node"
import { runTurn } from "@opencode-turn/core"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { Console, Effect } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const steps = [
  { tool: "bash", args: { command: "echo allowed", description: "Say so" } },
  { text: "Nobody had to answer." }
]

const program = Effect.gen(function*() {
  const { content, reply } = yield* runTurn({ conversationId: "allow", prompt: "Say so." })
  for (const { output, tool } of reply.tools) yield* Console.log(`${tool}: ${output?.trim()}`)
  yield* Console.log(content)
})

NodeRuntime.runMain(program.pipe(Effect.provide([HumanGate.layer(HumanGate.allow), ScriptedOpencode.layer(steps)])))
