/**
 * Carries on the turns whose worker died, was replaced by a deployment, or let them go.
 *
 * **Responsibilities**: finds pending and queued messages whose lease ran out, takes each over and brings it to its end. Stops the server
 * where it may still work for a message that has ended.
 *
 * **Not responsibilities**: how a turn is resumed (`Turn.resumeTurn`); turns that were claimed without a lease; turns whose session works
 * in another folder than the client, or is on another server, which are left to a worker of that one.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Contained from "../domain/Contained.ts"
import { type AssistantMessageId, makeId } from "../domain/Ids.ts"
import * as Metrics from "../domain/Metrics.ts"
import { retrying } from "../domain/Retrying.ts"
import type { Tracer } from "../domain/Tracer.ts"
import { step } from "../domain/Tracing.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { Client } from "../opencode/Client.ts"
import type { MessageState, StoredMessage, StoreError } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"
import { stopEnded } from "./CancelTurn.ts"
import { leaseOf } from "./Claim.ts"
import { resumeOperation } from "./Operate.ts"
import { whyElsewhere } from "./OwnServer.ts"
import { resumeTurn } from "./Turn.ts"
import type { TurnInput } from "./TurnInput.ts"
import type { TurnResult } from "./TurnResult.ts"

/**
 * **Details**
 *
 * - `extras`: what cannot be stored of a turn, by its message: callbacks, observers, fields that are effects.
 * - `onCarry`: runs for each turn that was taken over, before it is resumed. Its scope closes when this worker lets the turn go.
 * - `maxConcurrent`: how many turns are carried on at once, 64 by default. Each costs little but its share of the server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<E = never, R = never> {
  readonly extras?: (message: StoredMessage) => Partial<TurnInput<E, R>>
  readonly onCarry?: (message: StoredMessage) => Effect.Effect<void, never, Scope.Scope>
  readonly maxConcurrent?: number
}

/**
 * Carries every turn without a living owner to its end, once: for a worker's start, or a job that runs now and then.
 *
 * **Details**
 *
 * Gives the results of the turns that it carried. A turn that fails or dies is reported, and the others go on. When it is interrupted, it
 * lets its turns go for the next worker.
 *
 * @category running
 * @since 0.1.0
 */
export const resumeTurns = Effect.fnUntraced(function*<E = never, R = never>(
  options?: Options<E, R>
): Effect.fn.Return<ReadonlyArray<TurnResult>, StoreError, SessionStore | Client | Tracer | R> {
  const store = yield* SessionStore
  yield* stopOnce(stopEnded)
  const carry = (orphan: MessageState) =>
    Effect.flatMap(worksHere(orphan), (isHere) => isHere ? resume(orphan, options) : Effect.succeedNone)
  const orphans = Stream.paginate(0, (position) =>
    Effect.map(
      retrying(store.listOrphans(pageLength, position)),
      (page) => [page, Option.map(Arr.last(page), (last) => last.position)] as const
    ))
  const results = yield* orphans.pipe(
    Stream.mapEffect(carry, { concurrency: options?.maxConcurrent ?? maxConcurrent }),
    Stream.runCollect
  )
  return results.flatMap(Option.toArray).flatMap(Option.toArray)
}, step("TurnWorker.resumeTurns"))

/**
 * Keeps sweeping, every `TurnPolicy.SweepInterval`, until the layer's scope closes: then the turns that it carries are let go
 * for the next worker, and their agents go on.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E = never, R = never>(
  options?: Options<E, R>
): Layer.Layer<never, never, SessionStore | Client | Tracer | R> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const store = yield* SessionStore
    const running = yield* FiberMap.make<AssistantMessageId>()
    const limit = options?.maxConcurrent ?? maxConcurrent
    // A turn whose end cannot be stored is taken over once for each try, so it may be tried as often as it may be taken over.
    const maxFailures = yield* TurnPolicy.MaxTakeovers
    // Turns for workers of other folders and servers, and those whose end could not be stored again and again, stay in the list. They must not
    // hide those behind them.
    const leftAlone = new Set<AssistantMessageId>()
    const failures = new Map<AssistantMessageId, number>()
    const carry = Effect.fnUntraced(function*(orphan: MessageState) {
      if (!(yield* worksHere(orphan))) return void leftAlone.add(orphan.id)
      if (Option.isSome(yield* resume(orphan, options))) return void failures.delete(orphan.id)
      failures.set(orphan.id, (failures.get(orphan.id) ?? 0) + 1)
    })
    const sweep = Effect.gen(function*() {
      const free = limit - (yield* FiberMap.size(running))
      if (free <= 0) return
      const orphans = yield* store.listOrphans(free + leftAlone.size + failures.size)
      yield* Metric.update(Metrics.orphaned, orphans.length)
      const listed = new Set(orphans.map(({ id }) => id))
      for (const id of leftAlone) if (!listed.has(id)) leftAlone.delete(id)
      for (const orphan of orphans) {
        if (leftAlone.has(orphan.id) || (failures.get(orphan.id) ?? 0) > maxFailures) continue
        yield* FiberMap.run(running, orphan.id, carry(orphan), { onlyIfMissing: true })
      }
    })
    yield* sweepStops(stopEnded).pipe(Effect.forkScoped)
    yield* sweep.pipe(
      // A store that is away comes back; until then there is nothing to do but to say so.
      Contained.reported("sweep", {}),
      Effect.repeat(Schedule.spaced(yield* TurnPolicy.SweepInterval)),
      Effect.forkScoped
    )
  }))

/**
 * Takes a turn without a living owner over and carries it to its end. Of all workers that try at once, one gets it; the others get
 * nothing.
 *
 * @category running
 * @since 0.1.0
 */
export const resumeOrphan = Effect.fnUntraced(function*<E = never, R = never>(
  orphan: Pick<MessageState, "id">,
  { extras, onCarry }: Pick<Options<E, R>, "extras" | "onCarry"> = {}
): Effect.fn.Return<Option.Option<TurnResult>, StoreError, SessionStore | Client | Tracer | R> {
  const store = yield* SessionStore
  const taken = yield* retrying(store.takeOver(orphan.id, yield* leaseOf(yield* makeId("run"))))
  if (Option.isNone(taken)) return Option.none()
  const operation = taken.value.draft?.operation
  if (operation !== undefined) {
    yield* resumeOperation(taken.value, operation)
    return Option.none()
  }
  const resumed = resumeTurn(taken.value, extras?.(taken.value))
  if (onCarry === undefined) return Option.some(yield* resumed)
  return Option.some(yield* Effect.scoped(Effect.andThen(onCarry(taken.value), resumed)))
}, step("TurnWorker.resumeOrphan"))

/**
 * Stops the server once where it may still work for messages that have ended: those that ended within a day. `stop` is as in
 * {@link sweepStops}.
 *
 * @category running
 * @since 0.1.0
 */
export const stopOnce = Effect.fnUntraced(function*<R>(
  stop: (message: MessageState) => Effect.Effect<boolean, StoreError, R>
): Effect.fn.Return<void, StoreError, SessionStore | R> {
  yield* Effect.forEach(yield* dueStops, (message) => orLater(stop(message)), { concurrency: maxStops, discard: true })
})

/**
 * Stops the server, every `TurnPolicy.SweepInterval`, where it may still work for messages that have ended. Never ends.
 *
 * **Details**
 *
 * `stop` stops for one message, and says whether nothing works for it any more, as `stopEnded` does. What cannot be stopped is tried again
 * more seldom, for a day.
 *
 * @category running
 * @since 0.1.0
 */
export const sweepStops = Effect.fnUntraced(function*<R>(
  stop: (message: MessageState) => Effect.Effect<boolean, StoreError, R>
): Effect.fn.Return<never, never, SessionStore | R> {
  const tries = new Map<AssistantMessageId, number>()
  let round = 0
  const sweep = Effect.gen(function*() {
    round++
    const stops = yield* dueStops
    const listed = new Set(stops.map(({ id }) => id))
    for (const id of tries.keys()) if (!listed.has(id)) tries.delete(id)
    const due = stops.filter(({ id }) => round % Math.min(2 ** (tries.get(id) ?? 0), maxRounds) === 0)
    yield* Effect.forEach(due, (message) =>
      Effect.map(
        orLater(stop(message)),
        (isStopped) => void (isStopped || tries.set(message.id, (tries.get(message.id) ?? 0) + 1))
      ), { concurrency: maxStops, discard: true })
  })
  return yield* sweep.pipe(
    Contained.reported("sweep stops", {}),
    Effect.repeat(Schedule.spaced(yield* TurnPolicy.SweepInterval)),
    Effect.andThen(Effect.never)
  )
})

// internal

const maxConcurrent = 64

/** How many orphans are listed at once. */
const pageLength = 100

/** How many stops are listed, and tried at once. */
const maxListed = 100
const maxStops = 8

/** A stop is tried at least in each so many rounds: a server that is back goes on with what nobody stops. */
const maxRounds = 4

/** A server that comes back later than this is not looked for: what it went on with has long ended. */
const stopPatienceMillis = Duration.toMillis("1 day")

const dueStops = Effect.gen(function*() {
  const store = yield* SessionStore
  const endedSinceMillis = (yield* Clock.currentTimeMillis) - stopPatienceMillis
  return yield* store.listStops({ endedSinceMillis, limit: maxListed })
})

/** A failure of the store is as if the server did not answer: the next round tries again. */
const orLater = <R>(stop: Effect.Effect<boolean, StoreError, R>) => Effect.orElseSucceed(stop, () => false)

/** Whether this worker may carry the turn. One that began on another server is news for whoever reads the log. */
const worksHere = (orphan: MessageState): Effect.Effect<boolean, never, SessionStore | Client> =>
  Effect.flatMap(whyElsewhere(orphan), (why) =>
    Option.isNone(why)
      ? Effect.succeed(true)
      : why.value._tag === "ServerMismatch"
      ? Effect.logWarning("turn left to a worker of another server").pipe(
        Effect.annotateLogs({
          conversation: orphan.conversationId,
          message: orphan.id,
          session: why.value.sessionId,
          origin: why.value.sessionOrigin
        }),
        Effect.as(false)
      )
      : Effect.succeed(false))

/** Gives nothing where the turn failed without a result, too. */
const resume = <E, R>(orphan: MessageState, options: Options<E, R> | undefined) =>
  resumeOrphan(orphan, options).pipe(
    Effect.provideService(TurnPolicy.OnInterrupt, "release"),
    Contained.reported("resume", { message: orphan.id })
  )
