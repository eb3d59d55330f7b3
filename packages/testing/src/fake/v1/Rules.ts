/**
 * What the permission rules of a session mean on OpenCode 1.x: the tools that remain, the rules that a subagent inherits, and the words of a
 * denial (1.18.33).
 *
 * @since 0.1.0
 */
import type { Agent } from "../Agent.ts"
import type { PermissionRequest, PermissionRule, Ruleset } from "../Permission.ts"
import { matches } from "../Permission.ts"

/**
 * The tools that a session is offered: all except those that the last matching rule denies completely.
 *
 * @category getters
 * @since 0.1.0
 */
export const offered = ({ rules }: Ruleset): ReadonlyArray<string> =>
  tools.filter((tool) => {
    const last = rules.findLast(({ permission }) => matches(permission, permissionOf(tool)))
    return last?.action !== "deny" || last.pattern !== "*"
  })

/**
 * The permission that a tool needs.
 *
 * @category getters
 * @since 0.1.0
 */
export const permissionOf = (tool: string): string => (editing.has(tool) ? "edit" : tool)

/**
 * The error of a call that a rule denied.
 *
 * @category getters
 * @since 0.1.0
 */
export const denial = ({ rules }: Ruleset, { permission }: PermissionRequest): string => {
  const relevant = JSON.stringify(rules.filter((rule) => matches(rule.permission, permission)))
  return "The user has specified a rule which prevents you from using this specific tool call. " +
    `Here are some of the relevant rules ${relevant}`
}

/**
 * The rules of a subagent's session: the parent session's denials and its rules about external folders, followed by denials of the to-do
 * list and of subagents, unless the agent has its own rules about them.
 *
 * @category getters
 * @since 0.1.0
 */
export const childRules = (
  parent: ReadonlyArray<PermissionRule>,
  { permission }: Agent
): ReadonlyArray<PermissionRule> => [
  ...parent.filter((rule) => rule.action === "deny" || rule.permission === "external_directory"),
  ...["todowrite", "task"].flatMap((name) =>
    permission.some((rule) => rule.permission === name)
      ? []
      : [{ permission: name, action: "deny" as const, pattern: "*" }]
  )
]

// internal

const editing = new Set(["apply_patch", "edit", "write"])

const tools = [
  "bash",
  "edit",
  "glob",
  "grep",
  "question",
  "read",
  "skill",
  "task",
  "todowrite",
  "webfetch",
  "write"
]
