/**
 * A gate with a time limit: whoever has not answered by then has refused. `"fail"` in place of `"deny"` ends the turn with
 * `HumanTimeout`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { runTurn } from "@opencode-turn/core"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { Console, Effect } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const nobody: HumanGate.Gate = () => Effect.never
const gate = HumanGate.within(nobody, "2 seconds", "deny")

const steps = [
  { tool: "bash", args: { command: "echo hello", description: "Say hello" } },
  { text: "Nobody answered, so I did nothing." }
]

const program = Effect.gen(function*() {
  const { content, reply } = yield* runTurn({ conversationId: "within", prompt: "Say hello." })
  for (const { error, tool } of reply.tools) yield* Console.log(`${tool}: ${error}`)
  yield* Console.log(content)
})

NodeRuntime.runMain(program.pipe(Effect.provide([HumanGate.layer(gate), ScriptedOpencode.layer(steps)])))
