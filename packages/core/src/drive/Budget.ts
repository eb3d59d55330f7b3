/**
 * The budget of a turn: what it may use, measured while it runs.
 *
 * **Responsibilities**: when a limit of `TurnPolicy.Budget` is crossed, and by how much; the prompts of the same turn before this one
 * count too.
 *
 * **Not responsibilities**: how large a turn may become (`TurnSize`); what becomes of a turn that is over its budget (`Conclude` aborts its
 * tree and keeps what was streamed).
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import { BudgetExceeded } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import * as Usage from "../domain/Usage.ts"
import * as Reply from "../reply/Reply.ts"
import { crossedAt, stallLimit, timeLimit } from "./Deadlines.ts"
import type { LiveReply } from "./LiveReply.ts"
import type { PromptCell } from "./PromptCell.ts"
import type { PromptState } from "./PromptState.ts"

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
 * Whether the budget is to be checked at once: an event brought something that may count, or the turn is too large.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isDue = (
  { cost, modelRetries, steps, tokens }: TurnPolicy.Budget,
  { isCheckDue, tooLarge }: PromptState
): boolean =>
  tooLarge !== undefined ||
  (isCheckDue && (cost !== undefined || tokens !== undefined || modelRetries !== undefined || steps !== undefined))

/**
 * When the budget is to be checked in any case, by the prompt's clock: a limit of time will be crossed then.
 *
 * @category getters
 * @since 0.1.0
 */
export const timeDue = (state: PromptState): number => timeLimit(state, state.limits).dueMillis

/**
 * Fails if the turn has crossed a limit.
 *
 * @category steps
 * @since 0.1.0
 */
export const checkNow = Effect.fnUntraced(function*(
  cell: PromptCell,
  live: Pick<LiveReply, "current">,
  spentBefore: SpentBefore
): Effect.fn.Return<void, BudgetExceeded> {
  const limits = yield* TurnPolicy.Budget
  const { progressMillis, tooLarge } = cell.state()
  cell.tell({ _tag: "Checked" })
  if (tooLarge !== undefined) return yield* tooLarge
  const now = spentOn([live.current()], wallClockMillis(cell))
  const spent = countsOf({
    usage: Usage.sum([spentBefore.usage, now.usage]),
    steps: spentBefore.steps + now.steps,
    retries: spentBefore.retries + now.retries,
    wallClockMillis: now.wallClockMillis
  })
  const stallMillis = cell.millis() - progressMillis
  yield* orFail(exceeded(limits, { ...spent, stallMillis }, () => Reply.trouble(live.current())))
})

/**
 * How long the turn has taken, with what it took before the prompt and without the time in which a person was asked.
 *
 * @category getters
 * @since 0.1.0
 */
export const wallClockMillis = (cell: PromptCell): number => {
  const { promptedMillis, spentMillis } = cell.state()
  return spentMillis + cell.millis() - promptedMillis
}

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
 * Fails if a turn that has its answer is over its budget: only then is it known what the last step used, and what subagents used is known
 * only from their records.
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
 * than what is left of the turn's time, and no more than the time that nothing may come for. What it took is added to `spentMillis`.
 *
 * @category steps
 * @since 0.1.0
 */
export const within = <A, E, R>(
  spentMillis: Ref.Ref<number>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | BudgetExceeded, R> =>
  Effect.gen(function*() {
    const limits = yield* TurnPolicy.Budget
    const clock = yield* Clock.Clock
    const begunNanos = clock.monotonicTimeNanosUnsafe()
    const tookMillis = () => Number((clock.monotonicTimeNanosUnsafe() - begunNanos) / 1_000_000n)
    const before = yield* Ref.get(spentMillis)
    const dueMillis = Math.min(crossedAt(-before, limits.wallClock), crossedAt(0, stallLimit(limits)))
    const spend = Effect.suspend(() => Ref.set(spentMillis, before + tookMillis()))
    const over = Effect.suspend(() => {
      const stallMillis = tookMillis()
      const spent = { ...nothing, wallClockMillis: before + stallMillis, stallMillis }
      return Effect.fail(
        exceeded(limits, spent) ?? new BudgetExceeded({ limit: "stall", allowed: 0, value: stallMillis })
      )
    })
    const untilDue: Effect.Effect<void> = Effect.suspend(() => {
      const leftMillis = dueMillis - tookMillis()
      return leftMillis <= 0 ? Effect.void : Effect.andThen(Effect.sleep(leftMillis), untilDue)
    })
    const limit = dueMillis === Number.POSITIVE_INFINITY ? Effect.never : Effect.andThen(untilDue, over)
    return yield* Effect.raceFirst(effect, limit).pipe(Effect.ensuring(spend))
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
 * The first limit that the turn has crossed. `lastTrouble` is what the error tells of the model, once there is one.
 *
 * @category predicates
 * @since 0.1.0
 */
export const exceeded = (
  limits: TurnPolicy.Budget,
  spent: Spent,
  lastTrouble: () => UpstreamFailure | undefined = () => undefined
): BudgetExceeded | undefined => {
  const over = (
    limit: BudgetExceeded["limit"],
    allowed: number | undefined,
    value: number
  ): BudgetExceeded | undefined => {
    if (allowed === undefined || value <= allowed) return undefined
    const last = lastTrouble()
    return new BudgetExceeded({ limit, allowed, value, ...(last !== undefined && { last }) })
  }
  return over("wallClock", TurnPolicy.limitMillis(limits.wallClock), spent.wallClockMillis) ??
    over("cost", limits.cost, spent.cost) ??
    over("tokens", limits.tokens, spent.tokens) ??
    over("modelRetries", limits.modelRetries, spent.modelRetries) ??
    over("steps", limits.steps, spent.steps) ??
    over("stall", TurnPolicy.limitMillis(stallLimit(limits)), spent.stallMillis)
}

/**
 * What is wrong with the limits: a name, and what it should be. `undefined` for limits that a turn can keep to.
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
