/**
 * What a JSON Schema from outside may cost: how much there is of it once its references are followed, how deep it is nested, and
 * on how long a text each of its patterns may be run.
 *
 * *Not responsibilities*: what the keywords mean (`Output`). Every object with a text at `$ref` or `pattern` is taken for a schema.
 */
import * as JsonPointer from "effect/JsonPointer"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as PatternCost from "./PatternCost.ts"

/** So many schemas there may be, each counted as often as it is referred to. */
export const maxSchemas = 10_000

/** So deep schemas and values may be nested: what reads them calls itself for each level. */
export const maxDepth = 200

/** Why the schema is refused, if it is. */
export const whyRefused = (schema: object): string | undefined => {
  const root = Result.try({ try: () => measure(schema), catch: (cause) => cause })
  if (Result.isSuccess(root)) return undefined
  return root.failure instanceof Refusal ? root.failure.reason : "it cannot be read"
}

/**
 * The pattern, so that it does not match any text that is longer than it may be run on: the first thing that is looked at, in one go.
 */
export const guarded = (pattern: string): string => {
  const longest = Result.getOrElse(PatternCost.longestText(pattern), () => 0)
  return longest >= maxTextLength ? pattern : `^(?![^]{${longest + 1}})[^]*?(?:${pattern})`
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

class Refusal {
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
    if (depth > maxDepth) throw new Refusal(tooDeep)
    if (open.has(value)) throw new Refusal("a $ref of it leads back to itself; write out as many levels as are needed")
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
        throw new Refusal(`it has more than ${maxSchemas} schemas once its references are followed`)
      }
      if (height > maxDepth) throw new Refusal(tooDeep)
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
    throw new Refusal(`the pattern ${JSON.stringify(pattern.slice(0, 100))} cannot be run safely: ${longest.failure}`)
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
