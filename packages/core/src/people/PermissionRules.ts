/**
 * OpenCode's permission rules: which patterns match what, and which rule decides.
 *
 * **Responsibilities**: the same answers as the server gives (1.18.33).
 *
 * **Not responsibilities**: expanding `~` and `$HOME`, which the server does only in the patterns of its configuration file;
 * what follows from a decision (`HumanGate.rules`).
 *
 * @since 0.1.0
 */
import type { PermissionAsk, PermissionRule } from "../domain/Ask.ts"

/**
 * Which of several rules that match decides.
 *
 * @category models
 * @since 0.1.0
 */
export type MatchOrder = "first" | "last"

/**
 * What rules say to a request: the action, and for each thing that the request is for, the rule that decides it, if one does.
 *
 * @category models
 * @since 0.1.0
 */
export interface Decision<Rule extends PermissionRule = PermissionRule> {
  readonly action: PermissionRule["action"]
  readonly subjects: ReadonlyArray<{ readonly text: string; readonly rule: Rule | undefined }>
}

/**
 * Whether a pattern matches the whole of a text.
 *
 * **Details**
 *
 * `*` stands for any text, also for none, for line breaks and for `/`; `?` for one character (one UTF-16 unit); everything else
 * for itself, in this case. A backslash is a slash, in both. A pattern that ends in ` *` matches without that end too:
 * `git *` means `git` as well as `git status`, but not `gitk`.
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
 * What the rules say to a request: one thing that is denied denies it all; it is allowed where everything is, and else asked.
 *
 * **Details**
 *
 * The last rule that matches decides, as on the server, unless `match` is `first`. What no rule matches is asked, and so is a
 * request for nothing in particular.
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
 * Only the last `*` is ever tried again, one character further each time. The server builds a regular expression, which takes
 * a time that grows with the power of the number of stars; agents choose the texts, so this stays below length × length.
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
