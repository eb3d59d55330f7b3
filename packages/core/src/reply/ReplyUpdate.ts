/**
 * The changes of a reply for observers: deltas instead of snapshots.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import type { Ask } from "../domain/Ask.ts"
import type { AskId, AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "../domain/Ids.ts"
import type { Part, Todo } from "../domain/Part.ts"
import type { Subagent } from "../domain/Subagent.ts"
import type { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import * as Ordered from "./Ordered.ts"
import * as Reply from "./Reply.ts"

/**
 * A change in the reply of one session.
 *
 * **Details**
 *
 * - `TextDelta`, `ReasoningDelta`: more text of the part. Older servers send the first deltas before the part itself.
 * - `PartChanged`: a part was opened, changed or closed. `part` replaces the shown part with its id, or is appended. A closed text may
 *   differ from its deltas; an open text is emptied when the model is to be called again.
 * - `PartRemoved`: a part was removed.
 * - `Failed`: the session is known to have failed. A subagent's failure does not have to fail the turn.
 *
 * @category models
 * @since 0.1.0
 */
export type SessionUpdate =
  | { readonly _tag: "TextDelta"; readonly partId: PartId; readonly delta: string }
  | { readonly _tag: "ReasoningDelta"; readonly partId: PartId; readonly delta: string }
  | { readonly _tag: "PartChanged"; readonly part: Part }
  | { readonly _tag: "PartRemoved"; readonly partId: PartId }
  | { readonly _tag: "TodosChanged"; readonly todos: ReadonlyArray<Todo> }
  | { readonly _tag: "Retrying"; readonly retry: Reply.Retry }
  | { readonly _tag: "Failed"; readonly failure: UpstreamFailure }

/**
 * One change of a reply.
 *
 * **Details**
 *
 * - `Started`: the prompt is recorded, and about to be posted. It is the first update, and comes again where the prompt is posted under
 *   other ids.
 * - A {@link SessionUpdate} belongs to the turn's own session. A `SubagentUpdate` belongs to a subagent, and names its session and the
 *   tool part that opened it.
 * - `SubagentChanged`: a subagent was opened, was linked to a tool part, failed, or ended.
 * - `Asked`: a session asks a person. `ask.sessionId` is the session; `openedBy` is the tool part that opened it, if it is a subagent's.
 * - `Reset`: drop everything shown, and show this instead. Its reasons:
 *   - `overflow`: updates were dropped for a slow observer.
 *   - `attached`: updates between an earlier attachment and this one are not known any more.
 *   - `recreated`: the session was lost, and the prompt was sent again.
 *   - `repaired`: the answer did not fit the schema, and another one was requested.
 *   - `refused`: refusals stopped the agent, which was then told the reasons.
 *   - `reconciled`: the shown reply lacked something, or differed from the server's stored messages.
 *
 * @category models
 * @since 0.1.0
 */
export type ReplyUpdate =
  | Started
  | SessionUpdate
  | {
    readonly _tag: "SubagentUpdate"
    readonly sessionId: SessionId
    readonly openedBy: PartId | undefined
    readonly update: SessionUpdate
  }
  | { readonly _tag: "SubagentChanged"; readonly subagent: Subagent }
  | { readonly _tag: "Asked"; readonly ask: Ask; readonly openedBy: PartId | undefined }
  | { readonly _tag: "AskResolved"; readonly askId: AskId }
  | Reset

/**
 * The whole state of a reply, in place of everything shown before.
 *
 * @category models
 * @since 0.1.0
 */
export interface Reset extends Shown {
  readonly _tag: "Reset"
  readonly reason: "overflow" | "recreated" | "repaired" | "refused" | "reconciled" | "attached"
}

/**
 * What a reader of the updates shows: the parts of the turn's own session, the subagents with their parts, and the open asks.
 *
 * @category models
 * @since 0.1.0
 */
export interface Shown {
  readonly parts: ReadonlyArray<Part>
  readonly subagents: ReadonlyArray<Subagent & { readonly parts: ReadonlyArray<Part> }>
  readonly asks: ReadonlyArray<{ readonly ask: Ask; readonly openedBy: PartId | undefined }>
}

/**
 * The state of a reply for a reader.
 *
 * @category getters
 * @since 0.1.0
 */
export const shown = (reply: Reply.Reply): Shown => ({
  parts: Reply.parts(reply),
  subagents: Reply.subagentStates(reply).map((state) => ({
    ...Reply.toSubagent(state),
    parts: Reply.parts(state.reply)
  })),
  asks: openAsks(reply)
})

/**
 * What tells a reader who comes now that sessions wait for the next try of their model.
 *
 * @category getters
 * @since 0.1.0
 */
export const announced = (reply: Reply.Reply): ReadonlyArray<ReplyUpdate> =>
  Reply.replies(reply).flatMap(({ session: { retry }, sessionId }): ReadonlyArray<ReplyUpdate> => {
    if (retry === undefined) return []
    const update = { _tag: "Retrying", retry } as const
    const openedBy = Reply.subagentOf(reply, sessionId)?.openedBy
    return [sessionId === reply.sessionId ? update : { _tag: "SubagentUpdate", sessionId, openedBy, update }]
  })

/**
 * The open asks, each with the tool part that opened the subagent which asks.
 *
 * @category getters
 * @since 0.1.0
 */
export const openAsks = (reply: Reply.Reply): Shown["asks"] =>
  Reply.asks(reply).map((ask) => ({ ask, openedBy: Reply.subagentOf(reply, ask.sessionId)?.openedBy }))

/**
 * Where and how the turn works. `model` is `provider/model`; it and `agent` are left out where the server chooses them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Started {
  readonly _tag: "Started"
  readonly conversationId: ConversationId
  readonly messageId: AssistantMessageId
  readonly sessionId: SessionId
  readonly promptId: MessageId
  readonly model?: string
  readonly agent?: string
}

/**
 * The changes that an event made for a reader, in the order in which to show them. `told` is what `Reply.fold` gave for it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromFold = (
  before: Reply.Reply,
  after: Reply.Reply,
  told: Reply.Told | undefined
): ReadonlyArray<ReplyUpdate> => {
  if (before === after || told === undefined) return none
  const isRoot = told.sessionId === after.sessionId
  const said = isRoot ? fromSession(before, after, told) : fromSubagent(before, after, told)
  if (said === undefined) return [{ _tag: "Reset", reason: "reconciled", ...shown(after) }]
  // A delta changes nothing besides.
  return told._tag === "Grew"
    ? said
    : [...said, ...fromAsks(before, after, told), ...fromSubagents(before, after)]
}

/**
 * Whether a reader would see no difference in parts, open asks and subagents.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSameToReader = (before: Reply.Reply, after: Reply.Reply): boolean =>
  before === after ||
  (before.session.asks === after.session.asks &&
    hasSameSubagents(before, after) &&
    (hasSameEntries(before, after) || Reply.isSameContent(before, after)))

// internal

const none: ReadonlyArray<never> = []

/** The changes in the reply of a session; undefined if updates cannot express them. */
const fromSession = (
  before: Reply.Reply,
  after: Reply.Reply,
  told: Reply.Told
): ReadonlyArray<SessionUpdate> | undefined => {
  switch (told._tag) {
    case "Grew": {
      const { delta, partId, type } = told
      return [{ _tag: type === "text" ? "TextDelta" : "ReasoningDelta", partId, delta }]
    }
    case "Part": {
      const part = Reply.part(after, told.partId)
      return part === undefined ? none : [{ _tag: "PartChanged", part }]
    }
    case "Todos":
      return [{ _tag: "TodosChanged", todos: told.todos }]
    default: {
      const parts = fromParts(before, after)
      return parts && [...parts, ...fromFrame(before, after)]
    }
  }
}

/** The changes in the reply of a subagent, marked as its own. */
const fromSubagent = (
  before: Reply.Reply,
  after: Reply.Reply,
  told: Reply.Told
): ReadonlyArray<ReplyUpdate> | undefined => {
  const was = Reply.subagentOf(before, told.sessionId)
  const is = Reply.subagentOf(after, told.sessionId)
  if (was === undefined || is === undefined || was.reply === is.reply) return none
  const { openedBy, sessionId } = is
  return fromSession(was.reply, is.reply, told)
    ?.map((update) => ({ _tag: "SubagentUpdate", sessionId, openedBy, update }))
}

/**
 * Compares all parts. Only rare events change several parts: the message arrived after its parts, or parts were emptied
 * or removed.
 */
const fromParts = (before: Reply.Reply, after: Reply.Reply): ReadonlyArray<SessionUpdate> | undefined => {
  if (hasSameEntries(before, after)) return none
  const { changed, isBetween, removed } = Reply.changedParts(before, after)
  // No update can insert a part between shown ones.
  if (isBetween) return undefined
  return [
    ...removed.map((partId): SessionUpdate => ({ _tag: "PartRemoved", partId })),
    ...changed.map((part): SessionUpdate => ({ _tag: "PartChanged", part }))
  ]
}

const fromFrame = (before: Reply.Reply, after: Reply.Reply): ReadonlyArray<SessionUpdate> => {
  const { failure, retry } = after.session
  const updates: Array<SessionUpdate> = []
  if (retry !== undefined && retry !== before.session.retry) updates.push({ _tag: "Retrying", retry })
  if (failure !== undefined && !Equal.equals(failure, before.session.failure)) updates.push({ _tag: "Failed", failure })
  return updates
}

/** The new asks, the answered asks, and the asks that ended with their run. */
const fromAsks = (before: Reply.Reply, after: Reply.Reply, told: Reply.Told): ReadonlyArray<ReplyUpdate> => {
  if (told._tag === "Ask") {
    return [{ _tag: "Asked", ask: told.ask, openedBy: Reply.subagentOf(after, told.sessionId)?.openedBy }]
  }
  if (told._tag === "AskEnd") return [{ _tag: "AskResolved", askId: told.askId }]
  return Reply.newAsks(before, after).map(({ id }): ReplyUpdate => ({ _tag: "AskResolved", askId: id }))
}

const fromSubagents = (before: Reply.Reply, after: Reply.Reply): ReadonlyArray<ReplyUpdate> =>
  before.session.subagents === after.session.subagents ?
    none :
    Ordered.news(after.session.subagents, before.session.subagents)
      .filter((is) => {
        const was = Reply.subagentOf(before, is.sessionId)
        return was === undefined || !isSameSubagent(was, is)
      })
      .map((is): ReplyUpdate => ({ _tag: "SubagentChanged", subagent: Reply.toSubagent(is) }))

/** Whether everything is the same but what the subagent said. */
const isSameSubagent = (was: Reply.SubagentState, is: Reply.SubagentState): boolean =>
  was === is ||
  (was.openedBy === is.openedBy && was.status === is.status && was.title === is.title && was.agent === is.agent &&
    Equal.equals(was.reply.session.failure, is.reply.session.failure))

const hasSameEntries = (before: Reply.Reply, after: Reply.Reply): boolean =>
  before.entries === after.entries && before.active === after.active

/** Whether no subagent changed: an unchanged subagent keeps its reference. */
const hasSameSubagents = (before: Reply.Reply, after: Reply.Reply): boolean => {
  const were = before.session.subagents
  const are = after.session.subagents
  return were === are || (Ordered.size(were) === Ordered.size(are) && Ordered.news(are, were).every((is) => {
    const was = Ordered.get(were, is.sessionId)
    return was !== undefined && isSameSubagent(was, is) && isSameToReader(was.reply, is.reply)
  }))
}
