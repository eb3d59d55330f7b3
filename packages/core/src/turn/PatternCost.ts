/**
 * How long a text a regular expression may be run on: its engine tries again and again where a text can be matched in more ways
 * than one, and nothing stops it meanwhile.
 *
 * The pattern becomes an automaton (`PatternStates`). Ways that meet again in a loop double with each round: such a pattern is refused.
 * Any other takes at most a time that grows with the length to the power of the number of loops.
 *
 * **Not responsibilities**: what the pattern matches. Anchors, and what is looked for ahead or behind, only narrow that down: they are
 * looked at on their own.
 */
import * as Result from "effect/Result"
import { type Automaton, parse, Unsafe } from "./PatternStates.ts"

/** The steps that one text may take: some tenths of a second. */
const maxSteps = 100_000_000

/**
 * - `longest`: the longest text that the pattern is run on.
 * - `steps`: about how many steps a text of a length takes at most.
 */
export interface PatternCost {
  readonly longest: number
  readonly steps: (length: number) => number
}

/** What the pattern costs, or why it is not run at all. */
export const costOf = (pattern: string): Result.Result<PatternCost, string> =>
  Result.flatMap(
    Result.try({
      try: () => costOfAutomaton(parse(pattern)),
      catch: (cause) => cause instanceof Unsafe ? cause.reason : "it is not a pattern"
    }),
    ({ loops, ways }) => {
      const power = Math.max(loops, 1)
      const longest = Math.floor((maxSteps / ways) ** (1 / power))
      return longest < shortestUseful
        ? Result.fail("it can match a text in too many ways")
        : Result.succeed({ longest, steps: (length) => length > longest ? 0 : ways * length ** power })
    }
  )

/** The longest text that is matched in some tenths of a second, or why the pattern is not run at all. */
export const longestText = (pattern: string): Result.Result<number, string> =>
  Result.map(costOf(pattern), ({ longest }) => longest)

// internal

const shortestUseful = 100

interface Cost {
  readonly loops: number
  readonly ways: number
}

const costOfAutomaton = ({ emptyWays, follow, lookarounds, states }: Automaton): Cost => {
  const own = costOfStates(states, follow)
  const inner = lookarounds.map(costOfAutomaton)
  return {
    loops: own.loops + Math.max(0, ...inner.map(({ loops }) => loops)),
    ways: inner.reduce((ways, cost) => ways * cost.ways, own.ways * emptyWays)
  }
}

const costOfStates = (states: ReadonlyArray<string>, follow: ReadonlyArray<ReadonlyArray<number>>): Cost => {
  const next = (state: number) => follow[state] ?? []
  const reached = states.map((_, state) => reachable(next(state), next))
  const inLoop = (state: number, other: number) =>
    reached[state]?.has(other) === true && reached[other]?.has(state) === true
  const meets = overlapOf(states)

  let ways = 1
  for (const state of states.keys()) {
    const all = next(state)
    const unique = [...new Set(all)]
    // The same state in two ways, as in (a*)*.
    if (all.length > unique.length && all.some((to, index) => all.indexOf(to) !== index && inLoop(state, to))) {
      throw new Unsafe("its quantifiers are nested so that a text can be matched in ever more ways")
    }
    const most = Math.max(1, ...unique.map((to) => all.filter((other) => meets(to, other)).length))
    ways *= most
    if (ways > maxSteps) throw new Unsafe("it can match a text in too many ways")
  }

  const looped = [...states.keys()].filter((state) => inLoop(state, state))
  refuseDoubling(looped, next, inLoop, meets)
  const loops = looped.filter((state) => looped.every((other) => other >= state || !inLoop(state, other))).length
  return { loops, ways }
}

/** Two ways out of one state that read the same text and come together in it again, round after round. */
const refuseDoubling = (
  looped: ReadonlyArray<number>,
  next: (state: number) => ReadonlyArray<number>,
  inLoop: (state: number, other: number) => boolean,
  meets: (left: number, right: number) => boolean
): void => {
  const nextInLoop = new Map(
    looped.map((state) => [state, [...new Set(next(state))].filter((to) => inLoop(state, to))])
  )
  let steps = 0
  for (const start of looped) {
    const seen = new Set<string>()
    const open: Array<readonly [number, number]> = [[start, start]]
    for (let pair = open.pop(); pair !== undefined; pair = open.pop()) {
      const [left, right] = pair
      for (const one of nextInLoop.get(left) ?? []) {
        for (const other of nextInLoop.get(right) ?? []) {
          if (++steps > maxPairs) throw new Unsafe("it is too large")
          if (!meets(one, other)) continue
          if (one === other) {
            // Two ways that were apart have met; from here the loop leads back to where they parted.
            if (left !== right) {
              throw new Unsafe("its quantifiers are nested so that a text can be matched in ever more ways")
            }
            continue
          }
          const key = `${one} ${other}`
          if (seen.has(key)) continue
          seen.add(key)
          open.push([one, other])
        }
      }
    }
  }
}

const maxPairs = 2_000_000

const reachable = (
  from: ReadonlyArray<number>,
  next: (state: number) => ReadonlyArray<number>
): ReadonlySet<number> => {
  const seen = new Set(from)
  // A set also gives what is added to it meanwhile.
  for (const state of seen) for (const to of next(state)) seen.add(to)
  return seen
}

/** Whether two states read a character in common: tried with all of the basic plane, and a sample of the others. */
const overlapOf = (states: ReadonlyArray<string>) => {
  const matchers = new Map([...new Set(states)].map((source) => [source, new RegExp(`^(?:${source})$`, "su")]))
  const known = new Map<string, boolean>()
  const find = (left: string, right: string): boolean => {
    if (left === right) return true
    const [one, other] = [matchers.get(left), matchers.get(right)]
    return one !== undefined && other !== undefined &&
      samples().some((character) => one.test(character) && other.test(character))
  }
  return (left: number, right: number): boolean => {
    const [one = "", other = ""] = [states[left], states[right]]
    const key = one < other ? `${one} ${other}` : `${other} ${one}`
    const overlaps = known.get(key) ?? find(one, other)
    if (known.size > maxOverlaps) throw new Unsafe("it is too large")
    known.set(key, overlaps)
    return overlaps
  }
}

const maxOverlaps = 1000

let allSamples: ReadonlyArray<string> = []
const samples = (): ReadonlyArray<string> => {
  if (allSamples.length === 0) {
    const codes = [...Array(0x10000).keys(), ...Array.from({ length: 0x1000 }, (_, index) => 0x10000 + index * 0x100)]
    allSamples = codes.map((code) => String.fromCodePoint(code))
  }
  return allSamples
}
