/**
 * How long a text a regular expression may be run on: its engine tries again and again where a text can be matched in more ways
 * than one, and nothing stops it meanwhile.
 *
 * The pattern becomes an automaton with one state for each of its characters (Glushkov's construction). Ways that meet again in a
 * loop double with each round: such a pattern is refused. Any other takes at most a time that grows with the length to the power of
 * the number of loops.
 *
 * **Not responsibilities**: what the pattern matches. Anchors, and what is looked for ahead or behind, only narrow that down: they are
 * looked at on their own.
 */
import * as Result from "effect/Result"

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
      try: () => measure(pattern),
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
const maxStates = 500
const maxLength = 2000
const maxAtoms = 5000

/** A piece that may be repeated up to this often is written out. One that may be repeated more often becomes a loop. */
const maxCopies = 16

class Unsafe {
  readonly reason: string
  constructor(reason: string) {
    this.reason = reason
  }
}

/** A piece of the pattern: the states that it may begin and end with, and whether it may be empty. */
interface Piece {
  readonly first: ReadonlyArray<number>
  readonly last: ReadonlyArray<number>
  readonly isEmpty: boolean
}

interface Cost {
  readonly loops: number
  readonly ways: number
}

const optional = (piece: Piece): Piece => ({ ...piece, isEmpty: true })

const empty: Piece = { first: [], last: [], isEmpty: true }

const measure = (pattern: string, budget = { atoms: maxAtoms }): Cost => {
  if (pattern.length > maxLength) throw new Unsafe(`it is longer than ${maxLength} characters`)
  const own = new RegExp(pattern, "u")
  const states: Array<string> = []
  const follow: Array<Array<number>> = []
  let inside: Cost = { loops: 0, ways: 1 }
  /** How many groups have several alternatives that match nothing: the engine tries each of them, for no character. */
  let emptyChoices = 0
  let at = 0

  const state = (source: string): Piece => {
    if (states.length >= maxStates) throw new Unsafe("it is too large")
    states.push(source)
    follow.push([])
    return { first: [states.length - 1], last: [states.length - 1], isEmpty: false }
  }
  const link = (from: ReadonlyArray<number>, to: ReadonlyArray<number>) => {
    for (const state of from) follow[state]?.push(...to)
  }
  const sequence = (left: Piece, right: Piece): Piece => {
    link(left.last, right.first)
    return {
      first: left.isEmpty ? [...left.first, ...right.first] : left.first,
      last: right.isEmpty ? [...left.last, ...right.last] : right.last,
      isEmpty: left.isEmpty && right.isEmpty
    }
  }
  const loop = (piece: Piece): Piece => {
    link(piece.last, piece.first)
    return piece
  }

  const alternatives = (): Piece => {
    let all = terms()
    let empties = all.isEmpty ? 1 : 0
    while (pattern[at] === "|") {
      at++
      const next = terms()
      if (next.isEmpty) empties++
      all = {
        first: [...all.first, ...next.first],
        last: [...all.last, ...next.last],
        isEmpty: all.isEmpty || next.isEmpty
      }
    }
    if (empties > 1) {
      emptyChoices++
      inside = { ...inside, ways: inside.ways * empties }
    }
    return all
  }

  const terms = (): Piece => {
    let all = empty
    while (at < pattern.length && pattern[at] !== "|" && pattern[at] !== ")") all = sequence(all, quantified())
    return all
  }

  const quantified = (): Piece => {
    const begin = at
    const choicesBefore = emptyChoices
    const piece = atom()
    const end = at
    const quantifier = /^(?:[*+?]|\{(\d{1,6})(?:(,)(\d{0,6}))?\})\??/.exec(pattern.slice(at, at + 20))
    if (quantifier === null) return piece
    at += quantifier[0].length
    const after = at
    const sign = quantifier[0][0]
    const min = sign === "{" ? Number(quantifier[1]) : sign === "+" ? 1 : 0
    const max = sign === "?"
      ? 1
      : sign !== "{"
      ? Infinity
      : quantifier[2] === undefined
      ? min
      : quantifier[3] === "" || quantifier[3] === undefined
      ? Infinity
      : Number(quantifier[3])
    if (max <= 1) return max === 0 ? empty : min === 0 ? optional(piece) : piece
    if (max > maxCopies && emptyChoices > choicesBefore) {
      throw new Unsafe("it repeats a group that can match nothing in several ways")
    }
    if (max > maxCopies) return min === 0 ? optional(loop(piece)) : loop(piece)
    // x{2,4} is xx(x(x)?)?: no copy but the first of the optional ones can be begun with.
    const copies = [piece]
    while (copies.length < max) {
      at = begin
      copies.push(atom())
    }
    if (at !== end) throw new Unsafe("it cannot be read")
    at = after
    return copies.reduceRight((rest, copy, index) => {
      const all = rest === empty ? copy : sequence(copy, rest)
      return index >= min ? optional(all) : all
    }, empty)
  }

  const atom = (): Piece => {
    if (--budget.atoms < 0) throw new Unsafe("it is too large")
    const group = /^\((?:\?(:|=|!|<=|<!|<[^>=!]*>))?/.exec(pattern.slice(at, at + 100))
    if (group !== null) {
      at += group[0].length
      const looksAround = group[1] !== undefined && /^<?[=!]$/.test(group[1])
      const begin = at
      const before = states.length
      const piece = alternatives()
      if (pattern[at] !== ")") throw new Unsafe("it cannot be read")
      if (looksAround) {
        states.length = before
        follow.length = before
        const cost = measure(`^(?:${pattern.slice(begin, at)})`, budget)
        inside = { loops: Math.max(inside.loops, cost.loops), ways: inside.ways * cost.ways }
      }
      at++
      return looksAround ? empty : piece
    }
    const rest = pattern.slice(at, at + 60)
    if (/^(?:[\^$]|\\[bB])/.test(rest)) {
      at += rest.startsWith("\\") ? 2 : 1
      return empty
    }
    if (/^\\(?:k|[1-9])/.test(rest)) throw new Unsafe("it refers back to what it matched")
    const source = rest[0] === "["
      ? classAt(pattern, at)
      : /^(?:\\(?:u\{[^}]*\}|u[\da-fA-F]{4}(?:\\u[dD][c-fC-F][\da-fA-F]{2})?|x[\da-fA-F]{2}|[pP]\{[^}]*\}|c[A-Za-z]|[^])|[^])/u
        .exec(rest)?.[0]
    if (source === undefined || source === "") throw new Unsafe("it cannot be read")
    at += source.length
    return state(source)
  }

  // The engine begins anew at every character, unless the pattern says where: as if anything stood before it.
  const isAnchored = pattern.startsWith("^") && !hasAlternatives(pattern)
  const anything = isAnchored ? empty : optional(loop(state("[^]")))
  const whole = sequence(anything, alternatives())
  if (at !== pattern.length || own.source === "" || whole.first.length > maxStates) {
    throw new Unsafe("it cannot be read")
  }
  const { loops, ways } = costOfStates(states, follow)
  return { loops: loops + inside.loops, ways: ways * inside.ways }
}

/** Whether a `|` stands outside of all groups. */
const hasAlternatives = (pattern: string): boolean => {
  let depth = 0
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern[at]
    if (character === "\\") at++
    else if (character === "[") at += classAt(pattern, at).length - 1
    else if (character === "(") depth++
    else if (character === ")") depth--
    else if (character === "|" && depth === 0) return true
  }
  return false
}

/** A class of characters, to its end. */
const classAt = (pattern: string, begin: number): string => {
  let at = begin + 1
  while (at < pattern.length && pattern[at] !== "]") at += pattern[at] === "\\" ? 2 : 1
  return pattern.slice(begin, at + 1)
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
  const within = new Map(looped.map((state) => [state, [...new Set(next(state))].filter((to) => inLoop(state, to))]))
  let steps = 0
  for (const start of looped) {
    const seen = new Set<string>()
    const open: Array<readonly [number, number]> = [[start, start]]
    for (let pair = open.pop(); pair !== undefined; pair = open.pop()) {
      const [left, right] = pair
      for (const one of within.get(left) ?? []) {
        for (const other of within.get(right) ?? []) {
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
