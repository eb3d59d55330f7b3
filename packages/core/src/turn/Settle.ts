/**
 * Settles what the end of a drive amounts to: an answer, an upstream error, silence, or a turn that somebody aborted.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { AssistantMessageId } from "../domain/Ids.ts"
import { isTerminalTool } from "../domain/Part.ts"
import { Tracer } from "../domain/Tracer.ts"
import { step } from "../domain/Tracing.ts"
import { EmptyStream, TurnCancelled, Upstream } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as UpstreamFailures from "../domain/UpstreamFailure.ts"
import type { LiveReply } from "../drive/LiveReply.ts"
import { readExchange, unreadAnswer } from "../drive/ReadExchange.ts"
import { readSubagents } from "../drive/ReadSubagents.ts"
import type { Client } from "../opencode/Client.ts"
import type { RequestError, SessionNotFound } from "../opencode/ClientError.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"

/**
 * Makes the exchange the truth of `live` and gives it back; fails where it is no answer.
 *
 * **Details**
 *
 * An answer has words: a text of the turn's own session that is not blank, in any of its steps. The step does not matter: an agent may
 * say all that it has to say beside a tool call (a last look at its to-do list, for example) and then end without another word. Thoughts,
 * tool calls and files alone are no answer, unless `TurnPolicy.AllowSilent` says so. A structured value is an answer without words. An
 * answer that only lacks the requested value counts as well: its text may be the value, and if not, a repair tells the agent.
 *
 * A record without an answer is read once more after `TurnPolicy.EmptyStreamRetry`, because the answer may not have been stored yet. A
 * record with an unreadable text is read once more as well. Texts that the stream had closed stay in any case. An exchange that a
 * person's refusal ended is given back as it is.
 *
 * The second reading takes at most `TurnPolicy.FinalExchange`, and at most the time that the turn has left (`leftMillis`), but it always
 * has `TurnPolicy.StopTimeout`. If it does not end in time, the first record counts.
 *
 * @category steps
 * @since 0.1.0
 */
export const settle = Effect.fnUntraced(function*(
  exchange: Exchange.Exchange,
  live: LiveReply,
  ids: {
    readonly messageId: AssistantMessageId
    readonly leftMillis?: number | undefined
  }
): Effect.fn.Return<
  Exchange.Exchange,
  Upstream | EmptyStream | TurnCancelled | RequestError | SessionNotFound,
  Client | Tracer
> {
  const tracer = yield* Tracer
  const allowsSilent = yield* TurnPolicy.AllowSilent
  const isSilent = (exchange: Exchange.Exchange, reply: Reply.Reply) =>
    (allowsSilent ? Reply.isEmpty(reply) : !Reply.hasWords(reply)) && !isEnd(exchange, live)
  // What the record lacks is known from the stream alone, so the second reading is not filled in from the first one.
  const streamed = live.current()
  reconcile(exchange, live)
  let settled = exchange
  const wasSilent = isSilent(settled, recordOf(settled, live))
  if (wasSilent || settled.unread.lost.length > 0) {
    const limit = Duration.min(
      yield* TurnPolicy.FinalExchange,
      Duration.max(yield* TurnPolicy.StopTimeout, Duration.millis(ids.leftMillis ?? Number.POSITIVE_INFINITY))
    )
    yield* Effect.sleep(yield* TurnPolicy.EmptyStreamRetry)
    const again = yield* Effect.timeoutOption(readExchange(exchange, streamed), limit)
    settled = Option.getOrElse(again, () => exchange)
    reconcile(settled, live)
    if (wasSilent && !isSilent(settled, recordOf(settled, live))) {
      yield* tracer.emit("response.recovered_from_exchange", { message_id: ids.messageId })
    }
  }
  yield* readSubagents(live)
  const { failure } = live.current().session
  if (failure !== undefined && UpstreamFailures.isAborted(failure)) {
    return yield* new TurnCancelled({ messageId: ids.messageId })
  }
  const { hidden, lost, other } = settled.unread
  // A part that cannot be read and is no text does not hide words: it counts only where there is nothing else.
  const isUnanswered = isSilent(settled, live.current())
  const hiding = isUnanswered ? [...hidden, ...(Reply.isEmpty(live.current()) ? other : [])] : []
  const field = lost[0] ?? hiding[0]
  if (failure === undefined && field !== undefined) return yield* unreadAnswer(field)
  if (failure === undefined ? !isUnanswered : UpstreamFailures.isWithoutOutput(failure)) return settled
  if (failure === undefined) return yield* emptyStream(settled, live.current())
  const { message, ...rest } = failure
  return yield* new Upstream({ ...rest, reason: message })
}, step("Turn.settle"))

// internal

/** An exchange that has not ended may lag behind what was streamed. */
const reconcile = (exchange: Exchange.Exchange, live: LiveReply): void => {
  live.update((
    reply
  ) => (Exchange.isFinalWhenIdle(exchange) ? Exchange.reconcile(exchange, reply) : Exchange.merge(exchange, reply)))
}

/** What the server has of the answer, without what the stream alone had. */
const recordOf = (exchange: Exchange.Exchange, live: LiveReply): Reply.Reply =>
  Exchange.isFinalWhenIdle(exchange) ? Reply.fromMessages(exchange, exchange.messages) : live.current()

/** Whether the exchange is an end without words: a structured value, which no part shows, an error, or a refusal. */
const isEnd = (exchange: Exchange.Exchange, live: LiveReply): boolean =>
  live.current().session.failure !== undefined ||
  exchange.steps.some(({ info }) => info.structured !== undefined) ||
  Exchange.isRefused(exchange)

const emptyStream = (exchange: Exchange.Exchange, reply: Reply.Reply): EmptyStream => {
  const parts = Reply.parts(reply)
  const finish = Exchange.finish(exchange)
  const ran = parts.filter((part) => part.type === "tool").filter(isTerminalTool)
  return new EmptyStream({
    sessionId: exchange.sessionId,
    ...(finish !== undefined && { finish }),
    hasReasoning: parts.some((part) => part.type === "reasoning"),
    tools: Array.from(new Set(ran.map(({ tool }) => tool)))
  })
}
