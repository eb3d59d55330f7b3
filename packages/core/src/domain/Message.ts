/**
 * OpenCode's stored messages and sessions, as the domain models them.
 *
 * @since 0.1.0
 */
import type { PermissionRule } from "./Ask.ts"
import type { MessageId, PartId, SessionId } from "./Ids.ts"
import type { WirePart } from "./Part.ts"
import type { ModelRef } from "./Prompt.ts"
import type { UpstreamFailure } from "./UpstreamFailure.ts"
import type { Usage } from "./Usage.ts"

/**
 * A user's message. A turn does not need its parts.
 *
 * **Details**
 *
 * When the context overflows, OpenCode writes two user messages of its own: one asks for a summary, the next one
 * continues the turn. `isContinuation` marks both; their answers belong to the prompt before them. If the session had
 * messages before the prompt, OpenCode posts the prompt again without any mark instead of continuing (1.18.33). The
 * fold recognises that message by its place, unless the server tells that it is a prompt (`isPrompt`, 2.x).
 *
 * @category models
 * @since 0.1.0
 */
export interface UserMessage {
  readonly role: "user"
  readonly id: MessageId
  readonly sessionId: SessionId
  readonly createdMillis: number
  readonly isContinuation: boolean
  readonly isPrompt?: boolean
}

/**
 * One step of an answer. A tool loop makes one assistant message for each step. All of them have the same `parentId`:
 * the user message that they answer.
 *
 * **Details**
 *
 * `finish` is `tool-calls` for every step but the last, and also for the last one when a person refused the tool. After
 * `unknown`, which stands for an unrecognised reason of the provider, OpenCode calls the model again (1.18.33).
 * `calledMillis` is when the model was called, where the message was created only when the model began to answer (2.x).
 * `completedMillis` is absent while the step runs, and stays absent if the server is killed during it. `isSummary`
 * marks a step that summed up the conversation because the context had overflowed; its text is not for the user.
 * `structured` is the value for a `format` of JSON Schema. `directory` is the session's folder on the server.
 * `worktree` is the root of its repository, or `/` outside of any repository. `agent` and `model` say who answered.
 *
 * @category models
 * @since 0.1.0
 */
export interface AssistantMessage {
  readonly role: "assistant"
  readonly id: MessageId
  readonly sessionId: SessionId
  readonly parentId: MessageId
  readonly createdMillis: number
  readonly calledMillis?: number
  readonly completedMillis: number | undefined
  readonly finish: string | undefined
  readonly error: UpstreamFailure | undefined
  readonly usage: Usage
  readonly isSummary: boolean
  readonly structured: unknown
  readonly directory: string | undefined
  readonly worktree: string | undefined
  readonly agent: string | undefined
  readonly model: ModelRef | undefined
}

/**
 * Whether the message itself shows that no step follows it. It ended for a reason other than tool calls or making room
 * in the context, or it has the structured value (its `finish` is then `tool-calls`, 1.18.33).
 *
 * @category predicates
 * @since 0.1.0
 */
export const isLast = ({ completedMillis, finish, isSummary, structured }: AssistantMessage): boolean =>
  !isSummary && completedMillis !== undefined &&
  (structured !== undefined || (finish !== undefined && finish !== "tool-calls" && finish !== "unknown"))

/**
 * @category models
 * @since 0.1.0
 */
export type MessageInfo = UserMessage | AssistantMessage

/**
 * A stored message that lacks the fields that tell whose it is. It belongs to no turn. `field` names the missing field.
 *
 * @category models
 * @since 0.1.0
 */
export interface OpaqueMessage {
  readonly role: "opaque"
  readonly id: MessageId
  readonly sessionId: SessionId
  readonly createdMillis: number
  readonly field: string
}

/**
 * @category models
 * @since 0.1.0
 */
export type StoredInfo = MessageInfo | OpaqueMessage

/**
 * A stored part that cannot be read.
 *
 * **Details**
 *
 * `at` is the number of readable parts before it, and `field` is the path of the missing field. `isText` marks a part
 * that is, or may be, text of an answer. `part` holds the rest of a part that lacks only its id. `isList` marks an
 * unreadable list of parts, which stands for all parts of the message.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnreadPart {
  readonly at: number
  readonly field: string
  readonly id: PartId | undefined
  readonly isText: boolean
  readonly part: WirePart | undefined
  readonly isList?: boolean
}

/**
 * A message with its parts, as the server stores it. `unread` are the parts that could not be read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Message {
  readonly info: StoredInfo
  readonly parts: ReadonlyArray<WirePart>
  readonly unread?: ReadonlyArray<UnreadPart>
  /** The fields whose values were clamped or cut. */
  readonly altered?: ReadonlyArray<string>
}

/**
 * A session of the server. `usage` is the session's own sum, without the sessions of its subagents. `permission` are its own rules. `model`
 * is that of its last prompt. `revertedFrom` is the first message that a revert hides; the next prompt deletes it and those after it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Session {
  readonly id: SessionId
  readonly parentId: SessionId | undefined
  readonly title: string
  readonly agent: string | undefined
  readonly directory: string
  readonly createdMillis: number
  readonly updatedMillis: number
  readonly permission: ReadonlyArray<PermissionRule>
  readonly metadata: Readonly<Record<string, unknown>>
  readonly usage: Usage
  readonly model: ModelRef | undefined
  readonly revertedFrom: MessageId | undefined
}

/**
 * The state of a session. The server lists only sessions that are not idle.
 *
 * @category models
 * @since 0.1.0
 */
export type SessionStatus =
  | { readonly type: "idle" }
  | { readonly type: "busy" }
  | { readonly type: "retry"; readonly attempt: number; readonly message: string; readonly nextMillis: number }
