/**
 * What changed in a reply, for observers: deltas, not snapshots.
 *
 * @since 0.1.0
 */
import * as Equal from "effect/Equal"
import type { Ask } from "./Ask.ts"
import type { PartId, RequestId } from "./Ids.ts"
import type { Part, Todo } from "./Part.ts"
import type { Subagent } from "./Reply.ts"
import * as Reply from "./Reply.ts"
import type { TurnEvent } from "./TurnEvent.ts"

/**
 * One change of a reply.
 *
 * **Details**
 *
 * - `TextDelta`, `ReasoningDelta`: more text of the part. Older servers send the first ones before the part itself.
 * - `PartChanged`: a part was opened, changed or closed; `part` takes the place of all that was shown of it, or stands behind
 *   what is shown. A closed text may differ from its deltas; an open one is emptied when the model is asked again.
 * - `PartRemoved`: a part is gone.
 * - `Reset`: forget what was shown and take `reply`: updates were dropped because the observer was too slow (`overflow`),
 *   the session was lost and the prompt sent again (`recreated`), or what was shown lacks something in between or differs from
 *   the server's record (`reconciled`).
 *
 * @category models
 * @since 0.1.0
 */
export type ReplyUpdate =
  | { readonly _tag: "TextDelta"; readonly partId: PartId; readonly delta: string }
  | { readonly _tag: "ReasoningDelta"; readonly partId: PartId; readonly delta: string }
  | { readonly _tag: "PartChanged"; readonly part: Part }
  | { readonly _tag: "PartRemoved"; readonly partId: PartId }
  | { readonly _tag: "TodosChanged"; readonly todos: ReadonlyArray<Todo> }
  | { readonly _tag: "Asked"; readonly ask: Ask }
  | { readonly _tag: "AskResolved"; readonly requestId: RequestId }
  | { readonly _tag: "Retrying"; readonly retry: Reply.Retry }
  | { readonly _tag: "SubagentOpened"; readonly subagent: Subagent }
  | {
    readonly _tag: "Reset"
    readonly reason: "overflow" | "recreated" | "reconciled"
    readonly reply: Reply.Reply
  }

/**
 * What folding `event` changed for a reader, in the order in which to show it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromEvent = (before: Reply.Reply, after: Reply.Reply, event: TurnEvent): ReadonlyArray<ReplyUpdate> => {
  if (before === after) return none
  switch (event._tag) {
    case "PartDelta": {
      const entry = after.active
      if (entry?.kind !== "text" || entry.id !== event.partId || !entry.isOurs) return none
      return [{
        _tag: entry.type === "text" ? "TextDelta" : "ReasoningDelta",
        partId: event.partId,
        delta: event.delta
      }]
    }
    case "PartUpdated": {
      const part = Reply.part(after, event.part.id)
      return part === undefined ? none : [{ _tag: "PartChanged", part }]
    }
    case "TodosUpdated":
      return [{ _tag: "TodosChanged", todos: event.todos }]
    case "Asked":
      return [{ _tag: "Asked", ask: event.ask }]
    case "AskResolved":
      return [{ _tag: "AskResolved", requestId: event.requestId }]
    case "SessionOpened": {
      const subagent = after.frame.subagents.at(-1)
      return subagent === undefined ? none : [{ _tag: "SubagentOpened", subagent }]
    }
    case "StatusChanged": {
      const { retry } = after.frame
      const isRetrying = retry !== undefined && retry !== before.frame.retry
      return [...fromParts(before, after), ...fromAsks(before, after), ...(isRetrying ? [retrying(retry)] : none)]
    }
    default:
      return [...fromParts(before, after), ...fromAsks(before, after)]
  }
}

/**
 * Whether a reader would see the same in both: parts, open requests, subagents.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSameToReader = (before: Reply.Reply, after: Reply.Reply): boolean =>
  before === after ||
  (before.frame.asks === after.frame.asks &&
    before.frame.subagents === after.frame.subagents &&
    (hasSameEntries(before, after) || Reply.isSameContent(before, after)))

// internal

const none: ReadonlyArray<ReplyUpdate> = []

const retrying = (retry: Reply.Retry): ReplyUpdate => ({ _tag: "Retrying", retry })

/** For events that change several parts, and seldom do: parts whose message came after them, were taken back or removed. */
const fromParts = (before: Reply.Reply, after: Reply.Reply): ReadonlyArray<ReplyUpdate> => {
  if (hasSameEntries(before, after)) return none
  const shown = new Map(Reply.parts(before).map((part) => [part.id, part]))
  const parts = Reply.parts(after)
  const newest = parts.findLastIndex(({ id }) => shown.has(id))
  // Nothing tells a reader to put a part between those that are shown.
  if (parts.some(({ id }, index) => index < newest && !shown.has(id))) {
    return [{ _tag: "Reset", reason: "reconciled", reply: after }]
  }
  const left = new Set(parts.map(({ id }) => id))
  return [
    ...[...shown.keys()].filter((id) => !left.has(id)).map((partId): ReplyUpdate => ({ _tag: "PartRemoved", partId })),
    ...parts.filter((part) => !Equal.equals(part, shown.get(part.id))).map((part): ReplyUpdate => ({
      _tag: "PartChanged",
      part
    }))
  ]
}

/** The requests that went with the run that made them. */
const fromAsks = (before: Reply.Reply, after: Reply.Reply): ReadonlyArray<ReplyUpdate> =>
  before.frame.asks === after.frame.asks ? none : before.frame.asks
    .filter((ask) => !after.frame.asks.includes(ask))
    .map(({ id }): ReplyUpdate => ({ _tag: "AskResolved", requestId: id }))

const hasSameEntries = (before: Reply.Reply, after: Reply.Reply): boolean =>
  before.entries === after.entries && before.active === after.active
