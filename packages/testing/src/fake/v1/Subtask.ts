/**
 * Subtasks of the fake OpenCode: parts of a prompt that the server gives to a subagent before it calls the model (1.18.33).
 *
 * **Responsibilities**: the message that holds the task, and the order of its events.
 *
 * **Not responsibilities**: running the subagent (`Subagent`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Call from "./Call.ts"
import type { StoredSession } from "./State.ts"
import type { Task } from "./Tool.ts"
import { announceTask } from "./ToolRun.ts"
import type { Assistant, Message, SubtaskPart } from "./Wire.ts"

/**
 * The due subtask: the last one since the last finished answer. Others never run, and one that was interrupted stays due forever.
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
 * The text that continues after a subtask with a command: a user message that the server writes.
 *
 * @category constants
 * @since 0.1.0
 */
export const continuation = "Summarize the task tool output above and continue with your task."

/**
 * Starts a subtask in the stored message `info`; its call runs at once. `finish` needs an agent that exists.
 *
 * @category constructors
 * @since 0.1.0
 */
export const start = (
  services: Call.Services,
  session: StoredSession,
  info: Assistant,
  { agent, command, description, model, prompt }: SubtaskPart
): { readonly call: Call.ToolRun; readonly finish: Effect.Effect<void> } => {
  const { state } = services
  const input = { prompt, description, subagent_type: agent, ...(command !== undefined && { command }) }
  const task: Task = { agent, prompt, title: description, model }
  const id = state.ids.ascending("prt")
  const call: Call.ToolRun = {
    part: {
      id,
      messageID: info.id,
      sessionID: session.info.id,
      type: "tool",
      // It has the form of a ULID, as OpenCode's id does.
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
        // The message completes before its part does.
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
