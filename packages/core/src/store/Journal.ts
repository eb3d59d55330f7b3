/**
 * The journal of a message: its reply as updates, in the order in which a reader has to see them.
 *
 * A store keeps the journal in place of the reply. It is compact: a part that changes replaces its last state, and a text that grows is
 * appended to. Reading all of it gives the reply so far, and reading what follows an offset gives what has changed since.
 *
 * ```
 *   between(before, after) ──▶ entries ──▶ the store gives each the next offset ──▶ apply(entries) ──▶ the reply
 * ```
 *
 * **Not responsibilities**: storing it (`SessionStore`), and following it (`AttachTurn`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type { PartId, SessionId } from "../domain/Ids.ts"
import type { Part } from "../domain/Part.ts"
import type { Subagent } from "../domain/Subagent.ts"
import * as Usage from "../domain/Usage.ts"
import * as Wait from "../domain/Wait.ts"
import type { ReplyUpdate, SessionUpdate } from "../reply/ReplyUpdate.ts"
import type { Content, Unstored } from "./StoredMessage.ts"

/**
 * An update as a journal holds it. A `Reset` is empty: the updates behind it tell the new state.
 *
 * @category models
 * @since 0.1.0
 */
export type JournalUpdate = ReplyUpdate | Waited

/**
 * A wait began or ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Waited {
  readonly _tag: "Waited"
  readonly wait: Wait.Wait
}

/**
 * What a store writes for an update.
 *
 * **Details**
 *
 * `key` names what the update is about. `write` says what becomes of the earlier entries with that key:
 *
 * - `open`: there are none. The entry stays, because its offset is the place of the part in the reply.
 * - `append`: they stay; the text grows.
 * - `close`: they stay. The update's part holds their whole text, so that the store keeps the part without its text.
 * - `replace`: all but the opening one are deleted.
 * - `remove`: all are deleted.
 * - `reset`: the entries of every key are deleted.
 *
 * @category models
 * @since 0.1.0
 */
export interface JournalEntry {
  readonly key: string
  readonly write: "open" | "append" | "close" | "replace" | "remove" | "reset"
  readonly update: JournalUpdate
}

/**
 * An update at its place in the journal of its message. Offsets rise, by one for each update that was ever written; an offset whose
 * update was replaced is missing.
 *
 * @category models
 * @since 0.1.0
 */
export interface PlacedUpdate {
  readonly offset: number
  readonly update: JournalUpdate
}

/**
 * The entries that lead from one content to another. Without a `before`, or where updates cannot express the difference, they begin with a
 * `Reset` and tell all of the new content.
 *
 * @category constructors
 * @since 0.1.0
 */
export const between = (
  before: Content | undefined,
  after: Content,
  reason: ResetReason = "reconciled"
): ReadonlyArray<JournalEntry> => {
  const known = last.get(after)
  if (known !== undefined && known.before === before && known.reason === reason) return known.entries
  const entries = compared(before, after, reason)
  // Otherwise the contents of all snapshots would hold each other.
  if (before !== undefined) last.delete(before)
  last.set(after, { before, reason, entries })
  return entries
}

/**
 * The content of a message that has no reply yet.
 *
 * @category constants
 * @since 0.1.0
 */
export const nothing: Content = { content: "", parts: [], usage: Usage.zero }

/**
 * The parts, subagents, asks and announcements that a journal tells.
 *
 * @category models
 * @since 0.1.0
 */
export interface JournalState extends Unstored {
  readonly parts: ReadonlyArray<Part>
  readonly subagents: ReadonlyArray<Subagent>
  readonly waits: ReadonlyArray<Wait.Wait>
}

/**
 * Reads updates in the order of their offsets, on from a state or from nothing.
 *
 * @category combinators
 * @since 0.1.0
 */
export const apply = (updates: Iterable<JournalUpdate>, before?: JournalState): JournalState => {
  const parts = new Map((before?.parts ?? []).map((part) => [part.id, part]))
  const subagents = new Map((before?.subagents ?? []).map((subagent) => [subagent.sessionId, subagent]))
  const asks = new Map((before?.asks ?? []).map((asked) => [asked.ask.id, asked]))
  const waits = new Map((before?.waits ?? []).map((wait) => [Wait.keyOf(wait), wait]))
  const partsOf = new Map<SessionId, Map<PartId, Part>>()
  for (const [sessionId, all] of before?.partsOf ?? []) {
    partsOf.set(sessionId, new Map(all.map((part) => [part.id, part])))
  }
  let retry = before?.retry
  let failure = before?.failure
  for (const update of updates) {
    switch (update._tag) {
      // The state of the message tells where the turn works.
      case "Started":
        break
      case "Reset":
        for (const each of [parts, subagents, asks, waits, partsOf]) each.clear()
        for (const part of update.parts) parts.set(part.id, part)
        for (const { parts, ...subagent } of update.subagents) {
          subagents.set(subagent.sessionId, subagent)
          partsOf.set(subagent.sessionId, new Map(parts.map((part) => [part.id, part])))
        }
        for (const asked of update.asks) asks.set(asked.ask.id, asked)
        retry = undefined
        failure = undefined
        break
      case "SubagentChanged":
        subagents.set(update.subagent.sessionId, update.subagent)
        break
      case "SubagentUpdate": {
        const own = partsOf.get(update.sessionId) ?? new Map<PartId, Part>()
        partsOf.set(update.sessionId, own)
        applyToParts(own, update.update)
        break
      }
      case "Asked":
        asks.set(update.ask.id, { ask: update.ask, openedBy: update.openedBy })
        break
      case "AskResolved":
        asks.delete(update.askId)
        break
      case "Waited":
        waits.set(Wait.keyOf(update.wait), update.wait)
        break
      case "Retrying":
        retry = update.retry
        break
      case "Failed":
        failure = update.failure
        break
      default:
        applyToParts(parts, update)
    }
  }
  const own = new Map(Array.from(partsOf, ([sessionId, all]) => [sessionId, [...all.values()]] as const))
  return {
    parts: [...parts.values()],
    subagents: Array.from(subagents.values(), (subagent) => withParts(subagent, own.get(subagent.sessionId))),
    waits: [...waits.values()],
    partsOf: own,
    asks: [...asks.values()],
    retry,
    failure
  }
}

/**
 * Reads a journal page by page, from its beginning or from an offset.
 *
 * @category combinators
 * @since 0.1.0
 */
export const readAll = Effect.fnUntraced(function*<E, R>(
  readPage: (afterOffset: number) => Effect.Effect<ReadonlyArray<PlacedUpdate>, E, R>,
  afterOffset = 0
): Effect.fn.Return<ReadonlyArray<PlacedUpdate>, E, R> {
  const updates: Array<PlacedUpdate> = []
  while (true) {
    const page = yield* readPage(updates.at(-1)?.offset ?? afterOffset)
    if (page.length === 0) return updates
    for (const update of page) updates.push(update)
  }
})

/**
 * The text of an answer as its parts tell it: the texts, joined by blank lines.
 *
 * @category getters
 * @since 0.1.0
 */
export const textOf = (parts: ReadonlyArray<Part>): string =>
  parts.flatMap((part) => (part.type === "text" && part.text !== "" ? [part.text] : [])).join("\n\n")

// internal

/** The comparison that was made last for a content: a writer makes it to know how far the journal will go, and the store to write it. */
const last = new WeakMap<
  Content,
  { readonly before: Content | undefined; readonly reason: ResetReason; readonly entries: ReadonlyArray<JournalEntry> }
>()

type ResetReason = Extract<JournalUpdate, { readonly _tag: "Reset" }>["reason"]

const compared = (
  before: Content | undefined,
  after: Content,
  reason: ResetReason
): ReadonlyArray<JournalEntry> => {
  const changes = before === undefined ? undefined : changed(before, after)
  if (changes !== undefined) return changes
  const reset: JournalEntry = {
    key: "reset",
    write: "reset",
    update: { _tag: "Reset", reason, parts: [], subagents: [], asks: [] }
  }
  return [reset, ...changed(nothing, after) ?? []]
}

/** Undefined where updates cannot express the difference. */
const changed = (before: Content, after: Content): ReadonlyArray<JournalEntry> | undefined => {
  const parts = ofParts(before.parts, after.parts, identity)
  const inSubagents = ofSubagents(before, after)
  return parts && inSubagents &&
    [...parts, ...inSubagents, ...ofWaits(before.waits, after.waits), ...ofUnstored(before.unstored, after.unstored)]
}

const identity = (update: SessionUpdate): JournalUpdate => update

const ofParts = (
  before: ReadonlyArray<Part>,
  after: ReadonlyArray<Part>,
  wrap: (update: SessionUpdate) => JournalUpdate
): ReadonlyArray<JournalEntry> | undefined => {
  if (before === after) return []
  const old = new Map(before.map((part, place) => [part.id, { part, place }]))
  const entries: Array<JournalEntry> = []
  let lastPlace = -1
  let hasNew = false
  for (const part of after) {
    const known = old.get(part.id)
    if (known === undefined) {
      hasNew = true
      entries.push(...opened(part, wrap))
      continue
    }
    // Updates append, and move nothing.
    if (hasNew || known.place < lastPlace) return undefined
    lastPlace = known.place
    old.delete(part.id)
    if (known.part !== part) entries.push(...grown(known.part, part, wrap))
  }
  const removed = Array.from(old.keys(), (partId): JournalEntry => ({
    key: keyOfPart(partId),
    write: "remove",
    update: wrap({ _tag: "PartRemoved", partId })
  }))
  return [...removed, ...entries]
}

/** A new text begins empty, so that its opening entry stays small. */
const opened = (part: Part, wrap: (update: SessionUpdate) => JournalUpdate): ReadonlyArray<JournalEntry> => {
  const open = (part: Part): JournalEntry => ({
    key: keyOfPart(part.id),
    write: "open",
    update: wrap(partUpdate(part))
  })
  if (!isText(part)) return [open(part)]
  const empty = { ...part, text: "", isComplete: false }
  return [open(empty), ...grown(empty, part, wrap)]
}

const grown = (
  before: Part,
  after: Part,
  wrap: (update: SessionUpdate) => JournalUpdate
): ReadonlyArray<JournalEntry> => {
  const key = keyOfPart(after.id)
  const replacing: JournalEntry = { key, write: "replace", update: wrap(partUpdate(after)) }
  if (!isText(before) || !isText(after)) return Equal.equals(before, after) ? [] : [replacing]
  if (before.text === after.text && before.isComplete === after.isComplete && isSameKind(before, after)) return []
  if (before.isComplete || !isSameKind(before, after) || !after.text.startsWith(before.text)) return [replacing]
  const delta = after.text.slice(before.text.length)
  const _tag = after.type === "text" ? "TextDelta" : "ReasoningDelta"
  return [
    ...(delta === "" ? [] : [{ key, write: "append", update: wrap({ _tag, partId: after.id, delta }) } as const]),
    ...(after.isComplete ? [{ key, write: "close", update: wrap(partUpdate(after)) } as const] : [])
  ]
}

/** To-dos are told as a part, because a reader of the journal needs its id. */
const partUpdate = (part: Part): SessionUpdate => ({ _tag: "PartChanged", part })

type Text = Extract<Part, { readonly type: "text" | "reasoning" }>

const isText = (part: Part): part is Text => part.type === "text" || part.type === "reasoning"

const isSameKind = (one: Text, other: Text): boolean => one.type === other.type && one.messageId === other.messageId

const keyOfPart = (id: PartId): string => `part ${id}`

const ofSubagents = (before: Content, after: Content): ReadonlyArray<JournalEntry> | undefined => {
  const were = before.subagents ?? []
  const are = after.subagents ?? []
  const old = new Map(were.map((subagent, place) => [subagent.sessionId, { subagent, place }]))
  const entries: Array<JournalEntry> = []
  let lastPlace = -1
  let hasNew = false
  for (const subagent of are) {
    const { openedBy, sessionId } = subagent
    const known = old.get(sessionId)
    if (known === undefined) hasNew = true
    else if (hasNew || known.place < lastPlace) return undefined
    else lastPlace = known.place
    old.delete(sessionId)
    const oldParts = before.unstored?.partsOf.get(sessionId) ?? noParts
    const parts = after.unstored?.partsOf.get(sessionId) ?? noParts
    const inside = ofParts(oldParts, parts, (update) => ({ _tag: "SubagentUpdate", sessionId, openedBy, update }))
    if (inside === undefined) return undefined
    // Its text and usage are told by its parts, so that they are written once.
    const isTold = known !== undefined &&
      Equal.equals(subagent, withParts({ ...known.subagent, status: subagent.status }, parts)) &&
      known.subagent.status === subagent.status
    if (!isTold) {
      const write = known === undefined ? "open" : "replace"
      entries.push({ key: `subagent ${sessionId}`, write, update: { _tag: "SubagentChanged", subagent } })
    }
    entries.push(...inside)
  }
  // No update takes a subagent back.
  return old.size > 0 ? undefined : entries
}

const noParts: ReadonlyArray<Part> = []

/** A subagent whose parts are known says what they say. */
const withParts = (subagent: Subagent, parts: ReadonlyArray<Part> | undefined): Subagent =>
  parts === undefined || parts.length === 0 || subagent.status !== "running" ? subagent : {
    ...subagent,
    text: textOf(parts),
    usage: Usage.sum(parts.filter((part) => part.type === "step-finish"))
  }

const ofWaits = (
  before: ReadonlyArray<Wait.Wait> = [],
  after: ReadonlyArray<Wait.Wait> = []
): ReadonlyArray<JournalEntry> => {
  const were = new Map(before.map((wait) => [Wait.keyOf(wait), wait]))
  return after.flatMap((wait): ReadonlyArray<JournalEntry> => {
    const key = Wait.keyOf(wait)
    const known = were.get(key)
    if (known?.toMillis === wait.toMillis) return []
    return [{ key: `wait ${key}`, write: known === undefined ? "open" : "replace", update: { _tag: "Waited", wait } }]
  })
}

const ofUnstored = (before: Unstored | undefined, after: Unstored | undefined): ReadonlyArray<JournalEntry> => {
  const were = new Set(before?.asks.map(({ ask }) => ask.id))
  const are = new Set(after?.asks.map(({ ask }) => ask.id))
  const entries: Array<JournalEntry> = []
  for (const askId of were) {
    if (!are.has(askId)) entries.push({ key: `ask ${askId}`, write: "remove", update: { _tag: "AskResolved", askId } })
  }
  for (const { ask, openedBy } of after?.asks ?? []) {
    if (!were.has(ask.id)) {
      entries.push({ key: `ask ${ask.id}`, write: "open", update: { _tag: "Asked", ask, openedBy } })
    }
  }
  const retry = after?.retry
  if (retry !== undefined && !Equal.equals(retry, before?.retry)) {
    entries.push({ key: "retry", write: "replace", update: { _tag: "Retrying", retry } })
  }
  const failure = after?.failure
  if (failure !== undefined && !Equal.equals(failure, before?.failure)) {
    entries.push({ key: "failure", write: "replace", update: { _tag: "Failed", failure } })
  }
  return entries
}

const applyToParts = (parts: Map<PartId, Part>, update: SessionUpdate): void => {
  switch (update._tag) {
    case "PartChanged":
      parts.set(update.part.id, update.part)
      break
    case "PartRemoved":
      parts.delete(update.partId)
      break
    case "TextDelta":
    case "ReasoningDelta": {
      const part = parts.get(update.partId)
      if (part !== undefined && isText(part)) parts.set(part.id, { ...part, text: part.text + update.delta })
      break
    }
    // A journal tells to-dos as a part. What a subagent announces is told live alone.
    case "TodosChanged":
    case "Retrying":
    case "Failed":
      break
    default:
      update satisfies never
  }
}
