/**
 * Which messages a reply is made of: those that answer its prompt, or a message with which OpenCode itself went on.
 *
 * @since 0.1.0
 */
import * as HashSet from "effect/HashSet"
import type { MessageId } from "../domain/Ids.ts"
import type { AssistantMessage, Message, UserMessage } from "../domain/Message.ts"
import type { MessageUpdated } from "../domain/TurnEvent.ts"
import * as Ordered from "./Ordered.ts"
import type { MessageState, Reply, SessionState } from "./ReplyState.ts"
import { dropMessage, linked, mapEntriesOf, putMessage, withSession } from "./ReplyState.ts"

/** Takes a new message, or the end of one that is known. */
export const applyMessage = (self: Reply, { info }: MessageUpdated): Reply => {
  if (info.role === "user") return applyUserMessage(self, info)
  const before = Ordered.get(self.session.messages, info.id)
  if (before === undefined ? HashSet.has(self.session.removed, info.id) : endings(info) <= endings(before.info)) {
    return self
  }
  const ownership = before?.ownership ?? ownershipOf(self.promptId, self.session.continuations, info)
  const state: MessageState = { id: info.id, ownership, info }
  return withSession(before === undefined ? attribute(self, state) : self, {
    ...putMessage(self.session, state),
    failure: ownership === "foreign" ? self.session.failure : info.error ?? self.session.failure,
    trouble: ownership === "foreign" ? self.session.trouble : info.error ?? self.session.trouble
  })
}

/** Forgets a message with its parts. */
export const removeMessage = (self: Reply, messageId: MessageId): Reply => {
  const without = withoutEntriesOf(self, messageId)
  return without === self && !Ordered.has(self.session.messages, messageId)
    ? self
    : withSession(without, {
      ...dropMessage(self.session, messageId),
      removed: HashSet.add(self.session.removed, messageId)
    })
}

/** Takes a user message for a continuation of the turn. */
export const continueTurn = (self: Reply, messageId: MessageId): Reply => {
  if (HashSet.has(self.session.continuations, messageId)) return self
  const continuations = HashSet.add(self.session.continuations, messageId)
  let session: SessionState = { ...self.session, continuations }
  // An answer that was seen before the message that it answers was not known to be one.
  for (const id of linked(session.strangers, messageId)) {
    const message = Ordered.get(session.messages, id)
    if (message === undefined) continue
    const ownership = ownershipOf(self.promptId, continuations, message.info)
    session = { ...session, ...putMessage(session, { ...message, ownership }) }
  }
  // What the session failed with was that its context overflowed.
  return withSession(withoutEntriesOf(self, messageId), { ...session, failure: undefined })
}

/**
 * What follows a prompt in a session: the user messages with which OpenCode itself went on, up to anybody's next prompt.
 *
 * `isAccepted`: the prompt is there, or an answer that proves it: a prompt with a format cannot always be read (1.18.33).
 * `isCurrent`: nobody's prompt follows it.
 */
export interface Following {
  readonly isAccepted: boolean
  readonly isCurrent: boolean
  readonly continuations: ReadonlyArray<MessageId>
}

/** Finds what follows the prompt in messages that are in their order. */
export const followingOf = (promptId: MessageId, messages: ReadonlyArray<Message>): Following => {
  const continuations: Array<MessageId> = []
  const known = new Set<MessageId>()
  let isAccepted = false
  let isCurrent = true
  let last: AssistantMessage | undefined
  for (const { info } of messages) {
    if (info.role === "assistant") {
      if (info.parentId === promptId) isAccepted = true
      if (info.parentId === promptId || known.has(info.parentId)) last = info
    } else if (info.id === promptId) {
      isAccepted = true
    } else if (info.role === "user" && isAccepted && isCurrent) {
      if (info.isContinuation || isReplay(last, info)) {
        continuations.push(info.id)
        known.add(info.id)
        last = undefined
      } else {
        isCurrent = false
      }
    }
  }
  return { isAccepted, isCurrent, continuations }
}

/** Drops the parts of a message. */
export const withoutEntriesOf = (self: Reply, messageId: MessageId): Reply =>
  mapEntriesOf(self, messageId, () => undefined)

/** What a message is to the turn. */
export const ownershipOf = (
  promptId: MessageId,
  continuations: HashSet.HashSet<MessageId>,
  { isSummary, parentId }: AssistantMessage
): MessageState["ownership"] =>
  parentId !== promptId && !HashSet.has(continuations, parentId) ? "foreign" : isSummary ? "summary" : "ours"

/** What the message of a part is to the turn, if it is known. */
export const ownerOf = (self: Reply, messageId: MessageId): MessageState["ownership"] | "unknown" =>
  messageId === self.promptId || HashSet.has(self.session.userMessages, messageId) ||
    HashSet.has(self.session.continuations, messageId) || HashSet.has(self.session.removed, messageId)
    ? "foreign"
    : (Ordered.get(self.session.messages, messageId)?.ownership ?? "unknown")

/** The newest message of the turn's own. By the ids, which sort by time: a reading may bring one after that which followed it. */
export const newestMessage = ({ session }: Reply): AssistantMessage | undefined => {
  if (session.newest === undefined || session.newest.ownership === "ours") return session.newest?.info
  let newest: AssistantMessage | undefined
  for (const { info, ownership } of Ordered.values(session.messages)) {
    if (ownership === "ours" && (newest === undefined || info.id > newest.id)) newest = info
  }
  return newest
}

/** Whether nothing follows in this message. */
export const hasEnded = (info: AssistantMessage): boolean => endings(info) > 0

// internal

/** How much of its end a message has: one that has ended stays ended, whatever is folded after it. */
const endings = ({ completedMillis, error, finish }: AssistantMessage): number =>
  Number(completedMillis !== undefined) + Number(error !== undefined) + Number(finish !== undefined)

/**
 * Whether a user message is the prompt once more. When the context overflowed and more was said before than the prompt, OpenCode
 * posts the prompt anew behind the summary, and nothing marks it (1.18.33): it is the first message that was made after the summary.
 */
const isReplay = (last: AssistantMessage | undefined, { createdMillis }: UserMessage): boolean =>
  last?.isSummary === true && last.error === undefined && last.completedMillis !== undefined &&
  createdMillis >= last.completedMillis

/** The parts of another prompt are neither shown nor kept. */
const applyUserMessage = (self: Reply, info: UserMessage): Reply => {
  const { continuations, userMessages } = self.session
  const { id } = info
  if (id === self.promptId || HashSet.has(userMessages, id) || HashSet.has(continuations, id)) return self
  const seen = withSession(withoutEntriesOf(self, id), { userMessages: HashSet.add(userMessages, id) })
  return followsSummary(self, info) ? { ...continueTurn(seen, id), eventCount: seen.eventCount } : seen
}

/** Whether the turn is current, and its newest message the summary that the prompt is posted anew behind. */
const followsSummary = ({ session: { continuations, newest, userMessages }, promptId }: Reply, info: UserMessage) =>
  newest !== undefined && isReplay(newest.info, info) && info.id > promptId &&
  HashSet.every(continuations, (id) => id < newest.id) &&
  HashSet.every(userMessages, (id) => id < promptId || HashSet.has(continuations, id))

/** Shows the parts that came before their message, or drops them if they are not the turn's. */
const attribute = (self: Reply, { id, ownership }: MessageState): Reply =>
  mapEntriesOf(self, id, (entry) => {
    if (entry.kind === "todos") return entry
    const isKept = ownership === "ours" ||
      (ownership === "summary" && entry.kind === "part" && entry.part.type === "step-finish")
    return isKept ? entry.isOurs ? entry : { ...entry, isOurs: true } : undefined
  })
