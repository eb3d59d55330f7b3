/**
 * The first step of a turn: its assistant message becomes pending and this run its owner, at once or when the turns before it
 * in the conversation have ended.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import type { AssistantMessageId, ConversationId } from "../domain/Ids.ts"
import { makeId } from "../domain/Ids.ts"
import * as Metrics from "../domain/Metrics.ts"
import type { PromptPart } from "../domain/Prompt.ts"
import { retrying } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import type { TurnInProgress } from "../domain/TurnError.ts"
import { AlreadyFinished, TurnCancelled, TurnTakenOver } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { Client } from "../opencode/Client.ts"
import type { Interval } from "../reply/Timeline.ts"
import type { Draft, StoredMessage, StoreError } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"
import { isOpen } from "../store/StoredMessage.ts"
import { cancelTurn } from "./CancelTurn.ts"
import { holdLease } from "./Lease.ts"
import { whyElsewhere } from "./OwnServer.ts"

/**
 * `owner` names the run in the store; every run has a name of its own. `queued` is told when the turn waited for the turns before it, also
 * if the waiting fails.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClaimRequest {
  readonly id: AssistantMessageId
  readonly conversationId: ConversationId
  readonly prompt: ReadonlyArray<PromptPart>
  readonly draft: Draft
  readonly owner: string
  readonly queued?: Ref.Ref<Interval | undefined>
}

/**
 * Claims the assistant message of the turn: makes it pending, or takes the pending one that has this id.
 *
 * **Details**
 *
 * While another turn of the conversation runs, `TurnPolicy.WhenBusy` decides: wait, fail with `TurnInProgress`, or cancel the
 * others. A queued turn keeps its lease and with it its place, is woken when the turn before it changes, and looks for itself every
 * `TurnPolicy.QueuePoll`. A turn in the way whose owner died is taken over and given to `onOrphan`, so that a queue moves on even if no
 * worker sweeps; `onOrphan` is interrupted when the waiting ends.
 *
 * @category steps
 * @since 0.1.0
 */
export const claim = Effect.fnUntraced(function*<R = never>(
  { queued, ...request }: ClaimRequest,
  onOrphan: (orphan: StoredMessage) => Effect.Effect<void, never, R>
): Effect.fn.Return<
  StoredMessage,
  TurnInProgress | AlreadyFinished | TurnCancelled | TurnTakenOver | StoreError,
  SessionStore | Client | R
> {
  const store = yield* SessionStore
  const whenBusy = yield* TurnPolicy.WhenBusy
  const attempt = retrying(store.claim({
    ...request,
    lease: yield* leaseOf(request.owner),
    whenBusy: whenBusy === "queue" ? "queue" : "reject",
    maxQueued: yield* TurnPolicy.MaxQueued
  }))
  const first = yield* whenBusy === "replace" ? replacing(attempt, request) : attempt
  const queuedAt = yield* Clock.currentTimeMillis
  // An earlier owner may have waited as well.
  const startedMillis = Math.min(first.createdMillis, queuedAt)
  const told = queued === undefined
    ? Effect.void
    : Effect.flatMap(Clock.currentTimeMillis, (endedMillis) => Ref.set(queued, { startedMillis, endedMillis }))
  const message = first.status === "queued"
    ? yield* waiting(attempt, first).pipe(
      Effect.raceFirst(holdLease(first)),
      Effect.raceFirst(clearing(first, onOrphan)),
      Effect.ensuring(told),
      Metrics.during(Metrics.queued, Metrics.queueDuration)
    )
    : first
  switch (message.status) {
    case "completed":
    case "error":
      return yield* new AlreadyFinished({ messageId: message.id, status: message.status })
    case "cancelled":
      return yield* new TurnCancelled({ messageId: message.id })
    default:
      return message
  }
}, step("Turn.claim"))

/**
 * The lease of an owner, as long as `TurnPolicy.Lease`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const leaseOf = (owner: string) =>
  Effect.map(TurnPolicy.Lease, (lease) => ({ owner, millis: Duration.toMillis(lease) }))

// internal

/**
 * Cancels the turns before this one until none is left: those that wait first, the newest of them first, so that none of them begins when
 * the one before it ends.
 */
const replacing = (
  attempt: Effect.Effect<StoredMessage, TurnInProgress | StoreError>,
  { conversationId, id }: Pick<ClaimRequest, "conversationId" | "id">
): Effect.Effect<StoredMessage, TurnInProgress | StoreError, SessionStore | Client> =>
  Effect.catchTag(attempt, "TurnInProgress", (error) =>
    error.messageId === id
      ? Effect.fail(error)
      : Effect.gen(function*() {
        const store = yield* SessionStore
        const limit = (yield* TurnPolicy.MaxQueued) + 1
        const queued = yield* retrying(store.listByStatus({ conversationId, status: "queued", limit }))
        const others = queued.map((state) => state.id).filter((other) => other !== id && other !== error.messageId)
        yield* Effect.forEach([...others, error.messageId], cancelIfOpen, { discard: true })
        return yield* replacing(attempt, { conversationId, id })
      }))

/** Cancels a turn; one that ended by itself just now is as good. */
const cancelIfOpen = (id: AssistantMessageId) =>
  Effect.catchTag(Effect.asVoid(cancelTurn(id)), ["AlreadyFinished", "UnknownMessage"], () => Effect.void)

/** Waits until the message is no longer queued. */
const waiting = Effect.fnUntraced(function*(
  attempt: Effect.Effect<StoredMessage, TurnInProgress | StoreError>,
  first: StoredMessage
) {
  const store = yield* SessionStore
  const { id } = first
  let { epoch } = first
  while (true) {
    const blocker = yield* retrying(store.findBlocker(id))
    if (Option.isSome(blocker) && !(yield* untilMoved({ id, epoch }, blocker.value))) continue
    const message = yield* Effect.catchTag(attempt, "TurnInProgress", (error) =>
      // This process was frozen past its lease, and another worker waits in its place.
      Effect.fail(error.messageId === id ? new TurnTakenOver({ messageId: id }) : error))
    if (message.status !== "queued") return message
    epoch = message.epoch
  }
})

/**
 * Waits until the message in the way has ended, at most until the next poll: a lease that runs out is no change. `true`: the message
 * itself is another worker's or no longer queued.
 */
const untilMoved = Effect.fnUntraced(function*(
  { epoch, id }: Pick<StoredMessage, "epoch" | "id">,
  blocker: AssistantMessageId
) {
  const store = yield* SessionStore
  const poll = Effect.sleep(yield* TurnPolicy.QueuePoll)
  const ended = store.untilState(blocker, (state) => state === undefined || !isOpen(state.status))
  const lost = store.untilState(id, (state) => state?.status !== "queued" || state.epoch !== epoch)
  return yield* Effect.raceAllFirst([
    Effect.catch(Effect.as(ended, false), () => Effect.never),
    Effect.catch(Effect.as(lost, true), () => Effect.never),
    Effect.as(poll, false)
  ])
})

/** Takes over the turn that runs before this one as soon as its owner is gone, unless it is for another worker. Never ends. */
const clearing = Effect.fnUntraced(function*<R>(
  { conversationId }: StoredMessage,
  onOrphan: (orphan: StoredMessage) => Effect.Effect<void, never, R>
) {
  const store = yield* SessionStore
  const clear = Effect.gen(function*() {
    const orphan = yield* retrying(store.findOrphan(conversationId))
    if (Option.isNone(orphan)) return
    const state = yield* retrying(store.getState(orphan.value))
    if (Option.isNone(state) || Option.isSome(yield* whyElsewhere(state.value))) return
    const taken = yield* retrying(store.takeOver(orphan.value, yield* leaseOf(yield* makeId("run"))))
    if (Option.isSome(taken)) yield* onOrphan(taken.value)
  })
  return yield* clear.pipe(
    // A store that is away comes back; if it does not, the claim itself fails.
    Effect.ignore,
    Effect.repeat(Schedule.spaced(yield* TurnPolicy.QueuePoll)),
    Effect.andThen(Effect.never)
  )
})
