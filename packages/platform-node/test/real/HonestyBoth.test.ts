/**
 * The scripts that both lines run come to the same on both. The fakes stand for the servers here, because the tests of each line prove that
 * they agree.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { exceptionOf, exceptions } from "../honesty/Exceptions.ts"
import { lines, placeOf, scriptsIn } from "../honesty/Honesty.ts"
import * as Servers from "../honesty/Servers.ts"

const all = scriptsIn(lines["2.x"].words).map(({ name }) => name)

it("names only scripts that exist as exceptions, and each once", () => {
  const named = exceptions.flatMap(({ scripts }) => scripts)
  assert.deepStrictEqual(named.filter((name) => !all.includes(name)), [])
  assert.deepStrictEqual(named, [...new Set(named)])
})

it("gives each script a name of its own", () => {
  assert.deepStrictEqual(all, [...new Set(all)])
})

// The fakes are served over a network, so there is no test clock.
it.layer(Servers.layerFakes, { excludeTestServices: true })("both lines", (it) => {
  for (const [index, name] of all.entries()) {
    const exception = exceptionOf(name)
    if (exception?.only !== undefined) continue
    it.effect(`come to ${exception === undefined ? "the same" : "different results"} about ${name}`, () =>
      Effect.gen(function*() {
        const fakes = yield* Servers.Fakes
        const accountOn = (line: "1.x" | "2.x") => {
          const script = scriptsIn(lines[line].words)[index]
          assert(script !== undefined)
          return Effect.map(lines[line].run(fakes[line][placeOf(script)], script), ({ account }) => account)
        }
        const [one, two] = yield* Effect.all([accountOn("1.x"), accountOn("2.x")], { concurrency: 2 })
        if (exception === undefined) assert.deepStrictEqual(two, one)
        else assert.notDeepEqual(two, one)
      }))
  }
})
