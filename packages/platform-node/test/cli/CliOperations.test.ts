import { assert, it } from "@effect/vitest"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { Effect, FileSystem, Schedule } from "effect"
import { errorLine, jsonLines, layerShared, Playground } from "../support/CliProcess.ts"

/** The command line against the shared server, with a SQLite file that no other test touches. */
const apart = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const playground = yield* Playground
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-cli-" })
  const options = { env: { OPENCODE_TURN_DATABASE: `${folder}/turns.db` } }
  return {
    run: (...args: ReadonlyArray<string>) => playground.run(args, options),
    start: (...args: ReadonlyArray<string>) => playground.start(args, options)
  }
})

it.layer(layerShared, { excludeTestServices: true, timeout: "5 minutes" })("the command line", (it) => {
  it.effect("forks, reverts and compacts conversations", () =>
    Effect.gen(function*() {
      const { run } = yield* apart
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
  it.effect("waits with a compaction for the turn of another process, and refuses a revert beside it", () =>
    Effect.gen(function*() {
      const model = yield* ScriptedModel
      const { run, start } = yield* apart
      const first = yield* run("run", "--json", "--conversation", "busy", prompt("Say.", [{ text: "One." }]))
      const one = String(jsonLines(first).at(-1)?.["messageId"])
      const gated = prompt("Say.", [{ text: "two words and more", gate: "operations", gateAfter: 2 }])
      const running = yield* start("run", "--conversation", "busy", gated)
      yield* running.printed("words")
      const refused = yield* run("revert", one)
      assert.strictEqual(refused.code, 1)
      assert.match(errorLine(refused), /conversation busy already has a turn in progress/)
      const rejected = yield* run("compact", "--when-busy", "reject", "busy")
      assert.match(errorLine(rejected), /conversation busy already has a turn in progress/)
      const compaction = yield* start("compact", "busy")
      yield* Effect.repeat(run("list", "--status", "queued"), {
        until: ({ stdout }) => stdout.includes("/compact"),
        schedule: Schedule.spaced("100 millis")
      })
      yield* model.release("operations")
      assert.strictEqual((yield* running.finished).code, 0)
      const compacted = yield* compaction.finished
      assert.strictEqual(compacted.code, 0, compacted.stderr)
      assert.match(compacted.stdout, /^Scripted summary\n/)
    }))
})
