/**
 * Reading a turn's exchange from the server, and how it is prompted: the steps that ask and post.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Client } from "./Client.ts"
import type { RequestError, SessionNotFound } from "./ClientError.ts"
import * as Exchange from "./Exchange.ts"
import type { IdFloor, MessageId, SessionId } from "./Ids.ts"
import type { Message } from "./Message.ts"
import { rereading } from "./Retrying.ts"
import type { StoredRequest } from "./SessionStore.ts"
import * as TurnPolicy from "./TurnPolicy.ts"

/**
 * What the ids of the next prompt must sort after: one bounded read, however long the session is, and one of the session
 * where it has no message yet.
 *
 * @category steps
 * @since 0.1.0
 */
export const baseline = Effect.fn("Turn.baseline")(function*(
  sessionId: SessionId
): Effect.fn.Return<IdFloor, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const newest = yield* rereading(client.listMessages(sessionId, { limit: 1 })).pipe(
    Effect.map(({ messages }) => messages.at(-1)?.info),
    // After a prompt with a `format`, 1.18.33 answers 400 to every list: the time of the last change serves as well.
    Effect.catchIf(isUnlistable, () => Effect.undefined)
  )
  if (newest !== undefined) return { newestMessageId: newest.id, sessionUpdatedMillis: newest.createdMillis }
  const session = yield* rereading(client.getSession(sessionId))
  return { newestMessageId: undefined, sessionUpdatedMillis: session.updatedMillis }
})

/**
 * Posts the prompt so that the server has it once, whatever is lost on the way.
 *
 * **Details**
 *
 * When it is not known whether the server got it, the server is asked for the message; only when it has none is the prompt
 * posted again, with the same ids. Without ids it cannot be asked for, and is posted once.
 *
 * @category steps
 * @since 0.1.0
 */
export const promptOnce = Effect.fn("Turn.promptOnce")(function*(
  { prompt, sessionId }: StoredRequest
): Effect.fn.Return<void, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const { ids } = prompt
  const post = client.prompt(sessionId, prompt)
  if (ids === undefined) return yield* post
  const schedule = yield* TurnPolicy.RequestRetry
  const postUnlessAccepted = Effect.catchIf(
    post,
    mayHaveActed,
    (error) =>
      Effect.flatMap(
        hasMessage(sessionId, ids.promptId),
        (isAccepted) => (isAccepted ? Effect.void : Effect.fail({ _tag: "NotAccepted", error } as const))
      )
  )
  return yield* postUnlessAccepted.pipe(
    // A failure to find out is none of these: posting without knowing could ask the model twice.
    Effect.retry({ schedule, while: (failure) => failure._tag === "NotAccepted" }),
    Effect.catchTag("NotAccepted", ({ error }) => Effect.fail(error))
  )
})

/**
 * Reads the exchange of the prompt: pages of the newest messages, back to the prompt and no further.
 *
 * **Details**
 *
 * `known` are the ids of the turn's own messages, as the stream told them. They are read one by one where the server cannot
 * list a session's messages (1.18.33 after a prompt with a `format`).
 *
 * @category steps
 * @since 0.1.0
 */
export const readExchange = Effect.fn("Turn.readExchange")(function*(
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  known: ReadonlyArray<MessageId>
): Effect.fn.Return<Exchange.Exchange, RequestError | SessionNotFound, Client> {
  const messages = yield* Effect.catchIf(
    listBackTo(ids.sessionId, ids.promptId),
    isUnlistable,
    () => readOneByOne(ids.sessionId, [ids.promptId, ...known])
  )
  return Exchange.fromMessages(ids, messages)
})

// internal

const mayHaveActed = (error: RequestError | SessionNotFound): boolean =>
  error.isRetryable || (error._tag === "StatusError" && error.status === 409)

const hasMessage = Effect.fnUntraced(function*(sessionId: SessionId, id: MessageId) {
  const client = yield* Client
  return yield* rereading(client.getMessage(sessionId, id)).pipe(
    Effect.as(true),
    Effect.catchTag("MessageNotFound", () => Effect.succeed(false)),
    // It is there, and cannot be read: 1.18.33 answers like this for a prompt with a `format`.
    Effect.catchIf(isUnlistable, () => Effect.succeed(true))
  )
})

/** A turn has a message for each step; most have fewer than this, and a page of it is small. */
const pageSize = 50

const listBackTo = Effect.fnUntraced(function*(sessionId: SessionId, promptId: MessageId) {
  const client = yield* Client
  const pages: Array<ReadonlyArray<Message>> = []
  let before: string | undefined
  do {
    const page = yield* rereading(client.listMessages(sessionId, {
      limit: pageSize,
      ...(before !== undefined && { before })
    }))
    pages.unshift(page.messages)
    // Ids sort by time: past a page with an older message the prompt cannot come.
    if (page.messages.some(({ info }) => info.id <= promptId)) break
    before = Option.getOrUndefined(page.before)
  } while (before !== undefined)
  return pages.flat()
})

const readOneByOne = Effect.fnUntraced(function*(sessionId: SessionId, ids: ReadonlyArray<MessageId>) {
  const client = yield* Client
  const messages = yield* Effect.forEach(
    ids,
    (id) =>
      rereading(client.getMessage(sessionId, id)).pipe(
        // The user message with the `format` cannot be read on its own either; the answers to it can (1.18.33).
        Effect.catchTag("MessageNotFound", () => Effect.undefined),
        Effect.catchIf(isUnlistable, () => Effect.undefined)
      ),
    { concurrency: 4 }
  )
  return messages.filter((message) => message !== undefined)
})

const isUnlistable = (error: RequestError | SessionNotFound): boolean =>
  error._tag === "StatusError" && error.status === 400
