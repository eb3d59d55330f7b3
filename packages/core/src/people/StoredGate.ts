/**
 * A human gate that keeps its asks in the store, so that any process can answer them at any time.
 *
 * ```
 *   the turn's process          store            any process, also while none runs the turn
 *   gate ── openAsk ─────────▶ open ◀── pendingAsks
 *     │ waits, however long      │
 *     ◀───── askChanges ──── answered ◀── answerAsk
 * ```
 *
 * **Responsibilities**: one stored ask for each ask of the agent, the delivery of its answer to the waiting turn, and
 * its withdrawal after another client has answered.
 *
 * **Not responsibilities**: telling a person about an ask (the turn's updates do, or {@link pendingAsks}), and time
 * limits (`HumanGate.within`).
 *
 * **Details**
 *
 * A worker that goes away leaves the ask open. The worker that takes the turn over finds the answer, or waits for it
 * under the same id. A turn that ends withdraws its asks.
 *
 * @since 0.1.0
 */
import * as Brand from "effect/Brand"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Answer, Ask } from "../domain/Ask.ts"
import { checkAnswer, InvalidAnswer } from "../domain/Ask.ts"
import * as Contained from "../domain/Contained.ts"
import type { AssistantMessageId, ConversationId } from "../domain/Ids.ts"
import { AskId } from "../domain/Ids.ts"
import { retrying } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { SessionStore, type StoreError } from "../store/SessionStore.ts"
import type { StoredAsk } from "../store/StoredAsk.ts"
import { AskClosed, UnknownAsk } from "../store/StoredAsk.ts"
import { isOpen } from "../store/StoredMessage.ts"
import type { Asking, Gate } from "./HumanGate.ts"
import { HumanGate } from "./HumanGate.ts"

export { InvalidAnswer } from "../domain/Ask.ts"

/**
 * The gate over the store in the context.
 *
 * **Details**
 *
 * An unreachable store keeps the ask waiting. If the store can neither keep nor read the ask, the failure is reported
 * and the ask refused.
 *
 * @category gates
 * @since 0.1.0
 */
export const gate: Effect.Effect<Gate, never, SessionStore> = Effect.map(
  SessionStore,
  (store): Gate => (ask, asking) =>
    untilAnswered(store, ask, asking).pipe(
      Effect.onInterrupt(() => asking.isOpen() ? Effect.void : withdraw(store, ask)),
      Effect.catchTag("StoreError", (error) =>
        Effect.as(Contained.report("stored gate", { ask: ask.id }, Cause.fail(error)), unstored))
    )
)

/**
 * {@link gate} as a layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never, never, SessionStore> = Layer.effect(HumanGate, gate)

/**
 * Answers an ask from any process. The waiting turn goes on, at once or after a worker has taken it over.
 *
 * **Details**
 *
 * The first answer stays. A later one fails with `AskClosed`, unless it is the same: the success of the first may have
 * been lost on the way. `Skip` is rejected, because it would leave the ask to nobody. An update may tell of an ask a moment
 * before it is stored, so an ask that the store does not have fails with `UnknownAsk` only after two seconds.
 *
 * @category answering
 * @since 0.1.0
 */
export const answerAsk = Effect.fnUntraced(function*(
  askId: string,
  answer: Answer
): Effect.fn.Return<StoredAsk, InvalidAnswer | UnknownAsk | AskClosed | StoreError, SessionStore> {
  const store = yield* SessionStore
  const id = AskId.make(askId)
  const known = yield* untilKnown(id, retrying(store.getAsk(id)))
  const stored = yield* Effect.fromOption(known, () => new UnknownAsk({ askId: id }))
  if (stored.status === "withdrawn") return yield* new AskClosed({ askId: id, status: stored.status })
  const reason = checkAnswer(stored.ask, answer) ??
    (answer._tag === "Skip" ? "a stored ask cannot be skipped" : undefined)
  if (reason !== undefined) return yield* new InvalidAnswer({ askId: id, reason })
  return yield* retrying(store.answerAsk(id, answer))
}, step("StoredGate.answerAsk"))

/**
 * Lists the open asks, oldest first: of a conversation, of a message, or all. The default limit is 100.
 *
 * @category answering
 * @since 0.1.0
 */
export const pendingAsks = (filter?: {
  readonly conversationId?: string | undefined
  readonly messageId?: string | undefined
  readonly limit?: number | undefined
}): Effect.Effect<ReadonlyArray<StoredAsk>, StoreError, SessionStore> => {
  const { conversationId, limit = 100, messageId } = filter ?? {}
  const listed = Effect.flatMap(SessionStore, (store) =>
    retrying(store.listAsks({
      ...(conversationId !== undefined && { conversationId: toConversationId(conversationId) }),
      ...(messageId !== undefined && { messageId: toMessageId(messageId) }),
      limit
    })))
  return step("StoredGate.pendingAsks")(listed)
}

/**
 * Looks for an ask until it is there, but not longer than the update that tells of an ask can be ahead of its row: two seconds.
 *
 * @category answering
 * @since 0.1.0
 */
export const untilKnown = <A, E, R>(
  id: AskId,
  find: Effect.Effect<Option.Option<A>, E, R>
): Effect.Effect<Option.Option<A>, E | StoreError, R | SessionStore> =>
  Effect.flatMap(SessionStore, (store) =>
    store.askChanges(id).pipe(
      Stream.mapEffect(() => find),
      Stream.filter(Option.isSome),
      Stream.runHead,
      Effect.timeoutOption("2 seconds"),
      Effect.map((found) => Option.flatten(Option.flatten(found)))
    ))

// internal

type Store = SessionStore["Service"]

const toConversationId = Brand.nominal<ConversationId>()
const toMessageId = Brand.nominal<AssistantMessageId>()

const unstored: Answer = { _tag: "Reject", message: "The ask could not be put to anybody. Go on without it." }

/** The turn and the server still wait: a worker gave the ask up and died before it could tell the server. */
const givenUp: Answer = { _tag: "Reject", message: "Nobody answered in time. Go on without it." }

const untilAnswered = Effect.fnUntraced(function*(store: Store, ask: Ask, asking: Asking) {
  const { conversationId, messageId } = asking
  const opened = yield* persistently(store.openAsk({ messageId, conversationId, ask }))
  if (opened.status === "withdrawn") {
    const message = yield* persistently(store.getMessage(messageId))
    return Option.exists(message, ({ status }) => isOpen(status)) ? givenUp : answerOf(opened)
  }
  const closed = yield* store.askChanges(ask.id).pipe(
    Stream.mapEffect(() => persistently(store.getAsk(ask.id))),
    Stream.filter((stored) => Option.isNone(stored) || stored.value.status !== "open"),
    Stream.runHead
  )
  return answerOf(Option.getOrUndefined(Option.flatten(closed)))
})

/** If the ask was withdrawn while waiting, skip it: its turn is ending. */
const answerOf = (stored: StoredAsk | undefined): Answer => stored?.answer ?? { _tag: "Skip" }

/** Retries an unreachable store without a limit, because a person may need longer than an outage. */
const persistently = <A>(effect: Effect.Effect<A, StoreError>): Effect.Effect<A, StoreError> =>
  Effect.flatMap(
    TurnPolicy.ReconnectBackoff,
    (schedule) => Effect.retry(effect, { schedule, while: ({ isRetryable }) => isRetryable })
  )

const withdraw = (store: Store, ask: Ask) =>
  Effect.flatMap(
    TurnPolicy.StopTimeout,
    (limit) => Contained.attempt("stored gate", { ask: ask.id }, limit, retrying(store.withdrawAsk(ask.id)))
  )
