/**
 * A regular expression as an automaton with one state for each of its characters (Glushkov's construction).
 *
 * **Responsibilities**: reads the syntax, and refuses what is too large, or is more than an automaton can do.
 *
 * **Not responsibilities**: what it costs to run the pattern (`PatternCost`).
 */

/**
 * - `states`: the source of what each state reads. `follow`: the states that may come after each.
 * - `emptyWays`: in how many ways the pattern can match nothing at the same place.
 * - `lookarounds`: what is looked for ahead or behind, each on its own.
 */
export interface Automaton {
  readonly states: ReadonlyArray<string>
  readonly follow: ReadonlyArray<ReadonlyArray<number>>
  readonly emptyWays: number
  readonly lookarounds: ReadonlyArray<Automaton>
}

/** Thrown for a pattern that must not be run. */
export class Unsafe {
  readonly reason: string
  constructor(reason: string) {
    this.reason = reason
  }
}

/** The automaton of a pattern; throws where there is none. */
export const parse = (pattern: string, budget = { atoms: maxAtoms }): Automaton => {
  if (pattern.length > maxLength) throw new Unsafe(`it is longer than ${maxLength} characters`)
  const own = new RegExp(pattern, "u")
  const states: Array<string> = []
  const follow: Array<Array<number>> = []
  const lookarounds: Array<Automaton> = []
  let emptyWays = 1
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
      emptyWays *= empties
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
        lookarounds.push(parse(`^(?:${pattern.slice(begin, at)})`, budget))
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
  return { states, follow, emptyWays, lookarounds }
}

// internal

const maxStates = 500
const maxLength = 2000
const maxAtoms = 5000

/** A piece that may be repeated up to this often is written out. One that may be repeated more often becomes a loop. */
const maxCopies = 16

/** A piece of the pattern: the states that it may begin and end with, and whether it may be empty. */
interface Piece {
  readonly first: ReadonlyArray<number>
  readonly last: ReadonlyArray<number>
  readonly isEmpty: boolean
}

const optional = (piece: Piece): Piece => ({ ...piece, isEmpty: true })

const empty: Piece = { first: [], last: [], isEmpty: true }

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
