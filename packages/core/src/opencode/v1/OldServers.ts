/**
 * What older servers of OpenCode 1.x do otherwise without saying so. Each fact was measured on real servers of the versions that it names.
 *
 * **Not responsibilities**: what an answer shows by itself, as the metadata that a session kept.
 *
 * @since 0.1.0
 */
import type { PermissionRule } from "../../domain/Ask.ts"

/**
 * - `hidesUnknownAgents`: a prompt that names an agent which the server does not have is accepted, and nothing follows: no message, no
 *   event (1.1.65, 1.2.27, 1.3.2; 1.14.41 tells).
 * - `freesSubagents`: what the rules of a session and the `tools` of a prompt take away, its subagents have all the same (1.1.65 to 1.15.13;
 *   not 1.17.0).
 *
 * @category models
 * @since 0.1.0
 */
export interface Flaws {
  readonly hidesUnknownAgents: boolean
  readonly freesSubagents: boolean
}

/**
 * The flaws of a version. A development build (0.0.0-…) and a version that cannot be read count as new.
 *
 * @category getters
 * @since 0.1.0
 */
export const flawsOf = (version: string): Flaws => {
  const [, minor] = /^v?1\.(\d+)\./.exec(version) ?? []
  const isBefore = (first: number): boolean => minor !== undefined && Number(minor) < first
  return { hidesUnknownAgents: isBefore(14), freesSubagents: isBefore(17) }
}

/**
 * Whether the rules deny something, and leave the agent a way to open subagents. A rule with a wildcard counts as one about subagents.
 *
 * @category predicates
 * @since 0.1.0
 */
export const denyBesideSubagents = (rules: ReadonlyArray<PermissionRule>): boolean => {
  const last = rules.findLast(({ permission }) => permission === task || /[*?]/.test(permission))
  const areDenied = last?.action === "deny" && last.pattern === "*" &&
    (last.permission === task || last.permission === "*")
  return hasDenial(rules) && !areDenied
}

/**
 * @category predicates
 * @since 0.1.0
 */
export const hasDenial = (rules: ReadonlyArray<PermissionRule>): boolean =>
  rules.some(({ action }) => action === "deny")

/**
 * The rules that the server makes of the `tools` of a prompt.
 *
 * @category conversions
 * @since 0.1.0
 */
export const rulesOf = (tools: Readonly<Record<string, boolean>>): ReadonlyArray<PermissionRule> =>
  Object.entries(tools).map(([permission, isOffered]) => ({
    permission,
    pattern: "*",
    action: isOffered ? "allow" : "deny"
  }))

// internal

/** The tool that opens subagents, and its permission. */
const task = "task"
