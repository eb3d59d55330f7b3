/**
 * Forks, reverts and compactions beside turns, on a real OpenCode of each line.
 */
import { assert } from "@effect/vitest"
import { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import { compactConversation, forkConversation, revertTurn, unrevertTurn } from "@opencode-turn/core/Operations"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Fiber, FileSystem } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { known, say, turn } from "../support/RealTurns.ts"

const marks = Effect.fnUntraced(function*(conversationId: string) {
  const store = yield* SessionStore
  const messages = yield* store.listMessages(ConversationId.make(conversationId), Infinity)
  return messages.map(({ revertedBy }) => revertedBy !== null)
})

for (const isRepository of [true, false]) {
  onBothLines(
    `operations in ${isRepository ? "a repository" : "a folder"} of the real server`,
    { layerOf: RealServer.onLine({ isRepository }) },
    (it, { line, shell, write }) => {
      // Only a revert looks at the files. The others run in one kind of folder.
      const once: typeof it = isRepository ? it : { effect: () => {} }

      once.effect("a turn before and after a compaction", () =>
        Effect.gen(function*() {
          yield* say("compacted", "one", [shell("echo hi")])
          const compaction = yield* compactConversation("compacted")
          assert.strictEqual(compaction.content, "Scripted summary")
          assert.closeTo(compaction.usage.cost, 0.00002, 1e-9)
          assert.deepStrictEqual(compaction.account?.models, [{ model: "scripted/m", steps: 1, ...compaction.usage }])
          assert.isAbove(compaction.account?.timing.modelMillis ?? 0, 0)
          yield* say("compacted", "two", [shell("echo ho")])
          assert.deepStrictEqual(yield* known, ["Scripted summary"])
          assert.strictEqual(
            (yield* Effect.flip(compactConversation("compacted", { model: "a/b" })))._tag,
            "CompactionFailed"
          )
          yield* say("compacted", "three")
          assert.deepStrictEqual(yield* known, ["Scripted summary", "answer to two"])
        }))

      it.effect("a turn before and after a revert, and a revert that is undone", () =>
        Effect.gen(function*() {
          const fs = yield* FileSystem.FileSystem
          const { directory } = yield* RealServer.Workplace
          const file = `${directory}/made.txt`
          const exists = fs.exists(file)
          yield* say("reverted", "one")
          yield* say("reverted", "two", [write(file, "x")])
          const two = AssistantMessageId.make("reverted-two")
          yield* revertTurn(two)
          assert.strictEqual(yield* exists, !isRepository)
          assert.deepStrictEqual(yield* marks("reverted"), [false, true, false])
          yield* unrevertTurn("reverted")
          assert.isTrue(yield* exists)
          assert.deepStrictEqual(yield* marks("reverted"), [false, false, false, false])
          yield* revertTurn(two)
          yield* say("reverted", "three")
          assert.deepStrictEqual(yield* known, ["answer to one"])
          assert.strictEqual(yield* exists, !isRepository)
          assert.strictEqual((yield* Effect.flip(unrevertTurn("reverted")))._tag, "NothingReverted")
          assert.strictEqual((yield* Effect.flip(revertTurn(two)))._tag, "TurnNotInSession")
          assert.deepStrictEqual((yield* marks("reverted")).slice(0, 2), [false, true])
        }))

      once.effect("a fork, and turns in both conversations", () =>
        Effect.gen(function*() {
          yield* say("forked", "one", [shell("echo hi")])
          yield* say("forked", "two")
          yield* forkConversation({ conversationId: "forked", at: "forked-one", into: "copy" })
          yield* say("copy", "three")
          assert.deepStrictEqual(yield* known, ["answer to one"])
          yield* say("forked", "four")
          assert.deepStrictEqual(yield* known, ["answer to one", "answer to two"])
        }))

      once.effect(
        "beside a running turn a fork is made, a revert is refused, and a compaction waits",
        () =>
          Effect.gen(function*() {
            const model = yield* ScriptedModel.ScriptedModel
            yield* say("busy", "one")
            const running = yield* Effect.forkChild(
              runTurn(
                turn([{ text: "one two", gate: "busy", gateAfter: 1 }], {
                  conversationId: "busy",
                  messageId: "busy-two"
                })
              )
            )
            yield* model.reached("busy")
            yield* forkConversation({ conversationId: "busy", into: "beside" })
            const refused = yield* Effect.flip(revertTurn(AssistantMessageId.make("busy-one")))
            assert.strictEqual(refused._tag, "TurnInProgress")
            const compaction = yield* Effect.forkChild(compactConversation("busy"))
            yield* model.release("busy")
            assert.strictEqual((yield* Fiber.join(running)).content, "one two")
            assert.strictEqual((yield* Fiber.join(compaction)).content, "Scripted summary")
            yield* say("beside", "three")
            assert.deepStrictEqual(yield* known, ["answer to one"])
            yield* say("busy", "four")
            assert.deepStrictEqual(
              yield* known,
              line === "1.x" ? ["Scripted summary"] : ["Scripted summary", "one two"]
            )
          })
      )
    }
  )
}
