/**
 * OpenCode's stored messages and sessions, as the domain knows them.
 *
 * @since 0.1.0
 */
import type { MessageId, PartId, SessionId } from "./Ids.ts"
import type { WirePart } from "./Part.ts"
import type { UpstreamFailure } from "./UpstreamFailure.ts"
import type { Usage } from "./Usage.ts"

/**
 * A user's message. Its parts are of no interest to a turn.
 *
 * **Details**
 *
 * When the context overflows, OpenCode writes user messages of its own: one that asks for a summary, and one that goes on
 * after it. `isContinuation` marks both: what answers them belongs to the prompt before. In a session that had something before the
 * prompt, it posts the prompt anew instead of going on, without any mark: that is told by its place (1.18.33).
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
}

/**
 * One step of an answer. A tool loop makes one assistant message for each step, all with the same `parentId`, the user
 * message they answer.
 *
 * **Details**
 *
 * `finish` is `tool-calls` for every step but the last, and for the last one too where a person refused the tool. After `unknown`, a
 * provider's reason of no known kind, the model is called again (1.18.33).
 * `completedMillis` is absent while the step runs, and stays absent when the server is killed during it. `isSummary`: the
 * step summed up the conversation because the context had overflowed; it says nothing to the user. `structured` is the
 * value that a `format` of JSON Schema asked for. `directory` is the session's folder on the server, `worktree` the root of the
 * repository that it lies in, `/` where it lies in none.
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
  readonly completedMillis: number | undefined
  readonly finish: string | undefined
  readonly error: UpstreamFailure | undefined
  readonly usage: Usage
  readonly isSummary: boolean
  readonly structured: unknown
  readonly directory: string | undefined
  readonly worktree: string | undefined
}

/**
 * Whether the message says of itself that no step follows it: it ended for another reason than to call tools or to make room in
 * the context, or it has the structured value that was asked for (its `finish` is `tool-calls` then, 1.18.33).
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
 * A stored message of which not enough can be read to know whose it is. It counts as nobody's. `field` is what is missing.
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
 * `at` is the number of readable parts before it, and `field` the path of what is missing. `isText`: it is, or may be, text of an
 * answer. `part` is the rest of it where only its id is missing. `isList`: it stands for all parts of the message.
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
 * A message with its parts, as the server stores it. `unread` are the parts that cannot be read.
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
 * A session of the server. `usage` is the session's own sum; the sessions of its subagents are not in it.
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
  readonly usage: Usage
}

/**
 * What a session is doing. The server lists only sessions that are not idle.
 *
 * @category models
 * @since 0.1.0
 */
export type SessionStatus =
  | { readonly type: "idle" }
  | { readonly type: "busy" }
  | { readonly type: "retry"; readonly attempt: number; readonly message: string; readonly nextMillis: number }
