/**
 * The parts of an assistant message, as the domain and the store hold them.
 *
 * **Not responsibilities**: how a part grows while it streams (`Reply`), and how a server writes it on the wire
 * (`v1/`).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { MessageId, PartId, SessionId } from "./Ids.ts"
import { Tokens } from "./Usage.ts"

/**
 * Text of the model's answer.
 *
 * @category models
 * @since 0.1.0
 */
export const TextPart = Schema.Struct({
  type: Schema.Literal("text"),
  id: PartId,
  messageId: MessageId,
  text: Schema.String,
  isComplete: Schema.Boolean
})
/**
 * @category models
 * @since 0.1.0
 */
export interface TextPart extends Schema.Schema.Type<typeof TextPart> {}

/**
 * Whether a text shows nothing to a reader: it is empty, or has only spaces, line breaks and invisible characters.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isBlank = (text: string): boolean => !drawn.test(text)

/**
 * The model's reasoning, if the provider shows it.
 *
 * @category models
 * @since 0.1.0
 */
export const ReasoningPart = Schema.Struct({
  type: Schema.Literal("reasoning"),
  id: PartId,
  messageId: MessageId,
  text: Schema.String,
  isComplete: Schema.Boolean
})
/**
 * @category models
 * @since 0.1.0
 */
export interface ReasoningPart extends Schema.Schema.Type<typeof ReasoningPart> {}

/**
 * `pending`: the model is still writing the input, or a permission is open. `completed` and `error` are terminal.
 *
 * @category models
 * @since 0.1.0
 */
export const ToolStatus = Schema.Literals(["pending", "running", "completed", "error"])
/**
 * @category models
 * @since 0.1.0
 */
export type ToolStatus = typeof ToolStatus.Type

/**
 * The change that a tool call made to a file.
 *
 * **Details**
 *
 * `path` is the path that the tool gave, usually absolute. `change` is `unknown` if the tool does not tell whether the
 * file existed before. `additions` and `deletions` count lines, if the tool counted them. `contentKey` names the field
 * of the call's `input` that holds the whole file after the change.
 *
 * @category models
 * @since 0.1.0
 */
export const FileChange = Schema.Struct({
  path: Schema.String,
  change: Schema.Literals(["added", "modified", "deleted", "unknown"]),
  additions: Schema.optionalKey(Schema.Finite),
  deletions: Schema.optionalKey(Schema.Finite),
  contentKey: Schema.optionalKey(Schema.String)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface FileChange extends Schema.Schema.Type<typeof FileChange> {}

/**
 * One call of a tool.
 *
 * **Details**
 *
 * `tool` is the name that the model called first; OpenCode 1.x renames a call with bad arguments to `invalid`. `error`
 * holds at most {@link maxErrorLength} characters. `isRefused`: a person or a rule refused the call, and the refusal
 * stopped the agent. `isInterrupted`: the call failed because its session was stopped. `refusal` is the reason that the model was told; such a refusal alone does not stop the agent.
 * `subagent` is the session that a `task` tool opened. `files` are the files that the call itself changed. The field is
 * absent if they are unknown: while the call runs, for shell commands, and for third-party tools. Times are
 * milliseconds since the epoch, by the server's clock.
 *
 * @category models
 * @since 0.1.0
 */
export const ToolPart = Schema.Struct({
  type: Schema.Literal("tool"),
  id: PartId,
  messageId: MessageId,
  callId: Schema.String,
  tool: Schema.String,
  status: ToolStatus,
  input: Schema.Record(Schema.String, Schema.Unknown),
  title: Schema.optionalKey(Schema.String),
  output: Schema.optionalKey(Schema.String),
  error: Schema.optionalKey(Schema.String),
  isRefused: Schema.optionalKey(Schema.Boolean),
  isInterrupted: Schema.optionalKey(Schema.Boolean),
  refusal: Schema.optionalKey(Schema.String),
  metadata: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)),
  subagent: Schema.optionalKey(SessionId),
  files: Schema.optionalKey(Schema.Array(FileChange)),
  startedMillis: Schema.optionalKey(Schema.Finite),
  endedMillis: Schema.optionalKey(Schema.Finite)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface ToolPart extends Schema.Schema.Type<typeof ToolPart> {}

/**
 * A file in the answer.
 *
 * @category models
 * @since 0.1.0
 */
export const FilePart = Schema.Struct({
  type: Schema.Literal("file"),
  id: PartId,
  messageId: MessageId,
  mediaType: Schema.String,
  url: Schema.String,
  filename: Schema.optionalKey(Schema.String)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface FilePart extends Schema.Schema.Type<typeof FilePart> {}

/**
 * The end of one step (one call of the model): why it ended and what it used.
 *
 * @category models
 * @since 0.1.0
 */
export const StepFinishPart = Schema.Struct({
  type: Schema.Literal("step-finish"),
  id: PartId,
  messageId: MessageId,
  reason: Schema.String,
  cost: Schema.Finite,
  tokens: Tokens
})
/**
 * @category models
 * @since 0.1.0
 */
export interface StepFinishPart extends Schema.Schema.Type<typeof StepFinishPart> {}

/**
 * The files that a step changed, by path.
 *
 * @category models
 * @since 0.1.0
 */
export const PatchPart = Schema.Struct({
  type: Schema.Literal("patch"),
  id: PartId,
  messageId: MessageId,
  files: Schema.Array(Schema.String)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface PatchPart extends Schema.Schema.Type<typeof PatchPart> {}

/**
 * One item of the agent's to-do list. OpenCode 1.18 sends the statuses `pending`, `in_progress`, `completed` and
 * `cancelled`; the dialect translates other spellings.
 *
 * @category models
 * @since 0.1.0
 */
export const Todo = Schema.Struct({
  content: Schema.String,
  status: Schema.Literals(["pending", "in_progress", "completed", "cancelled"]),
  priority: Schema.optionalKey(Schema.String)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Todo extends Schema.Schema.Type<typeof Todo> {}

/**
 * The agent's to-do list. The server's stored messages have no such part, so the list exists in the stream only and
 * survives reconciliation.
 *
 * @category models
 * @since 0.1.0
 */
export const TodosPart = Schema.Struct({
  type: Schema.Literal("todos"),
  id: PartId,
  todos: Schema.Array(Todo)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface TodosPart extends Schema.Schema.Type<typeof TodosPart> {}

/**
 * A part that the server stores with one of its messages.
 *
 * @category models
 * @since 0.1.0
 */
export const WirePart = Schema.Union([TextPart, ReasoningPart, ToolPart, FilePart, StepFinishPart, PatchPart])
/**
 * @category models
 * @since 0.1.0
 */
export type WirePart = typeof WirePart.Type

/**
 * Any part of a reply.
 *
 * @category models
 * @since 0.1.0
 */
export const Part = Schema.Union([
  TextPart,
  ReasoningPart,
  ToolPart,
  FilePart,
  StepFinishPart,
  PatchPart,
  TodosPart
])
/**
 * @category models
 * @since 0.1.0
 */
export type Part = typeof Part.Type

/**
 * Whether the tool call has ended, with a result or an error.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isTerminalTool = (part: ToolPart): boolean => part.status === "completed" || part.status === "error"

/**
 * The most characters that are kept of a tool's error text. A failing command can print megabytes, and the server still
 * has the whole text.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxErrorLength = 2000

/**
 * The net change of a file in a turn, as the server reports it. `path` is relative to the root of the repository.
 *
 * @category models
 * @since 0.1.0
 */
export interface FileDiff {
  readonly path: string
  readonly change: FileChange["change"]
  readonly additions: number
  readonly deletions: number
}

// internal

/** U+2800 is the Braille pattern without dots, which shows nothing. */
const drawn = /[^\s\p{Cc}\p{Default_Ignorable_Code_Point}\u2800]/u
