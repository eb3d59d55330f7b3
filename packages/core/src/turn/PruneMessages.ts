/**
 * Deletes old turns from any process that shares the store.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { retrying } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import type { StoreError } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"

/**
 * Deletes the messages that ended longer than `age` ago, and says how many. Those that run or wait stay.
 *
 * @category running
 * @since 0.1.0
 */
export const pruneMessages = Effect.fnUntraced(function*(
  age: Duration.Input
): Effect.fn.Return<number, StoreError, SessionStore> {
  const store = yield* SessionStore
  const nowMillis = yield* Clock.currentTimeMillis
  return yield* retrying(store.prune(nowMillis - Duration.toMillis(Duration.fromInputUnsafe(age))))
}, step("Turn.pruneMessages"))
