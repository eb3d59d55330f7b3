/**
 * Finds the asks of a session and its subagents that are older than the turn's stream.
 *
 * A run whose owner is gone goes on until it asks something. Then it waits forever, and every later prompt of its session is queued behind
 * it. So the next turn of that session answers those asks as its own.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Ask } from "../domain/Ask.ts"
import type { SessionId } from "../domain/Ids.ts"
import type { SessionStatus } from "../domain/Message.ts"
import { rereading } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import { Client } from "../opencode/Client.ts"
import type { RequestError, SessionNotFound } from "../opencode/ClientError.ts"
import type { Subscription } from "../opencode/EventHub.ts"
import * as Reply from "../reply/Reply.ts"
import type { LiveReply } from "./LiveReply.ts"
import { adoptSubagents } from "./ReadSubagents.ts"

/**
 * Which sessions work on something, as the server said.
 *
 * @category models
 * @since 0.1.0
 */
export type Statuses = ReadonlyMap<SessionId, SessionStatus>

/**
 * Adopts the running subagents of the turn's session, if that works on something, and the asks of all of them.
 *
 * @category steps
 * @since 0.1.0
 */
export const takePending = Effect.fnUntraced(function*(
  live: LiveReply,
  subscription: Subscription
): Effect.fn.Return<void, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const statuses = yield* rereading(client.statuses)
  if (!statuses.has(live.current().sessionId)) return
  yield* adoptSubagents(live, subscription, statuses)
  yield* syncPending(live, statuses)
}, step("Turn.takePending"))

/**
 * Makes the server's list of asks the truth of the reply: an ask that is missing from it was answered elsewhere.
 *
 * @category steps
 * @since 0.1.0
 */
export const syncPending = Effect.fnUntraced(function*(
  live: LiveReply,
  statuses: Statuses
): Effect.fn.Return<void, RequestError, Client> {
  const asOf = live.current()
  const pending = yield* findPending(asOf, statuses)
  live.update((reply) => Reply.syncAsks(reply, pending, asOf))
  live.flush()
})

/**
 * The asks that the sessions of the reply's tree wait for. Where the server cannot tell, they are those of the reply.
 *
 * **Gotchas**
 *
 * The asks of an aborted run are listed forever (1.18.33). Nobody waits for the answer once the message that asked has ended. An ask
 * without a message counts while its session works on something.
 *
 * @category steps
 * @since 0.1.0
 */
export const findPending = Effect.fnUntraced(function*(
  reply: Reply.Reply,
  statuses: Statuses
): Effect.fn.Return<ReadonlyArray<Ask>, RequestError, Client> {
  const client = yield* Client
  const listed = yield* orUnknown(
    Effect.all([rereading(client.questions), rereading(client.permissions)], { concurrency: 2 })
  )
  if (listed === undefined) return Reply.asks(reply)
  // A session that began to run after the statuses were read told its asks by the stream.
  const candidates = listed.flat().filter((ask) =>
    Reply.isInTree(reply, ask.sessionId) &&
    (statuses.has(ask.sessionId) || (ask.tool !== undefined && Reply.isAsked(reply, ask.id)))
  )
  // One step may ask for any number of calls; its message is read once.
  const steps = new Map(candidates.map((ask) => [stepOf(ask), ask]))
  const waiting = yield* Effect.filter(steps.values(), isWaitedFor, { concurrency: maxReads })
  const isWaiting = new Set(waiting.map(stepOf))
  return candidates.filter((ask) => isWaiting.has(stepOf(ask)))
}, step("Turn.findPending"))

// internal

/** How many messages are read at once: 4. Any number of them may have asked, and other turns use the same server. */
const maxReads = 4

const stepOf = ({ sessionId, tool }: Ask): string => `${sessionId} ${tool?.messageId ?? ""}`

/** A server that refuses to list its asks, or has no route for that, is no reason to give the turn up. */
const orUnknown = <A, E extends { readonly isRetryable: boolean }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.catchIf(effect, (error) => !error.isRetryable, () => Effect.undefined)

const isWaitedFor = Effect.fnUntraced(function*({ sessionId, tool }: Ask): Effect.fn.Return<
  boolean,
  RequestError,
  Client
> {
  if (tool === undefined) return true
  const client = yield* Client
  return yield* rereading(client.getMessage(sessionId, tool.messageId)).pipe(
    Effect.map(({ info }) =>
      info.role === "opaque" ||
      (info.role === "assistant" && info.completedMillis === undefined && info.error === undefined)
    ),
    Effect.catchTag("MessageNotFound", () => Effect.succeed(false)),
    // The message cannot be read, but its session works on something.
    Effect.catchIf((error) => !error.isRetryable, () => Effect.succeed(true))
  )
})
