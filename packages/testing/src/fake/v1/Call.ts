/**
 * One tool call of the fake OpenCode: its part, the part's states, and the ends of a call.
 *
 * **Responsibilities**: the shapes of the states.
 *
 * **Not responsibilities**: the order of the states (`ToolRun`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Properties } from "../Events.ts"
import type * as Permission from "../Permission.ts"
import type { State, StoredSession } from "./State.ts"
import type { Plan, Task } from "./Tool.ts"
import type { ToolPart, ToolState } from "./Wire.ts"

/**
 * The services that a call needs from the rest of the server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Services {
  readonly state: State
  /** The rules of a session. */
  readonly ruleset: (session: StoredSession) => Permission.Ruleset
  readonly gate: (name: string) => Effect.Effect<void>
  /** The session of a task: a new one, or the one that the task names. A text says why there is none. */
  readonly openSubagent: (parent: StoredSession, task: Task) => StoredSession | string
  /** Prompts a subagent and waits for the end of its turn. An interruption aborts the subagent. */
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
 * A running call.
 *
 * @category models
 * @since 0.1.0
 */
export interface ToolRun {
  /** Its last state. */
  part: ToolPart
  readonly plan: Plan
  readonly session: StoredSession
  /** The subagent's session, once it is open. */
  child: StoredSession | undefined
  /** Whether the call waits for a person. */
  isAsking: boolean
}

/**
 * The end of a call. A refusal stops the turn.
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
 * Begins to run the call. An unavailable tool is named `invalid` from here on.
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
 * Completes, at once, a call of a tool whose result is never cut.
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
 * Ends a call that a person refused. Without a message the turn stops; a message is passed on to the model.
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
 * Ends an aborted call: a shell command keeps its output, and every other call fails.
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
