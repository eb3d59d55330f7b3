/**
 * The permissions and agents of the fake OpenCode 2.x. It reads the settings of 1.x, as the real server does, and has other names for
 * two of the tools.
 *
 * @since 0.1.0
 */
import type { Agents } from "../Agent.ts"
import type { PermissionRule as Rule1x } from "../Permission.ts"
import { decide as decide1x } from "../Permission.ts"
import type { PermissionRule } from "./Wire.ts"

/**
 * A rule of 1.x in the words of 2.x.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromRule1x = ({ action, pattern, permission }: Rule1x): PermissionRule => ({
  action: permission === "bash" ? "shell" : permission === "task" ? "subagent" : permission,
  resource: pattern,
  effect: action
})

/**
 * What the rules say of an action on these resources. The last matching rule decides for each.
 *
 * @category getters
 * @since 0.1.0
 */
export const decide = (
  rules: ReadonlyArray<PermissionRule>,
  { action, resources }: { readonly action: string; readonly resources: ReadonlyArray<string> }
): PermissionRule["effect"] =>
  decide1x(
    {
      rules: rules.map(({ action, effect, resource }) => ({ permission: action, pattern: resource, action: effect })),
      approved: []
    },
    { permission: action, patterns: resources, always: [], metadata: {}, isForced: false }
  )

/**
 * The agents as `GET /api/agent` lists them.
 *
 * @category getters
 * @since 0.1.0
 */
export const agentsOf = (agents: Agents): ReadonlyArray<object> =>
  agents.list.map(({ description, hidden, mode, model, name, native, permission }) => ({
    id: name,
    name: native ? titleOf(name) : name,
    ...(description !== undefined && { description }),
    ...(model !== undefined && { model: { providerID: model.providerID, id: model.modelID } }),
    mode,
    hidden: hidden === true,
    permissions: permission.map(fromRule1x)
  }))

/**
 * The name of an agent for people.
 *
 * @category getters
 * @since 0.1.0
 */
export const titleOf = (name: string): string => name.charAt(0).toUpperCase() + name.slice(1)
