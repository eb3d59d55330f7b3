/**
 * The reply of a turn: a pure fold of {@link TurnEvent}s.
 *
 * **Responsibilities**
 * - Keeps the parts in the order in which they were opened; the opening gives a text its type.
 * - Takes only the assistant messages that answer the turn's prompt. The user's own parts, answers to other prompts and other
 *   sessions never change it.
 * - Holds the open asks, the model's retries and the upstream failure.
 * - Gives each subagent, at any depth, a reply of its own. No session changes the parts of another.
 * - Is idempotent: folding an event again, at once or later, returns the same reply (the same reference).
 * - Builds the same shape from stored messages ({@link fromMessages}), which have the last word at the end ({@link reconcile}).
 *
 * **Not responsibilities**: deciding that a turn has ended (`Drive`), reading messages (`Client`), and time.
 *
 * **Event contract**
 * - A part is opened by `PartUpdated` with an empty text, grows by `PartDelta`, and is closed by a `PartUpdated` that
 *   carries the full text: a provider that drops the last deltas loses nothing.
 * - A delta counts only if its event id sorts after the part's last one, so doubled and late deltas are dropped (the deltas of
 *   one part are in order on 1.18.33). A delta lost that way is repaired when the part is closed.
 * - A delta before its part (older servers) opens a part typed by the delta's `field`; the part's type wins later.
 * - After a gap in the stream ({@link markGap}) an open part keeps its text until it is closed; appending would show text with a hole.
 *   The same holds for a part that was read from the store while it was open, because the store lacks the text of an open part.
 * - When the model is to be called again, open parts are emptied. The failed try's text is in no stored message (1.18.33), and the next
 *   try repeats it in another part.
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
import type { Ask } from "../domain/Ask.ts"
import type { AskId, MessageId, PartId, SessionId } from "../domain/Ids.ts"
import type { AssistantMessage, Message, SessionStatus } from "../domain/Message.ts"
import type { Part, Todo, ToolPart } from "../domain/Part.ts"
import { isTerminalTool } from "../domain/Part.ts"
import type { Subagent } from "../domain/Subagent.ts"
import type { PartDelta, TurnEvent } from "../domain/TurnEvent.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import * as Usage from "../domain/Usage.ts"
import * as Ordered from "./Ordered.ts"
import type { Entry } from "./ReplyEntry.ts"
import * as ReplyEntry from "./ReplyEntry.ts"
import { applyOwn, markOwnGap } from "./ReplyEvents.ts"
import { newestMessage } from "./ReplyMessages.ts"
import { applyDelta, takeBackTry, todosId } from "./ReplyParts.ts"
import * as ReplyReconcile from "./ReplyReconcile.ts"
import { applyAsked, applyResolved, dropAsks, isOfOtherPrompt, settleAsks } from "./ReplySessions.ts"
import type { FoldedMessage, Reply, SubagentState } from "./ReplyState.ts"
import {
  countMessages,
  current,
  entriesOf,
  entryOf,
  make,
  mapSubagents,
  setSubagents,
  withActive,
  withEntries
} from "./ReplyState.ts"
import {
  applyToSubagent,
  deleteSubagent,
  nameBy,
  nameFrom,
  nameFromMessage,
  nameSubagents,
  openSubagent,
  ownReplies,
  replyOf,
  restoreSubagent
} from "./ReplySubagents.ts"
import * as ReplyText from "./ReplyText.ts"

export type { Entry, PartEntry, TodosEntry } from "./ReplyEntry.ts"
export { fillIn } from "./ReplyReconcile.ts"
export { asksOf, countAsksOf, isInTree, syncAsks } from "./ReplySessions.ts"
export type { FoldedMessage, Linked, Reply, Retry, SessionState, SubagentState } from "./ReplyState.ts"
export { make } from "./ReplyState.ts"
export {
  closeSubagents,
  endSubagent,
  isTold,
  mayHaveOpened,
  mergeSubagent,
  outliveTurn,
  reconcileSubagent,
  replies,
  replyOf,
  type UnnamedCall,
  unnamedCalls
} from "./ReplySubagents.ts"
export type { TextEntry } from "./ReplyText.ts"
export { pieceLength } from "./ReplyText.ts"

/**
 * The summary of a reply. `text` is the text parts joined by a blank line; `tools` are the calls that have ended.
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
 * What an event means for the turn, by the fold. `sessionId` is a session of the turn's tree, or one that it ignores.
 *
 * **Details**
 *
 * - `Grew`: a part that a reader sees has more text.
 * - `Part`: a part was opened, changed or closed; `isStepEnd` if it ends a step. `Todos`: the to-do list was replaced.
 * - `Step`: one of the turn's own assistant messages, as this event reports it. `Prompt`: a message of a user.
 * - `Status`, `Failure`, `Deleted`: what became of the session. `Ask`, `AskEnd`: it asks a person, or does so no more.
 * - `Other`: anything else; the versions of the reply show whether something changed.
 *
 * @category models
 * @since 0.1.0
 */
export type Told =
  & { readonly sessionId: SessionId }
  & (
    | { readonly _tag: "Grew"; readonly partId: PartId; readonly type: "text" | "reasoning"; readonly delta: string }
    | { readonly _tag: "Part"; readonly partId: PartId; readonly isStepEnd: boolean }
    | { readonly _tag: "Todos"; readonly todos: ReadonlyArray<Todo> }
    | { readonly _tag: "Step"; readonly info: AssistantMessage }
    | { readonly _tag: "Prompt"; readonly messageId: MessageId }
    | { readonly _tag: "Status"; readonly eventId: string | undefined; readonly status: SessionStatus }
    | { readonly _tag: "Failure"; readonly eventId: string | undefined; readonly failure: UpstreamFailure }
    | { readonly _tag: "Deleted" }
    | { readonly _tag: "Ask"; readonly ask: Ask }
    | { readonly _tag: "AskEnd"; readonly askId: AskId }
    | { readonly _tag: "Other" }
  )

/**
 * Builds the reply from the server's stored messages, with the same fold as a stream.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromMessages = (
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  messages: ReadonlyArray<Message>
): Reply => reconcile(make(ids), messages)

/**
 * Restores a reply from its stored parts and subagents. It may have missed events since it was stored.
 *
 * **Details**
 *
 * A subagent's text and usage are stored as a whole. They stand in for its messages until those are read from the
 * server.
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
 * Folds one event. Returns `self` if the event changes nothing.
 *
 * @category folding
 * @since 0.1.0
 */
export const apply = (self: Reply, event: TurnEvent): Reply => fold(self, event)[0]

/**
 * Folds one event, and tells what the event means for the turn, so that nobody has to look at the event again.
 *
 * **Details**
 *
 * An event may mean something although the reply stays the same, for example that the session is busy. What is told is
 * undefined for more text of a part that does not belong to the turn.
 *
 * @category folding
 * @since 0.1.0
 */
export const fold = (self: Reply, event: TurnEvent): readonly [Reply, Told | undefined] => {
  const { eventId, sessionId } = event
  switch (event._tag) {
    case "PartDelta": {
      // The hot path: nearly every event is a delta.
      const after = sessionId === self.sessionId ? applyDelta(self, event) : applyToSubagent(self, event)
      return [after, after === self ? undefined : grown(after, event)]
    }
    case "PartUpdated": {
      const { part } = event
      const changed = applyInTree(self, event)
      const mayName = changed !== self && part.type === "tool" && part.subagent !== undefined
      const entry = mayName ? entryIn(changed, sessionId, part.id) : undefined
      const after = entry === undefined ? changed : nameBy(changed, sessionId, [entry])
      return [after, { _tag: "Part", sessionId, partId: part.id, isStepEnd: part.type === "step-finish" }]
    }
    case "MessageUpdated": {
      const { info } = event
      const changed = applyInTree(self, event)
      const after = changed === self ? self : nameFromMessage(changed, sessionId, info.id)
      if (info.role === "user") return [after, { _tag: "Prompt", sessionId, messageId: info.id }]
      return [after, isStepOf(after, sessionId, info.id) ? { _tag: "Step", sessionId, info } : other(sessionId)]
    }
    case "StatusChanged": {
      const { status } = event
      return [applyInTree(settleAsks(self, event), event), { _tag: "Status", sessionId, eventId, status }]
    }
    case "SessionFailed":
      return isOfOtherPrompt(self, event)
        ? [self, other(sessionId)]
        : [applyInTree(self, event), { _tag: "Failure", sessionId, eventId, failure: event.failure }]
    case "TodosUpdated":
      return [applyInTree(self, event), { _tag: "Todos", sessionId, todos: event.todos }]
    case "SessionDeleted":
      return [deleteSubagent(dropAsks(self, sessionId), event), { _tag: "Deleted", sessionId }]
    case "Asked":
      return [applyAsked(self, event), { _tag: "Ask", sessionId, ask: event.ask }]
    case "AskResolved":
      return [applyResolved(self, event), { _tag: "AskEnd", sessionId, askId: event.askId }]
    case "SessionOpened":
      return [openSubagent(self, event), other(sessionId)]
    case "MessageRemoved":
    case "PartRemoved":
    case "TurnContinued":
      return [applyInTree(self, event), other(sessionId)]
  }
}

/**
 * Merges the turn's stored messages, which may lag behind the stream. Parts that may still grow do not shrink, and
 * parts that the stream missed are inserted at their place.
 *
 * @category folding
 * @since 0.1.0
 */
export const merge = (self: Reply, messages: ReadonlyArray<Message>): Reply =>
  nameFrom(ReplyReconcile.merge(self, messages), self.sessionId)

/**
 * Replaces the reply by the turn's stored messages: their parts, order and text, even if the text is shorter. A blank
 * stored text replaces nothing: words that the stream had closed stay if the store has their part blank, or has no
 * words of their message at all. Stream-only parts stay behind the part that they followed.
 *
 * @category folding
 * @since 0.1.0
 */
export const reconcile = (self: Reply, messages: ReadonlyArray<Message>): Reply =>
  nameFrom(ReplyReconcile.reconcile(self, messages), self.sessionId)

/**
 * Marks that events may have been missed. Open parts keep their text until they are closed.
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
 * Gives up what the server died in the middle of, because the model is called again and repeats it in other parts: the open text of the
 * newest message is emptied, as for a failed try. Events may have been missed, too.
 *
 * @category folding
 * @since 0.1.0
 */
export const abandonTry = (self: Reply): Reply => markGap(takeBackTry(self, undefined))

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
export const usage = (self: Reply): Usage.Usage => self.used

/**
 * The differences between a session's parts and those of an earlier version of its reply: new or changed parts, removed
 * parts, and whether a new part stands between old ones. The cost grows with the differences.
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
 * The work of each subagent, in the order in which the subagents were opened.
 *
 * @category getters
 * @since 0.1.0
 */
export const subagents = (self: Reply): ReadonlyArray<Subagent> =>
  Ordered.values(self.session.subagents).map(toSubagent)

/**
 * The folded state of each subagent, in the order in which the subagents were opened.
 *
 * @category getters
 * @since 0.1.0
 */
export const subagentStates = (self: Reply): ReadonlyArray<SubagentState> => Ordered.values(self.session.subagents)

/**
 * The folded state of one subagent.
 *
 * @category getters
 * @since 0.1.0
 */
export const subagentOf = (self: Reply, sessionId: SessionId): SubagentState | undefined =>
  Ordered.get(self.session.subagents, sessionId)

/**
 * The open asks, in their order.
 *
 * @category getters
 * @since 0.1.0
 */
export const asks = (self: Reply): ReadonlyArray<Ask> => Ordered.values(self.session.asks)

/**
 * Whether an ask is still open.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isAsked = (self: Reply, id: AskId): boolean => Ordered.has(self.session.asks, id)

/**
 * The open asks that an earlier version of the reply did not have. The cost grows with the differences.
 *
 * @category getters
 * @since 0.1.0
 */
export const newAsks = (self: Reply, before: Reply): ReadonlyArray<Ask> =>
  Ordered.news(self.session.asks, before.session.asks)

/**
 * The assistant messages of the turn's own session, in the order of their arrival.
 *
 * @category getters
 * @since 0.1.0
 */
export const messages = (self: Reply): ReadonlyArray<FoldedMessage> => Ordered.values(self.session.messages)

/**
 * One assistant message of the turn's own session.
 *
 * @category getters
 * @since 0.1.0
 */
export const message = (self: Reply, id: MessageId): FoldedMessage | undefined => Ordered.get(self.session.messages, id)

/**
 * The size of the reply over all its sessions: open asks, subagents, messages and parts.
 *
 * @category getters
 * @since 0.1.0
 */
export const size = (
  self: Reply
): { readonly openAsks: number; readonly subagents: number; readonly messages: number; readonly parts: number } => {
  const { asks, subagents, tally } = self.session
  return {
    openAsks: Ordered.size(asks),
    subagents: Ordered.size(subagents),
    messages: countMessages(self) + tally.messages,
    parts: Ordered.size(self.entries) + tally.parts
  }
}

/**
 * A subagent as a reader sees it. The cost grows with the length of its text.
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
  usage: usage(reply),
  ...(reply.session.failure !== undefined && { failure: reply.session.failure })
})

/**
 * Cost and tokens of the whole turn, with its own session and its subagents apart.
 *
 * @category getters
 * @since 0.1.0
 */
export const turnUsage = (self: Reply): Usage.TurnUsage => {
  const { used: root, session: { tally: { usage: subagents } } } = self
  return { total: Usage.sum([root, subagents]), root, subagents }
}

/**
 * The number of model calls that the turn's own session and its subagents began. Calls for a summary count too.
 *
 * @category getters
 * @since 0.1.0
 */
export const steps = ({ session }: Reply): number => session.steps + session.tally.steps

/**
 * How often OpenCode announced a repeated model call, in the turn's own session and its subagents.
 *
 * @category getters
 * @since 0.1.0
 */
export const retries = ({ session }: Reply): number => session.retries + session.tally.retries

/**
 * The last reported failure or retry of the turn's own session, or else of a subagent.
 *
 * @category getters
 * @since 0.1.0
 */
export const trouble = (self: Reply): UpstreamFailure | undefined =>
  ownReplies(self).find(({ session }) => session.trouble !== undefined)?.session.trouble

/**
 * The ended tool calls of a message. The cost grows with the size of the message.
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
 * The summary of the reply.
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
 * The server's reason for the end of the newest step of the turn's own session: `stop`, `length`, `tool-calls`, … It is
 * undefined while the step runs, and if it was stopped.
 *
 * @category getters
 * @since 0.1.0
 */
export const finish = (self: Reply): string | undefined => newestMessage(self)?.finish

/**
 * Whether the turn waits for a person; its deadlines then stand still.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isBlocked = (self: Reply): boolean => Ordered.size(self.session.asks) > 0

/**
 * Whether the session works on a message of the answer, as far as an unbroken stream has told, and asks nobody anything.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isAtWork = ({ session }: Reply): boolean => {
  const newest = Ordered.findLast(session.messages, () => true)
  return !session.hasGap && Ordered.size(session.asks) === 0 && newest?.ownership === "ours" &&
    newest.info.completedMillis === undefined && newest.info.error === undefined
}

/**
 * Whether the turn's own session has text that a reader sees.
 *
 * @category predicates
 * @since 0.1.0
 */
export const hasText = (self: Reply): boolean => self.visibleTexts > 0

/**
 * Whether the reply has nothing that a reader would see: no text, no reasoning, no tool call, no file.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isEmpty = (self: Reply): boolean => current(self).every(ReplyEntry.isEmpty)

/**
 * Whether a step of the turn's own session has a text that is not blank. Reasoning, tool calls and files do not count.
 *
 * @category predicates
 * @since 0.1.0
 */
export const hasWords = (self: Reply): boolean => current(self).some(ReplyEntry.hasWords)

/**
 * Whether a reader would see no difference: both have the same parts with the same contents in the same order.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSameContent = (self: Reply, that: Reply): boolean => Equal.equals(parts(self), parts(that))

// internal

/** A constant, so that a missing list keeps its reference like an unchanged one. */
const noTodos: ReadonlyArray<Todo> = []

const partOf = (entries: Reply["entries"], id: PartId): Part | undefined => {
  const entry = Ordered.get(entries, id)
  return entry?.isOurs === true ? ReplyEntry.toPart(entry) : undefined
}

const entryIn = (self: Reply, sessionId: SessionId, id: PartId): Entry | undefined => {
  const reply = replyOf(self, sessionId)
  return reply && entryOf(reply, id)
}

const other = (sessionId: SessionId): Told => ({ _tag: "Other", sessionId })

const grown = (after: Reply, { delta, partId, sessionId }: PartDelta): Told | undefined => {
  const entry = replyOf(after, sessionId)?.active
  return entry?.kind === "text" && entry.id === partId && entry.isOurs
    ? { _tag: "Grew", sessionId, partId, type: entry.type, delta }
    : undefined
}

const isStepOf = (self: Reply, sessionId: SessionId, id: MessageId): boolean => {
  const reply = replyOf(self, sessionId)
  const state = reply && message(reply, id)
  return state !== undefined && state.ownership !== "foreign"
}

const applyInTree = (self: Reply, event: TurnEvent): Reply =>
  event.sessionId === self.sessionId ? applyOwn(self, event) : applyToSubagent(self, event)

const joined = (self: Reply, type: "text" | "reasoning"): string =>
  current(self)
    .flatMap((entry) => entry.isOurs && entry.kind === "text" && entry.type === type ? [ReplyText.contents(entry)] : [])
    .filter((text) => text !== "")
    .join("\n\n")
