/** An event stream whose every read, end and refusal is the test's. */
import type { EventsError } from "@opencode-turn/core/ClientError"
import type { ServerEvent } from "@opencode-turn/core/TurnEvent"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

export const connected: ServerEvent = { _tag: "Connected" }
export const heartbeat: ServerEvent = { _tag: "Heartbeat" }

/**
 * `send` brings reads on the newest connection, `end` and `fail` break it, `refuse` makes the next ones fail. After each of
 * them everything that can run has run.
 */
export const scripted = Effect.sync(() => {
  type Reads = Queue.Queue<ReadonlyArray<ServerEvent>, EventsError | Cause.Done>
  const openedMillis: Array<number> = []
  let newest: Reads | undefined
  let open = 0
  let refusal: EventsError | undefined

  const settle = TestClock.adjust(0)
  const current = Effect.suspend(
    () => (newest === undefined ? Effect.die("no connection was opened") : Effect.succeed(newest))
  )

  const events: Stream.Stream<ReadonlyArray<ServerEvent>, EventsError> = Stream.unwrap(Effect.gen(function*() {
    openedMillis.push(yield* Clock.currentTimeMillis)
    if (refusal !== undefined) return yield* refusal
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        open++
      }),
      () =>
        Effect.sync(() => {
          open--
        })
    )
    newest = yield* Queue.unbounded<ReadonlyArray<ServerEvent>, EventsError | Cause.Done>()
    return Stream.fromQueue(newest)
  }))

  return {
    events,
    settle,
    connections: () => openedMillis.length,
    openedMillis: () => openedMillis,
    open: () => open,
    refuse: (error: EventsError | undefined) => {
      refusal = error
    },
    send: (...reads: ReadonlyArray<ReadonlyArray<ServerEvent>>) =>
      current.pipe(Effect.flatMap((queue) => Queue.offerAll(queue, reads)), Effect.andThen(settle)),
    /** The connection ends right behind the reads. */
    sendLast: (...reads: ReadonlyArray<ReadonlyArray<ServerEvent>>) =>
      current.pipe(
        Effect.tap((queue) => Queue.offerAll(queue, reads)),
        Effect.flatMap(Queue.end),
        Effect.andThen(settle)
      ),
    end: Effect.suspend(() => current.pipe(Effect.flatMap(Queue.end), Effect.andThen(settle))),
    fail: (error: EventsError) =>
      current.pipe(Effect.flatMap((queue) => Queue.fail(queue, error)), Effect.andThen(settle))
  }
})
