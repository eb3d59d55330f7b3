/**
 * A turn as the UI message stream of the AI SDK 7: the chunks of which `useChat` builds an assistant message.
 *
 * ```
 *   view ──▶ items ──▶ chunks that lead from the items written so far to these
 *                      └─ where none do: reset-step, and all items again
 * ```
 *
 * **Responsibilities**: a pure fold from updates to chunks. The message that a reader builds depends on the state of the turn alone, and
 * not on how much of its way was seen: a replay builds the same one.
 *
 * **Not responsibilities**: the routes (`AiSdkHandlers`).
 *
 * **Details**
 *
 * | of the turn               | in the message                                                                          |
 * | ------------------------- | --------------------------------------------------------------------------------------- |
 * | text, reasoning           | `text`, `reasoning`                                                                     |
 * | a tool call               | `dynamic-tool`, executed by the provider; `toolCallId` is the id of its part            |
 * | a permission              | the approval of its tool call, or of a `dynamic-tool` of its own; its id is the ask's   |
 * | a question                | `data-question`, as long as it is open                                                  |
 * | to-dos, patches, steps    | `data-todos`, `data-patch`, `data-step`                                                 |
 * | a subagent                | `data-subagent` behind the tool call that opened it, with those that it opened          |
 * | a retry of the model      | `data-retry`, transient                                                                 |
 *
 * The message has one step for the reader, so that `reset-step` can take back any part of it: a stream can neither take a part out nor
 * change a text that is closed. What cannot be told otherwise is rare: an answered permission, a text that the server rewrote, a model
 * that is called again.
 *
 * @since 0.1.0
 */
import type { Account } from "@opencode-turn/core/Account"
import type { AttachedUpdate } from "@opencode-turn/core/AttachTurn"
import type { ToolPart } from "@opencode-turn/core/Part"
import type { Started } from "@opencode-turn/core/ReplyUpdate"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import type { Subagent } from "@opencode-turn/core/Subagent"
import * as Chunk from "effect/Chunk"
import * as Equal from "effect/Equal"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Record from "effect/Record"
import * as TurnView from "./TurnView.ts"

/**
 * The chunks that a turn uses.
 *
 * @category models
 * @since 0.1.0
 */
export type UiMessageChunk =
  | { readonly type: "start"; readonly messageId: string; readonly messageMetadata: Metadata }
  | { readonly type: "message-metadata"; readonly messageMetadata: Metadata }
  | { readonly type: "text-start" | "text-end" | "reasoning-start" | "reasoning-end"; readonly id: string }
  | { readonly type: "text-delta" | "reasoning-delta"; readonly id: string; readonly delta: string }
  | ToolHead & { readonly type: "tool-input-start" }
  | ToolHead & { readonly type: "tool-input-available"; readonly input: unknown }
  | {
    readonly type: "tool-approval-request"
    readonly approvalId: string
    readonly toolCallId: string
    readonly reason?: string
    readonly approvalDescriptor?: unknown
  }
  | {
    readonly type: "tool-approval-response"
    readonly approvalId: string
    readonly approved: boolean
    readonly reason?: string
  }
  | { readonly type: "tool-output-denied"; readonly toolCallId: string }
  | ToolEnd & { readonly type: "tool-output-available"; readonly output: unknown; readonly preliminary?: boolean }
  | ToolEnd & { readonly type: "tool-output-error"; readonly errorText: string }
  | {
    readonly type: "file"
    readonly url: string
    readonly mediaType: string
    readonly providerMetadata?: { readonly opencode: { readonly filename: string } }
  }
  | { readonly type: `data-${string}`; readonly id?: string; readonly data: unknown; readonly transient?: boolean }
  | { readonly type: "reset-step" }
  | { readonly type: "abort"; readonly reason: string }
  | { readonly type: "error"; readonly errorText: string }
  | { readonly type: "finish"; readonly finishReason: FinishReason; readonly messageMetadata: Metadata }

/**
 * The metadata of the message: where and how the turn works; at its end also how it ended and what it used.
 *
 * @category models
 * @since 0.1.0
 */
export interface Metadata {
  readonly conversationId: string
  readonly sessionId: string | null
  readonly model: string | null
  readonly agent: string | null
  readonly status: "running" | "completed" | "cancelled" | "error"
  readonly finish?: string | null
  readonly cost?: number
  readonly usage?: StoredMessage["usage"]["tokens"]
  readonly models?: Account["models"]
  readonly timing?: Account["timing"] | null
  readonly firstTokenMillis?: number | null
  readonly error?: { readonly tag: string; readonly message: string } | null
  readonly createdMillis?: number
  readonly finishedMillis?: number | null
}

/**
 * What the reader has been told.
 *
 * @category models
 * @since 0.1.0
 */
export interface Written {
  readonly view: TurnView.TurnView
  readonly isStarted: boolean
  readonly keys: Chunk.Chunk<string>
  readonly items: HashMap.HashMap<string, Item>
}

/**
 * Nothing was written yet.
 *
 * @category constructors
 * @since 0.1.0
 */
export const empty: Written = { view: TurnView.empty, isStarted: false, keys: Chunk.empty(), items: HashMap.empty() }

/**
 * The chunks that an update adds.
 *
 * @category combinators
 * @since 0.1.0
 */
export const apply = (
  self: Written,
  update: AttachedUpdate
): readonly [written: Written, chunks: ReadonlyArray<UiMessageChunk>] => {
  const view = TurnView.apply(self.view, update)
  switch (update._tag) {
    case "Started":
      return [{ ...self, view, isStarted: true }, [
        self.isStarted
          ? { type: "message-metadata", messageMetadata: metadataOf(update) }
          : { type: "start", messageId: update.messageId, messageMetadata: metadataOf(update) }
      ]]
    case "Finished": {
      const { message } = update
      const head: ReadonlyArray<UiMessageChunk> = self.isStarted
        ? []
        : [{ type: "start", messageId: message.id, messageMetadata: endMetadataOf(message) }]
      const [written, chunks] = rewrite(self, view)
      return [{ ...written, isStarted: true }, [...head, ...chunks, ...endOf(message)]]
    }
    case "Retrying":
      return [{ ...self, view }, [{ type: "data-retry", data: update.retry, transient: true }]]
    case "TextDelta":
    case "ReasoningDelta":
      return grow(self, view, update) ?? changePart(self, view, update.partId) ?? rewrite(self, view)
    case "PartChanged":
      return changePart(self, view, TurnView.keyOf(update.part)) ?? rewrite(self, view)
    case "SubagentUpdate":
      return changeSubagent(self, view, update.sessionId) ?? rewrite(self, view)
    default:
      return view === self.view ? [self, []] : rewrite(self, view)
  }
}

/**
 * The chunks of a whole turn that has ended, without `start` and the chunks of its end.
 *
 * @category getters
 * @since 0.1.0
 */
export const itemsOf = (view: TurnView.TurnView): ReadonlyArray<Item> => {
  const calls = view.asks.length === 0 ? none : TurnView.callsOf(view.root)
  const asked = new Map<string, TurnView.OpenAsk>()
  const behind = new Map<string, Array<Item>>()
  const last: Array<Item> = []
  const place = (anchor: string | undefined, item: Item) => {
    const known = anchor === undefined ? undefined : behind.get(anchor)
    if (known !== undefined) known.push(item)
    else if (anchor !== undefined) behind.set(anchor, [item])
    else last.push(item)
  }
  const ids = new Set(view.subagents.map(({ sessionId }) => sessionId))
  for (const subagent of view.subagents) {
    // One that another subagent opened is told with that one.
    if (!ids.has(subagent.parentId)) place(openerOf(view, subagent), subagentItem(view, subagent))
  }
  for (const open of view.asks) {
    const anchor = TurnView.anchorOf(view, calls, open)
    const isOfCall = anchor !== undefined && anchor.callId === open.ask.tool?.callId &&
      anchor.messageId === open.ask.tool.messageId
    if (open.ask._tag === "Permission" && isOfCall && canBeAsked(anchor) && !asked.has(anchor.id)) {
      asked.set(anchor.id, open)
    } else place(anchor?.id, askItem(open))
  }
  const items = TurnView.parts(view.root).flatMap((part) => {
    const key = TurnView.keyOf(part)
    return [partItem(view, part, asked.get(key)), ...behind.get(key) ?? []]
  })
  const { end } = view
  return end !== undefined && end.isFallback && end.content !== ""
    ? [...items, ...last, { key: "fallback", kind: "text", text: end.content, isComplete: true }]
    : [...items, ...last]
}

/**
 * Something that the reader shows, as the chunks say it.
 *
 * @category models
 * @since 0.1.0
 */
export type Item =
  | {
    readonly key: string
    readonly kind: "text" | "reasoning"
    readonly text: string
    readonly isComplete: boolean
  }
  | {
    readonly key: string
    readonly kind: "file"
    readonly url: string
    readonly mediaType: string
    readonly filename: string | undefined
  }
  | { readonly key: string; readonly kind: "data"; readonly name: string; readonly id: string; readonly data: unknown }
  | ToolItem

/**
 * A tool call that the reader shows.
 *
 * @category models
 * @since 0.1.0
 */
export interface ToolItem {
  readonly key: string
  readonly kind: "tool"
  readonly head: ToolHead
  readonly input: unknown
  readonly phase:
    | { readonly _tag: "streaming" }
    | { readonly _tag: "running" }
    | { readonly _tag: "asked"; readonly approvalId: string; readonly reason: string; readonly descriptor: unknown }
    | { readonly _tag: "denied"; readonly approvalId: string; readonly reason: string | undefined }
    | { readonly _tag: "output"; readonly output: unknown; readonly isPreliminary: boolean }
    | { readonly _tag: "error"; readonly errorText: string }
}

/**
 * The metadata at the end of a turn.
 *
 * @category getters
 * @since 0.1.0
 */
export const endMetadataOf = (message: StoredMessage): Metadata => ({
  conversationId: message.conversationId,
  sessionId: message.started?.sessionId ?? null,
  model: message.started?.model ?? null,
  agent: message.started?.agent ?? null,
  status: message.status === "completed" || message.status === "cancelled" ? message.status : "error",
  finish: message.finish,
  cost: message.usage.cost,
  usage: message.usage.tokens,
  models: message.account?.models ?? [],
  timing: message.account?.timing ?? null,
  firstTokenMillis: message.account?.firstTokenMillis ?? null,
  error: message.error === null ? null : { tag: message.error.tag, message: message.error.message },
  createdMillis: message.createdMillis,
  finishedMillis: message.finishedMillis
})

// internal

interface ToolHead {
  readonly toolCallId: string
  readonly toolName: string
  readonly title?: string
  readonly dynamic: true
  readonly providerExecuted: true
  readonly toolMetadata: Readonly<Record<string, unknown>>
}

type ToolEnd = Omit<ToolHead, "toolName" | "title">

type FinishReason = "stop" | "length" | "content-filter" | "tool-calls" | "error" | "interrupted" | "other"

const none: ReadonlyMap<string, ToolPart> = new Map()

const metadataOf = ({ agent, conversationId, model, sessionId }: Started): Metadata => ({
  conversationId,
  sessionId,
  model: model ?? null,
  agent: agent ?? null,
  status: "running"
})

const endOf = (message: StoredMessage): ReadonlyArray<UiMessageChunk> => {
  const messageMetadata = endMetadataOf(message)
  switch (messageMetadata.status) {
    case "cancelled":
      return [
        { type: "abort", reason: message.error?.message ?? "the turn was stopped" },
        { type: "finish", finishReason: "interrupted", messageMetadata }
      ]
    case "completed":
      return [{ type: "finish", finishReason: reasonOf(message.finish), messageMetadata }]
    default:
      // A page stops reading at an error.
      return [
        { type: "message-metadata", messageMetadata },
        { type: "error", errorText: message.error?.message ?? "the turn failed" },
        { type: "finish", finishReason: "error", messageMetadata }
      ]
  }
}

const reasonOf = (finish: string | null): FinishReason => {
  switch (finish) {
    case null:
      return "stop"
    case "stop":
    case "length":
    case "content-filter":
    case "tool-calls":
      return finish
    default:
      return "other"
  }
}

/** The chunk for more of an open text, without a look at the text before it; undefined where there is none. */
const grow = (
  self: Written,
  view: TurnView.TurnView,
  { delta, partId: key }: { readonly delta: string; readonly partId: string }
) => {
  const before = Option.getOrUndefined(HashMap.get(self.items, key))
  const part = TurnView.part(view.root, key)
  if (before === undefined || !isText(before) || before.isComplete || part?.type !== before.kind) return undefined
  const item = { ...before, text: part.text }
  return [
    { ...self, view, items: HashMap.set(self.items, key, item) },
    delta === "" ? [] : [{ type: `${before.kind}-delta`, id: key, delta } as const]
  ] as const
}

/** The chunks for a change of one part; undefined where more than its item may differ. */
const changePart = (self: Written, view: TurnView.TurnView, key: string) => {
  if (view === self.view) return [self, []] as const
  const part = TurnView.part(view.root, key)
  const before = Option.getOrUndefined(HashMap.get(self.items, key))
  if (part === undefined) return undefined
  if (before === undefined) {
    // A new part comes last, unless something stands behind the parts or belongs behind this one.
    const isLast = view.asks.length === 0 &&
      view.subagents.every((subagent) => {
        const opener = openerOf(view, subagent)
        return opener !== key && (opener !== undefined || view.subagents.some(isParentOf(subagent)))
      })
    return isLast ? append(self, view, partItem(view, part, undefined)) : undefined
  }
  // The first open permission of a call is its approval.
  if (view.asks.length > 0 && before.kind === "tool") return undefined
  return change(self, view, before, partItem(view, part, undefined))
}

/** The chunks for a change inside a subagent; undefined where it is not written yet. */
const changeSubagent = (self: Written, view: TurnView.TurnView, sessionId: Subagent["sessionId"]) => {
  if (view === self.view) return [self, []] as const
  const top = TurnView.topOf(view, sessionId)
  // Parts of a session that is not known as a subagent yet are told with it.
  if (top === undefined) return [{ ...self, view }, []] as const
  const item = subagentItem(view, top)
  const before = Option.getOrUndefined(HashMap.get(self.items, item.key))
  return before && change(self, view, before, item)
}

const append = (self: Written, view: TurnView.TurnView, item: Item) =>
  [
    { ...self, view, keys: Chunk.append(self.keys, item.key), items: HashMap.set(self.items, item.key, item) },
    toChunks(item)
  ] as const

const change = (self: Written, view: TurnView.TurnView, before: Item, after: Item) => {
  const chunks = between(before, after)
  return chunks && [{ ...self, view, items: HashMap.set(self.items, after.key, after) }, chunks] as const
}

/** The chunks that lead to all items of a view. */
const rewrite = (
  self: Written,
  view: TurnView.TurnView
): readonly [Written, ReadonlyArray<UiMessageChunk>] => {
  const items = itemsOf(view)
  const written: Written = {
    ...self,
    view,
    keys: Chunk.fromIterable(items.map(({ key }) => key)),
    items: HashMap.fromIterable(items.map((item) => [item.key, item] as const))
  }
  return [written, changesTo(self, items) ?? [{ type: "reset-step" }, ...items.flatMap(toChunks)]]
}

/** Undefined where no chunks can take the reader from what was written to the items. */
const changesTo = (self: Written, items: ReadonlyArray<Item>): ReadonlyArray<UiMessageChunk> | undefined => {
  const keys = Chunk.toReadonlyArray(self.keys)
  if (items.length < keys.length) return undefined
  const chunks: Array<UiMessageChunk> = []
  for (const [place, item] of items.entries()) {
    const key = keys[place]
    const before = key === undefined ? undefined : Option.getOrUndefined(HashMap.get(self.items, key))
    const changes = before === undefined ? toChunks(item) : key === item.key ? between(before, item) : undefined
    if (changes === undefined) return undefined
    chunks.push(...changes)
  }
  return chunks
}

const between = (before: Item, after: Item): ReadonlyArray<UiMessageChunk> | undefined => {
  if (before.kind === "tool" && after.kind === "tool") return betweenTools(before, after)
  if (isText(before) && isText(after) && before.kind === after.kind) {
    if (before.isComplete) return after.isComplete && before.text === after.text ? [] : undefined
    if (!after.text.startsWith(before.text)) return undefined
    return textChunks(after, before.text.length)
  }
  if (Equal.equals(before, after)) return []
  return before.kind === "data" && after.kind === "data" && before.name === after.name ? toChunks(after) : undefined
}

const isText = (item: Item): item is Extract<Item, { readonly kind: "text" | "reasoning" }> =>
  item.kind === "text" || item.kind === "reasoning"

/** What follows the first characters of a text. */
const textChunks = (
  { isComplete, key: id, kind, text }: Extract<Item, { readonly kind: "text" | "reasoning" }>,
  length: number
): ReadonlyArray<UiMessageChunk> => [
  ...(text.length > length ? [{ type: `${kind}-delta`, id, delta: text.slice(length) } as const] : []),
  ...(isComplete ? [{ type: `${kind}-end`, id } as const] : [])
]

const betweenTools = (before: ToolItem, after: ToolItem): ReadonlyArray<UiMessageChunk> | undefined => {
  if (Equal.equals(before, after)) return []
  // Nothing takes an approval or a title away.
  if (hasApproval(before) && !hasApproval(after)) return undefined
  if (before.head.title !== undefined && after.head.title === undefined) return undefined
  const isSameHead = before.phase._tag !== "streaming" && before.head.toolName === after.head.toolName &&
    before.head.title === after.head.title && Equal.equals(before.input, after.input)
  return isSameHead && (after.phase._tag === "output" || after.phase._tag === "error")
    ? phaseChunks(after)
    : toChunks(after)
}

const hasApproval = ({ phase }: ToolItem): boolean => phase._tag === "asked" || phase._tag === "denied"

const toChunks = (item: Item): ReadonlyArray<UiMessageChunk> => {
  switch (item.kind) {
    case "text":
    case "reasoning":
      return [{ type: `${item.kind}-start`, id: item.key }, ...textChunks(item, 0)]
    case "file":
      return [{
        type: "file",
        url: item.url,
        mediaType: item.mediaType,
        ...(item.filename !== undefined && { providerMetadata: { opencode: { filename: item.filename } } })
      }]
    case "data":
      return [{ type: `data-${item.name}`, id: item.id, data: item.data }]
    case "tool":
      return [
        item.phase._tag === "streaming"
          ? { ...item.head, type: "tool-input-start" }
          : { ...item.head, type: "tool-input-available", input: item.input },
        ...phaseChunks(item)
      ]
  }
}

const phaseChunks = ({ head, phase }: ToolItem): ReadonlyArray<UiMessageChunk> => {
  const { title: _, toolName: __, ...end } = head
  const { toolCallId } = head
  switch (phase._tag) {
    case "streaming":
    case "running":
      return []
    case "asked": {
      const { approvalId, descriptor, reason } = phase
      return [{ type: "tool-approval-request", approvalId, toolCallId, reason, approvalDescriptor: descriptor }]
    }
    case "denied": {
      const { approvalId, reason } = phase
      return [
        { type: "tool-approval-request", approvalId, toolCallId },
        { type: "tool-approval-response", approvalId, approved: false, ...(reason !== undefined && { reason }) },
        { type: "tool-output-denied", toolCallId }
      ]
    }
    case "output":
      return [{
        ...end,
        type: "tool-output-available",
        output: phase.output,
        ...(phase.isPreliminary && { preliminary: true })
      }]
    case "error":
      return [{ ...end, type: "tool-output-error", errorText: phase.errorText }]
  }
}

const partItem = (view: TurnView.TurnView, part: TurnView.ShownPart, asked: TurnView.OpenAsk | undefined): Item => {
  const key = TurnView.keyOf(part)
  const data = (name: string, data: unknown): Item => ({ key, kind: "data", name, id: key, data })
  switch (part.type) {
    case "text":
    case "reasoning":
      return { key, kind: part.type, text: part.text, isComplete: part.isComplete || view.end !== undefined }
    case "tool":
      return toolItem(view, part, asked)
    case "file":
      return { key, kind: "file", url: part.url, mediaType: part.mediaType, filename: part.filename }
    case "step-finish":
      return data("step", { reason: part.reason, cost: part.cost, tokens: part.tokens })
    case "patch":
      return data("patch", { files: part.files })
    case "todos":
      return data("todos", { todos: part.todos })
  }
}

const toolItem = (view: TurnView.TurnView, part: ToolPart, asked: TurnView.OpenAsk | undefined): ToolItem => {
  const hasEnded = part.status === "completed" || part.status === "error"
  const input = Record.isEmptyRecord(part.input) && asked !== undefined ? inputOf(asked) : part.input
  return {
    key: part.id,
    kind: "tool",
    head: {
      toolCallId: part.id,
      toolName: part.tool,
      ...(part.title !== undefined && { title: part.title }),
      dynamic: true,
      providerExecuted: true,
      toolMetadata: {
        callId: part.callId,
        ...pick("subagent", part.subagent),
        ...pick("files", part.files),
        ...pick("startedMillis", part.startedMillis),
        ...pick("endedMillis", part.endedMillis),
        // Before the end it grows with the output.
        ...(hasEnded && pick("metadata", part.metadata))
      }
    },
    input,
    phase: phaseOf(view, part, asked)
  }
}

const pick = (name: string, value: unknown) => value === undefined ? {} : { [name]: value }

const phaseOf = (
  view: TurnView.TurnView,
  part: ToolPart,
  asked: TurnView.OpenAsk | undefined
): ToolItem["phase"] => {
  if (asked !== undefined && canBeAsked(part)) return askedPhase(asked)
  switch (part.status) {
    case "completed":
      return { _tag: "output", output: part.output ?? "", isPreliminary: false }
    case "error":
      return part.isRefused === true || part.refusal !== undefined
        ? { _tag: "denied", approvalId: part.id, reason: part.refusal ?? part.error }
        : { _tag: "error", errorText: part.error ?? "the tool failed" }
    default: {
      if (view.end !== undefined) return { _tag: "error", errorText: "the turn ended before this call did" }
      if (part.status === "pending") {
        return { _tag: Record.isEmptyRecord(part.input) ? "streaming" : "running" }
      }
      const output = part.metadata?.["output"]
      return Predicate.isString(output) && output !== ""
        ? { _tag: "output", output, isPreliminary: true }
        : { _tag: "running" }
    }
  }
}

/** A call that has ended asks nothing more; what is still open is told apart from it. */
const canBeAsked = ({ status }: ToolPart): boolean => status === "pending" || status === "running"

const askedPhase = ({ ask }: TurnView.OpenAsk): ToolItem["phase"] =>
  ask._tag === "Permission"
    ? {
      _tag: "asked",
      approvalId: ask.id,
      reason: ask.patterns.length === 0 ? ask.permission : `${ask.permission}: ${ask.patterns.join(", ")}`,
      descriptor: {
        sessionId: ask.sessionId,
        permission: ask.permission,
        patterns: ask.patterns,
        always: ask.always
      }
    }
    : { _tag: "running" }

/** What a permission says of a call whose input is not known yet. */
const inputOf = ({ ask }: TurnView.OpenAsk): unknown =>
  ask._tag === "Permission"
    ? Record.isEmptyRecord(ask.metadata) ? { patterns: ask.patterns } : ask.metadata
    : {}

/** An ask that is the approval of no shown tool call, for example one of a subagent. */
const askItem = (open: TurnView.OpenAsk): Item => {
  const { ask, openedBy } = open
  const key = `ask:${ask.id}`
  if (ask._tag === "Question") {
    const { questions, sessionId } = ask
    return {
      key,
      kind: "data",
      name: "question",
      id: ask.id,
      data: { id: ask.id, sessionId, openedBy: openedBy ?? null, questions }
    }
  }
  return {
    key,
    kind: "tool",
    head: {
      toolCallId: ask.id,
      toolName: ask.permission,
      dynamic: true,
      providerExecuted: true,
      toolMetadata: { sessionId: ask.sessionId, openedBy: openedBy ?? null }
    },
    input: inputOf(open),
    phase: askedPhase(open)
  }
}

const openerOf = (view: TurnView.TurnView, { openedBy }: Subagent): string | undefined =>
  openedBy !== undefined && HashMap.has(view.root.parts, openedBy) ? openedBy : undefined

const isParentOf = ({ parentId }: Subagent) => ({ sessionId }: Subagent): boolean => sessionId === parentId

const subagentItem = (view: TurnView.TurnView, subagent: Subagent): Item => ({
  key: `subagent:${subagent.sessionId}`,
  kind: "data",
  name: "subagent",
  id: subagent.sessionId,
  data: subagentData(view, subagent, new Set())
})

/** `above` are the sessions on the way to this one, because a server might report a circle. */
const subagentData = (view: TurnView.TurnView, subagent: Subagent, above: ReadonlySet<string>): unknown => {
  const { agent = null, openedBy = null, parentId, running, sessionId, status, text, title, usage } = TurnView
    .subagentNow(view, subagent)
  const below = new Set([...above, sessionId])
  return {
    sessionId,
    parentId,
    openedBy,
    title,
    agent,
    status,
    text,
    cost: usage.cost,
    usage: usage.tokens,
    running: running.map(({ id, title = null, tool }) => ({ id, tool, title })),
    subagents: TurnView.childrenOf(view, sessionId)
      .filter((child) => !below.has(child.sessionId))
      .map((child) => subagentData(view, child, below))
  }
}
