/**
 * Writes what changes in the reply of a running turn to the journal of its message.
 *
 * **Responsibilities**: one write at a time; knowing what is stored, also after a write whose answer was lost.
 *
 * **Not responsibilities**: when to write (`Ownership`), and the terminal write (`Finalize`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Semaphore from "effect/Semaphore"
import type { MessageId } from "../domain/Ids.ts"
import { retrying } from "../domain/Retrying.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as Usage from "../domain/Usage.ts"
import * as LiveReply from "../drive/LiveReply.ts"
import type { Reply } from "../reply/Reply.ts"
import type { Known } from "../store/Finalize.ts"
import * as Journal from "../store/Journal.ts"
import type { Content, StoredMessage, StoreError } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"

/**
 * **Details**
 *
 * - `flush`: stores what has changed since the last flush. `false`: the message is another owner's, or has ended.
 * - `untilBehind`: waits until there is something to store.
 * - `known`: what is stored, for the terminal write; undefined where that cannot be found out.
 *
 * @category models
 * @since 0.1.0
 */
export interface JournalWriter {
  readonly flush: Effect.Effect<boolean, StoreError, SessionStore>
  readonly untilBehind: Effect.Effect<void>
  readonly known: Effect.Effect<Omit<Known, "message"> | undefined, never, SessionStore>
}

/**
 * A writer for a message that was just claimed. The journal of an earlier owner is read once, and carried on.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  message: StoredMessage,
  live: LiveReply.LiveReply
): Effect.fn.Return<JournalWriter, StoreError, SessionStore> {
  const { epoch, id } = message
  const semaphore = yield* Semaphore.make(1)
  const state = yield* Ref.make<State>({ stored: yield* readStored(message), writing: undefined })

  /** After a write whose answer was lost the offset tells whether it was made. */
  const settled = Effect.gen(function*() {
    const { stored, writing } = yield* Ref.get(state)
    if (writing === undefined) return stored
    const store = yield* SessionStore
    const now = Option.getOrUndefined(yield* retrying(store.getState(id)))
    const found = now?.offset === writing.offset
      ? writing
      : {
        ...stored,
        ...(now?.offset !== stored.offset && { before: undefined, reply: undefined, offset: now?.offset ?? 0 })
      }
    yield* Ref.set(state, { stored: found, writing: undefined })
    return found
  })

  const flush = Effect.gen(function*() {
    const reply = live.current()
    const { promptId, sessionId } = reply
    // Before its prompt a turn shows nothing, and must not take away what an earlier owner stored.
    if (sessionId === "") return true
    const store = yield* SessionStore
    const stored = yield* settled
    if (stored.reply === reply) return true
    const content = LiveReply.content(live)
    const since = sinceOf(stored, promptId, live)
    const entries = Journal.between(since.before, content, since.reason)
    const written: Stored = { before: content, offset: stored.offset + entries.length, promptId, reply }
    if (entries.length === 0 && hasSameRest(stored.before, content)) {
      yield* Ref.set(state, { stored: { ...stored, reply }, writing: undefined })
      return true
    }
    yield* Ref.set(state, { stored, writing: written })
    const isHeld = yield* store.snapshot(id, epoch, content, since)
    yield* Ref.set(state, { stored: isHeld ? written : stored, writing: undefined })
    return isHeld
  })

  return {
    flush: semaphore.withPermit(flush),
    untilBehind: Effect.flatMap(Ref.get(state), ({ stored }) => live.untilOther(stored.reply)),
    known: semaphore.withPermit(settled).pipe(
      Effect.map((stored) => ({ ...sinceOf(stored, live.current().promptId, live), offset: stored.offset })),
      // A store that does not answer must not keep a turn from its end, which is then written whole.
      Effect.timeoutOption(yield* TurnPolicy.LeaseRenewal),
      Effect.map(Option.getOrUndefined),
      Effect.orElseSucceed(() => undefined)
    )
  }
})

// internal

/** `promptId`: the prompt whose answer was stored last by this writer. `reply`: what was stored last, as the turn had it. */
interface Stored {
  readonly reply: Reply | undefined
  readonly before: Content | undefined
  readonly offset: number
  readonly promptId: MessageId | undefined
}

interface State {
  readonly stored: Stored
  readonly writing: Stored | undefined
}

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
  const { parts, subagents } = unstored
  // The text and the usage are written in any case.
  const before: Content = { content: "", parts, subagents, usage: Usage.zero, unstored }
  return { before, offset: updates.at(-1)?.offset ?? offset, promptId: undefined, reply: undefined }
})

/** How many updates are read at once. */
const pageLength = 500
