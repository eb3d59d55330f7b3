/**
 * Subtasks of the fake OpenCode: parts of a prompt that the server gives to a subagent itself, before the model is asked (1.18.33).
 *
 * Owns the message that holds the task, and the order of what happens to it. Who runs the subagent is `FakeSubagent`'s.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { StoredSession } from "../state/State.ts"
import type { Assistant, Message, SubtaskPart } from "../state/Wire.ts"
import type * as FakeCall from "../tools/Call.ts"
import type { Task } from "../tools/Tool.ts"
import { announceTask } from "../tools/ToolRun.ts"

/**
 * The subtask that is due: the last one since an answer was finished. Others are never run, and one that broke is due for ever.
 *
 * @category getters
 * @since 0.1.0
 */
export const due = (messages: ReadonlyArray<Message>): SubtaskPart | undefined => {
  const finished = messages.findLastIndex(({ info }) => info.role === "assistant" && info.finish !== undefined)
  const parts = messages.slice(finished + 1).flatMap(({ parts }) => parts)
  return parts.flatMap((part) => (part.type === "subtask" ? [part] : [])).at(-1)
}

/**
 * The text that goes on after a subtask with a command: a user message of the server's own.
 *
 * @category constants
 * @since 0.1.0
 */
export const continuation = "Summarize the task tool output above and continue with your task."

/**
 * A subtask in the message `info`, which is stored already: its call runs from the start. `finish` needs an agent that exists.
 *
 * @category constructors
 * @since 0.1.0
 */
export const start = (
  services: FakeCall.Services,
  session: StoredSession,
  info: Assistant,
  { agent, command, description, model, prompt }: SubtaskPart
): { readonly call: FakeCall.ToolRun; readonly finish: Effect.Effect<void> } => {
  const { state } = services
  const input = { prompt, description, subagent_type: agent, ...(command !== undefined && { command }) }
  const task: Task = { agent, prompt, title: description, model }
  const id = state.ids.ascending("prt")
  const call: FakeCall.ToolRun = {
    part: {
      id,
      messageID: info.id,
      sessionID: session.info.id,
      type: "tool",
      // Looks like a ULID, which OpenCode's is.
      callID: `01${id.slice(-24)}`.toUpperCase(),
      tool: "task",
      state: { status: "running", input, time: { start: state.now() } }
    },
    plan: {
      tool: "task",
      input,
      permission: undefined,
      action: { _tag: "Task", ...task },
      progress: [],
      gate: undefined,
      hangs: false,
      files: []
    },
    session,
    child: undefined,
    isAsking: false
  }
  state.putPart(session, call.part)
  return {
    call,
    finish: Effect.suspend(() =>
      announceTask(services, call, task, {
        // The message is complete before its part is.
        onEnd: () =>
          state.putAssistant(session, {
            ...info,
            finish: "tool-calls",
            time: { ...info.time, completed: state.now() }
          }),
        errorPrefix: "Tool execution failed: "
      })
    )
  }
}
