/**
 * The asks of agents as a user is told them.
 *
 * **Details**
 *
 * The answer `always` holds for all sessions of the OpenCode server, whoever they belong to. A user who may not give it (`mayAllowAlways`)
 * is told every ask without the patterns that it would allow, so that no page offers what is refused.
 *
 * @since 0.1.0
 */
import type { Ask } from "@opencode-turn/core/Ask"
import type { Attached, AttachedUpdate } from "@opencode-turn/core/AttachTurn"
import type { StoredAsk } from "@opencode-turn/core/StoredAsk"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import { CurrentUser } from "./User.ts"

/**
 * A change of an update into what a user is told of it.
 *
 * @category models
 * @since 0.1.0
 */
export type Told = (attached: Attached) => Attached

/**
 * The change of updates into what the current user is told.
 *
 * @category conversions
 * @since 0.1.0
 */
export const told: Effect.Effect<Told, never, CurrentUser> = Effect.map(
  CurrentUser,
  ({ mayAllowAlways = false }) => mayAllowAlways ? identity : onceOnly
)

/**
 * The change of stored asks into what the current user is told.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toldAsk: Effect.Effect<(stored: StoredAsk) => StoredAsk, never, CurrentUser> = Effect.map(
  CurrentUser,
  ({ mayAllowAlways = false }) =>
    mayAllowAlways ? identity : (stored) => ({ ...stored, ask: withoutAlways(stored.ask) })
)

// internal

const withoutAlways = (ask: Ask): Ask => ask._tag === "Permission" ? { ...ask, always: [] } : ask

const onceOnly = (attached: Attached): Attached => {
  const update = updateWithoutAlways(attached.update)
  return update === attached.update ? attached : { ...attached, update }
}

const updateWithoutAlways = (update: AttachedUpdate): AttachedUpdate => {
  switch (update._tag) {
    case "Asked":
      return { ...update, ask: withoutAlways(update.ask) }
    case "Reset":
      return { ...update, asks: update.asks.map((open) => ({ ...open, ask: withoutAlways(open.ask) })) }
    default:
      return update
  }
}
