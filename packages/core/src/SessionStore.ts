/**
 * Where conversations and their assistant messages are kept.
 *
 * **Responsibilities**
 * - Which OpenCode session belongs to a conversation, changed by compare-and-set.
 * - The assistant message of each turn: `queued → pending → completed | cancelled | error`, one terminal write, never left
 *   again. A message starts as pending, unless its claimant was ready to wait for the turns before it.
 * - At most one pending message per conversation; those that wait come in the order in which they were first claimed.
 * - The lease of a message: while it lives, nobody else takes the message; once it ran out, one of those who ask does.
 * - The epoch of a message: who takes it raises it, and a write with an older epoch changes no row. A cancel needs none.
 * - What an agent asks of a person, while it waits in the store for an answer (`StoredAsk`).
 * - News of a message, or of a request, for those who watch it.
 *
 * **Not responsibilities**: what is in a message (the pipeline says), the user's messages beyond the prompt of each turn,
 * when to renew, to look for orphans, to prune.
 *
 * **Gotchas**
 *
 * All times are those of the calling process (`Clock`). Hosts that share a database must agree on the time to within a
 * fraction of a lease: one whose clock is ahead by more would take messages whose owners live. The epoch keeps even that
 * from doubling a write.
 *
 * Every implementation passes the one contract suite of `@opencode-turn/testing/SessionStoreContract`.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { Answer, Ask } from "./Ask.ts"
import * as ChangeNotifier from "./ChangeNotifier.ts"
import { AssistantMessageId, type ConversationId, type RequestId, type SessionId } from "./Ids.ts"
import type { PromptPart } from "./Prompt.ts"
import type { StoredAsk } from "./StoredAsk.ts"
import { RequestClosed, UnknownRequest } from "./StoredAsk.ts"
import type { Content, Draft, Lease, MessageStatus, Outcome, StoredMessage, StoredRequest } from "./StoredMessage.ts"
import { isHeldByOther, isLeaseOver, isOpen } from "./StoredMessage.ts"
import { AlreadyFinished, TurnInProgress } from "./TurnError.ts"
import * as Usage from "./Usage.ts"

export {
  type Content,
  Draft,
  type Lease,
  MessageStatus,
  type Outcome,
  StoredError,
  StoredMessage,
  StoredRequest
} from "./StoredMessage.ts"

/**
 * The store could not do what it was asked: unreachable, unreadable, full, or it holds what cannot be decoded. Nothing
 * stored before is lost. `reason` names the file or table, never a value or a secret.
 *
 * @category errors
 * @since 0.1.0
 */
export class StoreError extends Schema.TaggedError<StoreError>()("StoreError", {
  operation: Schema.String,
  reason: Schema.String,
  isRetryable: Schema.Boolean
}) {
  override get message() {
    return `the store failed (${this.operation}): ${this.reason}`
  }
}

/**
 * The store has no such message.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownMessage extends Schema.TaggedError<UnknownMessage>()("UnknownMessage", {
  messageId: AssistantMessageId
}) {
  override get message() {
    return `there is no message ${this.messageId}`
  }
}

/**
 * How often a store that is not told of changes looks for them while a message or a request is watched: 250 ms. Soon
 * enough for a reader, and one small read by primary key each time.
 *
 * @category references
 * @since 0.1.0
 */
export const PollInterval: Context.Reference<Duration.Duration> = Context.Reference(
  "@opencode-turn/core/SessionStore/PollInterval",
  { defaultValue: () => Duration.millis(250) }
)

/**
 * The wish to run a turn.
 *
 * **Details**
 *
 * - `prompt` and `draft` are stored with the first claim of the message; later claims do not change them.
 * - `lease`: without one the message is held until it ends, or until it is claimed again.
 * - `whenBusy`: what becomes of a new message while another turn of the conversation runs or waits: `reject`, the default,
 *   fails; `queue` stores it as queued, unless `maxQueued` messages of the conversation are queued already.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim {
  readonly id: AssistantMessageId
  readonly conversationId: ConversationId
  readonly prompt: ReadonlyArray<PromptPart>
  readonly draft?: Draft | undefined
  readonly lease?: Lease | undefined
  readonly whenBusy?: "reject" | "queue" | undefined
  readonly maxQueued?: number | undefined
}

/**
 * @category services
 * @since 0.1.0
 */
export class SessionStore extends Context.Service<SessionStore, {
  /** The OpenCode session of the conversation. */
  readonly getSession: (conversationId: ConversationId) => Effect.Effect<Option.Option<SessionId>, StoreError>

  /** Stores `next` only if the conversation's session still is `expected`; the loser of a race gets `false`. */
  readonly setSession: (
    conversationId: ConversationId,
    expected: Option.Option<SessionId>,
    next: SessionId
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Makes the message, or takes the one that has this id already.
   *
   * - A new message is pending where no other one is pending, and none that still has its claimant is queued.
   * - A pending one is taken and gets the next epoch.
   * - A queued one becomes pending where no other one is pending, and no older one that still has its claimant is queued; else
   *   it stays queued with the new lease: ask again later. Its epoch is raised only where the owner changes.
   * - A terminal one is given back as it is.
   *
   * A queued message whose lease ran out makes nobody wait; it keeps its place, for the one who takes it over.
   *
   * Fails with `TurnInProgress`, which names the message in the way: the one that is pending, else the oldest one queued; and
   * the message itself where another owner's lease on it lives. Fails with a `StoreError` when the message is another
   * conversation's.
   */
  readonly claim: (claim: Claim) => Effect.Effect<StoredMessage, TurnInProgress | StoreError>

  /**
   * Lets the lease of a pending or queued message end `millis` from now. `false`: the message is lost: it ended, its epoch
   * is another, or `owner`, where it is given, does not hold it.
   */
  readonly renew: (
    id: AssistantMessageId,
    epoch: number,
    lease: { readonly owner?: string | undefined; readonly millis: number }
  ) => Effect.Effect<boolean, StoreError>

  /** Lets the lease end now, so that others may take the message over at once. `false`: it was lost already. */
  readonly release: (id: AssistantMessageId, epoch: number) => Effect.Effect<boolean, StoreError>

  /**
   * Takes a pending or queued message whose lease ran out, with the next epoch; its status stays. None: somebody holds it,
   * it has no lease, it ended, or there is none. One of those who ask at once gets it.
   */
  readonly takeOver: (
    id: AssistantMessageId,
    lease: Lease
  ) => Effect.Effect<Option.Option<StoredMessage>, StoreError>

  /** Pending and queued messages whose lease ran out, those that were first claimed first, at most `limit`. */
  readonly listOrphans: (limit: number) => Effect.Effect<ReadonlyArray<StoredMessage>, StoreError>

  /** Writes what will be posted. `false`: the message is not pending any more, or the epoch is old. */
  readonly recordRequest: (
    id: AssistantMessageId,
    epoch: number,
    request: StoredRequest
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Stores what was streamed so far, for those who watch and for the one who takes over. `false`: the message is not pending
   * any more, or the epoch is old.
   */
  readonly snapshot: (
    id: AssistantMessageId,
    epoch: number,
    content: Content
  ) => Effect.Effect<boolean, StoreError>

  /** The terminal write. `false`: the message is not pending any more, or the epoch is old; nothing was changed. */
  readonly finalize: (
    id: AssistantMessageId,
    epoch: number,
    outcome: Outcome
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Cancels a pending or queued message, whoever owns it, and gives back the cancelled message; cancelling again changes
   * nothing.
   */
  readonly cancel: (
    id: AssistantMessageId,
    content: string
  ) => Effect.Effect<StoredMessage, AlreadyFinished | UnknownMessage | StoreError>

  /**
   * Stores what was streamed with a message that was cancelled meanwhile; its status stays. `false`: it is not cancelled,
   * or the epoch is old.
   */
  readonly keepPartial: (
    id: AssistantMessageId,
    epoch: number,
    partial: Content
  ) => Effect.Effect<boolean, StoreError>

  readonly getMessage: (id: AssistantMessageId) => Effect.Effect<Option.Option<StoredMessage>, StoreError>

  /**
   * The newest `limit` messages of the conversation, oldest first, in the order in which they were first claimed. A
   * limit below 1 lists none, `Infinity` all.
   */
  readonly listMessages: (
    conversationId: ConversationId,
    limit: number
  ) => Effect.Effect<ReadonlyArray<StoredMessage>, StoreError>

  /** The newest `limit` messages of all conversations, newest first: those of one status, or all. */
  readonly listByStatus: (filter: {
    readonly status?: MessageStatus | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<StoredMessage>, StoreError>

  /**
   * Deletes the messages that ended before that time, with their requests, and says how many messages. One that is pending or
   * queued is never deleted.
   */
  readonly prune: (finishedBeforeMillis: number) => Effect.Effect<number, StoreError>

  /**
   * Writes a request of the agent for a person to answer, and gives back what is stored.
   *
   * - One that is there already stays as it is if it was answered or withdrawn, or is this message's already.
   * - An unanswered one of another message becomes this message's and keeps its place in the lists; one whose message has ended
   *   is open again by that.
   * - One of a message that has ended, or that there is not, is withdrawn from the start.
   */
  readonly openAsk: (asked: {
    readonly messageId: AssistantMessageId
    readonly conversationId: ConversationId
    readonly ask: Ask
  }) => Effect.Effect<StoredAsk, StoreError>

  /**
   * Stores the answer to an open request; the first answer stays. Fails with `RequestClosed` where it was answered or withdrawn,
   * or where its message has ended.
   */
  readonly answerAsk: (
    id: RequestId,
    answer: Answer
  ) => Effect.Effect<StoredAsk, UnknownRequest | RequestClosed | StoreError>

  /** Withdraws an open request: nobody needs the answer any more. `false`: it was not open, or there is none. */
  readonly withdrawAsk: (id: RequestId) => Effect.Effect<boolean, StoreError>

  /** A request, if there is one. An unanswered one of a message that has ended is withdrawn, since the end of the message. */
  readonly getAsk: (id: RequestId) => Effect.Effect<Option.Option<StoredAsk>, StoreError>

  /**
   * Open requests in the order in which they were first opened, the oldest `limit`: of one conversation, of one message, or
   * all. A limit below 1 lists none, `Infinity` all.
   */
  readonly listAsks: (filter: {
    readonly conversationId?: ConversationId | undefined
    readonly messageId?: AssistantMessageId | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<StoredAsk>, StoreError>

  /**
   * Emits at once, and then whenever the request may have changed, as `changes` does for a message: it was opened, moved to
   * another message, answered, withdrawn or deleted, or its message ended. At most a second late.
   */
  readonly askChanges: (id: RequestId) => Stream.Stream<void, StoreError>

  /**
   * Emits at once, and then whenever the message may have changed: read it then. At most a second late; a renewal of the
   * lease is no change. Never ends by itself, waits out a failure that may be retried, and holds nothing between two
   * emissions.
   */
  readonly changes: (id: AssistantMessageId) => Stream.Stream<void, StoreError>
}>()("@opencode-turn/core/SessionStore") {}

/**
 * A store in memory, for tests and for programs whose conversations may end with the process.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeMemory: Effect.Effect<SessionStore["Service"]> = Effect.gen(function*() {
  const notifier = yield* ChangeNotifier.make
  const sessions = new Map<ConversationId, SessionId>()
  // Oldest first: a map keeps a key that is set again in its place.
  const messages = new Map<AssistantMessageId, StoredMessage>()
  const histories = new Map<ConversationId, Array<AssistantMessageId>>()
  const open = new Map<ConversationId, ReadonlyArray<AssistantMessageId>>()

  const asks = new Map<RequestId, StoredAsk>()
  // Those neither answered nor withdrawn by anybody, oldest first.
  const openAsks = new Set<RequestId>()

  // Each operation reads the clock first and then reads and writes without yielding: no other fiber comes between.

  const read = (ids: Iterable<AssistantMessageId> | undefined) =>
    Array.from(ids ?? []).flatMap((id) => messages.get(id) ?? [])

  const write = (message: StoredMessage): StoredMessage => {
    messages.set(message.id, message)
    if (!isOpen(message.status)) {
      const others = (open.get(message.conversationId) ?? []).filter((id) => id !== message.id)
      if (others.length > 0) open.set(message.conversationId, others)
      else open.delete(message.conversationId)
      for (const id of openAsks) if (asks.get(id)?.messageId === message.id) notifier.notify(id)
    }
    notifier.notify(message.id)
    return message
  }

  const add = (message: StoredMessage): StoredMessage => {
    const history = histories.get(message.conversationId) ?? []
    history.push(message.id)
    histories.set(message.conversationId, history)
    open.set(message.conversationId, [...(open.get(message.conversationId) ?? []), message.id])
    return write(message)
  }

  const update = (
    id: AssistantMessageId,
    isAllowed: (message: StoredMessage) => boolean,
    change: (message: StoredMessage, nowMillis: number) => StoredMessage
  ) =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => {
      const message = messages.get(id)
      if (message === undefined || !isAllowed(message)) return false
      write({ ...change(message, nowMillis), revision: message.revision + 1 })
      return true
    })

  /** The lease alone: nobody is told. */
  const updateLease = (
    id: AssistantMessageId,
    isAllowed: (message: StoredMessage) => boolean,
    millis: number
  ) =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => {
      const message = messages.get(id)
      if (message === undefined || !isOpen(message.status) || !isAllowed(message)) return false
      messages.set(id, { ...message, leaseUntilMillis: nowMillis + millis })
      return true
    })

  /** What the message must wait for: the pending one, else the oldest queued one before it that still has its claimant. */
  const inTheWay = (conversationId: ConversationId, id: AssistantMessageId, nowMillis: number) => {
    const all = read(open.get(conversationId))
    const place = all.findIndex((message) => message.id === id)
    const before = place === -1 ? all : all.slice(0, place)
    return all.find((message) => message.status === "pending" && message.id !== id) ??
      before.find((message) => message.status === "queued" && !isLeaseOver(message, nowMillis))
  }

  /** A request as it is to its reader: nobody waits for the answer to one of a message that has ended. */
  const effective = (ask: StoredAsk): StoredAsk => {
    const message = messages.get(ask.messageId)
    return ask.status === "open" && (message === undefined || !isOpen(message.status))
      ? { ...ask, status: "withdrawn", closedMillis: message?.finishedMillis ?? ask.createdMillis }
      : ask
  }

  const writeAsk = (ask: StoredAsk): StoredAsk => {
    asks.set(ask.id, ask)
    if (ask.status === "open") openAsks.add(ask.id)
    else openAsks.delete(ask.id)
    notifier.notify(ask.id)
    return effective(ask)
  }

  return SessionStore.of({
    getSession: (conversationId) => Effect.sync(() => Option.fromUndefinedOr(sessions.get(conversationId))),

    setSession: (conversationId, expected, next) =>
      Effect.sync(() => {
        if (sessions.get(conversationId) !== Option.getOrUndefined(expected)) return false
        sessions.set(conversationId, next)
        return true
      }),

    claim: Effect.fnUntraced(function*({ conversationId, draft, id, lease, maxQueued, prompt, whenBusy }) {
      const nowMillis = yield* Clock.currentTimeMillis
      const existing = messages.get(id)
      if (existing !== undefined && existing.conversationId !== conversationId) {
        return yield* new StoreError({ operation: "claim", reason: otherConversation, isRetryable: false })
      }
      if (existing !== undefined && !isOpen(existing.status)) return existing
      if (existing !== undefined && isHeldByOther(existing, lease?.owner, nowMillis)) {
        return yield* new TurnInProgress({ conversationId, messageId: id })
      }

      const busy = inTheWay(conversationId, id, nowMillis)
      const held = {
        owner: lease?.owner ?? null,
        leaseUntilMillis: lease === undefined ? null : nowMillis + lease.millis
      }
      if (existing === undefined) {
        const queued = read(open.get(conversationId)).filter((message) => message.status === "queued").length
        if (busy !== undefined && (whenBusy !== "queue" || queued >= (maxQueued ?? Infinity))) {
          return yield* new TurnInProgress({ conversationId, messageId: busy.id })
        }
        const status = busy === undefined ? "pending" : "queued"
        return add({
          ...blank,
          ...held,
          id,
          conversationId,
          status,
          prompt,
          draft: draft ?? null,
          createdMillis: nowMillis
        })
      }
      const revision = existing.revision + 1
      if (existing.status === "pending") return write({ ...existing, ...held, epoch: existing.epoch + 1, revision })
      const isSameOwner = existing.owner === held.owner
      const taken = { ...existing, ...held, epoch: isSameOwner ? existing.epoch : existing.epoch + 1 }
      if (busy === undefined) return write({ ...taken, status: "pending", revision })
      if (!isSameOwner) return write({ ...taken, revision })
      messages.set(id, taken)
      return taken
    }),

    renew: (id, epoch, { millis, owner }) =>
      updateLease(
        id,
        (message) => message.epoch === epoch && (owner === undefined || message.owner === owner),
        millis
      ),

    release: (id, epoch) => updateLease(id, (message) => message.epoch === epoch, 0),

    takeOver: Effect.fnUntraced(function*(id, { millis, owner }) {
      const nowMillis = yield* Clock.currentTimeMillis
      const message = messages.get(id)
      if (message === undefined || !isOrphan(message, nowMillis)) return Option.none()
      return Option.some(write({
        ...message,
        epoch: message.epoch + 1,
        revision: message.revision + 1,
        owner,
        leaseUntilMillis: nowMillis + millis
      }))
    }),

    listOrphans: (limit) =>
      Effect.map(Clock.currentTimeMillis, (nowMillis) =>
        Array.from(messages.values())
          .filter((message) => isOrphan(message, nowMillis))
          .slice(0, atMost(limit))),

    recordRequest: (id, epoch, request) => update(id, isOwned(epoch), (message) => ({ ...message, request })),

    snapshot: (id, epoch, content) => update(id, isOwned(epoch), (message) => ({ ...message, ...contentOf(content) })),

    finalize: (id, epoch, outcome) =>
      update(id, isOwned(epoch), (message, finishedMillis) => ({
        ...message,
        ...contentOf(outcome),
        status: outcome.status,
        error: outcome.error,
        finishedMillis
      })),

    cancel: Effect.fnUntraced(function*(id, content) {
      const finishedMillis = yield* Clock.currentTimeMillis
      const message = messages.get(id)
      if (message === undefined) return yield* new UnknownMessage({ messageId: id })
      if (message.status === "completed" || message.status === "error") {
        return yield* new AlreadyFinished({ messageId: id, status: message.status })
      }
      if (message.status === "cancelled") return message
      return write({ ...message, status: "cancelled", content, finishedMillis, revision: message.revision + 1 })
    }),

    keepPartial: (id, epoch, partial) =>
      update(
        id,
        (message) => message.status === "cancelled" && message.epoch === epoch,
        (message) => ({ ...message, ...contentOf(partial) })
      ),

    getMessage: (id) => Effect.sync(() => Option.fromUndefinedOr(messages.get(id))),

    listMessages: (conversationId, limit) =>
      Effect.sync(() => {
        const history = histories.get(conversationId) ?? []
        return read(history.slice(Math.max(0, history.length - atMost(limit))))
      }),

    listByStatus: ({ limit, status }) =>
      Effect.sync(() =>
        Array.from(messages.values())
          .toReversed()
          .filter((message) => status === undefined || message.status === status)
          .slice(0, atMost(limit))
      ),

    prune: (finishedBeforeMillis) =>
      Effect.sync(() => {
        const old = Array.from(messages.values()).filter(({ finishedMillis }) =>
          finishedMillis !== null && finishedMillis < finishedBeforeMillis
        )
        const pruned = new Set(old.map(({ id }) => id))
        for (const { id, messageId } of asks.values()) {
          if (!pruned.has(messageId)) continue
          asks.delete(id)
          openAsks.delete(id)
          notifier.notify(id)
        }
        for (const { conversationId, id } of old) {
          messages.delete(id)
          const history = (histories.get(conversationId) ?? []).filter((kept) => messages.has(kept))
          if (history.length > 0) histories.set(conversationId, history)
          else histories.delete(conversationId)
          notifier.notify(id)
        }
        return old.length
      }),

    openAsk: ({ ask, conversationId, messageId }) =>
      Effect.map(Clock.currentTimeMillis, (createdMillis) => {
        const existing = asks.get(ask.id)
        if (existing !== undefined && (existing.status !== "open" || existing.messageId === messageId)) {
          return effective(existing)
        }
        return writeAsk({
          ...(existing ?? { id: ask.id, status: "open", answer: null, createdMillis, closedMillis: null }),
          messageId,
          conversationId,
          ask
        })
      }),

    answerAsk: Effect.fnUntraced(function*(id, answer) {
      const closedMillis = yield* Clock.currentTimeMillis
      const existing = asks.get(id)
      if (existing === undefined) return yield* new UnknownRequest({ requestId: id })
      const { status } = effective(existing)
      if (status !== "open") return yield* new RequestClosed({ requestId: id, status })
      return writeAsk({ ...existing, status: "answered", answer, closedMillis })
    }),

    withdrawAsk: (id) =>
      Effect.map(Clock.currentTimeMillis, (closedMillis) => {
        const existing = asks.get(id)
        if (existing === undefined || effective(existing).status !== "open") return false
        writeAsk({ ...existing, status: "withdrawn", closedMillis })
        return true
      }),

    getAsk: (id) => Effect.sync(() => Option.map(Option.fromUndefinedOr(asks.get(id)), effective)),

    listAsks: ({ conversationId, limit, messageId }) =>
      Effect.sync(() =>
        Array.from(openAsks)
          .flatMap((id) => asks.get(id) ?? [])
          .filter((ask) =>
            effective(ask).status === "open" &&
            (conversationId === undefined || ask.conversationId === conversationId) &&
            (messageId === undefined || ask.messageId === messageId)
          )
          .slice(0, atMost(limit))
      ),

    askChanges: (id) => notifier.watch(id),

    changes: (id) => notifier.watch(id)
  })
})

/**
 * {@link makeMemory} as a layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<SessionStore> = Layer.effect(SessionStore, makeMemory)

// internal

const otherConversation = "the message belongs to another conversation: choose a new message id"

/** A new message, but for what its claim gives it. */
const blank = {
  epoch: 1,
  revision: 1,
  request: null,
  content: "",
  parts: [],
  usage: Usage.zero,
  subagents: [],
  error: null,
  finishedMillis: null
} satisfies Partial<StoredMessage>

/** Only the fields of `Content`: the caller may hold more, an `Outcome` for example, whose status must not leak in. */
const contentOf = ({ content, parts, subagents = [], usage }: Content): Required<Content> => ({
  content,
  parts,
  usage,
  subagents
})

const isOwned = (epoch: number) => (message: StoredMessage): boolean =>
  message.status === "pending" && message.epoch === epoch

const isOrphan = (message: StoredMessage, nowMillis: number): boolean =>
  isOpen(message.status) && isLeaseOver(message, nowMillis)

/** A limit as a count: below 1, or no number, is none. */
const atMost = (limit: number): number => limit >= 1 ? Math.floor(limit) : 0
