/**
 * The asks of all sessions of a reply, and the status and failure of its own session.
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
import type { Reply, SessionState } from "./ReplyState.ts"
import { withSession } from "./ReplyState.ts"

/**
 * Whether the session is the turn's own or one of its subagents'.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isInTree = (self: Reply, sessionId: SessionId): boolean =>
  sessionId === self.sessionId || Ordered.has(self.session.subagents, sessionId)

/**
 * The open asks of a session of the tree. The cost grows with their number.
 *
 * @category getters
 * @since 0.1.0
 */
export const asksOf = ({ session }: Reply, sessionId: SessionId): ReadonlyArray<Ask> =>
  Array.from(idsOf(session, sessionId), (id) => Ordered.get(session.asks, id)).filter((ask) => ask !== undefined)

/**
 * The number of open asks of a session of the tree.
 *
 * @category getters
 * @since 0.1.0
 */
export const countAsksOf = ({ session }: Reply, sessionId: SessionId): number => HashSet.size(idsOf(session, sessionId))

/**
 * Replaces the open asks by the server's list. A missing ask was answered elsewhere.
 *
 * **Details**
 *
 * `asOf` is the reply at the time of the request. Asks that came later are not in the list and stay open.
 *
 * @category folding
 * @since 0.1.0
 */
export const syncAsks = (self: Reply, pending: ReadonlyArray<Ask>, asOf: Reply = self): Reply => {
  const open = new Set(pending.map((ask) => ask.id))
  const missing = Ordered.values(self.session.asks)
    .filter(({ id }) => Ordered.has(asOf.session.asks, id) && !open.has(id))
  const resolved = resolveAsks(self, missing)
  const added = pending.filter((ask) => isInTree(self, ask.sessionId) && !isKnownAsk(self, ask.id))
  return added.length === 0
    ? resolved
    : { ...resolved, session: added.reduce(withAsk, resolved.session) }
}

/** Removes the asks of an idle session: their run has ended (abort, server restart), so it waits for nobody. */
export const settleAsks = (self: Reply, { eventId, sessionId, status }: StatusChanged): Reply =>
  status.type !== "idle" ? self : resolveAsks(
    self,
    asksOf(self, sessionId).filter(({ id }) =>
      !isStale(Option.getOrUndefined(HashMap.get(self.session.askEventIds, id)), eventId)
    )
  )

/** Applies a status: the session is busy or idle, or waits before it calls its model again. */
export const applyStatus = (self: Reply, { eventId, status }: StatusChanged): Reply => {
  if (isStale(self.session.statusEventId, eventId)) return self
  const retry = status.type === "retry"
    ? { attempt: status.attempt, message: status.message, nextMillis: status.nextMillis }
    : undefined
  if (Equal.equals(self.session.retry, retry)) return self
  return withSession(retry === undefined ? self : takeBackTry(self, eventId), {
    retry,
    retries: self.session.retries + (retry === undefined ? 0 : 1),
    trouble: retry === undefined ? self.session.trouble : { name: "Retry", message: retry.message, isRetryable: true },
    statusEventId: eventId ?? self.session.statusEventId
  })
}

/** Whether it is not the turn that failed, but another prompt of its session. */
export const isOfOtherPrompt = (self: Reply, { promptId, sessionId }: SessionFailed): boolean =>
  sessionId === self.sessionId && promptId !== undefined && promptId !== self.promptId &&
  !HashSet.has(self.session.continuations, promptId)

/** Applies a failure. The first failure gives the reason; later ones are its consequences. */
export const applyFailure = (self: Reply, { eventId, failure }: SessionFailed): Reply =>
  self.session.failure !== undefined || isStale(self.session.failureEventId, eventId)
    ? self
    : withSession(self, { failure, failureEventId: eventId, trouble: failure })

/** Applies a new ask of a session of the tree. */
export const applyAsked = (self: Reply, { ask, eventId, sessionId }: Asked): Reply => {
  if (!isInTree(self, sessionId) || isKnownAsk(self, ask.id)) return self
  const { askEventIds } = self.session
  return withSession(self, {
    ...withAsk(self.session, ask),
    askEventIds: eventId === undefined ? askEventIds : HashMap.set(askEventIds, ask.id, eventId)
  })
}

/** Applies the answer to an ask. */
export const applyResolved = (self: Reply, { askId, sessionId }: AskResolved): Reply => {
  if (!isInTree(self, sessionId) || HashSet.has(self.session.resolvedAsks, askId)) return self
  // The ask may be unknown so far: a list that was read just before its answer may still arrive.
  return withSession(self, withoutAsk(self.session, askId))
}

/** Removes the asks of a deleted session. */
export const dropAsks = (self: Reply, sessionId: SessionId): Reply => resolveAsks(self, asksOf(self, sessionId))

// internal

const idsOf = ({ asksOf }: SessionState, sessionId: SessionId): HashSet.HashSet<AskId> =>
  Option.getOrElse(HashMap.get(asksOf, sessionId), () => noIds)

const noIds: HashSet.HashSet<AskId> = HashSet.empty()

const withAsk = (session: SessionState, ask: Ask): SessionState => ({
  ...session,
  asks: Ordered.set(session.asks, ask),
  asksOf: HashMap.set(session.asksOf, ask.sessionId, HashSet.add(idsOf(session, ask.sessionId), ask.id))
})

const withoutAsk = (session: SessionState, id: AskId): SessionState => {
  const ask = Ordered.get(session.asks, id)
  const resolvedAsks = HashSet.add(session.resolvedAsks, id)
  return ask === undefined ? { ...session, resolvedAsks } : {
    ...session,
    asks: Ordered.remove(session.asks, id),
    asksOf: HashMap.set(session.asksOf, ask.sessionId, HashSet.remove(idsOf(session, ask.sessionId), id)),
    askEventIds: HashMap.remove(session.askEventIds, id),
    resolvedAsks
  }
}

const resolveAsks = (self: Reply, asks: ReadonlyArray<Ask>): Reply =>
  asks.length === 0 ? self : withSession(self, asks.reduce((session, { id }) => withoutAsk(session, id), self.session))

const isKnownAsk = (self: Reply, id: AskId): boolean =>
  HashSet.has(self.session.resolvedAsks, id) || Ordered.has(self.session.asks, id)
