/**
 * The exchange of a turn: the stored messages of its prompt and its answer.
 *
 * An assistant message belongs to the turn if its `parentId` is the id of the prompt, or of a user message by which
 * OpenCode continued the turn after a context overflow. Texts are never compared. A prompt that OpenCode posted again
 * has no mark, so its place identifies it.
 *
 * @since 0.1.0
 */
import type { MessageId, SessionId } from "../domain/Ids.ts"
import type { AssistantMessage, Message } from "../domain/Message.ts"
import { isLast } from "../domain/Message.ts"
import type { WirePart } from "../domain/Part.ts"
import type { UnreadMessage } from "../opencode/Dialect.ts"
import * as Reply from "./Reply.ts"
import { followingOf } from "./ReplyMessages.ts"

/**
 * One assistant message of the answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface Step {
  readonly info: AssistantMessage
  readonly parts: ReadonlyArray<WirePart>
}

/**
 * `isAccepted`: the server has the prompt, or an answer to it, which proves an unreadable prompt. `isWaiting`: it has the
 * prompt, and the model has not got it yet. `isCurrent`: no other prompt follows it. `steps` are in the server's order; `messages` are the prompt, the steps and the continuations
 * between them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Exchange {
  readonly sessionId: SessionId
  readonly promptId: MessageId
  readonly isAccepted: boolean
  readonly isWaiting?: boolean
  readonly isCurrent: boolean
  readonly messages: ReadonlyArray<Message>
  readonly steps: ReadonlyArray<Step>
  readonly unread: UnreadFields
}

/**
 * The unreadable fields behind the prompt.
 *
 * **Details**
 *
 * `lost` fields leave the text of the answer incomplete. `hidden` fields belong to messages behind all known steps that
 * may be steps too. `other` fields belong to other parts of the steps.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnreadFields {
  readonly lost: ReadonlyArray<string>
  readonly hidden: ReadonlyArray<string>
  readonly other: ReadonlyArray<string>
}

/**
 * Picks the turn's messages, oldest first. A message of another session never belongs to the turn, whatever parent it
 * names. `unread` are the messages without a readable id.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromMessages = (
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  messages: ReadonlyArray<Message>,
  unread: ReadonlyArray<UnreadMessage> = []
): Exchange => {
  const inSession = messages.filter(({ info }) => info.sessionId === ids.sessionId)
  const { continuations, isAccepted, isCurrent } = followingOf(ids.promptId, inSession)
  const answered = new Set([ids.promptId, ...continuations])
  const own = inSession.filter(({ info }) => answered.has(info.role === "assistant" ? info.parentId : info.id))
  const steps = own.flatMap(({ info, parts }) => (info.role === "assistant" ? [{ info, parts }] : []))
  return {
    ...ids,
    isAccepted,
    isCurrent,
    messages: own,
    steps,
    unread: unreadFields(ids.promptId, steps.at(-1)?.info.id, inSession, own, unread)
  }
}

/**
 * The deciding step: the newest one that is not a summary.
 *
 * @category getters
 * @since 0.1.0
 */
export const lastStep = (self: Exchange): Step | undefined => self.steps.findLast(({ info }) => !info.isSummary)

/**
 * Whether the answer has ended: its last message failed, or completed with a finish reason that ends a turn.
 *
 * **Gotchas**
 *
 * - A step without `completedMillis` may be running, or may be left over from a killed server. Only the status of the
 * session tells these apart.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isFinal = (self: Exchange): boolean => {
  const last = self.messages.at(-1)
  if (last?.info.role !== "assistant") return false
  const { error, finish, structured } = last.info
  if (error !== undefined) return true
  // Some providers send `stop` with a tool call, and OpenCode calls the model again all the same (1.18.33).
  const goesOn = finish === "stop" && structured === undefined && last.parts.some(({ type }) => type === "tool")
  return !goesOn && isLast(last.info)
}

/**
 * Whether an idle session will send nothing more: the answer has ended or was refused, or its end is known although its
 * time is unreadable.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isFinalWhenIdle = (self: Exchange): boolean => {
  if (isFinal(self) || isRefused(self)) return true
  const last = self.messages.at(-1)?.info
  return last?.role === "assistant" && last.finish !== undefined &&
    isFinal({ ...self, messages: self.messages.map(ended) })
}

/**
 * Whether the last step ended with a refused tool call without a message, or with a dismissed question. No further step
 * follows then, although `finish` is `tool-calls` and there is no error (1.18.33).
 *
 * **Gotchas**
 *
 * - The first rejected permission of a session rejects its other permissions too, without its message. The agent then stops, even if
 *   the first rejection had a message. Questions stay open (1.18.33).
 * - A step that also gave the structured value is an answer, so it does not count as refused.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isRefused = (self: Exchange): boolean => {
  const last = lastStep(self)
  return last?.info.completedMillis !== undefined && last.info.structured === undefined &&
    last.parts.some((part) => part.type === "tool" && part.isRefused === true)
}

/**
 * The finish reason of the last step: `stop`, `tool-calls`, `length`, …
 *
 * @category getters
 * @since 0.1.0
 */
export const finish = (self: Exchange): string | undefined => lastStep(self)?.info.finish

/**
 * Replaces the reply by the exchange; parts that only the stream knows stay.
 *
 * @category combinators
 * @since 0.1.0
 */
export const reconcile = (self: Exchange, reply: Reply.Reply): Reply.Reply => Reply.reconcile(reply, self.messages)

/**
 * Folds an exchange that may lag behind the stream into the reply; no visible text shrinks.
 *
 * @category combinators
 * @since 0.1.0
 */
export const merge = (self: Exchange, reply: Reply.Reply): Reply.Reply => Reply.merge(reply, self.messages)

// internal

const ended = (message: Message): Message =>
  message.info.role === "assistant"
    ? { ...message, info: { ...message.info, completedMillis: message.info.completedMillis ?? 0 } }
    : message

const fieldsOf = (all: ReadonlyArray<{ readonly field: string }>) => all.map(({ field }) => field)

const unreadFields = (
  promptId: MessageId,
  lastId: MessageId | undefined,
  messages: ReadonlyArray<Message>,
  own: ReadonlyArray<Message>,
  unread: ReadonlyArray<UnreadMessage>
): UnreadFields => {
  const parts = own.flatMap(({ info, unread = [] }) =>
    info.role === "assistant" && !info.isSummary
      ? unread.map(({ field, isText }) => ({ field: `${field} of ${info.id}`, isText }))
      : []
  )
  const opaque = messages.flatMap(({ info, parts }) =>
    info.role === "opaque" && info.id > promptId
      ? [{
        field: `${info.field} of ${info.id}`,
        isBehind: lastId === undefined || info.id > lastId,
        isText: parts.some(({ type }) => type === "text")
      }]
      : []
  )
  const nameless = unread.flatMap(({ after, field }) =>
    after !== undefined && after >= promptId
      ? [{
        field: `${field} of the message behind ${after}`,
        isBehind: lastId === undefined || after >= lastId,
        isText: true
      }]
      : []
  )
  // The parts of a user's message tell a continuation by OpenCode from another prompt.
  const orders = messages.flatMap(({ info, unread = [] }) =>
    info.role === "user" && info.id > promptId && !info.isContinuation
      ? unread.map(({ field }) => ({ field: `${field} of ${info.id}`, isBehind: true, isText: false }))
      : []
  )
  const unknown = [...opaque, ...nameless, ...orders]
  const between = unknown.filter(({ isBehind, isText }) => !isBehind && isText)
  return {
    lost: fieldsOf([...parts.filter(({ isText }) => isText), ...between]),
    hidden: fieldsOf(unknown.filter(({ isBehind }) => isBehind)),
    other: fieldsOf(parts.filter(({ isText }) => !isText))
  }
}
