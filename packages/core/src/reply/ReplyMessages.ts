/**
 * Selects the messages of a reply: those that answer its prompt, or a message by which OpenCode continued the turn.
 *
 * @since 0.1.0
 */
import * as HashSet from "effect/HashSet"
import type { MessageId } from "../domain/Ids.ts"
import type { AssistantMessage, Message, UserMessage } from "../domain/Message.ts"
import type { MessageUpdated } from "../domain/TurnEvent.ts"
import * as Ordered from "./Ordered.ts"
import type { FoldedMessage, Reply, SessionState } from "./ReplyState.ts"
import { dropMessage, linked, mapEntriesOf, putMessage, withSession } from "./ReplyState.ts"

/** Applies a new message, or the end of a known one. */
export const applyMessage = (self: Reply, { info }: MessageUpdated): Reply => {
  if (info.role === "user") return applyUserMessage(self, info)
  const before = Ordered.get(self.session.messages, info.id)
  if (before === undefined ? HashSet.has(self.session.removed, info.id) : endings(info) <= endings(before.info)) {
    return self
  }
  const ownership = before?.ownership ?? ownershipOf(self.promptId, self.session.continuations, info)
  const state: FoldedMessage = { id: info.id, ownership, info }
  return withSession(before === undefined ? attribute(self, state) : self, {
    ...putMessage(self.session, state),
    failure: ownership === "foreign" ? self.session.failure : info.error ?? self.session.failure,
    trouble: ownership === "foreign" ? self.session.trouble : info.error ?? self.session.trouble
  })
}

/** Removes a message with its parts. */
export const removeMessage = (self: Reply, messageId: MessageId): Reply => {
  const without = withoutEntriesOf(self, messageId)
  return without === self && !Ordered.has(self.session.messages, messageId)
    ? self
    : withSession(without, {
      ...dropMessage(self.session, messageId),
      removed: HashSet.add(self.session.removed, messageId)
    })
}

/** Treats a user message as a continuation of the turn. */
export const continueTurn = (self: Reply, messageId: MessageId): Reply => {
  if (HashSet.has(self.session.continuations, messageId)) return self
  const continuations = HashSet.add(self.session.continuations, messageId)
  let session: SessionState = { ...self.session, continuations }
  // These answers arrived before the continuation and counted as foreign until now.
  for (const id of linked(session.strangers, messageId)) {
    const message = Ordered.get(session.messages, id)
    if (message === undefined) continue
    const ownership = ownershipOf(self.promptId, continuations, message.info)
    session = { ...session, ...putMessage(session, { ...message, ownership }) }
  }
  // The session's failure was the context overflow, which the continuation has resolved.
  return withSession(withoutEntriesOf(self, messageId), { ...session, failure: undefined })
}

/**
 * What follows a prompt in a session: the user messages by which OpenCode continued the turn, up to the next prompt of
 * anybody. `isAccepted`: the session has the prompt, or an answer that proves it, because a prompt with a format cannot
 * always be read (1.18.33). `isCurrent`: no other prompt follows it.
 */
export interface Following {
  readonly isAccepted: boolean
  readonly isCurrent: boolean
  readonly continuations: ReadonlyArray<MessageId>
}

/** Finds what follows the prompt in messages in their order. */
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

/** Classifies a message of the session. */
export const ownershipOf = (
  promptId: MessageId,
  continuations: HashSet.HashSet<MessageId>,
  { isSummary, parentId }: AssistantMessage
): FoldedMessage["ownership"] =>
  parentId !== promptId && !HashSet.has(continuations, parentId) ? "foreign" : isSummary ? "summary" : "ours"

/** The ownership of a part's message, if the message is known. */
export const ownerOf = (self: Reply, messageId: MessageId): FoldedMessage["ownership"] | "unknown" =>
  messageId === self.promptId || HashSet.has(self.session.userMessages, messageId) ||
    HashSet.has(self.session.continuations, messageId) || HashSet.has(self.session.removed, messageId)
    ? "foreign"
    : (Ordered.get(self.session.messages, messageId)?.ownership ?? "unknown")

/** The newest message of the turn by its id, because ids sort by time: a merge may add a message after a later one. */
export const newestMessage = ({ session }: Reply): AssistantMessage | undefined => {
  if (session.newest === undefined || session.newest.ownership === "ours") return session.newest?.info
  let newest: AssistantMessage | undefined
  for (const { info, ownership } of Ordered.values(session.messages)) {
    if (ownership === "ours" && (newest === undefined || info.id > newest.id)) newest = info
  }
  return newest
}

/** Whether the message will get no more parts. */
export const hasEnded = (info: AssistantMessage): boolean => endings(info) > 0

// internal

/** How many marks of its end a message has. An ended message stays ended, whatever is folded later. */
const endings = ({ completedMillis, error, finish }: AssistantMessage): number =>
  Number(completedMillis !== undefined) + Number(error !== undefined) + Number(finish !== undefined)

/**
 * Whether a user message repeats the prompt. If the context overflows and the session had messages before the prompt,
 * OpenCode posts the prompt again behind the summary without a mark (1.18.33). It is the first message after the
 * summary.
 */
const isReplay = (last: AssistantMessage | undefined, { createdMillis, isPrompt }: UserMessage): boolean =>
  isPrompt !== true && last?.isSummary === true && last.error === undefined && last.completedMillis !== undefined &&
  createdMillis >= last.completedMillis

/** Drops the parts of another prompt. */
const applyUserMessage = (self: Reply, info: UserMessage): Reply => {
  const { continuations, userMessages } = self.session
  const { id } = info
  if (id === self.promptId || HashSet.has(userMessages, id) || HashSet.has(continuations, id)) return self
  const seen = withSession(withoutEntriesOf(self, id), { userMessages: HashSet.add(userMessages, id) })
  return followsSummary(self, info) ? { ...continueTurn(seen, id), eventCount: seen.eventCount } : seen
}

/** Whether the turn is current, and its newest message is the summary behind which OpenCode posts the prompt again. */
const followsSummary = ({ session: { continuations, newest, userMessages }, promptId }: Reply, info: UserMessage) =>
  newest !== undefined && isReplay(newest.info, info) && info.id > promptId &&
  HashSet.every(continuations, (id) => id < newest.id) &&
  HashSet.every(userMessages, (id) => id < promptId || HashSet.has(continuations, id))

/** Shows the parts that arrived before their message, or drops them if they are not the turn's. */
const attribute = (self: Reply, { id, ownership }: FoldedMessage): Reply =>
  mapEntriesOf(self, id, (entry) => {
    if (entry.kind === "todos") return entry
    const isKept = ownership === "ours" ||
      (ownership === "summary" && entry.kind === "part" && entry.part.type === "step-finish")
    return isKept ? entry.isOurs ? entry : { ...entry, isOurs: true } : undefined
  })
