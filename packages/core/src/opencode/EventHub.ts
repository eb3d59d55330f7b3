/**
 * One connection to a server's event stream, which all turns on the server share.
 *
 * **Responsibilities**
 * - Opens the connection for the first subscriber, closes it 2 s after the last one left, and reconnects. Successive turns share it.
 *   The end of the hub's scope closes it at once.
 * - Dispatches each event to the subscribers of its session's tree, synchronously and in order.
 * - Contains a subscriber that throws: only this subscriber is removed.
 * - Tells every subscriber when the connection is lost, when it is back (events in between are not replayed, so the subscriber
 *   reconciles), and when it is closed for good.
 * - Reconnects a silent stream: a living server sends a heartbeat every 10 s (1.18.33).
 *
 * **Not responsibilities**: the meaning of an event (`Reply`), and reading missed events from the server (`Turn`).
 *
 * ```
 *            first subscriber          Connected
 *   (none) ──────────────────▶ opening ─────────▶ live
 *                                 ▲  ▲              │ ended, failed, silent
 *                     backoff     │  └──────────────┘ → subscriber.onLost; then Connected → subscriber.onGap
 *                                 │
 *                                 └─ failed, may be retried ──┐
 *                                    failed for good ─────────┴▶ subscriber.onClosed
 * ```
 *
 * The fold runs inside the dispatcher. A queue for each turn cost 1.5 times the CPU at 200 turns, and a subscription
 * for each cost 45 times and more. A fast server delivers many reads before another fiber runs; the subscribers then
 * flush once for all of them.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as RcRef from "effect/RcRef"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Contained from "../domain/Contained.ts"
import type { SessionId } from "../domain/Ids.ts"
import type { ServerEvent, TurnEvent } from "../domain/TurnEvent.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { EventsError } from "./ClientError.ts"
import { StreamLost } from "./ClientError.ts"
import type { Dialect } from "./Dialect.ts"

/**
 * A receiver of the events of one session tree. The dispatcher calls these functions for every turn on the server in
 * sequence, so they must not block or wait.
 *
 * **Details**
 *
 * - `onEvent`: an event of the tree.
 * - `onFlush`: follows events, once for all reads that have arrived, and before any fiber that became ready after them. It is a good
 *   place to wake another fiber.
 * - `onHeartbeat`: a sign of life of the server, without an event.
 * - `onLost`: the connection was lost and is being reopened.
 * - `onGap`: the connection is back; events may have been missed.
 * - `onClosed`: no further event will come.
 *
 * **Gotchas**
 *
 * A subscriber that throws is reported, removed at once, and notified by `onClosed`. Other subscribers are not
 * affected.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subscriber {
  readonly onEvent: (event: TurnEvent) => void
  readonly onFlush: () => void
  readonly onHeartbeat: () => void
  readonly onLost: (error: EventsError) => void
  readonly onGap: () => void
  readonly onClosed: (error: EventsError) => void
}

/**
 * A live subscription: its first event is one that the server sent after the subscription was made.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subscription {
  /** Adds a session to the tree, for example a subagent's session that was opened before the subscription. */
  readonly adopt: (sessionId: SessionId) => void
  /** Waits until the connection is live. */
  readonly connected: Effect.Effect<void>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface EventHub {
  /**
   * Subscribes to the session and to the subagents that its tools open, until the scope closes. Succeeds when the
   * connection is live (its first event, or a comment). Fails if that is impossible or does not happen within
   * `TurnPolicy.ConnectTimeout`.
   */
  readonly subscribe: (
    sessionId: SessionId,
    subscriber: Subscriber
  ) => Effect.Effect<Subscription, EventsError, Scope.Scope>
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  dialect: Pick<Dialect, "events" | "origin">
): Effect.fn.Return<EventHub, never, Scope.Scope> {
  const members = new Set<Member>()
  const routes: Routes = new Map()
  const leave = (member: Member): void => {
    members.delete(member)
    for (const id of member.sessions) removeRoute(routes, id, member)
  }
  /** Notifies a subscriber. A subscriber that throws is removed and closed; it may throw again at that. */
  const tell: Tell = (member, f) => {
    const told = Result.try(() => f(member.subscriber))
    if (Result.isSuccess(told)) return
    leave(member)
    report(member, told.failure)
    const lost = new StreamLost({ origin: dialect.origin, reason: "its subscriber failed" })
    const closed = Result.try(() => member.subscriber.onClosed(lost))
    if (Result.isFailure(closed)) report(member, closed.failure)
  }
  let newest: Connection | undefined
  const connection = yield* RcRef.make({
    acquire: Effect.tap(openConnection(dialect, { members, routes, tell }), (opened) =>
      Effect.sync(() => {
        newest = opened
      })),
    idleTimeToLive: idleMillis
  })
  /** Drops a connection that is not live, so that the next subscriber does not wait for it. */
  const dropUnlessLive = Effect.suspend(() =>
    members.size === 0 && newest?.connected.isOpen() === false ? RcRef.invalidate(connection) : Effect.void
  )

  return {
    subscribe: Effect.fnUntraced(function*(sessionId, subscriber) {
      const scope = yield* Scope.fork(yield* Effect.scope)
      const join = Effect.gen(function*() {
        yield* dropUnlessLive
        const member: Member = {
          subscriber,
          context: yield* Effect.context(),
          sessions: new Set(),
          isLive: false,
          isDirty: false,
          missedMillis: -Infinity,
          lastError: undefined
        }
        yield* Scope.addFinalizer(
          scope,
          Effect.suspend(() => {
            leave(member)
            return dropUnlessLive
          })
        )
        members.add(member)
        addRoute(routes, sessionId, member)
        const { closed, connected } = yield* RcRef.get(connection)
        const limit = yield* TurnPolicy.ConnectTimeout
        yield* connected.await.pipe(
          Effect.raceFirst(closed),
          Effect.timeoutOrElse({
            duration: limit,
            orElse: () =>
              Effect.fail(
                member.lastError ??
                  new StreamLost({
                    origin: dialect.origin,
                    reason: `it did not open within ${Duration.toMillis(limit)} ms`
                  })
              )
          })
        )
        member.isLive = true
        return { adopt: (id: SessionId) => addRoute(routes, id, member), connected: connected.await }
      })
      // A failed subscriber leaves at once, without waiting for the end of the caller's scope.
      return yield* Scope.provide(join, scope).pipe(
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
      )
    })
  }
})

// internal

interface Member {
  readonly subscriber: Subscriber
  /** The subscriber's own context, in which its failures are reported. */
  readonly context: Context.Context<never>
  readonly sessions: Set<SessionId>
  /** Whether its subscription has succeeded. Only then is a change of the connection news to it. */
  isLive: boolean
  isDirty: boolean
  /** The time of its last notice about an unreadable event. */
  missedMillis: number
  lastError: EventsError | undefined
}

interface Connection {
  /** Open while it is live. */
  readonly connected: Latch.Latch
  readonly closed: Effect.Effect<never, EventsError>
}

type Tell = (member: Member, f: (subscriber: Subscriber) => void) => void

interface Members {
  readonly members: ReadonlySet<Member>
  readonly routes: Routes
  readonly tell: Tell
}

const report = ({ context, sessions }: Member, defect: unknown): void => {
  const [session = ""] = sessions
  Effect.runForkWith(context)(Contained.report("subscriber", { session }, Cause.die(defect)))
}

/** Arrays, because every event iterates over them and they seldom change. */
type Routes = Map<SessionId, Array<Member>>

const addRoute = (routes: Routes, id: SessionId, member: Member): void => {
  const route = routes.get(id)
  if (route === undefined) routes.set(id, [member])
  else if (!route.includes(member)) route.push(member)
  member.sessions.add(id)
}

const removeRoute = (routes: Routes, id: SessionId, member: Member): void => {
  const rest = routes.get(id)?.filter((other) => other !== member) ?? []
  if (rest.length === 0) routes.delete(id)
  else routes.set(id, rest)
}

const openConnection = Effect.fnUntraced(function*(
  dialect: Pick<Dialect, "events" | "origin">,
  { members, routes, tell }: Members
) {
  const clock = yield* Clock.Clock
  /** Measures waits, whatever becomes of the machine's time of day. */
  const nowMillis = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  const connected = yield* Latch.make(false)
  const closed = yield* Latch.make(false)
  let closedWith: EventsError | undefined
  let isLive = false
  let lastReadMillis = 0
  let connectedMillis = 0
  const dirty: Array<Member> = []
  const isFlushDue = yield* Latch.make(false)

  const flush = () => {
    isFlushDue.closeUnsafe()
    for (const member of dirty) {
      member.isDirty = false
      if (members.has(member)) tell(member, onFlush)
    }
    dirty.length = 0
  }

  const onConnected = () => {
    isLive = true
    connectedMillis = nowMillis()
    for (const member of members) {
      if (member.isLive) tell(member, onGap)
      member.isLive = true
    }
    connected.openUnsafe()
  }

  /** Subscribers of a session also receive the events of the sessions that its tools work in. */
  const adopt = (parentId: SessionId, id: SessionId): void => {
    const family = routes.get(parentId)
    if (family !== undefined) { for (const member of family) addRoute(routes, id, member) }
  }

  const dispatch = (event: TurnEvent): void => {
    if (event._tag === "SessionOpened" && event.parentId !== undefined) adopt(event.parentId, event.sessionId)
    // A tool may continue a session of an earlier turn, which is not opened again (1.18.33).
    else if (event._tag === "PartUpdated" && event.part.type === "tool" && event.part.subagent !== undefined) {
      adopt(event.sessionId, event.part.subagent)
    }
    const route = routes.get(event.sessionId)
    if (route === undefined) return
    const onEvent = (subscriber: Subscriber) => subscriber.onEvent(event)
    for (const member of route) {
      if (!member.isDirty) {
        member.isDirty = true
        dirty.push(member)
      }
      tell(member, onEvent)
    }
  }

  const isMissDue = yield* Latch.make(false)
  const missedLater = new Set<Member>()
  const tellMissed = (member: Member): void => {
    member.missedMillis = nowMillis()
    tell(member, onGap)
  }
  /**
   * An unreadable event is treated as a gap, and its content is read from the server. If only such an event told of the
   * session, the session may be anybody's subagent. A read takes several requests, so a flood of such events causes
   * only one read in a while.
   */
  const missed = (sessionId: SessionId | undefined): void => {
    const atMillis = nowMillis()
    for (const member of (sessionId === undefined ? undefined : routes.get(sessionId)) ?? members) {
      if (!member.isLive) continue
      if (atMillis - member.missedMillis >= missMillis) {
        tellMissed(member)
      } else {
        missedLater.add(member)
        isMissDue.openUnsafe()
      }
    }
  }
  const tellingMissed = isMissDue.await.pipe(
    Effect.andThen(Effect.sleep(missMillis)),
    Effect.andThen(Effect.sync(() => {
      isMissDue.closeUnsafe()
      for (const member of missedLater) if (members.has(member)) tellMissed(member)
      missedLater.clear()
    })),
    Effect.forever({ disableYield: true })
  )

  const onRead = (events: ReadonlyArray<ServerEvent>): void => {
    lastReadMillis = nowMillis()
    for (const event of events) {
      if (event._tag === "Connected") onConnected()
      else if (event._tag === "Heartbeat") { for (const member of members) tell(member, onHeartbeat) }
      else if (event._tag === "Unread") missed(event.sessionId)
      else dispatch(event)
    }
    if (dirty.length > 0) isFlushDue.openUnsafe()
  }

  /** Lets the waiting reads come first: some thirty of 64 KB in Node, before any other fiber runs. */
  const flushing = isFlushDue.await.pipe(
    Effect.andThen(Effect.yieldNow),
    Effect.andThen(Effect.sync(flush)),
    Effect.forever({ disableYield: true })
  )

  /** Fails if nothing was read for the whole silence limit, or `Connected` did not come within it. */
  const watchSilence = Effect.gen(function*() {
    const silenceMillis = Duration.toMillis(yield* TurnPolicy.StreamSilence)
    lastReadMillis = nowMillis()
    while (true) {
      const leftMillis = lastReadMillis + silenceMillis - nowMillis()
      if (leftMillis <= 0) {
        return yield* new StreamLost({ origin: dialect.origin, reason: `it was silent for ${silenceMillis} ms` })
      }
      yield* Effect.sleep(leftMillis)
    }
  })

  /** Yields in between, so that a slow fold or a flood of events does not block other fibers and so other turns. */
  const onReads = (reads: ReadonlyArray<ReadonlyArray<ServerEvent>>) => {
    let next = 0
    let count = 0
    return Effect.whileLoop({
      while: () => next < reads.length,
      body: () => {
        for (; next < reads.length && count < maxEventsAtOnce; next++) {
          const read = reads[next] ?? []
          count += read.length
          onRead(read)
        }
        if (count < maxEventsAtOnce) return Effect.void
        count = 0
        return Effect.yieldNow
      },
      step: () => {}
    })
  }

  const reading = dialect.events.pipe(
    Stream.runForEachArray(onReads),
    Effect.andThen(Effect.fail(new StreamLost({ origin: dialect.origin, reason: "the server ended it" })))
  )
  /** Reads one connection to its end. Succeeds if the connection was steady, so that the backoff starts again. */
  const readOnce = Effect.raceAllFirst([reading, watchSilence, flushing, tellingMissed]).pipe(
    Effect.catch((error) => {
      flush()
      const wasSteady = isLive && nowMillis() - connectedMillis >= steadyMillis
      if (isLive) {
        isLive = false
        connected.closeUnsafe()
        if (error.isRetryable) {
          for (const member of members) if (member.isLive) tell(member, (subscriber) => subscriber.onLost(error))
        }
      }
      for (const member of members) member.lastError = error
      return wasSteady && error.isRetryable ? Effect.void : Effect.fail(error)
    })
  )

  const backoff = yield* TurnPolicy.ReconnectBackoff
  yield* readOnce.pipe(
    Effect.retry({ schedule: backoff, while: (error) => error.isRetryable }),
    Effect.repeat(Schedule.spaced("100 millis").pipe(Schedule.jittered)),
    Effect.onExit((exit) => {
      // A defect of the reader must wake every turn too; a forked fiber alone would lose it.
      if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return Effect.void
      const error = exit.cause.reasons.find(Cause.isFailReason)?.error ??
        new StreamLost({ origin: dialect.origin, reason: "its reader failed" })
      closedWith = error
      connected.closeUnsafe()
      closed.openUnsafe()
      return Effect.sync(() => {
        for (const member of members) if (member.isLive) tell(member, (subscriber) => subscriber.onClosed(error))
      })
    }),
    Effect.forkScoped({ startImmediately: true })
  )

  return {
    connected,
    closed: closed.await.pipe(
      Effect.andThen(
        Effect.suspend(() =>
          Effect.fail(closedWith ?? new StreamLost({ origin: dialect.origin, reason: "it was closed" }))
        )
      )
    )
  } satisfies Connection
})

const onFlush = (subscriber: Subscriber): void => subscriber.onFlush()
const onGap = (subscriber: Subscriber): void => subscriber.onGap()
const onHeartbeat = (subscriber: Subscriber): void => subscriber.onHeartbeat()

/** Successive turns share a connection; a process without further turns may end soon. */
const idleMillis = 2000

/**
 * How many events are dispatched before other fibers run: 1,000, some 5 ms. A pause after a thousand events costs
 * nothing measurable.
 */
const maxEventsAtOnce = 1000

/** How long the unreadable events after a gap are collected into the next one. */
const missMillis = 1000

/** A connection that lived this long was good, so its loss does not continue the earlier backoff. */
const steadyMillis = 5000
