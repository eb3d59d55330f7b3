/**
 * The deadlines of one prompt, as pure functions of what is known of it.
 *
 * **Not responsibilities**: what happens when a deadline passes (`PromptState`).
 *
 * All times are milliseconds of the prompt's clock, which stands still while a person is asked.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as TurnPolicy from "../domain/TurnPolicy.ts"

/**
 * The policies that set the deadlines.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  readonly firstEventMillis: number
  readonly finalExchangeMillis: number
  readonly pollMillis: number
  readonly budget: Pick<TurnPolicy.Budget, "wallClock" | "stall">
}

/**
 * What the deadlines depend on.
 *
 * **Details**
 *
 * - `spentMillis`: what the prompts of the same turn before this one took; it counts for the budget.
 * - `promptedMillis`: when the prompt left.
 * - `waitingMillis`: when the server last said that it works, or when the prompt left.
 * - `heardMillis`: when the stream last brought something.
 * - `progressMillis`: when something was last heard or read of the turn, or an ask was opened or closed.
 * - `hasStarted`: the stream brought something of this prompt.
 * - `endedMillis`: when the last message of the answer ended; `undefined` while none has.
 * - `ending`: there while the turn may have ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Known {
  readonly spentMillis: number
  readonly promptedMillis: number
  readonly waitingMillis: number
  readonly heardMillis: number
  readonly progressMillis: number
  readonly hasStarted: boolean
  readonly endedMillis: number | undefined
  readonly ending: Ending | undefined
}

/**
 * The turn may have ended since `sinceMillis`. `idleSinceMillis` is when a look first found its session idle, `nextLookMillis` is when
 * the record is read again.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ending {
  readonly sinceMillis: number
  readonly idleSinceMillis: number | undefined
  readonly nextLookMillis: number
}

/**
 * When each deadline passes; `Infinity` for one that does not run.
 *
 * **Details**
 *
 * - `firstEvent`: nothing of the prompt has been heard.
 * - `ended`: the last message has ended, and no `idle` has followed it.
 * - `nextLook`: the record is to be read again, because the turn may have ended.
 * - `finalExchange`: the record has been read for long enough.
 * - `next`: the soonest of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Due {
  readonly firstEvent: number
  readonly ended: number
  readonly nextLook: number
  readonly finalExchange: number
  readonly next: number
}

/**
 * @category getters
 * @since 0.1.0
 */
export const due = (
  { ending, endedMillis, hasStarted, heardMillis, waitingMillis }: Known,
  { finalExchangeMillis, firstEventMillis, pollMillis }: Limits
): Due => {
  const firstEvent = hasStarted ? never : waitingMillis + firstEventMillis
  // After the last message an `idle` is expected. None comes where it was lost, or where somebody else's prompt follows in the session:
  // what is heard then belongs to that prompt.
  const ended = endedMillis === undefined || ending !== undefined
    ? never
    : waitingMillis > endedMillis
    ? waitingMillis + pollMillis
    : endedMillis + endLookMillis
  const nextLook = ending?.nextLookMillis ?? never
  const finalExchange = ending === undefined ? never : Math.max(ending.sinceMillis, heardMillis) + finalExchangeMillis
  return { firstEvent, ended, nextLook, finalExchange, next: Math.min(firstEvent, ended, nextLook, finalExchange) }
}

/**
 * The budget's limit of time that is crossed first unless something comes before: what it allows in all, and when it is crossed. Both are
 * `Infinity` without a limit.
 *
 * @category models
 * @since 0.1.0
 */
export interface TimeLimit {
  readonly limit: "wallClock" | "stall"
  readonly allowedMillis: number
  readonly dueMillis: number
}

/**
 * @category getters
 * @since 0.1.0
 */
export const timeLimit = (
  { progressMillis, promptedMillis, spentMillis }: Known,
  { budget }: Limits
): TimeLimit => {
  const wallClockDue = crossedAt(promptedMillis - spentMillis, budget.wallClock)
  const stallDue = crossedAt(progressMillis, stallLimit(budget))
  return wallClockDue <= stallDue
    ? { limit: "wallClock", allowedMillis: TurnPolicy.limitMillis(budget.wallClock) ?? never, dueMillis: wallClockDue }
    : { limit: "stall", allowedMillis: TurnPolicy.limitMillis(stallLimit(budget)) ?? never, dueMillis: stallDue }
}

/**
 * Until when a look that begins now may wait for its answer. However slow the server is, the wait for the final exchange ends at most
 * one poll after its time.
 *
 * @category getters
 * @since 0.1.0
 */
export const patience = (known: Known, limits: Limits, nowMillis: number): number =>
  Math.max(
    Math.min(due(known, limits).finalExchange, nowMillis + limits.finalExchangeMillis),
    nowMillis + limits.pollMillis
  )

/**
 * The next look at a turn that may have ended at `sinceMillis`, after one that ended now and found its session idle or not.
 *
 * **Details**
 *
 * After the first look that finds the session idle a second one follows soon. All other looks are one poll apart, and each of the
 * `reposts` doubles that time: a server that has just been restarted may need seconds before it begins.
 *
 * @category combinators
 * @since 0.1.0
 */
export const lookAgain = (
  ending: Ending | undefined,
  { isIdle, nowMillis, pollMillis, reposts = 0, sinceMillis }: {
    readonly sinceMillis: number
    readonly nowMillis: number
    readonly pollMillis: number
    readonly isIdle: boolean
    readonly reposts?: number
  }
): Ending => {
  const idleSinceMillis = isIdle ? ending?.idleSinceMillis ?? nowMillis : undefined
  const secondLookAt = idleSinceMillis === undefined ? nowMillis : idleSinceMillis + secondLookMillis
  return {
    sinceMillis: ending?.sinceMillis ?? sinceMillis,
    idleSinceMillis,
    nextLookMillis: nowMillis < secondLookAt ? secondLookAt : nowMillis + pollMillis * 2 ** reposts
  }
}

/**
 * Whether two looks, some time apart, found the session idle.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isIdleForSure = (ending: Ending | undefined, nowMillis: number): boolean =>
  ending?.idleSinceMillis !== undefined && nowMillis >= ending.idleSinceMillis + secondLookMillis

/**
 * When a limit is crossed: in the first whole millisecond past it, because the clock counts whole ones.
 *
 * @category getters
 * @since 0.1.0
 */
export const crossedAt = (sinceMillis: number, limit: Duration.Input | undefined): number =>
  sinceMillis + Math.floor(TurnPolicy.limitMillis(limit) ?? never) + 1

/**
 * How long a turn may go without news: the budget's `stall`, or the default.
 *
 * @category getters
 * @since 0.1.0
 */
export const stallLimit = ({ stall }: Pick<TurnPolicy.Budget, "stall">): Duration.Input =>
  stall ?? TurnPolicy.defaultStall

// internal

const never = Number.POSITIVE_INFINITY

/** The server stores the end of a failed turn some 2 ms after its `idle` (1.18.33); a hundred times that is still soon. */
const secondLookMillis = 250

/** The `idle` follows some 10 ms after the end of the last message (1.18.33). */
const endLookMillis = 500
