/**
 * Applies the events of one session to its reply: the turn's own session and subagents alike.
 *
 * @since 0.1.0
 */
import type { TurnEvent } from "../domain/TurnEvent.ts"
import * as Ordered from "./Ordered.ts"
import { applyMessage, continueTurn, hasEnded, removeMessage } from "./ReplyMessages.ts"
import { applyDelta, applyPart, applyTodos, holdOpenText, removePart } from "./ReplyParts.ts"
import { applyFailure, applyStatus } from "./ReplySessions.ts"
import type { Reply } from "./ReplyState.ts"

/** Folds an event of the reply's own session. Asks and opened sessions belong to the whole tree. */
export const applyOwn = (self: Reply, event: TurnEvent): Reply => {
  switch (event._tag) {
    case "PartDelta":
      return applyDelta(self, event)
    case "PartUpdated":
      return applyPart(self, event)
    case "MessageUpdated":
      return applyMessage(self, event)
    case "TurnContinued":
      return continueTurn(self, event.messageId)
    case "MessageRemoved":
      return removeMessage(self, event.messageId)
    case "PartRemoved":
      return removePart(self, event.partId)
    case "TodosUpdated":
      return applyTodos(self, event)
    case "SessionFailed":
      return applyFailure(self, event)
    case "StatusChanged":
      return applyStatus(self, event)
    case "SessionOpened":
    case "SessionDeleted":
    case "Asked":
    case "AskResolved":
      return self
  }
}

/** Marks that events of the session may have been missed. */
export const markOwnGap = (self: Reply): Reply => {
  const held = holdOpenText(self)
  if (held.session.hasGap) return held
  const toldUpTo = Ordered.findLast(held.session.messages, ({ info }) => hasEnded(info))?.id
  return { ...held, session: { ...held.session, hasGap: true, toldUpTo } }
}
