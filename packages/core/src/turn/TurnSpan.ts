/**
 * The spans of a turn.
 *
 * **Responsibilities**: the span of the turn itself, and below it, once the turn has ended, one span for each model step, tool, subagent
 * and wait of its {@link Timeline}.
 *
 * **Not responsibilities**: the spans of the pipeline's steps (`Tracing`), the names of attributes (`GenAi`), and sending spans.
 *
 * ```
 * invoke_agent build                     the turn
 * ├ chat claude-sonnet-4-5               a call of the model; its retries are events
 * ├ execute_tool task
 * │ └ invoke_agent general               a subagent
 * │   ├ chat …
 * │   └ execute_tool bash
 * │     └ wait_for_person permission
 * └ chat …
 * ```
 *
 * The process that ends the turn writes the spans below the turn's, at the end. So each step is written once, with its cost, also if
 * other processes died meanwhile.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Headers from "effect/http/Headers"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Tracer from "effect/Tracer"
import type { ConversationId, MessageId } from "../domain/Ids.ts"
import type { Part } from "../domain/Part.ts"
import type { ModelRef, PromptPart } from "../domain/Prompt.ts"
import { modelOf } from "../domain/Prompt.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as Usage from "../domain/Usage.ts"
import { Client } from "../opencode/Client.ts"
import * as Reply from "../reply/Reply.ts"
import * as Timeline from "../reply/Timeline.ts"
import type { StoredMessage, StoreError } from "../store/SessionStore.ts"
import * as GenAi from "./GenAi.ts"
import { safeMessage, type TurnError } from "./TurnError.ts"
import type { TurnResult } from "./TurnResult.ts"

/**
 * What is known of a turn when its span begins.
 *
 * @category models
 * @since 0.1.0
 */
export interface Beginning {
  readonly conversationId: string
  readonly messageId: string | undefined
  readonly agent: string | undefined
  readonly model: string | undefined
  readonly hasOutput: boolean
}

/**
 * Runs a turn in its span. The conversation's id is written on each span below it, too.
 *
 * @category combinators
 * @since 0.1.0
 */
export const within = <R>(
  beginning: Beginning,
  run: (span: Tracer.Span) => Effect.Effect<TurnResult, StoreError, R>
): Effect.Effect<TurnResult, StoreError, R | Client> =>
  Effect.gen(function*() {
    const { agent, conversationId, hasOutput, messageId, model } = beginning
    const client = yield* Client
    const attributes: GenAi.Attributes = {
      "gen_ai.operation.name": "invoke_agent",
      "gen_ai.agent.name": agent,
      "gen_ai.conversation.id": conversationId,
      "gen_ai.output.type": hasOutput ? "json" : "text",
      "opencode.message.id": messageId,
      ...GenAi.ofModel(model === undefined ? undefined : modelOf(model)),
      ...GenAi.ofServer(client.origin)
    }
    const options = { kind: "client", attributes: known(attributes) } as const
    return yield* Effect.useSpan(agentSpan(agent), options, (span) =>
      run(span).pipe(
        Effect.onExit((exit) => Effect.map(Clock.currentTimeNanos, (now) => endTurn(span, exit, now))),
        Effect.withParentSpan(span, { captureStackTrace: false }),
        Effect.annotateSpans("gen_ai.conversation.id", conversationId)
      ))
  })

/**
 * Where the trace of a turn began, as another process may link to it. It is undefined if nobody traces.
 *
 * @category getters
 * @since 0.1.0
 */
export const traceparentOf = (span: Tracer.Span): Effect.Effect<string | undefined> =>
  Effect.map(isTraced(span), (isTraced) => isTraced ? HttpTraceContext.toHeaders(span)["traceparent"] : undefined)

/**
 * Links the span of a turn to the trace in which the turn began, if that is another one.
 *
 * @category steps
 * @since 0.1.0
 */
export const link = (span: Tracer.Span, { draft }: StoredMessage): Effect.Effect<void> =>
  Effect.sync(() => {
    if (draft?.traceparent === undefined) return
    const began = HttpTraceContext.w3c(Headers.fromRecordUnsafe({ traceparent: draft.traceparent }))
    if (Option.isNone(began) || began.value.spanId === span.spanId) return
    span.addLinks([{ span: began.value, attributes: { "opencode.link": "began" } }])
  })

/**
 * What a turn did, for its spans. The replies are read only where contents are written.
 *
 * @category models
 * @since 0.1.0
 */
export interface Done {
  readonly conversationId: ConversationId
  readonly timeline: Timeline.Timeline
  readonly replies: ReadonlyArray<Reply.Reply>
  readonly prompt: ReadonlyArray<PromptPart>
  readonly system: string | undefined
}

/**
 * Writes the spans below that of a turn that has ended.
 *
 * @category steps
 * @since 0.1.0
 */
export const write = Effect.fnUntraced(function*(span: Tracer.Span, done: Done) {
  if (!(yield* isTraced(span))) return
  const policy = yield* TurnPolicy.TraceContent
  const { agent } = done.timeline.root
  set(span, {
    ...GenAi.content(policy, "gen_ai.input.messages", () => GenAi.fromPrompt(done.prompt)),
    ...(done.system !== undefined &&
      GenAi.content(policy, "gen_ai.system_instructions", () => [{ type: "text", content: done.system }])),
    "gen_ai.agent.name": agent,
    ...GenAi.ofModel(lastModel(done.timeline.root))
  })
  const writer: Writer = {
    tracer: yield* Effect.tracer,
    shared: { ...(yield* Effect.spanAnnotations), "gen_ai.conversation.id": done.conversationId },
    server: GenAi.ofServer((yield* Client).origin),
    policy,
    parts: policy === false ? new Map() : partsByMessage(done.replies)
  }
  // A tree of subagents may be deep, so this does not call itself.
  const rest: Array<{ readonly parent: Tracer.Span; readonly run: Timeline.AgentRun }> = [
    { parent: span, run: done.timeline.root }
  ]
  for (const { parent, run } of rest) {
    writeSteps(writer, parent, run)
    const asked = new Map<string, Array<Timeline.AskWait>>()
    for (const ask of run.asks) {
      const call = ask.tool === undefined ? "" : callKey(ask.tool)
      asked.set(call, [...asked.get(call) ?? [], ask])
    }
    for (const tool of run.tools) {
      const asks = asked.get(callKey(tool.part)) ?? []
      asked.delete(callKey(tool.part))
      const toolSpan = begin(writer, parent, toolOptions(run, tool, asks, writer))
      if (tool.run !== undefined) rest.push({ parent: writeAgent(writer, toolSpan, tool.run), run: tool.run })
      for (const ask of asks) writeAsk(writer, toolSpan, run, ask)
      toolSpan.end(nanos(tool.endedMillis), toolExit(tool))
    }
    for (const ask of Array.from(asked.values()).flat()) writeAsk(writer, parent, run, ask)
    for (const subagent of run.subagents) {
      rest.push({ parent: writeAgent(writer, parent, subagent), run: subagent })
    }
  }
})

/**
 * Writes on the span of a turn how the turn ended.
 *
 * @category steps
 * @since 0.1.0
 */
export const conclude = Effect.fnUntraced(function*(span: Tracer.Span, result: TurnResult) {
  const { content, error, finish, isFallback, messageId, sessionId, status, usage } = result
  const policy = yield* TurnPolicy.TraceContent
  set(span, {
    ...GenAi.ofUsage(usage.total),
    ...(isFallback ? {} : GenAi.content(policy, "gen_ai.output.messages", () => GenAi.fromText(content, finish))),
    "gen_ai.response.finish_reasons": finish === undefined ? undefined : [finish],
    "opencode.message.id": messageId,
    "opencode.session.id": sessionId,
    "opencode.turn.status": status,
    "opencode.turn.cost": usage.total.cost,
    "error.type": error?._tag
  })
})

// internal

interface Writer {
  readonly tracer: Tracer.Tracer
  readonly shared: GenAi.Attributes
  readonly server: GenAi.Attributes
  readonly policy: TurnPolicy.TraceContent
  readonly parts: ReadonlyMap<MessageId, ReadonlyArray<Part>>
}

interface Options {
  readonly name: string
  readonly kind: Tracer.SpanKind
  readonly startedMillis: number
  readonly attributes: GenAi.Attributes
}

/** Whether somebody receives the span: the default tracer keeps spans for nobody. */
const isTraced = (span: Tracer.Span): Effect.Effect<boolean> =>
  Effect.map(
    Effect.tracer,
    (tracer) =>
      span.sampled && tracer !== Tracer.nativeTracer && !Context.get(span.annotations, Tracer.DisablePropagation)
  )

const agentSpan = (agent: string | undefined): string => agent === undefined ? "invoke_agent" : `invoke_agent ${agent}`

const nanos = (millis: number): bigint => BigInt(Math.round(millis)) * 1_000_000n

const known = (attributes: GenAi.Attributes): Record<string, unknown> =>
  Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined))

const set = (span: Tracer.Span, attributes: GenAi.Attributes): void => {
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) span.attribute(key, value)
}

/** A failure as a span shows it: by its name, and without a stack, which would say nothing about the turn. */
const failed = (name: string, message: string) => Exit.fail({ name, message })

const endTurn = (span: Tracer.Span, exit: Exit.Exit<TurnResult, StoreError>, now: bigint): void => {
  if (Exit.isSuccess(exit)) return span.end(now, exitOf(exit.value.error))
  if (Cause.hasInterruptsOnly(exit.cause)) return span.end(now, Exit.interrupt())
  const error = Cause.squash(exit.cause)
  const isOurs = !Cause.hasDies(exit.cause) && Predicate.isTagged(error, "StoreError")
  span.attribute("error.type", isOurs ? "StoreError" : "TurnDied")
  span.end(now, failed(isOurs ? "StoreError" : "TurnDied", "the end of the turn could not be stored"))
}

/** Somebody stopped a turn that was cancelled: that is no error of the turn. */
const exitOf = (error: TurnError | undefined): Exit.Exit<void, unknown> =>
  error === undefined
    ? Exit.void
    : error._tag === "TurnCancelled"
    ? Exit.interrupt()
    : failed(error._tag, safeMessage(error))

const begin = (
  { shared, tracer }: Writer,
  parent: Tracer.Span,
  { attributes, kind, name, startedMillis }: Options
): Tracer.Span => {
  const span = tracer.span({
    name,
    parent: Option.some(parent),
    annotations: Context.empty(),
    links: [],
    startTime: nanos(startedMillis),
    kind,
    root: false,
    sampled: parent.sampled
  })
  set(span, shared)
  set(span, attributes)
  return span
}

const writeSteps = (writer: Writer, parent: Tracer.Span, run: Timeline.AgentRun): void => {
  for (const step of run.steps) {
    const { answeredMillis, error, finish, firstMillis, messageId, model, startedMillis, usage } = step
    const span = begin(writer, parent, {
      name: model === undefined ? "chat" : `chat ${model.modelId}`,
      kind: "client",
      startedMillis,
      attributes: {
        "gen_ai.operation.name": "chat",
        "gen_ai.agent.name": step.agent ?? run.agent,
        ...GenAi.ofModel(model),
        "gen_ai.response.model": model?.modelId,
        "gen_ai.response.id": messageId,
        "gen_ai.response.finish_reasons": finish === undefined ? undefined : [finish],
        "gen_ai.response.time_to_first_chunk": firstMillis === undefined
          ? undefined
          : Math.max(0, firstMillis - startedMillis) / 1000,
        ...GenAi.ofUsage(usage),
        "gen_ai.usage.cost": usage.cost,
        ...GenAi.ofStepError(error),
        ...writer.server,
        ...GenAi.content(
          writer.policy,
          "gen_ai.output.messages",
          () => GenAi.fromParts(writer.parts.get(messageId) ?? [], finish)
        )
      }
    })
    for (const retry of run.retries) {
      if (retry.startedMillis < startedMillis || retry.startedMillis > step.endedMillis) continue
      span.event("opencode.retry", nanos(retry.startedMillis), {
        "opencode.retry.attempt": retry.attempt,
        "opencode.retry.wait": (retry.endedMillis - retry.startedMillis) / 1000,
        "opencode.retry.reason": retry.message.slice(0, 200)
      })
    }
    span.end(nanos(answeredMillis), error === undefined ? Exit.void : failed("Upstream", error.message.slice(0, 200)))
  }
}

const toolOptions = (
  run: Timeline.AgentRun,
  { part, startedMillis }: Timeline.ToolRun,
  asks: ReadonlyArray<Timeline.AskWait>,
  writer: Writer
): Options => ({
  name: `execute_tool ${part.tool}`,
  kind: "internal",
  // A tool asks before the server notes that it runs (1.18.33).
  startedMillis: asks.reduce((first, ask) => Math.min(first, ask.startedMillis), startedMillis),
  attributes: {
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.agent.name": run.agent,
    "gen_ai.tool.name": part.tool,
    "gen_ai.tool.call.id": part.callId,
    "gen_ai.tool.type": "function",
    "error.type": GenAi.toolError(part),
    ...GenAi.content(writer.policy, "gen_ai.tool.call.arguments", () => GenAi.cutAll(part.input)),
    ...GenAi.content(writer.policy, "gen_ai.tool.call.result", () => GenAi.cut(part.output ?? part.error ?? ""))
  }
})

const toolExit = ({ part }: Timeline.ToolRun): Exit.Exit<void, unknown> => {
  const name = GenAi.toolError(part)
  if (name === undefined) return Exit.void
  return failed(name, name === "Refused" ? "the call was refused" : "the tool failed")
}

/** Writes the span of a subagent, and gives it back as the parent of what the subagent did. */
const writeAgent = (writer: Writer, parent: Tracer.Span, run: Timeline.AgentRun): Tracer.Span => {
  const last = run.steps.at(-1)
  const span = begin(writer, parent, {
    name: agentSpan(run.agent),
    kind: "internal",
    startedMillis: run.startedMillis,
    attributes: {
      "gen_ai.operation.name": "invoke_agent",
      "gen_ai.agent.name": run.agent,
      "gen_ai.request.model": last?.model?.modelId,
      "gen_ai.response.finish_reasons": last?.finish === undefined ? undefined : [last.finish],
      ...GenAi.ofUsage(Usage.sum(Timeline.runsOf(run).map(Timeline.usageOf))),
      "opencode.session.id": run.sessionId,
      "error.type": GenAi.subagentError(run.status)
    }
  })
  const exit = run.status === "error"
    ? failed("SubagentFailed", "the subagent failed")
    : run.status === "cancelled"
    ? Exit.interrupt()
    : Exit.void
  span.end(nanos(run.endedMillis), exit)
  return span
}

const writeAsk = (writer: Writer, parent: Tracer.Span, run: Timeline.AgentRun, ask: Timeline.AskWait): void => {
  const span = begin(writer, parent, {
    name: `wait_for_person ${ask.kind}`,
    kind: "internal",
    startedMillis: ask.startedMillis,
    attributes: {
      "gen_ai.agent.name": run.agent,
      "opencode.ask.id": ask.id,
      "opencode.ask.kind": ask.kind,
      "opencode.ask.name": ask.name,
      "opencode.ask.resolved": ask.isResolved
    }
  })
  span.end(nanos(ask.endedMillis), Exit.void)
}

const callKey = ({ callId, messageId }: { readonly callId: string; readonly messageId: MessageId }): string =>
  `${messageId} ${callId}`

const lastModel = ({ steps }: Timeline.AgentRun): ModelRef | undefined =>
  steps.findLast(({ model }) => model !== undefined)?.model

const partsByMessage = (replies: ReadonlyArray<Reply.Reply>): ReadonlyMap<MessageId, ReadonlyArray<Part>> => {
  const byMessage = new Map<MessageId, Array<Part>>()
  for (const part of replies.flatMap(Reply.replies).flatMap(Reply.parts)) {
    if (part.type === "todos") continue
    const known = byMessage.get(part.messageId)
    if (known === undefined) byMessage.set(part.messageId, [part])
    else known.push(part)
  }
  return byMessage
}
