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

/**
 * Whether a pattern matches the whole text.
 *
 * **Details**
 *
 * `*` stands for any text, including an empty one, line breaks and `/`. `?` stands for one character (one UTF-16 unit).
 * Every other character stands for itself, in the same case. A backslash counts as a slash in both texts. A pattern
 * that ends in ` *` also matches without that ending: `git *` matches `git` and `git status`, but not `gitk`.
 *
 * @category predicates
 * @since 0.1.0
 */
export const matches = (pattern: string, text: string): boolean => {
  const glob = withSlashes(pattern)
  const subject = withSlashes(text)
  return isMatch(glob, subject) || (glob.endsWith(optionalEnd) && isMatch(glob.slice(0, -optionalEnd.length), subject))
}

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

// internal

const optionalEnd = " *"

const withSlashes = (text: string): string => text.replaceAll("\\", "/")

/**
 * Only the last `*` is retried, one character further each time. The server builds a regular expression, whose time
 * grows exponentially with the number of stars. Agents choose the texts, so this algorithm stays below length × length.
 */
const isMatch = (glob: string, text: string): boolean => {
  let place = 0
  let at = 0
  let lastStar = -1
  let starEnd = 0
  while (at < text.length) {
    const symbol = glob[place]
    if (symbol === "*") {
      lastStar = place++
      starEnd = at
    } else if (symbol === "?" || symbol === text[at]) {
      place++
      at++
    } else if (lastStar !== -1) {
      place = lastStar + 1
      at = ++starEnd
    } else {
      return false
    }
  }
  while (glob[place] === "*") place++
  return place === glob.length
}
