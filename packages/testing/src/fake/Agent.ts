/**
 * The agents of the fake OpenCode: the built-in agents of 1.18.33, those of its configuration, and their rules.
 *
 * **Responsibilities**: the rules of an agent, and the rules that its subagents inherit.
 *
 * **Not responsibilities**: evaluating rules (`Permission`).
 *
 * **Gotchas**
 *
 * The real agents have a few more rules, for the server's own folders.
 *
 * @since 0.1.0
 */
import { providerId } from "../model/ScriptedProvider.ts"
import type { PermissionRule } from "./Permission.ts"

/**
 * An agent of the configuration.
 *
 * @category models
 * @since 0.1.0
 */
export interface AgentOptions {
  /** `all` by default. */
  readonly mode?: "all" | "primary" | "subagent" | undefined
  readonly description?: string | undefined
  /** The model that the agent works by if a prompt names none: the name of a model of the provider `scripted`. */
  readonly model?: string | undefined
  /** The agent's own rules, which follow those of the configuration. A rule about `task` lets its sessions call subagents. */
  readonly permission?: ReadonlyArray<PermissionRule> | undefined
}

/**
 * An agent as `GET /agent` lists it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Agent {
  readonly name: string
  readonly description?: string
  readonly mode: "all" | "primary" | "subagent"
  readonly native: boolean
  readonly hidden?: boolean | null
  readonly model?: { readonly providerID: string; readonly modelID: string }
  readonly permission: ReadonlyArray<PermissionRule>
  readonly options: Readonly<Record<string, never>>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Agents {
  /** The agents: the default one, and then the others by name. */
  readonly list: ReadonlyArray<Agent>
  readonly find: (name: string) => Agent | undefined
  /** The names that an error suggests. */
  readonly available: ReadonlyArray<string>
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  readonly agents: Readonly<Record<string, AgentOptions>>
  /** Rules of the configuration, which apply to all agents. */
  readonly permission: ReadonlyArray<PermissionRule>
}): Agents => {
  const custom = Object.entries(options.agents).map(([name, agent]): Agent => ({
    name,
    description: agent.description ?? name,
    mode: agent.mode ?? "all",
    native: false,
    hidden: null,
    ...(agent.model !== undefined && { model: { providerID: providerId, modelID: agent.model } }),
    permission: [...base, ...options.permission, ...agent.permission ?? []],
    options: {}
  }))
  const native = natives.map(({ rules, ...agent }): Agent => ({
    ...agent,
    native: true,
    permission: [...base, ...rules, ...options.permission],
    options: {}
  }))
  const list = [...native, ...custom].sort((left, right) =>
    left.name === defaultAgent || (right.name !== defaultAgent && left.name < right.name) ? -1 : 1
  )
  return {
    list,
    find: (name) => list.find((agent) => agent.name === name),
    available: list.flatMap(({ hidden, name }) => (hidden === true ? [] : [name]))
  }
}

// internal

const defaultAgent = "build"

const rule = (permission: string, action: PermissionRule["action"], pattern = "*"): PermissionRule => ({
  permission,
  action,
  pattern
})

const base: ReadonlyArray<PermissionRule> = [
  rule("*", "allow"),
  rule("doom_loop", "ask"),
  rule("external_directory", "ask"),
  rule("question", "deny"),
  rule("plan_enter", "deny"),
  rule("plan_exit", "deny"),
  rule("read", "allow"),
  rule("read", "ask", "*.env"),
  rule("read", "ask", "*.env.*"),
  rule("read", "allow", "*.env.example")
]

const hidden = (name: string) => ({ name, mode: "primary", hidden: true, rules: [rule("*", "deny")] }) as const

const natives: ReadonlyArray<
  Pick<Agent, "description" | "hidden" | "mode" | "name"> & { readonly rules: ReadonlyArray<PermissionRule> }
> = [
  {
    name: "build",
    description: "The default agent.",
    mode: "primary",
    rules: [rule("question", "allow"), rule("plan_enter", "allow")]
  },
  {
    name: "plan",
    description: "Plans, and edits nothing but plans.",
    mode: "primary",
    rules: [
      rule("question", "allow"),
      rule("plan_exit", "allow"),
      rule("task", "deny", "general"),
      rule("edit", "deny"),
      rule("edit", "allow", ".opencode/plans/*.md")
    ]
  },
  {
    name: "general",
    description: "Does several things on its own.",
    mode: "subagent",
    rules: [rule("todowrite", "deny")]
  },
  {
    name: "explore",
    description: "Looks, and changes nothing.",
    mode: "subagent",
    rules: [
      rule("*", "deny"),
      ...["grep", "glob", "list", "bash", "webfetch", "websearch", "read"].map((name) => rule(name, "allow")),
      rule("external_directory", "ask")
    ]
  },
  hidden("compaction"),
  hidden("summary"),
  hidden("title")
]
