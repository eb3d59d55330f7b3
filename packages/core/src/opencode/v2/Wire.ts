/**
 * The JSON of OpenCode 2.x and its translation to the domain.
 *
 * The shapes are those of `/openapi.json` and of the events of the beta 0.0.0-next-16350; where the release 2.0.21 has other names, both are
 * read. As in 1.x, a field that is absent, `null` or of another shape loses only itself.
 *
 * A message of 2.x does not name the prompt that it answers: that is told by the order of the messages alone (`toMessages`, `Runs`).
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { PermissionAsk, QuestionAnswers, QuestionAsk } from "../../domain/Ask.ts"
import { AskId as AnyAskId, PartId } from "../../domain/Ids.ts"
import type { AssistantMessage, Message, Session, UnreadPart, UserMessage } from "../../domain/Message.ts"
import type { ToolPart, WirePart } from "../../domain/Part.ts"
import type { ModelRef, Prompt } from "../../domain/Prompt.ts"
import type { UpstreamFailure } from "../../domain/UpstreamFailure.ts"
import * as Upstream from "../../domain/UpstreamFailure.ts"
import type { Agent, UnreadMessage } from "../Dialect.ts"
import { each, eachOr, Json, maybe } from "../Lenient.ts"
import { CallId, isId, MessageId, Name, sessionFields, SessionId, toUsage, WireTokens } from "../WireValues.ts"
import type { AgentRules } from "./AgentRules.ts"
import { metadataOf } from "./AskedCall.ts"
import * as Runs from "./Runs.ts"
import { commandsOf } from "./ShellLine.ts"
import { changedFiles } from "./ToolFiles.ts"

/**
 * @category schemas
 * @since 0.1.0
 */
export const AskId = AnyAskId.check(isId("per|frm"))

/**
 * A model and its variant.
 *
 * @category schemas
 * @since 0.1.0
 */
export const WireModel = Schema.Struct({ id: Name, providerID: Name, variant: maybe(Name) })

/**
 * A model of the server's list, with the names of its variants.
 *
 * @category schemas
 * @since 0.1.0
 */
export const WireListedModel = Schema.Struct({
  id: Name,
  providerID: Name,
  variants: maybe(each(Schema.Struct({ id: Name })))
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireLocation = Schema.Struct({
  directory: Schema.String,
  project: maybe(Schema.Struct({ directory: maybe(Schema.String) }))
})

const knownFields = {
  ...sessionFields,
  agent: maybe(Name),
  model: maybe(WireModel),
  location: maybe(Schema.Struct({ directory: maybe(Schema.String) }))
}

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireSession = Schema.Struct({ id: SessionId, ...knownFields })

/**
 * A session that was requested by its id.
 *
 * @category schemas
 * @since 0.1.0
 */
export const WireKnownSession = Schema.Struct({ id: maybe(SessionId), ...knownFields })

/**
 * The answer around a single value.
 *
 * @category schemas
 * @since 0.1.0
 */
export const within = <S extends Schema.Top & { readonly DecodingServices: never }>(schema: S) =>
  Schema.Struct({ data: schema })

/**
 * @category schemas
 * @since 0.1.0
 */
export const WirePage = Schema.Struct({
  data: Schema.Array(Schema.Unknown),
  cursor: maybe(Schema.Struct({ next: maybe(Schema.String) }))
})

const WireToolContent = Schema.Struct({ type: maybe(Schema.String), text: maybe(Schema.String) })

/**
 * The state of a tool call, in a message or as events tell it.
 *
 * @category schemas
 * @since 0.1.0
 */
export const WireToolState = Schema.Struct({
  status: maybe(Schema.Literals(["streaming", "running", "completed", "error"])),
  input: maybe(Json),
  content: maybe(each(WireToolContent)),
  metadata: maybe(Json),
  error: Schema.optionalKey(Schema.Unknown)
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireToolTime = Schema.Struct({ ran: maybe(Schema.Finite), completed: maybe(Schema.Finite) })

const WireContent = Schema.Struct({
  type: Schema.String,
  text: maybe(Schema.String),
  id: maybe(CallId),
  name: maybe(Schema.String),
  state: maybe(WireToolState),
  time: maybe(Schema.Struct({ ...WireToolTime.fields, created: maybe(Schema.Finite) }))
})

const WireMessage = Schema.Struct({
  id: MessageId,
  type: Schema.String,
  metadata: maybe(Json),
  status: maybe(Schema.String),
  reason: maybe(Schema.String),
  time: maybe(Schema.Struct({ created: maybe(Schema.Finite), completed: Schema.optionalKey(Schema.Unknown) })),
  agent: maybe(Name),
  model: maybe(WireModel),
  content: maybe(Schema.Array(Schema.Unknown)),
  finish: maybe(Schema.String),
  cost: maybe(Schema.Finite),
  tokens: maybe(WireTokens),
  error: Schema.optionalKey(Schema.Unknown),
  snapshot: maybe(Schema.Struct({ files: maybe(each(Schema.String)) }))
})

const WireCompaction = Schema.Struct({
  id: MessageId,
  type: Schema.Literal("compaction"),
  status: maybe(Schema.String),
  reason: maybe(Schema.String),
  summary: maybe(Schema.String),
  error: Schema.optionalKey(Schema.Unknown),
  model: maybe(WireModel),
  cost: maybe(Schema.Finite),
  tokens: maybe(WireTokens)
})

const WireError = Schema.Struct({
  type: maybe(Schema.String),
  message: maybe(Schema.String),
  status: maybe(Schema.Finite)
})

/** The beta names a call `callID`, the release `id`. */
const AskSource = Schema.Struct({ messageID: MessageId, callID: maybe(CallId), id: maybe(CallId) })

/**
 * @category schemas
 * @since 0.1.0
 */
export const WirePermission = Schema.Struct({
  id: AskId,
  sessionID: SessionId,
  action: maybe(Schema.String),
  resources: maybe(Schema.Array(Schema.String)),
  save: maybe(each(Schema.String)),
  metadata: maybe(Json),
  source: maybe(AskSource)
})

const WireField = Schema.Struct({
  key: maybe(Schema.String),
  type: maybe(Schema.String),
  title: maybe(Schema.String),
  description: maybe(Schema.String),
  options: maybe(each(Schema.Struct({
    value: maybe(Schema.String),
    label: maybe(Schema.String),
    description: maybe(Schema.String)
  }))),
  custom: maybe(Schema.Boolean)
})

/**
 * A form, in which a session asks its questions.
 *
 * @category schemas
 * @since 0.1.0
 */
export const WireForm = Schema.Struct({
  id: AskId,
  sessionID: SessionId,
  title: maybe(Schema.String),
  metadata: maybe(Schema.Struct({ tool: maybe(AskSource) })),
  // Answers match questions by place, so an odd field keeps its place.
  fields: maybe(eachOr(WireField, {}))
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireAgent = Schema.Struct({
  name: maybe(Schema.String),
  id: maybe(Schema.String),
  hidden: maybe(Schema.Boolean),
  mode: maybe(Schema.String),
  model: maybe(WireModel),
  permissions: maybe(eachOr(
    Schema.Struct({
      action: maybe(Schema.String),
      resource: maybe(Schema.String),
      effect: maybe(Schema.Literals(["allow", "ask", "deny"]))
    }),
    {}
  ))
})

/**
 * @category translations
 * @since 0.1.0
 */
export const toSession = (wire: typeof WireSession.Type): Session => ({
  id: wire.id,
  parentId: wire.parentID,
  title: wire.title ?? "",
  agent: wire.agent,
  directory: wire.location?.directory ?? "",
  createdMillis: wire.time?.created ?? 0,
  updatedMillis: wire.time?.updated ?? wire.time?.created ?? 0,
  // 2.x does not tell the rules of a session.
  permission: [],
  metadata: wire.metadata ?? {},
  usage: toUsage(wire.cost, wire.tokens),
  model: toModel(wire.model),
  revertedFrom: wire.revert?.messageID
})

/**
 * @category translations
 * @since 0.1.0
 */
export const toModel = (wire: typeof WireModel.Type | undefined): ModelRef | undefined =>
  wire && { providerId: wire.providerID, modelId: wire.id }

/**
 * @category predicates
 * @since 0.1.0
 */
export const isAborted = (error: unknown): boolean => readError(error).type === "aborted"

/**
 * An upstream error, under the names that 1.x has for the same where it has one.
 *
 * @category translations
 * @since 0.1.0
 */
export const toFailure = (wire: unknown): UpstreamFailure => {
  const { message = "", status, type = "UnknownError" } = readError(wire)
  const answered = providerFailed.exec(message)
  const statusCode = status ?? (answered === null ? undefined : Number(answered[1]))
  return {
    name: names.get(type) ?? (answered !== null ? "APIError" : type),
    message: Upstream.reasonOf(answered?.[2] ?? message) || message || type,
    ...(statusCode !== undefined && { statusCode }),
    isRetryable: retried.has(type)
  }
}

/**
 * The finish reason of a step. After a reason of an unknown kind, 2.x calls the model again for the results of its tools alone; 1.x always does,
 * so that `unknown` means there that the answer goes on.
 *
 * @category translations
 * @since 0.1.0
 */
export const toFinish = (finish: string | undefined, hasCalls: boolean): string | undefined =>
  finish === "unknown" && !hasCalls ? "other" : finish

/**
 * The finish reason of a step that failed, where the failure is one: the beta reports a filtered answer as a failure alone.
 *
 * @category getters
 * @since 0.1.0
 */
export const finishOf = (error: unknown): string | undefined =>
  readError(error).type === contentFilter ? "content-filter" : undefined

/**
 * The failure of a run that somebody stopped.
 *
 * @category constants
 * @since 0.1.0
 */
export const aborted: UpstreamFailure = {
  name: "MessageAbortedError",
  message: "The session was interrupted.",
  isRetryable: false
}

/**
 * The failure of a run that the server itself stopped. The release stops everything in a folder in which nothing was stored for an hour, also
 * what waits for a person (read, not measured).
 *
 * @category constants
 * @since 0.1.0
 */
export const inactive: UpstreamFailure = {
  name: "InactivityError",
  message: "The server stopped the session, because nothing had happened in its folder for long.",
  isRetryable: false
}

/**
 * The ids of the blocks of a message, which have none: a text by its number among the texts, a tool call by the id that is its own within
 * its message only. The end of a step sorts behind its calls.
 *
 * @category constructors
 * @since 0.1.0
 */
export const partId = (
  messageId: MessageId,
  kind: "text" | "reasoning" | "tool" | "usage" | "written",
  of: number | string = ""
) => PartId.make(`prt_${messageId.slice(4)}.${kind}${of}`)

/**
 * A call of a tool, from its state.
 *
 * @category translations
 * @since 0.1.0
 */
export const toTool = (
  messageId: MessageId,
  callId: string,
  tool: string,
  state: typeof WireToolState.Type = {},
  time: typeof WireToolTime.Type = {}
): ToolPart => {
  const status = state.status === "streaming" || state.status === undefined ? "pending" : state.status
  const error = state.error === undefined || state.error === null ? undefined : readError(state.error)
  const message = error === undefined ? undefined : error.message ?? error.type ?? "unknown"
  const output = outputOf(state.content)
  const subagent = subagentOf(tool, state.metadata)
  const isAbort = error?.type === "aborted"
  const isRefused = isAbort && refusal.test(message ?? "")
  const isInterrupted = isAbort && !isRefused
  const files = changedFiles(tool, { ...state, status, output, error: message, isInterrupted })
  return {
    id: partId(messageId, "tool", callId),
    messageId,
    type: "tool",
    callId,
    tool,
    status,
    input: state.input ?? {},
    ...(output !== undefined && { output }),
    ...(message !== undefined && { error: message }),
    ...(isRefused && { isRefused: true }),
    ...(isInterrupted && { isInterrupted: true }),
    // What a running call tells is its progress, which the server forgets.
    ...(state.metadata !== undefined && (status === "completed" || status === "error") && { metadata: state.metadata }),
    ...(subagent !== undefined && { subagent }),
    ...(files !== undefined && { files }),
    ...(time.ran !== undefined && { startedMillis: time.ran }),
    ...(time.completed !== undefined && { endedMillis: time.completed })
  }
}

/**
 * The session of the subagent that a call opened. While it runs, the beta nests the metadata of its call once more.
 *
 * @category getters
 * @since 0.1.0
 */
export const subagentOf = (
  tool: string,
  metadata: Readonly<Record<string, unknown>> | undefined
): SessionId | undefined => {
  if (tool !== "subagent") return undefined
  const nested = metadata?.["metadata"]
  return [
    metadata?.["sessionID"],
    typeof nested === "object" && nested !== null && "sessionID" in nested ? nested.sessionID : undefined
  ]
    .find(isSessionId)
}

/**
 * The end of a step: what it used, and the files that it changed.
 *
 * @category translations
 * @since 0.1.0
 */
export const stepEnd = (
  messageId: MessageId,
  { cost, files = [], finish, tokens }: {
    readonly finish?: string | undefined
    readonly cost?: number | undefined
    readonly tokens?: typeof WireTokens.Type | undefined
    readonly files?: ReadonlyArray<string> | undefined
  }
): ReadonlyArray<WirePart> => [
  ...(tokens === undefined ? [] : [{
    type: "step-finish" as const,
    id: partId(messageId, "usage"),
    messageId,
    reason: finish ?? "unknown",
    ...toUsage(cost, tokens)
  }]),
  ...(files.length === 0 ? [] : [{ type: "patch" as const, id: partId(messageId, "written"), messageId, files }])
]

/**
 * Where the sessions of the client work.
 *
 * @category models
 * @since 0.1.0
 */
export interface Place {
  readonly directory: string | undefined
  readonly worktree: string | undefined
}

/**
 * A step as the domain knows it. A step that a refusal stopped has neither an error nor a last word, as in 1.x.
 *
 * @category constructors
 * @since 0.1.0
 */
export const assistant = (
  ids: Pick<AssistantMessage, "id" | "sessionId" | "parentId" | "createdMillis" | "calledMillis">,
  step: {
    readonly completedMillis?: number | undefined
    readonly finish?: string | undefined
    readonly error?: UpstreamFailure | undefined
    readonly cost?: number | undefined
    readonly tokens?: typeof WireTokens.Type | undefined
    readonly agent?: string | undefined
    readonly model?: typeof WireModel.Type | undefined
    readonly isSummary?: boolean
  },
  place: Place
): AssistantMessage => ({
  role: "assistant",
  ...ids,
  completedMillis: step.completedMillis,
  finish: step.finish,
  error: step.error,
  usage: toUsage(step.cost, step.tokens),
  isSummary: step.isSummary ?? false,
  structured: undefined,
  ...place,
  agent: step.agent,
  model: toModel(step.model)
})

/**
 * How the last step of a session ended, as its log tells: by itself, by a person (`stopped`), by the server because nothing
 * happened (`inactive`), or with the server, which leaves it unfinished.
 * `running`: it has not
 * ended, or another run has begun since. `open`: there is no log.
 *
 * @category models
 * @since 0.1.0
 */
export type RunEnd = "ended" | "stopped" | "inactive" | "shutdown" | "running" | "open"

/**
 * Messages in the order of the session, and the input that was delivered last.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ordered {
  readonly messages: ReadonlyArray<Message>
  readonly unread: ReadonlyArray<UnreadMessage>
  readonly input: MessageId | undefined
}

/**
 * What has become of a summary of the session: `error` says why there is none. `isOrdered`: somebody asked for it; otherwise a run needs it.
 * `model` wrote it, and `usage` is what it took, if its message tells that, which it does only in the release.
 *
 * @category models
 * @since 0.1.0
 */
export interface Compaction {
  readonly id: MessageId
  readonly isOrdered: boolean
  readonly status: string | undefined
  readonly text: string
  readonly error: string
  readonly model: ModelRef | undefined
  readonly usage: Used | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Used {
  readonly cost?: number | undefined
  readonly tokens?: typeof WireTokens.Type | undefined
}

/**
 * The message as a summary or as an order for one, if it is that.
 *
 * @category translations
 * @since 0.1.0
 */
export const toCompaction = (wire: unknown): Compaction | undefined => {
  const message = Option.getOrUndefined(decodeCompaction(wire))
  if (message === undefined) return undefined
  const { cost, error, id, model, reason, status, summary: text = "", tokens } = message
  return {
    id,
    isOrdered: reason === "manual",
    status,
    text,
    error: isPresent(error) ? toFailure(error).message : "there is no summary",
    model: toModel(model),
    usage: tokens === undefined && cost === undefined ? undefined : { cost, tokens }
  }
}

/**
 * `summary`: the one that a session ends with, behind which is nothing that the model sees. `isLeft`: an order to summarise is not carried out.
 *
 * @category models
 * @since 0.1.0
 */
export interface Compactions {
  readonly summary: Compaction | undefined
  readonly isLeft: boolean
}

/**
 * The compactions at the end of the messages, which are the newest ones, newest first.
 *
 * @category translations
 * @since 0.1.0
 */
export const toCompactions = (wire: ReadonlyArray<unknown>): Compactions => {
  let isLeft = false
  for (const entry of wire) {
    const compaction = toCompaction(entry)
    if (compaction?.status === "completed") return { summary: compaction, isLeft }
    // A summary that a run needed is not waited for: the next run that needs one makes another.
    isLeft ||= compaction?.isOrdered === true && compaction.status === "running"
    if (said.has(Option.getOrUndefined(decodeMessage(entry))?.type ?? "")) break
  }
  return { summary: undefined, isLeft }
}

/**
 * The summaries that runs needed and that have ended, whose messages do not tell what they took.
 *
 * @category getters
 * @since 0.1.0
 */
export const untoldSummaries = (wire: ReadonlyArray<unknown>): ReadonlyArray<MessageId> =>
  wire.flatMap((entry) => {
    const summary = toCompaction(entry)
    return summary === undefined || summary.isOrdered || summary.usage !== undefined || summary.status === "running"
      ? []
      : [summary.id]
  })

/**
 * Whether a message is an input: from there on the session answers it.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isInput = (wire: unknown): boolean => {
  const message = Option.getOrUndefined(decodeMessage(wire))
  return message?.type === "user" || message?.type === "synthetic"
}

/**
 * The model of the newest step among messages that are newest first.
 *
 * @category getters
 * @since 0.1.0
 */
export const lastModel = (newestFirst: ReadonlyArray<unknown>): typeof WireModel.Type | undefined =>
  newestFirst.map((wire) => Option.getOrUndefined(decodeMessage(wire))).find((message) => message?.type === "assistant")
    ?.model

/**
 * Whether nothing more is to come after the last of these messages, oldest first, as far as the message tells.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSettled = (wire: ReadonlyArray<unknown>): boolean => {
  const last = wire.map((entry) => Option.getOrUndefined(decodeMessage(entry))).findLast((message) =>
    message !== undefined && ["user", "synthetic", "assistant"].includes(message.type)
  )
  if (last === undefined) return true
  if (last.type !== "assistant") return false
  return isPresent(last.error) ? !isAborted(last.error) : isLastStep(last)
}

/**
 * Whether an input that the server itself made belongs to the answer before it. After the end of an answer, the word of a subagent in the
 * background begins a run of its own.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isContinuation = (metadata: Readonly<Record<string, unknown>> | undefined, hasEnded: boolean): boolean =>
  !hasEnded || metadata?.["source"] !== "subagent"

/**
 * The messages of a session, oldest first: each step answers the input before it. `end` says how the last run ended.
 *
 * **Details**
 *
 * A step that was interrupted and went on all the same was stopped with the server, and lost nothing but its own words. A summary that the
 * server needed in the middle of an answer is a step of that answer; one that somebody ordered is not. `usageOf` tells what a summary took
 * whose message does not.
 *
 * @category translations
 * @since 0.1.0
 */
export const toMessages = (
  wire: ReadonlyArray<unknown>,
  sessionId: SessionId,
  place: Place,
  end: RunEnd,
  { before, usageOf }: {
    readonly before?: MessageId | undefined
    readonly usageOf?: (summary: MessageId) => Used | undefined
  } = {}
): Ordered => {
  const messages: Array<Message> = []
  const unread: Array<UnreadMessage> = []
  let input = before
  let model: typeof WireModel.Type | undefined
  let hasEnded = false
  let calledMillis: number | undefined
  const decoded = wire.map((entry) => Option.getOrUndefined(decodeMessage(entry)))
  for (const [index, message] of decoded.entries()) {
    if (message === undefined) {
      unread.push({ field: "id", after: messages.at(-1)?.info.id, createdMillis: undefined })
      continue
    }
    const { id, type } = message
    const createdMillis = message.time?.created ?? 0
    const following = () => decoded.slice(index + 1).find((other) => other !== undefined && roles.has(other.type))
    if (type === "assistant" || type === "model-switched") model = message.model ?? model
    if (type === "user" || type === "synthetic") {
      const isContinued = type === "synthetic" && isContinuation(message.metadata, hasEnded)
      messages.push({ info: toInput({ id, sessionId, createdMillis, isContinuation: isContinued }), parts: [] })
      input = id
      hasEnded = false
      calledMillis = message.time?.created
    } else if (type === "compaction") {
      calledMillis = undefined
      if (input === undefined || message.reason === "manual") continue
      const next = following()
      const use = message.tokens === undefined ? usageOf?.(id) ?? {} : message
      const ending = summaryEnding(message, { end, next })
      const { cost, tokens } = use
      calledMillis = ending.completedMillis
      messages.push({
        info: assistant(
          { id, sessionId, parentId: input, createdMillis },
          { ...summary(message.model ?? model ?? next?.model), ...ending, cost, tokens },
          place
        ),
        parts: stepEnd(id, { cost, tokens, finish: ending.finish })
      })
    } else if (type === "assistant") {
      const next = following()
      const hasGoneOn = next !== undefined &&
        (next.type === "assistant" || (next.type === "synthetic" && isContinuation(next.metadata, isLastStep(message))))
      const parts = toParts(id, message)
      const isRefused = parts.parts.some((part) => part.type === "tool" && part.isRefused === true)
      const finish = toFinish(message.finish, parts.parts.some((part) => part.type === "tool"))
      const told = { ...message, ...(finish !== undefined && { finish }) }
      const step = ending(told, { isRefused, hasGoneOn, end: next === undefined ? end : "stopped" })
      hasEnded = isLastStep(told)
      messages.push(
        input === undefined
          ? { info: { role: "opaque", id, sessionId, createdMillis, field: "the prompt before it" }, ...parts }
          : {
            info: assistant(
              { id, sessionId, parentId: input, createdMillis, ...calledAt(calledMillis, createdMillis) },
              { ...message, ...step },
              place
            ),
            ...parts
          }
      )
      const goesOn = !hasEnded && step.error === undefined && step.finish !== undefined
      calledMillis = goesOn ? step.completedMillis : undefined
    }
  }
  return { messages, unread, input }
}

/**
 * When the model was called for a step: once the input was delivered, or the step before it had ended. The step itself is noted when its model
 * begins to answer. Nothing if the message has no such times.
 *
 * @category conversions
 * @since 0.1.0
 */
export const calledAt = (calledMillis: number | undefined, createdMillis: number): { readonly calledMillis?: number } =>
  calledMillis === undefined || calledMillis > createdMillis ? {} : { calledMillis }

/**
 * What ends a step, where its message says more or less than the domain means by it.
 *
 * @category translations
 * @since 0.1.0
 */
export const ending = (
  { error, finish, time }: Pick<typeof WireMessage.Type, "error" | "finish" | "time">,
  { end, hasGoneOn, isRefused }: { readonly isRefused: boolean; readonly hasGoneOn: boolean; readonly end: RunEnd }
) => {
  const createdMillis = time?.created ?? 0
  const completed = time?.completed ?? undefined
  const completedMillis = completed === undefined
    ? undefined
    : typeof completed === "number"
    ? completed
    : createdMillis
  const isStopped = isPresent(error) && isAborted(error)
  if (isStopped && isRefused) return { completedMillis, finish: "tool-calls", error: undefined }
  if (isStopped && hasGoneOn) return { completedMillis, finish: undefined, error: undefined }
  if (isStopped && (end === "shutdown" || end === "running")) {
    return { completedMillis: undefined, finish: undefined, error: undefined }
  }
  if (isStopped && end === "inactive") return { completedMillis, finish: undefined, error: inactive }
  if (isPresent(error)) return { completedMillis, finish: finishOf(error), error: toFailure(error) }
  // An interruption while the model's next try is waited for leaves the message open forever.
  if (completedMillis === undefined && (end === "stopped" || end === "inactive") && !hasGoneOn) {
    return { completedMillis: createdMillis, finish: undefined, error: end === "inactive" ? inactive : aborted }
  }
  return { completedMillis, finish, error: undefined }
}

/**
 * **Details**
 *
 * If one resource is unreadable, the ask gets no patterns, so that no rule allows what nobody can read: a person is asked. A line for the
 * shell is asked for as a whole, and its commands are the patterns. `runs` know the call that asks, unless it was missed.
 *
 * @category translations
 * @since 0.1.0
 */
export const toPermission = (
  wire: typeof WirePermission.Type,
  runs?: Runs.Runs
): PermissionAsk => {
  const { action = "unknown", resources = [], save = [] } = wire
  const { tool } = toolOf(wire.source)
  const call = runs && tool && Runs.callOf(runs, wire.sessionID, tool.messageId, tool.callId)
  const isShell = action === "shell"
  const metadata = { ...(call?.input !== undefined && metadataOf(call.name, call.input)), ...wire.metadata }
  return {
    _tag: "Permission",
    id: wire.id,
    sessionId: wire.sessionID,
    permission: action,
    patterns: isShell ? resources.flatMap(commandsOf) : resources,
    always: save,
    metadata: isShell && resources.length > 0 ? { ...metadata, command: resources.join("\n") } : metadata,
    ...(tool !== undefined && { tool })
  }
}

/**
 * @category translations
 * @since 0.1.0
 */
export const toQuestion = (wire: typeof WireForm.Type): QuestionAsk => ({
  _tag: "Question",
  id: wire.id,
  sessionId: wire.sessionID,
  questions: (wire.fields ?? []).map((field) => ({
    question: field.description ?? field.title ?? "",
    header: field.title ?? "",
    options: (field.options ?? []).flatMap(({ description = "", label, value = label }) =>
      value === undefined ? [] : [{ label: value, description }]
    ),
    multiple: field.type === "multiselect",
    custom: field.custom ?? true
  })),
  ...toolOf(wire.metadata?.tool)
})

/**
 * The body of an answer to a form. A question without an answer is left out.
 *
 * @category translations
 * @since 0.1.0
 */
export const fromAnswers = (form: typeof WireForm.Type, answers: QuestionAnswers) =>
  Object.fromEntries(
    (form.fields ?? []).flatMap(({ key, type }, index) => {
      const chosen = answers[index] ?? []
      const [first] = chosen
      return first === undefined ? [] : [[key ?? `q${index}`, type === "multiselect" ? chosen : first]]
    })
  )

/**
 * @category translations
 * @since 0.1.0
 */
export const toAgent = (wire: typeof WireAgent.Type): Agent => ({
  // A prompt names an agent by its id.
  name: wire.id ?? wire.name ?? "",
  isHidden: wire.hidden ?? false
})

/**
 * The rules of an agent. What is unreadable of them allows, so that no limit is taken for given.
 *
 * @category translations
 * @since 0.1.0
 */
export const toAgentRules = (wire: typeof WireAgent.Type): AgentRules => ({
  name: toAgent(wire).name,
  isSubagent: wire.mode === "subagent",
  rules: (wire.permissions ?? [{}]).map(({ action = "*", effect = "allow", resource = "*" }) => ({
    action,
    resource,
    effect
  }))
})

/**
 * The body of a prompt. It waits for the answers before it (`queue`), as in 1.x: a prompt that steers would take over the answer that is
 * being given. 2.x has no `format`, so the schema is part of the text. It keeps a mentioned agent to itself, so the text asks the model to call it
 * (0.0.0-next-16350).
 *
 * @category translations
 * @since 0.1.0
 */
export const fromPrompt = ({ format, ids, parts }: Prompt): Record<string, unknown> => {
  const files = parts.flatMap((part) =>
    part.type === "file" ? [{ uri: part.url, ...(part.filename !== undefined && { name: part.filename }) }] : []
  )
  const agents = parts.flatMap((part) => (part.type === "agent" ? [{ name: part.name }] : []))
  const texts = parts.flatMap((part) => (part.type === "text" ? [part.text] : []))
  return {
    ...(ids !== undefined && { id: ids.promptId }),
    text: [...texts, ...agents.map(callOf), ...(format === undefined ? [] : [orderOf(format)])].join("\n\n"),
    ...(files.length > 0 && { files }),
    ...(agents.length > 0 && { agents }),
    delivery: "queue"
  }
}

/**
 * The message of a summary that nobody ordered, from the event by which it began.
 *
 * @category constructors
 * @since 0.1.0
 */
export const summaryId = (eventId: string): MessageId | undefined =>
  Option.getOrUndefined(decodeId(eventId.replace(/^evt_/, "msg_")))

/**
 * The step that writes a summary. The server does not tell its model until it has ended, and its beta never does: it is the session's.
 *
 * @category constructors
 * @since 0.1.0
 */
export const summary = (model: typeof WireModel.Type | undefined) => ({
  // As 1.x names the agent.
  agent: "compaction",
  model,
  isSummary: true
})

/**
 * A prompt, or an input by which the server itself goes on.
 *
 * @category constructors
 * @since 0.1.0
 */
export const toInput = (info: Omit<UserMessage, "role" | "isPrompt">): UserMessage => ({
  role: "user",
  ...info,
  ...(!info.isContinuation && { isPrompt: true })
})

// internal

/**
 * How a summary ended in whose middle or behind which the answer goes on. Its own failure ends a run only if nothing is behind it: the server
 * tells of a prompt that was too large by the failure of its step.
 */
const summaryEnding = (
  { error, status, time }: Pick<typeof WireMessage.Type, "error" | "status" | "time">,
  { end, next }: { readonly end: RunEnd; readonly next: typeof WireMessage.Type | undefined }
) => {
  const createdMillis = time?.created ?? 0
  const completedMillis = next?.time?.created ?? createdMillis
  if (status === "completed") return { completedMillis, finish: "stop", error: undefined }
  const failure = next !== undefined || status !== "failed"
    ? undefined
    : end === "stopped"
    ? aborted
    : end === "ended" && readError(error).type !== interruptedSummary
    ? toFailure(error)
    : undefined
  return { completedMillis: failure && completedMillis, finish: undefined, error: failure }
}

const interruptedSummary = "compaction.interrupted"

const roles = new Set(["user", "synthetic", "assistant"])

/** Messages that the model sees, so that there is something to summarise. */
const said = new Set([...roles, "shell", "skill"])

const decodeId = Schema.decodeUnknownOption(MessageId)
const decodeMessage = Schema.decodeUnknownOption(WireMessage)
const decodeCompaction = Schema.decodeUnknownOption(WireCompaction)
const decodeContent = Schema.decodeUnknownOption(WireContent)
const decodeError = Schema.decodeUnknownOption(WireError)
const isSessionId = Schema.is(SessionId)

const readError = (wire: unknown): typeof WireError.Type =>
  Option.getOrElse(decodeError(wire), () => (typeof wire === "string" ? { message: wire } : {}))

const isPresent = (value: unknown): boolean => value !== undefined && value !== null

const isLastStep = ({ error, finish, time }: Pick<typeof WireMessage.Type, "error" | "finish" | "time">): boolean =>
  !isPresent(error) && isPresent(time?.completed) && finish !== undefined && finish !== "tool-calls" &&
  finish !== "unknown"

const providerFailed = /^Provider request failed with HTTP (\d{3})(?:: ([\s\S]*))?$/

const contentFilter = "provider.content-filter"

/** The names that 1.x has for failures, as far as they are the same. */
const names = new Map([
  ["aborted", "MessageAbortedError"],
  [contentFilter, "ContentFilterError"],
  ["unknown", "UnknownError"],
  ["provider.unknown", "UnknownError"]
])

/** Failures after which the beta calls the model again. */
const retried = new Set(["provider.rate-limit", "provider.internal"])

/** The two texts of the beta for a refusal that stops the agent. */
const refusal = /^The user (?:declined this tool call|dismissed this question)/

const outputOf = (content: typeof WireToolState.Type["content"]): string | undefined =>
  content?.reduce<string | undefined>(
    (before, { text }) =>
      text === undefined
        ? before
        : before === undefined
        ? text
        : `${before}${before.endsWith("\n") ? "" : "\n"}${text}`,
    undefined
  )

const toolOf = (
  source: typeof AskSource.Type | undefined
): Pick<PermissionAsk, "tool"> => {
  const callId = source?.callID ?? source?.id
  return source === undefined || callId === undefined ? {} : { tool: { messageId: source.messageID, callId } }
}

const toParts = (
  messageId: MessageId,
  message: typeof WireMessage.Type
): { readonly parts: ReadonlyArray<WirePart>; readonly unread?: ReadonlyArray<UnreadPart> } => {
  const parts: Array<WirePart> = []
  const unread: Array<UnreadPart> = []
  const isComplete = isPresent(message.time?.completed)
  const counts = { text: 0, reasoning: 0 }
  for (const [index, entry] of (message.content ?? []).entries()) {
    const content = Option.getOrUndefined(decodeContent(entry))
    const type = content?.type
    if (type === "text" || type === "reasoning") {
      const id = partId(messageId, type, counts[type]++)
      if (content?.text !== undefined) parts.push({ type, id, messageId, text: content.text, isComplete })
      else {unread.push({
          at: parts.length,
          field: `content.${index}.text`,
          id,
          isText: type === "text",
          part: undefined
        })}
    } else if (type === "tool") {
      parts.push(
        toTool(messageId, content?.id ?? `${index}`, content?.name ?? "unknown", content?.state, content?.time)
      )
    } else if (type === undefined) {
      unread.push({ at: parts.length, field: `content.${index}.type`, id: undefined, isText: true, part: undefined })
    }
  }
  if (message.content === undefined) {
    unread.push({ at: 0, field: "content", id: undefined, isText: true, part: undefined, isList: true })
  }
  const finish = finishOf(message.error) ?? message.finish
  parts.push(...stepEnd(messageId, { ...message, finish, files: message.snapshot?.files }))
  return { parts, ...(unread.length > 0 && { unread }) }
}

/** Nearly the words by which 1.x has a model call a mentioned agent (1.18.33). */
const callOf = ({ name }: { readonly name: string }): string =>
  `Use the above message and context to generate a prompt, and call the subagent tool with the agent: ${name}`

const orderOf = (format: Readonly<Record<string, unknown>>): string =>
  [
    "Answer with one JSON value that fits this JSON Schema, and with nothing else: no other words and no block of code.",
    JSON.stringify(format["schema"] ?? format)
  ].join("\n")
