/**
 * The reply of a turn: a pure fold of {@link TurnEvent}s.
 *
 * **Responsibilities**
 * - Parts in the order in which they were opened, text typed by the part that opened it.
 * - Only the assistant messages that answer the turn's prompt; the user's own parts, other prompts' answers and foreign
 *   sessions never change it.
 * - What is asked and not answered yet, the sessions of subagents, the model's retries, the upstream failure.
 * - Idempotence: folding an event a second time, at once or later, gives back the same reply (the same reference).
 * - The same shape from stored messages ({@link fromMessages}) and their authority at the end ({@link reconcile}).
 *
 * **Not responsibilities**: deciding that a turn has ended (`Drive`), reading messages (`Client`), time.
 *
 * **Event contract**
 * - A part is opened by `PartUpdated` with an empty text, grows by `PartDelta`, and is closed by a `PartUpdated` that
 *   carries the full text: a provider that drops the last deltas loses nothing.
 * - A delta counts only if its event id sorts after the part's last one, so doubled and late deltas are dropped (the deltas of
 *   one part are in order on 1.18.33). A delta lost that way is repaired when the part is closed.
 * - A delta before its part (older servers) opens a part typed by the delta's `field`; the part's type wins later.
 * - After a gap in the stream ({@link markGap}) a part that was open shows what it had until it is closed: text with a
 *   hole in it would be shown otherwise. So does a part that was read while it was open: what it had is not stored then.
 * - When the model is to be asked again, what is open is emptied: the failed try's text is in no record (1.18.33), and the
 *   next try says it anew in another part.
 *
 * **Example**
 * ```ts
 * const reply = events.reduce(Reply.apply, Reply.make({ sessionId, promptId }))
 * Reply.text(reply) // the answer so far
 * ```
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import type { MessageId, PartId, SessionId } from "./Ids.ts"
import type { Entry } from "./internal/ReplyEntry.ts"
import * as ReplyEntry from "./internal/ReplyEntry.ts"
import { applyMessage, continueTurn, removeMessage } from "./internal/ReplyMessages.ts"
import { applyDelta, applyPart, applyTodos, holdOpenText, removePart } from "./internal/ReplyParts.ts"
import { reconcile } from "./internal/ReplyReconcile.ts"
import {
  applyAsked,
  applyDeleted,
  applyFailure,
  applyResolved,
  applySession,
  applyStatus
} from "./internal/ReplySessions.ts"
import type { Reply } from "./internal/ReplyState.ts"
import { at, current, indexOf, make, withEntries } from "./internal/ReplyState.ts"
import * as ReplyText from "./internal/ReplyText.ts"
import type { Message } from "./Message.ts"
import type { Part, Todo, ToolPart } from "./Part.ts"
import { isTerminalTool } from "./Part.ts"
import type { TurnEvent } from "./TurnEvent.ts"
import * as Usage from "./Usage.ts"

export type { Entry, PartEntry, TodosEntry } from "./internal/ReplyEntry.ts"
export { merge, reconcile } from "./internal/ReplyReconcile.ts"
export { isInTree, syncAsks } from "./internal/ReplySessions.ts"
export type { Frame, MessageState, Reply, Retry, Subagent } from "./internal/ReplyState.ts"
export { make } from "./internal/ReplyState.ts"
export type { TextEntry } from "./internal/ReplyText.ts"
export { pieceLength } from "./internal/ReplyText.ts"

/**
 * What a reply amounts to. `text` is the text parts joined by a blank line, `tools` the calls that have ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReplyResult {
  readonly parts: ReadonlyArray<Part>
  readonly text: string
  readonly reasoning: string
  readonly tools: ReadonlyArray<ToolPart>
  readonly todos: ReadonlyArray<Todo>
  readonly usage: Usage.Usage
}

/**
 * The reply that the server's stored messages make, by the same fold as a stream.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromMessages = (
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  messages: ReadonlyArray<Message>
): Reply => reconcile(make(ids), messages)

/**
 * The reply as far as it was stored before: its parts, with what may have been missed since then.
 *
 * @category constructors
 * @since 0.1.0
 */
export const restore = (
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  parts: ReadonlyArray<Part>
): Reply => {
  const entries = parts.map((part): Entry =>
    part.type === "todos"
      ? { kind: "todos", id: part.id, isOurs: true, todos: part.todos, eventId: undefined }
      : ReplyEntry.open(part, true, undefined)
  )
  return markGap(withEntries(make(ids), entries))
}

/**
 * Folds one event. Gives back `self` for what changes nothing.
 *
 * @category folding
 * @since 0.1.0
 */
export const apply = (self: Reply, event: TurnEvent): Reply => {
  switch (event._tag) {
    case "PartDelta":
      return event.sessionId === self.sessionId ? applyDelta(self, event) : self
    case "PartUpdated":
      return event.sessionId === self.sessionId ? applyPart(self, event) : self
    case "MessageUpdated":
      return event.sessionId === self.sessionId ? applyMessage(self, event) : self
    case "TurnContinued":
      return event.sessionId === self.sessionId ? continueTurn(self, event.messageId) : self
    case "MessageRemoved":
      return event.sessionId === self.sessionId ? removeMessage(self, event.messageId) : self
    case "PartRemoved":
      return event.sessionId === self.sessionId ? removePart(self, event.partId) : self
    case "TodosUpdated":
      return event.sessionId === self.sessionId ? applyTodos(self, event) : self
    case "SessionFailed":
      return event.sessionId === self.sessionId ? applyFailure(self, event) : self
    case "StatusChanged":
      return applyStatus(self, event)
    case "SessionOpened":
      return applySession(self, event)
    case "SessionDeleted":
      return applyDeleted(self, event.sessionId)
    case "Asked":
      return applyAsked(self, event)
    case "AskResolved":
      return applyResolved(self, event)
  }
}

/**
 * Marks that events may have been missed: parts that are open keep what they show until they are closed.
 *
 * @category folding
 * @since 0.1.0
 */
export const markGap = (self: Reply): Reply => {
  const held = holdOpenText(self)
  return held.frame.hasGap ? held : { ...held, frame: { ...held.frame, hasGap: true } }
}

/**
 * The parts in their order.
 *
 * @category getters
 * @since 0.1.0
 */
export const parts = (self: Reply): ReadonlyArray<Part> =>
  current(self).filter((entry) => entry.isOurs).map(ReplyEntry.toPart)

/**
 * One part, by its id.
 *
 * @category getters
 * @since 0.1.0
 */
export const part = (self: Reply, id: PartId): Part | undefined => {
  const entry = at(self, indexOf(self, id))
  return entry?.isOurs === true ? ReplyEntry.toPart(entry) : undefined
}

/**
 * The text parts joined by a blank line. Costs the length of the text: do not call it for every delta.
 *
 * @category getters
 * @since 0.1.0
 */
export const text = (self: Reply): string => joined(self, "text")

/**
 * The reasoning parts joined by a blank line.
 *
 * @category getters
 * @since 0.1.0
 */
export const reasoning = (self: Reply): string => joined(self, "reasoning")

/**
 * Cost and tokens over all steps that have ended.
 *
 * @category getters
 * @since 0.1.0
 */
export const usage = (self: Reply): Usage.Usage => Usage.sum(parts(self).filter((part) => part.type === "step-finish"))

/**
 * The agent's to-do list.
 *
 * @category getters
 * @since 0.1.0
 */
export const todos = (self: Reply): ReadonlyArray<Todo> =>
  current(self).find((entry) => entry.kind === "todos")?.todos ?? []

/**
 * Everything that the reply amounts to.
 *
 * @category getters
 * @since 0.1.0
 */
export const result = (self: Reply): ReplyResult => {
  const all = parts(self)
  return {
    parts: all,
    text: text(self),
    reasoning: reasoning(self),
    tools: all.filter((part) => part.type === "tool").filter(isTerminalTool),
    todos: todos(self),
    usage: usage(self)
  }
}

/**
 * Whether a person is being waited for; deadlines stand still then.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isBlocked = (self: Reply): boolean => self.frame.asks.length > 0

/**
 * Whether the reply holds nothing that a reader would see: no text, no reasoning, no tool call, no file.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isEmpty = (self: Reply): boolean => current(self).every(ReplyEntry.isEmpty)

/**
 * Whether a reader would see the same: the same parts with the same contents in the same order.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSameContent = (self: Reply, that: Reply): boolean => Equal.equals(parts(self), parts(that))

// internal

const joined = (self: Reply, type: "text" | "reasoning"): string =>
  current(self)
    .flatMap((entry) => entry.isOurs && entry.kind === "text" && entry.type === type ? [ReplyText.contents(entry)] : [])
    .filter((text) => text !== "")
    .join("\n\n")
