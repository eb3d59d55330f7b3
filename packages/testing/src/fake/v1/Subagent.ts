/**
 * The subagents of the fake OpenCode: the session of a task, and its run to the end (1.18.33).
 *
 * **Responsibilities**: the checks before a task, and the meaning of its end.
 *
 * **Not responsibilities**: turns (`Turn`), rules (`Agent`).
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Agents } from "../Agent.ts"
import type { Run, Runs } from "./Abort.ts"
import type * as Call from "./Call.ts"
import type * as Payload from "./Payload.ts"
import { childRules } from "./Rules.ts"
import type { State, StoredSession } from "./State.ts"
import { modelOf } from "./State.ts"
import { failureOf } from "./Step.ts"
import type { Message, ModelRef } from "./Wire.ts"

/**
 * The services of the turns that run subagents.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly state: State
  readonly agents: Agents
  /** The maximum nesting of subagents. */
  readonly depth: number
  readonly defaultModel: ModelRef
  readonly runs: Runs
  readonly prompt: (session: StoredSession, body: Payload.Prompt) => unknown
  /** Aborts a session and waits until it is idle. */
  readonly abort: (session: StoredSession) => Effect.Effect<void>
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Pick<Call.Services, "openSubagent" | "runSubagent"> => {
  const { agents, runs, state } = options

  /** The number of sessions above this one. */
  const depthOf = ({ info }: StoredSession): number => {
    const parent = info.parentID === undefined ? undefined : state.session(info.parentID)
    return parent === undefined ? 0 : depthOf(parent) + 1
  }

  const endOf = (child: StoredSession, run: Run | undefined): Call.SubagentEnd => {
    if (run?.isAborted === true) {
      // A subagent that was aborted directly reports once more that it is idle.
      if (!run.isCancelled) state.setStatus(child, { type: "idle" })
      return { _tag: "Cancelled" }
    }
    const last = state.messages(child).at(-1)
    const error = last && failureOf(last)
    return error === undefined
      ? { _tag: "Answered", text: last === undefined ? "" : lastText(last) }
      : { _tag: "Failed", error }
  }

  return {
    openSubagent: (parent, { agent, taskId, title }) => {
      const known = agents.find(agent)
      if (known === undefined) return `Unknown agent type: ${agent} is not a valid agent type`
      if (taskId !== undefined && !taskId.startsWith("ses")) {
        return `Expected a string starting with "ses", got ${JSON.stringify(taskId)}`
      }
      if (depthOf(parent) >= options.depth) {
        return `Subagent depth limit reached (${options.depth}). ` +
          "Increase \"subagent_depth\" to allow nested subagents."
      }
      const existing = taskId === undefined ? undefined : state.session(taskId)
      return existing ?? state.createSession({
        directory: parent.directory,
        cwd: parent.directory,
        parentID: parent.info.id,
        title: `${title} (@${agent} subagent)`,
        agent,
        permission: childRules(parent.info.permission ?? [], known)
      })
    },
    runSubagent: (child, { agent, model, prompt: text }, parent) =>
      Effect.gen(function*() {
        options.prompt(child, {
          parts: [{ type: "text", text }],
          agent,
          model: model ?? modelOf(parent) ?? options.defaultModel
        })
        const run = runs.get(child)
        if (run !== undefined) yield* Effect.raceFirst(Deferred.await(run.ended), run.cancelled.await)
        return run?.isCancelled === true ? { _tag: "Cancelled" as const } : endOf(child, run)
      }).pipe(
        Effect.onInterrupt(() => runs.get(child)?.isCrashed === true ? Effect.void : options.abort(child))
      )
  }
}

// internal

const lastText = ({ parts }: Message): string => {
  const last = parts.findLast((part) => part.type === "text")
  return last?.type === "text" ? last.text : ""
}
