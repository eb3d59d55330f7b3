/**
 * One tool call of the fake OpenCode: its part, the states that the part can take, and how a call ends.
 *
 * Owns the shapes of the states. Which state comes when is `FakeToolRun`'s.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { FakeState, StoredSession } from "../state/State.ts"
import type { Properties, ToolPart, ToolState } from "../state/Wire.ts"
import type * as FakePermission from "./Permission.ts"
import type { Plan, Task } from "./Tool.ts"

/**
 * What a call needs from the rest of the server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Services {
  readonly state: FakeState
  /** The rules that hold for a session. */
  readonly ruleset: (session: StoredSession) => FakePermission.Ruleset
  readonly gate: (name: string) => Effect.Effect<void>
  /** The session for a task: a new one, or that which the task names; a text says why there can be none. */
  readonly openSubagent: (parent: StoredSession, task: Task) => StoredSession | string
  /** Prompts a subagent and waits for the end of its turn. Interrupted, it aborts the subagent. */
  readonly runSubagent: (child: StoredSession, task: Task, parent: StoredSession) => Effect.Effect<SubagentEnd>
}

/**
 * @category models
 * @since 0.1.0
 */
export type SubagentEnd =
  | { readonly _tag: "Answered"; readonly text: string }
  | { readonly _tag: "Failed"; readonly error: string }
  | { readonly _tag: "Cancelled" }

/**
 * A call under way.
 *
 * @category models
 * @since 0.1.0
 */
export interface ToolRun {
  /** Its last state. */
  part: ToolPart
  readonly plan: Plan
  readonly session: StoredSession
  /** The subagent's session, once there is one. */
  child: StoredSession | undefined
  /** A person is asked. */
  isAsking: boolean
}

/**
 * How a call ended. After a refusal the turn does not go on.
 *
 * @category models
 * @since 0.1.0
 */
export type ToolEnd = "ended" | "refused"

/**
 * Whether the call has ended.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isEnded = ({ part }: ToolRun): boolean =>
  part.state.status === "completed" || part.state.status === "error"

/**
 * Stores and announces a state.
 *
 * @category combinators
 * @since 0.1.0
 */
export const put = ({ state }: Services, run: ToolRun, next: ToolState): void => {
  run.part = { ...run.part, state: next }
  state.putPart(run.session, run.part)
}

/**
 * The call runs. A tool that is not to be had is called `invalid` from here on.
 *
 * @category combinators
 * @since 0.1.0
 */
export const begin = (services: Services, run: ToolRun, fields: Partial<ToolState> = {}): void => {
  run.part = { ...run.part, tool: run.plan.tool }
  const start = run.part.state.time?.start ?? services.state.now()
  put(services, run, { status: "running", input: run.plan.input, ...fields, time: { start } })
}

/**
 * @category combinators
 * @since 0.1.0
 */
export const complete = (
  services: Services,
  run: ToolRun,
  result: { readonly output: string; readonly title: string; readonly metadata: Properties }
): Effect.Effect<ToolEnd> =>
  Effect.sync(() => {
    completeNow(services, run, { ...result, metadata: { ...result.metadata, truncated: false } })
    return "ended"
  })

/**
 * `complete` for a tool whose result is never cut, at once.
 *
 * @category combinators
 * @since 0.1.0
 */
export const completeNow = (
  services: Services,
  run: ToolRun,
  { metadata, output, title }: { readonly output: string; readonly title: string; readonly metadata: Properties }
): void => {
  const { input } = run.plan
  put(services, run, { status: "completed", input, output, metadata, title, time: endTime(services, run) })
}

/**
 * @category combinators
 * @since 0.1.0
 */
export const fail = (services: Services, run: ToolRun, error: string): Effect.Effect<ToolEnd> =>
  Effect.sync(() => {
    const { metadata } = run.part.state
    put(services, run, {
      status: "error",
      input: run.plan.input,
      error,
      ...(metadata !== undefined && { metadata }),
      time: endTime(services, run)
    })
    return "ended"
  })

/**
 * A person refused: without a message the turn ends here, with one the model is told.
 *
 * @category combinators
 * @since 0.1.0
 */
export const refuse = (
  services: Services,
  run: ToolRun,
  error: string,
  message: string | undefined
): Effect.Effect<ToolEnd> =>
  message === undefined
    ? Effect.as(fail(services, run, error), "refused")
    : fail(services, run, `${error.replace(/\.$/, "")} with the following feedback: ${message}`)

/**
 * What an abort leaves of a call: a shell command ends with what it had printed, everything else in an error.
 *
 * @category combinators
 * @since 0.1.0
 */
export const abort = (services: Services, run: ToolRun): void => {
  const { metadata, title } = run.part.state
  const printed = metadata?.["output"]
  if (run.plan.tool === "bash" && typeof printed === "string") {
    completeNow(services, run, {
      output: `${printed}\n\n<shell_metadata>\nUser aborted the command\n</shell_metadata>`,
      metadata: { output: printed, exit: null, truncated: false },
      title: run.plan.action._tag === "Result" ? run.plan.action.title : ""
    })
  } else {
    put(services, run, {
      status: "error",
      input: run.plan.input,
      ...(title !== undefined && { title }),
      error: "Tool execution aborted",
      metadata: { ...metadata, interrupted: true },
      time: endTime(services, run)
    })
  }
}

// internal

const endTime = (services: Services, run: ToolRun) => ({
  start: run.part.state.time?.start ?? services.state.now(),
  end: services.state.now()
})
