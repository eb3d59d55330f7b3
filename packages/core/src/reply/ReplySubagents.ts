/**
 * The subagents of a reply, from their opening to their end. Each has a reply of its own.
 *
 * A subagent's reply uses the fold of the turn's own reply, but its prompts come from the tools that call it, in this
 * turn or another. A user message of the subagent continues the reply if it sorts after the turn's prompt and was made
 * since the first call of this turn; its answers belong to the turn, and earlier messages do not. Ids sort by time.
 *
 * @since 0.1.0
 */
import * as HashSet from "effect/HashSet"
import * as Predicate from "effect/Predicate"
import { MessageId, PartId, type SessionId } from "../domain/Ids.ts"
import type { Message, MessageInfo } from "../domain/Message.ts"
import type { ToolPart } from "../domain/Part.ts"
import type { Subagent, SubagentStatus } from "../domain/Subagent.ts"
import * as ToolCall from "../domain/ToolCall.ts"
import type { SessionDeleted, SessionOpened, StatusChanged, TurnEvent } from "../domain/TurnEvent.ts"
import { isAborted } from "../domain/UpstreamFailure.ts"
import { isStale } from "./EventOrder.ts"
import * as Ordered from "./Ordered.ts"
import type { Entry } from "./ReplyEntry.ts"
import { applyOwn } from "./ReplyEvents.ts"
import { continueTurn, hasEnded, removeMessage, withoutEntriesOf } from "./ReplyMessages.ts"
import { merge, reconcile } from "./ReplyReconcile.ts"
import { applyStatus, isInTree } from "./ReplySessions.ts"
import type { Reply, SubagentState } from "./ReplyState.ts"
import {
  addSubagent,
  closeTally,
  current,
  entriesOf,
  make,
  mapSubagent,
  mapSubagents,
  putSubagent,
  withEntries,
  withSession
} from "./ReplyState.ts"

/** Opens a subagent. If a tool named the session before, this event adds its title and agent. */
export const openSubagent = (self: Reply, { agent, parentId, sessionId, title }: SessionOpened): Reply => {
  const { subagents } = self.session
  const known = Ordered.get(subagents, sessionId)
  if (known !== undefined) {
    return isTold(known) || agent === undefined
      ? self
      : withSession(self, putSubagent(self, { ...known, title, agent }))
  }
  if (parentId === undefined || sessionId === self.sessionId || !isInTree(self, parentId)) return self
  return withSession(self, putSubagent(self, begin(self, { sessionId, parentId, title, agent })))
}

/** Applies an event of a subagent's session. */
export const applyToSubagent = (self: Reply, event: TurnEvent): Reply => {
  const { subagents } = self.session
  const before = Ordered.get(subagents, event.sessionId)
  if (before === undefined) return self
  const after = change(before, event)
  return after === before ? self : withSession(self, putSubagent(self, after))
}

/**
 * Links each subagent to the first tool part that names it. The part may arrive before the session, and before its own
 * message is known to be the turn's. It may also be the only sign of an earlier turn's session that a tool continues.
 */
export const nameSubagents = (self: Reply): Reply =>
  replies(self).reduce((reply, { sessionId }) => nameFrom(reply, sessionId), self)

/** Links the subagents that one session's parts name. The cost grows with the size of the session. */
export const nameFrom = (self: Reply, sessionId: SessionId): Reply => {
  const reply = replyOf(self, sessionId)
  return reply === undefined ? self : nameBy(self, sessionId, current(reply))
}

/** Links the subagents that one message's parts name. */
export const nameFromMessage = (self: Reply, sessionId: SessionId, messageId: MessageId): Reply => {
  const reply = replyOf(self, sessionId)
  return reply === undefined ? self : nameBy(self, sessionId, entriesOf(reply, messageId))
}

/** Links the subagents that some parts of a session name. The cost grows with the number of parts. */
export const nameBy = (self: Reply, parentId: SessionId, entries: ReadonlyArray<Entry>): Reply => {
  const parent = replyOf(self, parentId)
  const named = namingsIn(entries, parent)
  if (named.size === 0) return self
  const isAfter = (id: PartId, other: PartId) =>
    parent !== undefined && (Ordered.placeOf(parent.entries, id) ?? 0) >= (Ordered.placeOf(parent.entries, other) ?? 0)
  let after = self
  for (const [sessionId, naming] of named) {
    if (sessionId === self.sessionId) continue
    after = Ordered.has(after.session.subagents, sessionId)
      ? mapSubagent(after, sessionId, (known) => call(known, naming, isAfter))
      : addSubagent(
        after,
        call(begin(after, { sessionId, parentId, title: naming.title, agent: undefined }), naming, isAfter)
      )
  }
  return after
}

/**
 * The reply of one session of the tree: the turn's own, or a subagent's.
 *
 * @category getters
 * @since 0.1.0
 */
export const replyOf = (self: Reply, sessionId: SessionId): Reply | undefined =>
  sessionId === self.sessionId ? self : Ordered.get(self.session.subagents, sessionId)?.reply

/**
 * Whether the server reported the subagent's session itself, and not only through a tool part.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isTold = ({ agent }: SubagentState): boolean => agent !== undefined

/**
 * The reply of each session of the tree, the turn's own first.
 *
 * @category getters
 * @since 0.1.0
 */
export const replies = (self: Reply): ReadonlyArray<Reply> => [
  self,
  ...Ordered.values(self.session.subagents).map((subagent) => subagent.reply)
]

/**
 * The turn's own reply, and those of the sessions that the turn's tools opened: together they are its usage. Sessions of another turn,
 * which ran while this one waited for it, may be in the same tree; {@link closeSubagents} removes them at the end.
 *
 * @category getters
 * @since 0.1.0
 */
export const ownReplies = (self: Reply): ReadonlyArray<Reply> => [
  self,
  ...Ordered.values(self.session.subagents)
    .filter(({ sessionId }) => HashSet.has(self.session.tally.own, sessionId))
    .map(({ reply }) => reply)
]

/**
 * Merges a subagent's stored messages, which may lag behind the stream: parts that may still grow do not shrink.
 *
 * @category folding
 * @since 0.1.0
 */
export const mergeSubagent = (self: Reply, sessionId: SessionId, messages: ReadonlyArray<Message>): Reply =>
  withRecord(self, sessionId, messages, (subagent, recorded) => {
    const reply = withoutEntriesOf(subagent.reply, restoredId(sessionId))
    return changed(subagent, merge(promptedBy(reply, recorded), recorded))
  })

/**
 * Replaces the reply of a subagent of an ended turn by its stored messages. They also decide how the subagent ended.
 *
 * @category folding
 * @since 0.1.0
 */
export const reconcileSubagent = (self: Reply, sessionId: SessionId, messages: ReadonlyArray<Message>): Reply =>
  withRecord(self, sessionId, messages, (subagent, recorded) => {
    const reply = reconcile(promptedBy(subagent.reply, recorded), recorded)
    return asToolTells({ ...subagent, reply, status: endOf(reply), outlives: false })
  })

/**
 * Notes that a subagent works on although its turn has ended: its call did not wait for it.
 *
 * @category folding
 * @since 0.1.0
 */
export const outliveTurn = (self: Reply, sessionId: SessionId): Reply =>
  mapSubagent(self, sessionId, (subagent) => ({ ...subagent, status: "running", outlives: true }))

/**
 * Ends a subagent whose end the stream did not report, by its last known message.
 *
 * @category folding
 * @since 0.1.0
 */
export const endSubagent = (self: Reply, sessionId: SessionId): Reply => mapSubagent(self, sessionId, ended)

/**
 * Ends the subagents of an ended turn: a running one without an end was cut off, unless it outlives the turn. Subagents that no tool of the turn
 * names are dropped, unless the naming part may have been missed. They belong to an earlier turn that still ran, or
 * that the server reported late.
 *
 * @category folding
 * @since 0.1.0
 */
export const closeSubagents = (self: Reply): Reply => {
  const paired = pairSubagents(self)
  const left = mapSubagents(paired, (subagent) => {
    const isOwn = subagent.openedBy !== undefined ||
      (!isSilent(subagent.reply) && isUnfinished(paired, subagent.parentId))
    return isOwn ? ended(subagent) : undefined
  })
  return closeTally(left)
}

/**
 * A call that opens a subagent, and whose part does not say which session it opened.
 *
 * **Details**
 *
 * 1.18.33 loses the session of a call that opens it before the server has noted that the call runs. A call that ends
 * well names it again at its end; one that fails never does. `sinceMillis` is when the call's own message was begun: its
 * session cannot be older, but it may be older than the noted start of the call.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnnamedCall {
  readonly part: ToolPart
  readonly description: string
  readonly sinceMillis: number
}

/**
 * The calls of one session that do not say which subagent they opened. The cost grows with the size of the session.
 *
 * @category getters
 * @since 0.1.0
 */
export const unnamedCalls = (self: Reply, sessionId: SessionId): ReadonlyArray<UnnamedCall> => {
  const reply = replyOf(self, sessionId)
  return reply === undefined ? [] : current(reply).flatMap((entry) => {
    if (!entry.isOurs || entry.kind !== "part" || entry.part.type !== "tool") return []
    const { part } = entry
    const { input: { description }, isRefused, startedMillis, subagent } = part
    const mayHaveBegun = startedMillis !== undefined && isRefused !== true
    if (subagent !== undefined || !mayHaveBegun || ToolCall.describe(part).kind !== "delegate") return []
    const sinceMillis = beganMillis(reply, entry.messageId) ?? startedMillis
    return Predicate.isString(description) ? [{ part, description, sinceMillis }] : []
  })
}

/**
 * Whether a session of this title may have been opened by the call. 1.18.33 titles it `description (@agent subagent)`.
 *
 * @category predicates
 * @since 0.1.0
 */
export const mayHaveOpened = ({ description }: UnnamedCall, title: string): boolean =>
  title === description || title.startsWith(`${description} (@`)

/** Restores a subagent from its stored form. Its text and usage stand in until its messages are read. */
export const restoreSubagent = (promptId: MessageId, stored: Subagent): SubagentState => {
  const { agent, failure, openedBy, parentId, sessionId, status, text, title, usage } = stored
  const messageId = restoredId(sessionId)
  const base = { messageId, isOurs: true, eventId: undefined } as const
  const entries: ReadonlyArray<Entry> = [
    {
      ...base,
      kind: "text",
      id: PartId.make(`${messageId}_text`),
      type: "text",
      head: text,
      tail: "",
      isComplete: true,
      isHeld: false,
      chunks: undefined
    },
    {
      ...base,
      kind: "part",
      id: PartId.make(`${messageId}_usage`),
      part: { type: "step-finish", id: PartId.make(`${messageId}_usage`), messageId, reason: "restored", ...usage }
    }
  ]
  const reply = withSession(withEntries(make({ sessionId, promptId }), entries), { failure })
  return { sessionId, parentId, openedBy, sinceMillis: undefined, calledBy: undefined, title, agent, status, reply }
}

/** Ends a running subagent whose session was deleted. */
export const deleteSubagent = (self: Reply, { eventId, sessionId }: SessionDeleted): Reply =>
  mapSubagent(
    self,
    sessionId,
    (subagent) => subagent.status === "running" ? withStatus(subagent, subagent.reply, "cancelled", eventId) : subagent
  )

// internal

type Opening = Pick<SubagentState, "sessionId" | "parentId" | "title" | "agent">

/**
 * Links the subagents that no part names to the calls that name none, in their order: those of the same parent and title
 * that wrote nothing before the call began.
 */
const pairSubagents = (self: Reply): Reply => {
  const parents = new Set(
    Ordered.values(self.session.subagents).filter(isUnnamed).map(({ parentId }) => parentId)
  )
  return Array.from(parents).reduce((reply, parentId) => {
    const children = Ordered.values(reply.session.subagents).filter((child) =>
      child.parentId === parentId && isUnnamed(child)
    )
    return unnamedCalls(reply, parentId).reduce((paired, unnamed) => {
      const at = children.findIndex(({ reply, title }) =>
        mayHaveOpened(unnamed, title) &&
        Ordered.values(reply.session.messages).every(({ info }) => info.createdMillis >= unnamed.sinceMillis)
      )
      const [child] = at < 0 ? [] : children.splice(at, 1)
      return child === undefined
        ? paired
        : mapSubagent(
          paired,
          child.sessionId,
          (known) => call(known, namingOf(unnamed.part, unnamed.sinceMillis), () => true)
        )
    }, reply)
  }, self)
}

const isUnnamed = ({ openedBy }: SubagentState): boolean => openedBy === undefined

const begin = ({ session: { hasGap }, promptId }: Reply, opening: Opening): SubagentState => {
  const { agent, parentId, sessionId, title } = opening
  const reply = make({ sessionId, promptId })
  return {
    sessionId,
    parentId,
    openedBy: undefined,
    sinceMillis: undefined,
    calledBy: undefined,
    title,
    agent,
    status: "running",
    // Its earlier events may have been missed.
    reply: { ...reply, session: { ...reply.session, hasGap } }
  }
}

/**
 * What tool parts say of a session that they name. `openedBy` is the first part, and `end` tells how the last one
 * ended, if it failed. `sinceMillis` is when the message of the first part was begun. The noted start of a call may be later than its
 * session's first messages (1.2.27, 1.3.2: the parts wait for the snapshot of the files, and the tool does not).
 */
interface Naming {
  readonly title: string
  readonly openedBy: PartId
  readonly sinceMillis: number | undefined
  readonly calledBy: PartId
  readonly end: "error" | "cancelled" | undefined
}

const namingsIn = (entries: ReadonlyArray<Entry>, parent: Reply | undefined): ReadonlyMap<SessionId, Naming> => {
  const named = new Map<SessionId, Naming>()
  for (const { isOurs, ...entry } of entries) {
    if (!isOurs || entry.kind !== "part" || entry.part.type !== "tool") continue
    const { startedMillis, subagent } = entry.part
    if (subagent === undefined) continue
    const sinceMillis = (parent && beganMillis(parent, entry.messageId)) ?? startedMillis
    const naming = namingOf(entry.part, sinceMillis)
    const first = named.get(subagent) ?? naming
    const isTimed = first.sinceMillis !== undefined && sinceMillis !== undefined
    named.set(subagent, {
      ...naming,
      title: first.title,
      openedBy: first.openedBy,
      sinceMillis: isTimed ? Math.min(first.sinceMillis, sinceMillis) : undefined
    })
  }
  return named
}

const namingOf = (part: ToolPart, sinceMillis: number | undefined): Naming => ({
  title: part.title ?? "",
  openedBy: part.id,
  sinceMillis,
  calledBy: part.id,
  end: endOfTool(part)
})

const beganMillis = (reply: Reply, messageId: MessageId): number | undefined =>
  Ordered.get(reply.session.messages, messageId)?.info.createdMillis

/**
 * The end of a subagent whose tool failed. Its own messages may not show the failure, for example after a refused ask
 * (1.18.33).
 */
const endOfTool = ({ isInterrupted, status }: ToolPart): Naming["end"] =>
  status === "error" ? isInterrupted === true ? "cancelled" : "error" : undefined

/** Records what a tool call says of a subagent. The first call opened it, and the newest one tells how it ended. */
const call = (
  self: SubagentState,
  naming: Naming,
  isAfter: (id: PartId, other: PartId) => boolean
): SubagentState => {
  const { calledBy: partId, end, sinceMillis: tellsMillis } = naming
  const openedBy = self.openedBy ?? naming.openedBy
  // A repeatedly reported tool may claim each time that it has just begun. If the first report had no start time, the
  // start time of a later one is too late.
  const limit = self.sinceMillis ?? (naming.openedBy === openedBy ? Infinity : -Infinity)
  const isEarlier = tellsMillis !== undefined && tellsMillis < limit
  const isNewest = self.calledBy === undefined || isAfter(partId, self.calledBy.partId)
  const isNews = isNewest && (self.calledBy?.partId !== partId || self.calledBy.end !== end)
  if (openedBy === self.openedBy && !isEarlier && !isNews) return self
  return asToolTells({
    ...self,
    openedBy,
    sinceMillis: isEarlier ? tellsMillis : self.sinceMillis,
    calledBy: isNewest ? { partId, end } : self.calledBy,
    reply: isEarlier ? withoutBefore(self.reply, tellsMillis) : self.reply
  })
}

/** A session's own messages may show it as complete when it is not (1.18.33); its tool knows better. */
const asToolTells = (self: SubagentState): SubagentState =>
  self.status === "completed" && self.calledBy?.end !== undefined ? { ...self, status: self.calledBy.end } : self

/** Removes the messages that counted as the turn's before the start of its first call was known. */
const withoutBefore = (self: Reply, sinceMillis: number): Reply => {
  const old = Ordered.values(self.session.messages).filter(({ info }) => info.createdMillis < sinceMillis)
  return old.length === 0
    ? self
    : { ...old.reduce((reply, { id }) => removeMessage(reply, id), self), eventCount: self.eventCount }
}

const change = (self: SubagentState, event: TurnEvent): SubagentState => {
  switch (event._tag) {
    case "StatusChanged":
      return changeStatus(self, event)
    case "MessageUpdated": {
      const prompt = promptOf(event.info)
      if (!isNew(self, event.info)) return changed(self, applyOwn(self.reply, event))
      const prompted = continueTurn(self.reply, prompt)
      return changed(self, event.info.role === "user" ? prompted : applyOwn(prompted, event))
    }
    case "TurnContinued":
      return isAfter(self.reply, event.messageId) ? changed(self, applyOwn(self.reply, event)) : self
    default:
      return changed(self, applyOwn(self.reply, event))
  }
}

/** The failure of a session becomes known shortly after the session reported idle (1.18.33). */
const changed = (self: SubagentState, reply: Reply): SubagentState => {
  if (reply === self.reply) return self
  const hasFailed = self.status !== "running" && reply.session.failure !== undefined
  return { ...self, reply, status: hasFailed ? endOf(reply) : self.status }
}

const changeStatus = (self: SubagentState, event: StatusChanged): SubagentState => {
  if (isStale(self.reply.session.statusEventId, event.eventId)) return self
  const reply = applyStatus(self.reply, event)
  const isIdle = event.status.type === "idle"
  // A failed session reports idle twice (1.18.33), the second time perhaps after its next prompt.
  if (isIdle === (self.status !== "running")) return changed(self, reply)
  const status = !isIdle ? "running" : reply.session.failure === undefined ? "completed" : endOf(reply)
  return withStatus(self, reply, status, event.eventId)
}

/** Sets the status and remembers the event, so that a late copy of an earlier event does not undo it. */
const withStatus = (
  self: SubagentState,
  reply: Reply,
  status: SubagentStatus,
  eventId: string | undefined
): SubagentState =>
  asToolTells({
    ...self,
    status,
    reply: withSession(reply, { statusEventId: eventId ?? reply.session.statusEventId })
  })

const ended = (self: SubagentState): SubagentState =>
  self.status === "running" && self.outlives !== true ? asToolTells({ ...self, status: endOf(self.reply) }) : self

/** The end of a subagent that does not run any more. */
const endOf = ({ session: { failure, messages } }: Reply): SubagentStatus => {
  if (failure !== undefined) return isAborted(failure) ? "cancelled" : "error"
  const last = Ordered.findLast(messages, ({ ownership }) => ownership !== "foreign")
  return last !== undefined && hasEnded(last.info) ? "completed" : "cancelled"
}

/** The id of the prompt that the message is or answers. */
const promptOf = (info: MessageInfo): MessageId => (info.role === "user" ? info.id : info.parentId)

/** Whether the message is, or answers, a prompt that the subagent got in this turn. */
const isNew = ({ reply, sinceMillis = 0 }: SubagentState, info: MessageInfo): boolean =>
  isAfter(reply, promptOf(info)) && info.createdMillis >= sinceMillis

const isAfter = (self: Reply, prompt: MessageId): boolean => prompt > self.promptId

/** Whether a step of the session began without a known end. */
const isUnfinished = (self: Reply, sessionId: SessionId): boolean => {
  const reply = replyOf(self, sessionId)
  const last = reply && Ordered.findLast(reply.session.messages, ({ ownership }) => ownership !== "foreign")
  return last !== undefined && !hasEnded(last.info)
}

const isSilent = (self: Reply): boolean =>
  current(self).every(({ isOurs }) => !isOurs) && self.session.failure === undefined &&
  self.session.newest === undefined

type ReadableMessage = Message & { readonly info: MessageInfo }

const isReadable = (message: Message): message is ReadableMessage => message.info.role !== "opaque"

/**
 * Folds this turn's share of the stored messages. Stored messages without a share of this turn change nothing of the
 * streamed reply.
 */
const withRecord = (
  self: Reply,
  sessionId: SessionId,
  messages: ReadonlyArray<Message>,
  fold: (subagent: SubagentState, recorded: ReadonlyArray<ReadableMessage>) => SubagentState
): Reply => {
  const folded = mapSubagent(self, sessionId, (subagent) => {
    const recorded = messages.filter(isReadable).filter(({ info }) => isNew(subagent, info))
    return recorded.length === 0 ? subagent : fold(subagent, recorded)
  })
  return folded === self ? self : nameFrom(folded, sessionId)
}

/**
 * Adds the prompts of the stored messages to the turn. They are not news: any failure after them is already known or
 * reported.
 */
const promptedBy = (self: Reply, recorded: ReadonlyArray<ReadableMessage>): Reply => {
  const prompted = recorded.reduce((reply, { info }) => continueTurn(reply, promptOf(info)), self)
  return prompted === self
    ? self
    : { ...prompted, eventCount: self.eventCount, session: { ...prompted.session, failure: self.session.failure } }
}

/** Stands in for the messages that a stored subagent does not tell apart. */
const restoredId = (sessionId: SessionId): MessageId => MessageId.make(`restored_${sessionId}`)
