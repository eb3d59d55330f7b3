/**
 * What the sessions of the fake OpenCode may do: which rule decides, and the tools that the rules leave (1.18.33).
 *
 * On purpose nothing of `core` is used here: the fake is what core's own matching of rules is compared with.
 *
 * @since 0.1.0
 */
import type { PermissionRule, Properties } from "../state/Wire.ts"

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
 * The rules that hold for a session, weakest first: its agent's and its own, and then what a person allowed for always.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ruleset {
  readonly rules: ReadonlyArray<PermissionRule>
  readonly approved: ReadonlyArray<PermissionRule>
}

/**
 * The tools that a session is offered: all but those that the last rule about them denies as a whole.
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
 * What the rules say to a request. The last rule that matches decides, for each pattern; one pattern that is denied denies it all,
 * it is allowed where all are, and asked for where not.
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
 * What the rules say about one text.
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
 * What a call says that a rule has denied.
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
 * Whether a text fits one of OpenCode's patterns: built as the server builds it, into a regular expression.
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
