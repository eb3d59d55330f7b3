import { longestText } from "#turn/PatternCost"
import { assert, it } from "@effect/vitest"
import * as Result from "effect/Result"

const linear = [
  "^\\d{4}-\\d{2}-\\d{2}$",
  "^[a-z]{2,8}$",
  "^(?:foo|bar|baz)$",
  "^https?://",
  "^(?:[0-9a-f]{2})+$",
  "^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$",
  "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
  "^(\\d{1,3}\\.){3}\\d{1,3}$",
  "^\\p{L}+$"
]
const bounded = [
  "^[a-z0-9]+(?:-[a-z0-9]+)*$",
  "^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$",
  "^(?=.*\\d)(?=.*[a-z]).{8,}$",
  "\\d+",
  "\\s+$"
]
const refused = [
  "^(a+)+$",
  "(a*)*",
  "^(a|a)*$",
  "^(a|ab|b)*$",
  "([a-z]|\\w)+$",
  "(\\s*-\\s*)*",
  "^(\\w+\\s?)*$",
  "(x+x+)+y",
  "^(([a-z])+.)+[A-Z]([a-z])+$",
  "^(a{1,30}){1,30}$",
  "(?=(a+)+b)a",
  "(?:a|a){16}b",
  "^(.*?,){11}P",
  ".*.*.*.*.*x",
  "(a)\\1",
  `^${"(?:|)".repeat(28)}b`,
  `^${"(?:(?=.)|)".repeat(28)}b`,
  `^${"(?:\\b|^|$)".repeat(18)}b`,
  "^(?:(?:|)a)*b",
  "(?:(?:a?|b?)c)+d",
  "(?:".repeat(9) + "a" + "){16}".repeat(9),
  "(?=".repeat(300) + ")".repeat(300),
  "(",
  "a".repeat(5000)
]

for (const pattern of linear) {
  it(`runs ${pattern} on any text`, () => {
    assert.isAbove(Result.getOrThrow(longestText(pattern)), 1_000_000)
  })
}

for (const pattern of bounded) {
  it(`runs ${pattern} on a text of some hundred characters or more`, () => {
    const longest = Result.getOrThrow(longestText(pattern))
    assert.isTrue(longest >= 300 && longest <= 10_000, String(longest))
  })
}

for (const pattern of refused) {
  it(`refuses ${pattern.slice(0, 40)}`, () => {
    assert.isTrue(Result.isFailure(longestText(pattern)))
  })
}
