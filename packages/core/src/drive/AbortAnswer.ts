/**
 * Stops the server's work on one turn. The session belongs to the conversation, so the next turn may already work in it.
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
 * Rejects the open asks and aborts the session of the reply and those of its subagents, if the server may still be at work on it. Gives
 * back the exchange as it is then.
 *
 * **Details**
 *
 * Nothing is aborted once the answer has ended or another prompt has followed: that would stop the other prompt. Where the server cannot
 * tell, the session is aborted.
 *
 * `isHurried`: no other prompt of the conversation can have followed yet, and a model is called again and again without a pause, some 20
 * times a second. If the stream just showed the session at work on the answer, it is aborted before anything is read.
 *
 * @category steps
 * @since 0.1.0
 */
export const abortAnswer = Effect.fn("Turn.abortAnswer")(function*(
  reply: Reply.Reply,
  isHurried = false
): Effect.fn.Return<Exchange.Exchange, RequestError | SessionNotFound, Client> {
  const read = readExchange(reply, reply)
  const isAtWork = isHurried && Reply.isAtWork(reply)
  if (isAtWork) {
    yield* Effect.ignore(abortSessions(reply))
    // What was asked in the same moment would stay listed.
    yield* rejectAsks(reply)
  }
  const before = Option.getOrUndefined(yield* Effect.option(read))
  if (before !== undefined && (Exchange.isFinal(before) || !before.isCurrent)) return before
  yield* retrying(abortTree(reply))
  return yield* read
})

// internal

/** Best effort: a session that cannot be reached is left to the server. */
const abortTree = Effect.fnUntraced(function*(reply: Reply.Reply): Effect.fn.Return<void, RequestError, Client> {
  yield* rejectAsks(reply)
  yield* abortSessions(reply)
  // An ask that came between the rejections and the abort would stay listed.
  yield* rejectAsks(reply)
})

/** OpenCode aborts running subagents with their root (1.18.33); asking for each as well costs little. */
const abortSessions = Effect.fnUntraced(function*(reply: Reply.Reply): Effect.fn.Return<void, RequestError, Client> {
  const client = yield* Client
  yield* Effect.forEach(
    [reply.sessionId, ...Reply.subagentStates(reply).map((subagent) => subagent.sessionId)],
    (sessionId) => client.abortSession(sessionId),
    { concurrency: maxPosts, discard: true }
  )
})

/**
 * Rejects the open asks of the tree. A session whose subagent asks survives its abort and calls its model again, and the asks stay listed
 * forever (1.18.33). Neither happens once the asks are rejected.
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
