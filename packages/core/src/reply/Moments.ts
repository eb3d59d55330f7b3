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
 * How long something was asked. `name` is the kind of a permission, or `question`. `seenMillis` is when this process learned of it, by its
 * own clock.
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
  readonly seenMillis: number | undefined
  readonly resolvedMillis: number | undefined
}

/**
 * How long a session waited before it called its model again. `nextMillis` is when it meant to. `seenMillis` is as above.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryTimes {
  readonly sessionId: SessionId
  readonly attempt: number
  readonly message: string
  readonly announcedMillis: number
  readonly seenMillis: number | undefined
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
  [...Array.from(HashMap.values(asks), waitForPerson), ...retries.map(waitForModel)]
    .toSorted((one, other) => one.fromMillis - other.fromMillis)

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
      const seenMillis = known?.seenMillis
      asks = HashMap.set(asks, wait.id, {
        tool: undefined,
        ...ask,
        askedMillis: fromMillis,
        seenMillis,
        resolvedMillis
      })
    } else {
      const { fromMillis, toMillis, type: _, ...retry } = wait
      retries.push({ ...retry, announcedMillis: fromMillis, seenMillis: undefined, endedMillis: toMillis ?? undefined })
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
      return was === is ? asked : withRetry(asked, sessionId, is, event.eventId, now())
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
      (moments, { sessionId }) => withRetry(moments, sessionId, undefined, undefined, now()),
      asked
    )
}

// internal

const waitForPerson = (times: AskTimes): Wait => {
  const { askedMillis, resolvedMillis = null, seenMillis: _, tool, ...ask } = times
  return { type: "ask", ...ask, ...(tool !== undefined && { tool }), fromMillis: askedMillis, toMillis: resolvedMillis }
}

const waitForModel = (times: RetryTimes): Wait => {
  const { announcedMillis, endedMillis = null, seenMillis: _, ...retry } = times
  return { type: "retry", ...retry, fromMillis: announcedMillis, toMillis: endedMillis }
}

/** A session that retries without an end must not fill the memory. No turn that ends well comes near. */
const maxRetries = 1000

const serverMillis = ({ offsetMillis = 0 }: Moments, eventId: string | undefined, nowMillis: number): number => {
  const sinceMillis = millisFrom(eventId, nowMillis)
  return sinceMillis === undefined ? nowMillis - offsetMillis : Math.trunc(nowMillis) - sinceMillis
}

/**
 * When something ended that began at `startMillis`. The known difference of both clocks holds the way of an event, which a busy process
 * reads late; without an event the time since the process saw the beginning counts at least.
 */
const endMillis = (
  self: Moments,
  startMillis: number,
  seenMillis: number | undefined,
  eventId: string | undefined,
  nowMillis: number
): number => {
  const millis = serverMillis(self, eventId, nowMillis)
  const isTold = eventId !== undefined || seenMillis === undefined
  return isTold ? millis : Math.max(millis, startMillis + nowMillis - seenMillis)
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
  const nowMillis = now()
  const atMillis = serverMillis(self, eventId, nowMillis)
  let { asks } = self
  for (const ask of Reply.newAsks(before, after)) {
    const known = Option.getOrUndefined(HashMap.get(asks, ask.id))
    if (known === undefined) continue
    const resolvedMillis = endMillis(self, known.askedMillis, known.seenMillis, eventId, nowMillis)
    asks = HashMap.set(asks, ask.id, { ...known, resolvedMillis })
  }
  for (const ask of Reply.newAsks(after, before)) {
    const known = Option.getOrUndefined(HashMap.get(asks, ask.id))
    // An earlier owner of the turn may have seen it, and a list of the server may be older than the answer.
    // What tells of an ask may come long after it was asked, even after its answer.
    const askedMillis = Math.min(serverMillis(self, ask.id, nowMillis), atMillis)
    const times = known === undefined ? timesOf(ask, askedMillis, nowMillis) : { ...known, resolvedMillis: undefined }
    asks = HashMap.set(asks, ask.id, times)
  }
  return asks === self.asks ? self : { ...self, asks }
}

const timesOf = (ask: Ask, askedMillis: number, seenMillis: number): AskTimes => ({
  id: ask.id,
  sessionId: ask.sessionId,
  kind: ask._tag === "Permission" ? "permission" : "question",
  name: ask._tag === "Permission" ? ask.permission : "question",
  tool: ask.tool,
  askedMillis,
  seenMillis,
  resolvedMillis: undefined
})

const withRetry = (
  self: Moments,
  sessionId: SessionId,
  retry: Reply.Retry | undefined,
  eventId: string | undefined,
  nowMillis: number
): Moments => {
  const retries = self.retries.map((known) => {
    if (known.sessionId !== sessionId || known.endedMillis !== undefined) return known
    return { ...known, endedMillis: endMillis(self, known.announcedMillis, known.seenMillis, eventId, nowMillis) }
  })
  const announcedMillis = serverMillis(self, eventId, nowMillis)
  return {
    ...self,
    retries: retry === undefined || retries.length >= maxRetries
      ? retries
      : [...retries, { sessionId, ...retry, announcedMillis, seenMillis: nowMillis, endedMillis: undefined }]
  }
}
