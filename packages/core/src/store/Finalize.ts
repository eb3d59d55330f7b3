/**
 * The terminal write of a turn, by compare-and-set. An earlier cancel wins and keeps the streamed reply.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { AssistantMessageId } from "../domain/Ids.ts"
import { isBlank } from "../domain/Part.ts"
import { retrying } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import { TurnTakenOver } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { Outcome, Since, StoredMessage } from "./SessionStore.ts"
import { SessionStore, StoreError } from "./SessionStore.ts"

/**
 * The stored message after the write. `isOurs` tells whether this turn wrote its end.
 *
 * @category models
 * @since 0.1.0
 */
export interface Finalized {
  readonly message: StoredMessage
  readonly isOurs: boolean
}

/**
 * What the owner knows to be stored: the content that it wrote last, how far the journal then went, and the rest of the message, so that it
 * need not be read back.
 *
 * @category models
 * @since 0.1.0
 */
export interface Known extends Since {
  readonly offset: number
  readonly message: StoredMessage
}

/**
 * Stores the outcome if the message is pending and this owner still holds it.
 *
 * **Details**
 *
 * If the write loses, the stored state is the truth. A message that was cancelled in the meantime stays cancelled and
 * gets the streamed content. A message that another worker owns is not changed (`TurnTakenOver`). If the store's
 * response was lost, a read finds out: a stored message with this outcome means that the write was ours.
 *
 * @category steps
 * @since 0.1.0
 */
export const finalize = Effect.fnUntraced(function*(
  id: AssistantMessageId,
  epoch: number,
  outcome: Outcome,
  known?: Known
): Effect.fn.Return<Finalized, StoreError | TurnTakenOver, SessionStore> {
  const store = yield* SessionStore
  const isOurs = yield* retrying(store.finalize(id, epoch, outcome, known))
  if (isOurs && known !== undefined) return { message: yield* readState(known.message, outcome), isOurs }
  const message = yield* readMessage(id)
  if (isOurs) return { message, isOurs }
  if (message.epoch !== epoch || message.status === "pending") return yield* new TurnTakenOver({ messageId: id })
  if (message.status === outcome.status && message.error?.tag === outcome.error?.tag) return { message, isOurs: true }
  if (message.status !== "cancelled") return { message, isOurs: false }
  const isSaid = outcome.isFallback !== true && !isBlank(outcome.content)
  const words = isSaid ? {} : { content: message.content, isFallback: message.isFallback }
  // Whoever cancelled it may have stored the reply as well.
  const since = known?.offset === message.offset ? known : undefined
  yield* retrying(store.keepPartial(id, epoch, { ...outcome, ...words, finish: null }, since))
  return { message: yield* readMessage(id), isOurs: false }
}, step("Turn.finalize"))

// internal

/** The message after the write: only its small fields are read, or all of it where they cannot be. */
const readState = Effect.fnUntraced(function*(
  message: StoredMessage,
  { content, parts, subagents = [], waits = [] }: Outcome
): Effect.fn.Return<StoredMessage, StoreError, SessionStore> {
  const store = yield* SessionStore
  const state = yield* store.getState(message.id).pipe(
    Effect.timeoutOption(yield* TurnPolicy.LeaseRenewal),
    Effect.map(Option.flatten),
    Effect.orElseSucceed(Option.none)
  )
  return Option.isSome(state)
    ? { ...message, ...state.value, content, parts, subagents, waits }
    : yield* readMessage(message.id)
})

const readMessage = Effect.fnUntraced(function*(id: AssistantMessageId) {
  const store = yield* SessionStore
  const message = yield* retrying(store.getMessage(id))
  if (Option.isSome(message)) return message.value
  return yield* new StoreError({ operation: "finalize", reason: `message ${id} is gone`, isRetryable: false })
})
