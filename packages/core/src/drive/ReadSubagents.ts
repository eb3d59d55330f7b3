/**
 * Reads what the server has stored of a turn's subagents, to any depth.
 *
 * **Responsibilities**: finding those that the stream did not tell of, reading what each said in this turn, and their end.
 *
 * **Not responsibilities**: whose they are and what is made of a record (`Reply`), the exchange of the turn's own session
 * (`ReadExchange`).
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Contained from "../domain/Contained.ts"
import type { SessionId } from "../domain/Ids.ts"
import type { Message, SessionStatus } from "../domain/Message.ts"
import { rereading } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { Client } from "../opencode/Client.ts"
import type { RequestError, SessionNotFound } from "../opencode/ClientError.ts"
import type { Subscription } from "../opencode/EventHub.ts"
import * as Reply from "../reply/Reply.ts"
import type { LiveReply } from "./LiveReply.ts"
import { readSince } from "./ReadExchange.ts"

/**
 * Makes the server's record the truth of every subagent of a turn whose own session has ended, and ends all but those that work on.
 *
 * **Details**
 *
 * A turn without subagents makes no request. A subagent that cannot be read within `TurnPolicy.StopTimeout` is reported, and stays as it
 * was streamed. `untilMillis`, by the server's clock, is when the next prompt of the same turn was given: later messages belong to that.
 * `wasStopped`: nothing works for the turn any more. Otherwise a subagent that has not ended may be one that nobody waited for.
 *
 * @category steps
 * @since 0.1.0
 */
export const readSubagents = Effect.fnUntraced(function*(
  live: LiveReply,
  { untilMillis = Infinity, wasStopped = false }: { readonly untilMillis?: number; readonly wasStopped?: boolean } = {}
): Effect.fn.Return<void, never, Client> {
  const { sessionId } = live.current()
  const hasNone = Reply.subagentStates(live.current()).length === 0
  if (hasNone && Reply.unnamedCalls(live.current(), sessionId).length === 0) return
  const context = { session: sessionId }
  yield* Contained.attempt(
    "subagents",
    context,
    yield* TurnPolicy.StopTimeout,
    Effect.flatMap(wasStopped ? Effect.succeed(noStatuses) : working(live), (statuses) =>
      visitSubagents(live, {
        candidates: () => [],
        onFound: () => {},
        fold: (reply, id, messages) => {
          const ours = messages.filter(({ info }) => info.createdMillis <= untilMillis)
          return statuses.has(id)
            ? Reply.outliveTurn(Reply.mergeSubagent(reply, id, ours), id)
            : Reply.reconcileSubagent(reply, id, ours)
        }
      }))
  )
  live.update(Reply.closeSubagents)
  live.flush()
}, step("Turn.readSubagents"))

/**
 * Brings the subagents of a running turn up to what the server has, and lets the subscription hear of each. Of the sessions that no
 * tool of this turn names, those that run are its own: those of earlier turns are children too.
 *
 * @category steps
 * @since 0.1.0
 */
export const adoptSubagents = (
  live: LiveReply,
  subscription: Subscription,
  statuses: ReadonlyMap<SessionId, SessionStatus>
): Effect.Effect<void, never, Client> =>
  visitSubagents(live, {
    candidates: () => statuses.keys(),
    onFound: subscription.adopt,
    fold: (reply, id, messages) => {
      const merged = Reply.mergeSubagent(reply, id, messages)
      return statuses.has(id) ? merged : Reply.endSubagent(merged, id)
    }
  })

// internal

const noStatuses: ReadonlyMap<SessionId, SessionStatus> = new Map()

/** The sessions that work, if one of them may be a subagent of the turn. */
const working = Effect.fnUntraced(function*(live: LiveReply) {
  const client = yield* Client
  const mayWork = Reply.subagentStates(live.current()).some(({ status }) => status === "running")
  return (mayWork ? yield* orReported(live, rereading(client.statuses)) : undefined) ?? noStatuses
})

/**
 * How the subagents of a turn are visited.
 *
 * - `candidates`: sessions that are the turn's own if they turn out to be children of one of its sessions, although no tool part
 *   names them: those that run. The other children are those of earlier turns.
 * - `onFound` is called for each subagent, whether it was known or not, before it is read.
 * - `fold`: what its messages since the turn's prompt make of the reply.
 */
interface Visit {
  readonly candidates: () => Iterable<SessionId>
  readonly onFound: (id: SessionId) => void
  readonly fold: (reply: Reply.Reply, id: SessionId, messages: ReadonlyArray<Message>) => Reply.Reply
}

/**
 * Reads the subagents of a turn level by level, because the session that opened a subagent names it. What cannot be read is reported and
 * left out.
 */
const visitSubagents = Effect.fnUntraced(function*(
  live: LiveReply,
  { candidates, fold, onFound }: Visit
): Effect.fn.Return<void, never, Client> {
  /** The sessions of which only a tool part told, or nobody yet. */
  const findSought = () => {
    const reply = live.current()
    const sought = new Set(candidates())
    sought.delete(reply.sessionId)
    for (const subagent of Reply.subagentStates(reply)) {
      if (Reply.isTold(subagent)) sought.delete(subagent.sessionId)
      else sought.add(subagent.sessionId)
    }
    return sought
  }
  const findChildren = Effect.fnUntraced(function*(parentId: SessionId, sought: Set<SessionId>) {
    const calls = Reply.unnamedCalls(live.current(), parentId)
    if (sought.size === 0 && calls.length === 0) return
    for (const { agent, createdMillis, id, title } of (yield* orReported(live, listChildren(parentId))) ?? []) {
      const mayBeOf = (call: Reply.UnnamedCall) => createdMillis >= call.sinceMillis && Reply.mayHaveOpened(call, title)
      if (!sought.delete(id) && !calls.some(mayBeOf)) continue
      live.apply({ _tag: "SessionOpened", eventId: undefined, sessionId: id, parentId, title, agent })
    }
  })
  const read = Effect.fnUntraced(function*({ reply, sessionId }: Reply.SubagentState) {
    onFound(sessionId)
    const messages = yield* orReported(live, readMessages(reply))
    if (messages !== undefined) live.update((reply) => fold(reply, sessionId, messages))
  })

  let level: ReadonlyArray<SessionId> = [live.current().sessionId]
  while (level.length > 0) {
    const sought = findSought()
    yield* Effect.forEach(level, (id) => findChildren(id, sought), { concurrency, discard: true })
    const parents = new Set(level)
    const children = Reply.subagentStates(live.current()).filter(({ parentId }) => parents.has(parentId))
    yield* Effect.forEach(children, read, { concurrency, discard: true })
    level = children.map(({ sessionId }) => sessionId)
  }
})

/** How many subagents are read at once: 4. There may be a thousand of them, and other turns use the same server. */
const concurrency = 4

/** A subagent that cannot be read must not hold up the turn: it stays as it was streamed. */
const orReported = <A>(live: LiveReply, request: Effect.Effect<A, RequestError | SessionNotFound, Client>) =>
  Effect.catch(
    request,
    (error) =>
      Effect.as(Contained.report("subagents", { session: live.current().sessionId }, Cause.fail(error)), undefined)
  )

const listChildren = Effect.fnUntraced(function*(id: SessionId) {
  const client = yield* Client
  return yield* rereading(client.children(id))
})

const readMessages = (reply: Reply.Reply) => Effect.map(readSince(reply, reply), ({ messages }) => messages)
