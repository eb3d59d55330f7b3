/**
 * Stopping the server's work on a turn, and on no other: the session belongs to the conversation, and the next turn may be at
 * work in it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Ask } from "../domain/Ask.ts"
import { retrying } from "../domain/Retrying.ts"
import { Client } from "../opencode/Client.ts"
import type { RequestError, SessionNotFound } from "../opencode/ClientError.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import { sendAnswer } from "./AnswerAsks.ts"
import { readExchange } from "./ReadExchange.ts"

/**
 * Rejects what is asked and aborts the session of the reply and those of its subagents, if the server may still be at work on
 * it, and gives back the exchange as it is then.
 *
 * **Details**
 *
 * Nothing is aborted once the answer has ended or another prompt has followed: that would stop the other one. Where the
 * server cannot tell, it is aborted.
 *
 * @category steps
 * @since 0.1.0
 */
export const abortAnswer = Effect.fn("Turn.abortAnswer")(function*(
  reply: Reply.Reply
): Effect.fn.Return<Exchange.Exchange, RequestError | SessionNotFound, Client> {
  const read = readExchange(reply, reply)
  const before = Option.getOrUndefined(yield* Effect.option(read))
  if (before !== undefined && (Exchange.isFinal(before) || !before.isCurrent)) return before
  yield* retrying(abortTree(reply))
  return yield* read
})

// internal

/** Best effort: what cannot be reached is left to the server. */
const abortTree = Effect.fnUntraced(function*(reply: Reply.Reply): Effect.fn.Return<void, RequestError, Client> {
  const client = yield* Client
  yield* rejectAsks(reply)
  // OpenCode aborts running subagents with their root (1.18.33); asking for each as well costs little.
  yield* Effect.forEach(
    [reply.sessionId, ...Reply.subagentStates(reply).map((subagent) => subagent.sessionId)],
    (sessionId) => client.abortSession(sessionId),
    { concurrency: maxPosts, discard: true }
  )
  // What was asked between the two would stay listed.
  yield* rejectAsks(reply)
})

/**
 * Rejects what the tree still asks. A session whose subagent asks survives its abort and calls its model again, and what was asked
 * stays listed for ever (1.18.33); once the requests are rejected, neither happens.
 */
const rejectAsks = Effect.fnUntraced(function*(reply: Reply.Reply): Effect.fn.Return<void, never, Client> {
  const client = yield* Client
  const isOurs = ({ sessionId }: Ask) => Reply.isInTree(reply, sessionId)
  const reject = (asks: Iterable<Ask>) =>
    Effect.forEach(asks, (ask) => Effect.ignore(sendAnswer(client, ask, { _tag: "Reject" })), {
      concurrency: maxPosts,
      discard: true
    })
  const questions = yield* Effect.orElseSucceed(client.questions, () => [])
  const listed = Effect.map(Effect.orElseSucceed(client.permissions, () => []), (asks) => asks.filter(isOurs))
  // The first permission that is rejected takes the others of its session with it (1.18.33).
  const permissions = yield* listed
  const first = new Map(permissions.toReversed().map((ask) => [ask.sessionId, ask]))
  yield* reject(first.values())
  yield* reject(questions.filter(isOurs))
  if (first.size < permissions.length) yield* reject(yield* listed)
})

/** How many requests stop a turn at once: 4. A turn that asks thousands of things must not keep those of other turns waiting. */
const maxPosts = 4
