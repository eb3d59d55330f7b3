import { assert, it } from "@effect/vitest"
import { prompt } from "@opencode-turn/testing/ScriptedModel"
import { Effect, FileSystem } from "effect"
import { errorLine, jsonLines, layerShared, Playground } from "../support/CliProcess.ts"

/** The command line against the shared server, with a SQLite file that no other test touches. */
const apart = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const { run } = yield* Playground
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-cli-" })
  return (...args: ReadonlyArray<string>) => run(args, { env: { OPENCODE_TURN_DATABASE: `${folder}/turns.db` } })
})

it.layer(layerShared, { excludeTestServices: true, timeout: "5 minutes" })("the command line", (it) => {
  it.effect("forks, reverts and compacts conversations", () =>
    Effect.gen(function*() {
      const run = yield* apart
      const say = Effect.fnUntraced(function*(conversation: string, text: string) {
        const ended = yield* run("run", "--json", "--conversation", conversation, prompt("Say.", [{ text }]))
        assert.strictEqual(ended.code, 0, ended.stderr)
        return String(jsonLines(ended).at(-1)?.["messageId"])
      })
      const one = yield* say("talk", "One.")
      const two = yield* say("talk", "Two.")

      const fork = yield* run("fork", "--at", one, "--into", "copy", "talk")
      assert.strictEqual(fork.code, 0, fork.stderr)
      assert.match(
        fork.stdout,
        /^Forked from conversation talk after the turn asm_\w+\. · conversation copy · message /
      )
      const unnamed = yield* run("fork", "--json", "talk")
      assert.match(String(jsonLines(unnamed)[0]?.["conversationId"]), /^conv_/)

      const revert = yield* run("revert", "--json", two)
      assert.deepInclude(jsonLines(revert)[0] ?? {}, {
        status: "completed",
        operation: { type: "revert", messageId: two }
      })
      const listed = yield* run("list")
      assert.match(listed.stdout, new RegExp(`^${two} +completed \\(reverted\\) `, "m"))
      assert.match((yield* run("show", "talk")).stdout, /completed · reverted/)
      assert.strictEqual((yield* run("unrevert", "talk")).code, 0)
      assert.notInclude((yield* run("list")).stdout, "reverted")

      const compacted = yield* run("compact", "talk")
      assert.strictEqual(compacted.code, 0, compacted.stderr)
      assert.match(compacted.stdout, /^Scripted summary\n\ncompacted conversation talk · message asm_\w+\n$/)

      const again = yield* run("unrevert", "talk")
      assert.strictEqual(again.code, 1)
      assert.match(errorLine(again), /nothing of conversation talk is reverted/)
      const unknown = yield* run("revert", "asm_none")
      assert.strictEqual(unknown.code, 1)
      assert.match(errorLine(unknown), /there is no message asm_none/)
      const exists = yield* run("fork", "--into", "copy", "talk")
      assert.match(errorLine(exists), /conversation copy exists already/)
      for (const args of [["compact", ""], ["fork", "--into", "", "talk"], ["compact"], ["revert", ""]]) {
        assert.strictEqual((yield* run(...args)).code, 2, args.join(" "))
      }
    }))
})
