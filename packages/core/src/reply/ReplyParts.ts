/**
 * Adds, grows and removes the parts of a reply.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import * as HashSet from "effect/HashSet"
import { PartId, type SessionId } from "../domain/Ids.ts"
import type { WirePart } from "../domain/Part.ts"
import type { PartDelta, PartUpdated, TodosUpdated } from "../domain/TurnEvent.ts"
import { isStale } from "./EventOrder.ts"
import type { Entry, TodosEntry } from "./ReplyEntry.ts"
import * as ReplyEntry from "./ReplyEntry.ts"
import { newestMessage, ownerOf } from "./ReplyMessages.ts"
import type { Reply } from "./ReplyState.ts"
import {
  current,
  entriesOf,
  entryOf,
  mapEntries,
  mapSome,
  push,
  replace,
  withEntries,
  withSession
} from "./ReplyState.ts"
import * as ReplyText from "./ReplyText.ts"

/** Applies a delta. This is the hot path: nearly every event is a delta. */
export const applyDelta = (self: Reply, event: PartDelta): Reply => {
  if (event.field !== "text" && event.field !== "reasoning") return self
  const entry = entryOf(self, event.partId)
  if (entry === undefined) return openByDelta(self, event)
  if (entry.kind !== "text" || entry.isComplete || entry.isHeld || isStale(entry.eventId, event.eventId)) return self
  return replace(self, entry, ReplyText.append(entry, event))
}

/** Applies a part that was opened, changed or closed. */
export const applyPart = (self: Reply, { eventId, part }: PartUpdated): Reply => {
  const before = entryOf(self, part.id)
  if (before === undefined) {
    return isWanted(self, part)
      ? push(self, ReplyEntry.open(part, ownerOf(self, part.messageId) !== "unknown", eventId))
      : self
  }
  if (before.kind === "todos") return self
  const entry = ReplyEntry.update(before, part, eventId)
  return entry === before ? self : replace(self, before, entry)
}

/** Replaces the to-do list. */
export const applyTodos = (self: Reply, { eventId, todos }: TodosUpdated): Reply => {
  const id = todosId(self.sessionId)
  const before = entryOf(self, id)
  const entry: TodosEntry = { kind: "todos", id, isOurs: true, todos, eventId }
  if (before === undefined) return push(self, entry)
  return before.kind !== "todos" || isStale(before.eventId, eventId) || Equal.equals(before.todos, todos)
    ? self
    : replace(self, before, entry)
}

/** The id of the to-do list of a session. */
export const todosId = (sessionId: SessionId): PartId => PartId.make(`todos_${sessionId}`)

/** Removes a part. */
export const removePart = (self: Reply, partId: PartId): Reply => {
  const entry = entryOf(self, partId)
  return entry === undefined ? self : withSession(
    mapSome(self, [entry], () => undefined),
    { removed: HashSet.add(self.session.removed, partId) }
  )
}

/** The entry of a stored part that the stream missed, if it may be shown. */
export const missed = (self: Reply, part: WirePart): Entry | undefined =>
  isWanted(self, part) ? ReplyEntry.read(part, ownerOf(self, part.messageId) !== "unknown") : undefined

/**
 * Inserts entries behind the entries that they follow, and behind those entries' to-dos. Entries that follow none go to
 * the front.
 */
export const insert = (
  self: Reply,
  following: ReadonlyMap<PartId | undefined, ReadonlyArray<Entry>>
): Reply => {
  if (following.size === 0) return self
  const entries = [...following.get(undefined) ?? []]
  let waiting: ReadonlyArray<Entry> = []
  for (const entry of current(self)) {
    if (entry.kind !== "todos") {
      entries.push(...waiting)
      waiting = []
    }
    entries.push(entry)
    waiting = following.get(entry.id) ?? waiting
  }
  return withEntries(self, [...entries, ...waiting])
}

/** Freezes open text until it is closed. */
export const holdOpenText = (self: Reply): Reply =>
  mapEntries(self, (entry) => (entry.kind === "text" ? ReplyText.hold(entry) : entry))

/** Empties the open text of one part. */
export const takeBackPart = (self: Reply, partId: PartId): Reply =>
  mapSome(self, [entryOf(self, partId)].filter((entry) => entry !== undefined), takenBack)

/**
 * Empties the text of a failed try of the model; the next try repeats it in parts of its own. Parts of the next attempt
 * may arrive before this event; their newer event ids exclude them.
 */
export const takeBackTry = (self: Reply, eventId: string | undefined): Reply => {
  const newest = newestMessage(self)?.id
  return newest === undefined ? self : mapSome(
    self,
    entriesOf(self, newest),
    (entry) => entry.kind === "text" && !isStale(entry.eventId, eventId) ? takenBack(entry) : entry
  )
}

// internal

const openByDelta = (self: Reply, event: PartDelta): Reply => {
  const owner = ownerOf(self, event.messageId)
  if (owner === "foreign" || owner === "summary" || HashSet.has(self.session.removed, event.partId)) return self
  // The gap may hide the opening of the part; its text would begin in the middle.
  return self.session.hasGap ? self : push(self, ReplyText.openByDelta(event, owner === "ours"))
}

/** Whether an unknown part may be shown, now or once its message is known. */
const isWanted = (self: Reply, part: WirePart): boolean => {
  const owner = ownerOf(self, part.messageId)
  return owner !== "foreign" && (owner !== "summary" || part.type === "step-finish") &&
    !HashSet.has(self.session.removed, part.id)
}

const takenBack = (entry: Entry): Entry => (entry.kind === "text" ? ReplyText.takeBack(entry) : entry)
