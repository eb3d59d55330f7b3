/**
 * Writes what changes in the reply of a running turn to the journal of its message.
 *
 * **Responsibilities**: a write every `TurnPolicy.SnapshotInterval`, one at a time; knowing what is stored, also after a write whose answer
 * was lost.
 *
 * **Not responsibilities**: the terminal write (`Finalize`).
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import type { MessageId } from "../domain/Ids.ts"
import * as Metrics from "../domain/Metrics.ts"
import { retrying } from "../domain/Retrying.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as Usage from "../domain/Usage.ts"
import * as LiveReply from "../drive/LiveReply.ts"
import type { Account } from "../reply/Account.ts"
import type { Reply } from "../reply/Reply.ts"
import type { Known } from "../store/Finalize.ts"
import * as Journal from "../store/Journal.ts"
import type { Content, StoredMessage, StoreError } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"

/**
 * `accountAt`: what the turn took until a time.
 *
 * @category models
 * @since 0.1.0
 */
export interface JournalWriter {
  readonly message: Pick<StoredMessage, "epoch" | "id">
  readonly live: LiveReply.LiveReply
  readonly accountAt: (nowMillis: number) => Account
  readonly semaphore: Semaphore.Semaphore
  readonly state: Ref.Ref<State>
}

/**
 * What is stored, and what is being written.
 *
 * @category models
 * @since 0.1.0
 */
export interface State {
  readonly stored: Stored
  readonly writing: Stored | undefined
}

/**
 * `promptId`: the prompt whose answer was stored last by this writer. `reply`: what was stored last, as the turn had it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stored {
  readonly reply: Reply | undefined
  readonly before: Content | undefined
  readonly offset: number
  readonly promptId: MessageId | undefined
}

/**
 * A writer for a message that was just claimed. The journal of an earlier owner is read once, and carried on.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  message: StoredMessage,
  { accountAt, live }: Pick<JournalWriter, "accountAt" | "live">
): Effect.fn.Return<JournalWriter, StoreError, SessionStore> {
  const { epoch, id } = message
  const state = yield* Ref.make<State>({ stored: yield* readStored(message), writing: undefined })
  return { message: { epoch, id }, live, accountAt, semaphore: yield* Semaphore.make(1), state }
})

/**
 * Stores what has changed since the last flush. `false`: the message is another owner's, or has ended.
 *
 * @category steps
 * @since 0.1.0
 */
export const flush = (self: JournalWriter): Effect.Effect<boolean, StoreError, SessionStore> =>
  self.semaphore.withPermit(write(self, false))

/**
 * Stores the account of a turn that has not said anything. If that fails, the first snapshot makes up for it.
 *
 * @category steps
 * @since 0.1.0
 */
export const open = Effect.fnUntraced(function*({ accountAt, message }: JournalWriter) {
  const store = yield* SessionStore
  const account = accountAt(yield* Clock.currentTimeMillis)
  const content = { ...Journal.nothing, account }
  yield* Effect.ignore(store.snapshot(message.id, message.epoch, content, { before: Journal.nothing }))
})

/**
 * {@link flush} at the end of an owner's share: the account is stored also if the reply is.
 *
 * @category steps
 * @since 0.1.0
 */
export const close = (self: JournalWriter): Effect.Effect<boolean, StoreError, SessionStore> =>
  self.semaphore.withPermit(write(self, true))

/**
 * Waits until there is something to store.
 *
 * @category steps
 * @since 0.1.0
 */
export const untilBehind = ({ live, state }: JournalWriter): Effect.Effect<void> =>
  Effect.flatMap(Ref.get(state), ({ stored }) => live.untilOther(stored.reply))

/**
 * Stores what has changed in the reply every `TurnPolicy.SnapshotInterval`, one write at a time. It never ends, and sleeps while nothing
 * changes. The next write makes up for one that fails.
 *
 * @category steps
 * @since 0.1.0
 */
export const snapshots = Effect.fnUntraced(function*(
  journal: JournalWriter
): Effect.fn.Return<never, never, SessionStore> {
  const intervalMillis = Duration.toMillis(yield* TurnPolicy.SnapshotInterval)
  /** When the first change came that is not stored yet. */
  let behindMillis: number | undefined
  while (true) {
    const sinceMillis = yield* Clock.currentTimeMillis
    yield* untilBehind(journal)
    const nowMillis = yield* Clock.currentTimeMillis
    behindMillis ??= nowMillis
    yield* Effect.sleep(intervalMillis - (nowMillis - sinceMillis) % intervalMillis)
    const { stored } = yield* Ref.get(journal.state)
    if (Result.isFailure(yield* Effect.result(flush(journal)))) {
      yield* Metrics.count(Metrics.journalFailures)
      continue
    }
    // Before its prompt a turn stores nothing.
    if ((yield* Ref.get(journal.state)).stored !== stored) {
      yield* Metrics.record(Metrics.journalLag, (yield* Clock.currentTimeMillis) - behindMillis)
    }
    behindMillis = undefined
  }
})

/**
 * What is stored, for the terminal write; undefined where that cannot be found out.
 *
 * @category getters
 * @since 0.1.0
 */
export const known = Effect.fnUntraced(function*(
  self: JournalWriter
): Effect.fn.Return<Omit<Known, "message"> | undefined, never, SessionStore> {
  const { live, semaphore } = self
  return yield* semaphore.withPermit(confirmed(self)).pipe(
    Effect.map((stored) => ({ ...sinceOf(stored, live.current().promptId, live), offset: stored.offset })),
    // A store that does not answer must not keep a turn from its end, which is then written whole.
    Effect.timeoutOption(yield* TurnPolicy.LeaseRenewal),
    Effect.map(Option.getOrUndefined),
    Effect.orElseSucceed(() => undefined)
  )
})

// internal

/** After a write whose answer was lost the offset tells whether it was made. */
const confirmed = Effect.fnUntraced(function*({ message, state }: JournalWriter) {
  const { stored, writing } = yield* Ref.get(state)
  if (writing === undefined) return stored
  const store = yield* SessionStore
  const now = Option.getOrUndefined(yield* retrying(store.getState(message.id)))
  const found = now?.offset === writing.offset
    ? writing
    : {
      ...stored,
      ...(now?.offset !== stored.offset && { before: undefined, reply: undefined, offset: now?.offset ?? 0 })
    }
  yield* Ref.set(state, { stored: found, writing: undefined })
  return found
})

const write = Effect.fnUntraced(function*(self: JournalWriter, isLast: boolean) {
  const { live, message, state } = self
  const reply = live.current()
  const { promptId, sessionId } = reply
  // Before its prompt a turn shows nothing, and must not take away what an earlier owner stored.
  if (sessionId === "") return true
  const store = yield* SessionStore
  const stored = yield* confirmed(self)
  if (stored.reply === reply && !isLast) return true
  const nowMillis = yield* Clock.currentTimeMillis
  const known = isLast ? null : stored.before?.account ?? null
  const account = known !== null && !isOld(known, nowMillis) ? known : self.accountAt(nowMillis)
  const content: Content = { ...LiveReply.content(live), account }
  const since = sinceOf(stored, promptId, live)
  const entries = Journal.between(since.before, content, since.reason)
  const written: Stored = { before: content, offset: stored.offset + entries.length, promptId, reply }
  if (entries.length === 0 && !isLast && hasSameRest(stored.before, content)) {
    yield* Ref.set(state, { stored: { ...stored, reply }, writing: undefined })
    return true
  }
  yield* Ref.set(state, { stored, writing: written })
  const isHeld = yield* store.snapshot(message.id, message.epoch, content, since)
  yield* Ref.set(state, { stored: isHeld ? written : stored, writing: undefined })
  return isHeld
})

/**
 * Whether a running turn's account is made anew: of a turn of 20,000 tools that takes as long as the rest of the snapshot. The next owner goes
 * on from where the account ends, however old it is.
 */
const isOld = ({ firstTokenMillis, untilMillis }: Account, nowMillis: number): boolean =>
  firstTokenMillis === null || nowMillis - untilMillis >= accountMillis

const accountMillis = 5_000

/** A reply to another prompt begins anew. */
const sinceOf = ({ before, promptId }: Stored, current: MessageId, live: LiveReply.LiveReply) =>
  promptId === undefined || promptId === current ? { before } : { reason: live.beginning() }

/** Whether the fields beside the journal are the same. */
const hasSameRest = (before: Content | undefined, after: Content): boolean =>
  before !== undefined && before.finish === after.finish && Equal.equals(before.usage, after.usage)

const readStored = Effect.fnUntraced(function*({ id, offset }: StoredMessage) {
  if (offset === 0) return { before: Journal.nothing, offset, promptId: undefined, reply: undefined }
  const store = yield* SessionStore
  const updates = yield* Journal.readAll((after) => retrying(store.listUpdates(id, after, pageLength)))
  const unstored = Journal.apply(updates.map(({ update }) => update))
  const { parts, subagents, waits } = unstored
  // The text and the usage are written in any case.
  const before: Content = { content: "", parts, subagents, waits, usage: Usage.zero, unstored }
  return { before, offset: updates.at(-1)?.offset ?? offset, promptId: undefined, reply: undefined }
})

/** How many updates are read at once. */
const pageLength = 500
