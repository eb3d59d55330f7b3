import { assert, it } from "@effect/vitest"
import * as Usage from "@opencode-turn/core/Usage"

const usage = (cost: number): Usage.Usage => ({
  cost,
  tokens: { input: 1, output: 2, reasoning: 3, cacheRead: 4, cacheWrite: 5 }
})

it("sums nothing to zero", () => {
  assert.deepStrictEqual(Usage.sum([]), Usage.zero)
})

it("sums every count, and rounds costs to remove the errors of binary fractions", () => {
  assert.deepStrictEqual(Usage.sum([usage(0.00008), usage(0.00008), usage(0.00008)]), {
    cost: 0.00024,
    tokens: { input: 3, output: 6, reasoning: 9, cacheRead: 12, cacheWrite: 15 }
  })
})

const share = (cost: number, input: number): Usage.Usage => ({ cost, tokens: { ...Usage.zero.tokens, input } })

it("subtracts a share from a total, and never falls below zero", () => {
  assert.deepStrictEqual(Usage.subtract(share(0.00008, 40), share(0.00004, 20)), share(0.00004, 20))
  assert.deepStrictEqual(Usage.subtract(share(0.1, 1), share(0.3, 5)), Usage.zero)
})
