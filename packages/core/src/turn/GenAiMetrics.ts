/**
 * The metrics of the models, tools and agents of an ended turn, by OpenTelemetry's conventions for generative AI
 * (semantic-conventions-genai 0.1.0), with the turn's cost and where its time went.
 *
 * **Responsibilities**: each model step, tool call and agent of a turn counts once, in the process that ends the turn, whatever other
 * processes carried it before.
 *
 * **Not responsibilities**: what is counted while the turn runs (`domain/Metrics`).
 *
 * `gen_ai.client.inference.time_per_output_chunk` is missing: the server joins the chunks of a model.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as GenAi from "../domain/GenAi.ts"
import * as Metrics from "../domain/Metrics.ts"
import * as Timeline from "../reply/Timeline.ts"
import type { Timing } from "../reply/Timing.ts"

/**
 * Records a turn. `errorType` is the tag of its error.
 *
 * @category recording
 * @since 0.1.0
 */
export const record = Effect.fnUntraced(function*(
  timeline: Timeline.Timeline,
  timing: Timing,
  errorType: string | undefined
): Effect.fn.Return<void> {
  const hasOldNames = yield* Metrics.OldNames
  const limited = yield* Metrics.limited
  const { queuedMillis, root } = timeline
  for (const run of Timeline.runs(timeline)) {
    if (run === root) yield* recordRun({ ...run, startedMillis: run.startedMillis + queuedMillis }, errorType, limited)
    // A subagent is cancelled with its turn, or by its parent.
    else yield* recordRun(run, run.status === "error" ? "_OTHER" : undefined, limited)
    for (const step of run.steps) yield* recordStep(step, limited, hasOldNames)
    for (const tool of run.tools) yield* recordTool(tool, run.agent, limited)
    yield* Metric.update(Metrics.modelRetries, run.retries.length)
  }
  yield* Effect.forEach(
    Metrics.purposes,
    (purpose) => Metric.update(Metric.withAttributes(Metrics.time, { purpose }), timing[`${purpose}Millis`] / 1000),
    {
      discard: true
    }
  )
})

// internal

const recordRun = Effect.fnUntraced(function*(
  { agent, endedMillis, startedMillis, steps, tools }: Timeline.AgentRun,
  errorType: string | undefined,
  limited: Metrics.Limited
) {
  const attributes = attributesOf({ "gen_ai.agent.name": limited("agent", agent) })
  const model = steps.findLast(({ isSummary, model }) => model !== undefined && !isSummary)?.model
  yield* Metrics.record(
    Metric.withAttributes(Metrics.invokeAgent, {
      ...attributes,
      ...attributesOf({ "gen_ai.request.model": limited("model", model?.modelId), "error.type": errorType })
    }),
    endedMillis - startedMillis
  )
  yield* Metric.update(Metric.withAttributes(Metrics.inferenceCalls, attributes), steps.length)
  yield* Metric.update(Metric.withAttributes(Metrics.toolCalls, attributes), tools.length)
})

const recordStep = Effect.fnUntraced(function*(
  { answeredMillis, error, finish, firstMillis, model, startedMillis, usage: { cost, tokens } }: Timeline.ModelStep,
  limited: Metrics.Limited,
  hasOldNames: boolean
) {
  const named = attributesOf({
    "gen_ai.provider.name": limited("provider", model && GenAi.providerName(model)),
    "gen_ai.request.model": limited("model", model?.modelId)
  })
  const attributes = { "gen_ai.operation.name": "chat", ...named }
  const as = <Input, State>(metric: Metric.Metric<Input, State>, more: Readonly<Record<string, string>> = {}) =>
    Metric.withAttributes(metric, { ...attributes, ...more })
  // Of a step that another process read, only the usage may be known.
  if (finish !== undefined || error !== undefined) {
    const failed = attributesOf({ "error.type": limited("error", error?.name) })
    for (const metric of [Metrics.inference, ...(hasOldNames ? [Metrics.oldInference] : [])]) {
      yield* Metrics.record(as(metric, failed), answeredMillis - startedMillis)
    }
  }
  if (firstMillis !== undefined) {
    for (const metric of [Metrics.firstChunk, ...(hasOldNames ? [Metrics.oldFirstChunk] : [])]) {
      yield* Metrics.record(as(metric), firstMillis - startedMillis)
    }
  }
  const [input, output] = [GenAi.inputTokens(tokens), GenAi.outputTokens(tokens)]
  if (input + output > 0) {
    yield* Metric.update(as(Metrics.inputTokens), input)
    yield* Metric.update(as(Metrics.outputTokens), output)
    yield* Metric.update(as(Metrics.cacheReadTokens), tokens.cacheRead)
    yield* Metric.update(as(Metrics.cacheWriteTokens), tokens.cacheWrite)
    yield* Metric.update(as(Metrics.reasoningTokens), tokens.reasoning)
    yield* Metric.update(as(Metrics.inputTokensOfCall), input)
    yield* Metric.update(as(Metrics.outputTokensOfCall), output)
    if (hasOldNames) {
      yield* Metric.update(as(Metrics.oldTokens, { "gen_ai.token.type": "input" }), input)
      yield* Metric.update(as(Metrics.oldTokens, { "gen_ai.token.type": "output" }), output)
    }
  }
  yield* Metric.update(Metric.withAttributes(Metrics.cost, named), cost)
})

const recordTool = (
  { endedMillis, part, startedMillis }: Timeline.ToolRun,
  agent: string | undefined,
  limited: Metrics.Limited
) =>
  Metrics.record(
    Metric.withAttributes(
      Metrics.executeTool,
      attributesOf({
        "gen_ai.tool.name": limited("tool", part.tool),
        "gen_ai.agent.name": limited("agent", agent),
        "error.type": GenAi.toolErrorType(part)
      })
    ),
    endedMillis - startedMillis
  )

/** The attributes that are known. */
const attributesOf = (attributes: Readonly<Record<string, string | undefined>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(attributes).flatMap(([name, value]) => value === undefined ? [] : [[name, value]]))
