/**
 * The JSON of OpenCode 1.x and its translation to the domain.
 *
 * The shapes are those of `GET /doc` and of the events of opencode 1.18.33. They name only the fields that the domain
 * needs, so additional fields do no harm. A field that is absent, `null` or of another shape loses only itself
 * (`Lenient`), and the translation uses the domain's default instead. Only fields without which the whole is useless
 * are required: the id of a session or an ask, the text of a text.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type PermissionAsk, PermissionRule, type QuestionAsk } from "../../domain/Ask.ts"
import { AskId as AnyAskId, PartId as AnyPartId } from "../../domain/Ids.ts"
import type { Message, Session, SessionStatus, StoredInfo, UnreadPart } from "../../domain/Message.ts"
import type { Todo, WirePart } from "../../domain/Part.ts"
import type { ModelRef, Prompt } from "../../domain/Prompt.ts"
import type { UpstreamFailure } from "../../domain/UpstreamFailure.ts"
import * as Upstream from "../../domain/UpstreamFailure.ts"
import * as Usage from "../../domain/Usage.ts"
import type { Agent, MessagePage, UnreadMessage } from "../Dialect.ts"
import { each, eachOr, isTooDeep, Json, maybe } from "../Lenient.ts"
import { CallId, isId, MessageId, Name, sessionFields, SessionId, toUsage, WireTokens } from "../WireValues.ts"
import { changedFiles } from "./ToolFiles.ts"

export { MessageId, SessionId } from "../WireValues.ts"

/**
 * @category schemas
 * @since 0.1.0
 */
export const PartId = AnyPartId.check(isId("prt"))
/**
 * @category schemas
 * @since 0.1.0
 */
export const AskId = AnyAskId.check(isId("per|que"))

type PartId = AnyPartId

const WireFailure = Schema.Struct({
  name: maybe(Schema.String),
  message: maybe(Schema.String),
  data: maybe(Schema.Struct({
    message: maybe(Schema.String),
    statusCode: maybe(Schema.Finite),
    isRetryable: maybe(Schema.Boolean),
    metadata: maybe(Schema.Struct({ url: maybe(Schema.String) }))
  }))
})

const knownFields = {
  ...sessionFields,
  agent: maybe(Schema.String),
  directory: maybe(Schema.String),
  permission: maybe(each(PermissionRule)),
  model: maybe(Schema.Struct({ id: Schema.String, providerID: Schema.String }))
}

/**
 * The resolved folder of a request, absolute and without links.
 *
 * @category schemas
 * @since 0.1.0
 */
export const WirePaths = Schema.Struct({ directory: Schema.String })

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
 * **Details**
 *
 * No field is required, so that an unreadable field never loses the message. `toInfo` decides the meaning of a missing
 * field.
 *
 * @category schemas
 * @since 0.1.0
 */
export const WireInfo = Schema.Struct({
  role: maybe(Schema.String),
  id: maybe(MessageId),
  sessionID: maybe(SessionId),
  parentID: maybe(MessageId),
  time: maybe(Schema.Struct({ created: maybe(Schema.Finite), completed: Schema.optionalKey(Schema.Unknown) })),
  finish: maybe(Schema.String),
  error: Schema.optionalKey(Schema.Unknown),
  cost: maybe(Schema.Finite),
  tokens: maybe(WireTokens),
  summary: maybe(Schema.Boolean),
  mode: maybe(Name),
  agent: maybe(Name),
  providerID: maybe(Name),
  modelID: maybe(Name),
  structured: Schema.optionalKey(Schema.Unknown),
  path: maybe(Schema.Struct({ cwd: maybe(Schema.String), root: maybe(Schema.String) }))
})
type WireInfo = typeof WireInfo.Type

const WirePartIds = Schema.Struct({
  id: maybe(PartId),
  messageID: maybe(MessageId),
  sessionID: maybe(SessionId),
  type: maybe(Schema.String)
})

const WireText = Schema.Struct({
  text: Schema.String,
  synthetic: maybe(Schema.Boolean),
  metadata: maybe(Json),
  time: maybe(Schema.Struct({ end: Schema.optionalKey(Schema.Unknown) }))
})

const WireToolState = Schema.Struct({
  status: maybe(Schema.Literals(["pending", "running", "completed", "error"])),
  input: maybe(Json),
  title: maybe(Schema.String),
  output: maybe(Schema.String),
  error: maybe(Schema.String),
  metadata: maybe(Json),
  time: maybe(Schema.Struct({ start: maybe(Schema.Finite), end: maybe(Schema.Finite) }))
})

const WireTool = Schema.Struct({
  callID: maybe(CallId),
  tool: maybe(Schema.String),
  state: maybe(WireToolState)
})

const WireFile = Schema.Struct({ mime: maybe(Schema.String), url: Schema.String, filename: maybe(Schema.String) })

const WireStepFinish = Schema.Struct({
  reason: maybe(Schema.String),
  cost: maybe(Schema.Finite),
  tokens: maybe(WireTokens)
})

const WirePatch = Schema.Struct({ files: maybe(each(Schema.String)) })

const WireCompaction = Schema.Struct({ auto: maybe(Schema.Boolean) })

const WireMessage = Schema.Struct({ info: maybe(WireInfo), parts: maybe(Schema.Array(Schema.Unknown)) })

const AskTool = Schema.Struct({ messageID: MessageId, callID: CallId })

/**
 * @category schemas
 * @since 0.1.0
 */
export const WirePermission = Schema.Struct({
  id: AskId,
  sessionID: SessionId,
  permission: maybe(Schema.String),
  patterns: maybe(Schema.Array(Schema.String)),
  always: maybe(each(Schema.String)),
  metadata: maybe(Json),
  tool: maybe(AskTool)
})

const WireQuestionItem = Schema.Struct({
  question: maybe(Schema.String),
  header: maybe(Schema.String),
  options: maybe(each(Schema.Struct({ label: Schema.String, description: maybe(Schema.String) }))),
  multiple: maybe(Schema.Boolean),
  custom: maybe(Schema.Boolean)
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireQuestion = Schema.Struct({
  id: AskId,
  sessionID: SessionId,
  // Answers match questions by place, so an odd question keeps its place.
  questions: maybe(eachOr(WireQuestionItem, {})),
  tool: maybe(AskTool)
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireTodo = Schema.Struct({
  content: Schema.String,
  status: maybe(Schema.String),
  priority: maybe(Schema.String)
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireAgent = Schema.Struct({ name: Schema.String, hidden: maybe(Schema.Boolean) })

/**
 * The providers that can be used, each with its models, and those with their `variants` (1.1.65 to 1.18.33).
 *
 * @category schemas
 * @since 0.1.0
 */
export const WireProviders = Schema.Struct({
  providers: each(Schema.Struct({ id: Schema.String, models: maybe(Schema.Record(Schema.String, Schema.Unknown)) }))
})

const decodeModel = Schema.decodeUnknownOption(Schema.Struct({ variants: maybe(Json) }))

/**
 * The variants of a model, if the server tells them; nothing if the server does not have the model.
 *
 * @category getters
 * @since 0.1.0
 */
export const findModel = (
  { providers }: typeof WireProviders.Type,
  { modelId, providerId }: ModelRef
): { readonly variants: ReadonlyArray<string> | undefined } | undefined => {
  const models = providers.find(({ id }) => id === providerId)?.models
  if (models === undefined || !Object.hasOwn(models, modelId)) return undefined
  const { variants } = Option.getOrUndefined(decodeModel(models[modelId])) ?? {}
  return { variants: variants && Object.keys(variants) }
}

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireStatus = Schema.Struct({
  type: Schema.String,
  attempt: maybe(Schema.Finite),
  message: maybe(Schema.String),
  next: maybe(Schema.Finite)
})

/**
 * The statuses of the sessions that are not idle; an odd status counts as busy.
 *
 * @category schemas
 * @since 0.1.0
 */
export const WireStatuses = Schema.Record(
  SessionId,
  WireStatus.pipe(Schema.catchDecoding(() => Effect.succeedSome({ type: "busy" })))
)

/**
 * A session.
 *
 * @category translations
 * @since 0.1.0
 */
export const toSession = (wire: typeof WireSession.Type): Session => ({
  id: wire.id,
  parentId: wire.parentID,
  title: wire.title ?? "",
  agent: wire.agent,
  directory: decodeDirectory(wire.directory ?? ""),
  createdMillis: wire.time?.created ?? 0,
  updatedMillis: wire.time?.updated ?? wire.time?.created ?? 0,
  permission: wire.permission ?? [],
  metadata: wire.metadata ?? {},
  usage: toUsage(wire.cost, wire.tokens),
  model: wire.model && { providerId: wire.model.providerID, modelId: wire.model.id },
  revertedFrom: wire.revert?.messageID
})

/**
 * The folder that the server works in for a stored or given directory: the server decodes both (1.18.33). A path that
 * cannot be decoded stays unchanged.
 *
 * @category translations
 * @since 0.1.0
 */
export const decodeDirectory = (directory: string): string =>
  Result.getOrElse(Result.try(() => decodeURIComponent(directory)), () => directory)

/**
 * The status of a session; every status other than idle and retry counts as busy.
 *
 * @category translations
 * @since 0.1.0
 */
export const toStatus = ({ attempt, message, next, type }: typeof WireStatus.Type): SessionStatus =>
  type === "retry"
    ? { type, attempt: attempt ?? 1, message: Upstream.reasonOf(message ?? ""), nextMillis: next ?? 0 }
    : { type: type === "idle" ? "idle" : "busy" }

/**
 * An upstream error without headers and bodies, and with its URL without a query. Any value in the place of an error
 * counts as one.
 *
 * @category translations
 * @since 0.1.0
 */
export const toFailure = (wire: unknown): UpstreamFailure => {
  const { data, message, name = "UnknownError" }: typeof WireFailure.Type = Option.getOrElse(
    decodeFailure(wire),
    () => (typeof wire === "string" ? { message: wire } : {})
  )
  return {
    name,
    message: Upstream.reasonOf(data?.message ?? message ?? "") || name,
    ...(data?.statusCode !== undefined && { statusCode: data.statusCode }),
    isRetryable: data?.isRetryable ?? false,
    ...(data?.metadata?.url !== undefined && { url: withoutQuery(data.metadata.url) })
  }
}

/**
 * The known fields of a message, from its request or from the event around it. `partId` replaces the id of a part whose
 * own id does not matter.
 *
 * @category models
 * @since 0.1.0
 */
export interface Within {
  readonly sessionId?: SessionId | undefined
  readonly messageId?: MessageId | undefined
  readonly partId?: PartId | undefined
}

/**
 * The info of a message; `None` if its id is unreadable. `parts` tell whether OpenCode wrote a user message to continue
 * the turn, and why a step ended if its info does not say so.
 *
 * **Details**
 *
 * Without a role, a message with a parent is an answer. An answer with an unreadable parent is opaque and belongs to
 * nobody. `completed` is written only at the end of a message (1.18.33), so any value there marks the end.
 *
 * @category translations
 * @since 0.1.0
 */
export const toInfo = (
  wire: WireInfo,
  parts: ReadonlyArray<WirePart> = [],
  within: Within = {},
  isContinued = false
): Option.Option<StoredInfo> => {
  const id = wire.id ?? within.messageId ?? parts[0]?.messageId
  const sessionId = wire.sessionID ?? within.sessionId
  if (id === undefined || sessionId === undefined) return Option.none()
  const completed = wire.time?.completed ?? undefined
  const known = typeof completed === "number" ? completed : undefined
  const createdMillis = wire.time?.created ?? known ?? 0
  const base = { id, sessionId, createdMillis }
  const { parentID: parentId, role } = wire
  if (role === "user") {
    return Option.some({ role, ...base, isContinuation: isContinued })
  }
  if (parentId === undefined) {
    return Option.some({ role: "opaque", ...base, field: role === "assistant" ? "info.parentID" : "info.role" })
  }
  const error = wire.error ?? undefined
  return Option.some({
    role: "assistant",
    ...base,
    parentId,
    completedMillis: completed === undefined ? undefined : known ?? createdMillis,
    finish: wire.finish ?? finishOf(parts),
    error: error === undefined ? undefined : toFailure(error),
    usage: toUsage(wire.cost, wire.tokens),
    isSummary: wire.summary ?? wire.mode === "compaction",
    structured: wire.structured ?? undefined,
    directory: wire.path?.cwd,
    worktree: wire.path?.root,
    agent: wire.agent ?? wire.mode,
    model: wire.providerID === undefined || wire.modelID === undefined
      ? undefined
      : { providerId: wire.providerID, modelId: wire.modelID }
  })
}

/**
 * A stored message, read part by part; `None` if it is not an object or its id is unreadable.
 *
 * @category translations
 * @since 0.1.0
 */
export const toMessage = (wire: unknown, within: Within = {}): Option.Option<Message> =>
  Option.flatMap(decodeMessage(wire), ({ info: wireInfo = {}, parts: wireParts }) => {
    const around = {
      sessionId: wireInfo.sessionID ?? within.sessionId,
      messageId: wireInfo.id ?? within.messageId,
      // A user's parts only tell the kind of the message.
      partId: wireInfo.role === "user" ? AnyPartId.make("") : undefined
    }
    const parts: Array<WirePart> = []
    const unread: Array<UnreadPart> = []
    let isContinued = false
    const isOutside = outsideOfStep(wireParts ?? [], wireInfo.finish !== undefined && !isPresent(wireInfo.error))
    for (const [index, part] of (wireParts ?? []).entries()) {
      const read = readPart(part, around)
      const at = parts.length
      if (read._tag === "Unread") {
        const isText = read.isText && (Predicate.hasProperty(part, "text") || !isOutside(index))
        unread.push({ at, field: `parts.${index}${read.field}`, id: read.id, isText, part: read.part })
      } else if (read._tag === "Part") {
        isContinued ||= isContinuation(read.part)
        Option.map(fromAnyPart(read.part), (part) => parts.push(part))
      }
    }
    if (wireParts === undefined) unread.push(unreadList)
    const altered = [
      ...(isClamped(wireInfo) ? ["info.cost or info.tokens"] : []),
      ...(wireParts ?? []).flatMap((part, index) => (isCut(part) ? [`parts.${index}.state`] : []))
    ]
    return Option.map(
      toInfo(wireInfo, parts, around, isContinued),
      (info) => ({
        info,
        parts: info.role === "user" ? [] : parts,
        ...(unread.length > 0 && { unread }),
        ...(altered.length > 0 && { altered })
      })
    )
  })

/**
 * The messages of a session, each read on its own.
 *
 * @category translations
 * @since 0.1.0
 */
export const toMessages = (
  wire: ReadonlyArray<unknown>,
  sessionId: SessionId
): Pick<MessagePage, "messages" | "unread"> => {
  const messages: Array<Message> = []
  const unread: Array<UnreadMessage> = []
  for (const entry of wire) {
    const message = toMessage(entry, { sessionId })
    if (Option.isSome(message)) messages.push(message.value)
    else unread.push({ field: "info.id", after: messages.at(-1)?.info.id, createdMillis: createdOf(entry) })
  }
  return { messages, ...(unread.length > 0 && { unread }) }
}

/**
 * A part with its ids.
 *
 * @category models
 * @since 0.1.0
 */
export type AnyPart =
  & { readonly id: PartId; readonly messageID: MessageId; readonly sessionID: SessionId | undefined }
  & PartBody

/**
 * The fields of a part besides its ids.
 *
 * @category models
 * @since 0.1.0
 */
export type PartBody =
  | ({ readonly type: "text" | "reasoning" } & typeof WireText.Type)
  | ({ readonly type: "tool" } & typeof WireTool.Type)
  | ({ readonly type: "file" } & typeof WireFile.Type)
  | ({ readonly type: "step-finish" } & typeof WireStepFinish.Type)
  | ({ readonly type: "patch" } & typeof WirePatch.Type)
  | ({ readonly type: "compaction" } & typeof WireCompaction.Type)

/**
 * A readable part, a part of an unknown type, or an unreadable part; `field` names the unreadable field.
 *
 * @category models
 * @since 0.1.0
 */
export type ReadPart =
  | { readonly _tag: "Part"; readonly part: AnyPart }
  | { readonly _tag: "Unknown" }
  | ({ readonly _tag: "Unread" } & Omit<UnreadPart, "at">)

/**
 * Reads a part. If the message around the part is known, its ids replace those of the part.
 *
 * @category translations
 * @since 0.1.0
 */
export const readPart = (wire: unknown, within: Within = {}): ReadPart => {
  const ids: typeof WirePartIds.Type = Option.getOrElse(decodeIds(wire), () => ({}))
  const { id = within.partId, type } = ids
  const hasText = Predicate.hasProperty(wire, "text")
  const unread = (field: string, isText: boolean, part?: WirePart): ReadPart => ({
    _tag: "Unread",
    field,
    id,
    isText,
    part
  })
  // If the type of a part is odd, its other fields may show that it is not a text.
  if (type === undefined) return unread(".type", hasText || (ids.id === undefined && !hasFieldOfOther(wire)))
  const body = readBody(type, wire)
  // A later server may know more types. Only a part with a text can be a text whose type is odd.
  if (body === undefined) return hasText ? unread(".type", false) : { _tag: "Unknown" }
  if (Option.isNone(body)) return unread(type === "file" ? ".url" : ".text", type === "text")
  const messageID = within.messageId ?? ids.messageID
  const sessionID = within.sessionId ?? ids.sessionID
  if (messageID === undefined) return unread(".messageID", type === "text")
  if (id !== undefined) return { _tag: "Part", part: { ...body.value, id, messageID, sessionID } }
  const nameless = fromAnyPart({ ...body.value, id: AnyPartId.make(""), messageID, sessionID })
  return unread(".id", type === "text", Option.getOrUndefined(nameless))
}

/**
 * Reads a part; `None` if its type is unknown or it is unreadable.
 *
 * @category translations
 * @since 0.1.0
 */
export const decodePart = (part: unknown, within?: Within): Option.Option<AnyPart> => {
  const read = readPart(part, within)
  return read._tag === "Part" ? Option.some(read.part) : Option.none()
}

/**
 * Whether the part shows that OpenCode wrote its user message to continue the turn: the order to sum up, or the order
 * to continue after it (1.18.33). An order to sum up that a person gave (`auto: false`) is a prompt of its own.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isContinuation = (part: AnyPart): boolean =>
  (part.type === "compaction" && part.auto !== false) ||
  (part.type === "text" && part.synthetic === true && part.metadata?.["compaction_continue"] === true)

/**
 * Whether the message orders a summary of the conversation.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isOrder = (message: unknown): boolean =>
  Option.exists(decodeOrder(message), ({ parts }) => parts.length > 0)

/**
 * Whether the newest message belongs to a compaction that did not end with a summary, or has not yet.
 *
 * @category predicates
 * @since 0.1.0
 */
export const endsInCompaction = (wire: ReadonlyArray<unknown>, messages: ReadonlyArray<Message>): boolean => {
  const info = messages.at(-1)?.info
  return (info?.role === "user" && !info.isContinuation && isOrder(wire.at(-1))) ||
    (info?.role === "assistant" && info.isSummary && (info.finish === undefined || info.error !== undefined))
}

/**
 * A part of the domain; `None` if the domain does not know it.
 *
 * @category translations
 * @since 0.1.0
 */
export const toPart = (wire: unknown, within?: Within): Option.Option<WirePart> =>
  Option.flatMap(decodePart(wire, within), fromAnyPart)

/**
 * @category translations
 * @since 0.1.0
 */
export const fromAnyPart = (wire: AnyPart): Option.Option<WirePart> => {
  const ids = { id: wire.id, messageId: wire.messageID }
  switch (wire.type) {
    case "text":
    case "reasoning":
      return Option.some({ ...ids, type: wire.type, text: wire.text, isComplete: isPresent(wire.time?.end) })
    case "tool": {
      const { error, input, metadata, output, time, title } = wire.state ?? {}
      const tool = wire.tool ?? "unknown"
      const status = wire.state?.status ??
        (output !== undefined ? "completed" : error !== undefined ? "error" : "pending")
      const subagent = tool === "task" ? metadata?.["sessionId"] : undefined
      const files = changedFiles(tool, { ...wire.state, status })
      const isInterrupted = status === "error" && (error === cancelled || metadata?.["interrupted"] === true)
      const feedback = error === undefined ? undefined : refusalWithFeedback.exec(error)?.[1]
      return Option.some({
        ...ids,
        type: "tool",
        callId: wire.callID ?? wire.id,
        tool: firstName(tool, input),
        status,
        input: input ?? {},
        ...(title !== undefined && { title }),
        ...(output !== undefined && { output }),
        ...(error !== undefined && { error }),
        ...(error !== undefined && refusal.test(error) && { isRefused: true }),
        ...(isInterrupted && { isInterrupted: true }),
        ...(feedback !== undefined && { refusal: feedback }),
        ...(metadata !== undefined && { metadata }),
        ...(isSessionId(subagent) && { subagent }),
        ...(files !== undefined && { files }),
        ...(time?.start !== undefined && { startedMillis: time.start }),
        ...(time?.end !== undefined && { endedMillis: time.end })
      })
    }
    case "file":
      return Option.some({
        ...ids,
        type: "file",
        mediaType: wire.mime ?? "application/octet-stream",
        url: wire.url,
        ...(wire.filename !== undefined && { filename: wire.filename })
      })
    case "step-finish":
      return Option.some({
        ...ids,
        type: "step-finish",
        reason: wire.reason ?? unknownReason,
        ...toUsage(wire.cost, wire.tokens)
      })
    case "patch":
      return Option.some({ ...ids, type: "patch", files: wire.files ?? [] })
    case "compaction":
      return Option.none()
  }
}

/**
 * **Details**
 *
 * If one pattern is unreadable, the ask gets no patterns, so that no rule allows what nobody can read: a person is
 * asked.
 *
 * @category translations
 * @since 0.1.0
 */
export const toPermission = (wire: typeof WirePermission.Type): PermissionAsk => ({
  _tag: "Permission",
  id: wire.id,
  sessionId: wire.sessionID,
  permission: wire.permission ?? "unknown",
  patterns: wire.patterns ?? [],
  always: wire.always ?? [],
  metadata: wire.metadata ?? {},
  ...(wire.tool !== undefined && { tool: { messageId: wire.tool.messageID, callId: wire.tool.callID } })
})

/**
 * @category translations
 * @since 0.1.0
 */
export const toQuestion = (wire: typeof WireQuestion.Type): QuestionAsk => ({
  _tag: "Question",
  id: wire.id,
  sessionId: wire.sessionID,
  questions: (wire.questions ?? []).map((question) => ({
    question: question.question ?? question.header ?? "",
    header: question.header ?? "",
    options: (question.options ?? []).map(({ description, label }) => ({ label, description: description ?? "" })),
    multiple: question.multiple ?? false,
    // Free text is allowed unless the model says otherwise (1.18.33).
    custom: question.custom ?? true
  })),
  ...(wire.tool !== undefined && { tool: { messageId: wire.tool.messageID, callId: wire.tool.callID } })
})

/**
 * A to-do item with the usual spelling of its status.
 *
 * @category translations
 * @since 0.1.0
 */
export const toTodo = (wire: typeof WireTodo.Type): Todo => ({
  content: wire.content,
  status: todoStatuses.get(wire.status?.toLowerCase().replaceAll(/[-\s]/g, "_") ?? "") ?? "pending",
  ...(wire.priority !== undefined && { priority: wire.priority })
})

/**
 * An agent. `hidden` is `null` for agents of the configuration (1.18.33).
 *
 * @category translations
 * @since 0.1.0
 */
export const toAgent = (wire: typeof WireAgent.Type): Agent => ({
  name: wire.name,
  isHidden: wire.hidden ?? false
})

/**
 * The body of a prompt.
 *
 * @category translations
 * @since 0.1.0
 */
export const fromPrompt = (prompt: Prompt): Record<string, unknown> => ({
  ...(prompt.ids !== undefined && { messageID: prompt.ids.promptId }),
  parts: prompt.parts.map((part, index) => {
    const id = prompt.ids?.partIds[index]
    const identity = id === undefined ? {} : { id }
    switch (part.type) {
      case "text":
        return { ...identity, type: "text", text: part.text }
      case "file":
        return {
          ...identity,
          type: "file",
          mime: part.mediaType,
          url: part.url,
          ...(part.filename !== undefined && { filename: part.filename })
        }
      case "agent":
        return { ...identity, type: "agent", name: part.name }
      case "subtask":
        return {
          ...identity,
          type: "subtask",
          description: part.description,
          prompt: part.prompt,
          agent: part.agent,
          ...fromModel(part.model)
        }
    }
  }),
  ...fromModel(prompt.model),
  ...(prompt.agent !== undefined && { agent: prompt.agent }),
  ...(prompt.tools !== undefined && { tools: prompt.tools }),
  ...(prompt.variant !== undefined && { variant: prompt.variant }),
  ...(prompt.system !== undefined && { system: prompt.system }),
  ...(prompt.format !== undefined && { format: prompt.format })
})

// internal

const fromModel = (model: ModelRef | undefined) =>
  model === undefined ? {} : { model: { providerID: model.providerId, modelID: model.modelId } }

/**
 * The two texts of 1.18.33 for a refusal that stops the agent. A denial by a rule of the server has another text and
 * stops nothing.
 */
const refusal = /^The user (?:rejected permission to use this specific tool call\.|dismissed this question)$/

/** The text of 1.18.33 for a `task` whose session was stopped. */
const cancelled = "Task cancelled"

/**
 * The text of 1.18.33 for a refusal with a message. The model is told, and goes on unless something else of the step
 * was refused.
 */
const refusalWithFeedback =
  /^The user rejected permission to use this specific tool call with the following feedback: ([\s\S]*)$/

/** OpenCode renames a call that it cannot run to `invalid` and keeps the model's name for it in the input (1.18.33). */
const firstName = (tool: string, input: Readonly<Record<string, unknown>> | undefined): string => {
  const called = input?.["tool"]
  return tool === "invalid" && typeof called === "string" ? called : tool
}

const todoStatuses = new Map<string, Todo["status"]>([
  ["pending", "pending"],
  ["todo", "pending"],
  ["in_progress", "in_progress"],
  ["inprogress", "in_progress"],
  ["completed", "completed"],
  ["done", "completed"],
  ["cancelled", "cancelled"],
  ["canceled", "cancelled"]
])

const isClamped = ({ cost = 0, tokens: { cache, input, output, reasoning } = {} }: WireInfo): boolean =>
  [cost, input, output, reasoning, cache?.read, cache?.write].some((value = 0) => Usage.amount(value) !== value)

const isCut = (part: unknown): boolean =>
  Predicate.hasProperty(part, "state") && Predicate.isObject(part.state) &&
  Object.values(part.state).some((value) => Predicate.isObject(value) && isTooDeep(value))

const isSessionId = Schema.is(SessionId)
const decodeFailure = Schema.decodeUnknownOption(WireFailure)
const decodeMessage = Schema.decodeUnknownOption(WireMessage)
const decodeIds = Schema.decodeUnknownOption(WirePartIds)

const decodeText = Schema.decodeUnknownOption(WireText)
const decodeTool = Schema.decodeUnknownOption(WireTool)
const decodeFile = Schema.decodeUnknownOption(WireFile)
const decodeStepFinish = Schema.decodeUnknownOption(WireStepFinish)
const decodePatch = Schema.decodeUnknownOption(WirePatch)
const decodeOrder = Schema.decodeUnknownOption(Schema.Struct({
  info: Schema.Struct({ role: Schema.Literal("user") }),
  parts: each(Schema.Struct({ type: Schema.Literal("compaction") }))
}))
const decodeCompaction = Schema.decodeUnknownOption(WireCompaction)
const decodeTime = Schema.decodeUnknownOption(
  Schema.Struct({ info: Schema.Struct({ time: Schema.Struct({ created: Schema.Finite }) }) })
)

/** Fields that texts never have (1.18.33). */
const hasFieldOfOther = (wire: unknown): boolean =>
  ["tool", "callID", "state", "url", "mime", "snapshot", "reason", "tokens", "cost", "hash", "files"]
    .some((field) => Predicate.hasProperty(wire, field))

/**
 * Whether the part at a place cannot be one that the model made. The model's parts stand between the start and the
 * finish of the step, and only patches follow (1.18.33). If only one of the two is present, the first or the last part
 * is the missing one.
 */
const outsideOfStep = (parts: ReadonlyArray<unknown>, isFinished: boolean) => {
  const types = parts.map((part) => Option.getOrUndefined(decodeIds(part))?.type)
  const start = types.indexOf("step-start")
  const finish = types.lastIndexOf("step-finish")
  return (index: number): boolean => {
    const isBefore = start === -1 ? finish !== -1 && index === 0 : index < start
    const isBehind = finish === -1
      ? start !== -1 && isFinished && types.slice(index + 1).every((type) => type === "patch")
      : index > finish
    return isBefore || isBehind
  }
}

/** The fields of a part besides its ids; `undefined` if its type is unknown. */
const readBody = (type: string, wire: unknown): Option.Option<PartBody> | undefined => {
  switch (type) {
    case "text":
    case "reasoning":
      return Option.map(decodeText(wire), (body) => ({ type, ...body }))
    case "tool":
      return Option.map(decodeTool(wire), (body) => ({ type, ...body }))
    case "file":
      return Option.map(decodeFile(wire), (body) => ({ type, ...body }))
    case "step-finish":
      return Option.map(decodeStepFinish(wire), (body) => ({ type, ...body }))
    case "patch":
      return Option.map(decodePatch(wire), (body) => ({ type, ...body }))
    case "compaction":
      return Option.map(decodeCompaction(wire), (body) => ({ type, ...body }))
    default:
      return undefined
  }
}

/** OpenCode's word for the reason of a step that does not give one. */
const unknownReason = "unknown"

const finishOf = (parts: ReadonlyArray<WirePart>): string | undefined => {
  const reason = parts.findLast((part) => part.type === "step-finish")?.reason
  return reason === unknownReason ? undefined : reason
}

const createdOf = (wire: unknown): number | undefined =>
  Option.getOrUndefined(Option.map(decodeTime(wire), ({ info }) => info.time.created))

const unreadList = { at: 0, field: "parts", id: undefined, isText: true, part: undefined, isList: true }

const isPresent = (value: unknown): boolean => value !== undefined && value !== null

const withoutQuery = (url: string): string => url.split(/[?#]/, 1)[0] ?? ""
