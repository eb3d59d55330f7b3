/**
 * The metrics of the models, tools and agents of an ended turn, by OpenTelemetry's conventions for generative AI
 * (semantic-conventions-genai 0.1.0), with the turn's cost and where its time went.
 *
 * **Responsibilities**: each model step, tool call and agent of a turn counts once, in the process that ends the turn, whatever other
 * processes carried it before.
 *
 * **Not responsibilities**: what is counted while the turn runs (`domain/Metrics`).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Metrics from "../domain/Metrics.ts"
import * as Timeline from "../reply/Timeline.ts"
import * as Timing from "../reply/Timing.ts"
import * as GenAi from "./GenAi.ts"

/**
 * Records a turn. `errorType` is the tag of its error.
 *
 * @category recording
 * @since 0.1.0
 */
export const record = Effect.fnUntraced(function*(
  timeline: Timeline.Timeline,
  timing: Timing.Timing,
  errorType: string | undefined
): Effect.fn.Return<void> {
  const recorder: Recorder = {
    add: adding(yield* Effect.context<never>()),
    limited: yield* Metrics.limited,
    hasOldNames: yield* Metrics.OldNames
  }
  const models = new Map<string, ModelAttributes>()
  for (const run of Timeline.runs(timeline)) {
    const isRoot = run === timeline.root
    const millis = isRoot ? Timing.total(timing) : run.endedMillis - run.startedMillis
    recordRun(recorder, run, millis, isRoot ? errorType : GenAi.subagentError(run.status))
    for (const step of run.steps) {
      const name = step.model === undefined ? "" : Timeline.nameOf(step.model)
      const attributes = models.get(name) ?? modelAttributes(recorder.limited, step.model)
      models.set(name, attributes)
      recordStep(recorder, step, attributes)
    }
    for (const tool of run.tools) recordTool(recorder, tool, run.agent)
    recorder.add(Metrics.modelRetries, run.retries.length)
  }
  for (const purpose of Metrics.purposes) {
    recorder.add(Metrics.time, timing[`${purpose}Millis`] / 1000, { purpose })
  }
})

// internal

/** Attributes; those that are undefined are left out. */
type Attributes = Readonly<Record<string, string | undefined>>

interface Recorder {
  readonly add: <State>(metric: Metric.Metric<number, State>, value: number, attributes?: Attributes) => void
  readonly limited: Metrics.Limited
  readonly hasOldNames: boolean
}

/**
 * Updates metrics under attributes. A metric works out its series anew for each new object of attributes, which takes longer than the update
 * itself, so attributes that are used again should be the same object.
 */
const adding = (context: Context.Context<never>): Recorder["add"] => {
  const own = Context.get(context, Metric.CurrentMetricAttributes)
  const contexts = new Map<Attributes, Context.Context<never>>()
  const contextOf = (attributes: Attributes): Context.Context<never> => {
    const found = contexts.get(attributes)
    if (found !== undefined) return found
    const merged: Record<string, string> = { ...own }
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined) merged[name] = value
    const made = Context.add(context, Metric.CurrentMetricAttributes, merged)
    contexts.set(attributes, made)
    return made
  }
  return (metric, value, attributes = none) => metric.updateUnsafe(value, contextOf(attributes))
}

const none: Attributes = {}

/** A time in seconds. A clock that was set back makes none negative. */
const secondsBetween = (fromMillis: number, toMillis: number): number => Math.max(0, toMillis - fromMillis) / 1000

const recordRun = (
  { add, limited }: Recorder,
  { agent, steps, tools }: Timeline.AgentRun,
  millis: number,
  errorType: string | undefined
): void => {
  const attributes = { "gen_ai.agent.name": limited("agent", agent) }
  const model = steps.findLast(({ isSummary, model }) => model !== undefined && !isSummary)?.model
  add(Metrics.invokeAgent, secondsBetween(0, millis), {
    ...attributes,
    "gen_ai.request.model": limited("model", model?.modelId),
    "error.type": errorType
  })
  add(Metrics.inferenceCalls, steps.length, attributes)
  add(Metrics.toolCalls, tools.length, attributes)
}

/** The attributes of the calls of one model. */
interface ModelAttributes {
  readonly named: Attributes
  readonly chat: Attributes
  readonly input: Attributes
  readonly output: Attributes
}

const modelAttributes = (limited: Metrics.Limited, model: Timeline.ModelStep["model"]): ModelAttributes => {
  const named = {
    "gen_ai.provider.name": limited("provider", model && GenAi.providerName(model)),
    "gen_ai.request.model": limited("model", model?.modelId)
  }
  const chat = { "gen_ai.operation.name": "chat", ...named }
  return {
    named,
    chat,
    input: { ...chat, "gen_ai.token.type": "input" },
    output: { ...chat, "gen_ai.token.type": "output" }
  }
}

const recordStep = (
  { add, hasOldNames, limited }: Recorder,
  { answeredMillis, chunks = 0, error, finish, firstMillis, startedMillis, usage }: Timeline.ModelStep,
  attributes: ModelAttributes
): void => {
  const { chat, named } = attributes
  const { cost, tokens } = usage
  // Of a step that another process read, only the usage may be known.
  if (finish !== undefined || error !== undefined) {
    const ended = error === undefined ? chat : {
      ...chat,
      "error.type": "Upstream",
      "opencode.upstream.error": limited("error", error.name)
    }
    const seconds = secondsBetween(startedMillis, answeredMillis)
    add(Metrics.inference, seconds, ended)
    if (hasOldNames) add(Metrics.oldInference, seconds, ended)
  }
  if (firstMillis !== undefined) {
    const seconds = secondsBetween(startedMillis, firstMillis)
    add(Metrics.firstChunk, seconds, chat)
    if (hasOldNames) add(Metrics.oldFirstChunk, seconds, chat)
    const mean = secondsBetween(firstMillis, answeredMillis) / (chunks - 1)
    for (let chunk = 1; chunk < Math.min(chunks, maxChunks); chunk++) {
      add(Metrics.outputChunk, mean, chat)
      if (hasOldNames) add(Metrics.oldOutputChunk, mean, chat)
    }
  }
  const [input, output] = [GenAi.inputTokens(tokens), GenAi.outputTokens(tokens)]
  if (input + output > 0) {
    add(Metrics.inputTokens, input, chat)
    add(Metrics.outputTokens, output, chat)
    add(Metrics.cacheReadTokens, tokens.cacheRead, chat)
    add(Metrics.cacheWriteTokens, tokens.cacheWrite, chat)
    add(Metrics.reasoningTokens, tokens.reasoning, chat)
    add(Metrics.inputTokensOfCall, input, chat)
    add(Metrics.outputTokensOfCall, output, chat)
    if (hasOldNames) {
      add(Metrics.oldTokens, input, attributes.input)
      add(Metrics.oldTokens, output, attributes.output)
    }
  }
  add(Metrics.cost, cost, named)
}

/** Bounds what a call of a model costs here. */
const maxChunks = 1_000

const recordTool = (
  { add, limited }: Recorder,
  { endedMillis, part, startedMillis }: Timeline.ToolRun,
  agent: string | undefined
): void =>
  add(Metrics.executeTool, secondsBetween(startedMillis, endedMillis), {
    "gen_ai.tool.name": limited("tool", part.tool),
    "gen_ai.agent.name": limited("agent", agent),
    "error.type": GenAi.toolError(part)
  })
