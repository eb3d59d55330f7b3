/** The plans of rounds: how each worker of a round ends. */
import { type Point, points } from "./CrashPoint.ts"
import type { End, Options, Plan } from "./Round.ts"

const killed = (point: Point): End => ({ type: "killed", point })
const atRandom: End = { type: "killed" }
const frozen: End = { type: "frozen", point: "mid stream" }
const stopped: End = { type: "stopped", point: "mid stream" }
const spared: End = { type: "spared" }

/** Everything that can happen to a worker while the server lives. */
export const everyEnd: ReadonlyArray<End> = [
  ...points.map(killed),
  atRandom,
  frozen,
  stopped,
  { type: "frozen", point: "before prompt" },
  { type: "stopped", point: "tool running" },
  { type: "frozen", point: "before finalize" },
  atRandom,
  { type: "frozen", point: "after claim" },
  spared
]

/** The ends of workers in rounds in which the server is killed as well. */
export const withServer: ReadonlyArray<End> = [
  spared,
  killed("mid stream"),
  spared,
  atRandom,
  killed("tool running"),
  spared,
  killed("prompt sent and answer not read"),
  stopped
]

/** The number of turns at a time: enough to disturb each other, and few enough for two cores. */
const width = 8

/** Plans round `index` of a long soak. Every third round kills a worker that takes turns over, every fifth one the server. */
export const round = (index: number): Options => {
  const isServerKilled = index % 5 === 4
  const ends = isServerKilled ? withServer : everyEnd
  // The width and the number of ends have a common factor, so without the shift some ends would never meet.
  const first = isServerKilled ? 0 : index * width + Math.floor(index / 5)
  return {
    name: `round${index}`,
    plans: Array.from(
      { length: width },
      (_, slot) => plan(index, slot, ends[(first + slot) % ends.length] ?? atRandom)
    ),
    serverKilled: isServerKilled ? "early" : undefined,
    isCarrierKilled: !isServerKilled && index % 3 === 2
  }
}

/**
 * Plans a short soak: first all kinds of ends at once, then the end of the server. Two soaks share the points of a kill: one with `first` 0
 * and one with `first` 1 cover all of them.
 */
export const short = (first: 0 | 1): ReadonlyArray<Options> => [
  {
    name: "ends",
    plans: [...points.filter((_, index) => index % 2 === first).map(killed), atRandom, frozen, stopped]
      .map((end, slot) => plan(0, slot, end))
  },
  {
    name: "server",
    plans: [killed("mid stream"), spared, killed("tool running"), spared].map((end, slot) => plan(1, slot, end)),
    serverKilled: "amid all"
  }
]

/** A conversation lasts for five rounds, except if the point of the kill is its creation. */
function plan(index: number, slot: number, end: End): Plan {
  const isAboutSession = end.type === "killed" && end.point?.includes("session") === true
  return {
    end,
    conversationId: isAboutSession ? `own-${index}-${slot}` : `conversation-${Math.floor(index / 5)}-${slot}`
  }
}
