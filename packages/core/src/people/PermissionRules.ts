/**
 * OpenCode's permission rules: which patterns match, and which rule decides.
 *
 * **Responsibilities**: the same decisions as the server's (1.18.33).
 *
 * **Not responsibilities**: expanding `~` and `$HOME`, which the server does only for patterns in its configuration
 * file; acting on a decision (`HumanGate.rules`).
 *
 * @since 0.1.0
 */
import type { PermissionAsk, PermissionRule } from "../domain/Ask.ts"
import { matches } from "../domain/Wildcard.ts"

/**
 * Which of several matching rules decides.
 *
 * @category models
 * @since 0.1.0
 */
export type MatchOrder = "first" | "last"

/**
 * The decision of the rules on a permission: the action, and for each pattern of the ask the rule that decides it, if
 * any.
 *
 * @category models
 * @since 0.1.0
 */
export interface Decision<Rule extends PermissionRule = PermissionRule> {
  readonly action: PermissionRule["action"]
  readonly subjects: ReadonlyArray<{ readonly text: string; readonly rule: Rule | undefined }>
}

export { matches }

/**
 * Decides a permission by rules. One denied pattern denies the whole ask. The ask is allowed if every pattern is
 * allowed; otherwise a person is asked.
 *
 * **Details**
 *
 * The last matching rule decides, as on the server, unless `match` is `first`. A pattern without a matching rule is
 * asked, and so is an ask without patterns.
 *
 * @category getters
 * @since 0.1.0
 */
export const decide = <Rule extends PermissionRule>(
  rules: ReadonlyArray<Rule>,
  ask: Pick<PermissionAsk, "permission" | "patterns">,
  options?: { readonly match?: MatchOrder | undefined }
): Decision<Rule> => {
  const candidates = rules.filter((rule) => matches(rule.permission, ask.permission))
  const subjects = ask.patterns.map((text) => {
    const isAbout = (rule: Rule) => matches(rule.pattern, text)
    return { text, rule: options?.match === "first" ? candidates.find(isAbout) : candidates.findLast(isAbout) }
  })
  const actions = subjects.map(({ rule }) => rule?.action ?? "ask")
  const isAllowed = actions.length > 0 && actions.every((action) => action === "allow")
  return { action: actions.includes("deny") ? "deny" : isAllowed ? "allow" : "ask", subjects }
}
