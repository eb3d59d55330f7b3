/**
 * What a turn took so far: its time by purpose, its usage by model, and how long its model took to begin.
 *
 * **Responsibilities**: the account is of the whole turn, also if several processes carried it. Each of them stores it with the reply, and the
 * next one begins with what was stored.
 *
 * ```
 *   first owner          stored last         taken over               end
 *   ├────────────────────┤┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┤────────────────────────┤
 *     the stored account    the timeline of the owner that goes on, orphaned where nothing was at work
 * ```
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { ModelUsage } from "../domain/Usage.ts"
import * as Timeline from "./Timeline.ts"
import * as Timing from "./Timing.ts"

/**
 * **Details**
 *
 * - `timing`: what the turn spent its time for. It adds up to the turn's duration.
 * - `models`: the share of each model. They add up to the turn's usage.
 * - `firstTokenMillis`: how long after the start of the turn its model began to answer; null if it has not, or if the process that saw it
 *   died before it stored that.
 * - `untilMillis`: how far the account goes, in milliseconds since the epoch by the clock of the process that made it.
 *
 * @category models
 * @since 0.1.0
 */
export const Account = Schema.Struct({
  timing: Timing.Timing,
  models: Schema.Array(ModelUsage),
  firstTokenMillis: Schema.NullOr(Schema.Finite),
  untilMillis: Schema.Finite
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Account extends Schema.Schema.Type<typeof Account> {}

/**
 * The account of a timeline, on from the one that an earlier owner of the turn stored.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (timeline: Timeline.Timeline, earlier: Account | null): Account => {
  const timing = Timing.make(timeline)
  const first = Timeline.firstTokenMillis(timeline)
  const before = earlier === null ? 0 : Timing.total(earlier.timing)
  return {
    timing: earlier === null ? timing : Timing.add(earlier.timing, timing),
    models: Timeline.usageByModel(timeline),
    firstTokenMillis: earlier?.firstTokenMillis ?? (first === undefined ? null : before + first),
    untilMillis: timeline.endedMillis
  }
}

/**
 * The account of something that asks a model once, such as a compaction. It waited until it was taken: for its turn, or without an owner.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ofOneCall = (
  { createdMillis, epoch }: { readonly createdMillis: number; readonly epoch: number },
  { modelMillis, models, takenMillis }: {
    readonly takenMillis: number
    readonly modelMillis: number
    readonly models: ReadonlyArray<ModelUsage>
  },
  nowMillis: number
): Account => {
  const [taken, until] = [Math.round(takenMillis), Math.round(nowMillis)]
  const waitedMillis = Math.max(0, taken - Math.round(createdMillis))
  const spentMillis = Math.round(Math.min(modelMillis, until - taken))
  return {
    timing: {
      ...Timing.zero,
      queueMillis: epoch > 1 ? 0 : waitedMillis,
      orphanedMillis: epoch > 1 ? waitedMillis : 0,
      modelMillis: spentMillis,
      otherMillis: until - taken - spentMillis
    },
    models,
    firstTokenMillis: null,
    untilMillis: until
  }
}
