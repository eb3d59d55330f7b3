/**
 * Limits the tools of one turn.
 *
 * The server makes permission rules of a prompt's `tools`, puts them in the place of the session's own rules, and keeps them for later
 * prompts (1.18.33). Rules can be added to a session, and are taken away only by another prompt with `tools`. So a map that limits a turn
 * carries a mark, and the next turn that finds the mark posts a map that limits nothing.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { PermissionRule } from "../domain/Ask.ts"
import { retrying } from "../domain/Retrying.ts"
import { InvalidInput } from "../domain/TurnError.ts"
import { Client } from "../opencode/Client.ts"
import type { RequestError, SessionNotFound } from "../opencode/ClientError.ts"
import type { EnsuredSession } from "./EnsureSession.ts"

/**
 * The `tools` of the next prompt of a session: the ones that are given, or, where an earlier turn limited the session, none that limit it.
 *
 * **Gotchas**
 *
 * Rules that somebody added after such a turn would be lost as well, so that the limit stays there.
 *
 * @category steps
 * @since 0.1.0
 */
export const limitTools = Effect.fnUntraced(function*(
  tools: Tools | undefined,
  { isNew, sessionId }: EnsuredSession
): Effect.fn.Return<Tools | undefined, RequestError | SessionNotFound | InvalidInput, Client> {
  const limit = tools === undefined || Object.keys(tools).length === 0 ? undefined : { ...tools, [mark]: false }
  if (isNew) return limit
  const client = yield* Client
  const { permission } = yield* retrying(client.getSession(sessionId))
  const last = permission.at(-1)
  const isOurs = last?.permission === mark
  if (limit === undefined) return isOurs && last?.action === "deny" ? unlimited : undefined
  if (permission.length === 0 || isOurs) return limit
  return yield* new InvalidInput({
    field: "tools",
    reason: `the server would drop ${ruleCount(permission)} of the session for it: begin another conversation`
  })
})

/**
 * Whether the rules of a session take away what an earlier turn took away.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isLimited = (permission: ReadonlyArray<PermissionRule>): boolean =>
  permission.findLast((rule) => rule.permission === mark)?.action === "deny"

/**
 * @category models
 * @since 0.1.0
 */
export type Tools = Readonly<Record<string, boolean>>

// internal

/** No tool has this name. */
const mark = "opencode-turn"

const unlimited: Tools = { [mark]: true }

const ruleCount = ({ length }: ReadonlyArray<PermissionRule>) =>
  length === 1 ? "a permission rule" : `${length} permission rules`
