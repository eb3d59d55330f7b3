/**
 * The permission rules of the agents of OpenCode 2.x, which are those of the server's configuration: the beta has none for a session
 * (0.0.0-next-16350).
 *
 * **Responsibilities**: the names of 2.x for what rules are about, and whether the agents' own rules do what rules of a session would do.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import type { PermissionRule } from "../../domain/Ask.ts"
import { matches } from "../../domain/Wildcard.ts"

/**
 * A rule in the words of 2.x.
 *
 * @category models
 * @since 0.1.0
 */
export interface AgentRule {
  readonly action: string
  readonly resource: string
  readonly effect: PermissionRule["action"]
}

/**
 * An agent of a prompt, and its rules. The last one that matches decides.
 *
 * @category models
 * @since 0.1.0
 */
export interface AgentRules {
  readonly name: string
  readonly isSubagent: boolean
  readonly rules: ReadonlyArray<AgentRule>
}

/**
 * The rules of a session in the words of 2.x. The names that 1.x has for the same are read as well, as 2.x itself does in its configuration.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromRules = (rules: ReadonlyArray<PermissionRule>): ReadonlyArray<AgentRule> =>
  rules.map(({ action, pattern, permission }) => ({
    action: names.get(permission) ?? permission,
    resource: pattern,
    effect: action
  }))

/**
 * Why the agents' own rules do less than these would do in a session of one of them; `undefined` if they do as much.
 *
 * **Details**
 *
 * Rules that ask do not reach the subagents of a session, and those that deny do, as in 1.x. An agent that is stricter than a rule that asks
 * or denies is fine.
 *
 * @category getters
 * @since 0.1.0
 */
export const flawOf = (
  agents: ReadonlyArray<AgentRules>,
  rules: ReadonlyArray<AgentRule>
): string | undefined => {
  if (agents.length === 0) return "it lists no agents"
  for (const { isSubagent, name, rules: own } of agents) {
    if (Equal.equals(own.slice(-rules.length), rules)) continue
    for (const rule of rules) {
      if (isSubagent && rule.effect !== "deny") continue
      const last = decides(own, rule)
      if (last === undefined) continue
      return `it goes by the rules of its configuration, and these ${verbs[last.effect]} ${rule.action}${
        last.resource === "*" ? "" : ` for "${last.resource}"`
      } in the agent "${name}"`
    }
  }
  return undefined
}

// internal

const names = new Map([["bash", "shell"], ["task", "subagent"], ["write", "edit"], ["patch", "edit"]])

const verbs = { allow: "allow", ask: "ask about", deny: "deny" }

const strengths = { allow: 0, ask: 1, deny: 2 }

/** The last of an agent's rules that is weaker than this rule for something that it is about; the agent asks where no rule matches. */
const decides = (own: ReadonlyArray<AgentRule>, rule: AgentRule): AgentRule | undefined => {
  for (const other of own.toReversed()) {
    if (!mayMeet(other.action, rule.action) || !mayMeet(other.resource, rule.resource)) continue
    const isStricter = strengths[other.effect] > strengths[rule.effect]
    if (other.effect !== rule.effect && !(isStricter && rule.effect !== "allow")) return other
    if (covers(other.action, rule.action) && covers(other.resource, rule.resource)) return undefined
  }
  return rule.effect === "ask" ? undefined : { ...rule, effect: "ask" }
}

/** Whether something may match both patterns. */
const mayMeet = (one: string, other: string): boolean =>
  hasWildcard(one) ? hasWildcard(other) || matches(one, other) : matches(other, one)

/** Whether everything that matches the second pattern surely matches the first one. */
const covers = (one: string, other: string): boolean => one === "*" || one === other

const hasWildcard = (pattern: string): boolean => /[*?]/.test(pattern)
