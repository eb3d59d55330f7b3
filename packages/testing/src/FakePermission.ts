/**
 * What the sessions of the fake OpenCode may do: the rules, and the tools that they leave.
 *
 * @since 0.1.0
 */
import * as RegExp_ from "effect/RegExp"
import type { PermissionRule, Properties } from "./FakeWire.ts"

/**
 * A permission as it is asked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface PermissionRequest {
  readonly permission: string
  readonly patterns: ReadonlyArray<string>
  readonly always: ReadonlyArray<string>
  readonly metadata: Properties
  /** Asked for whatever the rules say. */
  readonly isForced: boolean
}

/**
 * The tools that a session may call: a rule that denies a tool as a whole takes it away, and subagents have fewer.
 *
 * @category getters
 * @since 0.1.0
 */
export const offered = (isSubagent: boolean, rules: ReadonlyArray<PermissionRule>): ReadonlyArray<string> =>
  tools.filter((tool) =>
    !(isSubagent && rootOnly.has(tool)) &&
    rules.findLast((rule) => matches(rule.permission, tool))?.action !== "deny"
  )

/**
 * What the rules say to a request: the last rule that matches decides, for each pattern; the strictest answer counts.
 *
 * @category getters
 * @since 0.1.0
 */
export const decide = (
  rules: ReadonlyArray<PermissionRule>,
  request: PermissionRequest
): PermissionRule["action"] => {
  const actions = request.patterns.map((pattern) =>
    rules.findLast((rule) => matches(rule.permission, request.permission) && matches(rule.pattern, pattern))?.action ??
      (request.isForced || request.permission === "external_directory" ? "ask" : "allow")
  )
  return actions.find((action) => action === "deny") ?? actions.find((action) => action === "ask") ?? "allow"
}

/**
 * Whether a text fits one of OpenCode's patterns: `*` stands for any text.
 *
 * @category predicates
 * @since 0.1.0
 */
export const matches = (pattern: string, text: string): boolean =>
  pattern.split("*").length === 1
    ? pattern === text
    : new RegExp(`^${pattern.split("*").map(RegExp_.escape).join(".*")}$`, "s").test(text)

// internal

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
const rootOnly = new Set(["question", "task", "todowrite"])
