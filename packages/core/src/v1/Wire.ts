/**
 * The JSON of OpenCode 1.x and its translation to the domain.
 *
 * The shapes are those of `GET /doc` and of the events of opencode 1.18.33. They name only what the domain needs, so that a
 * field more does no harm; a part or an event of an unknown type is dropped and counted by the caller.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { FileDiff } from "../Artifact.ts"
import type { PermissionAsk, QuestionAsk } from "../Ask.ts"
import type { Agent } from "../Dialect.ts"
import { MessageId, PartId, RequestId, SessionId } from "../Ids.ts"
import type { Message, MessageInfo, Session, SessionStatus } from "../Message.ts"
import type { Todo, WirePart } from "../Part.ts"
import type { ModelRef, Prompt } from "../Prompt.ts"
import type { UpstreamFailure } from "../Upstream.ts"
import * as Usage from "../Usage.ts"
import { changedFiles } from "./ToolFiles.ts"

const Json = Schema.Record(Schema.String, Schema.Unknown)

const WireTokens = Schema.Struct({
  input: Schema.Finite,
  output: Schema.Finite,
  reasoning: Schema.Finite,
  cache: Schema.Struct({ read: Schema.Finite, write: Schema.Finite })
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireFailure = Schema.Struct({
  name: Schema.String,
  data: Schema.optionalKey(Schema.Struct({
    message: Schema.optionalKey(Schema.String),
    statusCode: Schema.optionalKey(Schema.Finite),
    isRetryable: Schema.optionalKey(Schema.Boolean),
    metadata: Schema.optionalKey(Schema.Struct({ url: Schema.optionalKey(Schema.String) }))
  }))
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireSession = Schema.Struct({
  id: SessionId,
  parentID: Schema.optionalKey(SessionId),
  title: Schema.String,
  agent: Schema.optionalKey(Schema.String),
  directory: Schema.String,
  cost: Schema.optionalKey(Schema.Finite),
  tokens: Schema.optionalKey(WireTokens),
  time: Schema.Struct({ created: Schema.Finite, updated: Schema.optionalKey(Schema.Finite) })
})

const WireUser = Schema.Struct({
  role: Schema.Literal("user"),
  id: MessageId,
  sessionID: SessionId,
  time: Schema.Struct({ created: Schema.Finite })
})

const WireAssistant = Schema.Struct({
  role: Schema.Literal("assistant"),
  id: MessageId,
  sessionID: SessionId,
  parentID: MessageId,
  time: Schema.Struct({ created: Schema.Finite, completed: Schema.optionalKey(Schema.Finite) }),
  finish: Schema.optionalKey(Schema.String),
  error: Schema.optionalKey(WireFailure),
  cost: Schema.Finite,
  tokens: WireTokens,
  summary: Schema.optionalKey(Schema.Boolean),
  structured: Schema.optionalKey(Schema.Unknown),
  path: Schema.optionalKey(Schema.Struct({
    cwd: Schema.optionalKey(Schema.String),
    root: Schema.optionalKey(Schema.String)
  }))
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireInfo = Schema.Union([WireUser, WireAssistant])

const partFields = { id: PartId, messageID: MessageId, sessionID: SessionId }

const WireText = Schema.Struct({
  ...partFields,
  type: Schema.Literals(["text", "reasoning"]),
  text: Schema.String,
  synthetic: Schema.optionalKey(Schema.Boolean),
  metadata: Schema.optionalKey(Json),
  time: Schema.optionalKey(Schema.Struct({ end: Schema.optionalKey(Schema.Finite) }))
})

const WireTool = Schema.Struct({
  ...partFields,
  type: Schema.Literal("tool"),
  callID: Schema.String,
  tool: Schema.String,
  state: Schema.Struct({
    status: Schema.Literals(["pending", "running", "completed", "error"]),
    input: Schema.optionalKey(Json),
    title: Schema.optionalKey(Schema.String),
    output: Schema.optionalKey(Schema.String),
    error: Schema.optionalKey(Schema.String),
    metadata: Schema.optionalKey(Json),
    time: Schema.optionalKey(Schema.Struct({
      start: Schema.optionalKey(Schema.Finite),
      end: Schema.optionalKey(Schema.Finite)
    }))
  })
})

const WireFile = Schema.Struct({
  ...partFields,
  type: Schema.Literal("file"),
  mime: Schema.String,
  url: Schema.String,
  filename: Schema.optionalKey(Schema.String)
})

const WireStepFinish = Schema.Struct({
  ...partFields,
  type: Schema.Literal("step-finish"),
  reason: Schema.String,
  cost: Schema.Finite,
  tokens: WireTokens
})

const WirePatch = Schema.Struct({ ...partFields, type: Schema.Literal("patch"), files: Schema.Array(Schema.String) })

const WireCompaction = Schema.Struct({ ...partFields, type: Schema.Literal("compaction"), auto: Schema.Boolean })

const AnyPart = Schema.Union([WireText, WireTool, WireFile, WireStepFinish, WirePatch, WireCompaction])
type AnyPart = typeof AnyPart.Type

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireMessage = Schema.Struct({ info: WireInfo, parts: Schema.Array(Schema.Unknown) })

const AskTool = Schema.Struct({ messageID: MessageId, callID: Schema.String })

/**
 * @category schemas
 * @since 0.1.0
 */
export const WirePermission = Schema.Struct({
  id: RequestId,
  sessionID: SessionId,
  permission: Schema.String,
  patterns: Schema.Array(Schema.String),
  always: Schema.optionalKey(Schema.Array(Schema.String)),
  metadata: Schema.optionalKey(Json),
  tool: Schema.optionalKey(AskTool)
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireQuestion = Schema.Struct({
  id: RequestId,
  sessionID: SessionId,
  questions: Schema.Array(Schema.Struct({
    question: Schema.String,
    header: Schema.String,
    options: Schema.Array(Schema.Struct({ label: Schema.String, description: Schema.optionalKey(Schema.String) })),
    multiple: Schema.optionalKey(Schema.Boolean),
    custom: Schema.optionalKey(Schema.Boolean)
  })),
  tool: Schema.optionalKey(AskTool)
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireTodo = Schema.Struct({
  content: Schema.String,
  status: Schema.String,
  priority: Schema.optionalKey(Schema.String)
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireAgent = Schema.Struct({
  name: Schema.String,
  // `null` for agents of the configuration (1.18.33).
  hidden: Schema.optionalKey(Schema.NullOr(Schema.Boolean))
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireDiff = Schema.Struct({
  file: Schema.String,
  additions: Schema.Finite,
  deletions: Schema.Finite,
  status: Schema.optionalKey(Schema.String)
})

/**
 * **Gotchas**
 *
 * The last member takes any other status: one unknown status must not make the list of all unreadable.
 *
 * @category schemas
 * @since 0.1.0
 */
export const WireStatus = Schema.Union([
  Schema.Struct({
    type: Schema.Literal("retry"),
    attempt: Schema.Finite,
    message: Schema.String,
    next: Schema.Finite
  }),
  Schema.Struct({ type: Schema.String })
])

/**
 * A session.
 *
 * @category translations
 * @since 0.1.0
 */
export const toSession = (wire: typeof WireSession.Type): Session => ({
  id: wire.id,
  parentId: wire.parentID,
  title: wire.title,
  agent: wire.agent,
  directory: wire.directory,
  createdMillis: wire.time.created,
  updatedMillis: wire.time.updated ?? wire.time.created,
  usage: wire.tokens === undefined ? Usage.zero : toUsage(wire.cost ?? 0, wire.tokens)
})

/**
 * What a session is doing; whatever is neither idle nor a retry is work.
 *
 * @category translations
 * @since 0.1.0
 */
export const toStatus = (wire: typeof WireStatus.Type): SessionStatus =>
  "attempt" in wire
    ? { type: "retry", attempt: wire.attempt, message: wire.message, nextMillis: wire.next }
    : { type: wire.type === "idle" ? "idle" : "busy" }

/**
 * An upstream error, without its headers and bodies, and its URL without a query.
 *
 * @category translations
 * @since 0.1.0
 */
export const toFailure = ({ data, name }: typeof WireFailure.Type): UpstreamFailure => ({
  name,
  // OpenCode may put a stack trace behind the first line (1.18.33).
  message: (data?.message ?? name).split("\n", 1)[0] ?? name,
  ...(data?.statusCode !== undefined && { statusCode: data.statusCode }),
  isRetryable: data?.isRetryable ?? false,
  ...(data?.metadata?.url !== undefined && { url: withoutQuery(data.metadata.url) })
})

/**
 * A message's info. `parts` tell whether a user message is one with which OpenCode goes on by itself.
 *
 * @category translations
 * @since 0.1.0
 */
export const toInfo = (wire: typeof WireInfo.Type, parts: ReadonlyArray<unknown>): MessageInfo =>
  wire.role === "user"
    ? {
      role: "user",
      id: wire.id,
      sessionId: wire.sessionID,
      createdMillis: wire.time.created,
      isContinuation: parts.some((part) => Option.exists(decodePart(part), isContinuation))
    }
    : {
      role: "assistant",
      id: wire.id,
      sessionId: wire.sessionID,
      parentId: wire.parentID,
      createdMillis: wire.time.created,
      completedMillis: wire.time.completed,
      finish: wire.finish,
      error: wire.error === undefined ? undefined : toFailure(wire.error),
      usage: toUsage(wire.cost, wire.tokens),
      isSummary: wire.summary ?? false,
      structured: wire.structured,
      directory: wire.path?.cwd,
      worktree: wire.path?.root
    }

/**
 * A stored message; parts of unknown types are left out.
 *
 * @category translations
 * @since 0.1.0
 */
export const toMessage = (wire: typeof WireMessage.Type): Message => ({
  info: toInfo(wire.info, wire.parts),
  parts: wire.info.role === "user" ? [] : wire.parts.flatMap((part) => Option.toArray(toPart(part)))
})

/**
 * Reads a part; none for a part of an unknown type.
 *
 * @category translations
 * @since 0.1.0
 */
export const decodePart: (part: unknown) => Option.Option<AnyPart> = Schema.decodeUnknownOption(AnyPart)

/**
 * Whether a part makes its user message one that OpenCode wrote to go on with the turn: the order to sum up, or the order
 * to continue after it (1.18.33). An order to sum up that a person gave (`auto: false`) is a prompt of its own.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isContinuation = (part: AnyPart): boolean =>
  (part.type === "compaction" && part.auto) ||
  (part.type === "text" && part.synthetic === true && part.metadata?.["compaction_continue"] === true)

/**
 * A part of the domain; none for what the domain does not know.
 *
 * @category translations
 * @since 0.1.0
 */
export const toPart = (wire: unknown): Option.Option<WirePart> => Option.flatMap(decodePart(wire), fromAnyPart)

/**
 * @category translations
 * @since 0.1.0
 */
export const fromAnyPart = (wire: AnyPart): Option.Option<WirePart> => {
  const ids = { id: wire.id, messageId: wire.messageID }
  switch (wire.type) {
    case "text":
    case "reasoning":
      return Option.some({ ...ids, type: wire.type, text: wire.text, isComplete: wire.time?.end !== undefined })
    case "tool": {
      const { error, input, metadata, output, status, time, title } = wire.state
      const subagent = wire.tool === "task" ? metadata?.["sessionId"] : undefined
      const files = changedFiles(wire.tool, wire.state)
      return Option.some({
        ...ids,
        type: "tool",
        callId: wire.callID,
        tool: firstName(wire.tool, input),
        status,
        input: input ?? {},
        ...(title !== undefined && { title }),
        ...(output !== undefined && { output }),
        ...(error !== undefined && { error }),
        ...(error !== undefined && refusal.test(error) && { isRefused: true }),
        ...(metadata !== undefined && { metadata }),
        ...(typeof subagent === "string" && subagent.startsWith("ses") && { subagent: SessionId.make(subagent) }),
        ...(files !== undefined && { files }),
        ...(time?.start !== undefined && { startedMillis: time.start }),
        ...(time?.end !== undefined && { endedMillis: time.end })
      })
    }
    case "file":
      return Option.some({
        ...ids,
        type: "file",
        mediaType: wire.mime,
        url: wire.url,
        ...(wire.filename !== undefined && { filename: wire.filename })
      })
    case "step-finish":
      return Option.some({ ...ids, type: "step-finish", reason: wire.reason, ...toUsage(wire.cost, wire.tokens) })
    case "patch":
      return Option.some({ ...ids, type: "patch", files: wire.files })
    case "compaction":
      return Option.none()
  }
}

/**
 * @category translations
 * @since 0.1.0
 */
export const toPermission = (wire: typeof WirePermission.Type): PermissionAsk => ({
  _tag: "Permission",
  id: wire.id,
  sessionId: wire.sessionID,
  permission: wire.permission,
  patterns: wire.patterns,
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
  questions: wire.questions.map((question) => ({
    question: question.question,
    header: question.header,
    options: question.options.map(({ description, label }) => ({ label, description: description ?? "" })),
    multiple: question.multiple ?? false,
    // Free text is allowed unless the model says otherwise (1.18.33).
    custom: question.custom ?? true
  })),
  ...(wire.tool !== undefined && { tool: { messageId: wire.tool.messageID, callId: wire.tool.callID } })
})

/**
 * A to-do item, its status in one spelling.
 *
 * @category translations
 * @since 0.1.0
 */
export const toTodo = (wire: typeof WireTodo.Type): Todo => ({
  content: wire.content,
  status: todoStatuses.get(wire.status.toLowerCase().replaceAll(/[-\s]/g, "_")) ?? "pending",
  ...(wire.priority !== undefined && { priority: wire.priority })
})

/**
 * An agent.
 *
 * @category translations
 * @since 0.1.0
 */
export const toAgent = (wire: typeof WireAgent.Type): Agent => ({
  name: wire.name,
  isHidden: wire.hidden ?? false
})

/**
 * A file of a diff.
 *
 * @category translations
 * @since 0.1.0
 */
export const toDiff = ({ additions, deletions, file, status }: typeof WireDiff.Type): FileDiff => ({
  path: file,
  change: status === "added" || status === "deleted" || status === "modified" ? status : "unknown",
  additions,
  deletions
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
  ...(prompt.variant !== undefined && { variant: prompt.variant }),
  ...(prompt.system !== undefined && { system: prompt.system }),
  ...(prompt.format !== undefined && { format: prompt.format })
})

// internal

const fromModel = (model: ModelRef | undefined) =>
  model === undefined ? {} : { model: { providerID: model.providerId, modelID: model.modelId } }

/** The two texts of 1.18.33 for a refusal that ends the turn; one with feedback goes on, and reads otherwise. */
const refusal = /^The user (?:rejected permission to use this specific tool call\.|dismissed this question)$/

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

const toUsage = (cost: number, tokens: typeof WireTokens.Type): Usage.Usage => ({
  cost,
  tokens: {
    input: tokens.input,
    output: tokens.output,
    reasoning: tokens.reasoning,
    cacheRead: tokens.cache.read,
    cacheWrite: tokens.cache.write
  }
})

const withoutQuery = (url: string): string => url.split(/[?#]/, 1)[0] ?? ""
