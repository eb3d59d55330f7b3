/**
 * Protects a turn from the failures of callbacks, observers, gates and best-effort requests.
 *
 * A contained effect may fail, die, interrupt itself or hang. It is stopped at its time limit and reported to Effect's
 * `ErrorReporter` with its feature and context, and the turn goes on.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/**
 * A contained failure, as an error reporter receives it. `feature` names the part that failed.
 *
 * @category errors
 * @since 0.1.0
 */
export class ContainedFailure extends Schema.TaggedError<ContainedFailure>()("ContainedFailure", {
  feature: Schema.String,
  context: Schema.Record(Schema.String, Schema.String),
  cause: Schema.Defect()
}) {
  override get message() {
    return `${this.feature} failed; everything else went on`
  }
  override readonly [ErrorReporter.severity] = "Warn" as const
  override get [ErrorReporter.attributes]() {
    return { feature: this.feature, handled: true, ...this.context }
  }
}

/**
 * Runs an effect within a time limit; a failure is reported and gives `None`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const attempt = <A, E, R>(
  feature: string,
  context: Readonly<Record<string, string>>,
  limit: Duration.Input,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<Option.Option<A>, never, R> =>
  Effect.flatMap(isolated(effect, limit), (exit) =>
    Exit.isSuccess(exit)
      ? Effect.succeedSome(exit.value)
      : Effect.as(report(feature, context, exit.cause), Option.none<A>()))

/**
 * Reports a cause as contained, and logs one line about it at level Warn. The line has the context and the name of the error, but not its
 * message, which may hold what people or tools said.
 *
 * @category combinators
 * @since 0.1.0
 */
export const report = (
  feature: string,
  context: Readonly<Record<string, string>>,
  cause: Cause.Cause<unknown>
): Effect.Effect<void> => {
  const failure = new ContainedFailure({ feature, context, cause: Cause.squash(cause) })
  return Effect.logWarning(failure.message).pipe(
    Effect.annotateLogs({ feature, ...context, "error.type": nameOf(cause) }),
    Effect.andThen(ErrorReporter.report(Cause.fail(failure)))
  )
}

/**
 * The name of the error that a cause holds: its tag, or its class.
 *
 * @category getters
 * @since 0.1.0
 */
export const nameOf = (cause: Cause.Cause<unknown>): string => {
  if (Cause.hasInterruptsOnly(cause)) return "Interrupt"
  const error = Cause.squash(cause)
  if (Predicate.hasProperty(error, "_tag") && Predicate.isString(error._tag)) return error._tag
  return error instanceof Error ? error.name : typeof error
}

/**
 * Runs an effect without a time limit; a failure is reported and gives `None`. An interruption is passed on.
 *
 * @category combinators
 * @since 0.1.0
 */
export const reported =
  (feature: string, context: Readonly<Record<string, string>>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Option.Option<A>, never, R> =>
    effect.pipe(
      Effect.asSome,
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.interrupt
          : Effect.as(report(feature, context, cause), Option.none<A>())
      )
    )

/**
 * Runs the effect in its own fiber, so that it can interrupt only itself. After the limit the caller goes on, even if
 * the effect cannot be interrupted.
 *
 * @category combinators
 * @since 0.1.0
 */
export const isolated = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  limit: Duration.Input
): Effect.Effect<Exit.Exit<A, E | Cause.TimeoutError>, never, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkDetach(Effect.interruptible(effect), { startImmediately: true })
    const exit = yield* Fiber.await(fiber).pipe(
      Effect.timeoutOption(limit),
      Effect.onInterrupt(() => Effect.sync(() => fiber.interruptUnsafe()))
    )
    if (Option.isSome(exit)) return exit.value
    fiber.interruptUnsafe()
    return Exit.fail(new Cause.TimeoutError("it exceeded its time limit"))
  })
