/**
 * Summarises a session of OpenCode 2.x.
 *
 * **Details** (0.0.0-next-16350)
 *
 * `POST /api/session/{id}/compact` puts an order into the inbox. A session has one order at most, and a second one gets the first. A session
 * that works carries it out between two steps, an idle one at once. The order becomes a message that is `running`, then `completed` or
 * `failed`, and is gone with either. An order that lost its server stays in the inbox: the next order or prompt has it carried out.
 *
 * The last exchange is not summarised, unless it is the only one: the model sees its words beside the summary.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { MessageId, SessionId } from "../../domain/Ids.ts"
import type { Usage } from "../../domain/Usage.ts"
import type { RequestError, SessionNotFound } from "../ClientError.ts"
import { CompactionFailed } from "../ClientError.ts"
import type { Summary } from "../Dialect.ts"
import type * as Wire from "./Wire.ts"

type Failure = RequestError | SessionNotFound

/**
 * The requests that a compaction takes. `newest`: the summary that the session ends with. `order` gives the id of the order, `wait` waits for
 * an idle session, `find` gives what has become of the order, and `usage` what its summary took. `stop` stops what the session does.
 *
 * @category models
 * @since 0.1.0
 */
export interface Requests {
  readonly newest: Effect.Effect<Wire.Compaction | undefined, Failure>
  readonly order: Effect.Effect<MessageId, Failure>
  readonly wait: Effect.Effect<void, Failure>
  readonly find: (id: MessageId) => Effect.Effect<Wire.Compaction | undefined, Failure>
  readonly usage: (id: MessageId) => Effect.Effect<Usage, Failure>
  readonly stop: Effect.Effect<unknown, Failure>
}

/**
 * Orders the summary, unless the session ends with one, and gives it. Interrupting it stops the model.
 *
 * @category steps
 * @since 0.1.0
 */
export const compact = Effect.fnUntraced(function*(
  { find, newest, order, stop, usage, wait }: Requests,
  sessionId: SessionId
): Effect.fn.Return<Summary, Failure | CompactionFailed> {
  const before = yield* newest
  if (before !== undefined) {
    return { messageId: before.id, text: before.summary, usage: yield* usage(before.id), isNew: false }
  }
  const settled = (id: MessageId) =>
    Effect.repeat(Effect.andThen(wait, find(id)), {
      schedule: untilBegun,
      until: (state) => state !== undefined && state.status !== "running"
    })
  const after = yield* Effect.flatMap(order, settled).pipe(Effect.onInterrupt(() => Effect.ignore(stop)))
  if (after?.status !== "completed") {
    return yield* new CompactionFailed({ sessionId, reason: after?.error ?? "there is no summary" })
  }
  return { messageId: after.id, text: after.summary, usage: yield* usage(after.id), isNew: true }
})

// internal

/** A session that is idle although it has an order is about to begin, or was interrupted. */
const untilBegun = Schedule.max([Schedule.spaced("100 millis"), Schedule.during("5 seconds")])
