/**
 * The turns that run in this process, for those who attach to them: the updates of each as they are made, without the store's delay.
 *
 * **Responsibilities**: a log of the newest updates of a turn, kept from the first attachment on; its readers read it at their own pace,
 * and a slow one costs the others nothing.
 *
 * **Not responsibilities**: turns of other processes (`AttachTurn` reads their journal).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { AssistantMessageId } from "../domain/Ids.ts"
import * as LiveReply from "../drive/LiveReply.ts"
import * as ReplyUpdate from "../reply/ReplyUpdate.ts"
import * as ChangeNotifier from "../store/ChangeNotifier.ts"
import { SessionStore } from "../store/SessionStore.ts"

/**
 * A turn of this process.
 *
 * **Details**
 *
 * `run` distinguishes this run of the turn from any other. `follow` gives the updates behind the first `seen` ones, each with how many
 * have been seen with it. It begins with the whole state, as a `Reset`, where `seen` is undefined or the log does not reach back that far.
 * It ends when the turn leaves this process.
 *
 * @category models
 * @since 0.1.0
 */
export interface LiveTurn {
  readonly run: string
  readonly follow: (seen: number | undefined) => Stream.Stream<LiveUpdate>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface LiveUpdate {
  readonly seen: number
  readonly update: ReplyUpdate.ReplyUpdate
}

/**
 * Makes the turn known to this process until the scope closes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const register = Effect.fnUntraced(function*(
  id: AssistantMessageId,
  run: string,
  live: LiveReply.LiveReply
): Effect.fn.Return<void, never, SessionStore | Scope.Scope> {
  const turns = yield* turnsOfStore
  const turn = make(run, live)
  const forget = Effect.sync(() => {
    if (turns.get(id) === turn) turns.delete(id)
  })
  yield* Scope.addFinalizer(yield* Effect.scope, forget)
  turns.set(id, turn)
})

/**
 * The turn, if it runs in this process over the same store.
 *
 * @category getters
 * @since 0.1.0
 */
export const find = (id: AssistantMessageId): Effect.Effect<LiveTurn | undefined, never, SessionStore> =>
  Effect.map(turnsOfStore, (turns) => turns.get(id))

// internal

type Turns = Map<AssistantMessageId, LiveTurn>

/** By their store, because the ids of two stores may be the same. */
const AllTurns: Context.Reference<WeakMap<SessionStore["Service"], Turns>> = Context.Reference(
  "@opencode-turn/core/LiveTurns",
  { defaultValue: () => new WeakMap() }
)

const turnsOfStore = Effect.gen(function*() {
  const all = yield* AllTurns
  const store = yield* SessionStore
  const turns = all.get(store) ?? new Map<AssistantMessageId, LiveTurn>()
  all.set(store, turns)
  return turns
})

/** What a turn keeps for its readers: made with the first of them, because most turns have none. */
const followable = (live: LiveReply.LiveReply): LiveTurn["follow"] => {
  const notifier = ChangeNotifier.makeUnsafe()
  const log: Log = { updates: [], first: 0, size: 0 }
  let hasEnded = false

  live.subscribe((updates) => {
    if (updates === undefined) hasEnded = true
    else for (const update of updates) add(log, update)
    notifier.notifyAll()
  })

  return (after) =>
    Stream.suspend(() => {
      let seen = after
      /** Reads what is new without yielding, so that nothing is missed between the state and the updates behind it. */
      const read = (): ReadonlyArray<LiveUpdate> => {
        live.flush()
        // Before its prompt a turn shows nothing.
        if (live.current().sessionId === "") return []
        const end = log.first + log.updates.length
        const isKnown = seen !== undefined && seen >= log.first && seen <= end
        const from = isKnown && seen !== undefined ? seen : end
        const state = isKnown ? [] : stateOf(live, seen === undefined ? live.started() : undefined)
        seen = end
        return [
          // Behind a `Started` alone the state is still to be told.
          ...state.map((update) => ({ seen: update._tag === "Started" ? unknown : end, update })),
          ...log.updates.slice(from - log.first).map((update, at) => ({ seen: from + at + 1, update }))
        ]
      }
      return notifier.watch("").pipe(
        Stream.map(() => ({ updates: read(), isLast: hasEnded })),
        Stream.takeUntil(({ isLast }) => isLast),
        Stream.flatMap(({ updates }) => Stream.fromIterable(updates))
      )
    })
}

const make = (run: string, live: LiveReply.LiveReply): LiveTurn => {
  let follow: LiveTurn["follow"] | undefined
  return {
    run,
    follow: (seen) => {
      follow ??= followable(live)
      return follow(seen)
    }
  }
}

/** The state of a reply as one update, so that no reader can have seen half of it, and the tries of the model that are waited for. */
const stateOf = (
  live: LiveReply.LiveReply,
  started: ReplyUpdate.Started | undefined
): ReadonlyArray<ReplyUpdate.ReplyUpdate> => [
  ...(started === undefined ? [] : [started]),
  { _tag: "Reset", reason: "attached", ...LiveReply.shown(live) },
  ...ReplyUpdate.announced(live.current())
]

interface Log {
  readonly updates: Array<ReplyUpdate.ReplyUpdate>
  first: number
  size: number
}

const add = (log: Log, update: ReplyUpdate.ReplyUpdate): void => {
  log.updates.push(update)
  log.size += sizeOf(update)
  if (log.size <= maxSize) return
  let dropped = 0
  while (log.size > maxSize / 2) log.size -= sizeOf(log.updates[dropped++])
  log.updates.splice(0, dropped)
  log.first += dropped
}

/** In characters of text, and a flat rate for what refers to parts that are held in any case. */
const sizeOf = (update: ReplyUpdate.ReplyUpdate | undefined): number =>
  update !== undefined && "delta" in update ? 100 + update.delta.length : 500

const maxSize = 500_000

/** A place that no log has. */
const unknown = -1
