/**
 * What the gateway answers where a conversation cannot be forked, reverted or compacted.
 *
 * @since 0.1.0
 */
import type { OperationFailure } from "@opencode-turn/core/Operations"
import * as Effect from "effect/Effect"
import { Busy, type NotFound, TooLate, Unavailable, Unprocessable } from "./GatewayError.ts"
import { storeFailed, unknown } from "./Ownership.ts"

/**
 * @category errors
 * @since 0.1.0
 */
export const refuse = (
  error: OperationFailure
): Effect.Effect<never, Busy | TooLate | Unprocessable | NotFound | Unavailable> => {
  const { message } = error
  switch (error._tag) {
    case "TurnInProgress":
    case "SessionBusy":
      return Effect.fail(
        new Busy({ message, advice: "wait until the turns of the conversation have ended, or cancel them" })
      )
    case "TurnNotInSession":
    case "NothingReverted":
    case "AlreadyFinished":
    case "TurnCancelled":
    case "TurnTakenOver":
      return Effect.fail(new TooLate({ message, advice: "GET the turns of the conversation: it has gone on" }))
    case "InvalidInput":
    case "NoSession":
    case "ConversationExists":
    case "CompactionFailed":
    case "UnsupportedOperation":
      return Effect.fail(new Unprocessable({ message, advice: "change the request as the message says" }))
    case "UnknownMessage":
      return Effect.fail(unknown("turn", error.messageId))
    case "StoreError":
      return storeFailed(error)
    default:
      return Effect.fail(
        new Unavailable({ message: "the OpenCode server could not do it", advice: "try again in a while" })
      )
  }
}
