/**
 * Runs the product's callbacks and observers so that they cannot change the turn.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Predicate from "effect/Predicate"
import * as Contained from "./Contained.ts"
import { Tracer } from "./Tracer.ts"
import * as TurnPolicy from "./TurnPolicy.ts"

/**
 * Runs a callback of the product within `TurnPolicy.CallbackTimeout`, and says whether it succeeded. What goes wrong is reported
 * and traced as `callback.error`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const callback = <E, R>(
  name: string,
  context: Readonly<Record<string, string>>,
  f: () => Effect.Effect<void, E, R>
): Effect.Effect<boolean, never, R | Tracer> =>
  Effect.gen(function*() {
    const tracer = yield* Tracer
    const exit = yield* Contained.isolated(Effect.suspend(f), yield* TurnPolicy.CallbackTimeout)
    if (Exit.isSuccess(exit)) return true
    yield* Contained.report(name, context, exit.cause)
    yield* tracer.emit("callback.error", { callback: name, error_class: classOf(exit.cause) })
    return false
  })

// internal

const classOf = (cause: Cause.Cause<unknown>): string => {
  if (Cause.hasInterruptsOnly(cause)) return "Interrupt"
  const error = Cause.squash(cause)
  if (Predicate.hasProperty(error, "_tag") && Predicate.isString(error._tag)) return error._tag
  return error instanceof Error ? error.name : typeof error
}
