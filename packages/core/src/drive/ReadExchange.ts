/**
 * Reading a turn's exchange from the server, and how it is prompted: the steps that ask and post.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { IdFloor, MessageId, SessionId } from "../domain/Ids.ts"
import type { Message } from "../domain/Message.ts"
import { rereading } from "../domain/Retrying.ts"
import { step } from "../domain/Tracing.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { Client } from "../opencode/Client.ts"
import type { RequestError, SessionNotFound } from "../opencode/ClientError.ts"
import { AnswerTooLarge, DecodeError } from "../opencode/ClientError.ts"
import type { UnreadMessage } from "../opencode/Dialect.ts"
import * as Exchange from "../reply/Exchange.ts"
import * as Reply from "../reply/Reply.ts"
import type { PromptRecord } from "../store/SessionStore.ts"

/**
 * What the ids of the next prompt must sort after: one bounded read, however long the session is, and one of the session
 * where it has no message yet.
 *
 * @category steps
 * @since 0.1.0
 */
export const baseline = Effect.fnUntraced(function*(
  sessionId: SessionId
): Effect.fn.Return<IdFloor, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const page = yield* newestWithoutOrder(sessionId)
  const newest = page?.messages.at(-1)?.info
  if (newest !== undefined) return { newestMessageId: newest.id, sessionUpdatedMillis: newest.createdMillis }
  const session = yield* rereading(client.getSession(sessionId))
  // Where the id of the newest message cannot be read, the millisecond after it sorts behind it.
  const unreadMillis = page?.unread?.map(({ createdMillis = 0 }) => createdMillis + 1) ?? []
  return { newestMessageId: undefined, sessionUpdatedMillis: Math.max(session.updatedMillis, ...unreadMillis) }
}, step("Turn.baseline"))

/**
 * Drops an order to summarise that a server left in the session: it would take the answer's place, or make its run fail.
 *
 * @category steps
 * @since 0.1.0
 */
export const dropOrder = (sessionId: SessionId): Effect.Effect<void, RequestError | SessionNotFound, Client> =>
  Effect.asVoid(newestWithoutOrder(sessionId))

/**
 * Posts the prompt so that the server has it once, whatever is lost on the way. `isAgain`: it was posted before, and its session is idle
 * without the end of an answer.
 *
 * **Details**
 *
 * When it is not known whether the server got it, the server is asked for the message; only when it has none is the prompt
 * posted again, with the same ids. Without ids it cannot be asked for, and is posted once.
 *
 * @category steps
 * @since 0.1.0
 */
export const promptOnce = Effect.fnUntraced(function*(
  { prompt, sessionId }: PromptRecord,
  isAgain = false
): Effect.fn.Return<void, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const { ids } = prompt
  if (ids === undefined) return yield* client.prompt(sessionId, prompt)
  const identified = { ...prompt, ids }
  const post = isAgain ? client.carryOn(sessionId, identified) : client.prompt(sessionId, identified)
  const schedule = yield* TurnPolicy.RequestRetry
  const postUnlessAccepted = Effect.catchIf(
    post,
    mayHaveActed,
    (error) =>
      Effect.flatMap(
        rereading(client.hasPrompt(sessionId, ids.promptId)),
        (isAccepted) => (isAccepted ? Effect.void : Effect.fail({ _tag: "NotAccepted", error } as const))
      )
  )
  return yield* postUnlessAccepted.pipe(
    // A failure to find out is none of these: posting without knowing could ask the model twice.
    Effect.retry({ schedule, while: (failure) => failure._tag === "NotAccepted" }),
    Effect.catchTag("NotAccepted", ({ error }) => Effect.fail(error))
  )
}, step("Turn.promptOnce"))

/**
 * Reads the exchange of the prompt: pages of the newest messages, back to the prompt and no further.
 *
 * **Details**
 *
 * `reply` is what the stream told of the turn. Messages of it that no page gives are read by their ids, and what cannot be read
 * of one is taken from it.
 *
 * @category steps
 * @since 0.1.0
 */
export const readExchange = Effect.fnUntraced(function*(
  ids: { readonly sessionId: SessionId; readonly promptId: MessageId },
  reply: Reply.Reply = Reply.make(ids)
): Effect.fn.Return<Exchange.Exchange, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const { isWhole, messages, unread } = yield* readSince(ids, reply)
  const exchange = Exchange.fromMessages(ids, messages, unread)
  if (exchange.isAccepted) return exchange
  const isAccepted = yield* rereading(client.hasPrompt(ids.sessionId, ids.promptId))
  return { ...exchange, isAccepted, ...(isAccepted && isWhole && { isWaiting: true }) }
}, step("Turn.readExchange"))

/**
 * The failure of a turn whose answer has an unreadable field.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unreadAnswer = (field: string): DecodeError =>
  new DecodeError({ operation: "read the answer", reason: `the field ${field} is missing or odd` })

/**
 * Reads what a session has since the prompt: as many messages as the reply knows of, and if these are not all, as {@link readBackTo}
 * does. Messages of the reply that no page gives are read by their ids. What cannot be read is filled in from the reply.
 *
 * @category steps
 * @since 0.1.0
 */
export const readSince = Effect.fnUntraced(function*(
  { promptId, sessionId }: { readonly sessionId: SessionId; readonly promptId: MessageId },
  reply: Reply.Reply
) {
  const known = Reply.messages(reply).length
  const { isWhole, messages, unread } = yield* (known === 0 || known > pageSize
    ? readBackTo(sessionId, promptId)
    : readNewest(sessionId, promptId, known + 2))
  const read = new Set(messages.map(({ info }) => info.id))
  const missing = isWhole && unread.length === 0
    ? []
    : Reply.messages(reply).flatMap(({ id }) => (read.has(id) ? [] : [id]))
  const others = yield* readOneByOne(sessionId, missing)
  return {
    messages: (others.length === 0 ? messages : [...others, ...messages].toSorted(byId)).map((message) =>
      Reply.fillIn(reply, message)
    ),
    isWhole,
    // A message that was read by its id is no longer missing from the list.
    unread: unread.slice(others.length)
  }
})

/**
 * Reads the newest messages of a session, back to the one with that id or the first that is older. `isWhole` is `false` where the
 * server could not give the oldest one.
 *
 * **Details**
 *
 * Each page has to bring a message that is not known yet: the read ends with one that does not, whatever its cursor says, and after
 * 1,000 pages. Pages of more than 256 MiB together are `AnswerTooLarge`. A page that is too large by itself is read message by message.
 *
 * **Gotchas**
 *
 * 1.18.33 answers 400 to a page without a next one that holds a prompt with a `format`. Read one by one, only the session's first
 * message can be such a page.
 *
 * @category steps
 * @since 0.1.0
 */
export const readBackTo = Effect.fnUntraced(function*(
  sessionId: SessionId,
  oldestId: MessageId,
  pageLimit = pageSize
): Effect.fn.Return<Since, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const pages: Array<ReadonlyArray<Message>> = []
  const unread: Array<UnreadMessage> = []
  const known = new Set<MessageId>()
  const cursors = new Set<string>()
  let size = 0
  let limit = pageLimit
  let before: string | undefined
  const read = (isWhole: boolean) => ({ messages: pages.toReversed().flat(), unread, isWhole })
  for (let count = 0; count < maxPages; count++) {
    const page = yield* rereading(client.listMessages(sessionId, { limit, ...(before !== undefined && { before }) }))
      .pipe(
        Effect.catchIf((error) => isUnlistable(error) || (isTooLarge(error) && limit > 1), () => Effect.undefined)
      )
    if (page === undefined && limit === 1) return read(false)
    if (page === undefined) {
      limit = 1
      continue
    }
    size += page.size ?? 0
    if (size > maxSize) return yield* new AnswerTooLarge({ operation: "list messages", maxBytes: maxSize })
    const fresh = page.messages.filter(({ info }) => info.sessionId === sessionId && !known.has(info.id))
    for (const { info } of fresh) known.add(info.id)
    pages.push(fresh)
    if (page.unread !== undefined) unread.unshift(...page.unread)
    // Ids sort by time: past a page with an older message nothing is looked for.
    if (fresh.some(({ info }) => info.id <= oldestId)) return read(true)
    before = Option.getOrUndefined(page.before)
    if (before === undefined) return read(true)
    // A message whose id cannot be read may be a new one.
    if ((fresh.length === 0 && page.unread === undefined) || cursors.has(before)) return read(false)
    cursors.add(before)
  }
  return read(false)
})

// internal

/** The page of the newest message, behind which an order to summarise is dropped. */
const newestWithoutOrder = Effect.fnUntraced(function*(sessionId: SessionId) {
  const client = yield* Client
  const page = yield* rereading(client.listMessages(sessionId, { limit: 1 })).pipe(
    // After a prompt with a `format`, 1.18.33 answers 400 to every list: the time of the last change serves as well.
    Effect.catchIf((error) => isUnlistable(error) || isTooLarge(error), () => Effect.undefined)
  )
  if (page?.hasOrder === true) yield* rereading(client.dropCompaction(sessionId))
  return page
})

interface Since {
  readonly messages: ReadonlyArray<Message>
  readonly unread: ReadonlyArray<UnreadMessage>
  readonly isWhole: boolean
}

/**
 * Reads the newest messages, and more only if these do not go back far enough: older turns may hold megabytes. The limit has room
 * for the prompt and an older message, so that a page with fewer is the whole session, whether the server has cursors or not.
 */
const readNewest = Effect.fnUntraced(function*(
  sessionId: SessionId,
  oldestId: MessageId,
  limit: number
): Effect.fn.Return<Since, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const page = yield* rereading(client.listMessages(sessionId, { limit })).pipe(
    Effect.catchIf((error) => isUnlistable(error) || isTooLarge(error), () => Effect.undefined)
  )
  if (page === undefined) return yield* readBackTo(sessionId, oldestId, 1)
  const messages = page.messages.filter(({ info }) => info.sessionId === sessionId)
  const unread = page.unread ?? []
  const isWhole = messages.some(({ info }) => info.id <= oldestId) ||
    (Option.isNone(page.before) && messages.length + unread.length < limit)
  return isWhole ? { messages, unread, isWhole } : yield* readBackTo(sessionId, oldestId)
})

const mayHaveActed = (error: RequestError | SessionNotFound): boolean =>
  error.isRetryable || (error._tag === "StatusError" && error.status === 409)

/** A turn has a message for each step; most have fewer than this, and a page of it is small. */
const pageSize = 50

/** 50,000 messages: no turn has as many. Message by message, that is 1,000 of them. */
const maxPages = 1000

/** Several times what one answer may have, and what a process can still hold. */
const maxSize = 256 * 1024 * 1024

const readOneByOne = Effect.fnUntraced(function*(sessionId: SessionId, ids: ReadonlyArray<MessageId>) {
  const client = yield* Client
  const messages = yield* Effect.forEach(
    ids,
    (id) =>
      rereading(client.getMessage(sessionId, id)).pipe(
        Effect.catchTag(["MessageNotFound", "DecodeError"], () => Effect.undefined),
        Effect.catchIf(isUnlistable, () => Effect.undefined)
      ),
    { concurrency: 4 }
  )
  return messages.filter((message) => message !== undefined).filter(({ info }) => info.sessionId === sessionId)
})

const byId = (a: Message, b: Message): number => (a.info.id < b.info.id ? -1 : 1)

const isTooLarge = (error: RequestError | SessionNotFound): boolean => error._tag === "AnswerTooLarge"

const isUnlistable = (error: RequestError | SessionNotFound): boolean =>
  error._tag === "StatusError" && error.status === 400
