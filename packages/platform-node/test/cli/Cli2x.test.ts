/**
 * The command line on OpenCode 2.x, whose beta takes no permissions for a session.
 */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { environment, opencodeConfig } from "@opencode-turn/testing/ScriptedProvider"
import { Effect, FileSystem, Layer } from "effect"
import { cli, errorLine, layerSharedOf, newHome, Playground } from "../support/CliProcess.ts"
import { commandOf } from "../support/OpencodeGlobalSetup.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"
import * as Tools from "../support/Tools.ts"

const { shell, write } = Tools.of["2.x"]

const modelCalls = Effect.flatMap(ScriptedModel.ScriptedModel, (model) => model.modelCalls)

const hasFile = Effect.fnUntraced(function*(name: string) {
  const fs = yield* FileSystem.FileSystem
  const { directory } = yield* Playground
  return yield* fs.exists(`${directory}/${name}`)
})

/** What the configuration of a server has to say so that everything asks. */
const asking = {
  permission: {
    bash: "ask",
    edit: "ask",
    task: "ask",
    webfetch: "ask",
    websearch: "ask",
    codesearch: "ask",
    "*_*": "ask"
  }
}

describe.skipIf(SharedOpencode.isMissing("2.x"))("the command on OpenCode 2.x", () => {
  it.layer(layerSharedOf({}, "2.x"), { excludeTestServices: true, timeout: "5 minutes" })(
    "with a server whose configuration allows everything",
    (it) => {
      it.effect("says what to do where the server cannot ask as the permissions say, and asks no model", () =>
        Effect.gen(function*() {
          const { run } = yield* Playground
          for (const permission of [[], ["--permission", "store"], ["--permission", "deny"]]) {
            const refused = yield* run(["run", ...permission, "Hello."])
            assert.strictEqual(refused.code, 1)
            assert.match(errorLine(refused), /these allow shell in the agent "build"\. .*--help.*--permission allow/)
          }
          assert.strictEqual(yield* modelCalls, 0)
        }))

      it.effect("does not serve turns that would all fail", () =>
        Effect.gen(function*() {
          const { run } = yield* Playground
          const refused = yield* run(["serve", "--port", "0"])
          assert.deepStrictEqual([refused.code, refused.stdout], [1, ""])
          assert.include(errorLine(refused), "--permission allow")
        }))

      it.effect("runs a turn whose agent may do everything", () =>
        Effect.gen(function*() {
          const { run } = yield* Playground
          const prompt = ScriptedModel.prompt("Write.", [write("allowed.txt", "x\n"), { text: "Written." }])
          const ran = yield* run(["run", "--permission", "allow", prompt])
          assert.deepStrictEqual([ran.code, ran.stdout], [0, "Written.\n"], ran.stderr)
          assert.include(ran.stderr, "Wrote allowed.txt")
          assert.isTrue(yield* hasFile("allowed.txt"))
        }))

      it.effect("says which tools of the server cannot be taken away, and how to do without them", () =>
        Effect.gen(function*() {
          const { run } = yield* Playground
          const refused = yield* run(["run", "--permission", "allow", "--tool", "shell=false", "Hello."])
          assert.strictEqual(refused.code, 1)
          assert.match(errorLine(refused), /limit the tools of a prompt\)\. .*--agent/)
        }))
    }
  )

  it.layer(layerSharedOf(asking, "2.x"), { excludeTestServices: true, timeout: "5 minutes" })(
    "with a server whose configuration asks",
    (it) => {
      it.effect("refuses what the agent asks for by default, also in a second turn", () =>
        Effect.gen(function*() {
          const { run } = yield* Playground
          for (const name of ["first.txt", "second.txt"]) {
            const prompt = ScriptedModel.prompt("Write.", [write(name, "x\n"), { text: "Not written." }])
            const ran = yield* run(["run", "--conversation", "asking", prompt])
            assert.deepStrictEqual([ran.code, ran.stdout], [0, "Not written.\n"], ran.stderr)
            assert.include(ran.stderr, "refused: nobody is asked")
            assert.isFalse(yield* hasFile(name))
          }
        }))

      it.effect("keeps the asks of a gateway for a person", () =>
        Effect.gen(function*() {
          const { start } = yield* Playground
          const serving = yield* start(["serve", "--port", "0"])
          yield* serving.printed("signs a browser in")
          yield* serving.kill("SIGTERM")
          const { stderr } = yield* serving.finished
          assert.notInclude(stderr, "cannot")
        }).pipe(Effect.scoped))
    }
  )

  it.layer(ScriptedModel.layer().pipe(Layer.provideMerge(NodeServices.layer)), { excludeTestServices: true })(
    "with a server that it starts",
    (it) => {
      it.effect(
        "refuses by default what the agent asks for, also if the name of the program does not tell that it is a beta",
        () =>
          Effect.gen(function*() {
            const fs = yield* FileSystem.FileSystem
            const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-cli2x-" })
            const command = yield* commandOf["2.x"]
            const model = yield* ScriptedModel.ScriptedModel
            const project = `${folder}/project`
            yield* fs.makeDirectory(project)
            yield* fs.symlink(command, `${folder}/renamed`)
            const home = yield* newHome(folder)
            const steps = [shell("echo x > shell.txt"), write("written.txt", "x\n"), { text: "Nothing done." }]
            const ran = yield* cli(["run", ScriptedModel.prompt("Work.", steps)], {
              cwd: project,
              env: {
                ...home,
                ...environment(opencodeConfig(model)),
                OPENCODE_BIN: `${folder}/renamed`,
                OPENCODE_TURN_DATABASE: `${folder}/turns.db`
              }
            })
            assert.deepStrictEqual([ran.code, ran.stdout], [0, "Nothing done.\n"], ran.stderr)
            assert.strictEqual(ran.stderr.match(/refused: nobody is asked/g)?.length, 2, ran.stderr)
            assert.deepStrictEqual(yield* fs.readDirectory(project), [])
          }).pipe(Effect.scoped),
        120_000
      )
    }
  )
})
