/**
 * The subagents of a reply: opened, named by the tool that opened them, at work, ended; each with a reply of its own.
 *
 * A subagent's reply is folded as the turn's own, but for one thing: it has no prompt of ours. Its prompts are written by the
 * tools that call it, and a session may be called again, by this turn or a later one. So each of its user messages that sorts
 * after the turn's prompt goes on with it, and what answers those is the turn's; what came before is not. Ids sort by time.
 *
 * @since 0.1.0
 */
import { MessageId, PartId, type SessionId } from "../Ids.ts"
import type { Message, MessageInfo } from "../Message.ts"
import type { Subagent, SubagentStatus } from "../Subagent.ts"
import type { SessionDeleted, SessionOpened, StatusChanged, TurnEvent } from "../TurnEvent.ts"
import { isAborted } from "../Upstream.ts"
import { isStale } from "./EventOrder.ts"
import type { Entry } from "./ReplyEntry.ts"
import { applyOwn } from "./ReplyEvents.ts"
import { continueTurn, hasEnded, withoutEntriesOf } from "./ReplyMessages.ts"
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
    const openedBy = subagent.openedBy ?? named.get(subagent.sessionId)?.openedBy
    return openedBy === subagent.openedBy ? subagent : { ...subagent, openedBy }
  })
  const untold = [...named.values()].filter(({ sessionId }) => !isInTree(told, sessionId))
  return untold.length === 0 ? told : {
    ...told,
    frame: {
      ...told.frame,
      subagents: [...told.frame.subagents, ...untold.map((opening) => begin(told, { ...opening, agent: undefined }))]
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
  mapSubagents(self, (subagent) => (subagent.sessionId === sessionId ? ended(subagent) : subagent))

/**
 * Ends the subagents of a turn that has ended: what runs and has no end was cut off. Those that no tool of the turn names are
 * dropped, unless the part that would name them may have been missed: they are an earlier turn's, which still ran, or of which
 * the server told late.
 *
 * @category folding
 * @since 0.1.0
 */
export const closeSubagents = (self: Reply): Reply =>
  mapSubagents(self, (subagent) => {
    const isOwn = subagent.openedBy !== undefined ||
      (!isSilent(subagent.reply) && isUnfinished(self, subagent.parentId))
    return isOwn ? ended(subagent) : undefined
  })

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
  return { sessionId, parentId, openedBy, title, agent, status, reply }
}

/** A subagent that was opened is gone: it ends without saying so. */
export const deleteSubagent = (self: Reply, { eventId, sessionId }: SessionDeleted): Reply =>
  mapSubagents(self, (subagent) =>
    subagent.sessionId !== sessionId || subagent.status !== "running"
      ? subagent
      : withStatus(subagent, subagent.reply, "cancelled", eventId))

// internal

type Opening = Pick<SubagentState, "sessionId" | "parentId" | "title" | "agent"> & { readonly openedBy?: PartId }

const begin = ({ frame: { hasGap }, promptId }: Reply, opening: Opening): SubagentState => {
  const reply = make({ sessionId: opening.sessionId, promptId })
  // What it said before it was found may have been missed.
  return { openedBy: undefined, ...opening, status: "running", reply: { ...reply, frame: { ...reply.frame, hasGap } } }
}

/** What the tool parts of the turn say of the sessions that they name, the first part of each. */
const namedSessions = (self: Reply) => {
  const named = new Map<SessionId, Omit<Opening, "agent"> & { readonly openedBy: PartId }>()
  for (const reply of replies(self)) {
    for (const entry of current(reply)) {
      if (!entry.isOurs || entry.kind !== "part" || entry.part.type !== "tool") continue
      const { subagent, title = "" } = entry.part
      if (subagent === undefined || named.has(subagent)) continue
      named.set(subagent, { sessionId: subagent, parentId: reply.sessionId, openedBy: entry.id, title })
    }
  }
  return named
}

const change = (self: SubagentState, event: TurnEvent): SubagentState => {
  switch (event._tag) {
    case "StatusChanged":
      return changeStatus(self, event)
    case "MessageUpdated": {
      const prompt = promptOf(event.info)
      if (!isNew(self.reply, prompt)) return changed(self, applyOwn(self.reply, event))
      const prompted = continueTurn(self.reply, prompt)
      return changed(self, event.info.role === "user" ? prompted : applyOwn(prompted, event))
    }
    case "TurnContinued":
      return isNew(self.reply, event.messageId) ? changed(self, applyOwn(self.reply, event)) : self
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

/** Whether a prompt was given to the subagent in this turn. */
const isNew = (self: Reply, prompt: MessageId): boolean => prompt > self.promptId

/** Whether a step of the session was begun whose end is not known. */
const isUnfinished = (self: Reply, sessionId: SessionId): boolean => {
  const last = replies(self).find((reply) => reply.sessionId === sessionId)?.frame.messages
    .findLast(({ ownership }) => ownership !== "foreign")
  return last !== undefined && !hasEnded(last.info)
}

const isSilent = ({ entries, frame }: Reply): boolean =>
  entries.every(({ isOurs }) => !isOurs) && frame.failure === undefined &&
  frame.messages.every(({ ownership }) => ownership === "foreign")

/** Folds what of a record is this turn's. A record without anything of it has nothing to say of what was streamed. */
const withRecord = (
  self: Reply,
  sessionId: SessionId,
  messages: ReadonlyArray<Message>,
  fold: (subagent: SubagentState, recorded: ReadonlyArray<Message>) => SubagentState
): Reply => {
  const recorded = messages.filter(({ info }) => isNew(self, promptOf(info)))
  if (recorded.length === 0) return self
  return nameSubagents(
    mapSubagents(self, (subagent) => (subagent.sessionId === sessionId ? fold(subagent, recorded) : subagent))
  )
}

/** Takes the prompts of a record for the turn's. They are no news: whether what followed them failed is known or told. */
const promptedBy = (self: Reply, recorded: ReadonlyArray<Message>): Reply => {
  const prompted = recorded.reduce((reply, { info }) => continueTurn(reply, promptOf(info)), self)
  return prompted === self
    ? self
    : { ...prompted, eventCount: self.eventCount, frame: { ...prompted.frame, failure: self.frame.failure } }
}

/** In place of the messages that a stored subagent does not tell apart. */
const restoredId = (sessionId: SessionId): MessageId => MessageId.make(`restored_${sessionId}`)
