import type { AgentRule } from "#opencode/v2/AgentRules"
import { flawOf, fromRules } from "#opencode/v2/AgentRules"
import { assert, describe, it } from "@effect/vitest"
import type { PermissionRule } from "@opencode-turn/core/Ask"

const asking: ReadonlyArray<PermissionRule> = ["bash", "edit", "task", "webfetch", "*_*"].map((permission) => ({
  permission,
  pattern: "*",
  action: "ask"
}))
const denying: ReadonlyArray<PermissionRule> = [{ permission: "bash", pattern: "rm *", action: "deny" }]

const rule = (action: string, effect: AgentRule["effect"], resource = "*"): AgentRule => ({ action, resource, effect })

/** The rules of the built-in agent `build` (0.0.0-next-16350), shortened. */
const build = [
  rule("*", "allow"),
  rule("external_directory", "ask"),
  rule("question", "deny"),
  rule("read", "allow"),
  rule("read", "ask", "*.env"),
  rule("question", "allow")
]
const configured = ["shell", "edit", "subagent", "webfetch", "*_*"].map((action) => rule(action, "ask"))

const bound = (rules: ReadonlyArray<AgentRule>) => ({ name: "build", isSubagent: false, rules })

const flaw = (rules: ReadonlyArray<PermissionRule>, ...own: ReadonlyArray<AgentRule>) =>
  flawOf([bound(own)], fromRules(rules))

describe("rules of a session of OpenCode 2.x", () => {
  it("have the names of 2.x for what 1.x calls otherwise", () => {
    const rules = ["bash", "task", "write", "patch", "read", "shell"].map((permission) =>
      ({ permission, pattern: "x", action: "deny" }) as const
    )
    assert.deepStrictEqual(
      fromRules(rules).map(({ action }) => action),
      ["shell", "subagent", "edit", "edit", "read", "shell"]
    )
  })

  it("are there already where the configuration of the server has them", () => {
    assert.isUndefined(flaw(asking, ...build, ...configured))
    assert.isUndefined(flaw(asking, ...build, rule("*", "ask"), rule("read", "allow"), rule("glob", "allow")))
    assert.isUndefined(flaw(asking, ...build, ...configured.toReversed(), rule("todo", "allow")))
    assert.isUndefined(flaw(denying, ...build, rule("shell", "deny")))
    assert.isUndefined(flaw(denying, ...build, rule("shell", "deny", "rm *")))
  })

  it("are there also where the configuration is stricter", () => {
    assert.isUndefined(flaw(asking, ...build, rule("*", "deny"), rule("read", "allow")))
    assert.isUndefined(flaw(asking, ...build, ...configured, rule("shell", "deny", "rm *")))
  })

  it("are not there where the configuration allows more, now or for some of it", () => {
    const by = "it goes by the rules of its configuration, and these"
    assert.strictEqual(flaw(asking, ...build), `${by} allow shell in the agent "build"`)
    assert.strictEqual(
      flaw(asking, ...configured, rule("*", "allow")),
      `${by} allow shell in the agent "build"`
    )
    assert.strictEqual(
      flaw(asking, ...build, ...configured, rule("shell", "allow", "git *")),
      `${by} allow shell for "git *" in the agent "build"`
    )
    assert.strictEqual(
      flaw(asking, ...build, ...configured, rule("tickets_get", "allow")),
      `${by} allow *_* in the agent "build"`
    )
    assert.strictEqual(
      flaw(denying, ...build, rule("shell", "ask")),
      `${by} ask about shell in the agent "build"`
    )
    assert.isString(flaw(denying, rule("shell", "deny", "rm -rf *")))
    assert.isString(flaw(denying))
  })

  it("that allow something are there only where the configuration allows it as well", () => {
    const allowing = [{ permission: "bash", pattern: "*", action: "allow" }] as const
    assert.isUndefined(flaw(allowing, ...build))
    for (const own of [[], [...build, rule("shell", "ask")], [...build, rule("shell", "deny", "rm *")]]) {
      assert.isString(flaw(allowing, ...own))
    }
  })

  it("are there where they stand last in the same order, whatever they take back of each other", () => {
    const rules: ReadonlyArray<PermissionRule> = [
      { permission: "bash", pattern: "*", action: "deny" },
      { permission: "bash", pattern: "git *", action: "allow" }
    ]
    assert.isUndefined(flaw(rules, ...build, ...fromRules(rules)))
    assert.isString(flaw(rules, ...build, ...fromRules(rules).toReversed()))
  })

  it("bind each agent that a prompt may choose, and subagents where they deny", () => {
    const free = { name: "general", isSubagent: true, rules: build }
    assert.isUndefined(flawOf([bound([...build, ...configured]), free], fromRules(asking)))
    assert.include(
      flawOf([bound([...build, ...fromRules(denying)]), free], fromRules(denying)) ?? "",
      `in the agent "general"`
    )
    assert.isString(flawOf([bound(configured), { ...free, isSubagent: false }], fromRules(asking)))
  })

  it("are not taken for there if no agent is listed", () => {
    assert.isString(flawOf([], fromRules(asking)))
  })
})
