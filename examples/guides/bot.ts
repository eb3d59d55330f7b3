/**
 * A bot that shows the answer while it grows: it edits its message at most once a second, because chats limit how often.
 */
import { NodeRuntime } from "@effect/platform-node"
import { streamTurn } from "@opencode-turn/core"
import { Console, Effect, Ref, Schedule, Stream } from "effect"
import * as ScriptedOpencode from "../support/ScriptedOpencode.ts"

/** Stands for the chat: a message that can be edited. */
const makeChat = Effect.map(Ref.make(""), (shown) => ({
  edit: (text: string) => Ref.set(shown, text),
  shown: Ref.get(shown)
}))

const program = Effect.gen(function*() {
  const chat = yield* makeChat
  const text = yield* Ref.make("")
  const edited = yield* Ref.make("")
  const editIfChanged = Effect.gen(function*() {
    const next = yield* Ref.get(text)
    if (next !== (yield* Ref.getAndSet(edited, next))) yield* chat.edit(`${next} …`)
  })
  // The scope ends this with the turn, and interrupting the program cancels the turn.
  yield* Effect.forkScoped(Effect.repeat(editIfChanged, Schedule.spaced("1 second")))
  yield* streamTurn({ conversationId: "chat-7", prompt: "Tell me a story." }).pipe(Stream.runForEach((update) => {
    switch (update._tag) {
      case "TextDelta":
        return Ref.update(text, (before) => before + update.delta)
      case "Reset":
        // The turn begins a new answer, for example after a repair.
        return Ref.set(text, "")
      case "Finished":
        // The result decides: `content` also has words for a turn that was stopped or failed.
        return chat.edit(update.result.content)
      default:
        return Effect.void
    }
  }))
  yield* Console.log(yield* chat.shown)
})

NodeRuntime.runMain(
  Effect.scoped(program).pipe(Effect.provide(ScriptedOpencode.layer([{ text: "Once upon a time, it was fixed." }])))
)
