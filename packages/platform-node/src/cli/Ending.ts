/**
 * The end of a turn as it is shown, of one that ran here or of one that is stored.
 */
import { MessageId, SessionId } from "@opencode-turn/core/Ids"
import * as Reply from "@opencode-turn/core/Reply"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as Effect from "effect/Effect"
import { describe, failed, Failure, type Told, usage } from "./Failure.ts"

/** What of a `TurnResult` is shown. */
export interface Ending extends
  Pick<
    TurnResult,
    "status" | "conversationId" | "sessionId" | "messageId" | "promptId" | "reply" | "durationMillis"
  >
{
  readonly error: Told | undefined
}

/** The end that a stored message tells of. */
export const fromStored = (message: StoredMessage): Ending => {
  const { conversationId, createdMillis, error, finishedMillis, id, parts, request, usage } = message
  const sessionId = request?.sessionId
  const promptId = request?.prompt.ids?.promptId
  const ids = { sessionId: sessionId ?? SessionId.make(""), promptId: promptId ?? MessageId.make("") }
  return {
    status: statusOf(message),
    conversationId,
    sessionId,
    messageId: id,
    promptId,
    reply: { ...Reply.result(Reply.restore(ids, parts)), usage },
    durationMillis: (finishedMillis ?? createdMillis) - createdMillis,
    error: error === null ? undefined : { _tag: error.tag, message: error.message }
  }
}

/** Succeeds for a completed turn, and fails with the exit code of every other one. */
export const toExit = ({ error, status }: Ending): Effect.Effect<void, Failure> => {
  switch (status) {
    case "completed":
      return Effect.void
    case "cancelled":
      return Effect.fail(new Failure({ exitCode: 130, tag: "TurnCancelled", reason: null }))
    case "error":
    case "failed":
      return Effect.fail(
        error?._tag === "InvalidInput"
          ? usage(error.message)
          : failed(error === undefined ? "the turn failed" : describe(error), error?._tag)
      )
  }
}

// internal

/** As in `TurnResult`: what the model or its provider failed is an error, all else a failure. */
const statusOf = ({ error, status }: StoredMessage): Ending["status"] => {
  if (status === "completed" || status === "cancelled") return status
  return error?.tag === "Upstream" || error?.tag === "EmptyStream" ? "error" : "failed"
}
