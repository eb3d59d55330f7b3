/**
 * Aborts in the fake OpenCode: their effect on a session's own turn and on the turns of its subagents.
 *
 * **Responsibilities**: which turns stop, and when. `Turn` decides what a stopped turn stores.
 *
 * **Details**
 *
 * The effect of an abort depends on the subagents (1.18.33):
 *
 * - Without subagents, or while their models answer, the turn stops where it is.
 * - While a subagent runs a tool, the task is cancelled, its step finishes, and the next message is aborted, without `session.error`.
 * - While a subagent asks a person, the task is cancelled and the turn *continues* for another 250 ms, with a new call of the model and
 *   its tools. If the turn ends in that time, the abort has no effect on it. The ask stays open.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Latch from "effect/Latch"
import type { State, StoredSession } from "./State.ts"
import type { Step } from "./Step.ts"

/**
 * A running turn.
 *
 * @category models
 * @since 0.1.0
 */
export interface Run {
  readonly session: StoredSession
  /** Opens when the session has reported that it is idle after an abort. */
  readonly stopped: Latch.Latch
  readonly ended: Deferred.Deferred<"answered" | "rejected">
  /** Opens when nothing waits for this turn's task any more. */
  readonly cancelled: Latch.Latch
  step: Pick<Step, "abort" | "calls" | "close" | "isWaiting"> | undefined
  /** Whether the step is a subtask. An abort cancels it and aborts the next step, whatever the subagent does. */
  isSubtask: boolean
  fiber: Fiber.Fiber<void> | undefined
  /** Whether a prompt that arrives now gets its own run. */
  isEnding: boolean
  isAborted: boolean
  /** Whether the abort is that of a parent session. */
  isCancelled: boolean
  /** Whether the message of the next step is aborted. */
  isAbortDue: boolean
  isCrashed: boolean
  isRejected: boolean
  isWanted: boolean
}

/**
 * @category models
 * @since 0.1.0
 */
export type Runs = Map<StoredSession, Run>

/**
 * The time that a turn continues after an abort while a subagent asks a person.
 *
 * @category constants
 * @since 0.1.0
 */
export const windowMillis = 250

/**
 * Aborts the session's turn. It is done when the session reports that it is idle.
 *
 * @category combinators
 * @since 0.1.0
 */
export const abort = Effect.fnUntraced(function*(
  state: State,
  runs: Runs,
  session: StoredSession
): Effect.fn.Return<void> {
  const run = runs.get(session)
  if (run === undefined) return
  const subagents = subagentsOf(runs, run)
  const activities = subagents.map((subagent) => activityOf(runs, subagent))
  const isBusyElsewhere = run.step?.calls().some(({ child }) => child === undefined) === true
  const isModelBusy = activities.every((activity) => activity === "model")
  if (isBusyElsewhere || subagents.length === 0 || (isModelBusy && !run.isSubtask)) return yield* interrupt(run)

  const descendants = subagents.flatMap((subagent) => withDescendants(runs, subagent))
  const leaves = descendants.filter((subagent) => subagentsOf(runs, subagent).length === 0)
  const others = [...descendants.filter((subagent) => !leaves.includes(subagent)).toReversed(), run]
  const isAsking = activities.includes("ask")
  for (const other of others) other.isAbortDue = !isAsking
  for (const subagent of descendants) subagent.isCancelled = true
  yield* Effect.forEach(leaves, interrupt)
  for (const subagent of descendants) subagent.cancelled.openUnsafe()
  yield* Effect.forEach(
    others,
    (other) => isAsking ? interruptLater(state, other) : Deferred.await(other.ended),
    { concurrency: "unbounded" }
  )
})

// internal

const interrupt = (run: Run): Effect.Effect<void> =>
  Effect.suspend(() => {
    run.fiber?.interruptUnsafe()
    return run.stopped.await
  })

/** After the time is over the session reports that it is idle, even if its turn had already ended. */
const interruptLater = (state: State, run: Run): Effect.Effect<void> =>
  Deferred.await(run.ended).pipe(
    Effect.andThen(Effect.sync(() => state.setStatus(run.session, { type: "idle" }))),
    Effect.timeoutOrElse({ duration: windowMillis, orElse: () => interrupt(run) })
  )

const subagentsOf = (runs: Runs, run: Run): ReadonlyArray<Run> =>
  (run.step?.calls() ?? []).flatMap(({ child }) => {
    const subagent = child && runs.get(child)
    return subagent ?? []
  })

const withDescendants = (runs: Runs, run: Run): ReadonlyArray<Run> => [
  run,
  ...subagentsOf(runs, run).flatMap((subagent) => withDescendants(runs, subagent))
]

/** The activity of the innermost subagent. */
const activityOf = (runs: Runs, run: Run): "ask" | "model" | "tool" => {
  const calls = run.step?.calls() ?? []
  if (calls.length === 0) return "model"
  const activities = subagentsOf(runs, run).map((subagent) => activityOf(runs, subagent))
  if (calls.some(({ isAsking }) => isAsking) || activities.includes("ask")) return "ask"
  return calls.some(({ child }) => child === undefined) || activities.includes("tool") ? "tool" : "model"
}
