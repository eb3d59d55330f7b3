/**
 * The session rules for each value of `--permission`.
 */
import type { PermissionRule } from "@opencode-turn/core/Ask"

/** The values of `--permission`. */
export type Mode = "ask" | "store" | "allow" | "deny"

/**
 * The rules that the session gets in addition to OpenCode's own rules, which allow most tools without asking (1.18).
 *
 * With `ask`, `store` and `deny`, everything that changes something or reaches out asks first: shell commands, edits, web requests,
 * subagents (which do not inherit a session's rules), and tools with an underscore in their name, as the tools of MCP servers have.
 * `shell` and `subagent` are the names of `bash` and `task` in 2.x. No rule allows anything, because it would override a prohibition in the user's configuration.
 */
export const rules = (mode: Mode): ReadonlyArray<PermissionRule> =>
  mode === "allow"
    ? []
    : ["bash", "shell", "edit", "task", "subagent", "webfetch", "websearch", "codesearch", "*_*"].map((permission) => ({
      permission,
      pattern: "*",
      action: "ask"
    }))
