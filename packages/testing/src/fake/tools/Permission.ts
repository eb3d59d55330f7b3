/**
 * The permissions of the fake OpenCode's sessions: the rule that decides, and the tools that remain (1.18.33).
 *
 * This module deliberately uses nothing of `core`, because core's own matching of rules is compared with it.
 *
 * @since 0.1.0
 */
import type { PermissionRule, Properties } from "../state/Wire.ts"

/**
 * A permission that a tool asks for.
 *
 * @category models
 * @since 0.1.0
 */
export interface PermissionRequest {
  readonly permission: string
  readonly patterns: ReadonlyArray<string>
  readonly always: ReadonlyArray<string>
  readonly metadata: Properties
  /** Whether to ask whatever the rules say. */
  readonly isForced: boolean
}

/**
 * The rules of a session, weakest first: its agent's rules, its own, and the permissions that a person allowed with `always`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ruleset {
  readonly rules: ReadonlyArray<PermissionRule>
  readonly approved: ReadonlyArray<PermissionRule>
}

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
 * Evaluates the rules for a request. The last matching rule decides for each pattern. One denied pattern denies the request; if all
 * patterns are allowed it is allowed, and otherwise it is asked for.
 *
 * @category getters
 * @since 0.1.0
 */
export const decide = ({ approved, rules }: Ruleset, request: PermissionRequest): PermissionRule["action"] => {
  const all = request.isForced ? approved : [...rules, ...approved]
  const actions = request.patterns.map((text) => evaluate(all, request.permission, text))
  if (actions.includes("deny")) return "deny"
  return actions.every((action) => action === "allow") ? "allow" : "ask"
}

/**
 * Evaluates the rules for one text.
 *
 * @category getters
 * @since 0.1.0
 */
export const evaluate = (
  rules: ReadonlyArray<PermissionRule>,
  permission: string,
  text: string
): PermissionRule["action"] =>
  rules.findLast((rule) => matches(rule.permission, permission) && matches(rule.pattern, text))?.action ?? "ask"

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
 * Whether a text matches one of OpenCode's patterns. Like the server, this builds a regular expression.
 *
 * @category predicates
 * @since 0.1.0
 */
export const matches = (pattern: string, text: string): boolean => {
  const source = withSlashes(pattern)
    .replace(/[.+^${}()|[\]]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".")
  return new RegExp(`^${source.endsWith(" .*") ? `${source.slice(0, -3)}( .*)?` : source}$`, "s").test(
    withSlashes(text)
  )
}

// internal

const withSlashes = (text: string) => text.replaceAll("\\", "/")

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
