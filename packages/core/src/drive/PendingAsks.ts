/**
 * What a session and its subagents ask already, before the stream of a turn tells of it.
 *
 * A run whose owner is gone goes on until it asks something; then it waits for ever, and every later prompt of its session
 * behind it. So whoever comes to that session takes what it asks for its own.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Ask } from "../domain/Ask.ts"
import type { SessionId } from "../domain/Ids.ts"
import type { SessionStatus } from "../domain/Message.ts"
import { rereading } from "../domain/Retrying.ts"
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
 * Makes the turn's own what its session waits for, if it works on something: its subagents that run, and what they and it ask.
 *
 * @category steps
 * @since 0.1.0
 */
export const takePending = Effect.fn("Turn.takePending")(function*(
  live: LiveReply,
  subscription: Subscription
): Effect.fn.Return<void, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const statuses = yield* rereading(client.statuses)
  if (!statuses.has(live.current().sessionId)) return
  yield* adoptSubagents(live, subscription, statuses)
  yield* syncPending(live, statuses)
})

/**
 * Makes what the server says is asked the truth of the reply: what is missing was answered elsewhere.
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
 * What the sessions of the reply's tree wait for. Where the server cannot say, what the reply has.
 *
 * **Gotchas**
 *
 * What an aborted run asked is listed for ever (1.18.33): nobody waits for the answer once the message that asked has ended. A
 * request without one counts while its session works on something.
 *
 * @category steps
 * @since 0.1.0
 */
export const findPending = Effect.fn("Turn.findPending")(function*(
  reply: Reply.Reply,
  statuses: Statuses
): Effect.fn.Return<ReadonlyArray<Ask>, RequestError, Client> {
  const client = yield* Client
  const listed = yield* orUnknown(
    Effect.all([rereading(client.questions), rereading(client.permissions)], { concurrency: 2 })
  )
  if (listed === undefined) return Reply.asks(reply)
  // A session that began to run after the statuses were read told what it asks itself.
  const candidates = listed.flat().filter((ask) =>
    Reply.isInTree(reply, ask.sessionId) &&
    (statuses.has(ask.sessionId) || (ask.tool !== undefined && Reply.isAsked(reply, ask.id)))
  )
  // One step may ask for any number of calls, and is read once.
  const steps = new Map(candidates.map((ask) => [stepOf(ask), ask]))
  const waiting = yield* Effect.filter(steps.values(), isWaitedFor, { concurrency: maxReads })
  const isWaiting = new Set(waiting.map(stepOf))
  return candidates.filter((ask) => isWaiting.has(stepOf(ask)))
})

// internal

/** How many messages are read at once: 4. Any number of them may have asked, and other turns use the same server. */
const maxReads = 4

const stepOf = ({ sessionId, tool }: Ask): string => `${sessionId} ${tool?.messageId ?? ""}`

/** What a server refuses to tell, or has no route for, is unknown, and no reason to give the turn up. */
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
    // It cannot be read; its session works on something.
    Effect.catchIf((error) => !error.isRetryable, () => Effect.succeed(true))
  )
})
