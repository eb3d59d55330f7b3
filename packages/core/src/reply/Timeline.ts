/**
 * What a turn did and when: its agents, their model steps, their tool calls, what was asked, and what was retried.
 *
 * **Responsibilities**: one account of a turn, made from its folded replies and their {@link Moments}. Spans, metrics and the
 * {@link Timing} of the result are made from it, so that they agree.
 *
 * **Not responsibilities**: writing spans and metrics (`turn/`).
 *
 * ```
 * Timeline ─ root: AgentRun ┬ steps: ModelStep      one call of the model each
 *                           ├ tools: ToolRun ─ run: AgentRun of the subagent that the call opened
 *                           ├ asks: AskWait, retries: RetryWait
 *                           └ subagents: AgentRun   whose call is not known
 * ```
 *
 * All times are milliseconds since the epoch by the clock of this process.
 *
 * @since 0.1.0
 */
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import type { AskingTool } from "../domain/Ask.ts"
import type { AskId, MessageId, SessionId } from "../domain/Ids.ts"
import type { ToolPart } from "../domain/Part.ts"
import { isTerminalTool } from "../domain/Part.ts"
import type { ModelRef } from "../domain/Prompt.ts"
import type { SubagentStatus } from "../domain/Subagent.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import * as Usage from "../domain/Usage.ts"
import type { AskTimes, Moments, RetryTimes } from "./Moments.ts"
import * as Reply from "./Reply.ts"
import { current } from "./ReplyState.ts"

/**
 * **Details**
 *
 * `startedMillis` and `endedMillis` bound the time that is divided. What happened before, which an earlier owner of the turn divided, is in
 * the timeline as well. This process took the turn over at `takenMillis`; for the owner that began it, that is `startedMillis`. While it was
 * `queued` the turn waited for the turns before this one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Timeline {
  readonly startedMillis: number
  readonly takenMillis: number
  readonly endedMillis: number
  readonly queued: Interval | undefined
  readonly root: AgentRun
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Interval {
  readonly startedMillis: number
  readonly endedMillis: number
}

/**
 * The work of one agent: that of the turn, or of a subagent for one call of its tool. `status` is that of a subagent.
 *
 * @category models
 * @since 0.1.0
 */
export interface AgentRun {
  readonly sessionId: SessionId
  readonly agent: string | undefined
  readonly status: SubagentStatus | undefined
  readonly startedMillis: number
  readonly endedMillis: number
  readonly steps: ReadonlyArray<ModelStep>
  readonly tools: ReadonlyArray<ToolRun>
  readonly asks: ReadonlyArray<AskWait>
  readonly retries: ReadonlyArray<RetryWait>
  readonly subagents: ReadonlyArray<AgentRun>
}

/**
 * One call of the model, with its repetitions.
 *
 * **Details**
 *
 * `answeredMillis` is when the model had said all, and `endedMillis` is when the tools that it called had ended too. The server does not
 * tell the former for a step with tools; it is then the start of the last tool, which begins as soon as the model has written its call.
 * `firstMillis` is when the first output arrived; it is undefined if this process did not see it. `chunks` are the pieces in which its text
 * and reasoning came; it is undefined if this process may have missed some.
 *
 * @category models
 * @since 0.1.0
 */
export interface ModelStep {
  readonly messageId: MessageId
  readonly sessionId: SessionId
  readonly agent: string | undefined
  readonly model: ModelRef | undefined
  readonly startedMillis: number
  readonly firstMillis: number | undefined
  readonly chunks: number | undefined
  readonly answeredMillis: number
  readonly endedMillis: number
  readonly finish: string | undefined
  readonly error: UpstreamFailure | undefined
  readonly usage: Usage.Usage
  readonly isSummary: boolean
}

/**
 * One call of a tool that began to run. `run` is the subagent that it opened or called again.
 *
 * @category models
 * @since 0.1.0
 */
export interface ToolRun {
  readonly part: ToolPart
  readonly sessionId: SessionId
  readonly startedMillis: number
  readonly endedMillis: number
  readonly run: AgentRun | undefined
}

/**
 * A wait for a person, or for whoever answers in their place.
 *
 * @category models
 * @since 0.1.0
 */
export interface AskWait {
  readonly id: AskId
  readonly sessionId: SessionId
  readonly kind: "permission" | "question"
  readonly name: string
  readonly tool: AskingTool | undefined
  readonly isResolved: boolean
  readonly startedMillis: number
  readonly endedMillis: number
}

/**
 * A wait before the model was called again.
 *
 * @category models
 * @since 0.1.0
 */
export interface RetryWait {
  readonly sessionId: SessionId
  readonly attempt: number
  readonly message: string
  readonly startedMillis: number
  readonly endedMillis: number
}

/**
 * The bounds of a timeline.
 *
 * @category models
 * @since 0.1.0
 */
export type Bounds = Omit<Timeline, "root">

/**
 * Makes the timeline of an ended turn. `earlier` are the replies to the prompts before the last one, in their order.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  turn: { readonly earlier: ReadonlyArray<Reply.Reply>; readonly current: Reply.Reply },
  moments: Moments,
  bounds: Bounds
): Timeline => {
  const { endedMillis, startedMillis } = bounds
  const replies = [...turn.earlier, turn.current]
  const waits = waitsOf(replies, moments)
  const all = replies.map((reply, index) => {
    const reader = readerOf(moments, waits[index] ?? noWaits)
    return contentsOf(reply, reader, reply === turn.current ? Math.round(endedMillis) : undefined)
  })
  const steps = all.flatMap((contents) => contents.steps)
  return {
    ...bounds,
    root: {
      sessionId: turn.current.sessionId,
      agent: steps.findLast(({ agent, isSummary }) => agent !== undefined && !isSummary)?.agent,
      status: undefined,
      startedMillis,
      endedMillis,
      steps,
      tools: all.flatMap((contents) => contents.tools),
      asks: all.flatMap((contents) => contents.asks),
      retries: all.flatMap((contents) => contents.retries),
      subagents: all.flatMap((contents) => contents.subagents)
    }
  }
}

/**
 * All runs of agents, the turn's own first.
 *
 * @category getters
 * @since 0.1.0
 */
export const runs = ({ root }: Timeline): ReadonlyArray<AgentRun> => runsOf(root)

/**
 * A run, and all runs of the subagents below it.
 *
 * @category getters
 * @since 0.1.0
 */
export const runsOf = (run: AgentRun): ReadonlyArray<AgentRun> => {
  const all: Array<AgentRun> = [run]
  // The list grows while it is read.
  for (const run of all) {
    for (const tool of run.tools) if (tool.run !== undefined) all.push(tool.run)
    for (const subagent of run.subagents) all.push(subagent)
  }
  return all
}

/**
 * The usage of a run of an agent, without that of the subagents that it called.
 *
 * @category getters
 * @since 0.1.0
 */
export const usageOf = ({ steps }: Pick<AgentRun, "steps">): Usage.Usage => Usage.sum(steps.map(({ usage }) => usage))

/**
 * The usage of each model over all agents, in the order in which the models were first called.
 *
 * @category getters
 * @since 0.1.0
 */
export const usageByModel = (self: Timeline): ReadonlyArray<Usage.ModelUsage> => {
  const byModel = new Map<string, Array<Usage.Usage>>()
  for (const { steps } of runs(self)) {
    for (const { model, usage } of steps) append(byModel, model === undefined ? "" : nameOf(model), usage)
  }
  return Array.from(byModel, ([model, usages]) => ({ model, steps: usages.length, ...Usage.sum(usages) }))
}

/**
 * A model as `provider/model`.
 *
 * @category getters
 * @since 0.1.0
 */
export const nameOf = ({ modelId, providerId }: ModelRef): string => `${providerId}/${modelId}`

/**
 * How long after `startedMillis` the model began to answer. It is undefined if that was not seen in this process.
 *
 * @category getters
 * @since 0.1.0
 */
export const firstTokenMillis = ({ root: { steps }, startedMillis, takenMillis }: Timeline): number | undefined => {
  const first = steps.find(({ firstMillis }) => firstMillis !== undefined)
  // Another process may have seen the first answer.
  const isLater = steps.some(({ answeredMillis, finish }) => finish !== undefined && answeredMillis < takenMillis)
  return first?.firstMillis === undefined || isLater ? undefined : Math.max(0, first.firstMillis - startedMillis)
}

// internal

type Contents = Pick<AgentRun, "steps" | "tools" | "asks" | "retries" | "subagents">

/** A tool call before the run of the subagent that it called is known. */
type Call = Omit<ToolRun, "run">

/** What one session did. */
type Work = Omit<Contents, "tools" | "subagents"> & { readonly tools: ReadonlyArray<Call> }

/** The waits of one reply, by session. */
interface Waits {
  readonly asks: ReadonlyMap<SessionId, ReadonlyArray<AskTimes>>
  readonly retries: ReadonlyMap<SessionId, ReadonlyArray<RetryTimes>>
}

const noWaits: Waits = { asks: new Map(), retries: new Map() }

/** Distributes the waits over the replies: a session may work for several of them, and a wait belongs to the one that it fell into. */
const waitsOf = (replies: ReadonlyArray<Reply.Reply>, { asks, retries }: Moments): ReadonlyArray<Waits> => {
  const starts = replies.map((reply) => Reply.messages(reply)[0]?.info.createdMillis ?? Infinity)
  const replyAt = (millis: number) => Math.max(0, starts.findLastIndex((start) => start <= millis))
  return replies.map((_, index) => ({
    asks: grouped(Array.from(HashMap.values(asks)).filter(({ askedMillis }) => replyAt(askedMillis) === index)),
    retries: grouped(retries.filter(({ announcedMillis }) => replyAt(announcedMillis) === index))
  }))
}

const grouped = <A extends { readonly sessionId: SessionId }>(
  all: ReadonlyArray<A>
): ReadonlyMap<SessionId, ReadonlyArray<A>> => {
  const groups = new Map<SessionId, Array<A>>()
  for (const value of all) append(groups, value.sessionId, value)
  return groups
}

const append = <K, A>(map: Map<K, Array<A>>, key: K, value: A): void => {
  const known = map.get(key)
  if (known === undefined) map.set(key, [value])
  else known.push(value)
}

/** Reads what a session did. `overMillis` is when its agent stopped, if that is known. */
type Reader = (reply: Reply.Reply, overMillis: number | undefined) => Work

/**
 * What the turn's own agent did for one prompt. `endedMillis` is the end of the turn, for its last prompt.
 *
 * The subagents are visited from the last one: a session always follows the one that opened it, so the runs below a session are known
 * when its own are made, however deep the tree is.
 */
const contentsOf = (reply: Reply.Reply, read: Reader, endedMillis: number | undefined): Contents => {
  const subagents = Reply.subagentStates(reply)
  const own = read(reply, endedMillis)
  const callsOf = new Map<SessionId, Array<Call>>()
  const note = (work: Work): Work => {
    for (const call of work.tools) if (call.part.subagent !== undefined) append(callsOf, call.part.subagent, call)
    return work
  }
  note(own)
  const works = subagents.map((subagent) => {
    // Only a call of the parent's own session counts, so names that form a circle do no harm.
    const calls = (callsOf.get(subagent.sessionId) ?? []).filter((call) => call.sessionId === subagent.parentId)
    const work = note(read(subagent.reply, calls.at(-1)?.endedMillis ?? endedMillis))
    return { subagent, calls, work }
  })
  const called = new Map<Call, AgentRun>()
  const uncalled = new Map<SessionId, Array<AgentRun>>()
  const finished = (sessionId: SessionId, work: Work): Contents => ({
    ...work,
    tools: work.tools.map((call) => ({ ...call, run: called.get(call) })),
    subagents: (uncalled.get(sessionId) ?? []).toReversed()
  })
  for (const { calls, subagent, work } of works.toReversed()) {
    const all = finished(subagent.sessionId, work)
    if (calls.length === 0) append(uncalled, subagent.parentId, runOf(subagent, all, undefined))
    for (const [index, call] of calls.entries()) {
      const isOfCall = ({ startedMillis }: Interval) => callAt(calls, startedMillis) === index
      called.set(call, runOf(subagent, calls.length === 1 ? all : filtered(all, isOfCall), call))
    }
  }
  return finished(reply.sessionId, own)
}

/** The index of the call that a subagent worked for at a time: the last one that had begun. */
const callAt = (calls: ReadonlyArray<Interval>, atMillis: number): number =>
  Math.max(0, calls.findLastIndex(({ startedMillis }) => startedMillis <= atMillis))

const filtered = (contents: Contents, isMeant: (interval: Interval) => boolean): Contents => ({
  steps: contents.steps.filter(isMeant),
  tools: contents.tools.filter(isMeant),
  asks: contents.asks.filter(isMeant),
  retries: contents.retries.filter(isMeant),
  subagents: contents.subagents.filter(isMeant)
})

const runOf = (
  { agent, sessionId, status }: Reply.SubagentState,
  contents: Contents,
  call: Interval | undefined
): AgentRun => {
  const all: ReadonlyArray<Interval> = [contents.steps, contents.tools, contents.asks, contents.subagents].flat()
  const [first = call] = all
  return {
    sessionId,
    agent: agent ?? contents.steps[0]?.agent,
    status,
    startedMillis: all.reduce((least, { startedMillis }) => Math.min(least, startedMillis), first?.startedMillis ?? 0),
    endedMillis: all.reduce((most, { endedMillis }) => Math.max(most, endedMillis), first?.endedMillis ?? 0),
    ...contents
  }
}

const readerOf = ({ firsts, offsetMillis = 0 }: Moments, waits: Waits): Reader => {
  const local = (serverMillis: number): number => Math.round(serverMillis + offsetMillis)
  const localOf = (serverMillis: number | undefined): number | undefined =>
    serverMillis === undefined ? undefined : local(serverMillis)

  /** `overMillis` is when the tool's step or session was over, for a tool that has no end of its own. */
  const callOf = (sessionId: SessionId, part: ToolPart, overMillis: number | undefined): ReadonlyArray<Call> => {
    const startedMillis = localOf(part.startedMillis) ?? (isTerminalTool(part) ? overMillis : undefined)
    if (startedMillis === undefined) return []
    const endedMillis = Math.max(startedMillis, localOf(part.endedMillis) ?? overMillis ?? startedMillis)
    return [{ part, sessionId, startedMillis, endedMillis }]
  }

  const stepOf = (
    { id, info }: Reply.FoldedMessage,
    calls: ReadonlyArray<Call>,
    usage: Usage.Usage,
    chunks: number | undefined,
    overMillis: number | undefined
  ): ModelStep => {
    const startedMillis = local(info.calledMillis ?? info.createdMillis)
    const firstMillis = localOf(Option.getOrUndefined(HashMap.get(firsts, id)))
    // A step without an end was cut off, unless the turn ended during it. Its last sign of life counts then.
    const lastSign = calls.reduce((most, { endedMillis }) => Math.max(most, endedMillis), firstMillis ?? startedMillis)
    const endedMillis = Math.max(startedMillis, localOf(info.completedMillis) ?? overMillis ?? lastSign)
    const lastCall = calls.reduce((most, call) => Math.max(most, call.startedMillis), startedMillis)
    return {
      messageId: id,
      sessionId: info.sessionId,
      agent: info.agent,
      model: info.model,
      startedMillis,
      firstMillis,
      chunks,
      answeredMillis: calls.length === 0 ? endedMillis : Math.min(lastCall, endedMillis),
      endedMillis,
      finish: info.finish,
      error: info.error,
      usage,
      isSummary: info.isSummary
    }
  }

  const askOf = (times: AskTimes, overMillis: number | undefined): AskWait => {
    const { askedMillis, resolvedMillis, seenMillis: _, ...ask } = times
    const startedMillis = local(askedMillis)
    const endedMillis = Math.max(startedMillis, localOf(resolvedMillis) ?? overMillis ?? startedMillis)
    return { ...ask, isResolved: resolvedMillis !== undefined, startedMillis, endedMillis }
  }

  const retryOf = (retry: RetryTimes, overMillis: number | undefined): RetryWait => {
    const { announcedMillis, attempt, message, nextMillis, sessionId } = retry
    const startedMillis = local(announcedMillis)
    const over = localOf(retry.endedMillis) ?? overMillis ?? startedMillis
    const endedMillis = nextMillis > announcedMillis ? Math.min(over, local(nextMillis)) : over
    return { sessionId, attempt, message, startedMillis, endedMillis: Math.max(startedMillis, endedMillis) }
  }

  return (reply, overMillis) => {
    const { sessionId } = reply
    const { chunksOf, toolsOf, usagesOf } = partsOf(reply)
    const messages = Reply.messages(reply).filter(({ ownership }) => ownership !== "foreign")
    const usageFor = (id: MessageId): Usage.Usage => {
      const usage = Usage.sum(usagesOf.get(id) ?? [])
      usagesOf.delete(id)
      return usage
    }
    const tools: Array<Call> = []
    const steps = messages.map((message, index): ModelStep => {
      const { id, info } = message
      const stepOverMillis = index === messages.length - 1 ? overMillis : undefined
      const calls = (toolsOf.get(id) ?? []).flatMap((part) =>
        callOf(sessionId, part, localOf(info.completedMillis) ?? stepOverMillis ?? local(info.createdMillis))
      )
      for (const call of calls) tools.push(call)
      return stepOf(message, calls, usageFor(id), chunksOf.get(id), stepOverMillis)
    })
    // A subagent that was restored from the store has a usage, but no messages until they are read.
    const restored = Array.from(usagesOf, ([messageId, usages]): ModelStep => ({
      ...noStep,
      messageId,
      sessionId,
      startedMillis: overMillis ?? 0,
      answeredMillis: overMillis ?? 0,
      endedMillis: overMillis ?? 0,
      usage: Usage.sum(usages)
    }))
    return {
      steps: [...steps, ...restored],
      tools,
      asks: (waits.asks.get(sessionId) ?? []).map((ask) => askOf(ask, overMillis)),
      retries: (waits.retries.get(sessionId) ?? []).map((retry) => retryOf(retry, overMillis))
    }
  }
}

const noStep = {
  agent: undefined,
  model: undefined,
  firstMillis: undefined,
  chunks: undefined,
  finish: undefined,
  error: undefined,
  isSummary: false
} as const

/** The tools, the ends of the steps, and the number of chunks of a session, by message. */
const partsOf = (reply: Reply.Reply) => {
  const toolsOf = new Map<MessageId, Array<ToolPart>>()
  const usagesOf = new Map<MessageId, Array<Usage.Usage>>()
  const chunksOf = new Map<MessageId, number | undefined>()
  for (const entry of current(reply)) {
    if (entry.kind === "text" && entry.isOurs) {
      const { chunks, messageId } = entry
      const before = chunksOf.has(messageId) ? chunksOf.get(messageId) : 0
      chunksOf.set(messageId, before === undefined || chunks === undefined ? undefined : before + chunks)
    }
    if (entry.kind !== "part" || !entry.isOurs) continue
    if (entry.part.type === "tool") append(toolsOf, entry.messageId, entry.part)
    if (entry.part.type === "step-finish") append(usagesOf, entry.messageId, entry.part)
  }
  return { chunksOf, toolsOf, usagesOf }
}
