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
import { MessageId, PartId, type SessionId } from "../Ids.ts"
import type { Message, MessageInfo } from "../Message.ts"
import type { ToolPart } from "../Part.ts"
import type { Subagent, SubagentStatus } from "../Subagent.ts"
import type { SessionDeleted, SessionOpened, StatusChanged, TurnEvent } from "../TurnEvent.ts"
import { isAborted } from "../Upstream.ts"
import { isStale } from "./EventOrder.ts"
import type { Entry } from "./ReplyEntry.ts"
import { applyOwn } from "./ReplyEvents.ts"
import { continueTurn, hasEnded, removeMessage, withoutEntriesOf } from "./ReplyMessages.ts"
import { merge, reconcile } from "./ReplyReconcile.ts"
import { applyStatus, isInTree } from "./ReplySessions.ts"
import type { Reply, SubagentState } from "./ReplyState.ts"
import { current, make, mapSubagents, withEntries, withFrame } from "./ReplyState.ts"

/** A session of the tree opened another one. Of one that a tool named before, this tells the title and the agent. */
export const openSubagent = (self: Reply, { agent, parentId, sessionId, title }: SessionOpened): Reply => {
  const { subagents } = self.frame
  const index = subagents.findIndex((subagent) => subagent.sessionId === sessionId)
  const known = subagents[index]
  if (known !== undefined) {
    return isTold(known) || agent === undefined
      ? self
      : withFrame(self, { subagents: subagents.with(index, { ...known, title, agent }) })
  }
  if (parentId === undefined || sessionId === self.sessionId || !isInTree(self, parentId)) return self
  return nameSubagents(
    withFrame(self, { subagents: [...subagents, begin(self, { sessionId, parentId, title, agent })] })
  )
}

/** An event of a subagent's session. */
export const applyToSubagent = (self: Reply, event: TurnEvent): Reply => {
  const { subagents } = self.frame
  const index = subagents.findIndex(({ sessionId }) => sessionId === event.sessionId)
  const before = subagents[index]
  if (before === undefined) return self
  const after = change(before, event)
  return after === before ? self : withFrame(self, { subagents: subagents.with(index, after) })
}

/**
 * Notes which tool part opened a subagent: the first one that names it. The part may come before the session does, and before its
 * own message is known to be the turn's; and nothing else may tell of a session of an earlier turn that a tool goes on with.
 */
export const nameSubagents = (self: Reply): Reply => {
  const named = namedSessions(self)
  if (named.size === 0) return self
  const told = mapSubagents(self, (subagent) => {
    const naming = named.get(subagent.sessionId)
    return naming === undefined ? subagent : call(subagent, naming)
  })
  const untold = [...named.values()].filter(({ sessionId }) => !isInTree(told, sessionId))
  return untold.length === 0 ? told : {
    ...told,
    frame: {
      ...told.frame,
      subagents: [...told.frame.subagents, ...untold.map((naming) => begin(told, { ...naming, agent: undefined }))]
    }
  }
}

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
  ...self.frame.subagents.map((subagent) => subagent.reply)
]

/**
 * The replies that the turn is charged for: of those sessions that its tools opened. Another turn's may run in the same tree, while
 * this one waits for it; at the end they are no longer there ({@link closeSubagents}).
 *
 * @category getters
 * @since 0.1.0
 */
export const ownReplies = (self: Reply): ReadonlyArray<Reply> => {
  const { isClosed, subagents } = self.frame
  const isOwn = ({ openedBy, parentId }: SubagentState): boolean =>
    openedBy !== undefined &&
    (parentId === self.sessionId || subagents.some((parent) => parent.sessionId === parentId && isOwn(parent)))
  return [self, ...subagents.filter((subagent) => isClosed || isOwn(subagent)).map(({ reply }) => reply)]
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
    return { ...subagent, reply, status: endOf(reply) }
  })

/**
 * Ends a subagent that runs no more, of which the stream did not tell that: by what is known of its last message.
 *
 * @category folding
 * @since 0.1.0
 */
export const endSubagent = (self: Reply, sessionId: SessionId): Reply =>
  nameSubagents(mapSubagents(self, (subagent) => (subagent.sessionId === sessionId ? ended(subagent) : subagent)))

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
  return nameSubagents(closed.frame.isClosed ? closed : { ...closed, frame: { ...closed.frame, isClosed: true } })
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
  return { sessionId, parentId, openedBy, sinceMillis: undefined, title, agent, status, reply }
}

/** A subagent that was opened is gone: it ends without saying so. */
export const deleteSubagent = (self: Reply, { eventId, sessionId }: SessionDeleted): Reply =>
  mapSubagents(self, (subagent) =>
    subagent.sessionId !== sessionId || subagent.status !== "running"
      ? subagent
      : withStatus(subagent, subagent.reply, "cancelled", eventId))

// internal

type Opening = Pick<SubagentState, "sessionId" | "parentId" | "title" | "agent"> & Partial<Naming>

const begin = ({ frame: { hasGap }, promptId }: Reply, opening: Opening): SubagentState => {
  const { agent, openedBy, parentId, sessionId, sinceMillis, title } = opening
  const reply = make({ sessionId, promptId })
  return {
    sessionId,
    parentId,
    openedBy,
    sinceMillis,
    title,
    agent,
    status: "running",
    // What it said before it was found may have been missed.
    reply: { ...reply, frame: { ...reply.frame, hasGap } }
  }
}

/** What tool parts say of the session that they name: `openedBy` is the first of them, `end` how the last one ended, if it failed. */
interface Naming {
  readonly sessionId: SessionId
  readonly parentId: SessionId
  readonly title: string
  readonly openedBy: PartId
  readonly sinceMillis: number | undefined
  readonly end: "error" | "cancelled" | undefined
}

/** What the tool parts of the turn say of the sessions that they name. */
const namedSessions = (self: Reply) => {
  const named = new Map<SessionId, Naming>()
  for (const reply of replies(self)) {
    for (const entry of current(reply)) {
      if (!entry.isOurs || entry.kind !== "part" || entry.part.type !== "tool") continue
      const { startedMillis, subagent, title = "" } = entry.part
      if (subagent === undefined) continue
      const first = named.get(subagent) ??
        { sessionId: subagent, parentId: reply.sessionId, title, openedBy: entry.id, sinceMillis: startedMillis }
      const isTimed = first.sinceMillis !== undefined && startedMillis !== undefined
      named.set(subagent, {
        ...first,
        sinceMillis: isTimed ? Math.min(first.sinceMillis, startedMillis) : undefined,
        end: endOfTool(entry.part)
      })
    }
  }
  return named
}

/** How a subagent ended whose tool failed: its own record need not say that, as after an ask that was refused (1.18.33). */
const endOfTool = ({ error, metadata, status }: ToolPart): Naming["end"] => {
  if (status !== "error") return undefined
  return error === "Task cancelled" || metadata?.["interrupted"] === true ? "cancelled" : "error"
}

/** Notes what the tools that call a subagent say of it. */
const call = (self: SubagentState, naming: Naming): SubagentState => {
  const openedBy = self.openedBy ?? naming.openedBy
  // A tool that goes on telling of itself may say each time that it began just now.
  const isEarlier = naming.sinceMillis !== undefined && naming.sinceMillis < (self.sinceMillis ?? Infinity)
  const sinceMillis = isEarlier ? naming.sinceMillis : self.sinceMillis
  const status = self.status === "completed" ? naming.end ?? "completed" : self.status
  const reply = isEarlier ? withoutBefore(self.reply, naming.sinceMillis) : self.reply
  return openedBy === self.openedBy && sinceMillis === self.sinceMillis && status === self.status
    ? self
    : { ...self, openedBy, sinceMillis, status, reply }
}

/** Forgets what was taken for the turn's before it was known when its first call began. */
const withoutBefore = (self: Reply, sinceMillis: number): Reply => {
  const old = self.frame.messages.filter(({ info }) => info.createdMillis < sinceMillis)
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
  const hasFailed = self.status !== "running" && reply.frame.failure !== undefined
  return { ...self, reply, status: hasFailed ? endOf(reply) : self.status }
}

const changeStatus = (self: SubagentState, event: StatusChanged): SubagentState => {
  if (isStale(self.reply.frame.statusEventId, event.eventId)) return self
  const reply = applyStatus(self.reply, event)
  const isIdle = event.status.type === "idle"
  // One that failed says twice that it is idle (1.18.33), the second time perhaps after its next prompt.
  if (isIdle === (self.status !== "running")) return changed(self, reply)
  const status = !isIdle ? "running" : reply.frame.failure === undefined ? "completed" : endOf(reply)
  return withStatus(self, reply, status, event.eventId)
}

/** Remembers the event, so that a late copy of one before it does not bring back what was before. */
const withStatus = (
  self: SubagentState,
  reply: Reply,
  status: SubagentStatus,
  eventId: string | undefined
): SubagentState => ({
  ...self,
  status,
  reply: withFrame(reply, { statusEventId: eventId ?? reply.frame.statusEventId })
})

const ended = (self: SubagentState): SubagentState =>
  self.status === "running" ? { ...self, status: endOf(self.reply) } : self

/** How a subagent that does not run any more ended. */
const endOf = ({ frame: { failure, messages } }: Reply): SubagentStatus => {
  if (failure !== undefined) return isAborted(failure) ? "cancelled" : "error"
  const last = messages.findLast(({ ownership }) => ownership !== "foreign")
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
  const last = replies(self).find((reply) => reply.sessionId === sessionId)?.frame.messages
    .findLast(({ ownership }) => ownership !== "foreign")
  return last !== undefined && !hasEnded(last.info)
}

const isSilent = ({ entries, frame }: Reply): boolean =>
  entries.every(({ isOurs }) => !isOurs) && frame.failure === undefined &&
  frame.messages.every(({ ownership }) => ownership === "foreign")

type ReadableMessage = Message & { readonly info: MessageInfo }

const isReadable = (message: Message): message is ReadableMessage => message.info.role !== "opaque"

/** Folds what of a record is this turn's. A record without anything of it has nothing to say of what was streamed. */
const withRecord = (
  self: Reply,
  sessionId: SessionId,
  messages: ReadonlyArray<Message>,
  fold: (subagent: SubagentState, recorded: ReadonlyArray<ReadableMessage>) => SubagentState
): Reply => {
  const folded = mapSubagents(self, (subagent) => {
    if (subagent.sessionId !== sessionId) return subagent
    const recorded = messages.filter(isReadable).filter(({ info }) => isNew(subagent, info))
    return recorded.length === 0 ? subagent : fold(subagent, recorded)
  })
  return folded === self ? self : nameSubagents(folded)
}

/** Takes the prompts of a record for the turn's. They are no news: whether what followed them failed is known or told. */
const promptedBy = (self: Reply, recorded: ReadonlyArray<ReadableMessage>): Reply => {
  const prompted = recorded.reduce((reply, { info }) => continueTurn(reply, promptOf(info)), self)
  return prompted === self
    ? self
    : { ...prompted, eventCount: self.eventCount, frame: { ...prompted.frame, failure: self.frame.failure } }
}

/** In place of the messages that a stored subagent does not tell apart. */
const restoredId = (sessionId: SessionId): MessageId => MessageId.make(`restored_${sessionId}`)
