/**
 * The times that only the event stream tells: when the model began to answer, when something was asked and answered, and when a call of
 * the model was to be repeated. The server's record has the other times.
 *
 * **Responsibilities**: the fold of these times, beside the fold of the reply.
 *
 * **Not responsibilities**: what the times mean for the turn (`Timeline`), and reading a clock.
 *
 * All times are milliseconds since the epoch by the server's clock. An id of an event tells its time. An event without one, and a change
 * that no event told, get the time of this process less the known difference of both clocks.
 *
 * @since 0.1.0
 */
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import type { Ask, AskingTool } from "../domain/Ask.ts"
import type { AskId, MessageId, SessionId } from "../domain/Ids.ts"
import type { WirePart } from "../domain/Part.ts"
import type { TurnEvent } from "../domain/TurnEvent.ts"
import type { Wait } from "../domain/Wait.ts"
import { millisFrom } from "./EventOrder.ts"
import * as Reply from "./Reply.ts"

/**
 * **Details**
 *
 * `offsetMillis` is how much the clock of this process is ahead of the server's. It is the smallest difference that an event showed,
 * because each event also needs some time on its way. `firsts` has the first output of each of the turn's messages.
 *
 * @category models
 * @since 0.1.0
 */
export interface Moments {
  readonly offsetMillis: number | undefined
  readonly firsts: HashMap.HashMap<MessageId, number>
  readonly asks: HashMap.HashMap<AskId, AskTimes>
  readonly retries: ReadonlyArray<RetryTimes>
}

/**
 * How long something was asked. `name` is the kind of a permission, or `question`.
 *
 * @category models
 * @since 0.1.0
 */
export interface AskTimes {
  readonly id: AskId
  readonly sessionId: SessionId
  readonly kind: "permission" | "question"
  readonly name: string
  readonly tool: AskingTool | undefined
  readonly askedMillis: number
  readonly resolvedMillis: number | undefined
}

/**
 * How long a session waited before it called its model again. `nextMillis` is when it meant to.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryTimes {
  readonly sessionId: SessionId
  readonly attempt: number
  readonly message: string
  readonly announcedMillis: number
  readonly nextMillis: number
  readonly endedMillis: number | undefined
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const empty: Moments = { offsetMillis: undefined, firsts: HashMap.empty(), asks: HashMap.empty(), retries: [] }

/**
 * The waits so far, in the order of their beginnings.
 *
 * @category getters
 * @since 0.1.0
 */
export const waits = ({ asks, retries }: Moments): ReadonlyArray<Wait> =>
  [
    ...Array.from(HashMap.values(asks), ({ askedMillis, resolvedMillis = null, tool, ...ask }): Wait => ({
      type: "ask",
      ...ask,
      ...(tool !== undefined && { tool }),
      fromMillis: askedMillis,
      toMillis: resolvedMillis
    })),
    ...retries.map(({ announcedMillis, endedMillis = null, ...retry }): Wait => ({
      type: "retry",
      ...retry,
      fromMillis: announcedMillis,
      toMillis: endedMillis
    }))
  ].toSorted((one, other) => one.fromMillis - other.fromMillis)

/**
 * Adds the waits that an earlier owner of the turn stored. One that is still open there goes on from when it began.
 *
 * @category constructors
 * @since 0.1.0
 */
export const restore = (self: Moments, stored: ReadonlyArray<Wait>): Moments => {
  let { asks } = self
  const retries: Array<RetryTimes> = []
  for (const wait of stored) {
    if (wait.type === "ask") {
      const { fromMillis, toMillis, type: _, ...ask } = wait
      const known = Option.getOrUndefined(HashMap.get(asks, wait.id))
      const resolvedMillis = known === undefined ? toMillis ?? undefined : known.resolvedMillis
      asks = HashMap.set(asks, wait.id, { tool: undefined, ...ask, askedMillis: fromMillis, resolvedMillis })
    } else {
      const { fromMillis, toMillis, type: _, ...retry } = wait
      retries.push({ ...retry, announcedMillis: fromMillis, endedMillis: toMillis ?? undefined })
    }
  }
  return { ...self, asks, retries: [...retries, ...self.retries] }
}

/**
 * A change of the reply by an event.
 *
 * @category models
 * @since 0.1.0
 */
export interface Change {
  readonly event: TurnEvent
  readonly told: Reply.Told | undefined
  readonly before: Reply.Reply
  readonly after: Reply.Reply
}

/**
 * Folds the change that an event made. Returns `self` if it tells no time. `now` is read only if it does.
 *
 * @category folding
 * @since 0.1.0
 */
export const apply = (self: Moments, change: Change, now: () => number): Moments => {
  const { after, before, event, told } = change
  switch (told?._tag) {
    case undefined:
    case "Grew":
      return self
    case "Part":
      return isFirst(self, change) ? withFirst(self, change, now()) : self
    case "Step":
      return withOffset(self, event.eventId, now())
    case "Status": {
      const { sessionId } = told
      const [was, is] = [before, after].map((reply) => Reply.replyOf(reply, sessionId)?.session.retry)
      const asked = withAsks(self, before, after, event.eventId, now)
      return was === is ? asked : withRetry(asked, sessionId, is, serverMillis(asked, event.eventId, now()))
    }
    default:
      return withAsks(self, before, after, event.eventId, now)
  }
}

/**
 * Folds a change of the reply that no event made: a read of the server's record, or a reply that begins anew.
 *
 * @category folding
 * @since 0.1.0
 */
export const sync = (self: Moments, before: Reply.Reply, after: Reply.Reply, now: () => number): Moments => {
  const asked = withAsks(self, before, after, undefined, now)
  return asked.retries
    .filter(({ endedMillis, sessionId }) =>
      endedMillis === undefined && Reply.replyOf(after, sessionId)?.session.retry === undefined
    )
    .reduce(
      (moments, { sessionId }) => withRetry(moments, sessionId, undefined, serverMillis(moments, undefined, now())),
      asked
    )
}

// internal

/** A session that retries without an end must not fill the memory. No turn that ends well comes near. */
const maxRetries = 1000

const serverMillis = ({ offsetMillis = 0 }: Moments, eventId: string | undefined, nowMillis: number): number => {
  const sinceMillis = millisFrom(eventId, nowMillis)
  return sinceMillis === undefined ? nowMillis - offsetMillis : Math.trunc(nowMillis) - sinceMillis
}

const withOffset = (self: Moments, eventId: string | undefined, nowMillis: number): Moments => {
  const sinceMillis = millisFrom(eventId, nowMillis)
  if (sinceMillis === undefined) return self
  const offsetMillis = Math.min(self.offsetMillis ?? Infinity, sinceMillis)
  return offsetMillis === self.offsetMillis ? self : { ...self, offsetMillis }
}

const isOutput = ({ type }: WirePart): boolean => type === "text" || type === "reasoning" || type === "tool"

/** Whether the event opened the first part of one of the turn's messages. */
const isFirst = (self: Moments, { after, before, event }: Change): boolean => {
  if (event._tag !== "PartUpdated" || !isOutput(event.part) || HashMap.has(self.firsts, event.part.messageId)) {
    return false
  }
  const { part: { messageId }, sessionId } = event
  const known = Reply.replyOf(before, sessionId)
  const reply = Reply.replyOf(after, sessionId)
  const message = reply && Reply.message(reply, messageId)
  return message !== undefined && message.ownership !== "foreign" &&
    (known === undefined || !HashMap.has(known.partsOf, messageId))
}

const withFirst = (self: Moments, { event }: Change, nowMillis: number): Moments =>
  event._tag !== "PartUpdated" ? self : {
    ...self,
    firsts: HashMap.set(self.firsts, event.part.messageId, serverMillis(self, event.eventId, nowMillis))
  }

const withAsks = (
  self: Moments,
  before: Reply.Reply,
  after: Reply.Reply,
  eventId: string | undefined,
  now: () => number
): Moments => {
  if (before.session.asks === after.session.asks) return self
  const atMillis = serverMillis(self, eventId, now())
  let { asks } = self
  for (const ask of Reply.newAsks(before, after)) {
    const known = Option.getOrUndefined(HashMap.get(asks, ask.id))
    if (known !== undefined) asks = HashMap.set(asks, ask.id, { ...known, resolvedMillis: atMillis })
  }
  for (const ask of Reply.newAsks(after, before)) {
    const known = Option.getOrUndefined(HashMap.get(asks, ask.id))
    // An earlier owner of the turn may have seen it.
    const isKnown = known !== undefined && known.resolvedMillis === undefined
    if (!isKnown) asks = HashMap.set(asks, ask.id, timesOf(ask, atMillis))
  }
  return asks === self.asks ? self : { ...self, asks }
}

const timesOf = (ask: Ask, askedMillis: number): AskTimes => ({
  id: ask.id,
  sessionId: ask.sessionId,
  kind: ask._tag === "Permission" ? "permission" : "question",
  name: ask._tag === "Permission" ? ask.permission : "question",
  tool: ask.tool,
  askedMillis,
  resolvedMillis: undefined
})

const withRetry = (
  self: Moments,
  sessionId: SessionId,
  retry: Reply.Retry | undefined,
  atMillis: number
): Moments => {
  const retries = self.retries.map((known) =>
    known.sessionId === sessionId && known.endedMillis === undefined ? { ...known, endedMillis: atMillis } : known
  )
  return {
    ...self,
    retries: retry === undefined || retries.length >= maxRetries
      ? retries
      : [...retries, { sessionId, ...retry, announcedMillis: atMillis, endedMillis: undefined }]
  }
}
