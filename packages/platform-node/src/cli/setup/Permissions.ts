/**
 * The session rules for each value of `--permission`, and how a server gets them that takes none for a session.
 */
import type { PermissionRule } from "@opencode-turn/core/Ask"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { type Failure, usage } from "./Failure.ts"

/** The values of `--permission`. */
export type Mode = "ask" | "store" | "allow" | "deny"

/**
 * The rules that the session gets in addition to OpenCode's own rules, which allow most tools without asking (1.18).
 *
 * With `ask`, `store` and `deny`, everything that changes something or reaches out asks first: shell commands, edits, web requests,
 * subagents (which do not inherit a session's rules), and tools with an underscore in their name, as the tools of MCP servers have.
 * `shell` and `subagent` are the names of `bash` and `task` in 2.x. No rule allows anything, because it would override a prohibition in the
 * user's configuration.
 */
export const rules = (mode: Mode): ReadonlyArray<PermissionRule> =>
  mode === "allow"
    ? []
    : asked.map((permission) => ({ permission, pattern: "*", action: "ask" }))

/**
 * The configuration of a server in `OPENCODE_CONFIG_CONTENT`, with the rules behind those that it has. It stays in the form of 1.x or of
 * 2.x that it has, because 2.x reads either but no mixture (0.0.0-next-16350). Each rule is about everything that its permission is about.
 */
export const intoConfiguration = Effect.fnUntraced(function*(
  content: string | undefined,
  rules: ReadonlyArray<PermissionRule>
): Effect.fn.Return<string, Failure> {
  const given = yield* Effect.mapError(
    decode(content === undefined || content.trim() === "" ? "{}" : content),
    () =>
      usage("OPENCODE_CONFIG_CONTENT is no JSON object, so that no permissions can be added: choose --permission allow")
  )
  const { permission, permissions } = given
  if (!isOf1x(given)) {
    const added = rules.map(({ action, pattern, permission }) => ({
      action: permission,
      resource: pattern,
      effect: action
    }))
    return JSON.stringify({ ...given, permissions: [...(Array.isArray(permissions) ? permissions : []), ...added] })
  }
  const before = Predicate.isObject(permission) ? permission : permission === undefined ? {} : { "*": permission }
  const isNew = ([name]: readonly [string, unknown]) => rules.every((rule) => rule.permission !== name)
  return JSON.stringify({
    ...given,
    permission: Object.fromEntries([
      ...Object.entries(before).filter(isNew),
      ...rules.map(({ action, permission }) => [permission, action])
    ])
  })
})

// internal

const asked = ["bash", "shell", "edit", "task", "subagent", "webfetch", "websearch", "codesearch", "*_*"]

const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown)))

/** Whether the beta takes a configuration for one of 1.x, by the names that only 1.x has. */
const isOf1x = (content: Readonly<Record<string, unknown>>): boolean =>
  Object.keys(content).some((name) => namesOf1x.has(name)) ||
  (Predicate.isObject(content["mcp"]) && !Predicate.hasProperty(content["mcp"], "servers"))

const namesOf1x = new Set([
  "agent",
  "attachment",
  "autoshare",
  "command",
  "disabled_providers",
  "enabled_providers",
  "layout",
  "logLevel",
  "mode",
  "permission",
  "plugin",
  "provider",
  "reference",
  "server",
  "small_model",
  "snapshot",
  "tools"
])
