/**
 * Which messages a reply is made of: those that answer its prompt, or a message with which OpenCode itself went on.
 *
 * @since 0.1.0
 */
import type { MessageId } from "../Ids.ts"
import type { AssistantMessage, Message } from "../Message.ts"
import type { MessageUpdated } from "../TurnEvent.ts"
import type { MessageState, Reply } from "./ReplyState.ts"
import { mapEntries, withFrame } from "./ReplyState.ts"

/** Takes a new message, or the end of one that is known. */
export const applyMessage = (self: Reply, { info }: MessageUpdated): Reply => {
  if (info.role === "user") return applyUserMessage(self, info.id)
  const index = self.frame.messages.findIndex((message) => message.id === info.id)
  const before = self.frame.messages[index]
  if (before === undefined ? self.frame.removed.includes(info.id) : endings(info) <= endings(before.info)) return self
  const ownership = before?.ownership ?? ownershipOf(self.promptId, self.frame.continuations, info)
  const state: MessageState = { id: info.id, ownership, info }
  return withFrame(before === undefined ? attribute(self, state) : self, {
    messages: index === -1 ? [...self.frame.messages, state] : self.frame.messages.with(index, state),
    failure: ownership === "foreign" ? self.frame.failure : info.error ?? self.frame.failure
  })
}

/** Forgets a message with its parts. */
export const removeMessage = (self: Reply, messageId: MessageId): Reply => {
  const messages = self.frame.messages.filter((message) => message.id !== messageId)
  const without = withoutEntriesOf(self, messageId)
  return without === self && messages.length === self.frame.messages.length
    ? self
    : withFrame(without, { messages, removed: [...self.frame.removed, messageId] })
}

/** Takes a user message for a continuation of the turn. */
export const continueTurn = (self: Reply, messageId: MessageId): Reply => {
  if (self.frame.continuations.includes(messageId)) return self
  const continuations = [...self.frame.continuations, messageId]
  return withFrame(withoutEntriesOf(self, messageId), {
    continuations,
    // An answer that was seen before the message that it answers was not known to be one.
    messages: self.frame.messages.map((message) =>
      message.info.parentId === messageId
        ? { ...message, ownership: ownershipOf(self.promptId, continuations, message.info) }
        : message
    ),
    // What the session failed with was that its context overflowed.
    failure: undefined
  })
}

/** The user messages with which OpenCode went on after the prompt: they follow it, before anybody's next one. */
export const continuationsIn = (promptId: MessageId, messages: ReadonlyArray<Message>): ReadonlyArray<MessageId> => {
  const continuations: Array<MessageId> = []
  let isCurrent = false
  for (const { info } of messages) {
    if (info.role === "assistant") continue
    if (info.id === promptId) isCurrent = true
    else if (!info.isContinuation) isCurrent = false
    else if (isCurrent) continuations.push(info.id)
  }
  return continuations
}

/** Drops the parts of a message. */
export const withoutEntriesOf = (self: Reply, messageId: MessageId): Reply =>
  mapEntries(self, (entry) => (entry.kind !== "todos" && entry.messageId === messageId ? undefined : entry))

/** What a message is to the turn. */
export const ownershipOf = (
  promptId: MessageId,
  continuations: ReadonlyArray<MessageId>,
  { isSummary, parentId }: AssistantMessage
): MessageState["ownership"] =>
  parentId !== promptId && !continuations.includes(parentId) ? "foreign" : isSummary ? "summary" : "ours"

/** What the message of a part is to the turn, if it is known. */
export const ownerOf = (self: Reply, messageId: MessageId): MessageState["ownership"] | "unknown" =>
  messageId === self.promptId || self.frame.userMessages.includes(messageId) ||
    self.frame.continuations.includes(messageId) || self.frame.removed.includes(messageId)
    ? "foreign"
    : (self.frame.messages.find((message) => message.id === messageId)?.ownership ?? "unknown")

/** Whether nothing follows in this message. */
export const hasEnded = (info: AssistantMessage): boolean => endings(info) > 0

// internal

/** How much of its end a message has: one that has ended stays ended, whatever is folded after it. */
const endings = ({ completedMillis, error, finish }: AssistantMessage): number =>
  Number(completedMillis !== undefined) + Number(error !== undefined) + Number(finish !== undefined)

/** The parts of another prompt are neither shown nor kept. */
const applyUserMessage = (self: Reply, id: MessageId): Reply =>
  id === self.promptId || self.frame.userMessages.includes(id)
    ? self
    : withFrame(withoutEntriesOf(self, id), { userMessages: [...self.frame.userMessages, id] })

/** Shows the parts that came before their message, or drops them if they are not the turn's. */
const attribute = (self: Reply, { id, ownership }: MessageState): Reply =>
  mapEntries(self, (entry) => {
    if (entry.kind === "todos" || entry.messageId !== id) return entry
    const isKept = ownership === "ours" ||
      (ownership === "summary" && entry.kind === "part" && entry.part.type === "step-finish")
    return isKept ? { ...entry, isOurs: true } : undefined
  })
