/**
 * How the parts of a reply come, grow and go.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import { PartId } from "../Ids.ts"
import type { WirePart } from "../Part.ts"
import type { PartDelta, PartUpdated, TodosUpdated } from "../TurnEvent.ts"
import { isStale } from "./EventOrder.ts"
import type { Entry, TodosEntry } from "./ReplyEntry.ts"
import * as ReplyEntry from "./ReplyEntry.ts"
import { newestMessage, ownerOf } from "./ReplyMessages.ts"
import type { Reply } from "./ReplyState.ts"
import { at, current, indexOf, mapEntries, push, replaceAt, withEntries, withFrame } from "./ReplyState.ts"
import * as ReplyText from "./ReplyText.ts"

/** More text of a part. This is the hot path: nearly every event is one of these. */
export const applyDelta = (self: Reply, event: PartDelta): Reply => {
  if (event.field !== "text" && event.field !== "reasoning") return self
  const { active } = self
  const index = active !== undefined && active.id === event.partId ? self.activeIndex : indexOf(self, event.partId)
  if (index === -1) return openByDelta(self, event)
  const entry = at(self, index)
  if (entry?.kind !== "text" || entry.isComplete || entry.isHeld || isStale(entry.eventId, event.eventId)) return self
  const isVisible = entry.isOurs && entry.type === "text" && event.delta !== ""
  return replaceAt(self, index, ReplyText.append(entry, event), self.hasText || isVisible)
}

/** A part that was opened, changed or closed. */
export const applyPart = (self: Reply, { eventId, part }: PartUpdated): Reply => {
  const index = indexOf(self, part.id)
  if (index === -1) {
    return isWanted(self, part)
      ? push(self, ReplyEntry.open(part, ownerOf(self, part.messageId) !== "unknown", eventId))
      : self
  }
  const before = at(self, index)
  if (before === undefined || before.kind === "todos") return self
  const entry = ReplyEntry.update(before, part, eventId)
  return entry === before ? self : replaceAt(self, index, entry, hasTextWith(self, index, entry))
}

/** The to-do list was written anew. */
export const applyTodos = (self: Reply, { eventId, todos }: TodosUpdated): Reply => {
  const id = PartId.make(`todos_${self.sessionId}`)
  const index = indexOf(self, id)
  const entry: TodosEntry = { kind: "todos", id, isOurs: true, todos, eventId }
  if (index === -1) return push(self, entry)
  const before = at(self, index)
  return before?.kind !== "todos" || isStale(before.eventId, eventId) || Equal.equals(before.todos, todos)
    ? self
    : replaceAt(self, index, entry, self.hasText)
}

/** Forgets a part. */
export const removePart = (self: Reply, partId: PartId): Reply =>
  indexOf(self, partId) === -1 ? self : withFrame(
    mapEntries(self, (entry) => (entry.id === partId ? undefined : entry)),
    { removed: [...self.frame.removed, partId] }
  )

/** A part that the stream missed, read from the store: behind the stored part before it, and its to-dos. */
export const insert = (self: Reply, part: WirePart, before: PartId | undefined): Reply => {
  if (!isWanted(self, part)) return self
  const entries = current(self)
  let index = before === undefined ? 0 : indexOf(self, before) + 1
  while (index > 0 && entries[index]?.kind === "todos") index++
  const entry = ReplyEntry.read(part, ownerOf(self, part.messageId) !== "unknown")
  return withEntries(self, entries.toSpliced(index, 0, entry))
}

/** Lets open text stand as it is until it is closed. */
export const holdOpenText = (self: Reply): Reply =>
  mapEntries(self, (entry) => (entry.kind === "text" ? ReplyText.hold(entry) : entry))

/** Takes back the open text of one part. */
export const takeBackPart = (self: Reply, partId: PartId): Reply =>
  mapEntries(self, (entry) => (entry.kind === "text" && entry.id === partId ? ReplyText.takeBack(entry) : entry))

/**
 * Takes back what the try of the model said that failed: the next one says it anew, in parts of its own. Which parts are those of
 * the next one, should they have come before this event, is told by their event ids.
 */
export const takeBackTry = (self: Reply, eventId: string | undefined): Reply => {
  const newest = newestMessage(self)?.id
  return mapEntries(
    self,
    (entry) =>
      entry.kind === "text" && entry.messageId === newest && !isStale(entry.eventId, eventId)
        ? ReplyText.takeBack(entry)
        : entry
  )
}

// internal

const openByDelta = (self: Reply, event: PartDelta): Reply => {
  const owner = ownerOf(self, event.messageId)
  if (owner === "foreign" || owner === "summary" || self.frame.removed.includes(event.partId)) return self
  // After a gap the opening of the part may be what was missed: its text would begin in the middle.
  return self.frame.hasGap ? self : push(self, ReplyText.openByDelta(event, owner === "ours"))
}

/** Whether a part that is not known yet may be shown, now or once its message is known. */
const isWanted = (self: Reply, part: WirePart): boolean => {
  const owner = ownerOf(self, part.messageId)
  return owner !== "foreign" && (owner !== "summary" || part.type === "step-finish") &&
    !self.frame.removed.includes(part.id)
}

const hasTextWith = (self: Reply, index: number, entry: Entry): boolean =>
  current(self).some((other, place) => ReplyEntry.isVisibleText(place === index ? entry : other))
