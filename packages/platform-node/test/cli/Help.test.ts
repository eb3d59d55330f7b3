import { assert, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { cli } from "../support/CliProcess.ts"

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
