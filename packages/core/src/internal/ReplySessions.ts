/**
 * What a reply knows of its sessions: what they ask, and the status and the failure of its own one.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import type { Ask } from "../Ask.ts"
import type { RequestId, SessionId } from "../Ids.ts"
import type { Asked, AskResolved, SessionFailed, StatusChanged } from "../TurnEvent.ts"
import { isStale } from "./EventOrder.ts"
import { takeBackTry } from "./ReplyParts.ts"
import type { Reply } from "./ReplyState.ts"
import { withFrame } from "./ReplyState.ts"

/**
 * Whether the session is the turn's own or one of its subagents'.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isInTree = (self: Reply, sessionId: SessionId): boolean =>
  sessionId === self.sessionId || self.frame.subagents.some((subagent) => subagent.sessionId === sessionId)

/**
 * Takes what the server says is open as the truth about asks: the missing ones were answered elsewhere.
 *
 * **Details**
 *
 * `asOf` is the reply as it was when the server was asked. What has been asked since is not in its answer, and stays open.
 *
 * @category folding
 * @since 0.1.0
 */
export const syncAsks = (self: Reply, pending: ReadonlyArray<Ask>, asOf: Reply = self): Reply => {
  const open = new Set(pending.map((ask) => ask.id))
  const known = new Set(asOf.frame.asks.map((ask) => ask.id))
  const resolved = resolveAsks(self, (ask) => known.has(ask.id) && !open.has(ask.id))
  const added = pending.filter((ask) => isInTree(self, ask.sessionId) && !isKnownAsk(self, ask.id))
  return added.length === 0
    ? resolved
    : { ...resolved, frame: { ...resolved.frame, asks: [...resolved.frame.asks, ...added] } }
}

/** The asks of a session that is idle: it waits for nobody, they went with the run that made them (abort, server restart). */
export const settleAsks = (self: Reply, { eventId, sessionId, status }: StatusChanged): Reply =>
  status.type !== "idle" || self.frame.asks.length === 0 ? self : resolveAsks(
    self,
    (ask) => ask.sessionId === sessionId && !isStale(self.frame.askEventIds.get(ask.id), eventId)
  )

/** The session is busy or idle, or waits to ask its model again. */
export const applyStatus = (self: Reply, { eventId, status }: StatusChanged): Reply => {
  if (isStale(self.frame.statusEventId, eventId)) return self
  const retry = status.type === "retry"
    ? { attempt: status.attempt, message: status.message, nextMillis: status.nextMillis }
    : undefined
  if (Equal.equals(self.frame.retry, retry)) return self
  return withFrame(retry === undefined ? self : takeBackTry(self, eventId), {
    retry,
    retries: self.frame.retries + (retry === undefined ? 0 : 1),
    trouble: retry === undefined ? self.frame.trouble : { name: "Retry", message: retry.message, isRetryable: true },
    statusEventId: eventId ?? self.frame.statusEventId
  })
}

/** The session failed. The first failure says why; what follows it are its consequences. */
export const applyFailure = (self: Reply, { eventId, failure }: SessionFailed): Reply =>
  self.frame.failure !== undefined || isStale(self.frame.failureEventId, eventId)
    ? self
    : withFrame(self, { failure, failureEventId: eventId, trouble: failure })

/** A session of the tree asks something. */
export const applyAsked = (self: Reply, { ask, eventId, sessionId }: Asked): Reply => {
  if (!isInTree(self, sessionId) || isKnownAsk(self, ask.id)) return self
  const { askEventIds, asks } = self.frame
  return withFrame(self, {
    asks: [...asks, ask],
    askEventIds: eventId === undefined ? askEventIds : new Map([...askEventIds, [ask.id, eventId]])
  })
}

/** Something that was asked is answered. */
export const applyResolved = (self: Reply, { requestId, sessionId }: AskResolved): Reply => {
  if (!isInTree(self, sessionId) || self.frame.resolvedAsks.includes(requestId)) return self
  // Also of a request not known yet: a list that was read just before it was answered may still come.
  return withFrame(self, {
    asks: self.frame.asks.filter((ask) => ask.id !== requestId),
    resolvedAsks: [...self.frame.resolvedAsks, requestId]
  })
}

/** The asks of a session that is gone went with it. */
export const dropAsks = (self: Reply, sessionId: SessionId): Reply =>
  resolveAsks(self, (ask) => ask.sessionId === sessionId)

// internal

const resolveAsks = (self: Reply, isResolved: (ask: Ask) => boolean): Reply => {
  const resolved = self.frame.asks.filter(isResolved)
  return resolved.length === 0 ? self : withFrame(self, {
    asks: self.frame.asks.filter((ask) => !resolved.includes(ask)),
    resolvedAsks: [...self.frame.resolvedAsks, ...resolved.map((ask) => ask.id)]
  })
}

const isKnownAsk = (self: Reply, id: RequestId): boolean =>
  self.frame.resolvedAsks.includes(id) || self.frame.asks.some((ask) => ask.id === id)
