/**
 * The state of a reply: the models, and the few ways in which the fold reads and changes them.
 *
 * Every change gives a new state and leaves the old one as it was; what changes nothing gives back the same reference.
 *
 * @since 0.1.0
 */
import type { Ask } from "../Ask.ts"
import type { MessageId, PartId, RequestId, SessionId } from "../Ids.ts"
import type { AssistantMessage } from "../Message.ts"
import type { SubagentStatus } from "../Subagent.ts"
import type { UpstreamFailure } from "../Upstream.ts"
import type { Entry } from "./ReplyEntry.ts"
import { isVisibleText } from "./ReplyEntry.ts"

/**
 * The state of a reply. Immutable: a value of this type is a snapshot that may be kept.
 *
 * **Details**
 *
 * `entries` with `active` in place of the one at `activeIndex` are the parts: a run of deltas to one part then costs no
 * copy of the list. Read them with `Reply.parts`. `eventCount` counts the events that changed the reply.
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
 * turn; what answers them answers the prompt. In the reply of a subagent they are all the prompts that it was given in the turn.
 * `userMessages` are the other messages of users, `removed` the messages and parts that were taken away: neither comes back with
 * a late event. `askEventIds`, `failureEventId` and `statusEventId` tell a late copy of an event from a new one. `asks` and
 * `subagents` are those of the whole tree, and kept by its root. `retries` counts how often the session's model was to be asked
 * again. `trouble` is the last failure or retry that was heard of the session; it stays when the session goes on. `hasGap`: events may have been missed since the fold began. `isClosed`: the turn has ended, and whose its subagents are is
 * decided.
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
  readonly subagents: ReadonlyArray<SubagentState>
  readonly retry: Retry | undefined
  readonly retries: number
  readonly failure: UpstreamFailure | undefined
  readonly failureEventId: string | undefined
  readonly trouble: UpstreamFailure | undefined
  readonly statusEventId: string | undefined
  readonly hasGap: boolean
  readonly isClosed: boolean
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
 * A session that a tool of the turn opened, directly or through another subagent, while it is folded.
 *
 * **Details**
 *
 * `reply` is what it says in this turn: every prompt that was given to it since the turn's own is one of its continuations.
 * `openedBy` is the tool part that names it, once that is known, and `sinceMillis` when that began, by the server's clock: a session
 * that earlier turns used as well may have got their prompts after the last message of the root.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubagentState {
  readonly sessionId: SessionId
  readonly parentId: SessionId
  readonly openedBy: PartId | undefined
  readonly sinceMillis: number | undefined
  readonly title: string
  readonly agent: string | undefined
  readonly status: SubagentStatus
  readonly reply: Reply
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
    retries: 0,
    failure: undefined,
    failureEventId: undefined,
    trouble: undefined,
    statusEventId: undefined,
    hasGap: false,
    isClosed: false
  }
})

/** The entries in their order. */
export const current = (self: Reply): ReadonlyArray<Entry> =>
  self.active === undefined || self.entries[self.activeIndex] === self.active
    ? self.entries
    : self.entries.with(self.activeIndex, self.active)

/** The entry at a place. */
export const at = (self: Reply, index: number): Entry | undefined =>
  index === self.activeIndex ? self.active : self.entries[index]

/** The place of a part, or -1. From the end: a change is nearly always to one of the newest parts. */
export const indexOf = (self: Reply, id: PartId): number => {
  for (let index = self.entries.length - 1; index >= 0; index--) {
    if (self.entries[index]?.id === id) return index
  }
  return -1
}

/** Adds an entry behind the others. */
export const push = (self: Reply, entry: Entry): Reply => {
  const entries = [...current(self), entry]
  return {
    ...self,
    entries,
    active: entry,
    activeIndex: entries.length - 1,
    hasText: self.hasText || isVisibleText(entry),
    eventCount: self.eventCount + 1
  }
}

/** Puts an entry in the place of another one. */
export const replaceAt = (self: Reply, index: number, entry: Entry, hasText: boolean): Reply => ({
  sessionId: self.sessionId,
  promptId: self.promptId,
  entries: index === self.activeIndex ? self.entries : current(self),
  active: entry,
  activeIndex: index,
  hasText,
  eventCount: self.eventCount + 1,
  frame: self.frame
})

/** Puts other entries in the place of all of them; that is no event of its own. */
export const withEntries = (self: Reply, entries: ReadonlyArray<Entry>): Reply => ({
  ...self,
  entries,
  active: undefined,
  activeIndex: -1,
  hasText: entries.some(isVisibleText)
})

/** Maps the entries and drops those mapped to `undefined`; `self` if none changed. */
export const mapEntries = (self: Reply, f: (entry: Entry) => Entry | undefined): Reply => {
  const before = current(self)
  const entries = before.map(f).filter((entry) => entry !== undefined)
  const isSameList = entries.length === before.length && entries.every((entry, index) => entry === before[index])
  return isSameList ? self : withEntries(self, entries)
}

/** Changes the subagents; that is no event of its own. `self` if none changed. */
export const mapSubagents = (
  self: Reply,
  f: (subagent: SubagentState) => SubagentState | undefined
): Reply => {
  const before = self.frame.subagents
  const subagents = before.map(f).filter((subagent) => subagent !== undefined)
  const isSame = subagents.length === before.length && subagents.every((subagent, at) => subagent === before[at])
  return isSame ? self : { ...self, frame: { ...self.frame, subagents } }
}

/** Changes the frame. */
export const withFrame = (self: Reply, changes: Partial<Frame>): Reply => ({
  ...self,
  frame: { ...self.frame, ...changes },
  eventCount: self.eventCount + 1
})
