/**
 * Rules decide, as OpenCode's own do: the last one that matches counts. What they leave to `ask` goes to another gate; here
 * there is none, so it is refused.
 */
import { NodeRuntime } from "@effect/platform-node"
import { runTurn } from "@opencode-turn/core"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { Console, Effect } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const gate = HumanGate.rules([
  { permission: "bash", pattern: "*", action: "deny", message: "Only echo is allowed here." },
  { permission: "bash", pattern: "echo *", action: "allow" }
])

const steps = [
  { tool: "bash", args: { command: "echo hello", description: "Say hello" } },
  { tool: "bash", args: { command: "rm -r build", description: "Remove the build" } },
  { text: "I said hello, and left the build alone." }
]

const program = Effect.gen(function*() {
  const { content, reply } = yield* runTurn({ conversationId: "rules", prompt: "Say hello and remove the build." })
  for (const { error, output, tool } of reply.tools) yield* Console.log(`${tool}: ${error ?? output}`)
  yield* Console.log(content)
})

NodeRuntime.runMain(program.pipe(Effect.provide([HumanGate.layer(gate), ScriptedOpencode.layer(steps)])))
