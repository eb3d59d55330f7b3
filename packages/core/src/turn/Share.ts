/**
 * An owner's share of a turn: from what the owner before it stored last, or from the beginning.
 *
 * @since 0.1.0
 */
import * as LiveReply from "../drive/LiveReply.ts"
import * as Account from "../reply/Account.ts"
import type * as Timeline from "../reply/Timeline.ts"
import type { StoredMessage } from "../store/StoredMessage.ts"

/**
 * `earlier` is what the owners before this one stored.
 *
 * @category models
 * @since 0.1.0
 */
export interface Share extends Omit<Timeline.Bounds, "endedMillis"> {
  readonly earlier: Account.Account | null
}

/**
 * The share of the owner that begins a turn.
 *
 * @category constructors
 * @since 0.1.0
 */
export const first = (startedMillis: number, queued?: Timeline.Interval): Share => ({
  startedMillis,
  takenMillis: startedMillis,
  queued,
  earlier: null
})

/**
 * The share of an owner that took a turn over.
 *
 * @category constructors
 * @since 0.1.0
 */
export const later = (
  { account, createdMillis }: Pick<StoredMessage, "account" | "createdMillis">,
  takenMillis: number,
  queued?: Timeline.Interval
): Share => ({
  // The clocks of two processes differ.
  startedMillis: Math.min(account?.untilMillis ?? Math.round(createdMillis), takenMillis),
  takenMillis,
  queued,
  earlier: account
})

/**
 * What the turn did until now, and its account with the shares of the owners before.
 *
 * @category getters
 * @since 0.1.0
 */
export const until = (
  { earlier, ...bounds }: Share,
  live: LiveReply.LiveReply,
  nowMillis: number
): { readonly timeline: Timeline.Timeline; readonly account: Account.Account } => {
  const timeline = LiveReply.timeline(live, { ...bounds, endedMillis: nowMillis })
  return { timeline, account: Account.make(timeline, earlier) }
}
