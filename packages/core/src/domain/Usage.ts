/**
 * Cost and tokens, and their sums.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * Token counts. `input` excludes the tokens that were read from or written to the provider's cache.
 *
 * @category models
 * @since 0.1.0
 */
export const Tokens = Schema.Struct({
  input: Schema.Finite,
  output: Schema.Finite,
  reasoning: Schema.Finite,
  cacheRead: Schema.Finite,
  cacheWrite: Schema.Finite
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Tokens extends Schema.Schema.Type<typeof Tokens> {}

/**
 * The cost and tokens of a step, a message or a turn. `cost` is in US dollars, as OpenCode computes it from its model
 * catalogue.
 *
 * @category models
 * @since 0.1.0
 */
export const Usage = Schema.Struct({ cost: Schema.Finite, tokens: Tokens })
/**
 * @category models
 * @since 0.1.0
 */
export interface Usage extends Schema.Schema.Type<typeof Usage> {}

/**
 * The usage of a turn: its own session (`root`), all of its subagents, and both together.
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnUsage {
  readonly total: Usage
  readonly root: Usage
  readonly subagents: Usage
}

/**
 * The share of one model: `model` is `provider/model`, and empty where the server did not tell it. `steps` counts the calls of the model.
 *
 * @category models
 * @since 0.1.0
 */
export const ModelUsage = Schema.Struct({ model: Schema.String, steps: Schema.Finite, ...Usage.fields })
/**
 * @category models
 * @since 0.1.0
 */
export interface ModelUsage extends Schema.Schema.Type<typeof ModelUsage> {}

/**
 * The usage of an ended turn, also divided by model. The shares of the models add up to the total.
 *
 * @category models
 * @since 0.1.0
 */
export interface ResultUsage extends TurnUsage {
  readonly models: ReadonlyArray<ModelUsage>
}

/**
 * No usage.
 *
 * @category constructors
 * @since 0.1.0
 */
export const zero: Usage = { cost: 0, tokens: { input: 0, output: 0, reasoning: 0, cacheRead: 0, cacheWrite: 0 } }

/**
 * Adds up all usages.
 *
 * @category combinators
 * @since 0.1.0
 */
export const sum = (all: Iterable<Usage>): Usage => {
  let total = zero
  for (const usage of all) total = add(total, usage)
  return total
}

/**
 * Subtracts a known share from a total; no field falls below 0.
 *
 * @category combinators
 * @since 0.1.0
 */
export const subtract = (self: Usage, that: Usage): Usage => combine(self, that, (a, b) => a - b)

/**
 * Makes a cost or a count storable: a value that is not a number or is below 0 becomes 0, and 2^53 - 1 is the maximum.
 *
 * @category conversions
 * @since 0.1.0
 */
export const amount = (value: number): number => (value > 0 ? Math.min(value, Number.MAX_SAFE_INTEGER) : 0)

// internal

const add = (a: Usage, b: Usage): Usage => combine(a, b, (a, b) => a + b)

const combine = (a: Usage, b: Usage, f: (a: number, b: number) => number): Usage => {
  const of = (a: number, b: number): number => amount(f(amount(a), amount(b)))
  return {
    // Costs are decimal fractions of a cent: without rounding, three steps of 0.00008 sum to 0.00024000000000000003.
    cost: Math.round(of(a.cost, b.cost) * 1e12) / 1e12,
    tokens: {
      input: of(a.tokens.input, b.tokens.input),
      output: of(a.tokens.output, b.tokens.output),
      reasoning: of(a.tokens.reasoning, b.tokens.reasoning),
      cacheRead: of(a.tokens.cacheRead, b.tokens.cacheRead),
      cacheWrite: of(a.tokens.cacheWrite, b.tokens.cacheWrite)
    }
  }
}
