/**
 * The parts of an assistant message, as the domain knows them.
 *
 * Owns: the models, which are also what a store keeps. Does not own: how a part grows while it streams (`Reply`), or how
 * a server writes it on the wire (`v1/`).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { MessageId, PartId, SessionId } from "./Ids.ts"
import { Tokens } from "./Usage.ts"

/**
 * Text that the model said.
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
 * Whether a reader sees nothing of a text: it is empty, or holds only spaces, line breaks and characters that are not drawn.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isBlank = (text: string): boolean => !drawn.test(text)

/**
 * What the model thought, where the provider shows it.
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
 * `pending`: the model is still writing the input, or a permission is being asked. `completed` and `error` are terminal.
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
 * What a tool call did to a file.
 *
 * **Details**
 *
 * `path` is as the tool said it, mostly absolute. `change` is `unknown` where the tool does not tell whether the file was there before.
 * `additions` and `deletions` count lines, where the tool counted them. `contentKey` names the field of the call's `input` that is the
 * whole file after the change.
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
 * holds at most {@link maxErrorLength} characters. `isRefused`: a person, or a rule in their place, refused the call, and that stopped
 * the agent. `refusal` is the reason of a refusal that the model was told, and that alone does not stop it. `subagent` is the session that a `task` tool opened. `files` are
 * the files that the call itself changed; absent where that is not known: while it runs, and for shell commands and other people's tools.
 * Times are milliseconds since the epoch, by the server's clock.
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
 * A file that the answer carries.
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
 * One item of the agent's to-do list. OpenCode 1.18 sends the statuses `pending`, `in_progress`, `completed`,
 * `cancelled`; spellings of other versions are translated to these at the boundary.
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
 * The agent's to-do list. It exists in the stream only: the server's stored messages have no such part, so it survives
 * reconciliation.
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
 * Whether a part came from a stored message of the server (`wire`) or exists in the event stream only (`stream`).
 *
 * @category getters
 * @since 0.1.0
 */
export const provenance = (part: Part): "wire" | "stream" => (part.type === "todos" ? "stream" : "wire")

/**
 * Whether the tool call has ended, well or not.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isTerminalTool = (part: ToolPart): boolean => part.status === "completed" || part.status === "error"

/**
 * The most characters of a tool's error text that are kept: a failing command can print megabytes, and the whole text is
 * still on the server.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxErrorLength = 2000

/**
 * The net change of a file in the server's account of a turn. `path` is relative to the root of the repository.
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

/** U+2800 is a letter of Braille without a dot. */
const drawn = /[^\s\p{Cc}\p{Default_Ignorable_Code_Point}\u2800]/u
