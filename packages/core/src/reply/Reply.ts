/**
 * The reply of a turn: a pure fold of {@link TurnEvent}s.
 *
 * **Responsibilities**
 * - Parts in the order in which they were opened, text typed by the part that opened it.
 * - Only the assistant messages that answer the turn's prompt; the user's own parts, other prompts' answers and foreign
 *   sessions never change it.
 * - What is asked and not answered yet, the model's retries, the upstream failure.
 * - The subagents, to any depth: each has a reply of its own. Nothing that one says changes the parts of another.
 * - Idempotence: folding an event a second time, at once or later, gives back the same reply (the same reference).
 * - The same shape from stored messages ({@link fromMessages}) and their authority at the end ({@link reconcile}).
 *
 * **Not responsibilities**: deciding that a turn has ended (`Drive`), reading messages (`Client`), time.
 *
 * **Event contract**
 * - A part is opened by `PartUpdated` with an empty text, grows by `PartDelta`, and is closed by a `PartUpdated` that
 *   carries the full text: a provider that drops the last deltas loses nothing.
 * - A delta counts only if its event id sorts after the part's last one, so doubled and late deltas are dropped (the deltas of
 *   one part are in order on 1.18.33). A delta lost that way is repaired when the part is closed.
 * - A delta before its part (older servers) opens a part typed by the delta's `field`; the part's type wins later.
 * - After a gap in the stream ({@link markGap}) a part that was open shows what it had until it is closed: text with a
 *   hole in it would be shown otherwise. So does a part that was read while it was open: what it had is not stored then.
 * - When the model is to be asked again, what is open is emptied: the failed try's text is in no record (1.18.33), and the
 *   next try says it anew in another part.
 *
 * **Example**
 * ```ts
 * const reply = events.reduce(Reply.apply, Reply.make({ sessionId, promptId }))
 * Reply.text(reply) // the answer so far
 * ```
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import * as HashSet from "effect/HashSet"
import type { Ask } from "../domain/Ask.ts"
import type { AskId, MessageId, PartId, SessionId } from "../domain/Ids.ts"
import type { Message } from "../domain/Message.ts"
import type { Part, Todo, ToolPart } from "../domain/Part.ts"
import { isTerminalTool } from "../domain/Part.ts"
import type { Subagent } from "../domain/Subagent.ts"
import type { TurnEvent } from "../domain/TurnEvent.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import * as Usage from "../domain/Usage.ts"
import * as Ordered from "./Ordered.ts"
import type { Entry } from "./ReplyEntry.ts"
import * as ReplyEntry from "./ReplyEntry.ts"
import { applyOwn, markOwnGap } from "./ReplyEvents.ts"
import { newestMessage } from "./ReplyMessages.ts"
import { applyDelta, todosId } from "./ReplyParts.ts"
import * as ReplyReconcile from "./ReplyReconcile.ts"
import { applyAsked, applyResolved, dropAsks, settleAsks } from "./ReplySessions.ts"
import type { MessageState, Reply, SubagentState } from "./ReplyState.ts"
import { current, entriesOf, entryOf, make, mapSubagents, setSubagents, withActive, withEntries } from "./ReplyState.ts"
import {
  applyToSubagent,
  deleteSubagent,
  nameBy,
  nameFrom,
  nameFromMessage,
  nameSubagents,
  openSubagent,
  ownReplies,
  replies,
  replyOf,
  restoreSubagent
} from "./ReplySubagents.ts"
import * as ReplyText from "./ReplyText.ts"

export type { Entry, PartEntry, TodosEntry } from "./ReplyEntry.ts"
export { fillIn } from "./ReplyReconcile.ts"
export { asksOf, countAsksOf, isInTree, syncAsks } from "./ReplySessions.ts"
export type { Linked, MessageState, Reply, Retry, SessionState, SubagentState } from "./ReplyState.ts"
export { make } from "./ReplyState.ts"
export {
  closeSubagents,
  endSubagent,
  isTold,
  mergeSubagent,
  reconcileSubagent,
  replies,
  replyOf
} from "./ReplySubagents.ts"
export type { TextEntry } from "./ReplyText.ts"
export { pieceLength } from "./ReplyText.ts"

/**
 * What a reply amounts to. `text` is the text parts joined by a blank line, `tools` the calls that have ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReplyResult {
  readonly parts: ReadonlyArray<Part>
  readonly text: string
  readonly reasoning: string
  readonly tools: ReadonlyArray<ToolPart>
  readonly todos: ReadonlyArray<Todo>
  readonly usage: Usage.Usage
}

/**
 * The reply that the server's stored messages make, by the same fold as a stream.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromMessages = (
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  messages: ReadonlyArray<Message>
): Reply => reconcile(make(ids), messages)

/**
 * The reply as far as it was stored before: its parts and subagents, with what may have been missed since then.
 *
 * **Details**
 *
 * Of a subagent its text and its usage are stored as a whole. Both stand for what it said until its record comes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const restore = (
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  parts: ReadonlyArray<Part>,
  subagents: ReadonlyArray<Subagent> = []
): Reply => {
  const entries = parts.map((part): Entry =>
    part.type === "todos"
      ? { kind: "todos", id: part.id, isOurs: true, todos: part.todos, eventId: undefined }
      : ReplyEntry.open(part, true, undefined)
  )
  const reply = withEntries(make(ids), entries)
  const states = subagents.map((subagent) => restoreSubagent(ids.promptId, subagent))
  return markGap(nameSubagents(setSubagents(reply, states)))
}

/**
 * Folds one event. Gives back `self` for what changes nothing.
 *
 * @category folding
 * @since 0.1.0
 */
export const apply = (self: Reply, event: TurnEvent): Reply => {
  switch (event._tag) {
    case "PartDelta":
      // The hot path: nearly every event is one of these.
      return event.sessionId === self.sessionId ? applyDelta(self, event) : applyToSubagent(self, event)
    case "PartUpdated": {
      const changed = applyInTree(self, event)
      const mayName = changed !== self && event.part.type === "tool" && event.part.subagent !== undefined
      const entry = mayName ? entryIn(changed, event.sessionId, event.part.id) : undefined
      return entry === undefined ? changed : nameBy(changed, event.sessionId, [entry])
    }
    case "MessageUpdated": {
      const changed = applyInTree(self, event)
      return changed === self ? self : nameFromMessage(changed, event.sessionId, event.info.id)
    }
    case "StatusChanged":
      return applyInTree(settleAsks(self, event), event)
    case "SessionOpened":
      return openSubagent(self, event)
    case "SessionDeleted":
      return deleteSubagent(dropAsks(self, event.sessionId), event)
    case "Asked":
      return applyAsked(self, event)
    case "AskResolved":
      return applyResolved(self, event)
    default:
      return applyInTree(self, event)
  }
}

/**
 * Folds a reading of the turn's stored messages that may lag behind the stream: nothing that may still grow shrinks, and what
 * the stream missed takes its place between what it brought.
 *
 * @category folding
 * @since 0.1.0
 */
export const merge = (self: Reply, messages: ReadonlyArray<Message>): Reply =>
  nameFrom(ReplyReconcile.merge(self, messages), self.sessionId)

/**
 * Makes the turn's stored messages the truth: their parts, their order and their text, also where it is shorter, but not where it is
 * blank: words that the stream had closed stay then, of a part that the record has without them, or of a message of whose words it has
 * none. Stream-only parts keep their place behind the part that they followed.
 *
 * @category folding
 * @since 0.1.0
 */
export const reconcile = (self: Reply, messages: ReadonlyArray<Message>): Reply =>
  nameFrom(ReplyReconcile.reconcile(self, messages), self.sessionId)

/**
 * Marks that events may have been missed: parts that are open keep what they show until they are closed.
 *
 * @category folding
 * @since 0.1.0
 */
export const markGap = (self: Reply): Reply =>
  mapSubagents(markOwnGap(self), (subagent) => {
    const reply = markOwnGap(subagent.reply)
    return reply === subagent.reply ? subagent : { ...subagent, reply }
  })

/**
 * The parts in their order.
 *
 * @category getters
 * @since 0.1.0
 */
export const parts = (self: Reply): ReadonlyArray<Part> =>
  current(self).filter((entry) => entry.isOurs).map(ReplyEntry.toPart)

/**
 * One part, by its id.
 *
 * @category getters
 * @since 0.1.0
 */
export const part = (self: Reply, id: PartId): Part | undefined => {
  const entry = entryOf(self, id)
  return entry?.isOurs === true ? ReplyEntry.toPart(entry) : undefined
}

/**
 * The text parts joined by a blank line. Costs the length of the text: do not call it for every delta.
 *
 * @category getters
 * @since 0.1.0
 */
export const text = (self: Reply): string => joined(self, "text")

/**
 * The reasoning parts joined by a blank line.
 *
 * @category getters
 * @since 0.1.0
 */
export const reasoning = (self: Reply): string => joined(self, "reasoning")

/**
 * Cost and tokens over all steps that have ended.
 *
 * @category getters
 * @since 0.1.0
 */
export const usage = (self: Reply): Usage.Usage => Usage.sum(parts(self).filter((part) => part.type === "step-finish"))

/**
 * How the parts of a session differ from those of an earlier version of its reply: what is new or changed, what is gone, and whether
 * something new stands between parts that were there. Costs what differs.
 *
 * @category getters
 * @since 0.1.0
 */
export const changedParts = (
  before: Reply,
  after: Reply
): { readonly changed: ReadonlyArray<Part>; readonly removed: ReadonlyArray<PartId>; readonly isBetween: boolean } => {
  const [old, now] = [withActive(before), withActive(after)]
  const news = Ordered.news(now, old).filter(({ isOurs }) => isOurs)
  const added = news.find(({ id }) => Ordered.get(old, id)?.isOurs !== true)
  const isKept = ({ id, isOurs }: Entry) => isOurs && Ordered.get(old, id)?.isOurs === true
  const last = before.lastOurs === undefined ? undefined : Ordered.get(now, before.lastOurs)
  const newest = last !== undefined && isKept(last) ? last : added && Ordered.findLast(now, isKept)
  return {
    changed: news.map(ReplyEntry.toPart).filter((part) => !Equal.equals(part, partOf(old, part.id))),
    removed: Ordered.news(old, now).filter(({ id, isOurs }) => isOurs && Ordered.get(now, id)?.isOurs !== true)
      .map(({ id }) => id),
    isBetween: added !== undefined && newest !== undefined &&
      (Ordered.placeOf(now, added.id) ?? 0) < (Ordered.placeOf(now, newest.id) ?? 0)
  }
}

/**
 * The agent's to-do list.
 *
 * @category getters
 * @since 0.1.0
 */
export const todos = (self: Reply): ReadonlyArray<Todo> => {
  const entry = entryOf(self, todosId(self.sessionId))
  return entry?.kind === "todos" ? entry.todos : noTodos
}

/**
 * What each subagent did, in the order in which they were opened.
 *
 * @category getters
 * @since 0.1.0
 */
export const subagents = (self: Reply): ReadonlyArray<Subagent> =>
  Ordered.values(self.session.subagents).map(toSubagent)

/**
 * The subagents as they are folded, in the order in which they were opened.
 *
 * @category getters
 * @since 0.1.0
 */
export const subagentStates = (self: Reply): ReadonlyArray<SubagentState> => Ordered.values(self.session.subagents)

/**
 * What one subagent is at.
 *
 * @category getters
 * @since 0.1.0
 */
export const subagentOf = (self: Reply, sessionId: SessionId): SubagentState | undefined =>
  Ordered.get(self.session.subagents, sessionId)

/**
 * What is asked and not answered yet, in its order.
 *
 * @category getters
 * @since 0.1.0
 */
export const asks = (self: Reply): ReadonlyArray<Ask> => Ordered.values(self.session.asks)

/**
 * Whether a request is not answered yet.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isAsked = (self: Reply, id: AskId): boolean => Ordered.has(self.session.asks, id)

/**
 * What is asked, and was not in an earlier version of the reply. Costs what differs, not what is asked.
 *
 * @category getters
 * @since 0.1.0
 */
export const newAsks = (self: Reply, before: Reply): ReadonlyArray<Ask> =>
  Ordered.news(self.session.asks, before.session.asks)

/**
 * The assistant messages of the turn's own session, in the order in which they came.
 *
 * @category getters
 * @since 0.1.0
 */
export const messages = (self: Reply): ReadonlyArray<MessageState> => Ordered.values(self.session.messages)

/**
 * One assistant message of the turn's own session.
 *
 * @category getters
 * @since 0.1.0
 */
export const message = (self: Reply, id: MessageId): MessageState | undefined => Ordered.get(self.session.messages, id)

/**
 * How much the reply holds of all its sessions: what is asked, and the subagents, messages and parts.
 *
 * @category getters
 * @since 0.1.0
 */
export const size = (
  self: Reply
): { readonly openAsks: number; readonly subagents: number; readonly messages: number; readonly parts: number } => {
  let messages = 0
  let parts = 0
  for (const { entries, session } of replies(self)) {
    messages += Ordered.size(session.messages) + HashSet.size(session.userMessages) +
      HashSet.size(session.continuations)
    parts += Ordered.size(entries)
  }
  return { openAsks: Ordered.size(self.session.asks), subagents: Ordered.size(self.session.subagents), messages, parts }
}

/**
 * What one subagent did. Costs the length of its text.
 *
 * @category getters
 * @since 0.1.0
 */
export const toSubagent = (
  { agent, openedBy, parentId, reply, sessionId, status, title }: SubagentState
): Subagent => ({
  sessionId,
  parentId,
  ...(openedBy !== undefined && { openedBy }),
  title,
  ...(agent !== undefined && { agent }),
  status,
  text: text(reply),
  usage: usage(reply)
})

/**
 * Cost and tokens of the whole turn, its own session and its subagents apart.
 *
 * @category getters
 * @since 0.1.0
 */
export const turnUsage = (self: Reply): Usage.TurnUsage => {
  const root = usage(self)
  const subagents = Usage.sum(ownReplies(self).slice(1).map(usage))
  return { total: Usage.sum([root, subagents]), root, subagents }
}

/**
 * How many calls of the model were begun, by the turn's own session and its subagents; those that only summed up count too.
 *
 * @category getters
 * @since 0.1.0
 */
export const steps = (self: Reply): number =>
  sumOverTree(self, (reply) => messages(reply).filter(({ ownership }) => ownership !== "foreign").length)

/**
 * How often a call of the model was to be made again, by the turn's own session and its subagents.
 *
 * @category getters
 * @since 0.1.0
 */
export const retries = (self: Reply): number => sumOverTree(self, ({ session }) => session.retries)

/**
 * The last failure or retry that was heard of the turn's own session, or else of a subagent.
 *
 * @category getters
 * @since 0.1.0
 */
export const trouble = (self: Reply): UpstreamFailure | undefined =>
  ownReplies(self).find(({ session }) => session.trouble !== undefined)?.session.trouble

/**
 * The tool calls of a message that have ended. Costs what the message holds.
 *
 * @category getters
 * @since 0.1.0
 */
export const endedTools = (self: Reply, messageId: MessageId): ReadonlyArray<ToolPart> => {
  const tools: Array<ToolPart> = []
  for (const entry of entriesOf(self, messageId)) {
    if (entry.kind === "part" && entry.part.type === "tool" && isTerminalTool(entry.part)) tools.push(entry.part)
  }
  return tools
}

/**
 * Everything that the reply amounts to.
 *
 * @category getters
 * @since 0.1.0
 */
export const result = (self: Reply): ReplyResult => {
  const all = parts(self)
  return {
    parts: all,
    text: text(self),
    reasoning: reasoning(self),
    tools: all.filter((part) => part.type === "tool").filter(isTerminalTool),
    todos: todos(self),
    usage: usage(self)
  }
}

/**
 * Why the newest step of the turn's own session ended, in the server's word: `stop`, `length`, `tool-calls`, … Undefined while
 * it goes on, and where it was stopped.
 *
 * @category getters
 * @since 0.1.0
 */
export const finish = (self: Reply): string | undefined => newestMessage(self)?.finish

/**
 * Whether a person is being waited for; deadlines stand still then.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isBlocked = (self: Reply): boolean => Ordered.size(self.session.asks) > 0

/**
 * Whether the turn's own session said something that a reader sees.
 *
 * @category predicates
 * @since 0.1.0
 */
export const hasText = (self: Reply): boolean => self.visibleTexts > 0

/**
 * Whether the reply holds nothing that a reader would see: no text, no reasoning, no tool call, no file.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isEmpty = (self: Reply): boolean => current(self).every(ReplyEntry.isEmpty)

/**
 * Whether the turn's own session said something, in any step: a text that is not blank. What it thought, did or made are no words.
 *
 * @category predicates
 * @since 0.1.0
 */
export const hasWords = (self: Reply): boolean => current(self).some(ReplyEntry.hasWords)

/**
 * Whether a reader would see the same: the same parts with the same contents in the same order.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSameContent = (self: Reply, that: Reply): boolean => Equal.equals(parts(self), parts(that))

// internal

/** Always the same one, as an unchanged list is. */
const noTodos: ReadonlyArray<Todo> = []

const partOf = (entries: Reply["entries"], id: PartId): Part | undefined => {
  const entry = Ordered.get(entries, id)
  return entry?.isOurs === true ? ReplyEntry.toPart(entry) : undefined
}

const entryIn = (self: Reply, sessionId: SessionId, id: PartId): Entry | undefined => {
  const reply = replyOf(self, sessionId)
  return reply && entryOf(reply, id)
}

const applyInTree = (self: Reply, event: TurnEvent): Reply =>
  event.sessionId === self.sessionId ? applyOwn(self, event) : applyToSubagent(self, event)

const sumOverTree = (self: Reply, count: (reply: Reply) => number): number =>
  ownReplies(self).reduce((sum, reply) => sum + count(reply), 0)

const joined = (self: Reply, type: "text" | "reasoning"): string =>
  current(self)
    .flatMap((entry) => entry.isOurs && entry.kind === "text" && entry.type === type ? [ReplyText.contents(entry)] : [])
    .filter((text) => text !== "")
    .join("\n\n")
