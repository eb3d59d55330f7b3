/**
 * One part of a reply during the fold, of any type.
 *
 * **Responsibilities**: the growth of a tool call, and what an entry shows a reader. `ReplyText` does the same for
 * text.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import type { MessageId, PartId } from "../domain/Ids.ts"
import type { Part, Todo, ToolPart, WirePart } from "../domain/Part.ts"
import { isBlank, isTerminalTool, maxErrorLength } from "../domain/Part.ts"
import { isStale } from "./EventOrder.ts"
import type { TextEntry } from "./ReplyText.ts"
import * as ReplyText from "./ReplyText.ts"

/**
 * One part during the fold.
 *
 * @category models
 * @since 0.1.0
 */
export type Entry = TextEntry | PartEntry | TodosEntry

/**
 * A part that arrives whole: a tool call, a file, the end of a step.
 *
 * @category models
 * @since 0.1.0
 */
export interface PartEntry {
  readonly kind: "part"
  readonly id: PartId
  readonly messageId: MessageId
  readonly isOurs: boolean
  readonly part: WirePart
  readonly eventId: string | undefined
}

/**
 * The to-do list, which exists in the stream only.
 *
 * @category models
 * @since 0.1.0
 */
export interface TodosEntry {
  readonly kind: "todos"
  readonly id: PartId
  readonly isOurs: true
  readonly todos: ReadonlyArray<Todo>
  readonly eventId: string | undefined
}

/** Makes the entry of a streamed part. `before` is the entry that is already known, if any. */
export const open = (
  part: WirePart,
  isOurs: boolean,
  eventId: string | undefined,
  before?: PartEntry
): TextEntry | PartEntry => {
  if (part.type === "text" || part.type === "reasoning") return ReplyText.open(part, isOurs, eventId)
  const named = part.type === "tool" && before?.part.type === "tool" ? { ...part, tool: before.part.tool } : part
  return { kind: "part", id: part.id, messageId: part.messageId, isOurs, part: capped(named), eventId }
}

/**
 * Makes the entry of a stored part. The store lacks the streamed text of an open part (1.18.33), so such an entry is
 * held. It does not tell in how many chunks a text came.
 */
export const read = (part: WirePart, isOurs: boolean, before?: Entry): TextEntry | PartEntry => {
  const entry = open(part, isOurs, undefined, before?.kind === "part" ? before : undefined)
  if (entry.kind !== "text") return entry
  return before?.kind === "text" && entry.isComplete ? { ...entry, chunks: before.chunks } : ReplyText.hold(entry)
}

/** Updates an entry with the server's part; returns the entry itself if nothing is new. */
export const update = (
  self: TextEntry | PartEntry,
  part: WirePart,
  eventId: string | undefined
): TextEntry | PartEntry => {
  const isText = part.type === "text" || part.type === "reasoning"
  // A part that a delta opened may turn out not to be text; the opposite never happens.
  if (self.kind === "text") return isText ? ReplyText.update(self, part, eventId) : open(part, self.isOurs, eventId)
  return isText ? self : updatePart(self, part, eventId)
}

/** The part as a reader sees it. */
export const toPart = (self: Entry): Part => {
  switch (self.kind) {
    case "text":
      return {
        type: self.type,
        id: self.id,
        messageId: self.messageId,
        text: ReplyText.contents(self),
        isComplete: self.isComplete
      }
    case "part":
      return self.part
    case "todos":
      return { type: "todos", id: self.id, todos: self.todos }
  }
}

/** Whether a reader sees it as text of the answer. */
export const isVisibleText = (self: Entry): boolean =>
  self.isOurs && self.kind === "text" && self.type === "text" && ReplyText.length(self) > 0

/** Whether it is text of the answer that is not blank. The cost grows with the length of the text. */
export const hasWords = (self: Entry): boolean =>
  isVisibleText(self) && self.kind === "text" && !isBlank(ReplyText.contents(self))

/** Whether it adds nothing to the answer. */
export const isEmpty = (self: Entry): boolean => {
  if (!self.isOurs || self.kind === "todos") return true
  return self.kind === "text"
    ? ReplyText.length(self) === 0
    : self.part.type === "step-finish" || self.part.type === "patch"
}

// internal

const updatePart = (self: PartEntry, part: WirePart, eventId: string | undefined): PartEntry => {
  const before = self.part
  if (part.type !== "tool" || before.type !== "tool") {
    return Equal.equals(before, part) || isStale(self.eventId, eventId)
      ? self
      : { ...self, part, eventId: eventId ?? self.eventId }
  }
  if (rank(part) < rank(before) || isTerminalTool(before)) return self
  // Event ids are not strictly in the order of the stream (1.18.33), so they decide only between two states of the same
  // rank.
  if (rank(part) === rank(before) && isStale(self.eventId, eventId)) return self
  const merged = mergeTool(before, part)
  return Equal.equals(before, merged) ? self : { ...self, part: merged, eventId: eventId ?? self.eventId }
}

const rank = (part: ToolPart): number => (part.status === "pending" ? 0 : part.status === "running" ? 1 : 2)

/** Keeps the first name, fields that a later state leaves out, and the first input that is not empty. */
const mergeTool = (before: ToolPart, next: ToolPart): ToolPart =>
  capped({
    ...before,
    ...next,
    tool: before.tool,
    input: Object.keys(next.input).length === 0 || next.tool !== before.tool ? orInput(before, next) : next.input,
    ...(before.metadata !== undefined && { metadata: { ...before.metadata, ...next.metadata } })
  })

/**
 * A call that was renamed `invalid` has arguments that describe the mistake; the model's own arguments tell more, if
 * known.
 */
const orInput = (before: ToolPart, next: ToolPart) => Object.keys(before.input).length === 0 ? next.input : before.input

const capped = <P extends WirePart>(part: P): P =>
  part.type === "tool" && part.error !== undefined && part.error.length > maxErrorLength
    ? { ...part, error: `${part.error.slice(0, maxErrorLength - 1)}…` }
    : part
