/**
 * Checks that the server has the agents that a prompt names.
 *
 * Agents of subtasks and mentions are always looked up: a subtask of an unknown agent makes OpenCode try it again with every later
 * prompt of the session, and none is ever answered (1.18.33).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Prompt } from "../domain/Prompt.ts"
import { retrying } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import { InvalidInput } from "../domain/TurnError.ts"
import { Client } from "../opencode/Client.ts"
import type { RequestError } from "../opencode/ClientError.ts"
import type { Agent } from "../opencode/Dialect.ts"

/**
 * Asks the server for its agents, if the prompt has a subtask or mentions one.
 *
 * @category steps
 * @since 0.1.0
 */
export const checkAgents = Effect.fnUntraced(function*(
  { parts }: Pick<Prompt, "parts">
): Effect.fn.Return<void, InvalidInput | RequestError, Client> {
  const named = parts.flatMap((part) =>
    part.type === "subtask" ? [part.agent] : part.type === "agent" ? [part.name] : []
  )
  if (named.length === 0) return
  const client = yield* Client
  const agents = yield* retrying(client.agents)
  const unknown = named.find((name) => agents.every((agent) => agent.name !== name))
  if (unknown === undefined) return
  const offered = namesOf(agents).join(", ")
  return yield* new InvalidInput({
    field: "prompt",
    reason: `the server has no agent ${JSON.stringify(unknown)}, only ${offered === "" ? "none at all" : offered}`
  })
}, step("Turn.checkAgents"))

// internal

const namesOf = (agents: ReadonlyArray<Agent>): ReadonlyArray<string> =>
  agents.filter(({ isHidden }) => !isHidden).map(({ name }) => name)
