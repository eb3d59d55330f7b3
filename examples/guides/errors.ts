/**
 * Tells a user what became of a turn, by its status and its error: the model gives no answer here.
 */
import { NodeRuntime } from "@effect/platform-node"
import { runTurn } from "@opencode-turn/core"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import { Console, Effect, Logger } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

/** What the user reads. The messages of errors are for operators: they name hosts, folders and ids. */
const tell = (result: TurnResult): string => {
  switch (result.status) {
    case "completed":
      return result.content
    case "cancelled":
      return "Stopped."
    case "error":
      return result.error._tag === "BudgetExceeded"
        ? "This took more than it may. Ask for less at a time."
        : result.error._tag === "Refused"
        ? "The agent was not allowed to do this."
        : "The agent gave no answer. Try again."
    case "failed":
      return result.error._tag === "InvalidInput"
        ? `This cannot be sent: ${result.error.reason}`
        : "The agent cannot be reached. We are looking into it."
  }
}

const program = Effect.gen(function*() {
  yield* Console.log(tell(yield* runTurn({ conversationId: "errors", prompt: "Say nothing." })))
  yield* Console.log(tell(yield* runTurn({ conversationId: "errors", prompt: "" })))
  yield* Console.log(tell(yield* runTurn({ conversationId: "errors", prompt: "Say something." })))
})

NodeRuntime.runMain(program.pipe(
  Effect.provide(ScriptedOpencode.layer([{ text: "" }, { text: "Something." }])),
  // The log is for operators, so it must not be mixed into what the user reads.
  Effect.provideService(Logger.LogToStderr, true)
))
