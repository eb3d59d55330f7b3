/**
 * Reads what the stream did not tell: the server's record of a turn, and what a gap in the stream may have hidden.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { MessageId, SessionId } from "../domain/Ids.ts"
import type { SessionStatus } from "../domain/Message.ts"
import { rereading } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import { Client } from "../opencode/Client.ts"
import type { RequestError, SessionNotFound } from "../opencode/ClientError.ts"
import type { Subscription } from "../opencode/EventHub.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { LiveReply } from "./LiveReply.ts"
import { syncPending } from "./PendingAsks.ts"
import { readExchange } from "./ReadExchange.ts"
import { adoptSubagents } from "./ReadSubagents.ts"

/**
 * The server's record of the turn, and which sessions work on something. The exchange is at least as new as the statuses.
 *
 * @category models
 * @since 0.1.0
 */
export interface View {
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
export const look = Effect.fnUntraced(function*(
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  live: LiveReply
): Effect.fn.Return<View, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const statuses = yield* rereading(client.statuses)
  const exchange = yield* readExchange(ids, live.current())
  return { exchange, statuses, isIdle: !statuses.has(ids.sessionId) }
}, step("Turn.look"))

/**
 * Brings the reply up to date with the server after a gap: the exchange, the sessions of subagents, and the open asks. Watchers get the
 * whole reply where it differs from what they were shown.
 *
 * @category steps
 * @since 0.1.0
 */
export const catchUp = Effect.fnUntraced(function*(
  live: LiveReply,
  subscription: Subscription,
  view: View
): Effect.fn.Return<void, RequestError | SessionNotFound, Client> {
  live.update((reply) => Exchange.merge(view.exchange, reply))
  yield* adoptSubagents(live, subscription, view.statuses)
  yield* readTodos(live)
  yield* syncPending(live, view.statuses)
}, step("Turn.catchUp"))

// internal

/** How many to-do lists are read at once: 4. Any number of subagents may have one. */
const maxReads = 4

/** No record of a message has the to-do lists, and the last event about them may have been missed. */
const readTodos = Effect.fnUntraced(function*(live: LiveReply) {
  const client = yield* Client
  const read = Effect.fnUntraced(function*(asOf: Reply.Reply) {
    const { sessionId } = asOf
    const todos = Option.getOrUndefined(yield* Effect.option(rereading(client.todos(sessionId))))
    const now = Reply.replyOf(live.current(), sessionId)
    // If the stream told of the list meanwhile, that is newer.
    if (todos === undefined || now === undefined || Reply.todos(now) !== Reply.todos(asOf)) return
    live.apply({ _tag: "TodosUpdated", eventId: undefined, sessionId, todos })
  })
  yield* Effect.forEach(Reply.replies(live.current()).filter(hasTodos), read, {
    concurrency: maxReads,
    discard: true
  })
})

const hasTodos = (reply: Reply.Reply): boolean =>
  Reply.parts(reply).some((part) => part.type === "tool" && part.tool === "todowrite")
