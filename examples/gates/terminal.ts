/**
 * The person at the terminal decides, with the arrow keys. Run it in one.
 */
import { NodeRuntime } from "@effect/platform-node"
import { runTurn } from "@opencode-turn/core"
import * as TerminalGate from "@opencode-turn/platform-node/TerminalGate"
import { Console, Effect } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const steps = [
  { tool: "bash", args: { command: "echo hello > hello.txt", description: "Write hello" } },
  { text: "Thank you: hello.txt is written." }
]

const program = Effect.gen(function*() {
  const { content } = yield* runTurn({ conversationId: "terminal", prompt: "Write hello." })
  yield* Console.log(content)
})

NodeRuntime.runMain(program.pipe(Effect.provide([TerminalGate.layer, ScriptedOpencode.layer(steps)])))
