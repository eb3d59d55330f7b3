/**
 * Nobody is there: without a gate every ask is refused with a message that tells the model so, and no turn hangs.
 */
import { NodeRuntime } from "@effect/platform-node"
import { runTurn } from "@opencode-turn/core"
import { Console, Effect } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const steps = [
  { tool: "bash", args: { command: "rm -r build", description: "Remove the build" } },
  { text: "I may not remove the build: somebody has to allow it." }
]

const program = Effect.gen(function*() {
  const { content, reply } = yield* runTurn({ conversationId: "deny", prompt: "Remove the build." })
  yield* Console.log(reply.tools.map(({ error, tool }) => `${tool}: ${error}`).join("\n"))
  yield* Console.log(content)
})

NodeRuntime.runMain(program.pipe(Effect.provide(ScriptedOpencode.layer(steps))))
