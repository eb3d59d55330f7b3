import { assert, describe, it } from "@effect/vitest"
import type { PermissionRule } from "@opencode-turn/core/Ask"
import type { Decision } from "@opencode-turn/core/PermissionRules"
import { decide, matches } from "@opencode-turn/core/PermissionRules"
import * as Schema from "effect/Schema"

const options = { arbitrary: { runs: 1000 } }

/** Patterns and texts from few symbols, so that they often match. */
const symbols = (...all: ReadonlyArray<string>) => Schema.Array(Schema.Literals(all)).check(Schema.isMaxLength(9))
const Glob = symbols("*", "?", " ", "a", "b", "/", "\\", "\n", ".", "$", " *", "😀")
const Text = symbols("*", " ", "a", "b", "/", "\\", "\n", ".", "$", "😀")
const Plain = symbols(" ", "a", "b", "/", "\n", ".", "$", "(", "[", "|", "+", "^", "{")

const Rule = Schema.Struct({
  permission: Schema.Literals(["*", "bash", "ba*", "edit"]),
  pattern: Glob,
  action: Schema.Literals(["allow", "ask", "deny"])
})
const Rules = Schema.Array(Rule).check(Schema.isMaxLength(8))
const rulesOf = (rules: typeof Rules.Type): ReadonlyArray<PermissionRule> =>
  rules.map((rule) => ({ ...rule, pattern: rule.pattern.join("") }))
const Texts = Schema.Array(Text).check(Schema.isMaxLength(3))
const bash = (texts: typeof Texts.Type) => ({ permission: "bash", patterns: texts.map((text) => text.join("")) })

const rule = (pattern: string, action: PermissionRule["action"], permission = "bash"): PermissionRule => ({
  permission,
  pattern,
  action
})

/** Matches as the server does (1.18.33): with the pattern as a regular expression. */
const byRegExp = (pattern: string, text: string): boolean => {
  const source = pattern.replaceAll("\\", "/").replaceAll(/[.+^${}()|[\]]/g, String.raw`\$&`).replaceAll("*", ".*")
    .replaceAll("?", ".")
  const withEnd = source.endsWith(" .*") ? `${source.slice(0, -3)}( .*)?` : source
  return new RegExp(`^${withEnd}$`, "s").test(text.replaceAll("\\", "/"))
}

/** Which prefixes of the text each prefix of the pattern matches, one row for each. */
const byTable = (pattern: string, text: string): boolean => {
  const glob = pattern.replaceAll("\\", "/")
  const units = text.replaceAll("\\", "/").split("")
  const isWhole = (glob: string): boolean => {
    let row = [true, ...units.map(() => false)]
    for (const symbol of glob.split("")) {
      const next = [symbol === "*" && row[0] === true]
      for (const [index, unit] of units.entries()) {
        next.push(
          symbol === "*"
            ? row[index + 1] === true || next[index] === true
            : row[index] === true && (symbol === "?" || symbol === unit)
        )
      }
      row = next
    }
    return row.at(-1) === true
  }
  return isWhole(glob) || (glob.endsWith(" *") && isWhole(glob.slice(0, -2)))
}

const isAboutTasks = (permission: string) =>
  decide([rule("*", "allow", permission)], { permission: "task", patterns: ["x"] }).action === "allow"

const isSame = (a: Decision, b: Decision) => assert.deepStrictEqual(a, b)

describe("matches", () => {
  /** Measured on opencode 1.18.33. */
  const yes: ReadonlyArray<readonly [pattern: string, text: string]> = [
    ["*", ""],
    ["*", "a\nb"],
    ["", ""],
    ["git *", "git"],
    ["git *", "git "],
    ["git *", "git status"],
    ["git *", "git  a"],
    ["git *", "git \nx"],
    ["git*", "gitx y"],
    ["git  *", "git "],
    [" *", ""],
    [" *", " x"],
    ["git * *", "git a"],
    ["git * *", "git a b"],
    ["* *", "a"],
    ["git ?", "git a"],
    ["?", "\n"],
    ["a*b", "ab"],
    ["a*b", "a/x/b"],
    ["a*b", "a\nb"],
    ["src/*", "src/"],
    ["src/*", "src/a/b.ts"],
    ["src/**", "src/a/b.ts"],
    ["**/x", "a/b/x"],
    ["a/**/b", "a//b"],
    ["a\\b", "a/b"],
    ["a/b", "a\\b"],
    ["[ab]", "[ab]"],
    ["^a$", "^a$"],
    ["(a|b)+", "(a|b)+"],
    ["a\\*", "a/xyz"],
    ["é?", "éé"],
    ["??", "😀"],
    ["git *\n", "git a\n"],
    ["~/x", "~/x"],
    ["$HOME/x", "$HOME/x"],
    ["git *x", "git x"]
  ]
  const no: typeof yes = [
    ["", "x"],
    ["git *", "gitx"],
    ["git *", " git a"],
    ["git *", "GIT x"],
    ["GIT *", "git x"],
    ["git *", "git\nx"],
    ["git  *", "git"],
    [" *", "x"],
    ["git * *", "git"],
    ["git ?", "git"],
    ["git ?", "git ab"],
    ["src/*", "src"],
    ["**/x", "x"],
    ["a/**/b", "a/b"],
    ["a.b", "axb"],
    ["[ab]", "a"],
    ["{a,b}", "a"],
    ["!git", "x"],
    ["^a$", "a"],
    ["?", "😀"],
    ["a\\*", "a*"],
    ["a\\?", "a?"],
    ["a", "a\n"]
  ]
  it("agrees with the server", () => {
    for (const [pattern, text] of yes) assert.isTrue(matches(pattern, text), JSON.stringify({ pattern, text }))
    for (const [pattern, text] of no) assert.isFalse(matches(pattern, text), JSON.stringify({ pattern, text }))
  })

  it.prop("agrees with two other algorithms, on any pattern and text", { glob: Glob, text: Text }, (given) => {
    const glob = given.glob.join("")
    const text = given.text.join("")
    assert.strictEqual(matches(glob, text), byTable(glob, text))
    assert.strictEqual(matches(glob, text), byRegExp(glob, text))
  }, { arbitrary: { runs: 5000 } })

  it.prop(
    "agrees with them on texts that were derived from the pattern",
    { glob: Glob, fill: Text, cut: Schema.Boolean },
    (given) => {
      const glob = given.glob.join("")
      const whole = glob.replaceAll("?", "a").replaceAll("*", () => given.fill.join(""))
      assert.isTrue(matches(glob, whole))
      const text = given.cut ? whole.slice(0, -1) : `${whole}b`
      assert.strictEqual(matches(glob, text), byTable(glob, text))
      assert.strictEqual(matches(glob, text), byRegExp(glob, text))
    },
    options
  )

  it.prop("lets a star match everything", { text: Schema.String }, ({ text }) => {
    assert.isTrue(matches("*", text))
    assert.isTrue(matches("**", text))
  }, options)

  it.prop("matches only itself with a pattern without wildcards", { glob: Plain, text: Plain }, (given) => {
    const glob = given.glob.join("")
    const text = given.text.join("")
    assert.isTrue(matches(glob, glob))
    assert.strictEqual(matches(glob, text), glob === text)
  }, options)

  it.prop("lets a final space and star match nothing, or a space and anything", { glob: Plain, text: Text }, (
    given
  ) => {
    const head = given.glob.join("")
    const text = given.text.join("")
    assert.isTrue(matches(`${head} *`, head))
    assert.isTrue(matches(`${head} *`, `${head} ${text}`))
    assert.strictEqual(matches(`${head} *`, `${head}a${text}`), false)
  }, options)

  it("does not slow down with the number of stars", () => {
    assert.isFalse(matches(`${"*a".repeat(200)}*b`, "a".repeat(5000)))
  })
})

describe("decide", () => {
  it("lets the last matching rule decide, or the first", () => {
    const rules = [rule("*", "deny"), rule("git *", "allow"), rule("git push *", "ask")]
    const action = (pattern: string, match?: "first" | "last") =>
      decide(rules, { permission: "bash", patterns: [pattern] }, { match }).action
    assert.deepStrictEqual(["rm", "git status", "git push"].map((pattern) => action(pattern)), ["deny", "allow", "ask"])
    assert.deepStrictEqual(["rm", "git push"].map((pattern) => action(pattern, "first")), ["deny", "deny"])
  })

  it("takes the strictest action of all patterns, and names the deciding rule for each", () => {
    const allow = rule("a", "allow")
    const ask = rule("b", "ask")
    const deny = rule("c", "deny")
    const rules = [allow, ask, deny]
    const about = (...patterns: ReadonlyArray<string>) => decide(rules, { permission: "bash", patterns })
    assert.strictEqual(about("a", "a").action, "allow")
    assert.strictEqual(about("a", "b").action, "ask")
    assert.deepStrictEqual(about("a", "c", "b", "d"), {
      action: "deny",
      subjects: [{ text: "a", rule: allow }, { text: "c", rule: deny }, { text: "b", rule: ask }, {
        text: "d",
        rule: undefined
      }]
    })
  })

  it("asks for a pattern without a rule, and for an ask without patterns", () => {
    const rules = [rule("*", "allow", "edit")]
    assert.strictEqual(decide(rules, { permission: "bash", patterns: ["ls"] }).action, "ask")
    assert.strictEqual(decide(rules, { permission: "edit", patterns: [] }).action, "ask")
  })

  it("matches the kind of permission as a pattern too", () => {
    assert.deepStrictEqual(["*", "ta*", "t?sk", "**", "task *"].map(isAboutTasks), [true, true, true, true, true])
    assert.deepStrictEqual(["TASK", "tas", ""].map(isAboutTasks), [false, false, false])
  })

  it.prop("gives the same from the last rule as from the first of the reversed rules", { rules: Rules, texts: Texts }, (
    given
  ) => {
    const rules = rulesOf(given.rules)
    const ask = bash(given.texts)
    isSame(decide(rules, ask), decide(rules.toReversed(), ask, { match: "first" }))
    isSame(decide(rules, ask, { match: "first" }), decide(rules.toReversed(), ask))
  }, options)

  it.prop(
    "is not changed by a rule that does not match, wherever it stands",
    { rules: Rules, added: Rule, at: Schema.Int, texts: Texts },
    (given) => {
      const rules = rulesOf(given.rules)
      const [added] = rulesOf([given.added])
      assert(added !== undefined)
      const ask = bash(given.texts)
      const foreign = ask.patterns.some((text) => matches(added.pattern, text))
        ? { ...added, permission: "edit" }
        : added
      const at = Math.abs(given.at % (rules.length + 1))
      for (const match of ["first", "last"] as const) {
        isSame(decide(rules.toSpliced(at, 0, foreign), ask, { match }), decide(rules, ask, { match }))
      }
    },
    options
  )

  it.prop(
    "follows a final rule that matches everything, whatever rules precede it",
    { rules: Rules, texts: Texts },
    (given) => {
      const ask = bash([...given.texts, ["a"]])
      for (const action of ["allow", "ask", "deny"] as const) {
        assert.strictEqual(decide([...rulesOf(given.rules), rule("*", action, "*")], ask).action, action)
      }
    },
    options
  )

  it.prop("gives several patterns the strictest of their single decisions", { rules: Rules, texts: Texts }, (given) => {
    const rules = rulesOf(given.rules)
    const { patterns, permission } = bash([...given.texts, ["a"]])
    const each = patterns.map((pattern) => decide(rules, { permission, patterns: [pattern] }).action)
    const strictest = (["deny", "ask", "allow"] as const).find((action) => each.includes(action))
    assert.strictEqual(decide(rules, { permission, patterns }).action, strictest)
  }, options)
})
