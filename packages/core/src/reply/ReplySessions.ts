/**
 * What a reply knows of its sessions: what they ask, and the status and the failure of its own one.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import * as HashMap from "effect/HashMap"
import * as HashSet from "effect/HashSet"
import * as Option from "effect/Option"
import type { Ask } from "../domain/Ask.ts"
import type { AskId, SessionId } from "../domain/Ids.ts"
import type { Asked, AskResolved, SessionFailed, StatusChanged } from "../domain/TurnEvent.ts"
import { isStale } from "./EventOrder.ts"
import * as Ordered from "./Ordered.ts"
import { takeBackTry } from "./ReplyParts.ts"
import type { Frame, Reply } from "./ReplyState.ts"
import { withFrame } from "./ReplyState.ts"

/**
 * Whether the session is the turn's own or one of its subagents'.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isInTree = (self: Reply, sessionId: SessionId): boolean =>
  sessionId === self.sessionId || Ordered.has(self.frame.subagents, sessionId)

/**
 * What a session of the tree asks and nobody has answered yet. Costs what that session asks.
 *
 * @category getters
 * @since 0.1.0
 */
export const asksOf = ({ frame }: Reply, sessionId: SessionId): ReadonlyArray<Ask> =>
  Array.from(idsOf(frame, sessionId), (id) => Ordered.get(frame.asks, id)).filter((ask) => ask !== undefined)

/**
 * How much a session of the tree asks.
 *
 * @category getters
 * @since 0.1.0
 */
export const countAsksOf = ({ frame }: Reply, sessionId: SessionId): number => HashSet.size(idsOf(frame, sessionId))

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
  const missing = Ordered.values(self.frame.asks)
    .filter(({ id }) => Ordered.has(asOf.frame.asks, id) && !open.has(id))
  const resolved = resolveAsks(self, missing)
  const added = pending.filter((ask) => isInTree(self, ask.sessionId) && !isKnownAsk(self, ask.id))
  return added.length === 0
    ? resolved
    : { ...resolved, frame: added.reduce(withAsk, resolved.frame) }
}

/** The asks of a session that is idle: it waits for nobody, they went with the run that made them (abort, server restart). */
export const settleAsks = (self: Reply, { eventId, sessionId, status }: StatusChanged): Reply =>
  status.type !== "idle" ? self : resolveAsks(
    self,
    asksOf(self, sessionId).filter(({ id }) =>
      !isStale(Option.getOrUndefined(HashMap.get(self.frame.askEventIds, id)), eventId)
    )
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
  const { askEventIds } = self.frame
  return withFrame(self, {
    ...withAsk(self.frame, ask),
    askEventIds: eventId === undefined ? askEventIds : HashMap.set(askEventIds, ask.id, eventId)
  })
}

/** Something that was asked is answered. */
export const applyResolved = (self: Reply, { askId, sessionId }: AskResolved): Reply => {
  if (!isInTree(self, sessionId) || HashSet.has(self.frame.resolvedAsks, askId)) return self
  // Also of a request not known yet: a list that was read just before it was answered may still come.
  return withFrame(self, withoutAsk(self.frame, askId))
}

/** The asks of a session that is gone went with it. */
export const dropAsks = (self: Reply, sessionId: SessionId): Reply => resolveAsks(self, asksOf(self, sessionId))

// internal

const idsOf = ({ asksOf }: Frame, sessionId: SessionId): HashSet.HashSet<AskId> =>
  Option.getOrElse(HashMap.get(asksOf, sessionId), () => noIds)

const noIds: HashSet.HashSet<AskId> = HashSet.empty()

const withAsk = (frame: Frame, ask: Ask): Frame => ({
  ...frame,
  asks: Ordered.set(frame.asks, ask),
  asksOf: HashMap.set(frame.asksOf, ask.sessionId, HashSet.add(idsOf(frame, ask.sessionId), ask.id))
})

const withoutAsk = (frame: Frame, id: AskId): Frame => {
  const ask = Ordered.get(frame.asks, id)
  const resolvedAsks = HashSet.add(frame.resolvedAsks, id)
  return ask === undefined ? { ...frame, resolvedAsks } : {
    ...frame,
    asks: Ordered.remove(frame.asks, id),
    asksOf: HashMap.set(frame.asksOf, ask.sessionId, HashSet.remove(idsOf(frame, ask.sessionId), id)),
    askEventIds: HashMap.remove(frame.askEventIds, id),
    resolvedAsks
  }
}

const resolveAsks = (self: Reply, asks: ReadonlyArray<Ask>): Reply =>
  asks.length === 0 ? self : withFrame(self, asks.reduce((frame, { id }) => withoutAsk(frame, id), self.frame))

const isKnownAsk = (self: Reply, id: AskId): boolean =>
  HashSet.has(self.frame.resolvedAsks, id) || Ordered.has(self.frame.asks, id)
