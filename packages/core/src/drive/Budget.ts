/**
 * The budget of a turn: what it may use, measured while it runs.
 *
 * **Responsibilities**: when a limit of `TurnPolicy.Budget` is crossed, and by how much; what the tries of the same turn before
 * this one used counts too.
 *
 * **Not responsibilities**: how large a turn may become (`TurnSize`); what becomes of a turn that is over it (`Conclude` aborts its tree and keeps what was streamed).
 *
 * Nothing is polled. What counts is looked at when an event brought something that may count, once for all the events of a
 * flush; time is waited for by the {@link TurnClock}, which stands still while a person is asked.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { BudgetExceeded } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import * as Usage from "../domain/Usage.ts"
import * as Reply from "../reply/Reply.ts"
import type { LiveReply } from "./LiveReply.ts"
import * as TurnClock from "./TurnClock.ts"
import type { TurnSignals } from "./TurnSignals.ts"

/**
 * What a turn has used, in the units of `BudgetExceeded`. `stallMillis` is how long nothing has come.
 *
 * @category models
 * @since 0.1.0
 */
export interface Spent {
  readonly cost: number
  readonly tokens: number
  readonly modelRetries: number
  readonly steps: number
  readonly wallClockMillis: number
  readonly stallMillis: number
}

/**
 * What the prompts of the same turn before this one used. `wallClockMillis` is without the time in which a person was asked.
 *
 * @category models
 * @since 0.1.0
 */
export interface SpentBefore {
  readonly usage: Usage.Usage
  readonly steps: number
  readonly retries: number
  readonly wallClockMillis: number
}

/**
 * **Details**
 *
 * - `watch` fails as soon as a limit is crossed, and never succeeds.
 * - `wallClockMillis` is how long the turn has taken, with what it took before.
 * - `nextLimit` is the limit of time that is crossed first while nothing comes, and how long until then; `Infinity` without one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Budget {
  readonly watch: Effect.Effect<never, BudgetExceeded>
  readonly wallClockMillis: () => number
  readonly nextLimit: () => TimeLimit
}

/**
 * A limit of time: which one, how much it allows in all, and how much of that is left.
 *
 * @category models
 * @since 0.1.0
 */
export interface TimeLimit {
  readonly limit: "wallClock" | "stall"
  readonly allowedMillis: number
  readonly leftMillis: number
}

/**
 * The budget of a turn whose prompt leaves now.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(options: {
  readonly clock: TurnClock.TurnClock
  readonly live: Pick<LiveReply, "current">
  readonly signals: Pick<TurnSignals, "counted" | "lastProgressMillis">
  readonly spentBefore?: SpentBefore | undefined
}): Effect.fn.Return<Budget> {
  const { clock, live, signals, spentBefore = spentOn([], 0) } = options
  const limits = yield* TurnPolicy.Budget
  const promptedMillis = clock.now()
  const wallClockMillis = () => spentBefore.wallClockMillis + clock.now() - promptedMillis
  const check = Effect.suspend(() => {
    const now = spentOn([live.current()], wallClockMillis())
    return orFail(exceeded(limits, {
      ...countsOf({
        usage: Usage.sum([spentBefore.usage, now.usage]),
        steps: spentBefore.steps + now.steps,
        retries: spentBefore.retries + now.retries,
        wallClockMillis: now.wallClockMillis
      }),
      stallMillis: clock.now() - signals.lastProgressMillis()
    }, Reply.trouble(live.current())))
  })

  const wallClockDueMillis = crossedAt(promptedMillis - spentBefore.wallClockMillis, limits.wallClock)
  const stallDueMillis = () => crossedAt(signals.lastProgressMillis(), stallOf(limits))
  /** When a limit of time will be crossed unless something comes before. */
  const dueMillis = () => Math.min(wallClockDueMillis, stallDueMillis())
  const isCounted = limits.cost !== undefined || limits.tokens !== undefined || limits.modelRetries !== undefined ||
    limits.steps !== undefined
  const due = Effect.suspend(() => clock.until(dueMillis()))

  return {
    watch: (isCounted ? Effect.raceFirst(signals.counted, due) : due).pipe(
      Effect.andThen(check),
      Effect.forever({ disableYield: true })
    ),
    wallClockMillis,
    nextLimit: () => {
      const limit = wallClockDueMillis <= stallDueMillis() ? "wallClock" : "stall"
      const allowed = limit === "wallClock" ? limits.wallClock : stallOf(limits)
      return {
        limit,
        allowedMillis: TurnPolicy.limitMillis(allowed) ?? Number.POSITIVE_INFINITY,
        leftMillis: dueMillis() - clock.now()
      }
    }
  }
})

/**
 * What the replies to a turn's prompts used, their subagents included.
 *
 * @category getters
 * @since 0.1.0
 */
export const spentOn = (replies: ReadonlyArray<Reply.Reply>, wallClockMillis: number): SpentBefore => ({
  usage: Usage.sum(replies.map((reply) => Reply.turnUsage(reply).total)),
  steps: replies.reduce((sum, reply) => sum + Reply.steps(reply), 0),
  retries: replies.reduce((sum, reply) => sum + Reply.retries(reply), 0),
  wallClockMillis
})

/**
 * Fails if what a turn used that has its answer is over the budget: what the last step used is known only then, and what subagents
 * used only from their records.
 *
 * @category steps
 * @since 0.1.0
 */
export const check = Effect.fnUntraced(function*(
  spent: SpentBefore
): Effect.fn.Return<void, BudgetExceeded> {
  // The answer has come: nobody waits for anything any more.
  yield* orFail(exceeded(yield* TurnPolicy.Budget, { ...countsOf(spent), wallClockMillis: 0, stallMillis: 0 }))
})

/**
 * Runs what a turn does besides its prompts: finding its session, reading what an earlier owner left, making a prompt. It takes no more
 * than what is left of the turn's time, and no more than nothing may come for; what it took counts.
 *
 * @category steps
 * @since 0.1.0
 */
export const within = <A, E, R>(
  turn: { spentMillis: number },
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | BudgetExceeded, R> =>
  Effect.gen(function*() {
    const limits = yield* TurnPolicy.Budget
    const clock = yield* TurnClock.make
    const before = turn.spentMillis
    const dueMillis = Math.min(crossedAt(-before, limits.wallClock), crossedAt(0, stallOf(limits)))
    const spend = Effect.sync(() => {
      turn.spentMillis = before + clock.now()
    })
    const over = Effect.suspend(() => {
      const stallMillis = clock.now()
      const spent = { ...nothing, wallClockMillis: before + stallMillis, stallMillis }
      return Effect.fail(
        exceeded(limits, spent) ?? new BudgetExceeded({ limit: "stall", allowed: 0, value: stallMillis })
      )
    })
    return yield* Effect.raceFirst(effect, Effect.andThen(clock.until(dueMillis), over)).pipe(Effect.ensuring(spend))
  })

/**
 * What is left of the time that a turn may take; `Infinity` without a limit.
 *
 * @category getters
 * @since 0.1.0
 */
export const leftMillis = (spentMillis: number): Effect.Effect<number> =>
  Effect.map(
    TurnPolicy.Budget,
    ({ wallClock }) => Math.max(0, (TurnPolicy.limitMillis(wallClock) ?? Number.POSITIVE_INFINITY) - spentMillis)
  )

/**
 * The first limit that is crossed: of which more was used than is allowed.
 *
 * @category predicates
 * @since 0.1.0
 */
export const exceeded = (
  limits: TurnPolicy.Budget,
  spent: Spent,
  last?: UpstreamFailure | undefined
): BudgetExceeded | undefined => {
  const over = (
    limit: BudgetExceeded["limit"],
    allowed: number | undefined,
    value: number
  ): BudgetExceeded | undefined =>
    allowed !== undefined && value > allowed
      ? new BudgetExceeded({ limit, allowed, value, ...(last !== undefined && { last }) })
      : undefined
  return over("wallClock", TurnPolicy.limitMillis(limits.wallClock), spent.wallClockMillis) ??
    over("cost", limits.cost, spent.cost) ??
    over("tokens", limits.tokens, spent.tokens) ??
    over("modelRetries", limits.modelRetries, spent.modelRetries) ??
    over("steps", limits.steps, spent.steps) ??
    over("stall", TurnPolicy.limitMillis(stallOf(limits)), spent.stallMillis)
}

/**
 * What is wrong with the limits: a name, and what it should be. `undefined` for limits that can be kept to.
 *
 * @category predicates
 * @since 0.1.0
 */
export const flaw = (limits: TurnPolicy.Budget): string | undefined => {
  const { cost, messages, modelRetries, openAsks, parts, stall, steps, subagents, tokens, wallClock } = limits
  const values = {
    messages,
    openAsks,
    parts,
    subagents,
    cost,
    modelRetries,
    stall: TurnPolicy.limitMillis(stall),
    steps,
    tokens,
    wallClock: TurnPolicy.limitMillis(wallClock)
  }
  const wrong = Object.entries(values).find(([, value]) => value !== undefined && !(value >= 0))
  return wrong === undefined ? undefined : `${wrong[0]} is ${wrong[1]}, and has to be 0 or more`
}

// internal

const orFail = (over: BudgetExceeded | undefined): Effect.Effect<void, BudgetExceeded> =>
  over === undefined ? Effect.void : Effect.fail(over)

const countsOf = ({ retries, steps, usage: { cost, tokens }, wallClockMillis }: SpentBefore) => ({
  cost,
  tokens: tokens.input + tokens.output + tokens.reasoning + tokens.cacheRead + tokens.cacheWrite,
  modelRetries: retries,
  steps,
  wallClockMillis
})

const nothing = { cost: 0, tokens: 0, modelRetries: 0, steps: 0 }

const stallOf = ({ stall }: TurnPolicy.Budget): Duration.Input => stall ?? TurnPolicy.defaultStall

/** A limit is crossed in the first whole millisecond past it: a turn clock counts whole ones. */
const crossedAt = (sinceMillis: number, limit: Duration.Input | undefined): number =>
  sinceMillis + Math.floor(TurnPolicy.limitMillis(limit) ?? Number.POSITIVE_INFINITY) + 1
