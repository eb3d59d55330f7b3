/**
 * What the stream did not tell: a look at the server's record of a turn, and what a gap in the stream may have hidden.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { Client } from "./Client.ts"
import type { RequestError, SessionNotFound } from "./ClientError.ts"
import type { Subscription } from "./EventHub.ts"
import * as Exchange from "./Exchange.ts"
import type { MessageId, SessionId } from "./Ids.ts"
import type { LiveReply } from "./LiveReply.ts"
import type { SessionStatus } from "./Message.ts"
import { readExchange } from "./ReadExchange.ts"
import * as Reply from "./Reply.ts"
import { rereading } from "./Retrying.ts"

/**
 * The server's record of the turn, and which sessions work on something. The exchange is at least as new as the statuses.
 *
 * @category models
 * @since 0.1.0
 */
export interface Look {
  readonly exchange: Exchange.Exchange
  readonly statuses: ReadonlyMap<SessionId, SessionStatus>
  readonly isIdle: boolean
}

/**
 * Asks the server how far the turn is.
 *
 * @category steps
 * @since 0.1.0
 */
export const look = Effect.fn("Turn.look")(function*(
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  live: LiveReply
): Effect.fn.Return<Look, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const statuses = yield* rereading(client.statuses)
  const known = live.current().frame.messages.map((message) => message.id)
  const exchange = yield* readExchange(ids, known)
  return { exchange, statuses, isIdle: !statuses.has(ids.sessionId) }
})

/**
 * Brings the reply up to what the server has, after a gap: the exchange, the sessions of subagents, and what is asked.
 * Watchers get the whole reply anew where it differs from what they were shown.
 *
 * @category steps
 * @since 0.1.0
 */
export const catchUp = Effect.fn("Turn.catchUp")(function*(
  live: LiveReply,
  subscription: Subscription,
  view: Look
): Effect.fn.Return<void, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  live.update((reply) => Exchange.merge(view.exchange, reply))
  yield* adoptSubagents(live, subscription, view)
  const asOf = live.current()
  const listed = yield* orUnknown(
    Effect.all([rereading(client.questions), rereading(client.permissions)], { concurrency: 2 })
  )
  const pending = listed?.flat() ?? asOf.frame.asks
  const { frame, sessionId } = live.current()
  const own = new Set(frame.messages.flatMap(({ id, ownership }) => (ownership === "foreign" ? [] : [id])))
  // After an abort the server still lists what was asked (1.18.33): only what a session that runs asks is open.
  const open = pending.filter((ask) =>
    view.statuses.has(ask.sessionId) &&
    (ask.sessionId !== sessionId || ask.tool === undefined || own.has(ask.tool.messageId))
  )
  live.update((reply) => Reply.syncAsks(reply, open, asOf))
  live.flush()
})

// internal

/** What a server refuses to tell, or has no route for, is no reason to give the turn up. */
const orUnknown = <A, E extends { readonly isRetryable: boolean }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.catchIf(effect, (error) => !error.isRetryable, () => Effect.undefined)

/** Sessions of earlier turns are children too: only those that run or that this turn's tools name are its own. */
const adoptSubagents = Effect.fnUntraced(function*(live: LiveReply, subscription: Subscription, view: Look) {
  const client = yield* Client
  const opened = new Set(
    Reply.parts(live.current()).flatMap((part) => (part.type === "tool" && part.subagent ? [part.subagent] : []))
  )
  const adoptChildren = (parentId: SessionId): Effect.Effect<void, RequestError | SessionNotFound> =>
    Effect.gen(function*() {
      const children = yield* orUnknown(rereading(client.children(parentId)))
      for (const { agent, id, title } of children ?? []) {
        if (!view.statuses.has(id) && !opened.has(id)) continue
        subscription.adopt(id)
        live.apply({ _tag: "SessionOpened", eventId: undefined, sessionId: id, parentId, title, agent })
        yield* adoptChildren(id)
      }
    })
  yield* adoptChildren(live.current().sessionId)
})
