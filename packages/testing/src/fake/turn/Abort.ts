/**
 * How the fake OpenCode aborts a session: what becomes of its own turn, and of those of its subagents.
 *
 * Owns who is stopped and when. What a stopped turn stores is `FakeTurn`'s.
 *
 * **Details**
 *
 * What an abort does depends on what the subagents are doing (1.18.33):
 *
 * - there are none, or their models answer: the turn stops where it is;
 * - one runs a tool: the task is cancelled, its step comes to its end, and the message after it is aborted; no `session.error`;
 * - one asks a person: the task is cancelled, and the turn *goes on* for another 250 ms, with a new call of the model and its
 *   tools. A turn that comes to its end in this time has never been aborted. What was asked stays open.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Latch from "effect/Latch"
import type { FakeState, StoredSession } from "../state/State.ts"
import type { FakeStep } from "./Step.ts"

/**
 * A turn under way.
 *
 * @category models
 * @since 0.1.0
 */
export interface Run {
  readonly session: StoredSession
  /** Opens when the session said that it is idle after an abort. */
  readonly stopped: Latch.Latch
  readonly ended: Deferred.Deferred<"answered" | "rejected">
  /** Opens when the task that this turn is for is not waited for any more. */
  readonly cancelled: Latch.Latch
  step: Pick<FakeStep, "abort" | "calls"> | undefined
  /** The step is a subtask: an abort cancels it and aborts the next step, whatever the subagent is doing. */
  isSubtask: boolean
  fiber: Fiber.Fiber<void> | undefined
  /** A prompt that arrives now is answered by a run of its own. */
  isEnding: boolean
  isAborted: boolean
  /** The abort is that of a session above this one. */
  isCancelled: boolean
  /** The message of the next step is aborted. */
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
 * How long a turn goes on after an abort while a subagent asks a person.
 *
 * @category constants
 * @since 0.1.0
 */
export const windowMillis = 250

/**
 * Aborts the session's turn; done when the session says that it is idle.
 *
 * @category combinators
 * @since 0.1.0
 */
export const abort = Effect.fnUntraced(function*(
  state: FakeState,
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

/** The session says that it is idle when the time is over, also if it had come to its end before. */
const interruptLater = (state: FakeState, run: Run): Effect.Effect<void> =>
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

/** What goes on in a turn at its deepest. */
const activityOf = (runs: Runs, run: Run): "ask" | "model" | "tool" => {
  const calls = run.step?.calls() ?? []
  if (calls.length === 0) return "model"
  const activities = subagentsOf(runs, run).map((subagent) => activityOf(runs, subagent))
  if (calls.some(({ isAsking }) => isAsking) || activities.includes("ask")) return "ask"
  return calls.some(({ child }) => child === undefined) || activities.includes("tool") ? "tool" : "model"
}
