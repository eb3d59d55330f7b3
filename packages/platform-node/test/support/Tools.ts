/**
 * How a model calls the tools of OpenCode: both lines have the same, under other names.
 */
import type { ToolPart } from "@opencode-turn/core/Part"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import type { Schema } from "effect"
import type { Line } from "./OpencodeGlobalSetup.ts"

/** A call of a tool: a step of the model by itself, or a part of one. */
export interface Call {
  readonly tool: string
  readonly args: Schema.JsonObject
}

export interface Tools {
  readonly line: Line
  readonly names: { readonly shell: "bash" | "shell"; readonly task: "task" | "subagent" }
  readonly shell: (command: string) => Call
  /** Gives these steps to a subagent, under a prompt of this name. */
  readonly task: (name: string, steps: ReadonlyArray<Step>, options?: TaskOptions) => Call
  readonly write: (path: string, content: string) => Call
  readonly edit: (path: string, oldString: string, newString: string) => Call
  readonly read: (path: string) => Call
  /** How the model gives a requested value. */
  readonly value: (value: Schema.JsonObject) => Step
  /** What a command printed, without its last line break. 2.x adds a line with the exit code. */
  readonly printed: (tool: ToolPart | undefined) => string | undefined
}

export interface TaskOptions {
  /** `general` by default. */
  readonly agent?: string
  /** The session of an earlier subagent. Only 1.x goes on in it. */
  readonly session?: string
  /** Nobody waits for it. Only 2.x knows that. */
  readonly background?: boolean
}

const v1: Tools = {
  line: "1.x",
  names: { shell: "bash", task: "task" },
  shell: (command) => ({ tool: "bash", args: { command, description: "a command" } }),
  task: (name, steps, { agent = "general", session } = {}) => ({
    tool: "task",
    args: {
      description: name,
      prompt: ScriptedModel.prompt(name, steps),
      subagent_type: agent,
      ...(session !== undefined && { task_id: session })
    }
  }),
  write: (filePath, content) => ({ tool: "write", args: { filePath, content } }),
  edit: (filePath, oldString, newString) => ({ tool: "edit", args: { filePath, oldString, newString } }),
  read: (filePath) => ({ tool: "read", args: { filePath } }),
  value: (value) => ({ tool: "StructuredOutput", args: value }),
  printed: (tool) => tool?.output?.replace(/\n$/, "")
}

const v2: Tools = {
  line: "2.x",
  names: { shell: "shell", task: "subagent" },
  shell: (command) => ({ tool: "shell", args: { command } }),
  task: (name, steps, { agent = "general", background } = {}) => ({
    tool: "subagent",
    args: {
      agent,
      description: name,
      prompt: ScriptedModel.prompt(name, steps),
      ...(background !== undefined && { background })
    }
  }),
  write: (path, content) => ({ tool: "write", args: { path, content } }),
  edit: (path, oldString, newString) => ({ tool: "edit", args: { path, oldString, newString } }),
  read: (path) => ({ tool: "read", args: { path } }),
  value: (value) => ({ text: JSON.stringify(value) }),
  printed: (tool) => tool?.output?.replace(/\n?Command exited with code \d+\.$/, "")
}

/**
 * The configuration of a folder in which commands that begin with `echo asked` ask, and all others run. The beta of 2.x takes no rules for a
 * session.
 */
export const asking = { permission: { bash: { "*": "allow", "echo asked*": "ask" } } }

/** The tools of each line. */
export const of: Readonly<Record<Line, Tools>> = { "1.x": v1, "2.x": v2 }
