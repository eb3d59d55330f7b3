/**
 * One tool call of the fake OpenCode, from `pending` to its end, with what it asks and the subagent it opens.
 *
 * Owns the states of a tool part and their order. What the call leads to is `FakeTool`'s, when it begins `FakeTurn`'s.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { decide } from "./FakePermission.ts"
import type { AskResult, FakeState, StoredSession } from "./FakeState.ts"
import type { Plan } from "./FakeTool.ts"

import type { PermissionRule, Properties, ToolPart, ToolState } from "./FakeWire.ts"

/**
 * What a call needs from the rest of the server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Services {
  readonly state: FakeState
  /** Rules for all sessions, and what was allowed for always since. */
  readonly rules: (session: StoredSession) => ReadonlyArray<PermissionRule>
  readonly gate: (name: string) => Effect.Effect<void>
  /** Opens a subagent's session. */
  readonly openSubagent: (parent: StoredSession, title: string, agent: string) => StoredSession
  /** Prompts a subagent and waits for the end of its turn. Interrupted, it aborts the subagent. */
  readonly runSubagent: (
    child: StoredSession,
    prompt: string,
    agent: string,
    parent: StoredSession
  ) => Effect.Effect<{ readonly text: string; readonly error: string | undefined }>
}

/**
 * A call under way. `part` is its last state.
 *
 * @category models
 * @since 0.1.0
 */
export interface ToolRun {
  part: ToolPart
  readonly plan: Plan
  readonly session: StoredSession
  child: StoredSession | undefined
}

/**
 * How a call ended. After a refusal the turn does not go on.
 *
 * @category models
 * @since 0.1.0
 */
export type ToolEnd = "ended" | "refused"

/**
 * Announces a call, and what it does before it runs.
 *
 * **Details**
 *
 * The order of 1.18.33: a to-do list is written, a question asked and a subagent's session opened before the part is `running`, a
 * permission is asked for after it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const start = (
  services: Services,
  session: StoredSession,
  messageID: string,
  callID: string,
  requested: string,
  plan: Plan
): Effect.Effect<{ readonly run: ToolRun; readonly finish: Effect.Effect<ToolEnd> }> =>
  Effect.sync(() => {
    const { state } = services
    const run: ToolRun = {
      part: {
        id: state.ids.ascending("prt"),
        messageID,
        sessionID: session.info.id,
        type: "tool",
        tool: requested,
        callID,
        state: { status: "pending", input: {}, raw: "" }
      },
      plan,
      session,
      child: undefined
    }
    state.putPart(session, run.part)
    const { action } = plan
    const begin = (fields: Partial<ToolState> = {}) => {
      run.part = { ...run.part, tool: plan.tool }
      put(services, run, { status: "running", input: plan.input, ...fields, time: { start: state.now() } })
    }
    switch (action._tag) {
      case "Question": {
        const ask = state.ask("question", session, { messageID, callID }, plan.input)
        begin()
        return {
          run,
          finish: Effect.flatMap(Deferred.await(ask.result), (result) => {
            if (result._tag === "Rejected") {
              return refuse(services, run, "The user dismissed this question", result.message)
            }
            const answers = result._tag === "Answered" ? result.answers : []
            const lines = action.questions.map(({ question }, index) =>
              `"${question}"="${answers[index]?.join(", ") || "Unanswered"}"`
            )
            return complete(services, run, {
              output: `User has answered your questions: ${lines.join(", ")}. ` +
                "You can now continue with the user's answers in mind.",
              title: `Asked ${lines.length} question${lines.length === 1 ? "" : "s"}`,
              metadata: { answers }
            })
          })
        }
      }
      case "Todos": {
        state.setTodos(session, action.todos)
        begin()
        return {
          run,
          finish: complete(services, run, {
            output: JSON.stringify(action.todos, null, 2),
            title: `${action.todos.filter(({ status }) => status !== "completed").length} todos`,
            metadata: { todos: action.todos }
          })
        }
      }
      case "Task": {
        const child = services.openSubagent(session, action.title, action.agent)
        run.child = child
        const metadata = taskMetadata(run, child)
        begin({ title: action.title, metadata })
        return { run, finish: runTask(services, run, child, action, metadata) }
      }
      default: {
        // A tool that looks at files first begins to run, and then asks.
        const asksFirst = plan.permission?.permission !== "external_directory"
        const asked = asksFirst ? askPermission(services, run) : undefined
        begin()
        return {
          run,
          finish: Effect.suspend(() => execute(services, run, asksFirst ? asked : askPermission(services, run)))
        }
      }
    }
  })

/**
 * What an abort leaves of a call: a shell command ends with what it had printed, everything else in an error.
 *
 * @category combinators
 * @since 0.1.0
 */
export const abort = (services: Services, run: ToolRun): void => {
  const { metadata, time } = run.part.state
  const printed = metadata?.["output"]
  const ended = { start: time?.start ?? services.state.now(), end: services.state.now() }
  if (run.plan.tool === "bash" && typeof printed === "string") {
    const output = `${printed}\n\n<shell_metadata>\nUser aborted the command\n</shell_metadata>`
    put(services, run, {
      status: "completed",
      input: run.plan.input,
      output,
      metadata: { output: printed, exit: null, truncated: false },
      title: run.plan.action._tag === "Result" ? run.plan.action.title : "",
      time: ended
    })
  } else {
    const { title } = run.part.state
    put(services, run, {
      status: "error",
      input: run.plan.input,
      ...(title !== undefined && { title }),
      error: "Tool execution aborted",
      metadata: { ...metadata, interrupted: true },
      time: ended
    })
  }
}

/**
 * Whether the call has ended.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isEnded = ({ part }: ToolRun): boolean =>
  part.state.status === "completed" || part.state.status === "error"

// internal

const put = ({ state }: Services, run: ToolRun, next: ToolState): void => {
  run.part = { ...run.part, state: next }
  state.putPart(run.session, run.part)
}

const endTime = (services: Services, run: ToolRun) => ({
  start: run.part.state.time?.start ?? services.state.now(),
  end: services.state.now()
})

const complete = (
  services: Services,
  run: ToolRun,
  result: { readonly output: string; readonly title: string; readonly metadata: Properties }
): Effect.Effect<ToolEnd> =>
  Effect.sync(() => {
    put(services, run, {
      status: "completed",
      input: run.plan.input,
      output: result.output,
      metadata: { ...result.metadata, truncated: false },
      title: result.title,
      time: endTime(services, run)
    })
    return "ended"
  })

const fail = (services: Services, run: ToolRun, error: string): Effect.Effect<ToolEnd> =>
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

const refuse = (
  services: Services,
  run: ToolRun,
  error: string,
  message: string | undefined
): Effect.Effect<ToolEnd> =>
  message === undefined
    ? Effect.as(fail(services, run, error), "refused")
    : fail(services, run, `${error.replace(/\.$/, "")} with the following feedback: ${message}`)

/** Asks for the permission that the call needs, if it needs one; `undefined` where it may run without. */
const askPermission = (services: Services, run: ToolRun): Deferred.Deferred<AskResult> | "denied" | undefined => {
  const { permission } = run.plan
  const decision = permission === undefined ? "allow" : decide(services.rules(run.session), permission)
  if (permission === undefined || decision === "allow") return undefined
  if (decision === "deny") return "denied"
  const { isForced: _isForced, ...fields } = permission
  const { callID, messageID } = run.part
  return services.state.ask("permission", run.session, { messageID, callID }, fields).result
}

const execute = Effect.fnUntraced(function*(
  services: Services,
  run: ToolRun,
  asked: ReturnType<typeof askPermission>
): Effect.fn.Return<ToolEnd> {
  const { action, gate, hangs, progress } = run.plan
  if (asked === "denied") {
    return yield* fail(services, run, "The user has specified a rule which prevents you from using this tool call.")
  }
  if (asked !== undefined) {
    const result = yield* Deferred.await(asked)
    if (result._tag === "Rejected") {
      const error = "The user rejected permission to use this specific tool call."
      return yield* refuse(services, run, error, result.message)
    }
  }
  for (const { afterMillis, output } of progress) {
    if (afterMillis > 0) yield* Effect.sleep(afterMillis)
    put(services, run, { ...run.part.state, metadata: { ...run.part.state.metadata, output } })
  }
  if (gate !== undefined) yield* services.gate(gate)
  if (hangs) return yield* Effect.never
  return action._tag === "Result"
    ? yield* complete(services, run, action)
    : yield* fail(services, run, action._tag === "Error" ? action.error : "")
})

const taskMetadata = (run: ToolRun, child: StoredSession): Properties => ({
  parentSessionId: run.session.info.id,
  sessionId: child.info.id,
  ...(run.session.info.model !== undefined && {
    model: { modelID: run.session.info.model.id, providerID: run.session.info.model.providerID }
  })
})

const runTask = Effect.fnUntraced(function*(
  services: Services,
  run: ToolRun,
  child: StoredSession,
  { agent, prompt, title }: { readonly agent: string; readonly prompt: string; readonly title: string },
  metadata: Properties
): Effect.fn.Return<ToolEnd> {
  const { error, text } = yield* services.runSubagent(child, prompt, agent, run.session)
  return yield* error === undefined
    ? complete(services, run, {
      output: `<task id="${child.info.id}" state="completed">\n<task_result>\n${text}\n</task_result>\n</task>`,
      title,
      metadata
    })
    : fail(services, run, `Subagent failed (task_id: ${child.info.id}): ${error}`)
})
