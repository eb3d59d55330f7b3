/**
 * An effect of your own decides: it may ask a chat, a policy service, a person. While it does, the turn's deadlines stand still.
 */
import { NodeRuntime } from "@effect/platform-node"
import { runTurn } from "@opencode-turn/core"
import type { Answer } from "@opencode-turn/core/Ask"
import * as HumanGate from "@opencode-turn/core/HumanGate"
import { Console, Effect } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const gate = HumanGate.layerCallback((ask, { conversationId }) =>
  Effect.gen(function*() {
    if (ask._tag === "Question") {
      yield* Console.log(`${conversationId} asks: ${ask.questions.map(({ question }) => question).join(" ")}`)
      return {
        _tag: "Answers",
        answers: ask.questions.map(({ options }) => [options[0]?.label ?? "yes"])
      } satisfies Answer
    }
    yield* Console.log(`${conversationId} wants to run: ${ask.patterns.join(", ")}`)
    return { _tag: "Permission", reply: { reply: "once" } } satisfies Answer
  })
)

const colours = ["red", "green"].map((label) => ({ label, description: `Paint it ${label}` }))
const steps = [
  { tool: "question", args: { questions: [{ question: "Which colour?", header: "Colour", options: colours }] } },
  { tool: "bash", args: { command: "echo red > colour.txt", description: "Write the colour" } },
  { text: "It is red now." }
]

const program = Effect.gen(function*() {
  const { content } = yield* runTurn({ conversationId: "callback", prompt: "Paint it." })
  yield* Console.log(content)
})

NodeRuntime.runMain(program.pipe(Effect.provide([gate, ScriptedOpencode.layer(steps)])))
