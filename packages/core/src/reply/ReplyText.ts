/**
 * The text of one part while it streams: opened, grown by deltas, closed with the whole of it.
 *
 * Owns: what of it is shown, and how it is kept. Does not own: which part it is and whether it is the turn's (`ReplyParts`).
 *
 * @since 0.1.0
 */
import type { MessageId, PartId } from "../domain/Ids.ts"
import type { ReasoningPart, TextPart } from "../domain/Part.ts"
import type { PartDelta } from "../domain/TurnEvent.ts"
import { isStale } from "./EventOrder.ts"

/**
 * Text or reasoning. Its text is `head + tail`: deltas are appended to `tail`, which is made flat and moved to `head` once it
 * has {@link pieceLength} characters. What `isHeld` shows what it has until it is closed: deltas do not continue it.
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
  readonly eventId: string | undefined
}

/**
 * How many characters are kept as a chain of deltas before they are made one flat string. A million deltas of 4 characters
 * held 8 times their text as a chain alone, 1.05 times as pieces (Node 24).
 *
 * @category constants
 * @since 0.1.0
 */
export const pieceLength = 4096

/** The text of a part as the server tells it. */
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
  eventId
})

/** The text of a part of which only a delta is known. Its type is a guess until the part comes. */
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
  eventId
})

/** Appends a delta that is in its order. */
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
    eventId: event.eventId ?? self.eventId
  }
}

/** Takes what the server says of the part: closes it, or corrects it. An open text never shrinks. */
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
  // Read from the store before the stream told of its opening: nothing of it was missed.
  if (self.isHeld && self.eventId === undefined && eventId !== undefined && length(self) === 0) {
    return { ...self, type: part.type, head: part.text, isHeld: false, eventId }
  }
  // An open part's stored text is "" until it ends (1.18.33): what is shown never shrinks for it.
  if (part.text.length <= length(self) || isStale(self.eventId, eventId)) {
    return part.type === self.type ? self : { ...self, type: part.type }
  }
  return { ...self, type: part.type, head: part.text, tail: "", eventId: eventId ?? self.eventId }
}

/** Keeps an open text as it is until it is closed. */
export const hold = (self: TextEntry): TextEntry => self.isComplete || self.isHeld ? self : { ...self, isHeld: true }

/**
 * Takes back what a try of the model said that failed. The server's record keeps it like this too, open and empty for ever
 * (1.18.33), so that nothing changes when the record becomes the truth.
 */
export const takeBack = (self: TextEntry): TextEntry =>
  self.isComplete || (self.isHeld && length(self) === 0) ? self : { ...self, head: "", tail: "", isHeld: true }

/** How many characters there are. */
export const length = (self: TextEntry): number => self.head.length + self.tail.length

/** All of the text. Costs its length. */
export const contents = (self: TextEntry): string => self.head + self.tail

// internal

/** Lengths first: comparing the contents flattens the chain of deltas. */
const hasContents = (self: TextEntry, text: string): boolean => length(self) === text.length && contents(self) === text

/**
 * Matching makes V8 replace the chain of concatenations behind a string by one flat string, in place. So does reading a
 * character, but not for long: once this code is optimised, a character that nobody uses is not read.
 */
const flat = (chain: string): string => {
  anything.test(chain)
  return chain
}
const anything = /^/
