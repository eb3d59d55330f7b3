/**
 * What the end of a drive amounts to: an answer, an upstream error, nothing, or a turn that somebody aborted.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Client } from "./Client.ts"
import type { RequestError, SessionNotFound } from "./ClientError.ts"
import * as Exchange from "./Exchange.ts"
import type { AssistantMessageId, ConversationId } from "./Ids.ts"
import type { LiveReply } from "./LiveReply.ts"
import { readExchange, unreadAnswer } from "./ReadExchange.ts"
import { readSubagents } from "./ReadSubagents.ts"
import * as Reply from "./Reply.ts"
import { Tracer } from "./Tracer.ts"
import { EmptyStream, TurnCancelled, Upstream } from "./TurnError.ts"
import * as TurnPolicy from "./TurnPolicy.ts"
import * as UpstreamFailures from "./Upstream.ts"

/**
 * Makes the exchange the truth of `live` and gives it back; fails where it is no answer.
 *
 * **Details**
 *
 * An answer that lacks only the structured value is one: its text may be the value, and if not, the agent can be told. An answer
 * without content is read once more after `TurnPolicy.EmptyStreamRetry`, because it may not have been stored yet.
 *
 * @category steps
 * @since 0.1.0
 */
export const settle = Effect.fn("Turn.settle")(function*(
  exchange: Exchange.Exchange,
  live: LiveReply,
  ids: { readonly messageId: AssistantMessageId; readonly conversationId: ConversationId }
): Effect.fn.Return<
  Exchange.Exchange,
  Upstream | EmptyStream | TurnCancelled | RequestError | SessionNotFound,
  Client | Tracer
> {
  const tracer = yield* Tracer
  reconcile(exchange, live)
  let settled = exchange
  if (isEmpty(settled, live)) {
    yield* Effect.sleep(yield* TurnPolicy.EmptyStreamRetry)
    settled = yield* readExchange(exchange, live.current())
    reconcile(settled, live)
    if (!isEmpty(settled, live)) {
      yield* tracer.emit("response.recovered_from_exchange", { message_id: ids.messageId })
    }
  }
  yield* readSubagents(live)
  const { failure } = live.current().frame
  if (failure !== undefined && UpstreamFailures.isAborted(failure)) {
    return yield* new TurnCancelled({ messageId: ids.messageId })
  }
  const { hidden, lost, other } = settled.unread
  const field = lost[0] ?? (isEmpty(settled, live) ? hidden[0] ?? other[0] : undefined)
  if (failure === undefined && field !== undefined) return yield* unreadAnswer(field)
  if (failure === undefined ? !isEmpty(settled, live) : UpstreamFailures.isWithoutOutput(failure)) return settled
  yield* tracer.emit("response.error", {
    reason: failure === undefined ? "empty_stream" : "upstream_llm_error",
    message_id: ids.messageId,
    subject_id: ids.conversationId
  })
  if (failure === undefined) return yield* new EmptyStream({ sessionId: settled.sessionId })
  yield* tracer.emit("response.upstream_error", {
    error_name: failure.name,
    error_message: failure.message.slice(0, 200),
    status_code: failure.statusCode ?? null,
    provider_url: failure.url ?? null
  })
  const { message, ...rest } = failure
  return yield* new Upstream({ ...rest, reason: message })
})

// internal

/** An exchange that has not ended may lag behind what was streamed. */
const reconcile = (exchange: Exchange.Exchange, live: LiveReply): void => {
  const isComplete = Exchange.isFinal(exchange) || Exchange.isRefused(exchange)
  live.update((reply) => (isComplete ? Exchange.reconcile(exchange, reply) : Exchange.merge(exchange, reply)))
}

/** A structured answer is one, although no part shows it. An error needs no content to be the end. */
const isEmpty = (exchange: Exchange.Exchange, live: LiveReply): boolean =>
  live.current().frame.failure === undefined &&
  Reply.isEmpty(live.current()) &&
  exchange.steps.every(({ info }) => info.structured === undefined)
