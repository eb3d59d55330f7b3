/**
 * The first step of a turn: its assistant message becomes pending and this run its owner, at once or when the turns before it
 * in the conversation have ended.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { AssistantMessageId, ConversationId } from "../domain/Ids.ts"
import { makeId } from "../domain/Ids.ts"
import type { PromptPart } from "../domain/Prompt.ts"
import { retrying } from "../domain/Retrying.ts"
import type { TurnInProgress } from "../domain/TurnError.ts"
import { AlreadyFinished, TurnCancelled, TurnTakenOver } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { Client } from "../opencode/Client.ts"
import type { Draft, StoredMessage, StoreError } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"
import { cancelTurn } from "./WatchTurn.ts"

/**
 * `owner` names the run in the store; every run has a name of its own.
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
}

/**
 * Claims the assistant message of the turn: makes it pending, or takes the pending one that has this id.
 *
 * **Details**
 *
 * While another turn of the conversation runs, `TurnPolicy.WhenBusy` decides: wait, fail with `TurnInProgress`, or cancel the
 * others. A queued turn polls every `TurnPolicy.QueuePoll`; each poll renews its lease and keeps its place. A turn in the way whose owner died is
 * taken over and given to `onOrphan`, so that a queue moves on even where no worker sweeps; `onOrphan` is interrupted where
 * the waiting ends.
 *
 * @category steps
 * @since 0.1.0
 */
export const claim = Effect.fn("Turn.claim")(function*<R = never>(
  request: ClaimRequest,
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
  const first = yield* whenBusy === "replace" ? replacing(attempt, request.id) : attempt
  const message = first.status === "queued"
    ? yield* Effect.raceFirst(waiting(attempt, request.id), clearing(first, onOrphan))
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
})

/**
 * The lease of an owner, as long as `TurnPolicy.Lease`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const leaseOf = (owner: string) =>
  Effect.map(TurnPolicy.Lease, (lease) => ({ owner, millis: Duration.toMillis(lease) }))

// internal

/** Cancels the turns before this one, one after the other, until none is left. */
const replacing = (
  attempt: Effect.Effect<StoredMessage, TurnInProgress | StoreError>,
  id: AssistantMessageId
): Effect.Effect<StoredMessage, TurnInProgress | StoreError, SessionStore | Client> =>
  Effect.catchTag(attempt, "TurnInProgress", (error) =>
    error.messageId === id
      ? Effect.fail(error)
      : cancelTurn(error.messageId).pipe(
        // It ended by itself just now, which is as good.
        Effect.catchTag(["AlreadyFinished", "UnknownMessage"], () => Effect.void),
        Effect.andThen(Effect.suspend(() => replacing(attempt, id)))
      ))

/** Polls until the message is no longer queued. */
const waiting = Effect.fnUntraced(function*(
  attempt: Effect.Effect<StoredMessage, TurnInProgress | StoreError>,
  id: AssistantMessageId
) {
  const poll = yield* TurnPolicy.QueuePoll
  while (true) {
    yield* Effect.sleep(poll)
    const message = yield* Effect.catchTag(attempt, "TurnInProgress", (error) =>
      // This process was frozen past its lease, and another worker waits in its place.
      Effect.fail(error.messageId === id ? new TurnTakenOver({ messageId: id }) : error))
    if (message.status !== "queued") return message
  }
})

/** Takes over the turn that runs before this one as soon as its owner is gone. Never ends. */
const clearing = Effect.fnUntraced(function*<R>(
  { conversationId }: StoredMessage,
  onOrphan: (orphan: StoredMessage) => Effect.Effect<void, never, R>
) {
  const store = yield* SessionStore
  const clear = Effect.gen(function*() {
    const orphan = yield* retrying(store.findOrphan(conversationId))
    if (Option.isNone(orphan)) return
    const taken = yield* retrying(store.takeOver(orphan.value, yield* leaseOf(yield* makeId("run"))))
    if (Option.isSome(taken)) yield* onOrphan(taken.value)
  })
  return yield* clear.pipe(
    // A store that is away comes back; if it does not, the claim itself fails.
    Effect.ignore,
    Effect.repeat(Schedule.spaced(yield* TurnPolicy.LeaseRenewal)),
    Effect.andThen(Effect.never)
  )
})
