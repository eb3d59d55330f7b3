/**
 * Which spans a turn writes besides those of its agents, models and tools.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as TurnPolicy from "./TurnPolicy.ts"

/**
 * Runs a step of the pipeline, in a span of its own if `TurnPolicy.TraceDetail` asks for it.
 *
 * @category combinators
 * @since 0.1.0
 */
export const step = (name: string) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    TurnPolicy.TraceDetail,
    (detail): Effect.Effect<A, E, R> => detail === "turn" ? effect : Effect.withSpan(effect, name)
  )

/**
 * Runs a statement of a store, whose own span is dropped unless `TurnPolicy.TraceDetail` asks for it.
 *
 * @category combinators
 * @since 0.1.0
 */
export const statement = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    TurnPolicy.TraceDetail,
    (detail) => detail === "statements" ? effect : Effect.withTracerEnabled(effect, false)
  )
