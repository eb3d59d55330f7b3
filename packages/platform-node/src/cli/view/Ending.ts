/**
 * The end of a turn as the command shows it: of a turn that just ran, or of a stored one.
 */
import type { Artifacts } from "@opencode-turn/core/Artifact"
import { MessageId, SessionId } from "@opencode-turn/core/Ids"
import * as Reply from "@opencode-turn/core/Reply"
import type { MessageState, StoredMessage } from "@opencode-turn/core/SessionStore"
import * as Timing from "@opencode-turn/core/Timing"
import { isUnusableTag, TurnCancelled } from "@opencode-turn/core/TurnError"
import type { TurnEnd, TurnStatus } from "@opencode-turn/core/TurnResult"
import * as Usage from "@opencode-turn/core/Usage"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { describe, failed, Failure, type Told, usage } from "../setup/Failure.ts"

/** The fields of `TurnResult` that are shown. */
export interface Ending extends
  Pick<
    TurnEnd,
    | "conversationId"
    | "sessionId"
    | "messageId"
    | "promptId"
    | "message"
    | "content"
    | "isFallback"
    | "finish"
    | "reply"
    | "subagents"
    | "durationMillis"
  >
{
  readonly status: TurnStatus
  readonly output?: unknown
  /** Without the share of each model, and without a timing, where nobody measured the stored turn. */
  readonly usage: Usage.TurnUsage & Partial<Usage.ResultUsage>
  readonly timing: TurnEnd["timing"] | undefined
  readonly firstTokenMillis: number | undefined
  /** The fields below are not stored. */
  readonly artifacts: Artifacts | undefined
  readonly dropped: TurnEnd["dropped"] | undefined
  readonly error?: Told | undefined
}

/** Reads the ending from a stored message. */
export const fromStored = (message: StoredMessage): Ending => {
  const { account, content, conversationId, createdMillis, finish, finishedMillis, id, isFallback } = message
  const { parts, promptRecord, subagents } = message
  const usage = usageOf(message)
  const sessionId = promptRecord?.sessionId
  const promptId = promptRecord?.prompt.ids?.promptId
  const ids = { sessionId: sessionId ?? SessionId.make(""), promptId: promptId ?? MessageId.make("") }
  return {
    status: statusOf(message),
    conversationId,
    sessionId,
    messageId: id,
    promptId,
    message,
    content,
    isFallback,
    finish: finish ?? undefined,
    output: message.status === "completed" && hasValue(message)
      ? Option.getOrUndefined(decodeJson(content))
      : undefined,
    reply: { ...Reply.result(Reply.restore(ids, parts)), usage: usage.root },
    subagents,
    usage: { ...usage, ...(account !== null && { models: account.models }) },
    artifacts: undefined,
    timing: account?.timing,
    firstTokenMillis: account?.firstTokenMillis ?? undefined,
    dropped: undefined,
    durationMillis: account === null ? (finishedMillis ?? createdMillis) - createdMillis : Timing.total(account.timing),
    error: errorOf(message)
  }
}

/** The error of a stored turn, as `run` shows it. A cancel of another process stores only the status. */
export const errorOf = (
  { error, id, status }: Pick<MessageState, "error" | "id" | "status">
): Told | undefined => {
  if (error !== null) return { _tag: error.tag, message: error.message, details: error.details ?? {} }
  return status === "cancelled" ? new TurnCancelled({ messageId: id }) : undefined
}

/** Whether the turn expects a value of a JSON Schema as its answer. */
export const hasValue = ({ draft }: StoredMessage): boolean => draft?.outputSchema !== undefined

/** Succeeds for a completed turn, and otherwise fails with the exit code of its status. */
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

/** As in `TurnResult`: a failure of the model or its provider is an `error`, any other a `failed`. */
const statusOf = ({ error, status }: StoredMessage): Ending["status"] => {
  if (status === "completed" || status === "cancelled") return status
  return error !== null && isUnusableTag(error.tag) ? "error" : "failed"
}

/** The store keeps the total usage and the usage of each subagent. */
const usageOf = ({ subagents, usage: total }: StoredMessage): Usage.TurnUsage => {
  const theirs = Usage.sum(subagents.map(({ usage }) => usage))
  return { total, root: Usage.subtract(total, theirs), subagents: theirs }
}

const decodeJson = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Unknown))
