/**
 * The tool calls of the fake OpenCode, from `pending` to their end, with their asks and subagents.
 *
 * **Responsibilities**: the order of a call's states.
 *
 * **Not responsibilities**: the outcome of a call (`Tool`), its start (`Step`).
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Edit from "../Edit.ts"
import type { Properties } from "../Events.ts"
import { decide } from "../Permission.ts"
import type { Services, ToolEnd, ToolRun } from "./Call.ts"
import { begin, complete, completeNow, fail, put, refuse } from "./Call.ts"
import { denial } from "./Rules.ts"
import type { Ask, AskResult, StoredSession } from "./State.ts"
import type { Plan, Task } from "./Tool.ts"

/**
 * Announces a call and runs the steps before `running`.
 *
 * **Details**
 *
 * In 1.18.33 a to-do list is written, a question asked, and a subagent's session opened before the part is `running`; the permission to
 * leave the directory is asked for afterwards.
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
      child: undefined,
      isAsking: false
    }
    state.putPart(session, run.part)
    return { run, finish: announce(services, run) }
  })

/**
 * Opens the subagent's session, if possible; the returned effect prompts it. A subtask also runs a step before the call ends, and has
 * other error texts.
 *
 * @category combinators
 * @since 0.1.0
 */
export const announceTask = (
  services: Services,
  run: ToolRun,
  task: Task,
  subtask: { readonly onEnd: () => void; readonly errorPrefix: string } = { onEnd: () => {}, errorPrefix: "" }
): Effect.Effect<ToolEnd> => {
  const child = services.openSubagent(run.session, task)
  if (typeof child === "string") {
    begin(services, run)
    return fail(services, run, child)
  }
  run.child = child
  const metadata = taskMetadata(run, child)
  begin(services, run, { title: task.title, metadata })
  return Effect.flatMap(services.runSubagent(child, task, run.session), (end) => {
    subtask.onEnd()
    switch (end._tag) {
      case "Answered":
        return complete(services, run, {
          output: `<task id="${child.info.id}" state="completed">\n<task_result>\n${end.text}\n</task_result>\n</task>`,
          title: task.title,
          metadata
        })
      case "Failed":
        return fail(
          services,
          run,
          `${subtask.errorPrefix}Subagent failed (task_id: ${child.info.id}): ${end.error}`
        )
      case "Cancelled":
        return fail(services, run, `${subtask.errorPrefix}Task cancelled`)
    }
  })
}

// internal

/** Runs the steps before the call is running; the returned effect does the rest. */
const announce = (services: Services, run: ToolRun): Effect.Effect<ToolEnd> => {
  const { state } = services
  const { action, permission } = run.plan
  switch (action._tag) {
    case "Question": {
      const { callID, messageID } = run.part
      const ask = state.ask("question", run.session, { messageID, callID }, { questions: action.questions })
      begin(services, run)
      return Effect.flatMap(answerOf(run, ask), (result) => {
        if (result._tag === "Rejected") {
          return refuse(services, run, "The user dismissed this question", result.message)
        }
        const answers = result._tag === "Answered" ? result.answers : []
        const lines = action.questions.map(({ question }, index) =>
          `"${question}"="${answers[index]?.length ? answers[index].join(", ") : "Unanswered"}"`
        )
        return complete(services, run, {
          output: `User has answered your questions: ${lines.join(", ")}. ` +
            "You can now continue with the user's answers in mind.",
          title: `Asked ${lines.length} question${lines.length === 1 ? "" : "s"}`,
          metadata: { answers }
        })
      })
    }
    case "Todos": {
      state.setTodos(run.session, action.todos)
      begin(services, run)
      return complete(services, run, {
        output: JSON.stringify(action.todos, null, 2),
        title: `${action.todos.filter(({ status }) => status !== "completed").length} todos`,
        metadata: { todos: action.todos }
      })
    }
    case "Structured": {
      begin(services, run)
      completeNow(services, run, {
        output: "Structured output captured successfully.",
        metadata: { valid: true },
        title: "Structured Output"
      })
      return Effect.succeed("ended")
    }
    default: {
      // A tool that reads files first begins to run, and then asks.
      if (action._tag === "Edit" || permission?.permission === "external_directory") {
        begin(services, run)
        return Effect.suspend(() => execute(services, run, askPermission(services, run)))
      }
      const permitted = askPermission(services, run)
      if (action._tag === "Task" && permitted === undefined) return announceTask(services, run, action)
      begin(services, run)
      return execute(services, run, permitted)
    }
  }
}

/** Asks for the permission of the call; `undefined` if it may run without. */
const askPermission = (services: Services, run: ToolRun): Effect.Effect<ToolEnd | "allowed"> | undefined => {
  const { permission } = run.plan
  if (permission === undefined) return undefined
  const ruleset = services.ruleset(run.session)
  const decision = decide(ruleset, permission)
  if (decision === "allow") return undefined
  if (decision === "deny") return fail(services, run, denial(ruleset, permission))
  const { isForced: _isForced, ...fields } = permission
  const { callID, messageID } = run.part
  const ask = services.state.ask("permission", run.session, { messageID, callID }, fields)
  return Effect.flatMap(answerOf(run, ask), (result): Effect.Effect<ToolEnd | "allowed"> =>
    result._tag === "Rejected"
      ? refuse(services, run, "The user rejected permission to use this specific tool call.", result.message)
      : Effect.succeed("allowed"))
}

const answerOf = (run: ToolRun, ask: Ask): Effect.Effect<AskResult> => {
  run.isAsking = true
  return Effect.map(Deferred.await(ask.result), (result) => {
    run.isAsking = false
    return result
  })
}

const execute = Effect.fnUntraced(function*(
  services: Services,
  run: ToolRun,
  permitted: Effect.Effect<ToolEnd | "allowed"> | undefined
): Effect.fn.Return<ToolEnd> {
  const end = permitted === undefined ? "allowed" : yield* permitted
  if (end !== "allowed") return end
  const { action, files, gate, hangs, progress } = run.plan
  const { state } = services
  for (const change of files) state.files.tell(run.session.directory, change)
  if (action._tag === "Task") return yield* announceTask(services, run, action)
  for (const { afterMillis, output } of progress) {
    if (afterMillis > 0) yield* Effect.sleep(afterMillis)
    put(services, run, { ...run.part.state, metadata: { ...run.part.state.metadata, output } })
  }
  if (gate !== undefined) yield* services.gate(gate)
  if (hangs) return yield* Effect.never
  switch (action._tag) {
    case "Result":
      return yield* complete(services, run, action)
    case "Edit":
      return yield* edit(services, run, action.edit)
    default:
      return yield* fail(services, run, action._tag === "Error" ? action.error : "")
  }
})

const edit = (services: Services, run: ToolRun, wanted: Edit.Edit): Effect.Effect<ToolEnd> =>
  Effect.suspend(() => {
    const { state } = services
    const edited = Edit.plan(state.files, run.session.directory, wanted)
    if (typeof edited === "string") return fail(services, run, edited)
    state.writeFiles(run.session, edited.changes)
    if (edited.running !== undefined) begin(services, run, { metadata: edited.running })
    return complete(services, run, edited)
  })

const taskMetadata = (run: ToolRun, child: StoredSession): Properties => ({
  parentSessionId: run.session.info.id,
  sessionId: child.info.id,
  ...(run.session.info.model !== undefined && {
    model: { modelID: run.session.info.model.id, providerID: run.session.info.model.providerID }
  })
})
