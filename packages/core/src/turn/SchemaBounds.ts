/**
 * What a JSON Schema from outside may cost: how much there is of it once its references are followed, how deep it is nested, and
 * on how long a text each of its patterns may be run.
 *
 * **Not responsibilities**: what the keywords mean (`Output`). Every object with a text at `$ref` or `pattern` counts as a schema.
 */
import * as JsonPointer from "effect/JsonPointer"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as PatternCost from "./PatternCost.ts"

/** The greatest number of schemas. Each counts as often as it is referred to. */
const maxSchemas = 10_000

/** The greatest depth of schemas and values. Their readers call themselves for each level. */
export const maxDepth = 200

/** Why the schema cannot be used, if so. */
export const whyUnsafe = (schema: object): string | undefined => {
  const root = Result.try({ try: () => measure(schema), catch: (cause) => cause })
  if (Result.isSuccess(root)) return undefined
  return root.failure instanceof Unsafe ? root.failure.reason : "it cannot be read"
}

/**
 * - `pattern`: one that matches no text longer than `longest`. The engine looks at the length first, in one go.
 * - `steps`: about how many steps a text of a length takes at most.
 */
export interface Guarded {
  readonly pattern: string
  readonly longest: number
  readonly steps: (length: number) => number
}

/** The pattern with a guard, or nothing where it may be run on any text. */
export const guarded = (pattern: string): Guarded | undefined => {
  const cost = Result.getOrElse(PatternCost.costOf(pattern), () => ({ longest: 0, steps: () => 0 }))
  return cost.longest >= maxTextLength
    ? undefined
    : { ...cost, pattern: `^(?![^]{${cost.longest + 1}})[^]*?(?:${pattern})` }
}

/** The steps that the patterns may take for a whole answer: about a second. */
const maxAnswerSteps = 500_000_000

/** Whether the texts and names of a value are more, together, than the patterns can be run on. Each pattern counts for each text. */
export const isTooMuch = (value: unknown, patterns: ReadonlyArray<Guarded>): boolean => {
  let steps = 0
  const open: Array<unknown> = [value]
  while (open.length > 0 && steps <= maxAnswerSteps) {
    const next = open.pop()
    const texts = Predicate.isString(next) ? [next] : Predicate.isObject(next) ? Object.keys(next) : []
    for (const { length } of texts) for (const pattern of patterns) steps += pattern.steps(length)
    if (Predicate.isObjectOrArray(next)) open.push(...Object.values(next))
  }
  return steps > maxAnswerSteps
}

/** Whether a value of JSON is nested deeper than can be read. */
export const isTooDeep = (value: unknown): boolean => {
  const open: Array<readonly [unknown, number]> = [[value, 0]]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const [inner, depth] = next
    if (!Predicate.isObjectOrArray(inner)) continue
    if (depth >= maxDepth) return true
    for (const member of Object.values(inner)) open.push([member, depth + 1])
  }
  return false
}

// internal

/** An answer is shorter; a pattern that may be run on so much needs no guard. */
const maxTextLength = 10_000_000

class Unsafe {
  readonly reason: string
  constructor(reason: string) {
    this.reason = reason
  }
}

/** `height`: how deep it is nested from here on. */
interface Size {
  readonly schemas: number
  readonly height: number
}

const measure = (root: object): Size => {
  const sizes = new Map<object, Size>()
  const open = new Set<object>()

  const sizeOf = (value: unknown, depth: number): Size => {
    if (!Predicate.isObjectOrArray(value)) return nothing
    const known = sizes.get(value)
    if (known !== undefined) return known
    if (depth > maxDepth) throw new Unsafe(tooDeep)
    if (open.has(value)) throw new Unsafe("a $ref of it leads back to itself; write out as many levels as are needed")
    open.add(value)
    let schemas = Array.isArray(value) ? 0 : 1
    let height = 0
    for (const [name, member] of Object.entries(value)) {
      if (name === "pattern" && Predicate.isString(member)) checkPattern(member)
      if (name === "patternProperties" && Predicate.isObject(member)) Object.keys(member).forEach(checkPattern)
      const isReference = name === "$ref" && Predicate.isString(member)
      const inner = sizeOf(isReference ? targetOf(root, member) : member, depth + 1)
      // Definitions count where they are referred to.
      if (name === "$defs") continue
      schemas += inner.schemas
      height = Math.max(height, inner.height + 1)
      if (schemas > maxSchemas) {
        throw new Unsafe(`it has more than ${maxSchemas} schemas once its references are followed`)
      }
      if (height > maxDepth) throw new Unsafe(tooDeep)
    }
    open.delete(value)
    const size = { schemas, height }
    sizes.set(value, size)
    return size
  }
  return sizeOf(root, 0)
}

const nothing: Size = { schemas: 0, height: 0 }

const tooDeep = `it is nested more than ${maxDepth} levels deep`

const checkPattern = (pattern: string): void => {
  const longest = PatternCost.longestText(pattern)
  if (Result.isFailure(longest)) {
    throw new Unsafe(`the pattern ${JSON.stringify(pattern.slice(0, 100))} cannot be run safely: ${longest.failure}`)
  }
}

/** What a reference within the document names; any other is refused elsewhere. */
const targetOf = (root: unknown, reference: string): unknown => {
  let value: unknown = root
  for (const name of JsonPointer.parseUriFragment(reference) ?? []) {
    value = Predicate.isObjectOrArray(value) ? Object.entries(value).find(([own]) => own === name)?.[1] : undefined
  }
  return reference.startsWith("#") ? value : undefined
}
