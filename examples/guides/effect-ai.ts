/**
 * OpenCode as a model of `effect/ai`: a chat that runs a tool, a value of a schema, and a stream, all in one conversation.
 */
import { NodeRuntime } from "@effect/platform-node"
import { HumanGate } from "@opencode-turn/core"
import * as OpencodeLanguageModel from "@opencode-turn/core/OpencodeLanguageModel"
import * as OpencodeTool from "@opencode-turn/core/OpencodeTool"
import { Console, Effect, Layer, Schema, Stream } from "effect"
import { Chat } from "effect/ai"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const Verdict = Schema.Struct({ passes: Schema.Boolean, failures: Schema.Array(Schema.String) })

const program = Effect.gen(function*() {
  const chat = yield* Chat.fromPrompt([{ role: "system", content: "You look after the build." }])

  const first = yield* chat.generateText({ prompt: "Run the tests.", toolkit: OpencodeTool.toolkit })
  for (const { name, result } of first.toolResults) yield* Console.log(`${name}: ${String(result).trim()}`)
  yield* Console.log(first.text)

  const { value } = yield* chat.generateObject({ prompt: "What is the verdict?", schema: Verdict })
  yield* Console.log(`passes: ${value.passes}, failures: ${value.failures.length}`)

  yield* chat.streamText({ prompt: "Write a line for the log." }).pipe(
    Stream.filter((part) => part.type === "text-delta"),
    Stream.runFold(() => "", (text, { delta }) => text + delta),
    Effect.flatMap(Console.log)
  )
}).pipe(Effect.provideService(HumanGate.HumanGate, HumanGate.allow))

const steps = [
  { tool: "bash", args: { command: "echo 12 passed", description: "Runs the tests" } },
  { text: "All tests pass." },
  { tool: "StructuredOutput", args: { passes: true, failures: [] } },
  { text: "The build is green." }
]
NodeRuntime.runMain(
  program.pipe(Effect.provide(OpencodeLanguageModel.layer().pipe(Layer.provide(ScriptedOpencode.layer(steps)))))
)
