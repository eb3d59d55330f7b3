/**
 * Tests that run on both lines of OpenCode, with the same body and the same expected result. What differs is a listed exception with its
 * reason.
 */
import { assert, it } from "@effect/vitest"
import type { Effect, Layer, Scope } from "effect"
import { describe } from "vitest"
import type { Line } from "./OpencodeGlobalSetup.ts"
import * as SharedOpencode from "./SharedOpencode.ts"
import * as Tools from "./Tools.ts"

/** Declares tests on one line. */
export interface Tests<R> {
  readonly effect: <A, E>(name: string, run: () => Effect.Effect<A, E, R | Scope.Scope>, timeout?: number) => void
}

export interface Options<R, E> {
  /** What the tests of a line share. */
  readonly layerOf: (line: Line) => Layer.Layer<R, E>
  /** The tests that 2.x ends otherwise or has nothing for, and why. They run on 1.x alone. */
  readonly exceptions?: Readonly<Record<string, string>>
}

/**
 * Declares the same tests on each line. Those on 2.x are skipped where the platform has none. An exception that names no test fails.
 *
 * OpenCode 2.x reads the configuration of 1.x, under its own names: `bash` is its `shell`, `task` its `subagent`
 * (0.0.0-next-16350).
 */
export const onBothLines = <R, E>(
  what: string,
  { exceptions = {}, layerOf }: Options<R, E>,
  declare: (it: Tests<R>, tools: Tools.Tools) => void
): void => {
  const names = new Set<string>()
  for (const line of ["1.x", "2.x"] as const) {
    describe.skipIf(SharedOpencode.isMissing(line))(`OpenCode ${line}`, () => {
      it.layer(layerOf(line), { excludeTestServices: true, timeout: "5 minutes" })(what, (it) => {
        const effect: Tests<R>["effect"] = (name, run, timeout) => {
          names.add(name)
          if (line === "1.x" || !(name in exceptions)) it.effect(name, run, timeout)
        }
        declare({ effect }, Tools.of[line])
      })
    })
  }
  if (Object.keys(exceptions).length === 0) return
  it(`${what}: every exception of 2.x names a test`, () => {
    assert.deepStrictEqual(Object.keys(exceptions).filter((name) => !names.has(name)), [])
  })
}
