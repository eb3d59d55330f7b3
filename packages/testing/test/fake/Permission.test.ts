import * as Permission from "#fake/Permission"
import { offered as offeredBy } from "#fake/v1/Rules"
import { assert, it } from "@effect/vitest"
import type { PermissionRule } from "@opencode-turn/core/Ask"
import * as PermissionRules from "@opencode-turn/core/PermissionRules"
import * as Schema from "effect/Schema"

/** Seen on the real server: pattern, text. */
const matching: ReadonlyArray<readonly [string, string]> = [
  ["*", ""],
  ["*", "a\nb"],
  ["", ""],
  ["git *", "git"],
  ["git *", "git "],
  ["git *", "git  a"],
  ["git *", "git \nx"],
  ["git*", "gitx y"],
  ["git  *", "git "],
  [" *", ""],
  ["git * *", "git a"],
  ["git ?", "git a"],
  ["?", "\n"],
  ["a*b", "a/x/b"],
  ["src/**", "src/a/b.ts"],
  ["a/**/b", "a//b"],
  ["a\\b", "a/b"],
  ["a/b", "a\\b"],
  ["[ab]", "[ab]"],
  ["^a$", "^a$"],
  ["(a|b)+", "(a|b)+"],
  ["a\\*", "a/xyz"],
  ["??", "😀"],
  ["git *\n", "git a\n"]
]
const different: ReadonlyArray<readonly [string, string]> = [
  ["", "x"],
  ["git *", "gitx"],
  ["git *", " git a"],
  ["git *", "GIT x"],
  ["git *", "git\nx"],
  ["git  *", "git"],
  [" *", "x"],
  ["git * *", "git"],
  ["git ?", "git"],
  ["src/*", "src"],
  ["a/**/b", "a/b"],
  ["a.b", "axb"],
  ["[ab]", "a"],
  ["{a,b}", "a"],
  ["!git", "x"],
  ["?", "😀"],
  ["a\\?", "a?"],
  ["a", "a\n"]
]

it("matches what the real server matches", () => {
  for (const [pattern, text] of matching) assert.isTrue(Permission.matches(pattern, text), `${pattern} | ${text}`)
  for (const [pattern, text] of different) assert.isFalse(Permission.matches(pattern, text), `${pattern} | ${text}`)
})

const Text = Schema.Array(Schema.Literals(["a", "b", " ", "*", "?", "/", "\\", ".", "\n", "😀"])).check(
  Schema.isMaxLength(8)
)
const Rules = Schema.Array(Schema.Struct({
  permission: Schema.Literals(["*", "bash", "b*", "edit", "task *"]),
  pattern: Text,
  action: Schema.Literals(["allow", "ask", "deny"])
})).check(Schema.isMaxLength(5))
const Patterns = Schema.Array(Text).check(Schema.isMinLength(1), Schema.isMaxLength(3))

it.prop("matches what core matches, which knows nothing of it", { pattern: Text, text: Text }, (given) => {
  const [pattern, text] = [given.pattern.join(""), given.text.join("")]
  assert.strictEqual(Permission.matches(pattern, text), PermissionRules.matches(pattern, text))
}, { arbitrary: { runs: 2000 } })

it.prop(
  "decides what core decides",
  { rules: Rules, permission: Schema.Literals(["bash", "edit", "task"]), patterns: Patterns },
  (given) => {
    const rules = given.rules.map((rule) => ({ ...rule, pattern: rule.pattern.join("") }))
    const patterns = given.patterns.map((text) => text.join(""))
    const ask = { permission: given.permission, patterns, always: [], metadata: {}, isForced: false }
    assert.strictEqual(
      Permission.decide({ rules, approved: [] }, ask),
      PermissionRules.decide(rules, ask).action
    )
  },
  { arbitrary: { runs: 1000 } }
)

const offered = (...rules: ReadonlyArray<PermissionRule>) => offeredBy({ rules, approved: [] })

it("removes a tool only if the last rule about it denies everything", () => {
  const deny = { permission: "edit", pattern: "*", action: "deny" } as const
  assert.notIncludeMembers([...offered(deny)], ["edit", "write"])
  assert.include(offered({ ...deny, pattern: "src/*" }), "edit")
  assert.include(offered(deny, { ...deny, pattern: "docs/*", action: "allow" }), "write")
})
