/**
 * What a server tells of its sessions while they run: a closed union.
 *
 * The events of a dialect are translated to these at its boundary (`v1/`); what is not in the union is counted and
 * dropped there.
 *
 * @since 0.1.0
 */
import type { Ask } from "./Ask.ts"
import type { AskId, MessageId, PartId, SessionId } from "./Ids.ts"
import type { MessageInfo, SessionStatus } from "./Message.ts"
import type { Todo, WirePart } from "./Part.ts"
import type { UpstreamFailure } from "./UpstreamFailure.ts"

/**
 * What every event of a session carries. `eventId` sorts by the server's time of sending; older servers send none.
 *
 * @category models
 * @since 0.1.0
 */
export interface EventBase {
  readonly eventId: string | undefined
  readonly sessionId: SessionId
}

/** A session exists, and whose subagent it is. @category models @since 0.1.0 */
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

/** A session became busy or idle, or waits to ask its model again. @category models @since 0.1.0 */
export interface StatusChanged extends EventBase {
  readonly _tag: "StatusChanged"
  readonly status: SessionStatus
}

/** A session failed: the model's provider, or OpenCode itself. @category models @since 0.1.0 */
export interface SessionFailed extends EventBase {
  readonly _tag: "SessionFailed"
  readonly failure: UpstreamFailure
}

/** A message was made or changed. @category models @since 0.1.0 */
export interface MessageUpdated extends EventBase {
  readonly _tag: "MessageUpdated"
  readonly info: MessageInfo
}

/** A message was removed. @category models @since 0.1.0 */
export interface MessageRemoved extends EventBase {
  readonly _tag: "MessageRemoved"
  readonly messageId: MessageId
}

/** A user message that OpenCode wrote itself to go on with the turn after its context had overflowed. @category models @since 0.1.0 */
export interface TurnContinued extends EventBase {
  readonly _tag: "TurnContinued"
  readonly messageId: MessageId
}

/** A part was opened, changed or closed; `part` is the whole of it. @category models @since 0.1.0 */
export interface PartUpdated extends EventBase {
  readonly _tag: "PartUpdated"
  readonly part: WirePart
}

/** More text of a part. `field` is what the server says; the part that was opened decides its type. @category models @since 0.1.0 */
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

/** The to-do list of a session was written anew. @category models @since 0.1.0 */
export interface TodosUpdated extends EventBase {
  readonly _tag: "TodosUpdated"
  readonly todos: ReadonlyArray<Todo>
}

/** A session asks something and waits. @category models @since 0.1.0 */
export interface Asked extends EventBase {
  readonly _tag: "Asked"
  readonly ask: Ask
}

/** A request was answered or rejected, by us or by somebody else. @category models @since 0.1.0 */
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
 * An event that the server must be asked about, because it cannot be read and no later event repeats it: somebody asks
 * something, or was answered. Without a session it may be anybody's.
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
