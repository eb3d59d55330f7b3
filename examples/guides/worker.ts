/**
 * Two workers share a database. The first one is shut down in the middle of a turn, and the second one carries the turn to its end.
 */
import { NodeRuntime } from "@effect/platform-node"
import { attachTurn, runTurn, TurnPolicy, TurnWorker } from "@opencode-turn/core"
import { AssistantMessageId } from "@opencode-turn/core/Ids"
import { Console, Effect, Fiber, Latch, Option, Stream } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

const messageId = AssistantMessageId.make("answer-1")

const program = Effect.gen(function*() {
  const started = yield* Latch.make()
  const first = yield* Effect.forkChild(
    runTurn({
      conversationId: "ticket-42",
      messageId,
      prompt: "Work for a while.",
      observers: [(update) => update._tag === "TextDelta" ? started.open : Effect.void]
    }).pipe(
      // A worker that is shut down leaves its turns to the others, in place of cancelling them.
      Effect.provideService(TurnPolicy.OnInterrupt, "release")
    )
  )
  yield* started.await
  yield* Fiber.interrupt(first)
  yield* Console.log("the first worker is gone")
  // In a process of its own, this layer keeps the process alive and takes over what others leave.
  const last = yield* Stream.runLast(attachTurn(messageId)).pipe(Effect.provide(TurnWorker.layer()))
  const update = Option.getOrUndefined(last)?.update
  if (update?._tag === "Finished") yield* Console.log(`${update.message.status}: ${update.message.content}`)
})

const words = "This takes a while and then some, but in the end it is done."
NodeRuntime.runMain(program.pipe(Effect.provide(ScriptedOpencode.layer([{ text: words }]))))
