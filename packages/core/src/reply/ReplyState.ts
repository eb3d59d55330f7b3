/**
 * The models of a reply's state, and the functions by which the fold reads and changes it.
 *
 * A change returns a new state and never mutates the old one. A change of nothing returns the same reference.
 *
 * @since 0.1.0
 */
import * as HashMap from "effect/HashMap"
import * as HashSet from "effect/HashSet"
import * as Option from "effect/Option"
import type { Ask } from "../domain/Ask.ts"
import type { AskId, MessageId, PartId, SessionId } from "../domain/Ids.ts"
import type { AssistantMessage } from "../domain/Message.ts"
import type { SubagentStatus } from "../domain/Subagent.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import * as Usage from "../domain/Usage.ts"
import type { Ordered } from "./Ordered.ts"
import * as Ordereds from "./Ordered.ts"
import type { Entry } from "./ReplyEntry.ts"
import { isVisibleText } from "./ReplyEntry.ts"

/**
 * The state of a reply. It is immutable, so every value is a snapshot.
 *
 * **Details**
 *
 * The parts are `entries`, with `active` instead of the entry with its id, so that a run of deltas to one part changes
 * no list. Read them with `Reply.parts`. `partsOf` finds the parts of a message, and may name removed ones.
 * `visibleTexts` counts the texts that a reader sees, `lastOurs` is the last visible part, `used` is what the ended steps
 * used, and `eventCount` counts the events that changed the reply.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reply {
  readonly sessionId: SessionId
  readonly promptId: MessageId
  readonly entries: Ordered<PartId, Entry>
  readonly partsOf: HashMap.HashMap<MessageId, Linked<PartId>>
  readonly active: Entry | undefined
  readonly visibleTexts: number
  readonly lastOurs: PartId | undefined
  readonly used: Usage.Usage
  readonly eventCount: number
  readonly session: SessionState
}

/**
 * The fields of a {@link Reply} that seldom change: the state of its session.
 *
 * **Details**
 *
 * - `messages`: the assistant messages. `steps` counts those of the turn. `newest`: the turn's own message that sorts last, possibly a
 *   summary. `strangers`: finds the messages of others by their parent.
 * - `continuations`: the user messages by which OpenCode continued the turn; their answers answer the prompt. In a subagent's reply they
 *   are all the prompts that it got in the turn.
 * - `userMessages`: the other messages of users. `removed`: the removed messages and parts. A late event restores neither.
 * - `askEventIds`, `failureEventId` and `statusEventId`: tell a late copy of an event from a new one.
 * - `asks` and `subagents`: those of the whole tree; the root's reply holds them. `asksOf`: the ids of each session's asks. `tally`: the
 *   sums over the subagents.
 * - `retries`: how often OpenCode announced a repeated call of the session's model.
 * - `trouble`: the last reported failure or retry of the session; it stays when the session goes on.
 * - `hasGap`: events may have been missed since the fold began. `toldUpTo`: the last message that had ended before any of them.
 * - `isClosed`: the turn has ended; every remaining subagent belongs to it.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionState {
  readonly messages: Ordered<MessageId, FoldedMessage>
  readonly steps: number
  readonly newest: FoldedMessage | undefined
  readonly strangers: HashMap.HashMap<MessageId, Linked<MessageId>>
  readonly continuations: HashSet.HashSet<MessageId>
  readonly userMessages: HashSet.HashSet<MessageId>
  readonly removed: HashSet.HashSet<MessageId | PartId>
  readonly asks: Ordered<AskId, Ask>
  readonly asksOf: HashMap.HashMap<SessionId, HashSet.HashSet<AskId>>
  readonly askEventIds: HashMap.HashMap<AskId, string>
  readonly resolvedAsks: HashSet.HashSet<AskId>
  readonly subagents: Ordered<SessionId, SubagentState>
  readonly tally: Tally
  readonly retry: Retry | undefined
  readonly retries: number
  readonly failure: UpstreamFailure | undefined
  readonly failureEventId: string | undefined
  readonly trouble: UpstreamFailure | undefined
  readonly statusEventId: string | undefined
  readonly hasGap: boolean
  readonly toldUpTo: MessageId | undefined
  readonly isClosed: boolean
}

/**
 * Sums over the subagents of a reply, which each change keeps up to date: adding up all subagents at each of their steps
 * would cost the square of their number.
 *
 * **Details**
 *
 * `messages` and `parts` are those of all subagents. `steps`, `retries` and `usage` are those of the `own` ones, which
 * the turn's tools opened. `unowned` counts the subagents that a tool opened whose own session is not one of the turn's.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tally {
  readonly messages: number
  readonly parts: number
  readonly steps: number
  readonly retries: number
  readonly usage: Usage.Usage
  readonly own: HashSet.HashSet<SessionId>
  readonly unowned: number
}

/**
 * A linked list, newest value first. A longer list shares the shorter one as its tail.
 *
 * @category models
 * @since 0.1.0
 */
export interface Linked<A> {
  readonly value: A
  readonly next: Linked<A> | undefined
}

/**
 * An assistant message: an answer to this prompt (`ours`), a summary during the turn, whose usage alone counts
 * (`summary`), or an answer to another prompt (`foreign`).
 *
 * @category models
 * @since 0.1.0
 */
export interface FoldedMessage {
  readonly id: MessageId
  readonly ownership: "ours" | "summary" | "foreign"
  readonly info: AssistantMessage
}

/**
 * A session that a tool of the turn opened, directly or through another subagent, during the fold.
 *
 * **Details**
 *
 * `reply` is the subagent's reply in this turn; every prompt that it got since the turn's own is one of its
 * continuations. `openedBy` is the tool part that names it, once that is known. `sinceMillis` is the start of that tool
 * by the server's clock: a session of earlier turns may have got their prompts after the last message of the root.
 * `calledBy` is the newest tool part that names it, and how its tool failed, if it did. `outlives`: it works on although the turn has ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubagentState {
  readonly sessionId: SessionId
  readonly parentId: SessionId
  readonly openedBy: PartId | undefined
  readonly sinceMillis: number | undefined
  readonly calledBy: { readonly partId: PartId; readonly end: "error" | "cancelled" | undefined } | undefined
  readonly title: string
  readonly agent: string | undefined
  readonly status: SubagentStatus
  readonly outlives?: boolean
  readonly reply: Reply
}

/**
 * A retry: OpenCode calls the model again at `nextMillis` (by the server's clock), for the `attempt`th time.
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
 * An empty reply to the prompt.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (ids: { readonly sessionId: SessionId; readonly promptId: MessageId }): Reply => ({
  sessionId: ids.sessionId,
  promptId: ids.promptId,
  entries: noEntries,
  partsOf: HashMap.empty(),
  active: undefined,
  visibleTexts: 0,
  lastOurs: undefined,
  used: Usage.zero,
  eventCount: 0,
  session: emptySession
})

/** The entries with the current state of the growing one. */
export const withActive = ({ active, entries }: Reply): Ordered<PartId, Entry> =>
  active === undefined ? entries : Ordereds.set(entries, active)

/** The entries in their order. */
export const current = (self: Reply): ReadonlyArray<Entry> => Ordereds.values(withActive(self))

/** The entry of a part. */
export const entryOf = (self: Reply, id: PartId): Entry | undefined =>
  self.active?.id === id ? self.active : Ordereds.get(self.entries, id)

/** The entries of a message, in their order. The cost grows with the size of the message. */
export const entriesOf = (self: Reply, messageId: MessageId): ReadonlyArray<Entry> => {
  const ids = new Set(linked(self.partsOf, messageId).toReversed())
  return Array.from(ids, (id) => entryOf(self, id)).filter((entry) =>
    entry !== undefined && entry.kind !== "todos" && entry.messageId === messageId
  ).filter((entry) => entry !== undefined)
}

/** Appends an entry. */
export const push = (self: Reply, entry: Entry): Reply => ({
  sessionId: self.sessionId,
  promptId: self.promptId,
  entries: Ordereds.set(withActive(self), entry),
  partsOf: entry.kind === "todos" ? self.partsOf : link(self.partsOf, entry.messageId, entry.id),
  active: entry,
  visibleTexts: self.visibleTexts + Number(isVisibleText(entry)),
  lastOurs: entry.isOurs ? entry.id : self.lastOurs,
  used: usedAfter(self.used, undefined, entry),
  eventCount: self.eventCount + 1,
  session: self.session
})

/** Replaces an entry. */
export const replace = (self: Reply, before: Entry, entry: Entry): Reply => ({
  sessionId: self.sessionId,
  promptId: self.promptId,
  entries: self.active?.id === entry.id ? self.entries : withActive(self),
  partsOf: entry.kind === "todos" || before.kind === "todos" || entry.messageId === before.messageId
    ? self.partsOf
    : link(self.partsOf, entry.messageId, entry.id),
  active: entry,
  visibleTexts: self.visibleTexts + Number(isVisibleText(entry)) - Number(isVisibleText(before)),
  lastOurs: self.lastOurs,
  used: usedAfter(self.used, before, entry),
  eventCount: self.eventCount + 1,
  session: self.session
})

/** Replaces all entries, without counting an event. */
export const withEntries = (self: Reply, entries: ReadonlyArray<Entry>): Reply => {
  const partsOf = new Map<MessageId, Linked<PartId>>()
  for (const entry of entries) {
    if (entry.kind !== "todos") {
      partsOf.set(entry.messageId, { value: entry.id, next: partsOf.get(entry.messageId) })
    }
  }
  return {
    ...self,
    entries: Ordereds.fromIterable(keyOfEntry, entries),
    partsOf: HashMap.fromIterable(partsOf),
    active: undefined,
    visibleTexts: entries.filter(isVisibleText).length,
    lastOurs: entries.findLast(({ isOurs }) => isOurs)?.id,
    used: Usage.sum(entries.map(usageOf).filter((usage) => usage !== undefined))
  }
}

/** Maps the entries and drops those that become `undefined`; returns `self` if none changed. */
export const mapEntries = (self: Reply, f: (entry: Entry) => Entry | undefined): Reply => {
  const before = withActive(self)
  const after = Ordereds.map(before, f)
  return after === before ? self : withEntries(self, Ordereds.values(after))
}

/** Maps the entries of one message, in the same way. The cost grows with the size of the message. */
export const mapEntriesOf = (self: Reply, messageId: MessageId, f: (entry: Entry) => Entry | undefined): Reply =>
  mapSome(self, entriesOf(self, messageId), f)

/** Maps some of the entries, in the same way. */
export const mapSome = (
  self: Reply,
  some: ReadonlyArray<Entry>,
  f: (entry: Entry) => Entry | undefined
): Reply => {
  let entries: Ordered<PartId, Entry> | undefined
  let { lastOurs, used, visibleTexts } = self
  for (const before of some) {
    const after = f(before)
    if (after === before) continue
    entries ??= withActive(self)
    entries = after === undefined ? Ordereds.remove(entries, before.id) : Ordereds.set(entries, after)
    if (after?.isOurs === true && (lastOurs === undefined || isLater(entries, after.id, lastOurs))) lastOurs = after.id
    used = usedAfter(used, before, after)
    visibleTexts += Number(after !== undefined && isVisibleText(after)) - Number(isVisibleText(before))
  }
  if (entries === undefined) return self
  if (lastOurs !== undefined && Ordereds.get(entries, lastOurs)?.isOurs !== true) {
    lastOurs = Ordereds.findLast(entries, ({ isOurs }) => isOurs)?.id
  }
  return { ...self, entries, active: undefined, visibleTexts, lastOurs, used }
}

/** Maps the subagents, without counting an event. Returns `self` if none changed. */
export const mapSubagents = (
  self: Reply,
  f: (subagent: SubagentState) => SubagentState | undefined
): Reply => withSubagents(self, Ordereds.map(self.session.subagents, f))

/** Maps one subagent, if it is known, without counting an event. Returns `self` if it did not change. */
export const mapSubagent = (
  self: Reply,
  sessionId: SessionId,
  f: (subagent: SubagentState) => SubagentState
): Reply => {
  const before = Ordereds.get(self.session.subagents, sessionId)
  if (before === undefined) return self
  const after = f(before)
  return after === before ? self : addSubagent(self, after)
}

/** Adds a subagent or replaces the one with its id, without counting an event. */
export const addSubagent = (self: Reply, subagent: SubagentState): Reply => ({
  ...self,
  session: { ...self.session, ...putSubagent(self, subagent) }
})

/** Replaces all subagents, without counting an event. */
export const setSubagents = (self: Reply, subagents: ReadonlyArray<SubagentState>): Reply =>
  withSubagents(self, Ordereds.fromIterable(keyOfSubagent, subagents))

/** Counts every remaining subagent as the turn's own. */
export const closeTally = (self: Reply): Reply =>
  self.session.isClosed ? self : {
    ...self,
    session: { ...self.session, isClosed: true, tally: tallyOf(self.sessionId, true, self.session.subagents) }
  }

/** Adds a subagent, or replaces the one with its id. */
export const putSubagent = (
  { session, sessionId: rootId }: Reply,
  after: SubagentState
): Pick<SessionState, "subagents" | "tally"> => {
  const { isClosed, tally } = session
  const before = Ordereds.get(session.subagents, after.sessionId)
  const subagents = Ordereds.set(session.subagents, after)
  // A delta changes nothing that is counted.
  if (
    before !== undefined && before.openedBy === after.openedBy && before.reply.session === after.reply.session &&
    before.reply.entries === after.reply.entries && before.reply.used === after.reply.used
  ) return { subagents, tally }
  const wasOwn = HashSet.has(tally.own, after.sessionId)
  const isOwn = isClosed || isOpenedIn(tally.own, rootId, after)
  // Sessions that this one opened become the turn's with it.
  if (wasOwn !== isOwn && tally.unowned > 0) return { subagents, tally: tallyOf(rootId, isClosed, subagents) }
  return { subagents, tally: counted(before === undefined ? tally : uncounted(tally, before, wasOwn), after, isOwn) }
}

/** Replaces all messages. */
export const messagesFrom = (
  states: ReadonlyArray<FoldedMessage>
): Pick<SessionState, "messages" | "newest" | "steps" | "strangers"> => ({
  messages: Ordereds.fromIterable(keyOfMessage, states),
  steps: states.filter(isStep).length,
  newest: states.reduce<FoldedMessage | undefined>(newer, undefined),
  strangers: HashMap.empty()
})

/** Adds a message, or replaces the one with its id. */
export const putMessage = (
  session: SessionState,
  state: FoldedMessage
): Pick<SessionState, "messages" | "newest" | "steps" | "strangers"> => ({
  messages: Ordereds.set(session.messages, state),
  steps: session.steps + Number(isStep(state)) - Number(isStep(Ordereds.get(session.messages, state.id))),
  newest: session.newest?.id === state.id && state.ownership !== "foreign" ? state : newer(session.newest, state),
  strangers: state.ownership === "foreign" && !Ordereds.has(session.messages, state.id)
    ? link(session.strangers, state.info.parentId, state.id)
    : session.strangers
})

/** Removes a message. */
export const dropMessage = (
  session: SessionState,
  id: MessageId
): Pick<SessionState, "messages" | "newest" | "steps"> => {
  const messages = Ordereds.remove(session.messages, id)
  return {
    messages,
    steps: session.steps - Number(isStep(Ordereds.get(session.messages, id))),
    newest: session.newest?.id === id
      ? Ordereds.values(messages).reduce<FoldedMessage | undefined>(newer, undefined)
      : session.newest
  }
}

/** The number of messages of anybody that a session's reply holds. */
export const countMessages = ({ session }: Reply): number =>
  Ordereds.size(session.messages) + HashSet.size(session.userMessages) + HashSet.size(session.continuations)

/** The values of a key, newest first. */
export const linked = <K, A>(map: HashMap.HashMap<K, Linked<A>>, key: K): ReadonlyArray<A> => {
  const all: Array<A> = []
  for (let link = Option.getOrUndefined(HashMap.get(map, key)); link !== undefined; link = link.next) {
    all.push(link.value)
  }
  return all
}

/** Changes fields of the session state. */
export const withSession = (self: Reply, changes: Partial<SessionState>): Reply => ({
  ...self,
  session: { ...self.session, ...changes },
  eventCount: self.eventCount + 1
})

// internal

const keyOfEntry = ({ id }: Entry): PartId => id
const keyOfMessage = ({ id }: FoldedMessage): MessageId => id
const keyOfSubagent = ({ sessionId }: SubagentState): SessionId => sessionId
const keyOfAsk = ({ id }: Ask): AskId => id

const noEntries: Ordered<PartId, Entry> = Ordereds.fromIterable(keyOfEntry, [])

const noTally: Tally = {
  messages: 0,
  parts: 0,
  steps: 0,
  retries: 0,
  usage: Usage.zero,
  own: HashSet.empty(),
  unowned: 0
}

const emptySession: SessionState = {
  messages: Ordereds.fromIterable(keyOfMessage, []),
  steps: 0,
  newest: undefined,
  strangers: HashMap.empty(),
  continuations: HashSet.empty(),
  userMessages: HashSet.empty(),
  removed: HashSet.empty(),
  asks: Ordereds.fromIterable(keyOfAsk, []),
  asksOf: HashMap.empty(),
  askEventIds: HashMap.empty(),
  resolvedAsks: HashSet.empty(),
  subagents: Ordereds.fromIterable(keyOfSubagent, []),
  tally: noTally,
  retry: undefined,
  retries: 0,
  failure: undefined,
  failureEventId: undefined,
  trouble: undefined,
  statusEventId: undefined,
  hasGap: false,
  toldUpTo: undefined,
  isClosed: false
}

const isLater = (entries: Reply["entries"], id: PartId, other: PartId): boolean =>
  (Ordereds.placeOf(entries, id) ?? 0) > (Ordereds.placeOf(entries, other) ?? 0)

const withSubagents = (self: Reply, subagents: SessionState["subagents"]): Reply =>
  subagents === self.session.subagents ? self : {
    ...self,
    session: { ...self.session, subagents, tally: tallyOf(self.sessionId, self.session.isClosed, subagents) }
  }

const isStep = (state: FoldedMessage | undefined): boolean => state !== undefined && state.ownership !== "foreign"

/** What an entry tells of the usage, if it is the end of one of the turn's steps. */
const usageOf = (entry: Entry | undefined): Usage.Usage | undefined =>
  entry?.kind === "part" && entry.isOurs && entry.part.type === "step-finish" ? entry.part : undefined

const usedAfter = (used: Usage.Usage, before: Entry | undefined, after: Entry | undefined): Usage.Usage => {
  const was = usageOf(before)
  const is = usageOf(after)
  if (was === is) return used
  const rest = was === undefined ? used : Usage.subtract(used, was)
  return is === undefined ? rest : Usage.sum([rest, is])
}

const isOpenedIn = (own: Tally["own"], rootId: SessionId, { openedBy, parentId }: SubagentState): boolean =>
  openedBy !== undefined && (parentId === rootId || HashSet.has(own, parentId))

const tallyOf = (rootId: SessionId, isClosed: boolean, subagents: SessionState["subagents"]): Tally =>
  // A parent always precedes its subagents in the list.
  Ordereds.values(subagents).reduce(
    (tally, subagent) => counted(tally, subagent, isClosed || isOpenedIn(tally.own, rootId, subagent)),
    noTally
  )

const counted = (self: Tally, { openedBy, reply, sessionId }: SubagentState, isOwn: boolean): Tally => {
  const { session, used } = reply
  const messages = self.messages + countMessages(reply)
  const parts = self.parts + Ordereds.size(reply.entries)
  if (!isOwn) return { ...self, messages, parts, unowned: self.unowned + Number(openedBy !== undefined) }
  return {
    messages,
    parts,
    steps: self.steps + session.steps,
    retries: self.retries + session.retries,
    usage: used === Usage.zero ? self.usage : Usage.sum([self.usage, used]),
    own: HashSet.add(self.own, sessionId),
    unowned: self.unowned
  }
}

const uncounted = (self: Tally, { openedBy, reply, sessionId }: SubagentState, isOwn: boolean): Tally => {
  const { session, used } = reply
  const messages = self.messages - countMessages(reply)
  const parts = self.parts - Ordereds.size(reply.entries)
  if (!isOwn) return { ...self, messages, parts, unowned: self.unowned - Number(openedBy !== undefined) }
  return {
    messages,
    parts,
    steps: self.steps - session.steps,
    retries: self.retries - session.retries,
    usage: used === Usage.zero ? self.usage : Usage.subtract(self.usage, used),
    own: HashSet.remove(self.own, sessionId),
    unowned: self.unowned
  }
}

const newer = (newest: FoldedMessage | undefined, state: FoldedMessage): FoldedMessage | undefined =>
  state.ownership !== "foreign" && (newest === undefined || state.id > newest.id) ? state : newest

const link = <K, A>(map: HashMap.HashMap<K, Linked<A>>, key: K, value: A): HashMap.HashMap<K, Linked<A>> =>
  HashMap.set(map, key, { value, next: Option.getOrUndefined(HashMap.get(map, key)) })
