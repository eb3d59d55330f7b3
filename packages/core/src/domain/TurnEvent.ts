/**
 * What a server reports of its sessions while they run: a closed union.
 *
 * A dialect (`v1/`) translates the server's events to these. It counts and drops every other event.
 *
 * @since 0.1.0
 */
import type { Ask } from "./Ask.ts"
import type { AskId, MessageId, PartId, SessionId } from "./Ids.ts"
import type { MessageInfo, SessionStatus } from "./Message.ts"
import type { Todo, WirePart } from "./Part.ts"
import type { UpstreamFailure } from "./UpstreamFailure.ts"

/**
 * The fields of every event of a session. `eventId` sorts by the time of sending on the server; older servers send
 * none.
 *
 * @category models
 * @since 0.1.0
 */
export interface EventBase {
  readonly eventId: string | undefined
  readonly sessionId: SessionId
}

/** A session exists; `parentId` is set for a subagent's session. @category models @since 0.1.0 */
export interface SessionOpened extends EventBase {
  readonly _tag: "SessionOpened"
  readonly parentId: SessionId | undefined
  readonly title: string
  readonly agent: string | undefined
}

/** A session was deleted. @category models @since 0.1.0 */
export interface SessionDeleted extends EventBase {
  readonly _tag: "SessionDeleted"
}

/** A session became busy or idle, or waits before it calls its model again. @category models @since 0.1.0 */
export interface StatusChanged extends EventBase {
  readonly _tag: "StatusChanged"
  readonly status: SessionStatus
}

/**
 * A session failed: the model's provider, or OpenCode itself. `promptId` is the prompt that it worked for, where the server tells that: another
 * prompt that waits in the session has not failed.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionFailed extends EventBase {
  readonly _tag: "SessionFailed"
  readonly promptId?: MessageId | undefined
  readonly failure: UpstreamFailure
}

/** A message was created or changed. @category models @since 0.1.0 */
export interface MessageUpdated extends EventBase {
  readonly _tag: "MessageUpdated"
  readonly info: MessageInfo
}

/** A message was removed. @category models @since 0.1.0 */
export interface MessageRemoved extends EventBase {
  readonly _tag: "MessageRemoved"
  readonly messageId: MessageId
}

/**
 * A user message by which OpenCode itself continues the turn after a context overflow. @category models @since 0.1.0
 */
export interface TurnContinued extends EventBase {
  readonly _tag: "TurnContinued"
  readonly messageId: MessageId
}

/** A part was opened, changed or closed; `part` is the whole part. @category models @since 0.1.0 */
export interface PartUpdated extends EventBase {
  readonly _tag: "PartUpdated"
  readonly part: WirePart
}

/**
 * More text of a part. `field` is the server's word; the type of the part that was opened decides. @category models
 * @since 0.1.0
 */
export interface PartDelta extends EventBase {
  readonly _tag: "PartDelta"
  readonly messageId: MessageId
  readonly partId: PartId
  readonly field: string
  readonly delta: string
}

/** A part was removed. @category models @since 0.1.0 */
export interface PartRemoved extends EventBase {
  readonly _tag: "PartRemoved"
  readonly messageId: MessageId
  readonly partId: PartId
}

/** The to-do list of a session was replaced. @category models @since 0.1.0 */
export interface TodosUpdated extends EventBase {
  readonly _tag: "TodosUpdated"
  readonly todos: ReadonlyArray<Todo>
}

/** A session asks a person and waits. @category models @since 0.1.0 */
export interface Asked extends EventBase {
  readonly _tag: "Asked"
  readonly ask: Ask
}

/** An ask was answered or rejected, by this client or another one. @category models @since 0.1.0 */
export interface AskResolved extends EventBase {
  readonly _tag: "AskResolved"
  readonly askId: AskId
}

/**
 * An event of a session.
 *
 * @category models
 * @since 0.1.0
 */
export type TurnEvent =
  | SessionOpened
  | SessionDeleted
  | StatusChanged
  | SessionFailed
  | MessageUpdated
  | MessageRemoved
  | TurnContinued
  | PartUpdated
  | PartDelta
  | PartRemoved
  | TodosUpdated
  | Asked
  | AskResolved

/**
 * An unreadable event about an ask or its answer. No later event repeats it, so the client must read the server's lists
 * of asks instead. Without a session it may concern any session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Unread {
  readonly _tag: "Unread"
  readonly sessionId: SessionId | undefined
}

/**
 * One item of a server's event stream: an event of a session, or a sign of life.
 *
 * @category models
 * @since 0.1.0
 */
export type ServerEvent = TurnEvent | Unread | { readonly _tag: "Connected" } | { readonly _tag: "Heartbeat" }
