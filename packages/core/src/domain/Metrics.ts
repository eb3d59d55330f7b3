/**
 * The metrics of this process, in Effect's registry: how many turns run, wait and end, and what goes wrong beside them.
 *
 * **Responsibilities**: the names, units and attributes, which dashboards rely on, and the few ways in which a metric changes.
 *
 * **Not responsibilities**: what is recorded of a turn's models and tools (`turn/GenAiMetrics`), exporting.
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
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"

// Above the metrics that are made with them: the boundaries of the conventions, for seconds and for tokens.
const doubling = Array.from({ length: 14 }, (_, exponent) => Number((0.01 * 2 ** exponent).toFixed(2)))
const quadrupling = Array.from({ length: 14 }, (_, exponent) => 4 ** exponent)

/**
 * Turns that ended, by `status` and `error.type`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const turns = counter("opencode_turn.turns", "{turn}", "Turns that ended")

/**
 * How long turns took from their start to their stored end, by `status`. It counts in the process that ends them.
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
 * How often models were called again because their provider failed.
 *
 * @category metrics
 * @since 0.1.0
 */
export const modelRetries = counter("opencode_turn.model.retries", "{retry}", "Calls of models that were repeated")

/**
 * What ended turns cost in US dollars, by `gen_ai.provider.name` and `gen_ai.request.model`.
 *
 * @category metrics
 * @since 0.1.0
 */
export const cost = counter("opencode_turn.cost", "USD", "Cost of ended turns in US dollars")

/**
 * What ended turns spent their time on, by `purpose`. The purposes add up to the duration of the turns.
 *
 * @category metrics
 * @since 0.1.0
 */
export const time = counter("opencode_turn.time", "s", "What ended turns spent their time on")

/**
 * What the time of a turn is spent on, as `Timing` of the result tells it.
 *
 * @category models
 * @since 0.1.0
 */
export const purposes = ["queue", "people", "model", "tools", "retries", "orphaned", "other"] as const

/**
 * How long agents worked, subagents too, by `gen_ai.agent.name`, `gen_ai.request.model` and `error.type`.
 *
 * @category conventions
 * @since 0.1.0
 */
export const invokeAgent = conventionSeconds("gen_ai.invoke_agent.duration", "Duration of the invocations of agents")

/**
 * How often an agent called a model, by `gen_ai.agent.name`. The calls of its subagents are theirs.
 *
 * @category conventions
 * @since 0.1.0
 */
export const inferenceCalls = calls(
  "gen_ai.invoke_agent.inference_calls",
  "{inference_call}",
  "Calls of models by an agent"
)

/**
 * How often an agent called a tool, by `gen_ai.agent.name`.
 *
 * @category conventions
 * @since 0.1.0
 */
export const toolCalls = calls("gen_ai.invoke_agent.tool_calls", "{tool_call}", "Calls of tools by an agent")

/**
 * How long tools ran, by `gen_ai.tool.name`, `gen_ai.agent.name` and `error.type`.
 *
 * @category conventions
 * @since 0.1.0
 */
export const executeTool = conventionSeconds("gen_ai.execute_tool.duration", "Duration of the calls of tools")

/**
 * How long models answered, by `gen_ai.provider.name`, `gen_ai.request.model` and `error.type`.
 *
 * @category conventions
 * @since 0.1.0
 */
export const inference = conventionSeconds("gen_ai.client.inference.duration", "Duration of the calls of models")

/**
 * How long models took to begin their answer.
 *
 * @category conventions
 * @since 0.1.0
 */
export const firstChunk = conventionSeconds(
  "gen_ai.client.inference.time_to_first_chunk",
  "Time until models began to answer"
)

/**
 * How long models took for each chunk of their output behind the first, as the mean of each call. The chunks are those that OpenCode sends.
 *
 * @category conventions
 * @since 0.1.0
 */
export const outputChunk = conventionSeconds(
  "gen_ai.client.inference.time_per_output_chunk",
  "Time for each chunk of output"
)

/**
 * Input tokens, those of the cache included.
 *
 * @category conventions
 * @since 0.1.0
 */
export const inputTokens = tokens("input_tokens", "Input tokens, those of the cache included")

/**
 * Output tokens, those of reasoning included.
 *
 * @category conventions
 * @since 0.1.0
 */
export const outputTokens = tokens("output_tokens", "Output tokens, those of reasoning included")

/**
 * Input tokens that the provider's cache served.
 *
 * @category conventions
 * @since 0.1.0
 */
export const cacheReadTokens = tokens("cache_read.input_tokens", "Input tokens that the provider's cache served")

/**
 * Input tokens that were written to the provider's cache.
 *
 * @category conventions
 * @since 0.1.0
 */
export const cacheWriteTokens = tokens("cache_write.input_tokens", "Input tokens written to the provider's cache")

/**
 * Output tokens of reasoning.
 *
 * @category conventions
 * @since 0.1.0
 */
export const reasoningTokens = tokens("reasoning.output_tokens", "Output tokens of reasoning")

/**
 * Input tokens of each call of a model.
 *
 * @category conventions
 * @since 0.1.0
 */
export const inputTokensOfCall = tokensOfCall(
  "gen_ai.client.inference.operation.input_tokens",
  "Input tokens of a call"
)

/**
 * Output tokens of each call of a model.
 *
 * @category conventions
 * @since 0.1.0
 */
export const outputTokensOfCall = tokensOfCall(
  "gen_ai.client.inference.operation.output_tokens",
  "Output tokens of a call"
)

/**
 * {@link inference} by its name in semantic-conventions 1.41.
 *
 * @category old conventions
 * @since 0.1.0
 */
export const oldInference = conventionSeconds("gen_ai.client.operation.duration", "Duration of the calls of models")

/**
 * {@link firstChunk} by its name in semantic-conventions 1.41.
 *
 * @category old conventions
 * @since 0.1.0
 */
export const oldFirstChunk = conventionSeconds(
  "gen_ai.client.operation.time_to_first_chunk",
  "Time until models began to answer"
)

/**
 * {@link outputChunk} by its name in semantic-conventions 1.41.
 *
 * @category old conventions
 * @since 0.1.0
 */
export const oldOutputChunk = conventionSeconds(
  "gen_ai.client.operation.time_per_output_chunk",
  "Time for each chunk of output"
)

/**
 * {@link inputTokensOfCall} and {@link outputTokensOfCall}, by `gen_ai.token.type`, as semantic-conventions 1.41 had them.
 *
 * @category old conventions
 * @since 0.1.0
 */
export const oldTokens = tokensOfCall("gen_ai.client.token.usage", "Input and output tokens of a call")

/**
 * Whether the metrics of models are also recorded by the names of semantic-conventions 1.41, which many dashboards still read: yes. They
 * repeat the new ones, and `gen_ai_latest_experimental` in `OTEL_SEMCONV_STABILITY_OPT_IN` leaves them out (`Telemetry.layer`).
 *
 * @category references
 * @since 0.1.0
 */
export const OldNames: Context.Reference<boolean> = Context.Reference<boolean>("@opencode-turn/core/Metrics/OldNames", {
  defaultValue: () => true
})

/**
 * Bounds the values of an attribute that come from outside: each new one makes series that a process and a collector keep for good.
 *
 * @category models
 * @since 0.1.0
 */
export type Limited = (attribute: string, value: string | undefined) => string | undefined

/**
 * Lets the first {@link maxValues} values of each attribute through, and gives `_OTHER` for the others.
 *
 * @category limits
 * @since 0.1.0
 */
export const limited: Effect.Effect<Limited> = Effect.map(Metric.MetricRegistry, (registry) => {
  const known = knownValues.get(registry) ?? new Map<string, Set<string>>()
  knownValues.set(registry, known)
  return (attribute, value) => {
    if (value === undefined) return undefined
    const values = known.get(attribute) ?? new Set<string>()
    known.set(attribute, values)
    if (values.has(value)) return value
    if (values.size >= maxValues || value.length > maxLength) return "_OTHER"
    values.add(value)
    return value
  }
})

/**
 * How many values an attribute may have in a process.
 *
 * @category limits
 * @since 0.1.0
 */
export const maxValues = 100

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

/** The boundaries of the conventions, which end long before a long turn does. */
function conventionSeconds(name: string, description: string): Metric.Histogram<number> {
  return Metric.histogram(name, { description, attributes: { unit: "s" }, boundaries: doubling })
}

function calls(name: string, unit: string, description: string): Metric.Histogram<number> {
  const boundaries = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024]
  return Metric.histogram(name, { description, attributes: { unit }, boundaries })
}

function tokens(name: string, description: string): Metric.Counter<number> {
  return counter(`gen_ai.client.inference.usage.${name}`, "{token}", description)
}

function tokensOfCall(name: string, description: string): Metric.Histogram<number> {
  return Metric.histogram(name, { description, attributes: { unit: "{token}" }, boundaries: quadrupling })
}

/** Turns take from a second to hours. */
function seconds(name: string, description: string): Metric.Histogram<number> {
  const boundaries = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200]
  return Metric.histogram(name, { description, attributes: { unit: "s" }, boundaries })
}

/** The values that attributes have in each registry. */
const knownValues = new WeakMap<object, Map<string, Set<string>>>()

const maxLength = 200

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
  ...purposes.map((purpose) => Metric.value(Metric.withAttributes(time, { purpose }))),
  ...[takeovers, gaps, journalFailures, lateLeases, modelRetries].map(Metric.value),
  ...[queueDuration, journalLag].map(Metric.value)
]
