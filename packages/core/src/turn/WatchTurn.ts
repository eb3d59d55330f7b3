/**
 * Watches a turn, and stops it, from any process that shares the store.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Contained from "../domain/Contained.ts"
import type { AssistantMessageId } from "../domain/Ids.ts"
import { retrying } from "../domain/Retrying.ts"
import type { AlreadyFinished } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { abortAnswer } from "../drive/AbortUpstream.ts"
import * as LiveReply from "../drive/LiveReply.ts"
import { readSubagents } from "../drive/ReadSubagents.ts"
import type { Client } from "../opencode/Client.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { PromptRecord, StoredMessage, StoreError } from "../store/SessionStore.ts"
import { SessionStore, UnknownMessage } from "../store/SessionStore.ts"
import { recallEarlier } from "./RecordPrompt.ts"

/**
 * The stored message of a turn, each time it changes, and last as the turn left it. Works from any process; a store that
 * fails is asked again every second, for half a minute.
 *
 * **Details**
 *
 * A message that was just cancelled may still get the text that was streamed: the stream waits for it, at most
 * `TurnPolicy.StopTimeout`.
 *
 * @category running
 * @since 0.1.0
 */
export const watchTurn = (
  id: AssistantMessageId
): Stream.Stream<StoredMessage, UnknownMessage | StoreError, SessionStore> =>
  Stream.unwrap(Effect.gen(function*() {
    const store = yield* SessionStore
    const limit = yield* TurnPolicy.StopTimeout
    const cancelled = yield* Latch.make()
    let seen = 0
    let wasCancelled = false
    const read = Effect.flatMap(
      store.getMessage(id),
      (message) => Effect.fromOption(message, () => new UnknownMessage({ messageId: id }))
    )
    /** Whether nothing follows this one. */
    const isLast = Effect.fnUntraced(function*(message: StoredMessage) {
      const nowMillis = yield* Clock.currentTimeMillis
      if (!isFinished(message) || wasCancelled || !mayGainText(message, nowMillis - Duration.toMillis(limit))) {
        return isFinished(message)
      }
      wasCancelled = true
      yield* cancelled.open
      return false
    })
    return store.changes(id).pipe(
      Stream.mapEffect(() => read),
      Stream.retry(($) =>
        $(Schedule.max([Schedule.spaced("1 second"), Schedule.recurs(30)])).pipe(
          Schedule.while(({ input }) => input._tag === "StoreError" && input.isRetryable)
        )
      ),
      Stream.filter((message) => message.revision > seen),
      Stream.tap(({ revision }) =>
        Effect.sync(() => {
          seen = revision
        })
      ),
      Stream.takeUntilEffect(isLast),
      Stream.interruptWhen(Effect.andThen(cancelled.await, Effect.sleep(limit)))
    )
  }))

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
export const cancelTurn = Effect.fn("Turn.cancelTurn")(function*(
  id: AssistantMessageId
): Effect.fn.Return<StoredMessage, AlreadyFinished | UnknownMessage | StoreError, SessionStore | Client> {
  const store = yield* SessionStore
  const cancelled = yield* retrying(store.cancel(id, yield* TurnPolicy.CancelledContent))
  const { leaseUntilMillis, promptRecord, revision } = cancelled
  if (promptRecord === null) return cancelled
  if (leaseUntilMillis !== null && leaseUntilMillis > (yield* Clock.currentTimeMillis)) {
    const kept = yield* watchTurn(id).pipe(
      Stream.filter((message) => message.revision > revision),
      Stream.runHead,
      Effect.timeoutOption(yield* TurnPolicy.CancelGrace),
      Effect.orElseSucceed(Option.none),
      Effect.map(Option.flatten)
    )
    if (Option.isSome(kept)) return kept.value
  }
  yield* abortFor(cancelled, promptRecord)
  return Option.getOrElse(yield* retrying(store.getMessage(id)), () => cancelled)
})

/**
 * Deletes the messages that ended longer than `age` ago, and says how many. Those that run or wait stay.
 *
 * @category running
 * @since 0.1.0
 */
export const pruneMessages = Effect.fn("Turn.pruneMessages")(function*(
  age: Duration.Input
): Effect.fn.Return<number, StoreError, SessionStore> {
  const store = yield* SessionStore
  const nowMillis = yield* Clock.currentTimeMillis
  return yield* retrying(store.prune(nowMillis - Duration.toMillis(Duration.fromInputUnsafe(age))))
})

/**
 * Whether the message will not change any more, but for what a cancelled turn still adds of its text.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isFinished = ({ status }: StoredMessage): boolean => status !== "pending" && status !== "queued"

// internal

/**
 * Only a cancel from outside leaves the text to the owner, who adds it soon or never. Until then the words of the cancel are in
 * its place.
 */
const mayGainText = (
  { error, finishedMillis, isFallback, promptRecord, status }: StoredMessage,
  sinceMillis: number
): boolean =>
  status === "cancelled" && isFallback && error === null && promptRecord !== null && finishedMillis !== null &&
  finishedMillis > sinceMillis

/** Acts for an owner that is gone: stops what still runs for the message, and keeps what the server has of it. */
const abortFor = Effect.fnUntraced(function*(
  { content, epoch, finish, id, isFallback, parts, subagents, usage }: StoredMessage,
  record: PromptRecord
) {
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
      live.update((reply) => Reply.restore(reply, parts, subagents))
      const exchange = yield* abortAnswer(live.current())
      live.update((reply) => Exchange.merge(exchange, reply))
      yield* recallEarlier({ ...record, prompt: { ...record.prompt, ids } }, live)
      yield* readSubagents(live)
      const read = LiveReply.content(live)
      const kept = { ...read, ...(!Reply.hasWords(live.current()) && { content, isFallback }), finish }
      if (!Equal.equals(kept, { content, isFallback, finish, parts, usage, subagents })) {
        yield* retrying(store.keepPartial(id, epoch, kept))
      }
    })
  )
})
