/**
 * Combines the server's stored messages with a reply. While the turn runs, they may lag behind the stream; at its end,
 * they are the truth.
 *
 * @since 0.1.0
 */
import * as HashSet from "effect/HashSet"
import { type MessageId, PartId } from "../domain/Ids.ts"
import type { Message, StoredInfo, UnreadPart } from "../domain/Message.ts"
import { isLast } from "../domain/Message.ts"
import type { WirePart } from "../domain/Part.ts"
import { isBlank } from "../domain/Part.ts"
import { isAborted } from "../domain/UpstreamFailure.ts"
import * as Ordered from "./Ordered.ts"
import type { Entry } from "./ReplyEntry.ts"
import * as ReplyEntry from "./ReplyEntry.ts"
import { applyMessage, continueTurn, followingOf, hasEnded, ownershipOf } from "./ReplyMessages.ts"
import { applyPart, insert, missed, takeBackPart } from "./ReplyParts.ts"
import type { FoldedMessage, Reply } from "./ReplyState.ts"
import { current, entriesOf, entryOf, messagesFrom, withEntries } from "./ReplyState.ts"
import type { TextEntry } from "./ReplyText.ts"
import * as ReplyText from "./ReplyText.ts"

/** Merges the stored messages of one session, which may lag behind the stream. */
export const merge = (self: Reply, messages: ReadonlyArray<Message>): Reply => {
  let merged = followingOf(self.promptId, messages).continuations.reduce(continueTurn, self)
  const base = { eventId: undefined, sessionId: self.sessionId }
  const known = messages.flatMap(({ info, parts }) =>
    info.sessionId === self.sessionId && info.role !== "opaque" ? [{ info, parts }] : []
  )
  for (const { info } of known) merged = applyMessage(merged, { _tag: "MessageUpdated", ...base, info })
  // Inserts all missed parts in one pass, however many there are.
  const following = new Map<PartId | undefined, Array<Entry>>()
  const seen = new Set<PartId>()
  let before: PartId | undefined
  for (const { info, parts } of known) {
    for (const part of parts) {
      if (seen.has(part.id)) continue
      seen.add(part.id)
      if (entryOf(merged, part.id) !== undefined) {
        merged = applyPart(merged, { _tag: "PartUpdated", ...base, part })
        if (isTakenBack(info, parts, part)) merged = takeBackPart(merged, part.id)
        before = part.id
        continue
      }
      const entry = missed(merged, part)
      if (entry === undefined) continue
      append(following, before, entry)
    }
  }
  merged = insert(merged, following)
  return merged === self ? self : { ...merged, eventCount: self.eventCount }
}

/**
 * Replaces a session's reply by its stored messages. A blank stored text replaces nothing: words that the stream had
 * closed stay. If the stored message has no words at all, the closed texts that it lacks stay too.
 */
export const reconcile = (self: Reply, messages: ReadonlyArray<Message>): Reply => {
  const streamed = current(self)
  const streamedById = new Map(streamed.map((entry) => [entry.id, entry]))
  const following = followingOf(self.promptId, messages)
  const continuations = following.isAccepted
    ? HashSet.fromIterable(following.continuations)
    : self.session.continuations
  const entries: Array<Entry> = []
  const states: Array<FoldedMessage> = []
  const wordless = new Set<MessageId>()
  for (const { info, parts } of messages) {
    if (info.role !== "assistant") continue
    const ownership = ownershipOf(self.promptId, continuations, info)
    if (ownership === "foreign") continue
    states.push({ id: info.id, ownership, info })
    if (ownership === "ours" && !parts.some((part) => part.type === "text" && !isBlank(part.text))) {
      wordless.add(info.id)
    }
    for (const part of parts) {
      if (ownership === "summary" && part.type !== "step-finish") continue
      const before = streamedById.get(part.id)
      const isLost = (part.type === "text" || part.type === "reasoning") && isBlank(part.text) &&
        before?.kind === "text" && before.type === part.type && (isSaid(before) || isCutOff(info, parts, part))
      entries.push(isLost ? before : ReplyEntry.read(part, true, before))
    }
  }
  const isKept = (entry: Entry): boolean =>
    entry.kind === "todos" ||
    (entry.kind === "text" && entry.type === "text" && wordless.has(entry.messageId) && isSaid(entry))
  const last = states.at(-1)?.info
  return {
    ...withEntries(self, withStreamOnly(entries, streamed, isKept)),
    session: {
      ...self.session,
      ...messagesFrom(states),
      continuations,
      // A session can fail without a message that says so (an unknown model). The streamed failure therefore stays,
      // unless the server has an answer that ended well.
      failure: last?.error ?? (last !== undefined && isLast(last) ? undefined : self.session.failure),
      retry: undefined
    }
  }
}

/**
 * Fills the unreadable fields of a stored message from the stream.
 *
 * **Details**
 *
 * A message keeps the prompt that it answers, and an ended message stays ended, unless a gap may hide a change. An
 * unreadable part is the streamed part with its id; without an id it is the next streamed part that the stored message
 * lacks. If the stream reported a message's end before any gap, all its parts are known, and an unreadable part that
 * the stream did not send is not a text. In any other message an unclosed text is shown as far as it came, and stays
 * unread.
 *
 * @category folding
 * @since 0.1.0
 */
export const fillIn = (self: Reply, message: Message): Message => {
  const info = withStreamed(self, message.info)
  if (message.unread === undefined || info.role === "user") {
    return info === message.info ? message : { ...message, info }
  }
  const streamed = entriesOf(self, info.id).flatMap((entry) => {
    const part = ReplyEntry.toPart(entry)
    return part.type !== "todos" ? [part] : []
  })
  const ids = new Set([...message.parts, ...message.unread].map(({ id }) => id))
  const spare = streamed.filter(({ id }) => !ids.has(id))
  const state = Ordered.get(self.session.messages, info.id)
  const { hasGap, toldUpTo } = self.session
  const isTold = state !== undefined && hasEnded(state.info) &&
    (!hasGap || (toldUpTo !== undefined && info.id <= toldUpTo))
  const parts: Array<WirePart> = []
  const unread: Array<UnreadPart> = []
  const unreadAt = (at: number) => message.unread?.filter((part) => part.at === at) ?? []
  for (let at = 0; at <= message.parts.length; at++) {
    for (const flaw of unreadAt(at)) {
      if (flaw.isList === true) {
        parts.push(...spare.splice(0))
        if (!isTold) unread.push(flaw)
        continue
      }
      const place = flaw.id === undefined
        ? spare.findIndex(({ type }) => flaw.part === undefined || type === flaw.part.type)
        : -1
      const known = flaw.id === undefined
        ? spare.splice(place, place === -1 ? 0 : 1)[0]
        : streamed.find(({ id }) => id === flaw.id)
      if (flaw.part !== undefined) {
        parts.push({ ...flaw.part, id: known?.id ?? PartId.make(`${info.id}_${at}_${parts.length}`) })
        continue
      }
      if (known !== undefined) parts.push(known)
      if (!isTold && (known === undefined || !isClosed(known))) unread.push({ ...flaw, at: parts.length })
    }
    const part = message.parts[at]
    if (part !== undefined) parts.push(part)
  }
  return { info, parts, ...(unread.length > 0 && { unread }) }
}

// internal

const append = (following: Map<PartId | undefined, Array<Entry>>, before: PartId | undefined, entry: Entry): void => {
  const others = following.get(before)
  if (others === undefined) following.set(before, [entry])
  else others.push(entry)
}

const isClosed = (part: WirePart): boolean => (part.type !== "text" && part.type !== "reasoning") || part.isComplete

const withStreamed = (self: Reply, info: StoredInfo): StoredInfo => {
  const { continuations, hasGap, messages, userMessages } = self.session
  const { id } = info
  if (info.role === "user") {
    return info.isContinuation || !HashSet.has(continuations, id) ? info : { ...info, isContinuation: true }
  }
  const state = Ordered.get(messages, id)
  if (state === undefined) {
    const isContinuation = HashSet.has(continuations, id)
    return info.role === "opaque" && (isContinuation || HashSet.has(userMessages, id))
      ? { role: "user", id, sessionId: info.sessionId, createdMillis: info.createdMillis, isContinuation }
      : info
  }
  const streamed = state.info
  if (info.role === "opaque") return streamed
  if (state.ownership === "foreign") return info
  return {
    ...info,
    parentId: streamed.parentId,
    isSummary: info.isSummary || streamed.isSummary,
    structured: info.structured ?? streamed.structured,
    directory: info.directory ?? streamed.directory,
    worktree: info.worktree ?? streamed.worktree,
    agent: info.agent ?? streamed.agent,
    model: info.model ?? streamed.model,
    ...(!hasGap && {
      completedMillis: info.completedMillis ?? streamed.completedMillis,
      finish: info.finish ?? streamed.finish,
      // The stored error says the same, or less.
      error: streamed.error ?? info.error
    })
  }
}

/** A text that its message left open and empty belongs to a failed try of the model (1.18.33) and will not grow. */
const isTakenBack = (info: StoredInfo, parts: ReadonlyArray<WirePart>, part: WirePart): boolean =>
  info.role === "assistant" && hasEnded(info) && isLeftOpen(part) && !isCutOff(info, parts, part)

/** Whether an abort cut the text off. Some servers store nothing of such a text (1.2.27, 1.3.2), and 1.18.33 closes it. */
const isCutOff = (info: StoredInfo, parts: ReadonlyArray<WirePart>, part: WirePart): boolean =>
  info.role === "assistant" && info.error !== undefined && isAborted(info.error) && isLeftOpen(part) &&
  parts.at(-1)?.id === part.id

const isLeftOpen = (part: WirePart): boolean =>
  (part.type === "text" || part.type === "reasoning") && !part.isComplete && part.text === ""

/** Whether the stream closed the text with words. */
const isSaid = (entry: TextEntry): boolean => entry.isOurs && entry.isComplete && !isBlank(ReplyText.contents(entry))

/** Inserts stream-only entries behind the entries that they followed. */
const withStreamOnly = (
  entries: ReadonlyArray<Entry>,
  streamed: ReadonlyArray<Entry>,
  isKept: (entry: Entry) => boolean
): ReadonlyArray<Entry> => {
  const recorded = new Set(entries.map(({ id }) => id))
  const following = new Map<PartId | undefined, Array<Entry>>()
  let before: PartId | undefined
  for (const entry of streamed) {
    if (recorded.has(entry.id)) before = entry.id
    else if (isKept(entry)) append(following, before, entry)
  }
  return [...following.get(undefined) ?? [], ...entries.flatMap((entry) => [entry, ...following.get(entry.id) ?? []])]
}
