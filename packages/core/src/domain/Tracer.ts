/**
 * Named trace events of a turn, for dashboards and alerts.
 *
 * **Responsibilities**: the names and payload keys below, which dashboards rely on (snake_case; durations in
 * milliseconds), and the delivery of the events.
 * **Not responsibilities**: Effect's own spans and metrics; every public function of the pipeline has its span.
 *
 * **Event contract**: `response.started` comes before the stream's events, and those come before `turn.finished`.
 * `turn.finished` comes once and last, after the durable write. `response.upstream_error` comes right before the
 * `response.error` that it explains.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Contained from "./Contained.ts"
import * as TurnPolicy from "./TurnPolicy.ts"

/**
 * The payload of `turn.finished`. The times from `queue_ms` to `other_ms` add up to `duration_ms`. `error` is the error's tag; `error_message` has at most 200 characters.
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnFinished {
  readonly status: "completed" | "cancelled" | "error" | "failed"
  readonly duration_ms: number
  readonly cost: number
  readonly input_tokens: number
  readonly output_tokens: number
  readonly tool_count: number
  readonly finish: string | null
  readonly first_token_ms: number | null
  readonly queue_ms: number
  readonly people_ms: number
  readonly model_ms: number
  readonly tools_ms: number
  readonly retries_ms: number
  readonly orphaned_ms: number
  readonly other_ms: number
  readonly error: string | null
  readonly error_message: string | null
}

/**
 * Every trace event with its payload. `subject_id` is the conversation, `message_id` the stored assistant message.
 *
 * @category models
 * @since 0.1.0
 */
export interface TraceEvents {
  readonly "response.started": { readonly subject_id: string; readonly message_id: string }
  readonly "session.created": { readonly session_id: string; readonly subject_id: string }
  readonly "session.field_dropped": {
    readonly session_id: string
    readonly subject_id: string
    readonly field: "metadata" | "variant"
  }
  readonly "session.recreated_with_resend": { readonly session_id: string; readonly subject_id: string }
  readonly "session.lost": {
    readonly session_id: string
    readonly subject_id: string
    readonly decision: "resend" | "fail"
    readonly tool_count: number
  }
  readonly "stream.completed": {
    readonly duration_ms: number
    readonly first_token_ms: number | null
    readonly event_count: number
    readonly tool_count: number
  }
  readonly "stream.interrupted": {
    readonly duration_ms: number
    readonly event_count: number
    readonly error: string
    readonly error_message: string
  }
  readonly "response.waiting_for_final_text": { readonly message_id: string; readonly subject_id: string }
  readonly "response.recovered_from_exchange": { readonly message_id: string }
  readonly "response.upstream_error": {
    readonly error_name: string
    readonly error_message: string
    readonly status_code: number | null
    readonly provider_url: string | null
  }
  readonly "response.error": {
    readonly reason: "upstream_llm_error" | "empty_stream"
    readonly message_id: string
    readonly subject_id: string
  }
  readonly "callback.error": { readonly callback: string; readonly error_class: string }
  readonly "turn.finished": TurnFinished
}

/**
 * @category models
 * @since 0.1.0
 */
export type TraceName = keyof TraceEvents

/**
 * A trace event as a sink receives it. Its name has the product's prefix: `opencode.turn.finished`.
 *
 * @category models
 * @since 0.1.0
 */
export interface TraceEvent {
  readonly name: string
  readonly payload: Readonly<Record<string, string | number | null>>
}

/**
 * @category services
 * @since 0.1.0
 */
export class Tracer extends Context.Service<Tracer, {
  readonly emit: <Name extends TraceName>(name: Name, payload: TraceEvents[Name]) => Effect.Effect<void>
}>()("@opencode-turn/core/Tracer") {}

/**
 * The options of every layer: `prefix` comes before each event's name, `opencode` by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly prefix?: string
}

/**
 * Makes a tracer that passes its events to a function. If the function fails, or exceeds `TurnPolicy.CallbackTimeout`,
 * the failure is reported and changes nothing.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (sink: (event: TraceEvent) => Effect.Effect<void>, options?: Options): Tracer["Service"] => {
  const prefix = options?.prefix ?? "opencode"
  return Tracer.of({
    emit: Effect.fnUntraced(function*(name, payload) {
      const event: TraceEvent = { name: `${prefix}.${name}`, payload: { ...payload } }
      const limit = yield* TurnPolicy.CallbackTimeout
      yield* Contained.attempt("trace", { event: event.name }, limit, Effect.suspend(() => sink(event)))
    })
  })
}

/**
 * A tracer that emits nothing.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNoop: Layer.Layer<Tracer> = Layer.succeed(Tracer, make(() => Effect.void))

/**
 * Logs each event at level Info, with its payload as annotations.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerLog = (options?: Options): Layer.Layer<Tracer> =>
  Layer.succeed(
    Tracer,
    make(({ name, payload }) => Effect.annotateLogs(Effect.logInfo(name), payload), options)
  )

/**
 * Adds each event to the current span.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSpan = (options?: Options): Layer.Layer<Tracer> =>
  Layer.succeed(
    Tracer,
    make(
      ({ name, payload }) =>
        Effect.gen(function*() {
          const span = yield* Effect.option(Effect.currentSpan)
          if (Option.isNone(span)) return
          span.value.event(name, yield* Clock.currentTimeNanos, payload)
        }),
      options
    )
  )

/**
 * The trace events of a test, oldest first.
 *
 * @category services
 * @since 0.1.0
 */
export class TraceLog extends Context.Service<TraceLog, {
  readonly events: Effect.Effect<ReadonlyArray<TraceEvent>>
}>()("@opencode-turn/core/Tracer/TraceLog") {}

/**
 * Collects the events in memory, for tests.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerCollect = (options?: Options): Layer.Layer<Tracer | TraceLog> =>
  Layer.effectContext(Effect.gen(function*() {
    const events = yield* Ref.make<ReadonlyArray<TraceEvent>>([])
    return Context.make(Tracer, make((event) => Ref.update(events, (all) => [...all, event]), options)).pipe(
      Context.add(TraceLog, TraceLog.of({ events: Ref.get(events) }))
    )
  }))

/**
 * Runs a callback of the product within `TurnPolicy.CallbackTimeout`, and returns whether it succeeded. A failure is
 * reported and traced as `callback.error`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const callback = <E, R>(
  name: string,
  context: Readonly<Record<string, string>>,
  f: () => Effect.Effect<void, E, R>
): Effect.Effect<boolean, never, R | Tracer> => callbackOften(name, context)(f)

/**
 * A {@link callback} that is called many times in one turn. Only its first failure is reported and traced: a broken callback fails at
 * every call, and one report says that.
 *
 * @category combinators
 * @since 0.1.0
 */
export const callbackOften = (name: string, context: Readonly<Record<string, string>>) => {
  let hasFailed = false
  return <E, R>(f: () => Effect.Effect<void, E, R>): Effect.Effect<boolean, never, R | Tracer> =>
    Effect.gen(function*() {
      const tracer = yield* Tracer
      const exit = yield* Contained.isolated(Effect.suspend(f), yield* TurnPolicy.CallbackTimeout)
      if (Exit.isSuccess(exit)) return true
      if (hasFailed) return false
      hasFailed = true
      yield* Contained.report(name, context, exit.cause)
      yield* tracer.emit("callback.error", { callback: name, error_class: Contained.nameOf(exit.cause) })
      return false
    })
}

// internal
