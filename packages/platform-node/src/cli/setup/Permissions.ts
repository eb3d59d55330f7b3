/**
 * What `--permission` makes of a session.
 */
import type { PermissionRule } from "@opencode-turn/core/Ask"

/** How permissions are decided. */
export type Mode = "ask" | "store" | "allow" | "deny"

/**
 * The rules that a session gets, on top of OpenCode's own, which let most tools run unasked (1.18).
 *
 * With `ask`, `store` and `deny` everything that changes something or reaches out asks: shell commands, edits, web requests, subagents
 * (which do not inherit a session's rules), and tools with an underscore in their name, which is how MCP servers' are named.
 * Rules that allow something are never added: they would lift what the user's own configuration forbids.
 */
export const rules = (mode: Mode): ReadonlyArray<PermissionRule> =>
  mode === "allow"
    ? []
    : ["bash", "edit", "task", "webfetch", "websearch", "codesearch", "*_*"].map((permission) => ({
      permission,
      pattern: "*",
      action: "ask"
    }))
