/**
 * A `SessionStore` in memory, for tests and for programs whose conversations may end with the process.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { AskId, AssistantMessageId, ConversationId, SessionId } from "../domain/Ids.ts"
import { AlreadyFinished, TurnInProgress } from "../domain/TurnError.ts"
import * as Usage from "../domain/Usage.ts"
import * as ChangeNotifier from "./ChangeNotifier.ts"
import * as Journal from "./Journal.ts"
import type { Since } from "./SessionStore.ts"
import { SessionStore, StoreError, UnknownMessage } from "./SessionStore.ts"
import { storable } from "./StorableIds.ts"
import type { StoredAsk } from "./StoredAsk.ts"
import { AskClosed, isSameAnswer, UnknownAsk } from "./StoredAsk.ts"
import type { Content, StoredMessage } from "./StoredMessage.ts"
import { excerptOf, isAbandoned, isHeldByOther, isLeaseOver, isOpen, startedBy, stateOf } from "./StoredMessage.ts"

/**
 * An empty store.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<SessionStore["Service"]> = Effect.gen(function*() {
  const notifier = yield* ChangeNotifier.make
  const sessions = new Map<ConversationId, SessionId>()
  // The oldest message comes first: a map keeps the place of a key that is set again.
  const messages = new Map<AssistantMessageId, StoredMessage>()
  const histories = new Map<ConversationId, Array<AssistantMessageId>>()
  const open = new Map<ConversationId, ReadonlyArray<AssistantMessageId>>()
  const journals = new Map<AssistantMessageId, MessageJournal>()
  // Ended messages for which the server may still work.
  const stops = new Set<AssistantMessageId>()
  let lastPosition = 0

  const asks = new Map<AskId, StoredAsk>()
  // Asks without an answer or a withdrawal, oldest first.
  const openAsks = new Set<AskId>()

  // Each operation reads the clock first and then reads and writes without yielding, so no other fiber interleaves.

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

  /** The fields of a message after a write of its reply. */
  const written = (id: AssistantMessageId, content: Content, since: Since | undefined) => {
    const journal = journals.get(id) ?? { entries: new Map(), offsets: new Map(), last: 0 }
    journals.set(id, journal)
    for (const entry of Journal.between(since?.before, content, since?.reason)) add(journal, entry)
    return { ...contentOf(content), offset: journal.last }
  }

  const insert = (message: StoredMessage): StoredMessage => {
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

  /** Changes only the lease and notifies no watcher. */
  const updateLease = (
    id: AssistantMessageId,
    isAllowed: (message: StoredMessage) => boolean,
    millis: number,
    changes?: { readonly owner: null }
  ) =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => {
      const message = messages.get(id)
      if (message === undefined || !isOpen(message.status) || !isAllowed(message)) return false
      messages.set(id, { ...message, ...changes, leaseUntilMillis: nowMillis + millis })
      return true
    })

  /**
   * Finds the message that this one must wait for: the pending one, else the oldest earlier queued one whose lease
   * lives.
   */
  const inTheWay = (conversationId: ConversationId, id: AssistantMessageId, nowMillis: number) => {
    const all = read(open.get(conversationId))
    const place = all.findIndex((message) => message.id === id)
    const before = place === -1 ? all : all.slice(0, place)
    return all.find((message) => message.status === "pending" && message.id !== id) ??
      before.find((message) => message.status === "queued" && !isLeaseOver(message, nowMillis))
  }

  /** Shows an open ask of an ended message as withdrawn, because nobody waits for its answer any more. */
  const effective = (ask: StoredAsk): StoredAsk => {
    const message = messages.get(ask.messageId)
    return ask.status === "open" && (message === undefined || !isOpen(message.status))
      ? { ...ask, status: "withdrawn", closedMillis: message?.finishedMillis ?? ask.createdMillis }
      : ask
  }

  /** The asks that were first opened after this one. */
  const idsBehind = (after: AskId): ReadonlyArray<AskId> => {
    const ids = Array.from(asks.keys())
    return ids.slice(ids.indexOf(after) + 1)
  }

  const writeAsk = (ask: StoredAsk): StoredAsk => {
    asks.set(ask.id, ask)
    if (ask.status === "open") openAsks.add(ask.id)
    else openAsks.delete(ask.id)
    notifier.notify(ask.id)
    return effective(ask)
  }

  return SessionStore.of(storable({
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
        return insert({
          ...blank,
          ...held,
          id,
          conversationId,
          position: ++lastPosition,
          status,
          prompt,
          excerpt: excerptOf(prompt),
          draft: draft ?? null,
          createdMillis: nowMillis
        })
      }
      const revision = existing.revision + 1
      const hasLetGo = existing.owner === null && existing.leaseUntilMillis !== null
      const isSameOwner = existing.owner === held.owner && !hasLetGo
      if (existing.status === "pending") {
        const takeovers = existing.takeovers + Number(!isSameOwner && isAbandoned(existing, nowMillis))
        return write({ ...existing, ...held, epoch: existing.epoch + 1, takeovers, revision })
      }
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

    release: (id, epoch) => updateLease(id, (message) => message.epoch === epoch, 0, { owner: null }),

    takeOver: Effect.fnUntraced(function*(id, { millis, owner }) {
      const nowMillis = yield* Clock.currentTimeMillis
      const message = messages.get(id)
      if (message === undefined || !isOrphan(message, nowMillis)) return Option.none()
      return Option.some(write({
        ...message,
        epoch: message.epoch + 1,
        revision: message.revision + 1,
        takeovers: message.takeovers + Number(isAbandoned(message, nowMillis)),
        owner,
        leaseUntilMillis: nowMillis + millis
      }))
    }),

    findBlocker: (id) =>
      Effect.map(Clock.currentTimeMillis, (nowMillis) => {
        const message = messages.get(id)
        return message?.status === "queued"
          ? Option.fromUndefinedOr(inTheWay(message.conversationId, id, nowMillis)?.id)
          : Option.none()
      }),

    listOrphans: (limit, afterPosition = 0) =>
      Effect.map(Clock.currentTimeMillis, (nowMillis) =>
        read(Array.from(open.values()).flat())
          .filter((message) => isOrphan(message, nowMillis) && message.position > afterPosition)
          .sort((one, other) => one.position - other.position)
          .slice(0, atMost(limit))
          .map(stateOf)),

    findOrphan: (conversationId) =>
      Effect.map(Clock.currentTimeMillis, (nowMillis) =>
        Option.fromUndefinedOr(
          read(open.get(conversationId)).find((message) => message.status === "pending" && isOrphan(message, nowMillis))
            ?.id
        )),

    recordPrompt: (id, epoch, promptRecord) =>
      update(id, isOwned(epoch), (message) => ({ ...message, promptRecord, started: startedBy(promptRecord) })),

    snapshot: (id, epoch, content, since) =>
      update(id, isOwned(epoch), (message) => ({ ...message, ...written(id, content, since) })),

    finalize: (id, epoch, outcome, since) =>
      update(id, isOwned(epoch), (message, finishedMillis) => {
        if (outcome.isStopDue === true) stops.add(id)
        return {
          ...message,
          ...written(id, outcome, since),
          status: outcome.status,
          error: outcome.error,
          finishedMillis
        }
      }),

    cancel: Effect.fnUntraced(function*(id, content) {
      const finishedMillis = yield* Clock.currentTimeMillis
      const message = messages.get(id)
      if (message === undefined) return yield* new UnknownMessage({ messageId: id })
      if (message.status === "completed" || message.status === "error") {
        return yield* new AlreadyFinished({ messageId: id, status: message.status })
      }
      if (message.status === "cancelled") return message
      if (message.promptRecord !== null) stops.add(id)
      return write({
        ...message,
        status: "cancelled",
        content,
        isFallback: true,
        finish: null,
        finishedMillis,
        revision: message.revision + 1
      })
    }),

    keepPartial: (id, epoch, partial, since) =>
      update(
        id,
        (message) => message.status === "cancelled" && message.epoch === epoch,
        (message) => ({ ...message, ...written(id, partial, since) })
      ),

    listStops: ({ conversationId, endedSinceMillis = -Infinity, limit }) =>
      Effect.map(Clock.currentTimeMillis, (nowMillis) =>
        read(stops)
          .filter((message) =>
            (message.finishedMillis ?? 0) >= endedSinceMillis &&
            (message.leaseUntilMillis === null || isLeaseOver(message, nowMillis)) &&
            (conversationId === undefined || message.conversationId === conversationId)
          )
          .sort((one, other) => (other.finishedMillis ?? 0) - (one.finishedMillis ?? 0))
          .slice(0, atMost(limit))
          .map(stateOf)),

    settleStop: (id) => Effect.sync(() => void stops.delete(id)),

    markReverted: (by, { beforePosition, conversationId, fromPosition }) =>
      Effect.sync(() => {
        for (const message of read(histories.get(conversationId))) {
          if (message.revertedBy !== null) continue
          if (message.position < fromPosition || message.position >= beforePosition) continue
          write({ ...message, revertedBy: by, revision: message.revision + 1 })
        }
      }),

    unmarkReverted: (by) =>
      Effect.sync(() => {
        for (const message of messages.values()) {
          if (message.revertedBy === by) write({ ...message, revertedBy: null, revision: message.revision + 1 })
        }
      }),

    getMessage: (id) => Effect.sync(() => Option.fromUndefinedOr(messages.get(id))),

    getState: (id) => Effect.sync(() => Option.map(Option.fromUndefinedOr(messages.get(id)), stateOf)),

    listUpdates: (id, afterOffset, limit) =>
      Effect.sync(() => {
        const found: Array<Journal.PlacedUpdate> = []
        for (const [offset, { update }] of journals.get(id)?.entries ?? []) {
          if (offset <= afterOffset) continue
          if (found.length >= atMost(limit)) break
          found.push({ offset, update })
        }
        return found
      }),

    listMessages: (conversationId, limit, beforePosition = Infinity) =>
      Effect.sync(() => {
        const history = read(histories.get(conversationId)).filter(({ position }) => position < beforePosition)
        return history.slice(Math.max(0, history.length - atMost(limit)))
      }),

    listByStatus: ({ beforePosition = Infinity, conversationId, limit, status }) =>
      Effect.sync(() =>
        Array.from(messages.values())
          .toReversed()
          .filter((message) =>
            (status === undefined || message.status === status) && message.position < beforePosition &&
            (conversationId === undefined || message.conversationId === conversationId)
          )
          .slice(0, atMost(limit))
          .map(stateOf)
      ),

    listConversations: ({ beforePosition = Infinity, limit }) =>
      Effect.sync(() =>
        Array.from(histories.values())
          .flatMap((history) => read(history.slice(-1)))
          .filter(({ position }) => position < beforePosition)
          .sort((one, other) => other.position - one.position)
          .slice(0, atMost(limit))
          .map(stateOf)
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
          journals.delete(id)
          stops.delete(id)
          const history = (histories.get(conversationId) ?? []).filter((kept) => messages.has(kept))
          if (history.length > 0) histories.set(conversationId, history)
          else {
            histories.delete(conversationId)
            sessions.delete(conversationId)
          }
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
      if (existing === undefined) return yield* new UnknownAsk({ askId: id })
      const { status } = effective(existing)
      if (existing.answer !== null && isSameAnswer(existing.answer, answer)) return existing
      if (status !== "open") return yield* new AskClosed({ askId: id, status })
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

    listAsks: ({ after, conversationId, limit, messageId }) =>
      Effect.sync(() => {
        const ids = after === undefined || !asks.has(after) ? Array.from(openAsks) : idsBehind(after)
        return ids
          .flatMap((id) => asks.get(id) ?? [])
          .filter((ask) =>
            effective(ask).status === "open" &&
            (conversationId === undefined || ask.conversationId === conversationId) &&
            (messageId === undefined || ask.messageId === messageId)
          )
          .slice(0, atMost(limit))
      }),

    askChanges: (id) => notifier.watch(id),

    untilState: (id, isTrue) =>
      Effect.callback((resume) => {
        if (isTrue(messages.get(id))) return resume(Effect.void)
        const forget = notifier.listen(id, () => {
          if (!isTrue(messages.get(id))) return
          forget()
          resume(Effect.void)
        })
        return Effect.sync(forget)
      }),

    changes: (id) => notifier.watch(id)
  }))
})

/**
 * {@link make} as a layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<SessionStore> = Layer.effect(SessionStore, make)

// internal

const otherConversation = "the message belongs to another conversation: choose a new message id"

/** The fields of a new message that its claim does not set. */
const blank = {
  epoch: 1,
  revision: 1,
  takeovers: 0,
  offset: 0,
  started: null,
  promptRecord: null,
  content: "",
  isFallback: false,
  finish: null,
  parts: [],
  usage: Usage.zero,
  account: null,
  subagents: [],
  waits: [],
  error: null,
  revertedBy: null,
  finishedMillis: null
} satisfies Partial<StoredMessage>

/** Picks the fields of `Content`. The caller may pass more, such as an `Outcome`, whose status must not leak in. */
const contentOf = (
  { account = null, content, finish = null, isFallback = false, parts, subagents = [], usage, waits = [] }: Content
): Required<Omit<Content, "unstored">> => ({
  content,
  isFallback,
  finish,
  parts,
  usage,
  account,
  subagents,
  waits
})

const isOwned = (epoch: number) => (message: StoredMessage): boolean =>
  message.status === "pending" && message.epoch === epoch

const isOrphan = (message: StoredMessage, nowMillis: number): boolean =>
  isOpen(message.status) && isLeaseOver(message, nowMillis)

/** A limit as a count: below 1, or NaN, it is 0. */
const atMost = (limit: number): number => limit >= 1 ? Math.floor(limit) : 0

/** The entries of a message by their offsets, and the offsets of each key. */
interface MessageJournal {
  readonly entries: Map<number, Journal.JournalEntry>
  readonly offsets: Map<string, Array<number>>
  last: number
}

const add = (journal: MessageJournal, entry: Journal.JournalEntry): void => {
  const { entries, offsets } = journal
  const offset = ++journal.last
  const before = offsets.get(entry.key) ?? []
  if (entry.write === "reset") {
    entries.clear()
    offsets.clear()
  }
  const kept = entry.write === "remove" || entry.write === "reset"
    ? []
    : entry.write === "replace"
    ? before.filter((offset) => entries.get(offset)?.write === "open")
    : before
  if (entry.write === "remove" || entry.write === "replace") {
    for (const offset of before) if (!kept.includes(offset)) entries.delete(offset)
  }
  entries.set(offset, entry)
  offsets.set(entry.key, [...kept, offset])
}
