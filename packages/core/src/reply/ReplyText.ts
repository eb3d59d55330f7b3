/**
 * The text of one part while it streams: deltas extend it, and the full text closes it.
 *
 * **Responsibilities**: the visible text, and its storage in memory.
 *
 * **Not responsibilities**: identifying the part, and whether it belongs to the turn (`ReplyParts`).
 *
 * @since 0.1.0
 */
import type { MessageId, PartId } from "../domain/Ids.ts"
import type { ReasoningPart, TextPart } from "../domain/Part.ts"
import type { PartDelta } from "../domain/TurnEvent.ts"
import { isStale } from "./EventOrder.ts"

/**
 * Text or reasoning. Its text is `head + tail`. Deltas are appended to `tail`, which is flattened and moved to `head`
 * once it has {@link pieceLength} characters. A text that `isHeld` ignores deltas and keeps its contents until it is
 * closed. `chunks` counts its deltas; it is undefined if some may have been missed.
 *
 * @category models
 * @since 0.1.0
 */
export interface TextEntry {
  readonly kind: "text"
  readonly id: PartId
  readonly messageId: MessageId
  readonly isOurs: boolean
  readonly type: "text" | "reasoning"
  readonly head: string
  readonly tail: string
  readonly isComplete: boolean
  readonly isHeld: boolean
  readonly chunks: number | undefined
  readonly eventId: string | undefined
}

/**
 * How many characters stay a chain of deltas before they are flattened into one string. A million deltas of 4
 * characters took 8 times the memory of their text as one chain, and 1.05 times as pieces (Node 24).
 *
 * @category constants
 * @since 0.1.0
 */
export const pieceLength = 4096

/** Makes the text of a part from the server's event. */
export const open = (part: TextPart | ReasoningPart, isOurs: boolean, eventId: string | undefined): TextEntry => ({
  kind: "text",
  id: part.id,
  messageId: part.messageId,
  isOurs,
  type: part.type,
  head: part.text,
  tail: "",
  isComplete: part.isComplete,
  isHeld: false,
  chunks: 0,
  eventId
})

/** Makes the text of a part from its first delta. Its type is a guess until the part arrives. */
export const openByDelta = ({ delta, eventId, field, messageId, partId }: PartDelta, isOurs: boolean): TextEntry => ({
  kind: "text",
  id: partId,
  messageId,
  isOurs,
  type: field === "reasoning" ? "reasoning" : "text",
  head: "",
  tail: delta,
  isComplete: false,
  isHeld: false,
  chunks: 1,
  eventId
})

/** Appends a delta if it is in order. */
export const append = (self: TextEntry, event: PartDelta): TextEntry => {
  const tail = self.tail + event.delta
  const isFull = tail.length >= pieceLength
  return {
    kind: "text",
    id: self.id,
    messageId: self.messageId,
    isOurs: self.isOurs,
    type: self.type,
    head: isFull ? self.head + flat(tail) : self.head,
    tail: isFull ? "" : tail,
    isComplete: false,
    isHeld: false,
    chunks: self.chunks === undefined ? undefined : self.chunks + 1,
    eventId: event.eventId ?? self.eventId
  }
}

/** Updates the text from the server's part: closes it, or corrects it. An open text never shrinks. */
export const update = (
  self: TextEntry,
  part: TextPart | ReasoningPart,
  eventId: string | undefined
): TextEntry => {
  if (self.isComplete) {
    const isNewer = self.eventId !== undefined && eventId !== undefined && eventId > self.eventId
    return isNewer && part.isComplete && !hasContents(self, part.text)
      ? { ...self, type: part.type, head: part.text, tail: "", eventId }
      : self
  }
  if (part.isComplete) {
    return {
      ...self,
      type: part.type,
      head: part.text,
      tail: "",
      isComplete: true,
      isHeld: false,
      eventId: eventId ?? self.eventId
    }
  }
  // The text was read from the store before the stream reported its opening, so nothing of it was missed.
  if (self.isHeld && self.eventId === undefined && eventId !== undefined && length(self) === 0) {
    return { ...self, type: part.type, head: part.text, isHeld: false, eventId }
  }
  // The store has "" for an open text until it ends (1.18.33), which must not shrink the visible text.
  if (part.text.length <= length(self) || isStale(self.eventId, eventId)) {
    return part.type === self.type ? self : { ...self, type: part.type }
  }
  return { ...self, type: part.type, head: part.text, tail: "", eventId: eventId ?? self.eventId }
}

/** Freezes an open text until it is closed. */
export const hold = (self: TextEntry): TextEntry =>
  self.isComplete || self.isHeld ? self : { ...self, isHeld: true, chunks: undefined }

/**
 * Empties the text of a failed try of the model. The server also stores it open and empty for ever (1.18.33), so the
 * later reconciliation changes nothing.
 */
export const takeBack = (self: TextEntry): TextEntry =>
  self.isComplete || (self.isHeld && length(self) === 0)
    ? self
    : { ...self, head: "", tail: "", isHeld: true, chunks: undefined }

/** The number of characters. */
export const length = (self: TextEntry): number => self.head.length + self.tail.length

/** The whole text. The cost grows with its length. */
export const contents = (self: TextEntry): string => self.head + self.tail

// internal

/** Compares the lengths first, because comparing the contents flattens the chain of deltas. */
const hasContents = (self: TextEntry, text: string): boolean => length(self) === text.length && contents(self) === text

/**
 * Flattens the chain of concatenations behind a string in place: V8 does so for a match. Reading a character also
 * works, but only until the code is optimised, which removes a read whose character nobody uses.
 */
const flat = (chain: string): string => {
  anything.test(chain)
  return chain
}
const anything = /^/
