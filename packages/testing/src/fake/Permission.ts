/**
 * The permission rules of the fake OpenCode: which of them decides.
 *
 * This module deliberately uses nothing of `core`, because core's own matching of rules is compared with it.
 *
 * @since 0.1.0
 */
import type { Properties } from "./Events.ts"

/**
 * A rule in the words of OpenCode 1.x, which 2.x reads as well.
 *
 * @category models
 * @since 0.1.0
 */
export interface PermissionRule {
  readonly permission: string
  readonly pattern: string
  readonly action: "allow" | "ask" | "deny"
}

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
