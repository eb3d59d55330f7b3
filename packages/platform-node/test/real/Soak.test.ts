/**
 * A turn outlives its process: workers that are killed, frozen and stopped at every point of it, and a server that is killed,
 * on both databases, each of which gets half of the points. `scripts/soak.ts` does the same for longer, with all of them on both.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as Figures from "../soak/Figures.ts"
import * as Place from "../soak/Place.ts"
import * as Plans from "../soak/Plans.ts"
import * as Round from "../soak/Round.ts"
import { makeDatabase } from "../support/PostgresDatabase.ts"

const soak = Effect.fnUntraced(function*(plans: ReadonlyArray<Round.Options>, postgresUrl: string | undefined) {
  const place = yield* Place.make({ postgresUrl })
  const rounds = yield* Effect.forEach(plans, (options) => Round.run(place, options))
  assert.deepEqual(Figures.of(rounds).violations, [])
  // Each turn was left at its point, and another worker took what was stored of it. Where the server dies too, a turn may end without
  // passing its point.
  const steady = rounds.flatMap(({ outcomes, serverKills }) => serverKills === 0 ? outcomes : [])
  const ofPoint = steady.filter(({ end }) => /^killed (?!at random|after finalize)/.test(end))
  assert.isAtLeast(ofPoint.length, 5)
  assert.deepEqual(ofPoint.filter(({ wasLeft }) => !wasLeft), [])
})

describe.concurrent("every turn comes to its one end, whatever becomes of its workers and its server", () => {
  it.live("on SQLite", () => soak(Plans.short(0), undefined), 900_000)

  it.live(
    "on PostgreSQL",
    () => Effect.flatMap(makeDatabase, (url) => soak(Plans.short(1), Redacted.value(url))),
    900_000
  )
})
