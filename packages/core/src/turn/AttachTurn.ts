/**
 * Attaches to a turn, wherever it runs, and gives its reply so far and every change of it.
 *
 * **Responsibilities**: a turn of this process is followed live, any other through its journal in the store; one that moves from one to
 * the other is followed on. An attachment never holds a turn up, and its end never cancels one.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { AssistantMessageId, PartId, SessionId } from "../domain/Ids.ts"
import type { Subagent } from "../domain/Subagent.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { RetryWait, Wait } from "../domain/Wait.ts"
import type { ReplyUpdate, Started } from "../reply/ReplyUpdate.ts"
import * as Journal from "../store/Journal.ts"
import type { MessageState, StartedTurn, StoredMessage, StoreError } from "../store/SessionStore.ts"
import { SessionStore, UnknownMessage } from "../store/SessionStore.ts"
import { isOpen } from "../store/StoredMessage.ts"
import { mayGainText } from "./CancelTurn.ts"
import * as LiveTurns from "./LiveTurns.ts"

/**
 * An update, and the offset from which {@link attachTurn} gives what follows it. Offsets are opaque; keep the last one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attached {
  readonly offset: string
  readonly update: AttachedUpdate
}

/**
 * A change of the reply, or, last, the message as the turn left it.
 *
 * @category models
 * @since 0.1.0
 */
export type AttachedUpdate = ReplyUpdate | { readonly _tag: "Finished"; readonly message: StoredMessage }

/**
 * **Details**
 *
 * `from` is the offset of the last update that was seen. Without it the reply is given from its beginning.
 *
 * @category models
 * @since 0.1.0
 */
export interface AttachOptions {
  readonly from?: string | undefined
}

/**
 * The updates of a turn: `Started`, then the reply so far and each change of it, at last `Finished`. A turn that waits in a queue gives
 * nothing until its prompt is recorded.
 *
 * **Details**
 *
 * Works from any process that shares the store. Of a turn in this process the updates are live; of another one they come with its
 * snapshots (`TurnPolicy.SnapshotInterval`), conflated. Taken up again at an offset it gives what followed that update and nothing twice;
 * where the updates in between are not known any more, for example because the process died before it stored them, a `Reset` gives the
 * whole state. A store that fails is asked again every second, for half a minute.
 *
 * @category running
 * @since 0.1.0
 */
export const attachTurn = (
  id: AssistantMessageId,
  { from }: AttachOptions = {}
): Stream.Stream<Attached, UnknownMessage | StoreError, SessionStore> =>
  Stream.unwrap(Effect.gen(function*() {
    const place = parse(from)
    const reader = yield* Ref.make<Reader>({
      after: place?._tag === "stored" ? place.offset : 0,
      isVoid: from !== undefined && place?._tag !== "stored",
      started: undefined,
      isFromLive: false,
      hasStarted: from !== undefined
    })
    const live = yield* LiveTurns.find(id)
    if (live === undefined) return followStored(id, reader)
    const isSameRun = place?._tag === "live" && place.run === live.run
    const following = live.follow(isSameRun ? place.seen : from === undefined ? undefined : -1).pipe(
      Stream.map(({ seen, update }): Attached => ({ offset: `${live.run}.${seen}`, update })),
      Stream.tap(({ update }) =>
        update._tag === "Started" ? Ref.update(reader, (self) => ({ ...self, started: update })) : Effect.void
      )
    )
    const left = Ref.update(reader, (self) => ({ ...self, isFromLive: true, hasStarted: true }))
    return Stream.concat(following, Stream.unwrap(Effect.as(left, followStored(id, reader))))
  }))

/**
 * Whether a text can be an offset of {@link attachTurn}. Behind another text the whole state is given, as behind an offset that is not known
 * any more.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isOffset = (text: string): boolean => parse(text) !== undefined

// internal

/**
 * How far an attachment has read.
 *
 * - `after`: the offset in the journal.
 * - `isVoid`: what the reader has seen is no state of the journal, so the whole state has to be given.
 * - `isFromLive`: the turn was followed live, and has left this process or ended.
 * - `hasStarted`: a `Started` was given. If `started` is undefined, an earlier attachment gave it.
 */
interface Reader {
  readonly after: number
  readonly isVoid: boolean
  readonly isFromLive: boolean
  readonly hasStarted: boolean
  readonly started: StartedTurn | undefined
}

type Place =
  | { readonly _tag: "stored"; readonly offset: number }
  | { readonly _tag: "live"; readonly run: string; readonly seen: number }

/** Undefined for a text that is no offset. The reader then gets the whole state, as for an offset that is not known any more. */
const parse = (from: string | undefined): Place | undefined => {
  if (from === undefined) return undefined
  if (/^\d{1,15}$/.test(from)) return { _tag: "stored", offset: Number(from) }
  const [, run, seen] = /^(run_[^.]+)\.(-?\d{1,15})$/.exec(from) ?? []
  return run === undefined ? undefined : { _tag: "live", run, seen: Number(seen) }
}

const followStored = (
  id: AssistantMessageId,
  reader: Ref.Ref<Reader>
): Stream.Stream<Attached, UnknownMessage | StoreError, SessionStore> =>
  Stream.unwrap(Effect.gen(function*() {
    const store = yield* SessionStore
    const limit = yield* TurnPolicy.StopTimeout
    const gained = yield* Latch.make()
    const cancelledAt = yield* Ref.make<number | undefined>(undefined)

    /** Whether nothing follows. A message that was just cancelled may still get its text, which raises its revision. */
    const isLast = Effect.fnUntraced(function*(state: MessageState) {
      if (isOpen(state.status)) return false
      const sinceMillis = (yield* Clock.currentTimeMillis) - Duration.toMillis(limit)
      const before = yield* Ref.getAndSet(cancelledAt, state.revision)
      if (!mayGainText(state, sinceMillis) || (before !== undefined && state.revision > before)) return true
      yield* gained.open
      return false
    })

    const read = Effect.gen(function*() {
      const state = yield* mustBeThere(id, store.getState(id))
      const told = yield* readNews(state, reader)
      if (!(yield* isLast(state))) return told
      return [...told, yield* ending(id)]
    })

    return store.changes(id).pipe(
      Stream.mapEffect(() => read),
      Stream.retry(($) =>
        $(Schedule.max([Schedule.spaced("1 second"), Schedule.recurs(30)])).pipe(
          Schedule.while(({ input }) => input._tag === "StoreError" && input.isRetryable)
        )
      ),
      Stream.interruptWhen(Effect.andThen(gained.await, Effect.sleep(limit))),
      Stream.concat(Stream.fromEffect(Effect.map(ending(id), (last) => [last]))),
      Stream.flatMap((all) => Stream.fromIterable(all)),
      Stream.takeUntil(({ update }) => update._tag === "Finished")
    )
  }))

const mustBeThere = <A, E>(id: AssistantMessageId, read: Effect.Effect<Option.Option<A>, E>) =>
  Effect.flatMap(read, (found) => Effect.fromOption(found, () => new UnknownMessage({ messageId: id })))

const ending = Effect.fnUntraced(function*(id: AssistantMessageId) {
  const store = yield* SessionStore
  const message = yield* mustBeThere(id, store.getMessage(id))
  const last: Attached = { offset: String(message.offset), update: { _tag: "Finished", message } }
  return last
})

/** What the store tells beyond what was read. The state was read before, so that all of its updates are there. */
const readNews = Effect.fnUntraced(function*(
  { conversationId, id, offset, started, status }: MessageState,
  reader: Ref.Ref<Reader>
) {
  const store = yield* SessionStore
  const before = yield* Ref.get(reader)
  // The end of a turn that was followed live has been seen. If the turn goes on elsewhere, its whole state is given, because places in a
  // live log are no offsets of the journal.
  if (before.isFromLive && !isOpen(status)) return []
  const isVoid = before.isVoid || before.isFromLive || before.after > offset
  const after = isVoid ? 0 : before.after
  const rows = after >= offset ? [] : yield* Journal.readAll((after) => store.listUpdates(id, after, pageLength), after)
  const last = rows.at(-1)?.offset ?? (isVoid ? offset : after)
  const lastReset = rows.findLastIndex(({ update }) => update._tag === "Reset")
  const reset = rows[lastReset]?.update
  const reason = !isVoid && reset?._tag === "Reset" ? reset.reason : "attached"
  const updates: Array<Attached> = isVoid || lastReset >= 0
    ? whole(rows, reason, isOpen(status)).map((update) => ({ offset: String(last), update }))
    : rows.flatMap(({ offset, update }) =>
      shown(update, started?.sessionId).map((update) => ({ offset: String(offset), update }))
    )

  const start: Started | undefined = started === null
    ? undefined
    : { _tag: "Started", conversationId, messageId: id, ...started }
  const isOther = started !== null && !isSameStart(before, started)
  // The row tells of another prompt before the journal tells that the reply begins anew: until then its updates are those of the old one.
  const isAgain = before.hasStarted && (promptedAgain.has(reason) || (isOther && (isVoid || !isOpen(status))))
  const isFirst = !before.hasStarted && start !== undefined
  if (isFirst) updates.unshift({ offset: String(after), update: start })
  if (isAgain && start !== undefined) updates.push({ offset: String(last), update: start })
  yield* Ref.set(reader, {
    after: last,
    isVoid: false,
    isFromLive: false,
    hasStarted: before.hasStarted || isFirst,
    started: isFirst || isAgain || before.started === undefined ? (started ?? before.started) : before.started
  })
  return updates
})

const pageLength = 500

/** The reasons of a `Reset` behind which the reply is that of a prompt under other ids. */
const promptedAgain: ReadonlySet<string> = new Set(["recreated", "repaired", "refused"])

const isSameStart = ({ hasStarted, started }: Reader, now: StartedTurn): boolean =>
  hasStarted && (started === undefined || (started.sessionId === now.sessionId && started.promptId === now.promptId))

/** The state behind a reset as one update, so that no reader sees half of it, and the tries of the model that are waited for. */
const whole = (
  rows: ReadonlyArray<Journal.PlacedUpdate>,
  reason: Extract<ReplyUpdate, { _tag: "Reset" }>["reason"],
  isRunning: boolean
): ReadonlyArray<ReplyUpdate> => {
  const { asks, parts, partsOf, subagents, waits } = Journal.apply(rows.map(({ update }) => update))
  const update: ReplyUpdate = {
    _tag: "Reset",
    reason,
    parts,
    subagents: subagents.map((subagent) => ({ ...subagent, parts: partsOf.get(subagent.sessionId) ?? [] })),
    asks
  }
  const announced = isRunning ? waits.flatMap((wait) => retryOf(wait, subagents)) : []
  return [update, ...announced]
}

/** What announces the next try of a model that is waited for. */
const retryOf = (wait: Wait, subagents: ReadonlyArray<Subagent>): ReadonlyArray<ReplyUpdate> => {
  if (wait.type !== "retry" || wait.toMillis !== null) return []
  const { attempt, message, nextMillis, sessionId } = wait
  const subagent = subagents.find((subagent) => subagent.sessionId === sessionId)
  return [
    subagent === undefined
      ? { _tag: "Retrying", retry: { attempt, message, nextMillis } }
      : retryIn(wait, subagent.openedBy)
  ]
}

const retryIn = (
  { attempt, message, nextMillis, sessionId }: RetryWait,
  openedBy: PartId | undefined
): ReplyUpdate => ({
  _tag: "SubagentUpdate",
  sessionId,
  openedBy,
  update: { _tag: "Retrying", retry: { attempt, message, nextMillis } }
})

/** The journal holds to-dos as a part. A wait is told by its ask or its announcement, which it holds only of the turn's own session. */
const shown = (update: Journal.JournalUpdate, rootId: SessionId | undefined): ReadonlyArray<ReplyUpdate> => {
  if (update._tag === "Waited") {
    const { wait } = update
    return wait.type === "retry" && wait.toMillis === null && wait.sessionId !== rootId
      ? [retryIn(wait, undefined)]
      : []
  }
  if (update._tag === "PartChanged" && update.part.type === "todos") {
    return [{ _tag: "TodosChanged", todos: update.part.todos }]
  }
  return update._tag === "SubagentUpdate" && update.update._tag === "PartChanged" && update.update.part.type === "todos"
    ? [{ ...update, update: { _tag: "TodosChanged", todos: update.update.part.todos } }]
    : [update]
}
