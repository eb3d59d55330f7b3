/**
 * Runs the honesty scripts.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import type { HttpClient } from "effect/http"
import { describe } from "vitest"
import type { Line } from "../support/OpencodeGlobalSetup.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"
import { exceptionOf } from "./Exceptions.ts"
import * as Line1x from "./Line1x.ts"
import * as Line2x from "./Line2x.ts"
import type { Script, Target, Words } from "./Script.ts"
import * as Answers from "./scripts/Answers.ts"
import * as Inputs from "./scripts/Inputs.ts"
import * as Operations from "./scripts/Operations.ts"
import * as People from "./scripts/People.ts"
import * as Stops from "./scripts/Stops.ts"
import * as Structured from "./scripts/Structured.ts"
import * as Subagents from "./scripts/Subagents.ts"
import * as Subtasks from "./scripts/Subtasks.ts"
import * as Tools from "./scripts/Tools.ts"
import * as Servers from "./Servers.ts"

export const lines = { "1.x": Line1x, "2.x": Line2x }

const subjects = [Answers, Tools, People, Subagents, Stops, Inputs, Structured, Subtasks, Operations]

export const scriptsIn = (words: Words): ReadonlyArray<Script> => subjects.flatMap(({ scripts }) => scripts(words))

/** The scripts of a line. */
export const scriptsOf = (line: Line): ReadonlyArray<Script> =>
  scriptsIn(lines[line].words).filter(({ name }) => {
    const exception = exceptionOf(name)
    return exception?.only === undefined || exception.only === line
  })

export const placeOf = ({ repository }: Script): Servers.Place => repository === undefined ? "plain" : "repository"

type Ask = (target: Target) => Effect.Effect<unknown, unknown, HttpClient.HttpClient>

/** The same on the fake and on the real server. */
export const onBoth = (ask: Ask, place: Servers.Place = "plain") => (pairs: Servers.Pairs["Service"]) =>
  Effect.all([ask(pairs[place].fake), ask(pairs[place].real)])

/**
 * Declares that the fake and the real server of a line agree about every script, and about what `more` adds. Child processes use real
 * time, so there is no test clock.
 */
export const declare = (
  line: Line,
  more: Readonly<Record<string, ReturnType<typeof onBoth>>>
): void => {
  describe.skipIf(SharedOpencode.isMissing(line))(`OpenCode ${line}`, () => {
    it.layer(Servers.layerPairs(line), { excludeTestServices: true, timeout: "5 minutes" })(
      "the fake and the real one",
      (it) => {
        for (const script of scriptsOf(line)) {
          it.effect(`agree about ${script.name}`, () =>
            Effect.gen(function*() {
              const { fake, real } = (yield* Servers.Pairs)[placeOf(script)]
              const { run } = lines[line]
              const [fakeRun, realRun] = yield* Effect.all([run(fake, script), run(real, script)], { concurrency: 2 })
              assert.deepStrictEqual(fakeRun, realRun)
            }))
        }
        for (const [what, both] of Object.entries(more)) {
          it.effect(`agree about ${what}`, () =>
            Effect.gen(function*() {
              const [fake, real] = yield* both(yield* Servers.Pairs)
              assert.deepStrictEqual(fake, real)
            }))
        }
      }
    )
  })
}
