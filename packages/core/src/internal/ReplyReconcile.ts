/**
 * What the server's stored messages make of a reply: while it runs, when they may lag behind the stream, and at its end, when
 * they are the truth.
 *
 * @since 0.1.0
 */
import type { PartId } from "../Ids.ts"
import type { Message, MessageInfo } from "../Message.ts"
import { isLast } from "../Message.ts"
import type { WirePart } from "../Part.ts"
import type { Entry } from "./ReplyEntry.ts"
import * as ReplyEntry from "./ReplyEntry.ts"
import { applyMessage, continueTurn, followingOf, hasEnded, ownershipOf } from "./ReplyMessages.ts"
import { applyPart, insert, takeBackPart } from "./ReplyParts.ts"
import type { MessageState, Reply } from "./ReplyState.ts"
import { current, indexOf, withEntries } from "./ReplyState.ts"

/** Folds a reading of one session's messages that may lag behind the stream. */
export const merge = (self: Reply, messages: ReadonlyArray<Message>): Reply => {
  let merged = followingOf(self.promptId, messages).continuations.reduce(continueTurn, self)
  let before: PartId | undefined
  for (const { info, parts } of messages) {
    if (info.sessionId !== self.sessionId) continue
    const base = { eventId: undefined, sessionId: info.sessionId }
    merged = applyMessage(merged, { _tag: "MessageUpdated", ...base, info })
    for (const part of parts) {
      merged = indexOf(merged, part.id) === -1
        ? insert(merged, part, before)
        : applyPart(merged, { _tag: "PartUpdated", ...base, part })
      if (isTakenBack(info, part)) merged = takeBackPart(merged, part.id)
      if (indexOf(merged, part.id) !== -1) before = part.id
    }
  }
  return merged === self ? self : { ...merged, eventCount: self.eventCount }
}

/** Makes the stored messages of one session the truth. */
export const reconcile = (self: Reply, messages: ReadonlyArray<Message>): Reply => {
  const streamed = current(self)
  const streamedById = new Map(streamed.map((entry) => [entry.id, entry]))
  const following = followingOf(self.promptId, messages)
  const continuations = following.isAccepted ? following.continuations : self.frame.continuations
  const entries: Array<Entry> = []
  const states: Array<MessageState> = []
  for (const { info, parts } of messages) {
    if (info.role === "user") continue
    const ownership = ownershipOf(self.promptId, continuations, info)
    if (ownership === "foreign") continue
    states.push({ id: info.id, ownership, info })
    for (const part of parts) {
      if (ownership === "summary" && part.type !== "step-finish") continue
      const before = streamedById.get(part.id)
      entries.push(ReplyEntry.read(part, true, before?.kind === "part" ? before : undefined))
    }
  }
  const last = states.at(-1)?.info
  return {
    ...withEntries(self, withTodos(entries, streamed)),
    frame: {
      ...self.frame,
      messages: states,
      continuations,
      // A session can fail without any message that says so (an unknown model): the streamed failure stays, unless the
      // server has an answer that ended well.
      failure: last?.error ?? (last !== undefined && isLast(last) ? undefined : self.frame.failure),
      retry: undefined
    }
  }
}

// internal

/** A text that its message left open and empty is that of a try of the model that failed (1.18.33), and grows no more. */
const isTakenBack = (info: MessageInfo, part: WirePart): boolean =>
  info.role === "assistant" && hasEnded(info) &&
  (part.type === "text" || part.type === "reasoning") && !part.isComplete && part.text === ""

/** Puts the to-do list, of which there is one, behind the part that it followed. */
const withTodos = (entries: ReadonlyArray<Entry>, streamed: ReadonlyArray<Entry>): ReadonlyArray<Entry> => {
  const place = streamed.findIndex((entry) => entry.kind === "todos")
  const todos = streamed[place]
  if (todos === undefined) return entries
  const positions = new Map(entries.map((entry, index) => [entry.id, index]))
  const after = streamed.slice(0, place).map((entry) => positions.get(entry.id)).findLast((at) => at !== undefined)
  return entries.toSpliced((after ?? -1) + 1, 0, todos)
}
