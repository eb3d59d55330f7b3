/**
 * Holds a turn: renews the lease that says who drives it, and watches for a worker that ends the turn or takes it over.
 *
 * **Responsibilities**: renews the lease while the turn works, and while it ends; fails as soon as the stored message is no longer this
 * owner's, so that the turn stops. A process that was frozen past its lease finds out with its first renewal.
 *
 * **Not responsibilities**: what the turn does then (`Conclude`). Its writes change nothing in any case: they carry the epoch.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Metrics from "../domain/Metrics.ts"
import { retrying } from "../domain/Retrying.ts"
import { TurnCancelled, TurnTakenOver } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { bounded } from "../store/Bounded.ts"
import type { StoredMessage } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"

/**
 * Fails as soon as another worker ends the message or takes it over, and never succeeds. A store that cannot be asked just now is asked
 * again; no turn is lost for that.
 *
 * @category steps
 * @since 0.1.0
 */
export const untilLost = Effect.fnUntraced(function*(
  { epoch, id }: StoredMessage
): Effect.fn.Return<never, TurnCancelled | TurnTakenOver, SessionStore> {
  const store = yield* SessionStore
  while (true) {
    const lost = store.untilState(id, (state) => state?.status === "cancelled" || (state?.epoch ?? epoch) !== epoch)
    yield* Effect.ignore(lost)
    yield* endIfLost({ epoch, id })
    yield* Effect.sleep("1 second")
  }
})

/**
 * Keeps the lease of a message that is being ended, however long the server takes to stop, so that no worker takes over a turn whose end
 * is about to be written. The effect learns when the lease was last kept, in milliseconds since the epoch.
 *
 * @category combinators
 * @since 0.1.0
 */
export const keepingLease = <A, E, R>(
  message: StoredMessage,
  f: (lastKept: Effect.Effect<number>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R | SessionStore> =>
  Effect.gen(function*() {
    const lastKept = yield* Ref.make(yield* Clock.currentTimeMillis)
    return yield* Effect.raceFirst(f(Ref.get(lastKept)), renewing(message, Effect.void, lastKept))
  })

/**
 * Keeps the lease of a message, and fails as soon as it is lost. A queued message keeps its place with it.
 *
 * @category steps
 * @since 0.1.0
 */
export const holdLease = (
  message: StoredMessage
): Effect.Effect<never, TurnCancelled | TurnTakenOver, SessionStore> => renewing(message, endIfLost(message))

/**
 * Fails if the message is not this owner's any more, or if the store cannot be asked. A prompt is posted only after this: a
 * process that was frozen until another one finished the turn would ask the model again, where a later prompt followed (1.18.33).
 *
 * **Details**
 *
 * The store is asked again as `TurnPolicy.RequestRetry` says. Each attempt takes at most `TurnPolicy.StopTimeout`.
 *
 * @category steps
 * @since 0.1.0
 */
export const confirm = Effect.fnUntraced(function*({ epoch, id }: Pick<StoredMessage, "epoch" | "id">) {
  const store = yield* SessionStore
  const state = Option.getOrUndefined(yield* retrying(bounded("getState")(store.getState(id))))
  if (state !== undefined && state.epoch !== epoch) return yield* new TurnTakenOver({ messageId: id })
  if (state?.status === "cancelled") return yield* new TurnCancelled({ messageId: id })
})

// internal

/** A living owner keeps its turn while the store cannot be asked. */
const endIfLost = (message: Pick<StoredMessage, "epoch" | "id">) =>
  Effect.catchTag(confirm(message), "StoreError", () => Effect.void)

/**
 * Renews the lease again and again, and runs the effect when it cannot be: the message is lost. All turns of a process renew at the same
 * moments, the multiples of `TurnPolicy.LeaseRenewal`, so that a store can renew them in one statement.
 *
 * A busy process renews late. It asks for as much more time as it was late lately, four times over, so that the next delay costs no turn.
 */
const renewing = Effect.fnUntraced(function*<E>(
  { epoch, id, owner }: StoredMessage,
  onLost: Effect.Effect<void, E, SessionStore>,
  lastKept?: Ref.Ref<number>
): Effect.fn.Return<never, E, SessionStore> {
  const store = yield* SessionStore
  const leaseMillis = Duration.toMillis(yield* TurnPolicy.Lease)
  const intervalMillis = Duration.toMillis(yield* TurnPolicy.LeaseRenewal)
  let lateMillis = 0
  while (true) {
    const nowMillis = yield* Clock.currentTimeMillis
    const waitMillis = intervalMillis - nowMillis % intervalMillis
    yield* Effect.sleep(waitMillis)
    const millis = Math.min(leaseMillis + 4 * lateMillis, TurnPolicy.longestLease * leaseMillis)
    const isHeld = yield* Effect.option(store.renew(id, epoch, { owner: owner ?? undefined, millis }))
    const renewedMillis = yield* Clock.currentTimeMillis
    const behindMillis = renewedMillis - nowMillis - waitMillis
    if (behindMillis > intervalMillis) yield* Metrics.count(Metrics.lateLeases)
    lateMillis = Math.max(behindMillis, Math.floor(lateMillis / 2))
    if (Option.isNone(isHeld)) continue
    if (!isHeld.value) yield* onLost
    else if (lastKept !== undefined) yield* Ref.set(lastKept, renewedMillis)
  }
})
