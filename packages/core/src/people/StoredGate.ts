/**
 * A human gate that keeps what is asked in the store, so that any process can answer it, at any time.
 *
 * ```
 *   the turn's process          store            any process, also while none runs the turn
 *   gate ── openAsk ─────────▶ open ◀── pendingAsks
 *     │ waits, however long      │
 *     ◀───── askChanges ──── answered ◀── answerAsk
 * ```
 *
 * **Responsibilities**: one stored request for each that the agent makes; its answer to the turn that waits for it; its
 * withdrawal once somebody else has answered.
 *
 * **Not responsibilities**: telling a person that something is asked (the turn's updates do, or a look at
 * {@link pendingAsks}); a time limit (`HumanGate.within`).
 *
 * **Details**
 *
 * A worker that goes away leaves the request open, and the one that takes the turn over waits for it under the same id, or finds
 * the answer. A turn that ends withdraws what it had asked.
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
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { SessionStore, type StoreError } from "../store/SessionStore.ts"
import type { StoredAsk } from "../store/StoredAsk.ts"
import { AskClosed, UnknownAsk } from "../store/StoredAsk.ts"
import { isOpen } from "../store/StoredMessage.ts"
import type { Asking, Gate } from "./HumanGate.ts"
import { HumanGate } from "./HumanGate.ts"

export { InvalidAnswer } from "../domain/Ask.ts"

/**
 * The gate, over the store of this context.
 *
 * **Details**
 *
 * A store that is away keeps the request waiting. One that cannot keep or read it at all is reported, and the request refused.
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
        Effect.as(Contained.report("stored gate", { request: ask.id }, Cause.fail(error)), unstored))
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
 * Answers a request, from any process: the turn that waits for it goes on, at once or when somebody takes it up again.
 *
 * **Details**
 *
 * The first answer stays; a later one fails with `AskClosed`, unless it says the same: the success of the first may have been lost on
 * the way. `Skip` is no answer here: it would leave the request to nobody.
 *
 * @category answering
 * @since 0.1.0
 */
export const answerAsk = Effect.fn("StoredGate.answerAsk")(function*(
  askId: string,
  answer: Answer
): Effect.fn.Return<StoredAsk, InvalidAnswer | UnknownAsk | AskClosed | StoreError, SessionStore> {
  const store = yield* SessionStore
  const id = AskId.make(askId)
  const stored = Option.getOrUndefined(yield* retrying(store.getAsk(id)))
  if (stored === undefined) return yield* new UnknownAsk({ askId: id })
  if (stored.status === "withdrawn") return yield* new AskClosed({ askId: id, status: stored.status })
  const reason = checkAnswer(stored.ask, answer) ??
    (answer._tag === "Skip" ? "a stored request cannot be skipped" : undefined)
  if (reason !== undefined) return yield* new InvalidAnswer({ askId: id, reason })
  return yield* retrying(store.answerAsk(id, answer))
})

/**
 * The requests that wait for an answer, oldest first: of a conversation, of a message, or all; at most `limit`, 100 if it is not
 * given.
 *
 * @category answering
 * @since 0.1.0
 */
export const pendingAsks = Effect.fn("StoredGate.pendingAsks")(function*(filter?: {
  readonly conversationId?: string | undefined
  readonly messageId?: string | undefined
  readonly limit?: number | undefined
}): Effect.fn.Return<ReadonlyArray<StoredAsk>, StoreError, SessionStore> {
  const store = yield* SessionStore
  const { conversationId, limit = 100, messageId } = filter ?? {}
  return yield* retrying(store.listAsks({
    ...(conversationId !== undefined && { conversationId: toConversationId(conversationId) }),
    ...(messageId !== undefined && { messageId: toMessageId(messageId) }),
    limit
  }))
})

// internal

type Store = SessionStore["Service"]

const toConversationId = Brand.nominal<ConversationId>()
const toMessageId = Brand.nominal<AssistantMessageId>()

const unstored: Answer = { _tag: "Reject", message: "The request could not be put to anybody. Go on without it." }

/** The turn and the server still wait: a worker gave it up, and went away before it could say so there. */
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

/** What is withdrawn while it is waited for is left alone: its turn ends. */
const answerOf = (stored: StoredAsk | undefined): Answer => stored?.answer ?? { _tag: "Skip" }

/** Waits for a store that is away as long as it takes: a person may need longer. */
const persistently = <A>(effect: Effect.Effect<A, StoreError>): Effect.Effect<A, StoreError> =>
  Effect.flatMap(
    TurnPolicy.ReconnectBackoff,
    (schedule) => Effect.retry(effect, { schedule, while: ({ isRetryable }) => isRetryable })
  )

const withdraw = (store: Store, ask: Ask) =>
  Effect.flatMap(
    TurnPolicy.StopTimeout,
    (limit) => Contained.attempt("stored gate", { request: ask.id }, limit, retrying(store.withdrawAsk(ask.id)))
  )
