import { below } from "#cli/Help"
import { assert, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { cli } from "../support/CliProcess.ts"

const names = (command: string | undefined) => below(command).match(/^ {2}[A-Z_]{5,}/gm)?.map((name) => name.trim())

it("lists the settings and the exit codes of a command", () => {
  assert.deepStrictEqual(names("asks"), ["OPENCODE_TURN_DATABASE"])
  assert.deepStrictEqual(names("answer"), ["OPENCODE_TURN_DATABASE", "NO_COLOR"])
  assert.deepStrictEqual(names("serve"), names(undefined))
  assert.deepStrictEqual(names("run"), names(undefined)?.filter((name) => !name.startsWith("OPENCODE_TURN_TOKEN")))
  assert.include(names("run") ?? [], "OPENCODE_BIN")
  assert.include(below("list"), "129 by SIGHUP")
  assert.include(below("run"), "PERMISSIONS")
  assert.notInclude(below("list"), "PERMISSIONS")
})

// After a change of the command line: vitest -u packages/platform-node/test/cli/Help.test.ts
it.live("keeps the help of the executable equal to that of the command line", () =>
  Effect.gen(function*() {
    // Without arguments the command line is loaded; for --help the executable reads the file.
    const { code, stdout } = yield* cli([])
    assert.strictEqual(code, 0)
    yield* Effect.promise(() => expect(stdout).toMatchFileSnapshot("../../bin/help.txt"))
  }))

it.live("prints the help for --help and -h", () =>
  Effect.gen(function*() {
    const { stdout } = yield* cli([])
    assert.include(stdout, "USAGE")
    for (const flag of ["--help", "-h"]) {
      assert.deepStrictEqual(yield* cli([flag]), { code: 0, signal: null, stdout, stderr: "" })
    }
  }))
