/**
 * Which messages a reply is made of: those that answer its prompt, or a message with which OpenCode itself went on.
 *
 * @since 0.1.0
 */
import type { MessageId } from "../Ids.ts"
import type { AssistantMessage, Message, UserMessage } from "../Message.ts"
import type { MessageUpdated } from "../TurnEvent.ts"
import type { MessageState, Reply } from "./ReplyState.ts"
import { mapEntries, withFrame } from "./ReplyState.ts"

/** Takes a new message, or the end of one that is known. */
export const applyMessage = (self: Reply, { info }: MessageUpdated): Reply => {
  if (info.role === "user") return applyUserMessage(self, info)
  const index = self.frame.messages.findIndex((message) => message.id === info.id)
  const before = self.frame.messages[index]
  if (before === undefined ? self.frame.removed.includes(info.id) : endings(info) <= endings(before.info)) return self
  const ownership = before?.ownership ?? ownershipOf(self.promptId, self.frame.continuations, info)
  const state: MessageState = { id: info.id, ownership, info }
  return withFrame(before === undefined ? attribute(self, state) : self, {
    messages: index === -1 ? [...self.frame.messages, state] : self.frame.messages.with(index, state),
    failure: ownership === "foreign" ? self.frame.failure : info.error ?? self.frame.failure,
    trouble: ownership === "foreign" ? self.frame.trouble : info.error ?? self.frame.trouble
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
  let isAccepted = false
  let isCurrent = true
  let last: AssistantMessage | undefined
  for (const { info } of messages) {
    if (info.role === "assistant") {
      if (info.parentId === promptId) isAccepted = true
      if (info.parentId === promptId || continuations.includes(info.parentId)) last = info
    } else if (info.id === promptId) {
      isAccepted = true
    } else if (info.role === "user" && isAccepted && isCurrent) {
      if (info.isContinuation || isReplay(last, info)) {
        continuations.push(info.id)
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

/** The newest message of the turn's own. By the ids, which sort by time: a reading may bring one after that which followed it. */
export const newestMessage = ({ frame }: Reply): AssistantMessage | undefined => {
  let newest: AssistantMessage | undefined
  for (const { info, ownership } of frame.messages) {
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
  const { continuations, userMessages } = self.frame
  const { id } = info
  if (id === self.promptId || userMessages.includes(id) || continuations.includes(id)) return self
  const seen = withFrame(withoutEntriesOf(self, id), { userMessages: [...userMessages, id] })
  return followsSummary(self, info) ? { ...continueTurn(seen, id), eventCount: seen.eventCount } : seen
}

/** Whether the turn is current, and its newest message the summary that the prompt is posted anew behind. */
const followsSummary = ({ frame: { continuations, messages, userMessages }, promptId }: Reply, info: UserMessage) => {
  const own = messages.filter(({ ownership }) => ownership !== "foreign")
  const isNewest = (id: MessageId) => own.every((other) => other.id <= id) && continuations.every((other) => other < id)
  const last = own.find(({ id }) => isNewest(id))?.info
  return isReplay(last, info) && info.id > promptId &&
    userMessages.every((id) => id < promptId || continuations.includes(id))
}

/** Shows the parts that came before their message, or drops them if they are not the turn's. */
const attribute = (self: Reply, { id, ownership }: MessageState): Reply =>
  mapEntries(self, (entry) => {
    if (entry.kind === "todos" || entry.messageId !== id) return entry
    const isKept = ownership === "ours" ||
      (ownership === "summary" && entry.kind === "part" && entry.part.type === "step-finish")
    return isKept ? { ...entry, isOurs: true } : undefined
  })
