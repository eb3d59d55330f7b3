/**
 * A turn as the event stream of AG-UI 1.0.
 *
 * ```
 *   RUN_STARTED ─▶ [MESSAGES_SNAPSHOT] ─▶ messages, reasoning, tool calls, subagents, state ─▶ RUN_FINISHED | RUN_ERROR
 *                   a run that goes on                                                         success, cancelled, interrupt
 *                   with a turn
 * ```
 *
 * **Responsibilities**: a pure fold from updates to events, of one run. Every message and call that a run opens it also closes.
 *
 * **Not responsibilities**: the routes, and when a turn waits for a person (`AgUiHandlers`).
 *
 * **Details**
 *
 * The thread is the conversation. The ids of messages and calls are those of the turn's parts, so that a later run goes on with them. To-dos
 * are state, files and patches are activities, and a subagent's run id is its session. What a stream cannot take back, for example a text
 * that the server rewrote, is told by a `MESSAGES_SNAPSHOT`.
 *
 * @since 0.1.0
 */
import type { PermissionAsk } from "@opencode-turn/core/Ask"
import type { AttachedUpdate } from "@opencode-turn/core/AttachTurn"
import { SessionId } from "@opencode-turn/core/Ids"
import type { ToolPart } from "@opencode-turn/core/Part"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import type { Subagent } from "@opencode-turn/core/Subagent"
import * as Chunk from "effect/Chunk"
import * as Equal from "effect/Equal"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Record from "effect/Record"
import * as TurnJson from "../TurnJson.ts"
import * as TurnView from "./TurnView.ts"

/**
 * An event, as JSON. The schemas of `@ag-ui/core` describe the fields of each type.
 *
 * @category models
 * @since 0.1.0
 */
export interface AgUiEvent extends Readonly<Record<string, unknown>> {
  readonly type: string
}

/**
 * A message of a thread, as JSON.
 *
 * @category models
 * @since 0.1.0
 */
export interface AgUiMessage extends Readonly<Record<string, unknown>> {
  readonly id: string
  readonly role: string
}

/**
 * One run of a client.
 *
 * **Details**
 *
 * `earlier` are the thread's messages before the turn's answer. `isNew`: the client knows nothing of the answer yet. Otherwise the run
 * begins with a snapshot, and its first update has to tell the whole state. `state` is the client's.
 *
 * @category models
 * @since 0.1.0
 */
export interface Run {
  readonly threadId: string
  readonly runId: string
  readonly earlier: ReadonlyArray<AgUiMessage>
  readonly isNew: boolean
  readonly state: unknown
}

/**
 * What the run has told.
 *
 * @category models
 * @since 0.1.0
 */
export interface Written {
  readonly run: Run
  readonly view: TurnView.TurnView
  readonly isBegun: boolean
  readonly isOver: boolean
  /** The keys of each owner's items in their order; the owner of the turn's own is the empty text. */
  readonly keys: HashMap.HashMap<string, Chunk.Chunk<string>>
  readonly entries: HashMap.HashMap<string, Entry>
  /** `before` are those that ended before the run: it begins none of them. */
  readonly subagents: HashMap.HashMap<string, "active" | "ended" | "before">
}

/**
 * The beginning of a run. `messageId` is the turn's.
 *
 * @category constructors
 * @since 0.1.0
 */
export const start = (run: Run, messageId: string | undefined): readonly [Written, ReadonlyArray<AgUiEvent>] => [
  {
    run,
    view: TurnView.empty,
    isBegun: run.isNew,
    isOver: false,
    keys: HashMap.empty(),
    entries: HashMap.empty(),
    subagents: HashMap.empty()
  },
  [{
    type: "RUN_STARTED",
    threadId: run.threadId,
    runId: run.runId,
    protocolVersion: "1.0",
    ...(messageId !== undefined && { metadata: { messageId } })
  }]
]

/**
 * The events that an update adds.
 *
 * @category combinators
 * @since 0.1.0
 */
export const apply = (self: Written, update: AttachedUpdate): readonly [Written, ReadonlyArray<AgUiEvent>] => {
  if (self.isOver) return [self, []]
  const told = TurnView.apply(self.view, update)
  // What subagents said stays told, although the message does not keep it.
  const view = update._tag === "Finished" ? { ...told, partsOf: self.view.partsOf } : told
  const next = { ...self, view }
  if (update._tag === "Started") return [next, []]
  if (!self.isBegun) {
    const told = snapshot({ ...next, isBegun: true })
    return update._tag === "Finished" ? chain(told, finish(update.message)) : told
  }
  return applyTold(next, update)
}

/**
 * Ends a run whose turn waits for people. `waiting` are the ids of the asks that can be answered.
 *
 * @category combinators
 * @since 0.1.0
 */
export const interrupt = (
  self: Written,
  waiting: ReadonlyArray<string>
): readonly [Written, ReadonlyArray<AgUiEvent>] => {
  const asks = self.view.asks.filter(({ ask }) => waiting.includes(ask.id))
  if (self.isOver || asks.length === 0) return [self, []]
  const begun = self.isBegun ? [self, []] as const : snapshot({ ...self, isBegun: true })
  return chain(chain(begun, closeAll(asks.map(({ ask }) => ask.id))), (self) => [{ ...self, isOver: true }, [{
    ...finished(self.run),
    outcome: { type: "interrupt", interrupts: asks.map((open) => interruptOf(self.view, open)) }
  }]])
}

/**
 * Ends a run that found no turn.
 *
 * @category combinators
 * @since 0.1.0
 */
export const end = (self: Written): readonly [Written, ReadonlyArray<AgUiEvent>] =>
  self.isOver ? [self, []] : chain(
    chain(self.isBegun ? [self, []] : snapshot({ ...self, isBegun: true }), closeAll([])),
    (self) => [{ ...self, isOver: true }, [{ ...finished(self.run), outcome: { type: "success" } }]]
  )

/**
 * The messages of a turn that has ended: the prompt and the answer.
 *
 * @category converting
 * @since 0.1.0
 */
export const messagesOf = (message: StoredMessage): ReadonlyArray<AgUiMessage> => [
  promptOf(message),
  ...messagesIn(TurnView.ofMessage(message))
]

/**
 * The prompt of a turn as the user's message. Of an attached file only its name is shown.
 *
 * @category converting
 * @since 0.1.0
 */
export const promptOf = (message: StoredMessage): AgUiMessage => ({
  id: `${message.id}.prompt`,
  role: "user",
  content: TurnJson.toTurn(message).prompt.map((part) => {
    switch (part.type) {
      case "text":
        return part.text
      case "file":
        return `[${part.filename ?? part.mediaType}]`
      case "agent":
        return `@${part.name}`
      case "subtask":
        return part.description
    }
  }).join("\n")
})

// internal

type Told = readonly [Written, ReadonlyArray<AgUiEvent>]

/** Something that the client shows, and whether the run has to close it. */
interface Entry {
  readonly item: Item
  readonly isOpen: boolean
}

type Item =
  | {
    readonly id: string
    readonly owner: string
    readonly kind: "text" | "reasoning"
    readonly text: string
    readonly isComplete: boolean
  }
  | {
    readonly id: string
    readonly owner: string
    readonly kind: "tool"
    readonly name: string
    /** The arguments as JSON; undefined while the model writes them. */
    readonly input: string | undefined
    readonly result: string | undefined
  }
  | {
    readonly id: string
    readonly owner: string
    readonly kind: "activity"
    readonly type: string
    readonly content: Readonly<Record<string, unknown>>
  }

const root = ""

const chain = ([self, events]: Told, next: (self: Written) => Told): Told => {
  const [after, more] = next(self)
  return [after, more.length === 0 ? events : [...events, ...more]]
}

const applyTold = (self: Written, update: AttachedUpdate): Told => {
  switch (update._tag) {
    case "TextDelta":
    case "ReasoningDelta":
      return grow(self, root, update)
    case "PartChanged":
      return changeItem(self, root, TurnView.keyOf(update.part))
    case "TodosChanged":
      return changeItem(self, root, "todos")
    case "SubagentUpdate":
      return self.view.subagents.some(({ sessionId }) => sessionId === update.sessionId)
        ? update.update._tag === "TextDelta" || update.update._tag === "ReasoningDelta"
          ? grow(self, update.sessionId, update.update)
          : changeOwner(self, update.sessionId)
        // It is told when the session is known as a subagent.
        : [self, []]
    case "SubagentChanged":
      return changeSubagent(self, update.subagent)
    case "PartRemoved":
      return changeOwner(self, root)
    case "Reset":
      return changeAll(self)
    case "Finished":
      return chain(changeAll(self), finish(update.message))
    case "Retrying":
      return [self, [{ type: "CUSTOM", name: "retry", value: update.retry }]]
    default:
      return [self, []]
  }
}

const listOf = (view: TurnView.TurnView, owner: string): TurnView.PartList =>
  owner === root
    ? view.root
    : Option.getOrElse(
      HashMap.get(view.partsOf, SessionId.make(owner)),
      () => TurnView.empty.root
    )

const keysOf = (self: Written, owner: string): Chunk.Chunk<string> =>
  Option.getOrElse(HashMap.get(self.keys, owner), () => Chunk.empty())

const entryOf = (self: Written, id: string): Entry | undefined => Option.getOrUndefined(HashMap.get(self.entries, id))

/** More of a text; without a look at the text before it, where that is open. */
const grow = (
  self: Written,
  owner: string,
  { delta, partId: key }: { readonly delta: string; readonly partId: string }
): Told => {
  const before = entryOf(self, key)
  const part = TurnView.part(listOf(self.view, owner), key)
  const known = before?.item
  if (before?.isOpen !== true || known === undefined || part === undefined) return changeItem(self, owner, key)
  if ((known.kind !== "text" && known.kind !== "reasoning") || part.type !== known.kind) {
    return changeItem(self, owner, key)
  }
  const item = { ...known, text: part.text }
  return [
    { ...self, entries: HashMap.set(self.entries, key, { item, isOpen: true }) },
    delta === "" ? [] : [{ ...contentOf(item), delta }]
  ]
}

/** One part, which was there before or comes last. */
const changeItem = (self: Written, owner: string, key: string): Told => {
  if (key === "todos") return [self, owner === root ? [stateOf(self)] : []]
  const part = TurnView.part(listOf(self.view, owner), key)
  const item = part && itemOf(self.view, owner, part)
  if (item === undefined) return [self, []]
  const before = entryOf(self, key)
  const changes = between(before, item)
  if (changes === undefined) return snapshot(self)
  const entries = HashMap.set(self.entries, key, { item, isOpen: changes.isOpen })
  return [
    before === undefined
      ? { ...self, entries, keys: HashMap.set(self.keys, owner, Chunk.append(keysOf(self, owner), key)) }
      : { ...self, entries },
    changes.events
  ]
}

/** All parts of a session. */
const changeOwner = (self: Written, owner: string): Told => {
  const items = itemsOf(self.view, owner)
  const keys = Chunk.toReadonlyArray(keysOf(self, owner))
  if (items.length < keys.length || keys.some((key, place) => items[place]?.id !== key)) return snapshot(self)
  let entries = self.entries
  const events: Array<AgUiEvent> = []
  for (const item of items) {
    const changes = between(entryOf(self, item.id), item)
    if (changes === undefined) return snapshot(self)
    events.push(...changes.events)
    entries = HashMap.set(entries, item.id, { item, isOpen: changes.isOpen })
  }
  return [
    { ...self, entries, keys: HashMap.set(self.keys, owner, Chunk.fromIterable(items.map(({ id }) => id))) },
    events
  ]
}

const changeAll = (self: Written): Told =>
  self.view.subagents.reduce(
    (told, subagent) => chain(told, (self) => changeSubagent(self, subagent)),
    chain(changeOwner(self, root), (self) => [self, HashMap.has(self.view.root.parts, "todos") ? [stateOf(self)] : []])
  )

/** A subagent: its beginning, its parts, its end. */
const changeSubagent = (self: Written, subagent: Subagent): Told => {
  const { sessionId, status } = subagent
  const known = Option.getOrUndefined(HashMap.get(self.subagents, sessionId))
  const begun: Told = known === undefined ? begin(self, subagent) : [self, []]
  const told = chain(begun, (self) => changeOwner(self, sessionId))
  return status === "running" || (known !== undefined && known !== "active")
    ? told
    : chain(told, (self) => stop(self, subagent, []))
}

const begin = (self: Written, { agent, openedBy, parentId, sessionId, title }: Subagent): Told => [
  { ...self, subagents: HashMap.set(self.subagents, sessionId, "active") },
  [{
    type: "SUBAGENT_STARTED",
    subagentRunId: sessionId,
    name: agent ?? title,
    description: title,
    ...(openedBy !== undefined && { parentToolCallId: openedBy }),
    ...(isBegun(self, parentId) && { parentSubagentRunId: parentId })
  }]
]

/** Whether the run began the subagent. */
const isBegun = ({ subagents }: Written, sessionId: string): boolean => {
  const known = Option.getOrUndefined(HashMap.get(subagents, sessionId))
  return known === "active" || known === "ended"
}

const stop = (self: Written, { sessionId, status, text }: Subagent, waiting: ReadonlyArray<string>): Told => {
  const ended = { ...self, subagents: HashMap.set(self.subagents, sessionId, "ended" as const) }
  return chain(close(ended, (owner) => owner === sessionId), (self) => [self, [
    status === "error" || status === "cancelled"
      ? {
        type: "SUBAGENT_ERROR",
        subagentRunId: sessionId,
        message: status === "error" ? "the subagent failed" : "the subagent was stopped",
        code: status
      }
      : {
        type: "SUBAGENT_FINISHED",
        subagentRunId: sessionId,
        ...(status === "running" && waiting.length > 0
          ? { outcome: { type: "suspended", interruptIds: waiting } }
          : { outcome: { type: "success" }, ...(text !== "" && { result: text }) })
      }
  ]])
}

/** Closes what is open. */
const close = (self: Written, isMeant: (owner: string) => boolean): Told => {
  const open = HashMap.toEntries(self.entries).filter(([, { isOpen, item }]) => isOpen && isMeant(item.owner))
  return [
    {
      ...self,
      entries: open.reduce((all, [id, entry]) => HashMap.set(all, id, { ...entry, isOpen: false }), self.entries)
    },
    open.flatMap(([, { item }]) => closing(item))
  ]
}

const closeAll = (waiting: ReadonlyArray<string>) => (self: Written): Told =>
  chain(
    self.view.subagents.reduceRight(
      (told, subagent) =>
        Option.getOrUndefined(HashMap.get(self.subagents, subagent.sessionId)) === "active"
          ? chain(told, (self) => stop(self, subagent, waitingOf(self.view, subagent.sessionId, waiting)))
          : told,
      close(self, () => false)
    ),
    (self) => close(self, () => true)
  )

/** The asks of a subagent, or else all: it waits for another one. */
const waitingOf = (view: TurnView.TurnView, sessionId: string, waiting: ReadonlyArray<string>) => {
  const own = view.asks.flatMap(({ ask }) => ask.sessionId === sessionId && waiting.includes(ask.id) ? [ask.id] : [])
  return own.length > 0 ? own : waiting
}

/** Tells everything anew. Subagents that ended before are not begun again. */
const snapshot = (self: Written): Told => {
  const [closed, ends] = close(self, () => true)
  const ofOwner = (owner: string) => itemsOf(self.view, owner)
  const owners = [root, ...self.view.subagents.map(({ sessionId }) => sessionId)]
  const items = owners.flatMap(ofOwner)
  const told: Written = {
    ...closed,
    keys: HashMap.fromIterable(
      owners.map((owner) => [owner, Chunk.fromIterable(ofOwner(owner).map(({ id }) => id))] as const)
    ),
    entries: HashMap.fromIterable(items.map((item) => [item.id, { item, isOpen: false }] as const)),
    subagents: self.view.subagents.reduce(
      (all, { sessionId, status }) =>
        status === "running" || HashMap.has(all, sessionId) ? all : HashMap.set(all, sessionId, "before"),
      closed.subagents
    )
  }
  const changed = self.view.subagents.reduce<Told>(
    (told, subagent) => chain(told, (self) => changeSubagent(self, subagent)),
    [told, [
      ...ends,
      snapshotOf(self, [...messagesIn(self.view), ...goneFrom(self, items)]),
      ...(HashMap.has(self.view.root.parts, "todos") ? [stateOf(self)] : [])
    ]]
  )
  return changed
}

/**
 * Reasoning and activities that are gone, emptied: a client keeps those that a snapshot leaves out, because most servers never repeat
 * them.
 */
const goneFrom = ({ entries }: Written, items: ReadonlyArray<Item>): ReadonlyArray<AgUiMessage> => {
  const ids = new Set(items.map(({ id }) => id))
  return HashMap.toValues(entries).flatMap(({ item }) =>
    ids.has(item.id)
      ? []
      : item.kind === "reasoning"
      ? toMessages({ ...item, text: "" })
      : item.kind === "activity"
      ? toMessages({ ...item, content: {} })
      : []
  )
}

const snapshotOf = ({ run }: Written, messages: ReadonlyArray<AgUiMessage>): AgUiEvent => ({
  type: "MESSAGES_SNAPSHOT",
  messages: [...run.earlier, ...messages],
  // A client sends no activities back, so that `earlier` has none: those of earlier turns stay.
  metadata: { "@ag-ui/client": { authoritativeActivityTypes: [] } }
})

const stateOf = ({ run, view }: Written): AgUiEvent => {
  const part = TurnView.part(view.root, "todos")
  return {
    type: "STATE_SNAPSHOT",
    snapshot: {
      ...(Predicate.isObject(run.state) && !Array.isArray(run.state) ? run.state : {}),
      todos: part?.type === "todos" ? part.todos : []
    }
  }
}

const finished = ({ runId, threadId }: Run) => ({ type: "RUN_FINISHED", threadId, runId })

const finish = (message: StoredMessage) => (self: Written): Told =>
  chain(closeAll([])(self), (self) => [{ ...self, isOver: true }, [endOf(self.run, message)]])

const usageOf = (name: string, { tokens }: StoredMessage["usage"]) => {
  const inputTokens = tokens.input + tokens.cacheRead + tokens.cacheWrite
  const outputTokens = tokens.output + tokens.reasoning
  const [provider, ...model] = name.split("/")
  return {
    ...(name !== "" && { provider, model: model.join("/") }),
    inputTokens,
    outputTokens,
    totalTokens: inputTokens + outputTokens,
    reasoningTokens: tokens.reasoning,
    cachedInputTokens: tokens.cacheRead,
    cacheWriteInputTokens: tokens.cacheWrite
  }
}

const endOf = (run: Run, message: StoredMessage): AgUiEvent => {
  const { account, error, finish, started, status, usage } = message
  const models = account?.models ?? []
  const more = {
    usage: models.length > 0
      ? models.map((share) => usageOf(share.model, share))
      : [usageOf(started?.model ?? "", usage)],
    metadata: {
      messageId: message.id,
      status,
      finish,
      cost: usage.cost,
      timing: account?.timing ?? null,
      firstTokenMillis: account?.firstTokenMillis ?? null
    }
  }
  switch (status) {
    case "completed":
      return { ...finished(run), outcome: { type: "success" }, result: message.content, ...more }
    case "cancelled":
      return { ...finished(run), outcome: { type: "cancelled" }, ...more }
    default:
      return {
        type: "RUN_ERROR",
        message: error?.message ?? "the turn failed",
        ...(error !== null && { code: error.tag }),
        ...more
      }
  }
}

const interruptOf = (view: TurnView.TurnView, open: TurnView.OpenAsk) => {
  const { ask } = open
  const isOfTurn = !view.subagents.some(({ sessionId }) => sessionId === ask.sessionId)
  const list = listOf(view, isOfTurn ? root : ask.sessionId)
  const call = ask.tool === undefined
    ? undefined
    : TurnView.parts(list).find((part) =>
      part.type === "tool" && part.callId === ask.tool?.callId && part.messageId === ask.tool.messageId
    )
  return {
    id: ask.id,
    reason: ask._tag === "Permission" ? "permission" : "question",
    message: ask._tag === "Permission"
      ? ask.patterns.length === 0 ? ask.permission : `${ask.permission}: ${ask.patterns.join(", ")}`
      : ask.questions.map(({ question }) => question).join("\n"),
    ...(call?.type === "tool" && { toolCallId: call.id }),
    ...(!isOfTurn && { subagentRunId: ask.sessionId }),
    responseSchema: ask._tag === "Permission" ? permissionSchema(ask) : questionSchema,
    metadata: { ask }
  }
}

const permissionSchema = ({ always }: PermissionAsk) => ({
  type: "object",
  properties: {
    reply: { enum: always.length === 0 ? ["once", "reject"] : ["once", "always", "reject"] },
    message: { type: "string" }
  },
  required: ["reply"]
})

const questionSchema = {
  type: "object",
  properties: { answers: { type: "array", items: { type: "array", items: { type: "string" } } } },
  required: ["answers"]
}

const itemsOf = (view: TurnView.TurnView, owner: string): ReadonlyArray<Item> => {
  const items = TurnView.parts(listOf(view, owner)).flatMap((part) => itemOf(view, owner, part) ?? [])
  const { end } = view
  return owner === root && end !== undefined && end.isFallback && end.content !== ""
    ? [...items, { id: `${end.id}.fallback`, owner, kind: "text", text: end.content, isComplete: true }]
    : items
}

/** Steps are told by the usage at the end, and to-dos by the state. */
const itemOf = (view: TurnView.TurnView, owner: string, part: TurnView.ShownPart): Item | undefined => {
  switch (part.type) {
    case "text":
    case "reasoning":
      return {
        id: part.id,
        owner,
        kind: part.type,
        text: part.text,
        isComplete: part.isComplete || view.end !== undefined
      }
    case "tool":
      return {
        id: part.id,
        owner,
        kind: "tool",
        name: part.tool,
        input: part.status === "pending" && Record.isEmptyRecord(part.input) && view.end === undefined
          ? undefined
          : JSON.stringify(part.input),
        result: resultOf(view, part)
      }
    case "file":
      return {
        id: part.id,
        owner,
        kind: "activity",
        type: "file",
        content: { mediaType: part.mediaType, url: part.url, filename: part.filename ?? null }
      }
    case "patch":
      return { id: part.id, owner, kind: "activity", type: "patch", content: { files: part.files } }
    case "step-finish":
    case "todos":
      return undefined
  }
}

const resultOf = (view: TurnView.TurnView, part: ToolPart): string | undefined => {
  switch (part.status) {
    case "completed":
      return part.output ?? ""
    case "error":
      return part.refusal ?? part.error ?? "the tool failed"
    default:
      return view.end === undefined ? undefined : "the turn ended before this call did"
  }
}

/** Undefined where no events can lead from one to the other. */
const between = (
  before: Entry | undefined,
  item: Item
): { readonly events: ReadonlyArray<AgUiEvent>; readonly isOpen: boolean } | undefined => {
  if (before !== undefined && Equal.equals(before.item, item)) return { events: [], isOpen: before.isOpen }
  const known = before?.item
  switch (item.kind) {
    case "text":
    case "reasoning": {
      if (known !== undefined && (known.kind !== item.kind || !item.text.startsWith(known.text))) return undefined
      const delta = item.text.slice(known?.text.length ?? 0)
      const isOpen = before?.isOpen ?? false
      // One that is closed, and gained nothing, stays closed.
      if (known !== undefined && !isOpen && delta === "") return { events: [], isOpen }
      return {
        events: [
          ...(isOpen ? [] : opening(item)),
          ...(delta === "" ? [] : [{ ...contentOf(item), delta }]),
          ...(item.isComplete ? closing(item) : [])
        ],
        isOpen: !item.isComplete
      }
    }
    case "tool": {
      if (known !== undefined && (known.kind !== "tool" || known.name !== item.name)) return undefined
      if (known?.input !== undefined && known.input !== item.input) return undefined
      if (known?.result !== undefined && known.result !== item.result) return undefined
      const hasInput = known?.input !== undefined
      const isOpen = before?.isOpen ?? false
      const starts = !isOpen && (known === undefined || (!hasInput && item.input !== undefined))
      const { id: toolCallId } = item
      return {
        events: [
          ...(starts ? opening(item) : []),
          ...(item.input !== undefined && !hasInput
            ? [{ ...tagged(item, "TOOL_CALL_ARGS"), toolCallId, delta: item.input }, ...closing(item)]
            : []),
          ...(item.result !== undefined && known?.result === undefined
            ? [{
              ...tagged(item, "TOOL_CALL_RESULT"),
              messageId: `${toolCallId}.result`,
              toolCallId,
              content: item.result,
              role: "tool"
            }]
            : [])
        ],
        isOpen: item.input === undefined
      }
    }
    case "activity":
      return known === undefined || known.kind === "activity"
        ? {
          events: [{
            ...tagged(item, "ACTIVITY_SNAPSHOT"),
            messageId: item.id,
            activityType: item.type,
            content: item.content,
            replace: true
          }],
          isOpen: false
        }
        : undefined
  }
}

const tagged = ({ owner }: Item, type: string): AgUiEvent => owner === root ? { type } : { type, subagentRunId: owner }

const opening = (item: Item): ReadonlyArray<AgUiEvent> => {
  const { id: messageId } = item
  switch (item.kind) {
    case "text":
      return [{ ...tagged(item, "TEXT_MESSAGE_START"), messageId, role: "assistant" }]
    case "reasoning":
      return [
        { ...tagged(item, "REASONING_START"), messageId },
        { ...tagged(item, "REASONING_MESSAGE_START"), messageId, role: "reasoning" }
      ]
    case "tool":
      return [{
        ...tagged(item, "TOOL_CALL_START"),
        toolCallId: messageId,
        toolCallName: item.name,
        parentMessageId: `${messageId}.call`
      }]
    case "activity":
      return []
  }
}

const contentOf = (item: Item): AgUiEvent => ({
  ...tagged(item, item.kind === "text" ? "TEXT_MESSAGE_CONTENT" : "REASONING_MESSAGE_CONTENT"),
  messageId: item.id
})

const closing = (item: Item): ReadonlyArray<AgUiEvent> => {
  const { id: messageId } = item
  switch (item.kind) {
    case "text":
      return [{ ...tagged(item, "TEXT_MESSAGE_END"), messageId }]
    case "reasoning":
      return [
        { ...tagged(item, "REASONING_MESSAGE_END"), messageId },
        { ...tagged(item, "REASONING_END"), messageId }
      ]
    case "tool":
      return [{ ...tagged(item, "TOOL_CALL_END"), toolCallId: messageId }]
    case "activity":
      return []
  }
}

const messagesIn = (view: TurnView.TurnView): ReadonlyArray<AgUiMessage> =>
  [root, ...view.subagents.map(({ sessionId }) => sessionId)].flatMap((owner) => itemsOf(view, owner)).flatMap(
    toMessages
  )

const toMessages = (item: Item): ReadonlyArray<AgUiMessage> => {
  const { id, owner } = item
  const tag = owner === root ? {} : { subagentRunId: owner }
  switch (item.kind) {
    case "text":
      return [{ id, role: "assistant", content: item.text, ...tag }]
    case "reasoning":
      return [{ id, role: "reasoning", content: item.text, ...tag }]
    case "tool":
      return [
        {
          id: `${id}.call`,
          role: "assistant",
          toolCalls: [{ id, type: "function", function: { name: item.name, arguments: item.input ?? "" } }],
          ...tag
        },
        ...(item.result === undefined
          ? []
          : [{ id: `${id}.result`, role: "tool", toolCallId: id, content: item.result, ...tag }])
      ]
    case "activity":
      return [{ id, role: "activity", activityType: item.type, content: item.content, ...tag }]
  }
}
