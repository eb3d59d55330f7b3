/**
 * What an operation on a conversation does, once its message is claimed: forks, reverts, compactions.
 *
 * **Responsibilities**: each operation as steps that may be repeated from the beginning after a crash, the lease while it works, and the end
 * of its message.
 *
 * **Not responsibilities**: the claim, and what can be checked before it (`Operations`).
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Contained from "../domain/Contained.ts"
import type { ConversationId, MessageId, SessionId } from "../domain/Ids.ts"
import { ConversationExists, NoSession, NothingReverted, TurnNotInSession } from "../domain/OperationError.ts"
import type { ModelRef } from "../domain/Prompt.ts"
import { retrying } from "../domain/Retrying.ts"
import type { DirectoryMismatch } from "../domain/TurnError.ts"
import { detailsOf, type TurnCancelled, TurnInProgress, type TurnTakenOver } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import * as Usage from "../domain/Usage.ts"
import { readBackTo, readExchange } from "../drive/ReadExchange.ts"
import { Client } from "../opencode/Client.ts"
import type { CompactionFailed, RequestError, SessionNotFound, UnknownDirectory } from "../opencode/ClientError.ts"
import { SessionBusy } from "../opencode/ClientError.ts"
import * as Account from "../reply/Account.ts"
import * as Timeline from "../reply/Timeline.ts"
import { finalize } from "../store/Finalize.ts"
import type { Operation, StoredMessage, StoreError } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"
import { isOpen } from "../store/StoredMessage.ts"
import { checkDirectory } from "./EnsureSession.ts"
import { holdLease, untilLost } from "./Lease.ts"
import { untilIdle } from "./Recall.ts"

/**
 * Why an operation fails.
 *
 * @category errors
 * @since 0.1.0
 */
export type OperationError =
  | RequestError
  | StoreError
  | UnknownDirectory
  | DirectoryMismatch
  | SessionNotFound
  | SessionBusy
  | CompactionFailed
  | NoSession
  | TurnNotInSession
  | NothingReverted
  | ConversationExists
  | TurnInProgress

/**
 * Carries a claimed message of an operation to its end, and gives it back. A message that was taken over is repeated: each operation leads
 * to the same end, however often it was begun.
 *
 * @category steps
 * @since 0.1.0
 */
export const carryOperation = Effect.fnUntraced(function*(
  message: StoredMessage,
  operation: Operation
): Effect.fn.Return<StoredMessage, OperationError | TurnCancelled | TurnTakenOver, Client | SessionStore> {
  return yield* Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const takenMillis = yield* Clock.currentTimeMillis
      const modelMillis = yield* Ref.make(0)
      const work = Effect.raceAllFirst([
        perform(message, operation, modelMillis),
        holdLease(message),
        untilLost(message)
      ])
      const exit = yield* Effect.exit(restore(work))
      const accountOf = Effect.fnUntraced(function*(models: ReadonlyArray<Usage.ModelUsage>) {
        if (operation.type !== "compact") return null
        const atModelMillis = yield* Ref.get(modelMillis)
        return Account.ofOneCall(
          message,
          { takenMillis, modelMillis: atModelMillis, models },
          yield* Clock.currentTimeMillis
        )
      })
      if (Exit.isSuccess(exit)) {
        const { models, ...done } = exit.value
        const usage = Usage.sum(models)
        const account = yield* accountOf(models)
        const outcome = { ...done, usage, account, status: "completed", error: null, parts: [] } as const
        return (yield* finalize(message.id, message.epoch, outcome)).message
      }
      const error = exit.cause.reasons.find(Cause.isFailReason)?.error
      if (error === undefined) {
        yield* letGo(message)
        return yield* Effect.failCause(Cause.interrupt())
      }
      if (error._tag === "TurnCancelled" || error._tag === "TurnTakenOver") return yield* error
      const stored = { tag: error._tag, message: error.message, details: detailsOf(error) }
      const models = error._tag === "CompactionFailed" && !Equal.equals(error.usage, Usage.zero)
        ? modelsOf(error.usage, undefined)
        : []
      yield* finalize(message.id, message.epoch, {
        status: "error",
        error: stored,
        content: error.message,
        isFallback: true,
        parts: [],
        usage: Usage.sum(models),
        account: yield* accountOf(models)
      })
      return yield* error
    })
  )
})

/**
 * Carries on an operation that was taken over. Its failure is stored, and nobody waits for it.
 *
 * @category running
 * @since 0.1.0
 */
export const resumeOperation = (
  message: StoredMessage,
  operation: Operation
): Effect.Effect<void, StoreError, Client | SessionStore> =>
  carryOperation(message, operation).pipe(
    Effect.asVoid,
    Effect.catchIf((error) => error._tag !== "StoreError", () => Effect.void)
  )

// internal

interface Done {
  readonly content: string
  readonly isFallback: boolean
  readonly models: ReadonlyArray<Usage.ModelUsage>
}

const done = (content: string): Done => ({ content, isFallback: true, models: [] })

const modelsOf = (usage: Usage.Usage, model: ModelRef | undefined): ReadonlyArray<Usage.ModelUsage> => [
  { model: model === undefined ? "" : Timeline.nameOf(model), steps: 1, ...usage }
]

/** `modelMillis` is the time that a model worked. */
const perform = (
  message: StoredMessage,
  operation: Operation,
  modelMillis: Ref.Ref<number>
): Effect.Effect<Done, OperationError, Client | SessionStore> => {
  switch (operation.type) {
    case "compact":
      return compact(message, operation, modelMillis)
    case "revert":
      return revert(message, operation)
    case "unrevert":
      return unrevert(message)
    case "fork":
      return fork(message, operation)
  }
}

/** An interrupted operation is given up, or left to the next worker, as the policy for turns says. */
const letGo = ({ epoch, id }: StoredMessage) =>
  Effect.gen(function*() {
    const store = yield* SessionStore
    const isReleased = (yield* TurnPolicy.OnInterrupt) === "release"
    yield* Contained.attempt(
      "end an operation",
      { message: id },
      yield* TurnPolicy.StopTimeout,
      Effect.asVoid<unknown, unknown, never>(
        isReleased ? store.release(id, epoch) : store.cancel(id, yield* TurnPolicy.CancelledContent)
      )
    )
  })

/** The session of the conversation, in the client's folder. */
const sessionOf = Effect.fnUntraced(function*(conversationId: ConversationId) {
  const store = yield* SessionStore
  const sessionId = yield* retrying(store.getSession(conversationId))
  if (Option.isNone(sessionId)) return yield* new NoSession({ conversationId })
  yield* checkDirectory(sessionId.value)
  return sessionId.value
})

const idleSessionOf = Effect.fnUntraced(function*(conversationId: ConversationId) {
  const sessionId = yield* sessionOf(conversationId)
  if (!(yield* untilIdle(sessionId))) return yield* new SessionBusy({ sessionId })
  return sessionId
})

const compact = Effect.fnUntraced(function*(
  { conversationId, epoch }: StoredMessage,
  { model }: Extract<Operation, { readonly type: "compact" }>,
  modelMillis: Ref.Ref<number>
) {
  const client = yield* Client
  // A request whose answer was lost goes on at the server, and its summary is found when it is done.
  const once = Effect.gen(function*() {
    const sessionId = yield* idleSessionOf(conversationId)
    const begunMillis = yield* Clock.currentTimeMillis
    const spend = Effect.flatMap(
      Clock.currentTimeMillis,
      (now) => Ref.update(modelMillis, (sum) => sum + now - begunMillis)
    )
    return yield* Effect.ensuring(client.compactSession(sessionId, model), spend)
  })
  const { isNew, model: by, text, usage } = yield* retrying(once)
  if (!isNew) yield* Ref.set(modelMillis, 0)
  // An earlier owner of the message may have ordered the summary.
  return { content: text, isFallback: false, models: isNew || epoch > 1 ? modelsOf(usage, by) : [] }
})

const revert = Effect.fnUntraced(function*(
  message: StoredMessage,
  { messageId }: Extract<Operation, { readonly type: "revert" }>
) {
  const { conversationId } = message
  const client = yield* Client
  const store = yield* SessionStore
  const sessionId = yield* idleSessionOf(conversationId)
  const target = Option.getOrUndefined(yield* retrying(store.getMessage(messageId)))
  const from = target && promptIn(target, sessionId)
  if (target === undefined || from === undefined) return yield* new TurnNotInSession({ conversationId, messageId })
  const session = yield* retrying(client.revertSession(sessionId, from))
  if (session.revertedFrom !== from) return yield* new TurnNotInSession({ conversationId, messageId })
  // The server has undone a revert that was pending, which may have gone further back.
  yield* unmarkPending(message)
  yield* retrying(store.markReverted(message.id, {
    conversationId,
    fromPosition: target.position,
    beforePosition: message.position
  }))
  return done(`Reverted to before the turn ${messageId}.`)
})

const unrevert = Effect.fnUntraced(function*(message: StoredMessage) {
  const { conversationId, epoch } = message
  const client = yield* Client
  const sessionId = yield* idleSessionOf(conversationId)
  const { revertedFrom } = yield* retrying(client.getSession(sessionId))
  // An earlier owner of the message may have undone it already.
  if (revertedFrom === undefined && epoch === 1) return yield* new NothingReverted({ conversationId })
  yield* retrying(client.unrevertSession(sessionId))
  yield* unmarkPending(message)
  return done("The revert was undone.")
})

/**
 * Takes away the marks of the reverts since the last prompt or compaction. Each of those has made the reverts before it final: the server
 * has deleted what they hid.
 */
const unmarkPending = Effect.fnUntraced(function*({ conversationId, position }: StoredMessage) {
  const store = yield* SessionStore
  let before = position
  while (true) {
    const page = yield* retrying(store.listMessages(conversationId, pageSize, before))
    for (const { draft, id, started, status } of page.toReversed()) {
      const type = draft?.operation?.type
      if (started !== null || (type === "compact" && status === "completed")) return
      if (type === "revert") yield* retrying(store.unmarkReverted(id))
    }
    const [oldest] = page
    if (oldest === undefined || page.length < pageSize) return
    before = oldest.position
  }
})

/** The first prompt of a turn, if it was posted to this session. */
const promptIn = ({ promptRecord }: StoredMessage, sessionId: SessionId): MessageId | undefined =>
  promptRecord?.sessionId === sessionId ? promptRecord.earlier?.[0] ?? promptRecord.prompt.ids?.promptId : undefined

const fork = Effect.fnUntraced(function*(
  message: StoredMessage,
  { conversationId: source, messageId }: Extract<Operation, { readonly type: "fork" }>
) {
  const client = yield* Client
  const store = yield* SessionStore
  const { conversationId, epoch } = message
  if (Option.isSome(yield* retrying(store.getSession(conversationId)))) {
    // An earlier owner of the message has made it.
    if (epoch > 1) return forked(source, messageId)
    return yield* new ConversationExists({ conversationId })
  }
  const sessionId = yield* sessionOf(source)
  const last = yield* lastTurn(source, sessionId, messageId)
  const made = yield* forkAfter(sessionId, last.end)
  yield* Effect.gen(function*() {
    const original = yield* retrying(client.getSession(sessionId))
    const metadata = {
      ...original.metadata,
      conversationId,
      forkedFrom: { conversationId: source, messageId: last.id }
    }
    const { permission } = original
    if (permission.length > 0) yield* retrying(client.updateSession(made, { permission }))
    // The metadata of a fork is for people: a server that keeps none makes the fork all the same.
    yield* retrying(client.updateSession(made, { metadata })).pipe(
      Effect.catchTag("UnsupportedOperation", () => Effect.void)
    )
    if (yield* retrying(store.setSession(conversationId, Option.none(), made))) return
    const bound = yield* retrying(store.getSession(conversationId))
    if (!Option.contains(bound, made)) return yield* new ConversationExists({ conversationId })
  }).pipe(Effect.onError(() => discard(made)))
  return forked(source, last.id)
})

const forked = (source: ConversationId, messageId: string | undefined) =>
  done(`Forked from conversation ${source}${messageId === undefined ? "" : ` after the turn ${messageId}`}.`)

const discard = (sessionId: SessionId) =>
  Effect.gen(function*() {
    const client = yield* Client
    yield* Contained.attempt(
      "delete a fork made in vain",
      { session: sessionId },
      yield* TurnPolicy.StopTimeout,
      retrying(client.deleteSession(sessionId))
    )
  })

/** The turn that the fork ends with, and the id of its newest message on the server. */
const lastTurn = Effect.fnUntraced(function*(
  conversationId: ConversationId,
  sessionId: SessionId,
  messageId: StoredMessage["id"] | undefined
) {
  const store = yield* SessionStore
  const target = messageId === undefined
    ? yield* newestTurn(conversationId, sessionId)
    : Option.getOrUndefined(yield* retrying(store.getMessage(messageId)))
  if (target === undefined && messageId === undefined) return yield* new NoSession({ conversationId })
  if (messageId !== undefined && target?.conversationId !== conversationId) {
    return yield* new TurnNotInSession({ conversationId, messageId })
  }
  if (target === undefined) return yield* new NoSession({ conversationId })
  if (isOpen(target.status)) return yield* new TurnInProgress({ conversationId, messageId: target.id })
  const promptId = promptIn(target, sessionId) === undefined ? undefined : target.promptRecord?.prompt.ids?.promptId
  const exchange = promptId === undefined ? undefined : yield* readExchange({ sessionId, promptId })
  if (exchange?.isAccepted !== true) return yield* new TurnNotInSession({ conversationId, messageId: target.id })
  return { id: target.id, end: exchange.messages.at(-1)?.info.id ?? exchange.promptId }
})

/** The newest turn that has ended, was posted, and was not taken back. */
const newestTurn = Effect.fnUntraced(function*(conversationId: ConversationId, sessionId: SessionId) {
  const store = yield* SessionStore
  let before: number | undefined
  while (true) {
    const page = yield* retrying(store.listMessages(conversationId, pageSize, before))
    const found = page.findLast((message) =>
      !isOpen(message.status) && message.revertedBy === null && promptIn(message, sessionId) !== undefined
    )
    const [oldest] = page
    if (found !== undefined || oldest === undefined || page.length < pageSize) return found
    before = oldest.position
  }
})

/** Copies the session up to a message. A prompt that comes while all messages are copied must not be among them. */
const forkAfter = Effect.fnUntraced(function*(
  sessionId: SessionId,
  end: MessageId
): Effect.fn.Return<SessionId, RequestError | SessionNotFound, Client> {
  const client = yield* Client
  const next = Effect.map(
    readBackTo(sessionId, end),
    ({ messages }) => messages.find(({ info }) => info.role !== "assistant" && info.id > end)?.info.id
  )
  const before = yield* next
  const { id } = yield* retrying(client.forkSession(sessionId, { ...(before !== undefined && { before }) }))
  if (before !== undefined || (yield* next) === undefined) return id
  yield* discard(id)
  return yield* forkAfter(sessionId, end)
})

const pageSize = 50
