/**
 * What changed in a reply, for observers: deltas, not snapshots.
 *
 * @since 0.1.0
 */
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
 * - `TextDelta`, `ReasoningDelta`: more text of the part.
 * - `PartChanged`: a part was opened, changed or closed; `part` is the whole of it. A closed text may differ from its deltas.
 * - `Reset`: forget what was shown and take `reply`: updates were dropped because the observer was too slow (`overflow`),
 *   the session was lost and the prompt sent again (`recreated`), or the server's record differs (`reconciled`).
 *
 * @category models
 * @since 0.1.0
 */
export type ReplyUpdate =
  | { readonly _tag: "TextDelta"; readonly partId: PartId; readonly delta: string }
  | { readonly _tag: "ReasoningDelta"; readonly partId: PartId; readonly delta: string }
  | { readonly _tag: "PartChanged"; readonly part: Part }
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
 * What folding `event` changed for a reader, if anything.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromEvent = (before: Reply.Reply, after: Reply.Reply, event: TurnEvent): ReplyUpdate | undefined => {
  if (before === after) return undefined
  switch (event._tag) {
    case "PartDelta": {
      const entry = after.active
      if (entry?.kind !== "text" || entry.id !== event.partId || !entry.isOurs) return undefined
      return {
        _tag: entry.type === "text" ? "TextDelta" : "ReasoningDelta",
        partId: event.partId,
        delta: event.delta
      }
    }
    case "PartUpdated": {
      const part = Reply.part(after, event.part.id)
      return part === undefined ? undefined : { _tag: "PartChanged", part }
    }
    case "TodosUpdated":
      return { _tag: "TodosChanged", todos: event.todos }
    case "Asked":
      return { _tag: "Asked", ask: event.ask }
    case "AskResolved":
      return { _tag: "AskResolved", requestId: event.requestId }
    case "StatusChanged":
      return after.frame.retry === undefined ? undefined : { _tag: "Retrying", retry: after.frame.retry }
    case "SessionOpened": {
      const subagent = after.frame.subagents.at(-1)
      return subagent === undefined ? undefined : { _tag: "SubagentOpened", subagent }
    }
    default:
      return undefined
  }
}
