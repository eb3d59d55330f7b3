/**
 * What became of the prompts that an earlier owner of the message recorded: their answers, and whether the session still works.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { SessionId } from "../domain/Ids.ts"
import { retrying } from "../domain/Retrying.ts"
import { TurnUnfinished } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as LiveReply from "../drive/LiveReply.ts"
import { dropOrder, readExchange } from "../drive/ReadExchange.ts"
import { readSubagents } from "../drive/ReadSubagents.ts"
import { Client } from "../opencode/Client.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { IdentifiedPrompt } from "../store/StoredMessage.ts"

/**
 * Looks for the answer to a prompt that may have been posted before.
 *
 * **Details**
 *
 * Ids whose answer has ended must not be posted again: the model would be asked anew where it ended with an error, or is a
 * structured one (1.18.33). `isBusy`: the prompt was not posted, and its session works on something else.
 *
 * @category steps
 * @since 0.1.0
 */
export const findAnswer = Effect.fnUntraced(function*(
  { prompt: { ids: { promptId } }, sessionId }: IdentifiedPrompt,
  live: LiveReply.LiveReply
) {
  const client = yield* Client
  const statuses = yield* retrying(client.statuses)
  const exchange = yield* readExchange({ sessionId, promptId })
  if (!exchange.isAccepted) {
    // The first owner of the turn had looked for one before it recorded the prompt.
    yield* dropOrder(sessionId)
    return { exchange: undefined, isBusy: !(yield* untilIdle(sessionId)) }
  }
  live.update((reply) => Exchange.merge(exchange, Reply.markGap(reply)))
  if (Exchange.isFinal(exchange)) return { exchange, isBusy: false }
  if (statuses.has(sessionId)) return { exchange: undefined, isBusy: false }
  if (Exchange.isFinalWhenIdle(exchange)) return { exchange, isBusy: false }
  if (exchange.isCurrent) return { exchange: undefined, isBusy: false }
  return yield* new TurnUnfinished({ sessionId, reposts: 0, isSuperseded: true })
})

/**
 * The answers to the prompts before the last one, and what their subagents did, as far as the server has them: they cost something.
 *
 * @category steps
 * @since 0.1.0
 */
export const recallEarlier = Effect.fnUntraced(
  function*({ earlier = [], prompt, sessionId }: IdentifiedPrompt, live: LiveReply.LiveReply) {
    if (earlier.length === 0) return
    const exchanges = yield* Effect.forEach(
      [...earlier, prompt.ids.promptId],
      (promptId) => readExchange({ sessionId, promptId })
    )
    for (const [index, exchange] of exchanges.slice(0, -1).entries()) {
      const recalled = yield* LiveReply.make
      recalled.begin(exchange)
      recalled.update((reply) => Exchange.reconcile(exchange, reply))
      yield* readSubagents(recalled, { untilMillis: begunMillis(exchanges[index + 1]), wasStopped: true })
      live.addEarlier(recalled.current())
    }
  }
)

/**
 * Waits until the session works on nothing, for a while: a turn that was just cancelled may be stopping there, and its abort
 * would stop whatever runs. `false`: it works on. A server that cannot tell is prompted all the same.
 *
 * @category steps
 * @since 0.1.0
 */
export const untilIdle = Effect.fnUntraced(function*(sessionId: SessionId): Effect.fn.Return<boolean, never, Client> {
  const client = yield* Client
  const isIdle = Effect.map(client.statuses, (statuses) => !statuses.has(sessionId))
  return yield* isIdle.pipe(
    Effect.repeat({ until: (isIdle) => isIdle, schedule: Schedule.spaced("100 millis") }),
    Effect.timeoutOption(yield* TurnPolicy.SessionIdle),
    Effect.map(Option.isSome),
    Effect.orElseSucceed(() => true)
  )
})

// internal

/** When the server got a prompt, by its own clock. One that was posted again is younger than its answer (1.18.33). */
const begunMillis = (exchange: Exchange.Exchange | undefined): number =>
  exchange?.messages.reduce((first, { info }) => Math.min(first, info.createdMillis), Infinity) ?? Infinity
