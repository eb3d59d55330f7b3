/**
 * Summarises a session of OpenCode 2.x.
 *
 * **Details** (0.0.0-next-16350)
 *
 * `POST /api/session/{id}/compact` puts an order into the inbox. A session has one order at most, and a second one gets the first. A session
 * that works carries it out between two steps, an idle one at once. The order becomes a message that is `running`, then `completed` or
 * `failed`, and is gone with either. An order that lost its server stays in the inbox, and its message stays `running`. The next prompt or
 * order has it carried out, which fails at once, because there is such a message already; a prompt then fails with it.
 *
 * The last exchange is not summarised, unless it is the only one: the model sees its words beside the summary.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { MessageId, SessionId } from "../../domain/Ids.ts"
import { type Usage, zero } from "../../domain/Usage.ts"
import type { RequestError, SessionNotFound } from "../ClientError.ts"
import { CompactionFailed } from "../ClientError.ts"
import type { Summary } from "../Dialect.ts"
import type * as Wire from "./Wire.ts"

type Failure = RequestError | SessionNotFound

/**
 * The requests that a compaction takes. `newest` tells how the session ends. `order` gives the id of the order, `wait` waits for
 * an idle session, `find` gives what has become of the order, and `usage` what its summary took. `stop` stops what the session does.
 *
 * @category models
 * @since 0.1.0
 */
export interface Requests {
  readonly newest: Effect.Effect<Wire.Compactions, Failure>
  readonly order: Effect.Effect<MessageId, Failure>
  readonly wait: Effect.Effect<void, Failure>
  readonly find: (id: MessageId) => Effect.Effect<Wire.Compaction | undefined, Failure>
  readonly usage: (compaction: Wire.Compaction) => Effect.Effect<Usage, Failure>
  readonly stop: Effect.Effect<unknown, Failure>
}

/**
 * Orders the summary, unless the session ends with one, and gives it. Interrupting it stops the model.
 *
 * @category steps
 * @since 0.1.0
 */
export const compact = Effect.fnUntraced(function*(
  requests: Requests,
  sessionId: SessionId
): Effect.fn.Return<Summary, Failure | CompactionFailed> {
  const { isLeft, summary } = yield* requests.newest
  if (summary !== undefined) {
    const { id, model, text } = summary
    return { messageId: id, text, usage: yield* requests.usage(summary), model, isNew: false }
  }
  const left = isLeft ? yield* carryOut(requests) : undefined
  const written = left?.status === "completed" ? left : yield* carryOut(requests)
  const usage = written === undefined ? zero : yield* requests.usage(written)
  if (written?.status !== "completed") {
    return yield* new CompactionFailed({ sessionId, reason: written?.error ?? "there is no summary", usage })
  }
  return { messageId: written.id, text: written.text, usage, model: written.model, isNew: true }
})

/**
 * Gives what becomes of the order of an idle session: of the one that it has, or else of a new one.
 *
 * @category steps
 * @since 0.1.0
 */
export const carryOut = ({ find, order, stop, wait }: Requests) =>
  Effect.flatMap(order, (id) =>
    Effect.repeat(Effect.andThen(wait, find(id)), {
      schedule: untilBegun,
      until: (state) => state !== undefined && state.status !== "running"
    })).pipe(Effect.onInterrupt(() => Effect.ignore(stop)))

// internal

/** A session that is idle although it has an order is about to begin, or was interrupted. */
const untilBegun = Schedule.max([Schedule.spaced("100 millis"), Schedule.during("5 seconds")])
