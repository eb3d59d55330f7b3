/**
 * The reply of a turn: a pure fold of {@link TurnEvent}s.
 *
 * **Responsibilities**
 * - Parts in the order in which they were opened, text typed by the part that opened it.
 * - Only the assistant messages that answer the turn's prompt; the user's own parts, other prompts' answers and foreign
 *   sessions never change it.
 * - What is asked and not answered yet, the sessions of subagents, the model's retries, the upstream failure.
 * - Idempotence: folding an event a second time, at once or later, gives back the same reply (the same reference).
 * - The same shape from stored messages ({@link fromMessages}) and their authority at the end ({@link reconcile}).
 *
 * **Not responsibilities**: deciding that a turn has ended (`Drive`), reading messages (`Client`), time.
 *
 * **Event contract**
 * - A part is opened by `PartUpdated` with an empty text, grows by `PartDelta`, and is closed by a `PartUpdated` that
 *   carries the full text: a provider that drops the last deltas loses nothing.
 * - A delta counts only if its event id sorts after the part's last one, so doubled and late deltas are dropped (the deltas of
 *   one part are in order on 1.18.33). A delta lost that way is repaired when the part is closed.
 * - A delta before its part (older servers) opens a part typed by the delta's `field`; the part's type wins later.
 * - After a gap in the stream ({@link markGap}) a part that was open shows what it had until it is closed: text with a
 *   hole in it would be shown otherwise. So does a part that was read while it was open: what it had is not stored then.
 *
 * **Example**
 * ```ts
 * const reply = events.reduce(Reply.apply, Reply.make({ sessionId, promptId }))
 * Reply.text(reply) // the answer so far
 * ```
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import type { Ask } from "./Ask.ts"
import type { MessageId, RequestId, SessionId } from "./Ids.ts"
import { PartId } from "./Ids.ts"
import type { AssistantMessage, Message } from "./Message.ts"
import type { Part, Todo, ToolPart, WirePart } from "./Part.ts"
import { isTerminalTool, maxErrorLength } from "./Part.ts"
import type {
  Asked,
  AskResolved,
  MessageUpdated,
  PartDelta,
  PartUpdated,
  SessionFailed,
  SessionOpened,
  StatusChanged,
  TodosUpdated,
  TurnEvent
} from "./TurnEvent.ts"
import type { UpstreamFailure } from "./Upstream.ts"
import * as Usage from "./Usage.ts"

/**
 * A session that a tool of the turn opened, directly or through another subagent.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subagent {
  readonly sessionId: SessionId
  readonly parentId: SessionId
  readonly title: string
  readonly agent: string | undefined
}

/**
 * The model is asked again at `nextMillis` (by the server's clock), for the `attempt`th time.
 *
 * @category models
 * @since 0.1.0
 */
export interface Retry {
  readonly attempt: number
  readonly message: string
  readonly nextMillis: number
}

/**
 * The state of a reply. Immutable: a value of this type is a snapshot that may be kept.
 *
 * **Details**
 *
 * `entries` with `active` in place of the one at `activeIndex` are the parts: a run of deltas to one part then costs no
 * copy of the list. Read them with {@link parts}. `eventCount` counts the events that changed the reply.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reply {
  readonly sessionId: SessionId
  readonly promptId: MessageId
  readonly entries: ReadonlyArray<Entry>
  readonly active: Entry | undefined
  readonly activeIndex: number
  readonly hasText: boolean
  readonly eventCount: number
  readonly frame: Frame
}

/**
 * What changes rarely in a {@link Reply}.
 *
 * **Details**
 *
 * `messages` are the assistant messages seen. `continuations` are the user messages that OpenCode wrote to go on with the
 * turn; what answers them answers the prompt. `userMessages` are the other messages of users, `removed` the messages and
 * parts that were taken away: neither comes back with a late event. `askEventIds`, `failureEventId` and `statusEventId` tell a
 * late copy of an event from a new one. `hasGap`: events may have been missed since the fold began.
 *
 * @category models
 * @since 0.1.0
 */
export interface Frame {
  readonly messages: ReadonlyArray<MessageState>
  readonly continuations: ReadonlyArray<MessageId>
  readonly userMessages: ReadonlyArray<MessageId>
  readonly removed: ReadonlyArray<MessageId | PartId>
  readonly asks: ReadonlyArray<Ask>
  readonly askEventIds: ReadonlyMap<RequestId, string>
  readonly resolvedAsks: ReadonlyArray<RequestId>
  readonly subagents: ReadonlyArray<Subagent>
  readonly retry: Retry | undefined
  readonly failure: UpstreamFailure | undefined
  readonly failureEventId: string | undefined
  readonly statusEventId: string | undefined
  readonly hasGap: boolean
}

/**
 * An assistant message: an answer to this prompt, a summary made on the way (of which only the usage counts), or an answer
 * to another prompt.
 *
 * @category models
 * @since 0.1.0
 */
export interface MessageState {
  readonly id: MessageId
  readonly ownership: "ours" | "summary" | "foreign"
  readonly info: AssistantMessage
}

/**
 * One part while it is folded.
 *
 * @category models
 * @since 0.1.0
 */
export type Entry = TextEntry | PartEntry | TodosEntry

/**
 * Text or reasoning. Its text is `head + tail`: deltas are appended to `tail`, which is made flat and moved to `head`
 * every {@link deltasPerPiece} deltas.
 *
 * @category models
 * @since 0.1.0
 */
export interface TextEntry {
  readonly kind: "text"
  readonly id: PartId
  readonly messageId: MessageId
  readonly isOurs: boolean
  readonly type: "text" | "reasoning"
  readonly head: string
  readonly tail: string
  readonly tailDeltas: number
  readonly isComplete: boolean
  readonly isHeld: boolean
  readonly eventId: string | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface PartEntry {
  readonly kind: "part"
  readonly id: PartId
  readonly messageId: MessageId
  readonly isOurs: boolean
  readonly part: WirePart
  readonly eventId: string | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface TodosEntry {
  readonly kind: "todos"
  readonly id: PartId
  readonly isOurs: true
  readonly todos: ReadonlyArray<Todo>
  readonly eventId: string | undefined
}

/**
 * What a reply amounts to. `text` is the text parts joined by a blank line, `tools` the calls that have ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReplyResult {
  readonly parts: ReadonlyArray<Part>
  readonly text: string
  readonly reasoning: string
  readonly tools: ReadonlyArray<ToolPart>
  readonly todos: ReadonlyArray<Todo>
  readonly usage: Usage.Usage
}

/**
 * An empty reply to the prompt.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (ids: { readonly sessionId: SessionId; readonly promptId: MessageId }): Reply => ({
  sessionId: ids.sessionId,
  promptId: ids.promptId,
  entries: [],
  active: undefined,
  activeIndex: -1,
  hasText: false,
  eventCount: 0,
  frame: {
    messages: [],
    continuations: [],
    userMessages: [],
    removed: [],
    asks: [],
    askEventIds: new Map(),
    resolvedAsks: [],
    subagents: [],
    retry: undefined,
    failure: undefined,
    failureEventId: undefined,
    statusEventId: undefined,
    hasGap: false
  }
})

/**
 * The reply that the server's stored messages make, by the same fold as a stream.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromMessages = (
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  messages: ReadonlyArray<Message>
): Reply => reconcile(make(ids), messages)

/**
 * Folds one event. Gives back `self` for what changes nothing.
 *
 * @category folding
 * @since 0.1.0
 */
export const apply = (self: Reply, event: TurnEvent): Reply => {
  switch (event._tag) {
    case "PartDelta":
      return event.sessionId === self.sessionId ? applyDelta(self, event) : self
    case "PartUpdated":
      return event.sessionId === self.sessionId ? applyPart(self, event) : self
    case "MessageUpdated":
      return event.sessionId === self.sessionId ? applyMessage(self, event) : self
    case "TurnContinued":
      return event.sessionId === self.sessionId ? continueTurn(self, event.messageId) : self
    case "MessageRemoved":
      return event.sessionId === self.sessionId ? removeMessage(self, event.messageId) : self
    case "PartRemoved":
      return event.sessionId === self.sessionId ? removePart(self, event.partId) : self
    case "TodosUpdated":
      return event.sessionId === self.sessionId ? applyTodos(self, event) : self
    case "StatusChanged":
      return applyStatus(self, event)
    case "SessionFailed":
      return event.sessionId === self.sessionId ? applyFailure(self, event) : self
    case "SessionOpened":
      return applySession(self, event)
    case "Asked":
      return applyAsked(self, event)
    case "AskResolved":
      return applyResolved(self, event)
    case "SessionDeleted":
      return resolveAsks(self, (ask) => ask.sessionId === event.sessionId)
  }
}

/**
 * Marks that events may have been missed: parts that are open keep what they show until they are closed.
 *
 * @category folding
 * @since 0.1.0
 */
export const markGap = (self: Reply): Reply => {
  const marked = withEntries(
    self,
    (entry) => (entry.kind === "text" && !entry.isComplete && !entry.isHeld ? { ...entry, isHeld: true } : entry)
  )
  return marked.frame.hasGap ? marked : { ...marked, frame: { ...marked.frame, hasGap: true } }
}

/**
 * Takes what the server says is open as the truth about asks: the missing ones were answered elsewhere.
 *
 * **Details**
 *
 * `asOf` is the reply as it was when the server was asked. What has been asked since is not in its answer, and stays open.
 *
 * @category folding
 * @since 0.1.0
 */
export const syncAsks = (self: Reply, pending: ReadonlyArray<Ask>, asOf: Reply = self): Reply => {
  const open = new Set(pending.map((ask) => ask.id))
  const known = new Set(asOf.frame.asks.map((ask) => ask.id))
  const resolved = resolveAsks(self, (ask) => known.has(ask.id) && !open.has(ask.id))
  const added = pending.filter((ask) => isInTree(self, ask.sessionId) && !isKnownAsk(self, ask.id))
  return added.length === 0
    ? resolved
    : { ...resolved, frame: { ...resolved.frame, asks: [...resolved.frame.asks, ...added] } }
}

/**
 * Folds a reading of the turn's stored messages that may lag behind the stream: nothing that is open shrinks, and what the
 * stream missed takes its place between what it brought.
 *
 * @category folding
 * @since 0.1.0
 */
export const merge = (self: Reply, messages: ReadonlyArray<Message>): Reply => {
  let merged = continuationsIn(self.promptId, messages).reduce(continueTurn, self)
  let before: PartId | undefined
  for (const { info, parts } of messages) {
    const base = { eventId: undefined, sessionId: info.sessionId }
    merged = apply(merged, { _tag: "MessageUpdated", ...base, info })
    for (const part of parts) {
      merged = indexOf(merged, part.id) === -1
        ? insert(merged, part, before)
        : apply(merged, { _tag: "PartUpdated", ...base, part })
      if (indexOf(merged, part.id) !== -1) before = part.id
    }
  }
  return merged === self ? self : { ...merged, eventCount: self.eventCount }
}

/**
 * Makes the turn's stored messages the truth: their parts, their order and their text, also where it is shorter.
 * Stream-only parts keep their place behind the part that they followed.
 *
 * @category folding
 * @since 0.1.0
 */
export const reconcile = (self: Reply, messages: ReadonlyArray<Message>): Reply => {
  const streamed = current(self)
  const streamedById = new Map(streamed.map((entry) => [entry.id, entry]))
  const continuations = messages.some(({ info }) => info.id === self.promptId)
    ? continuationsIn(self.promptId, messages)
    : self.frame.continuations
  const entries: Array<Entry> = []
  const states: Array<MessageState> = []
  for (const { info, parts } of messages) {
    if (info.role === "user") continue
    const ownership = ownershipOf(self.promptId, continuations, info)
    if (ownership === "foreign") continue
    states.push({ id: info.id, ownership, info })
    for (const part of parts) {
      if (ownership === "summary" && part.type !== "step-finish") continue
      const before = streamedById.get(part.id)
      entries.push(readEntry(part, true, before?.kind === "part" ? before : undefined))
    }
  }
  const positions = new Map(entries.map((entry, index) => [entry.id, index]))
  let after = -1
  for (const entry of streamed) {
    const position = positions.get(entry.id)
    if (position !== undefined) after = position
    // There is one list of to-dos, so that no position moves before it is used.
    else if (entry.kind === "todos") entries.splice(after + 1, 0, entry)
  }
  const last = states.at(-1)?.info
  return {
    ...self,
    entries,
    active: undefined,
    activeIndex: -1,
    hasText: entries.some(isVisibleText),
    frame: {
      ...self.frame,
      messages: states,
      continuations,
      // A session can fail without any message that says so (an unknown model): the streamed failure stays, unless the
      // server has an answer that ended well.
      failure: last?.error ?? (last !== undefined && isEnd(last) ? undefined : self.frame.failure),
      retry: undefined
    }
  }
}

/**
 * The parts in their order.
 *
 * @category getters
 * @since 0.1.0
 */
export const parts = (self: Reply): ReadonlyArray<Part> => current(self).filter((entry) => entry.isOurs).map(toPart)

/**
 * One part, by its id.
 *
 * @category getters
 * @since 0.1.0
 */
export const part = (self: Reply, id: PartId): Part | undefined => {
  const entry = find(self, id)
  return entry?.isOurs === true ? toPart(entry) : undefined
}

/**
 * The text parts joined by a blank line. Costs the length of the text: do not call it for every delta.
 *
 * @category getters
 * @since 0.1.0
 */
export const text = (self: Reply): string => joined(self, "text")

/**
 * The reasoning parts joined by a blank line.
 *
 * @category getters
 * @since 0.1.0
 */
export const reasoning = (self: Reply): string => joined(self, "reasoning")

/**
 * Cost and tokens over all steps that have ended.
 *
 * @category getters
 * @since 0.1.0
 */
export const usage = (self: Reply): Usage.Usage => Usage.sum(parts(self).filter((part) => part.type === "step-finish"))

/**
 * The agent's to-do list.
 *
 * @category getters
 * @since 0.1.0
 */
export const todos = (self: Reply): ReadonlyArray<Todo> =>
  current(self).find((entry) => entry.kind === "todos")?.todos ?? []

/**
 * Everything that the reply amounts to.
 *
 * @category getters
 * @since 0.1.0
 */
export const result = (self: Reply): ReplyResult => {
  const all = parts(self)
  return {
    parts: all,
    text: text(self),
    reasoning: reasoning(self),
    tools: all.filter((part) => part.type === "tool").filter(isTerminalTool),
    todos: todos(self),
    usage: usage(self)
  }
}

/**
 * Whether a person is being waited for; deadlines stand still then.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isBlocked = (self: Reply): boolean => self.frame.asks.length > 0

/**
 * Whether the session is the turn's own or one of its subagents'.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isInTree = (self: Reply, sessionId: SessionId): boolean =>
  sessionId === self.sessionId || self.frame.subagents.some((subagent) => subagent.sessionId === sessionId)

/**
 * Whether the reply holds nothing that a reader would see: no text, no reasoning, no tool call, no file.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isEmpty = (self: Reply): boolean =>
  current(self).every((entry) =>
    !entry.isOurs || entry.kind === "todos" ||
    (entry.kind === "text" ? length(entry) === 0 : entry.part.type === "step-finish" || entry.part.type === "patch")
  )

/**
 * Whether a reader would see the same: the same parts with the same contents in the same order.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSameContent = (self: Reply, that: Reply): boolean => isSame(parts(self), parts(that))

/**
 * How many deltas are kept as a chain before they are made one flat string. For 8.6 MB of text a chain alone held 58 MB,
 * pieces of 256 deltas 9.1 MB (Node 24).
 *
 * @category constants
 * @since 0.1.0
 */
export const deltasPerPiece = 256

// internal

const applyDelta = (self: Reply, event: PartDelta): Reply => {
  if (event.field !== "text" && event.field !== "reasoning") return self
  const { active } = self
  const index = active !== undefined && active.id === event.partId ? self.activeIndex : indexOf(self, event.partId)
  if (index === -1) return openByDelta(self, event)
  const entry = index === self.activeIndex ? active : self.entries[index]
  if (entry?.kind !== "text" || entry.isComplete || entry.isHeld || isStale(entry.eventId, event.eventId)) return self
  const isVisible = entry.isOurs && entry.type === "text" && event.delta !== ""
  return replaceAt(self, index, append(entry, event), self.hasText || isVisible)
}

const append = (entry: TextEntry, event: PartDelta): TextEntry => {
  const tail = entry.tail + event.delta
  const isFull = entry.tailDeltas + 1 >= deltasPerPiece
  return {
    kind: "text",
    id: entry.id,
    messageId: entry.messageId,
    isOurs: entry.isOurs,
    type: entry.type,
    head: isFull ? entry.head + flat(tail) : entry.head,
    tail: isFull ? "" : tail,
    tailDeltas: isFull ? 0 : entry.tailDeltas + 1,
    isComplete: false,
    isHeld: false,
    eventId: event.eventId ?? entry.eventId
  }
}

/** Reading one character makes V8 replace the chain of concatenations behind a string by one flat string, in place. */
const flat = (chain: string): string => {
  chain.charCodeAt(0)
  return chain
}

const openByDelta = (self: Reply, event: PartDelta): Reply => {
  const owner = ownerOf(self, event.messageId)
  if (owner === "foreign" || owner === "summary" || self.frame.removed.includes(event.partId)) return self
  // After a gap the opening of the part may be what was missed: its text would begin in the middle.
  if (self.frame.hasGap) return self
  const entry: TextEntry = {
    kind: "text",
    id: event.partId,
    messageId: event.messageId,
    isOurs: owner === "ours",
    type: event.field === "reasoning" ? "reasoning" : "text",
    head: "",
    tail: event.delta,
    tailDeltas: 1,
    isComplete: false,
    isHeld: false,
    eventId: event.eventId
  }
  return push(self, entry, self.hasText || isVisibleText(entry))
}

const applyPart = (self: Reply, event: PartUpdated): Reply => {
  const { part } = event
  const index = indexOf(self, part.id)
  if (index === -1) {
    if (!isWanted(self, part)) return self
    const entry = openEntry(part, ownerOf(self, part.messageId) !== "unknown", undefined, event.eventId)
    return push(self, entry, self.hasText || isVisibleText(entry))
  }
  const before = self.activeIndex === index ? self.active : self.entries[index]
  if (before === undefined || before.kind === "todos") return self
  const entry = before.kind === "text" ? updateText(before, event) : updatePart(before, event)
  return entry === before ? self : withHasText(replaceAt(self, index, entry, false))
}

/** A part that the stream missed, read from the store: behind the stored part before it, and its to-dos. */
const insert = (self: Reply, part: WirePart, before: PartId | undefined): Reply => {
  if (!isWanted(self, part)) return self
  const entries = current(self)
  let at = before === undefined ? 0 : indexOf(self, before) + 1
  while (at > 0 && entries[at]?.kind === "todos") at++
  const entry = readEntry(part, ownerOf(self, part.messageId) !== "unknown", undefined)
  return withHasText({ ...self, entries: entries.toSpliced(at, 0, entry), active: undefined, activeIndex: -1 })
}

/** Whether a part that is not known yet may be shown, now or once its message is known. */
const isWanted = (self: Reply, part: WirePart): boolean => {
  const owner = ownerOf(self, part.messageId)
  return owner !== "foreign" && (owner !== "summary" || part.type === "step-finish") &&
    !self.frame.removed.includes(part.id)
}

/** What is stored of an open text is not what was streamed of it (1.18.33): it is held until it is closed. */
const readEntry = (part: WirePart, isOurs: boolean, before: PartEntry | undefined): TextEntry | PartEntry => {
  const entry = openEntry(part, isOurs, before, undefined)
  return entry.kind === "text" && !entry.isComplete ? { ...entry, isHeld: true } : entry
}

const openEntry = (
  part: WirePart,
  isOurs: boolean,
  before: PartEntry | undefined,
  eventId: string | undefined
): TextEntry | PartEntry => {
  if (part.type === "text" || part.type === "reasoning") {
    return {
      kind: "text",
      id: part.id,
      messageId: part.messageId,
      isOurs,
      type: part.type,
      head: part.text,
      tail: "",
      tailDeltas: 0,
      isComplete: part.isComplete,
      isHeld: false,
      eventId
    }
  }
  const named = part.type === "tool" && before?.part.type === "tool" ? { ...part, tool: before.part.tool } : part
  return { kind: "part", id: part.id, messageId: part.messageId, isOurs, part: capped(named), eventId }
}

const updateText = (before: TextEntry, { eventId, part }: PartUpdated): TextEntry | PartEntry => {
  if (part.type !== "text" && part.type !== "reasoning") {
    // Opened by a delta, and something else after all.
    return openEntry(part, before.isOurs, undefined, eventId)
  }
  if (before.isComplete) {
    const isNewer = before.eventId !== undefined && eventId !== undefined && eventId > before.eventId
    return isNewer && part.isComplete && !hasContents(before, part.text)
      ? { ...before, type: part.type, head: part.text, tail: "", tailDeltas: 0, eventId }
      : before
  }
  if (part.isComplete) {
    return {
      ...before,
      type: part.type,
      head: part.text,
      tail: "",
      tailDeltas: 0,
      isComplete: true,
      isHeld: false,
      eventId: eventId ?? before.eventId
    }
  }
  // Read from the store before the stream told of its opening: nothing of it was missed.
  if (before.isHeld && before.eventId === undefined && eventId !== undefined && length(before) === 0) {
    return { ...before, type: part.type, head: part.text, isHeld: false, eventId }
  }
  // An open part's stored text is "" until it ends (1.18.33): what is shown never shrinks for it.
  if (part.text.length <= length(before) || isStale(before.eventId, eventId)) {
    return part.type === before.type ? before : { ...before, type: part.type }
  }
  return { ...before, type: part.type, head: part.text, tail: "", tailDeltas: 0, eventId: eventId ?? before.eventId }
}

const updatePart = (before: PartEntry, { eventId, part }: PartUpdated): PartEntry => {
  if (part.type === "text" || part.type === "reasoning") return before
  if (part.type !== "tool" || before.part.type !== "tool") {
    return isSame(before.part, part) || isStale(before.eventId, eventId)
      ? before
      : { ...before, part, eventId: eventId ?? before.eventId }
  }
  if (rank(part) < rank(before.part) || isTerminalTool(before.part)) return before
  // Event ids decide between two states of one rank only: they are not strictly in the order of the stream (1.18.33).
  if (rank(part) === rank(before.part) && isStale(before.eventId, eventId)) return before
  const merged = mergeTool(before.part, part)
  return isSame(before.part, merged) ? before : { ...before, part: merged, eventId: eventId ?? before.eventId }
}

/** The first name stays; fields that a later state leaves out are kept; the first input that is not empty is not lost. */
const mergeTool = (before: ToolPart, next: ToolPart): ToolPart =>
  capped({
    ...before,
    ...next,
    tool: before.tool,
    input: Object.keys(next.input).length === 0 || next.tool !== before.tool ? orInput(before, next) : next.input,
    ...(before.metadata !== undefined && { metadata: { ...before.metadata, ...next.metadata } })
  })

/** The arguments of a call that was renamed `invalid` describe the mistake; the model's own, when known, say more. */
const orInput = (before: ToolPart, next: ToolPart) => Object.keys(before.input).length === 0 ? next.input : before.input

const capped = <P extends WirePart>(part: P): P =>
  part.type === "tool" && part.error !== undefined && part.error.length > maxErrorLength
    ? { ...part, error: `${part.error.slice(0, maxErrorLength - 1)}…` }
    : part

const rank = (part: ToolPart): number => (part.status === "pending" ? 0 : part.status === "running" ? 1 : 2)

const applyMessage = (self: Reply, { info }: MessageUpdated): Reply => {
  if (info.role === "user") return applyUserMessage(self, info.id)
  const index = self.frame.messages.findIndex((message) => message.id === info.id)
  const before = self.frame.messages[index]
  if (before === undefined ? self.frame.removed.includes(info.id) : endings(info) <= endings(before.info)) return self
  const ownership = before?.ownership ?? ownershipOf(self.promptId, self.frame.continuations, info)
  const state: MessageState = { id: info.id, ownership, info }
  const messages = index === -1 ? [...self.frame.messages, state] : self.frame.messages.with(index, state)
  const failure = ownership === "foreign" ? self.frame.failure : info.error ?? self.frame.failure
  return withFrame(before === undefined ? attribute(self, state) : self, { ...self.frame, messages, failure })
}

/** The parts of another prompt are neither shown nor kept. */
const applyUserMessage = (self: Reply, id: MessageId): Reply =>
  id === self.promptId || self.frame.userMessages.includes(id)
    ? self
    : withFrame(withoutEntriesOf(self, id), { ...self.frame, userMessages: [...self.frame.userMessages, id] })

/** Shows the parts that came before their message, or drops them if they are not the turn's. */
const attribute = (self: Reply, { id, ownership }: MessageState): Reply =>
  withEntries(self, (entry) => {
    if (entry.kind === "todos" || entry.messageId !== id) return entry
    const isKept = ownership === "ours" ||
      (ownership === "summary" && entry.kind === "part" && entry.part.type === "step-finish")
    return isKept ? { ...entry, isOurs: true } : undefined
  })

/** How much of its end a message has: one that has ended stays ended, whatever is folded after it. */
const endings = ({ completedMillis, error, finish }: AssistantMessage): number =>
  Number(completedMillis !== undefined) + Number(error !== undefined) + Number(finish !== undefined)

/** Whether the turn can end with this message: it did not end to call tools, or to make room in the context. */
const isEnd = ({ finish, isSummary }: AssistantMessage): boolean =>
  !isSummary && finish !== undefined && finish !== "tool-calls"

const continueTurn = (self: Reply, messageId: MessageId): Reply => {
  if (self.frame.continuations.includes(messageId)) return self
  const continuations = [...self.frame.continuations, messageId]
  return withFrame(self, {
    ...self.frame,
    continuations,
    // An answer that was seen before the message that it answers was not known to be one.
    messages: self.frame.messages.map((message) =>
      message.info.parentId === messageId
        ? { ...message, ownership: ownershipOf(self.promptId, continuations, message.info) }
        : message
    ),
    // What the session failed with was that its context overflowed.
    failure: undefined
  })
}

/** The user messages with which OpenCode went on after the prompt: they follow it, before anybody's next one. */
const continuationsIn = (promptId: MessageId, messages: ReadonlyArray<Message>): ReadonlyArray<MessageId> => {
  const continuations: Array<MessageId> = []
  let isCurrent = false
  for (const { info } of messages) {
    if (info.role === "assistant") continue
    if (info.id === promptId) isCurrent = true
    else if (!info.isContinuation) isCurrent = false
    else if (isCurrent) continuations.push(info.id)
  }
  return continuations
}

const removeMessage = (self: Reply, messageId: MessageId): Reply => {
  const messages = self.frame.messages.filter((message) => message.id !== messageId)
  const without = withoutEntriesOf(self, messageId)
  return without === self && messages.length === self.frame.messages.length
    ? self
    : withFrame(without, { ...self.frame, messages, removed: [...self.frame.removed, messageId] })
}

const removePart = (self: Reply, partId: PartId): Reply =>
  indexOf(self, partId) === -1 ? self : withFrame(
    withEntries(self, (entry) => (entry.id === partId ? undefined : entry)),
    { ...self.frame, removed: [...self.frame.removed, partId] }
  )

const withoutEntriesOf = (self: Reply, messageId: MessageId): Reply =>
  withEntries(self, (entry) => (entry.kind !== "todos" && entry.messageId === messageId ? undefined : entry))

const applyTodos = (self: Reply, event: TodosUpdated): Reply => {
  const id = PartId.make(`todos_${self.sessionId}`)
  const index = indexOf(self, id)
  const entry: TodosEntry = { kind: "todos", id, isOurs: true, todos: event.todos, eventId: event.eventId }
  if (index === -1) return push(self, entry, self.hasText)
  const before = current(self)[index]
  if (before?.kind !== "todos" || isStale(before.eventId, event.eventId) || isSame(before.todos, event.todos)) {
    return self
  }
  return replaceAt(self, index, entry, self.hasText)
}

const applyStatus = (self: Reply, event: StatusChanged): Reply => {
  if (!isInTree(self, event.sessionId)) return self
  // A session that is idle waits for nobody: its asks went with the run that made them (abort, server restart).
  const settled = event.status.type === "idle"
    ? resolveAsks(
      self,
      (ask) => ask.sessionId === event.sessionId && !isStale(self.frame.askEventIds.get(ask.id), event.eventId)
    )
    : self
  if (event.sessionId !== self.sessionId || isStale(self.frame.statusEventId, event.eventId)) return settled
  const { status } = event
  const retry = status.type === "retry"
    ? { attempt: status.attempt, message: status.message, nextMillis: status.nextMillis }
    : undefined
  if (isSame(settled.frame.retry, retry)) return settled
  return withFrame(settled, {
    ...settled.frame,
    retry,
    statusEventId: event.eventId ?? settled.frame.statusEventId
  })
}

const applyFailure = (self: Reply, event: SessionFailed): Reply =>
  self.frame.failure !== undefined || isStale(self.frame.failureEventId, event.eventId)
    ? self
    : withFrame(self, { ...self.frame, failure: event.failure, failureEventId: event.eventId })

const applySession = (self: Reply, { agent, parentId, sessionId, title }: SessionOpened): Reply =>
  parentId !== undefined && isInTree(self, parentId) && !isInTree(self, sessionId)
    ? withFrame(self, {
      ...self.frame,
      subagents: [...self.frame.subagents, { sessionId, parentId, title, agent }]
    })
    : self

const applyAsked = (self: Reply, { ask, eventId, sessionId }: Asked): Reply => {
  if (!isInTree(self, sessionId) || isKnownAsk(self, ask.id)) return self
  const { askEventIds, asks } = self.frame
  return withFrame(self, {
    ...self.frame,
    asks: [...asks, ask],
    askEventIds: eventId === undefined ? askEventIds : new Map([...askEventIds, [ask.id, eventId]])
  })
}

const applyResolved = (self: Reply, { requestId, sessionId }: AskResolved): Reply => {
  if (!isInTree(self, sessionId) || self.frame.resolvedAsks.includes(requestId)) return self
  // Also of a request not known yet: a list that was read just before it was answered may still come.
  return withFrame(self, {
    ...self.frame,
    asks: self.frame.asks.filter((ask) => ask.id !== requestId),
    resolvedAsks: [...self.frame.resolvedAsks, requestId]
  })
}

const resolveAsks = (self: Reply, isResolved: (ask: Ask) => boolean): Reply => {
  const resolved = self.frame.asks.filter(isResolved)
  return resolved.length === 0 ? self : withFrame(self, {
    ...self.frame,
    asks: self.frame.asks.filter((ask) => !resolved.includes(ask)),
    resolvedAsks: [...self.frame.resolvedAsks, ...resolved.map((ask) => ask.id)]
  })
}

const isKnownAsk = (self: Reply, id: RequestId): boolean =>
  self.frame.resolvedAsks.includes(id) || self.frame.asks.some((ask) => ask.id === id)

const ownershipOf = (
  promptId: MessageId,
  continuations: ReadonlyArray<MessageId>,
  { isSummary, parentId }: AssistantMessage
): MessageState["ownership"] =>
  parentId !== promptId && !continuations.includes(parentId) ? "foreign" : isSummary ? "summary" : "ours"

const ownerOf = (self: Reply, messageId: MessageId): MessageState["ownership"] | "unknown" =>
  messageId === self.promptId || self.frame.userMessages.includes(messageId) ||
    self.frame.continuations.includes(messageId) || self.frame.removed.includes(messageId)
    ? "foreign"
    : (self.frame.messages.find((message) => message.id === messageId)?.ownership ?? "unknown")

/** Event ids sort by the server's time of sending; without both ids nothing can be told. */
const isStale = (newest: string | undefined, eventId: string | undefined): boolean =>
  newest !== undefined && eventId !== undefined && eventId <= newest

const length = (entry: TextEntry): number => entry.head.length + entry.tail.length

const contents = (entry: TextEntry): string => entry.head + entry.tail

/** Lengths first: comparing the contents flattens the chain of deltas. */
const hasContents = (entry: TextEntry, text: string): boolean =>
  length(entry) === text.length && contents(entry) === text

const isVisibleText = (entry: Entry): boolean =>
  entry.isOurs && entry.kind === "text" && entry.type === "text" && length(entry) > 0

const toPart = (entry: Entry): Part => {
  switch (entry.kind) {
    case "text":
      return {
        type: entry.type,
        id: entry.id,
        messageId: entry.messageId,
        text: contents(entry),
        isComplete: entry.isComplete
      }
    case "part":
      return entry.part
    case "todos":
      return { type: "todos", id: entry.id, todos: entry.todos }
  }
}

const joined = (self: Reply, type: "text" | "reasoning"): string =>
  current(self)
    .flatMap((entry) => (entry.isOurs && entry.kind === "text" && entry.type === type ? [contents(entry)] : []))
    .filter((text) => text !== "")
    .join("\n\n")

const current = (self: Reply): ReadonlyArray<Entry> =>
  self.active === undefined || self.entries[self.activeIndex] === self.active
    ? self.entries
    : self.entries.with(self.activeIndex, self.active)

const find = (self: Reply, id: PartId): Entry | undefined => {
  const index = indexOf(self, id)
  return index === self.activeIndex ? self.active : self.entries[index]
}

/** From the end: a change is nearly always to one of the newest parts. */
const indexOf = (self: Reply, id: PartId): number => {
  for (let index = self.entries.length - 1; index >= 0; index--) {
    if (self.entries[index]?.id === id) return index
  }
  return -1
}

const push = (self: Reply, entry: Entry, hasText: boolean): Reply => {
  const entries = [...current(self), entry]
  return { ...self, entries, active: entry, activeIndex: entries.length - 1, hasText, eventCount: self.eventCount + 1 }
}

const replaceAt = (self: Reply, index: number, entry: Entry, hasText: boolean): Reply => ({
  sessionId: self.sessionId,
  promptId: self.promptId,
  entries: index === self.activeIndex ? self.entries : current(self),
  active: entry,
  activeIndex: index,
  hasText,
  eventCount: self.eventCount + 1,
  frame: self.frame
})

const withFrame = (self: Reply, frame: Frame): Reply => ({ ...self, frame, eventCount: self.eventCount + 1 })

const withHasText = (self: Reply): Reply => {
  const hasText = current(self).some(isVisibleText)
  return hasText === self.hasText ? self : { ...self, hasText }
}

/** Maps the entries and drops those mapped to `undefined`; `self` if none changed. */
const withEntries = (self: Reply, f: (entry: Entry) => Entry | undefined): Reply => {
  const before = current(self)
  const entries = before.map(f).filter((entry) => entry !== undefined)
  const isSameList = entries.length === before.length && entries.every((entry, index) => entry === before[index])
  return isSameList ? self : withHasText({ ...self, entries, active: undefined, activeIndex: -1 })
}

const isSame = (a: unknown, b: unknown): boolean => a === b || Equal.equals(a, b)
