/**
 * The metrics of this process, in Effect's registry: how many turns run, wait and end, and what goes wrong beside them.
 *
 * **Responsibilities**: the names, units and attributes, which dashboards rely on, and the few ways in which a metric changes.
 *
 * **Not responsibilities**: the metrics of models and tools (`turn/GenAiMetrics`), exporting.
 *
 * **Details**
 *
 * Names and units are those of OpenTelemetry. A page for Prometheus shows them as OpenTelemetry's exporter for Prometheus does:
 * `opencode_turn.turn.duration` in seconds becomes `opencode_turn_turn_duration_seconds`. Attributes have few values: none is an id or a
 * text of a person.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"

/**
 * Turns that ended, by `status` and `error.type`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const turns = counter("opencode_turn.turns", "{turn}", "Turns that ended")

/**
 * How long turns took in the process that ended them, by `status`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const turnDuration = seconds(
  "opencode_turn.turn.duration",
  "Duration of turns, from their start to their stored end"
)

/**
 * Turns that this process carries now, those that wait for a person included.
 *
 * @category metrics
 * @since 0.1.0
 */
export const running = gauge("opencode_turn.turns.running", "{turn}", "Turns that this process runs")

/**
 * Turns of this process that wait for a person now.
 *
 * @category metrics
 * @since 0.1.0
 */
export const waiting = gauge("opencode_turn.turns.waiting", "{turn}", "Running turns that wait for a person")

/**
 * Turns of this process that wait for the turns before them now.
 *
 * @category metrics
 * @since 0.1.0
 */
export const queued = gauge("opencode_turn.turns.queued", "{turn}", "Turns that wait for the turns before them")

/**
 * Turns without a living owner, as the last sweep of this worker found them.
 *
 * @category metrics
 * @since 0.1.0
 */
export const orphaned = gauge(
  "opencode_turn.turns.orphaned",
  "{turn}",
  "Turns without a living owner that a worker found"
)

/**
 * How long turns waited for the turns before them.
 *
 * @category metrics
 * @since 0.1.0
 */
export const queueDuration = seconds("opencode_turn.queue.duration", "How long turns waited for the turns before them")

/**
 * Turns that this process took over from another one.
 *
 * @category metrics
 * @since 0.1.0
 */
export const takeovers = counter(
  "opencode_turn.takeovers",
  "{takeover}",
  "Turns that were taken over from another process"
)

/**
 * Gaps in the event streams of turns: each time, a turn had to read from the server what it may have missed.
 *
 * @category metrics
 * @since 0.1.0
 */
export const gaps = counter("opencode_turn.stream.gaps", "{gap}", "Gaps in the event streams of turns")

/**
 * Asks without an answer now, by `kind` (`permission`, `question`), whoever is to answer them.
 *
 * @category metrics
 * @since 0.1.0
 */
export const openAsks = gauge("opencode_turn.asks.open", "{ask}", "What the agents ask and nobody has answered")

/**
 * How long asks waited for their answer, by `kind`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const askDuration = seconds("opencode_turn.ask.duration", "How long asks waited for their answer")

/**
 * How long a change of a reply took to reach the store. It is at least `TurnPolicy.SnapshotInterval`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const journalLag = seconds("opencode_turn.journal.lag", "How long changes of replies took to reach the store")

/**
 * Writes to the journal that failed. The next write makes up for each of them.
 *
 * @category metrics
 * @since 0.1.0
 */
export const journalFailures = counter("opencode_turn.journal.failures", "{write}", "Writes to the journal that failed")

/**
 * Renewals of leases that came more than one `TurnPolicy.LeaseRenewal` late. Too many of them cost the process its turns.
 *
 * @category metrics
 * @since 0.1.0
 */
export const lateLeases = counter("opencode_turn.lease.late", "{renewal}", "Renewals of leases that came late")

/**
 * Registers every metric, so that an exporter shows those that did not change yet as zero. An alert cannot see the first increase of a
 * counter that was absent before.
 *
 * @category registration
 * @since 0.1.0
 */
export const register: Effect.Effect<void> = Effect.suspend(() =>
  Effect.forEach(initial, (value) => value, { discard: true })
)

/**
 * Adds one.
 *
 * @category updates
 * @since 0.1.0
 */
export const count = (metric: Metric.Counter<number>): Effect.Effect<void> => Metric.update(metric, 1)

/**
 * Records a time that is given in milliseconds.
 *
 * @category updates
 * @since 0.1.0
 */
export const record = (metric: Metric.Histogram<number>, millis: number): Effect.Effect<void> =>
  Metric.update(metric, Math.max(0, millis) / 1000)

/**
 * Counts the caller until its scope closes.
 *
 * @category updates
 * @since 0.1.0
 */
export const held = (metric: Metric.Gauge<number>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(Metric.modify(metric, 1), () => Metric.modify(metric, -1))

/**
 * Counts an effect while it runs, and records how long it took, however it ends.
 *
 * @category combinators
 * @since 0.1.0
 */
export const during =
  (metric: Metric.Gauge<number>, duration: Metric.Histogram<number>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.acquireUseRelease(
      Effect.andThen(Metric.modify(metric, 1), Clock.currentTimeMillis),
      () => effect,
      (startedMillis) =>
        Effect.andThen(
          Metric.modify(metric, -1),
          Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => record(duration, nowMillis - startedMillis))
        )
    )

// internal

function counter(name: string, unit: string, description: string): Metric.Counter<number> {
  return Metric.counter(name, { description, attributes: { unit }, incremental: true })
}

function gauge(name: string, unit: string, description: string): Metric.Gauge<number> {
  return Metric.gauge(name, { description, attributes: { unit } })
}

/** Turns take from a second to hours. */
function seconds(name: string, description: string): Metric.Histogram<number> {
  const boundaries = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200]
  return Metric.histogram(name, { description, attributes: { unit: "s" }, boundaries })
}

const kinds = [{ kind: "permission" }, { kind: "question" }]
const statuses = [{ status: "completed" }, { status: "cancelled" }, { status: "error" }, { status: "failed" }]

/** To read a metric registers it. */
const initial: ReadonlyArray<Effect.Effect<unknown>> = [
  ...statuses.flatMap((status) => [
    Metric.value(Metric.withAttributes(turns, status)),
    Metric.value(Metric.withAttributes(turnDuration, status))
  ]),
  ...kinds.flatMap((kind) => [
    Metric.value(Metric.withAttributes(openAsks, kind)),
    Metric.value(Metric.withAttributes(askDuration, kind))
  ]),
  ...[running, waiting, queued, orphaned].map(Metric.value),
  ...[takeovers, gaps, journalFailures, lateLeases].map(Metric.value),
  ...[queueDuration, journalLag].map(Metric.value)
]
