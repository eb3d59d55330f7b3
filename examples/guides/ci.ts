/**
 * A step of a pipeline: one line of JSON, and an exit code that tells a failure of the agent from one of the step.
 */
import { NodeRuntime } from "@effect/platform-node"
import { runTurn, TurnPolicy } from "@opencode-turn/core"
import { Console, Effect, Schema } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const Review = Schema.Struct({ verdict: Schema.Literals(["approve", "reject"]), reason: Schema.String })

const exitCodes = { completed: 0, error: 1, failed: 2, cancelled: 130 }

const program = Effect.gen(function*() {
  const result = yield* runTurn({ conversationId: "change-12", prompt: "Review the change.", output: Review })
  const told = result.status === "completed"
    ? result.output
    : { error: result.error._tag, message: result.error.message }
  yield* Console.log(JSON.stringify({ status: result.status, ...told }))
  process.exitCode = result.status === "completed" && result.output.verdict === "reject" ? 3 : exitCodes[result.status]
}).pipe(Effect.provideService(TurnPolicy.Budget, { wallClock: "10 minutes", cost: 1 }))

const answer = { tool: "StructuredOutput", args: { verdict: "approve", reason: "It is small and tested." } }
NodeRuntime.runMain(program.pipe(Effect.provide(ScriptedOpencode.layer([answer]))))
