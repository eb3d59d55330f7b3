/**
 * What a reader of a turn's updates shows, as a fold: the parts of the turn's own session, its subagents with their parts, and the open
 * asks.
 *
 * **Responsibilities**: one state for every protocol that shows turns, so that each has to say only how it writes that state.
 *
 * **Not responsibilities**: how a protocol writes it (`UiMessageChunks`, `AgUiEvents`).
 *
 * @since 0.1.0
 */
import type { Ask } from "@opencode-turn/core/Ask"
import type { AttachedUpdate } from "@opencode-turn/core/AttachTurn"
import type { PartId, SessionId } from "@opencode-turn/core/Ids"
import type { Part, TodosPart, ToolPart } from "@opencode-turn/core/Part"
import type { SessionUpdate, Started } from "@opencode-turn/core/ReplyUpdate"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import type { Subagent } from "@opencode-turn/core/Subagent"
import * as Usage from "@opencode-turn/core/Usage"
import * as Chunk from "effect/Chunk"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"

/**
 * A part as it is shown. There is one list of to-dos, without an id, because the update that replaces it names none.
 *
 * @category models
 * @since 0.1.0
 */
export type ShownPart = Exclude<Part, TodosPart> | Pick<TodosPart, "type" | "todos">

/**
 * The parts of one session in the order in which they came. A turn may have 20,000 of them: a new one copies no list.
 *
 * @category models
 * @since 0.1.0
 */
export interface PartList {
  readonly keys: Chunk.Chunk<string>
  readonly parts: HashMap.HashMap<string, ShownPart>
}

/**
 * An open ask, with the tool part that opened the subagent which asks.
 *
 * @category models
 * @since 0.1.0
 */
export interface OpenAsk {
  readonly ask: Ask
  readonly openedBy: PartId | undefined
}

/**
 * **Details**
 *
 * `partsOf` are the parts of subagents that run; `end` is the message as the turn left it.
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnView {
  readonly started: Started | undefined
  readonly root: PartList
  readonly subagents: ReadonlyArray<Subagent>
  readonly partsOf: HashMap.HashMap<SessionId, PartList>
  readonly asks: ReadonlyArray<OpenAsk>
  readonly end: StoredMessage | undefined
}

/**
 * Nothing was told yet.
 *
 * @category constructors
 * @since 0.1.0
 */
export const empty: TurnView = {
  started: undefined,
  root: { keys: Chunk.empty(), parts: HashMap.empty() },
  subagents: [],
  partsOf: HashMap.empty(),
  asks: [],
  end: undefined
}

/**
 * The view of a turn that has ended, as its message tells it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ofMessage = (message: StoredMessage): TurnView => apply(empty, { _tag: "Finished", message })

/**
 * Folds one update.
 *
 * **Details**
 *
 * The end takes the parts and the subagents of the stored message, so that what is shown at last does not depend on how much was seen
 * before.
 *
 * @category combinators
 * @since 0.1.0
 */
export const apply = (self: TurnView, update: AttachedUpdate): TurnView => {
  switch (update._tag) {
    case "Started":
      return { ...self, started: update }
    case "Reset":
      return {
        ...self,
        root: listOf(update.parts),
        subagents: update.subagents.map((shown) => {
          const { parts: _, ...subagent } = shown
          return subagent
        }),
        partsOf: HashMap.fromIterable(
          update.subagents.map(({ parts, sessionId }) => [sessionId, listOf(parts)] as const)
        ),
        asks: update.asks
      }
    case "SubagentChanged":
      return { ...self, subagents: replaced(self.subagents, update.subagent, ({ sessionId }) => sessionId) }
    case "SubagentUpdate": {
      const before = partsOf(self, update.sessionId)
      const after = applyToParts(before, update.update)
      return before === after ? self : { ...self, partsOf: HashMap.set(self.partsOf, update.sessionId, after) }
    }
    case "Asked":
      return {
        ...self,
        asks: replaced(self.asks, { ask: update.ask, openedBy: update.openedBy }, ({ ask }) => ask.id)
      }
    case "AskResolved":
      return self.asks.some(({ ask }) => ask.id === update.askId)
        ? { ...self, asks: self.asks.filter(({ ask }) => ask.id !== update.askId) }
        : self
    case "Finished":
      return {
        ...self,
        root: listOf(update.message.parts),
        subagents: update.message.subagents,
        partsOf: HashMap.empty(),
        asks: [],
        end: update.message
      }
    default: {
      const root = applyToParts(self.root, update)
      return root === self.root ? self : { ...self, root }
    }
  }
}

/**
 * The key of a part in its list.
 *
 * @category getters
 * @since 0.1.0
 */
export const keyOf = (part: ShownPart): string => part.type === "todos" ? "todos" : part.id

/**
 * The part with a key.
 *
 * @category getters
 * @since 0.1.0
 */
export const part = (self: PartList, key: string): ShownPart | undefined =>
  Option.getOrUndefined(HashMap.get(self.parts, key))

/**
 * The parts in their order.
 *
 * @category getters
 * @since 0.1.0
 */
export const parts = (self: PartList): ReadonlyArray<ShownPart> =>
  Chunk.toReadonlyArray(self.keys).flatMap((key) => part(self, key) ?? [])

/**
 * The parts of a subagent.
 *
 * @category getters
 * @since 0.1.0
 */
export const partsOf = (self: TurnView, sessionId: SessionId): PartList =>
  Option.getOrElse(HashMap.get(self.partsOf, sessionId), () => empty.root)

/**
 * The part of the turn's own session that an ask belongs to: the tool call that waits for the answer, or the one that opened the subagent
 * whose tool call waits.
 *
 * @category getters
 * @since 0.1.0
 */
export const anchorOf = (
  { root }: TurnView,
  calls: ReadonlyMap<string, ToolPart>,
  { ask, openedBy }: OpenAsk
): ToolPart | undefined => {
  const called = ask.tool === undefined ? undefined : calls.get(callKey(ask.tool.messageId, ask.tool.callId))
  if (called !== undefined) return called
  const opener = openedBy === undefined ? undefined : part(root, openedBy)
  return opener?.type === "tool" ? opener : undefined
}

/**
 * The tool calls of a list, by the ids with which asks name them.
 *
 * @category getters
 * @since 0.1.0
 */
export const callsOf = (list: PartList): ReadonlyMap<string, ToolPart> =>
  new Map(
    parts(list).flatMap((part) => part.type === "tool" ? [[callKey(part.messageId, part.callId), part] as const] : [])
  )

/**
 * The subagents that another one opened.
 *
 * @category getters
 * @since 0.1.0
 */
export const childrenOf = ({ subagents }: TurnView, sessionId: SessionId): ReadonlyArray<Subagent> =>
  subagents.filter(({ parentId }) => parentId === sessionId)

/**
 * The subagent of the turn's own session above a session: the session itself, or the one that opened the one that opened it.
 *
 * @category getters
 * @since 0.1.0
 */
export const topOf = ({ subagents }: TurnView, sessionId: SessionId): Subagent | undefined => {
  const byId = new Map(subagents.map((subagent) => [subagent.sessionId, subagent]))
  let top = byId.get(sessionId)
  // A parent's chain has as many links as there are subagents, even where a server reports a circle.
  for (let links = 0; top !== undefined && links < subagents.length; links++) {
    const parent = byId.get(top.parentId)
    if (parent === undefined) return top
    top = parent
  }
  return top
}

/**
 * A subagent as a reader sees it now: while it runs, its text is what it said last, and its usage that of its steps.
 *
 * @category getters
 * @since 0.1.0
 */
export const subagentNow = (
  self: TurnView,
  subagent: Subagent
): Subagent & { readonly running: ReadonlyArray<ToolPart> } => {
  const own = parts(partsOf(self, subagent.sessionId))
  if (subagent.status !== "running" || own.length === 0) return { ...subagent, running: [] }
  const said = own.findLast((part) => part.type === "text" && part.isComplete && part.text !== "")
  return {
    ...subagent,
    text: said?.type === "text" ? said.text : "",
    usage: Usage.sum(own.filter((part) => part.type === "step-finish")),
    running: own.flatMap((part) =>
      part.type === "tool" && (part.status === "pending" || part.status === "running") ? [part] : []
    )
  }
}

// internal

const callKey = (messageId: string, callId: string): string => `${messageId} ${callId}`

const listOf = (all: ReadonlyArray<Part>): PartList => {
  const parts = new Map(all.map((part) => [keyOf(part), shownPart(part)]))
  return { keys: Chunk.fromIterable(parts.keys()), parts: HashMap.fromIterable(parts) }
}

const shownPart = (part: Part): ShownPart => part.type === "todos" ? { type: "todos", todos: part.todos } : part

const set = (self: PartList, part: ShownPart): PartList => {
  const key = keyOf(part)
  return {
    keys: HashMap.has(self.parts, key) ? self.keys : Chunk.append(self.keys, key),
    parts: HashMap.set(self.parts, key, part)
  }
}

const applyToParts = (self: PartList, update: SessionUpdate): PartList => {
  switch (update._tag) {
    case "PartChanged":
      return set(self, shownPart(update.part))
    case "PartRemoved":
      return HashMap.has(self.parts, update.partId)
        ? {
          keys: Chunk.filter(self.keys, (key) => key !== update.partId),
          parts: HashMap.remove(self.parts, update.partId)
        }
        : self
    case "TextDelta":
    case "ReasoningDelta": {
      const found = part(self, update.partId)
      // An older server sends the first deltas before their part, which then has them.
      return found?.type === "text" || found?.type === "reasoning"
        ? set(self, { ...found, text: found.text + update.delta })
        : self
    }
    case "TodosChanged":
      return set(self, { type: "todos", todos: update.todos })
    default:
      return self
  }
}

/** The list with the value in place of the one with the same key, or behind all others. */
const replaced = <A>(all: ReadonlyArray<A>, value: A, keyOf: (value: A) => string): ReadonlyArray<A> =>
  all.some((other) => keyOf(other) === keyOf(value))
    ? all.map((other) => keyOf(other) === keyOf(value) ? value : other)
    : [...all, value]
