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
import { recallEarlier } from "./Recall.ts"
import * as Share from "./Share.ts"

/**
 * Cancels a turn, wherever it runs, and gives it back with what was streamed of it.
 *
 * **Details**
 *
 * The stored message is cancelled at once; one that has ended fails with `AlreadyFinished`. A living owner notices, aborts the
 * session and keeps what was streamed. Where the owner is dead, or does not react within `TurnPolicy.CancelGrace`, that is
 * done here.
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
  yield* abortFor(cancelled, promptRecord)
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

// internal

/** Acts for an owner that is gone: stops what still runs for the message, and keeps what the server has of it. */
const abortFor = Effect.fnUntraced(function*(
  message: StoredMessage,
  record: PromptRecord
) {
  const { account, content, epoch, finish, finishedMillis, id, isFallback, parts, subagents, usage, waits } = message
  const { prompt: { ids }, sessionId } = record
  if (ids === undefined) return
  yield* Contained.attempt(
    "abort",
    { message: id, session: sessionId },
    yield* TurnPolicy.StopTimeout,
    Effect.gen(function*() {
      const store = yield* SessionStore
      const live = yield* LiveReply.make
      live.begin({ sessionId, promptId: ids.promptId })
      live.recall(waits)
      live.update((reply) => Reply.restore(reply, parts, subagents))
      const exchange = yield* abortAnswer(live.current())
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
      if (!Equal.equals(words, before)) {
        yield* retrying(store.keepPartial(id, epoch, kept))
      }
    })
  )
})
