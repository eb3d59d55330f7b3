/**
 * Summarises a session of OpenCode 1.x.
 *
 * **Details** (1.18.33)
 *
 * `POST /session/{id}/summarize` writes a user message that orders the summary, answers it with an assistant message that is marked
 * `summary`, and responds once the session is idle. It responds `true` also if the provider failed, and 500 if the model is unknown. A
 * closed connection does not stop it. An order without a finished summary stays due: the next prompt of the session gets the summary in
 * place of its answer. So whatever leaves an order behind has to delete it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { MessageId, SessionId } from "../../domain/Ids.ts"
import type { Message } from "../../domain/Message.ts"
import { describe } from "../../domain/UpstreamFailure.ts"
import * as Usage from "../../domain/Usage.ts"
import type { RequestError, SessionNotFound } from "../ClientError.ts"
import { CompactionFailed } from "../ClientError.ts"
import type { Summary } from "../Dialect.ts"

/**
 * A message of the session, and whether it orders a summary.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listed {
  readonly message: Message
  readonly isOrder: boolean
}

/**
 * The requests that a compaction takes. `list` gives the newest messages, oldest first.
 *
 * @category models
 * @since 0.1.0
 */
export interface Requests {
  readonly list: Effect.Effect<ReadonlyArray<Listed>, RequestError | SessionNotFound>
  readonly order: Effect.Effect<void, RequestError | SessionNotFound>
  readonly remove: (id: MessageId) => Effect.Effect<void, RequestError>
  readonly abort: Effect.Effect<void, RequestError>
}

/**
 * Orders the summary, unless the newest message is one, and gives it. Of a summary that did not succeed, or that was interrupted, nothing
 * stays in the session.
 *
 * @category steps
 * @since 0.1.0
 */
export const compact = Effect.fnUntraced(function*(
  requests: Requests,
  sessionId: SessionId
): Effect.fn.Return<Summary, RequestError | SessionNotFound | CompactionFailed> {
  const before = stateOf(yield* requests.list)
  if (before._tag === "Done") return { ...before.summary, isNew: false }
  yield* removeAll(requests, before.left)
  const ordered = yield* Effect.result(requests.order).pipe(
    Effect.onInterrupt(() => Effect.ignore(Effect.andThen(requests.abort, takeBack(requests))))
  )
  const after = stateOf(yield* requests.list)
  if (after._tag === "Done") return { ...after.summary, isNew: true }
  // The server may still work on an order whose connection broke.
  if (ordered._tag === "Failure" && ordered.failure._tag !== "StatusError") return yield* ordered.failure
  yield* removeAll(requests, after.left)
  const reason = after.reason ?? (ordered._tag === "Failure" ? ordered.failure.message : "there is no summary")
  return yield* new CompactionFailed({ sessionId, reason, usage: after.usage })
})

/**
 * Deletes what is left of a compaction without a summary.
 *
 * @category steps
 * @since 0.1.0
 */
export const takeBack = (
  requests: Pick<Requests, "list" | "remove">
): Effect.Effect<void, RequestError | SessionNotFound> =>
  Effect.flatMap(requests.list, (listed) => {
    const state = stateOf(listed)
    return state._tag === "Done" ? Effect.void : removeAll(requests, state.left)
  })

// internal

type State =
  | { readonly _tag: "Done"; readonly summary: Omit<Summary, "isNew"> }
  | {
    readonly _tag: "Due"
    readonly left: ReadonlyArray<MessageId>
    readonly reason: string | undefined
    readonly usage: Usage.Usage
  }

/** `Done`: the newest message is a summary. `left`: an order that is due and its answers, the newest first, which took `usage`. */
const stateOf = (listed: ReadonlyArray<Listed>): State => {
  const last = listed.at(-1)?.message
  if (last?.info.role === "assistant" && last.info.isSummary && isFinished(last)) {
    const { id, model, usage } = last.info
    return { _tag: "Done", summary: { messageId: id, text: textOf(last), usage, model } }
  }
  const order = listed.findLast(({ isOrder }) => isOrder)?.message.info.id
  const answers = listed.flatMap(({ message }) =>
    message.info.role === "assistant" && message.info.parentId === order ? [message] : []
  )
  if (order === undefined || answers.some(isFinished)) {
    return { _tag: "Due", left: [], reason: undefined, usage: Usage.zero }
  }
  const failure = answers.at(-1)?.info
  const reason = failure?.role === "assistant" && failure.error !== undefined ? describe(failure.error) : undefined
  const usage = Usage.sum(answers.flatMap(({ info }) => (info.role === "assistant" ? [info.usage] : [])))
  return { _tag: "Due", left: [...answers.map(({ info }) => info.id).toReversed(), order], reason, usage }
}

const isFinished = ({ info }: Message): boolean =>
  info.role === "assistant" && info.finish !== undefined && info.error === undefined

const textOf = ({ parts }: Message): string =>
  parts.flatMap((part) => (part.type === "text" && part.text !== "" ? [part.text] : [])).join("\n\n")

const removeAll = ({ remove }: Pick<Requests, "remove">, ids: ReadonlyArray<MessageId>) =>
  Effect.forEach(ids, remove, { discard: true })
