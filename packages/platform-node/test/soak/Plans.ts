/** Which ends the turns of a round come to. */
import { type Point, points } from "./CrashPoint.ts"
import type { End, Options, Plan } from "./Round.ts"

const killed = (point: Point): End => ({ type: "killed", point })
const atRandom: End = { type: "killed" }
const frozen: End = { type: "frozen", point: "mid stream" }
const stopped: End = { type: "stopped", point: "mid stream" }
const spared: End = { type: "spared" }

/** Everything that can happen to a worker while the server stays. */
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

/** What happens to the workers while the server is killed as well. */
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

/** Turns at a time: enough for them to disturb each other, few enough for two cores. */
const width = 8

/** Round `index` of a long soak: every third one kills a worker that carries turns on, every fifth one the server. */
export const round = (index: number): Options => {
  const isServerKilled = index % 5 === 4
  const ends = isServerKilled ? withServer : everyEnd
  // The width and the number of ends have a common factor: without the shift some would never meet.
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
 * What a short soak does: each kind of end at once, then the server's. The points of a kill are shared out: two soaks with another `first`, 0 and
 * 1, meet all of them.
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

/** A conversation goes on for five rounds, but where its making is what breaks. */
function plan(index: number, slot: number, end: End): Plan {
  const isAboutSession = end.type === "killed" && end.point?.includes("session") === true
  return {
    end,
    conversationId: isAboutSession ? `own-${index}-${slot}` : `conversation-${Math.floor(index / 5)}-${slot}`
  }
}
