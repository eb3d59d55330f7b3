/**
 * Stops the server's work on one turn. The session belongs to the conversation, so the next turn may already work in it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { retrying } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import { Client } from "../opencode/Client.ts"
import type { RequestError, SessionNotFound } from "../opencode/ClientError.ts"
import type { SessionTree } from "../opencode/Dialect.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import { readExchange } from "./ReadExchange.ts"

/**
 * Stops the session of the reply and those of its subagents, if the server may still be at work on it. Gives
 * back the exchange as it is then. `prompt` is the reply's.
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
export const abortAnswer = Effect.fnUntraced(function*(
  reply: Reply.Reply,
  prompt: SessionTree["prompt"],
  isHurried = false
): Effect.fn.Return<Exchange.Exchange, RequestError | SessionNotFound, Client> {
  const read = readExchange(reply, reply)
  const client = yield* Client
  const treeOf = (reply: Reply.Reply): SessionTree => ({
    root: reply.sessionId,
    promptId: reply.promptId,
    subagents: Reply.subagentStates(reply).map(({ sessionId }) => sessionId),
    ...(prompt !== undefined && { prompt })
  })
  if (isHurried && Reply.isAtWork(reply)) yield* Effect.ignore(client.stopTree(treeOf(reply), { isHurried }))
  const before = Option.getOrUndefined(yield* Effect.option(read))
  if (before !== undefined && (Exchange.isFinal(before) || !before.isCurrent)) return before
  // A server that went on by itself may have opened subagents that nobody has heard of.
  const known = before === undefined ? reply : Exchange.merge(before, reply)
  yield* retrying(client.stopTree(treeOf(known)))
  return yield* read
}, step("Turn.abortAnswer"))
