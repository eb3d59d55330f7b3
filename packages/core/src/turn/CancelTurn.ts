/**
 * Stops a turn from any process that shares the store.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Contained from "../domain/Contained.ts"
import type { AssistantMessageId } from "../domain/Ids.ts"
import { retrying } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import type { AlreadyFinished } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { abortAnswer } from "../drive/AbortAnswer.ts"
import * as LiveReply from "../drive/LiveReply.ts"
import { readSubagents } from "../drive/ReadSubagents.ts"
import type { Client } from "../opencode/Client.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { MessageState, PromptRecord, StoredMessage, StoreError, UnknownMessage } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"
import { whyElsewhere } from "./OwnServer.ts"
import { recallEarlier } from "./Recall.ts"
import * as Share from "./Share.ts"

/**
 * Cancels a turn, wherever it runs, and gives it back with what was streamed of it.
 *
 * **Details**
 *
 * The stored message is cancelled at once; one that has ended fails with `AlreadyFinished`. A living owner notices, aborts the
 * session and keeps what was streamed. Where the owner is dead, or does not react within `TurnPolicy.CancelGrace`, that is
 * done here. While the server is away it cannot be stopped: that is due then (`SessionStore.listStops`), see {@link stopEnded}.
 *
 * @category running
 * @since 0.1.0
 */
export const cancelTurn = Effect.fnUntraced(function*(
  id: AssistantMessageId
): Effect.fn.Return<StoredMessage, AlreadyFinished | UnknownMessage | StoreError, SessionStore | Client> {
  const store = yield* SessionStore
  const cancelled = yield* retrying(store.cancel(id, yield* TurnPolicy.CancelledContent))
  const { leaseUntilMillis, promptRecord, revision } = cancelled
  if (promptRecord === null) return cancelled
  if (leaseUntilMillis !== null && leaseUntilMillis > (yield* Clock.currentTimeMillis)) {
    const kept = yield* store.changes(id).pipe(
      Stream.mapEffect(() => store.getState(id)),
      Stream.filter(Option.exists((state) => state.revision > revision)),
      Stream.runHead,
      Effect.timeoutOption(yield* TurnPolicy.CancelGrace),
      Effect.orElseSucceed(Option.none)
    )
    if (Option.isSome(kept)) return Option.getOrElse(yield* retrying(store.getMessage(id)), () => cancelled)
  }
  const context = { message: id, session: promptRecord.sessionId }
  yield* Contained.attempt("abort", context, yield* TurnPolicy.StopTimeout, stopFor(cancelled, promptRecord))
  return Option.getOrElse(yield* retrying(store.getMessage(id)), () => cancelled)
}, step("Turn.cancelTurn"))

/**
 * Whether a message that was cancelled may still get what was streamed of its turn: its owner adds that soon, or never. Until then the
 * words of the cancel stand in its place.
 *
 * @category predicates
 * @since 0.1.0
 */
export const mayGainText = (
  { error, finishedMillis, isFallback, started, status }: MessageState,
  sinceMillis: number
): boolean =>
  status === "cancelled" && isFallback && error === null && started !== null && finishedMillis !== null &&
  finishedMillis > sinceMillis

/**
 * Stops what the server still does for a message that has ended, as far as this server and folder are the message's, and keeps what the server
 * has of it. `true`: nothing works for it any more.
 *
 * **Details**
 *
 * A turn that ends while its server is away cannot stop it. A managed server goes on by itself once it is back, and one that was only out of
 * reach never stopped. Workers do this for each of `SessionStore.listStops`, and so does the next turn of the conversation before its prompt.
 *
 * @category steps
 * @since 0.1.0
 */
export const stopEnded = Effect.fnUntraced(function*(
  state: MessageState
): Effect.fn.Return<boolean, StoreError, SessionStore | Client> {
  const store = yield* SessionStore
  if (Option.isSome(yield* whyElsewhere(state))) return false
  const message = Option.getOrUndefined(yield* retrying(store.getMessage(state.id)))
  if (message === undefined || message.promptRecord === null) return true
  const stopped = yield* stopFor(message, message.promptRecord).pipe(
    // Its own server has lost the session.
    Effect.catchTag("SessionNotFound", () => retrying(store.settleStop(state.id))),
    Effect.timeoutOption(yield* TurnPolicy.StopTimeout),
    Effect.catchIf((error) => error._tag !== "StoreError", () => Effect.succeedNone)
  )
  return Option.isSome(stopped)
}, step("Turn.stopEnded"))

// internal

/** Acts for an owner that is gone: stops what still runs for the message, and keeps what the server has of it. */
const stopFor = Effect.fnUntraced(function*(message: StoredMessage, record: PromptRecord) {
  const { account, content, epoch, finish, finishedMillis, id, isFallback, parts, subagents, usage, waits } = message
  const { prompt: { ids }, sessionId } = record
  if (ids === undefined) return
  const store = yield* SessionStore
  const live = yield* LiveReply.make
  live.begin({ sessionId, promptId: ids.promptId })
  live.recall(waits)
  live.update((reply) => Reply.restore(reply, parts, subagents))
  const exchange = yield* abortAnswer(live.current(), { ...record.prompt, ids })
  yield* retrying(store.settleStop(id))
  if (message.status !== "cancelled") return
  live.update((reply) => Exchange.merge(exchange, reply))
  yield* recallEarlier({ ...record, prompt: { ...record.prompt, ids } }, live)
  yield* readSubagents(live, { wasStopped: true })
  const endedMillis = finishedMillis ?? (yield* Clock.currentTimeMillis)
  const read = {
    ...LiveReply.content(live),
    account: Share.until(Share.later(message, endedMillis), live, endedMillis).account
  }
  const kept = { ...read, ...(!Reply.hasWords(live.current()) && { content, isFallback }), finish }
  const words = { ...kept, unstored: undefined }
  const before = { content, isFallback, finish, parts, usage, account, subagents, waits, unstored: undefined }
  if (!Equal.equals(words, before)) yield* retrying(store.keepPartial(id, epoch, kept))
})
