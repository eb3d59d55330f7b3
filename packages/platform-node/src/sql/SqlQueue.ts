/**
 * Bounds the writes of replies, so that leases and reads have their turn between them.
 *
 * With many turns at once, snapshots would take all connections of a pool, or the event loop of a synchronous database, for so long that
 * leases run out. Each kind of write waits in the order in which it came.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** Queues for snapshots and for ends over a client with that many connections; at least one is left for everything else. */
export const make = Effect.fnUntraced(function*(connections: number) {
  const snapshots = yield* Semaphore.make(Math.max(1, Math.floor(connections / 2)))
  const ends = yield* Semaphore.make(Math.max(1, Math.floor(connections / 3)))
  return {
    snapshot: <A, E>(write: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      snapshots.withPermit(Effect.andThen(nextTurn, write)),
    end: <A, E>(write: Effect.Effect<A, E>): Effect.Effect<A, E> => ends.withPermit(Effect.andThen(nextTurn, write))
  }
})

/** Lets the event loop turn once: a synchronous database would write one thing after the other without it. */
export const nextTurn = Effect.callback<void>((resume) => {
  const handle = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(handle))
})
