/**
 * The subagents of a reply: opened, named by the tool that opened them, at work, ended; each with a reply of its own.
 *
 * A subagent's reply is folded as the turn's own, but for one thing: it has no prompt of ours. Its prompts are written by the
 * tools that call it, and a session may be called again, by this turn or a later one. So each of its user messages that sorts
 * after the turn's prompt, and was made since the first call of this turn, goes on with it, and what answers those is the turn's;
 * what came before is not. Ids sort by time.
 *
 * @since 0.1.0
 */
import { MessageId, PartId, type SessionId } from "../domain/Ids.ts"
import type { Message, MessageInfo } from "../domain/Message.ts"
import type { ToolPart } from "../domain/Part.ts"
import type { Subagent, SubagentStatus } from "../domain/Subagent.ts"
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
  current,
  entriesOf,
  make,
  mapSubagent,
  mapSubagents,
  withEntries,
  withSession
} from "./ReplyState.ts"

/** A session of the tree opened another one. Of one that a tool named before, this tells the title and the agent. */
export const openSubagent = (self: Reply, { agent, parentId, sessionId, title }: SessionOpened): Reply => {
  const { subagents } = self.session
  const known = Ordered.get(subagents, sessionId)
  if (known !== undefined) {
    return isTold(known) || agent === undefined
      ? self
      : withSession(self, { subagents: Ordered.set(subagents, { ...known, title, agent }) })
  }
  if (parentId === undefined || sessionId === self.sessionId || !isInTree(self, parentId)) return self
  return withSession(self, {
    subagents: Ordered.set(subagents, begin(self, { sessionId, parentId, title, agent }))
  })
}

/** An event of a subagent's session. */
export const applyToSubagent = (self: Reply, event: TurnEvent): Reply => {
  const { subagents } = self.session
  const before = Ordered.get(subagents, event.sessionId)
  if (before === undefined) return self
  const after = change(before, event)
  return after === before ? self : withSession(self, { subagents: Ordered.set(subagents, after) })
}

/**
 * Notes which tool part opened a subagent: the first one that names it. The part may come before the session does, and before its
 * own message is known to be the turn's; and nothing else may tell of a session of an earlier turn that a tool goes on with.
 */
export const nameSubagents = (self: Reply): Reply =>
  replies(self).reduce((reply, { sessionId }) => nameFrom(reply, sessionId), self)

/** Notes what the parts of one session say of the subagents that they name. Costs what that session holds. */
export const nameFrom = (self: Reply, sessionId: SessionId): Reply => {
  const reply = replyOf(self, sessionId)
  return reply === undefined ? self : nameBy(self, sessionId, current(reply))
}

/** Notes what the parts of one message say of the subagents that they name. */
export const nameFromMessage = (self: Reply, sessionId: SessionId, messageId: MessageId): Reply => {
  const reply = replyOf(self, sessionId)
  return reply === undefined ? self : nameBy(self, sessionId, entriesOf(reply, messageId))
}

/** Notes what some parts of a session say of the subagents that they name. Costs what is given. */
export const nameBy = (self: Reply, parentId: SessionId, entries: ReadonlyArray<Entry>): Reply => {
  const named = namingsIn(entries)
  if (named.size === 0) return self
  const parent = replyOf(self, parentId)
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
 * What one session of the tree says: the turn's own, or a subagent's.
 *
 * @category getters
 * @since 0.1.0
 */
export const replyOf = (self: Reply, sessionId: SessionId): Reply | undefined =>
  sessionId === self.sessionId ? self : Ordered.get(self.session.subagents, sessionId)?.reply

/**
 * Whether the server told of the subagent's session itself, and not only a tool part.
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
 * The replies that the turn is charged for: of those sessions that its tools opened. Another turn's may run in the same tree, while
 * this one waits for it; at the end they are no longer there ({@link closeSubagents}).
 *
 * @category getters
 * @since 0.1.0
 */
export const ownReplies = (self: Reply): ReadonlyArray<Reply> => {
  const { isClosed, subagents } = self.session
  const own = new Set([self.sessionId])
  const replies = [self]
  // Who opened a subagent stands before it.
  for (const { openedBy, parentId, reply, sessionId } of Ordered.values(subagents)) {
    if (!isClosed && (openedBy === undefined || !own.has(parentId))) continue
    own.add(sessionId)
    replies.push(reply)
  }
  return replies
}

/**
 * Folds a reading of a subagent's stored messages that may lag behind the stream: nothing that may still grow shrinks.
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
 * Makes a subagent's stored messages the truth, of a turn that has ended: also of whether the subagent came to its end.
 *
 * @category folding
 * @since 0.1.0
 */
export const reconcileSubagent = (self: Reply, sessionId: SessionId, messages: ReadonlyArray<Message>): Reply =>
  withRecord(self, sessionId, messages, (subagent, recorded) => {
    const reply = reconcile(promptedBy(subagent.reply, recorded), recorded)
    return settled({ ...subagent, reply, status: endOf(reply) })
  })

/**
 * Ends a subagent that runs no more, of which the stream did not tell that: by what is known of its last message.
 *
 * @category folding
 * @since 0.1.0
 */
export const endSubagent = (self: Reply, sessionId: SessionId): Reply => mapSubagent(self, sessionId, ended)

/**
 * Ends the subagents of a turn that has ended: what runs and has no end was cut off. Those that no tool of the turn names are
 * dropped, unless the part that would name them may have been missed: they are an earlier turn's, which still ran, or of which
 * the server told late.
 *
 * @category folding
 * @since 0.1.0
 */
export const closeSubagents = (self: Reply): Reply => {
  const closed = mapSubagents(self, (subagent) => {
    const isOwn = subagent.openedBy !== undefined ||
      (!isSilent(subagent.reply) && isUnfinished(self, subagent.parentId))
    return isOwn ? ended(subagent) : undefined
  })
  return closed.session.isClosed ? closed : { ...closed, session: { ...closed.session, isClosed: true } }
}

/** A subagent as far as it was stored: what it said and used, until its record takes their place. */
export const restoreSubagent = (promptId: MessageId, stored: Subagent): SubagentState => {
  const { agent, openedBy, parentId, sessionId, status, text, title, usage } = stored
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
      isHeld: false
    },
    {
      ...base,
      kind: "part",
      id: PartId.make(`${messageId}_usage`),
      part: { type: "step-finish", id: PartId.make(`${messageId}_usage`), messageId, reason: "restored", ...usage }
    }
  ]
  const reply = withEntries(make({ sessionId, promptId }), entries)
  return { sessionId, parentId, openedBy, sinceMillis: undefined, calledBy: undefined, title, agent, status, reply }
}

/** A subagent that was opened is gone: it ends without saying so. */
export const deleteSubagent = (self: Reply, { eventId, sessionId }: SessionDeleted): Reply =>
  mapSubagent(
    self,
    sessionId,
    (subagent) => subagent.status === "running" ? withStatus(subagent, subagent.reply, "cancelled", eventId) : subagent
  )

// internal

type Opening = Pick<SubagentState, "sessionId" | "parentId" | "title" | "agent">

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
    // What it said before it was found may have been missed.
    reply: { ...reply, session: { ...reply.session, hasGap } }
  }
}

/** What tool parts say of the session that they name: `openedBy` is the first of them, and `end` how the last one ended, if it failed. */
interface Naming {
  readonly title: string
  readonly openedBy: PartId
  readonly sinceMillis: number | undefined
  readonly calledBy: PartId
  readonly end: "error" | "cancelled" | undefined
}

const namingsIn = (entries: ReadonlyArray<Entry>): ReadonlyMap<SessionId, Naming> => {
  const named = new Map<SessionId, Naming>()
  for (const { id, isOurs, ...entry } of entries) {
    if (!isOurs || entry.kind !== "part" || entry.part.type !== "tool") continue
    const { startedMillis, subagent, title = "" } = entry.part
    if (subagent === undefined) continue
    const first = named.get(subagent) ?? { title, openedBy: id, sinceMillis: startedMillis }
    const isTimed = first.sinceMillis !== undefined && startedMillis !== undefined
    named.set(subagent, {
      title: first.title,
      openedBy: first.openedBy,
      sinceMillis: isTimed ? Math.min(first.sinceMillis, startedMillis) : undefined,
      calledBy: id,
      end: endOfTool(entry.part)
    })
  }
  return named
}

/** How a subagent ended whose tool failed: its own record need not say that, as after an ask that was refused (1.18.33). */
const endOfTool = ({ error, metadata, status }: ToolPart): Naming["end"] => {
  if (status !== "error") return undefined
  return error === "Task cancelled" || metadata?.["interrupted"] === true ? "cancelled" : "error"
}

/** Notes what the tools that call a subagent say of it. The first one opened it, and the newest one tells how it ended. */
const call = (
  self: SubagentState,
  naming: Naming,
  isAfter: (id: PartId, other: PartId) => boolean
): SubagentState => {
  const { calledBy: partId, end, sinceMillis: tellsMillis } = naming
  const openedBy = self.openedBy ?? naming.openedBy
  // A tool that goes on telling of itself may say each time that it began just now. Before the first one told when it began, what a
  // later one says is too late.
  const limit = self.sinceMillis ?? (naming.openedBy === openedBy ? Infinity : -Infinity)
  const isEarlier = tellsMillis !== undefined && tellsMillis < limit
  const isNewest = self.calledBy === undefined || isAfter(partId, self.calledBy.partId)
  const isNews = isNewest && (self.calledBy?.partId !== partId || self.calledBy.end !== end)
  if (openedBy === self.openedBy && !isEarlier && !isNews) return self
  return settled({
    ...self,
    openedBy,
    sinceMillis: isEarlier ? tellsMillis : self.sinceMillis,
    calledBy: isNewest ? { partId, end } : self.calledBy,
    reply: isEarlier ? withoutBefore(self.reply, tellsMillis) : self.reply
  })
}

/** What its own record calls complete need not be (1.18.33): its tool knows better. */
const settled = (self: SubagentState): SubagentState =>
  self.status === "completed" && self.calledBy?.end !== undefined ? { ...self, status: self.calledBy.end } : self

/** Forgets what was taken for the turn's before it was known when its first call began. */
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

/** What failed is known a little after the session said that it is idle (1.18.33). */
const changed = (self: SubagentState, reply: Reply): SubagentState => {
  if (reply === self.reply) return self
  const hasFailed = self.status !== "running" && reply.session.failure !== undefined
  return { ...self, reply, status: hasFailed ? endOf(reply) : self.status }
}

const changeStatus = (self: SubagentState, event: StatusChanged): SubagentState => {
  if (isStale(self.reply.session.statusEventId, event.eventId)) return self
  const reply = applyStatus(self.reply, event)
  const isIdle = event.status.type === "idle"
  // One that failed says twice that it is idle (1.18.33), the second time perhaps after its next prompt.
  if (isIdle === (self.status !== "running")) return changed(self, reply)
  const status = !isIdle ? "running" : reply.session.failure === undefined ? "completed" : endOf(reply)
  return withStatus(self, reply, status, event.eventId)
}

/** Remembers the event, so that a late copy of one before it does not bring back what was before. */
const withStatus = (
  self: SubagentState,
  reply: Reply,
  status: SubagentStatus,
  eventId: string | undefined
): SubagentState =>
  settled({
    ...self,
    status,
    reply: withSession(reply, { statusEventId: eventId ?? reply.session.statusEventId })
  })

const ended = (self: SubagentState): SubagentState =>
  self.status === "running" ? settled({ ...self, status: endOf(self.reply) }) : self

/** How a subagent that does not run any more ended. */
const endOf = ({ session: { failure, messages } }: Reply): SubagentStatus => {
  if (failure !== undefined) return isAborted(failure) ? "cancelled" : "error"
  const last = Ordered.findLast(messages, ({ ownership }) => ownership !== "foreign")
  return last !== undefined && hasEnded(last.info) ? "completed" : "cancelled"
}

/** The prompt that a message is, or answers. */
const promptOf = (info: MessageInfo): MessageId => (info.role === "user" ? info.id : info.parentId)

/** Whether a message is, or answers, a prompt that was given to the subagent in this turn. */
const isNew = ({ reply, sinceMillis = 0 }: SubagentState, info: MessageInfo): boolean =>
  isAfter(reply, promptOf(info)) && info.createdMillis >= sinceMillis

const isAfter = (self: Reply, prompt: MessageId): boolean => prompt > self.promptId

/** Whether a step of the session was begun whose end is not known. */
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

/** Folds what of a record is this turn's. A record without anything of it has nothing to say of what was streamed. */
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

/** Takes the prompts of a record for the turn's. They are no news: whether what followed them failed is known or told. */
const promptedBy = (self: Reply, recorded: ReadonlyArray<ReadableMessage>): Reply => {
  const prompted = recorded.reduce((reply, { info }) => continueTurn(reply, promptOf(info)), self)
  return prompted === self
    ? self
    : { ...prompted, eventCount: self.eventCount, session: { ...prompted.session, failure: self.session.failure } }
}

/** In place of the messages that a stored subagent does not tell apart. */
const restoredId = (sessionId: SessionId): MessageId => MessageId.make(`restored_${sessionId}`)
