/**
 * Guards a `SessionStore` against ids that rows cannot hold unchanged (`Ids.idFlaw`). Nothing is ever stored under such
 * an id, so a lookup finds nothing instead of another id's row or a failure of the database.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { idFlaw } from "../domain/Ids.ts"
import { type SessionStore, StoreError, UnknownMessage } from "./SessionStore.ts"
import { UnknownAsk } from "./StoredAsk.ts"

/**
 * Wraps a store in a check of its ids.
 *
 * **Details**
 *
 * A write that would store a row under such an id fails with a `StoreError` that names the field. A lookup finds
 * nothing, and an update changes nothing.
 *
 * @category combinators
 * @since 0.1.0
 */
export const storable = (store: SessionStore["Service"]): SessionStore["Service"] => ({
  ...store,

  setSession: (conversationId, expected, next) =>
    checked("setSession", { conversationId, session: next }, store.setSession(conversationId, expected, next)),
  claim: (claim) =>
    checked(
      "claim",
      { message: claim.id, conversationId: claim.conversationId, owner: claim.lease?.owner },
      store.claim(claim)
    ),
  openAsk: (opened) =>
    checked(
      "openAsk",
      { ask: opened.ask.id, message: opened.messageId, conversationId: opened.conversationId },
      store.openAsk(opened)
    ),
  takeOver: (id, lease) =>
    isStorable(id)
      ? checked("takeOver", { owner: lease.owner }, store.takeOver(id, lease))
      : Effect.succeedNone,

  renew: (id, epoch, lease) =>
    isStorable(id) && isStorable(lease.owner) ? store.renew(id, epoch, lease) : Effect.succeed(false),
  release: (id, epoch) => (isStorable(id) ? store.release(id, epoch) : Effect.succeed(false)),
  recordPrompt: (id, epoch, record) => isStorable(id) ? store.recordPrompt(id, epoch, record) : Effect.succeed(false),
  snapshot: (id, ...write) => (isStorable(id) ? store.snapshot(id, ...write) : Effect.succeed(false)),
  finalize: (id, ...write) => (isStorable(id) ? store.finalize(id, ...write) : Effect.succeed(false)),
  keepPartial: (id, ...write) => (isStorable(id) ? store.keepPartial(id, ...write) : Effect.succeed(false)),
  settleStop: (id) => (isStorable(id) ? store.settleStop(id) : Effect.void),
  listStops: (filter) => (isStorable(filter.conversationId) ? store.listStops(filter) : Effect.succeed([])),
  markReverted: (by, range) =>
    isStorable(range.conversationId)
      ? checked("markReverted", { message: by }, store.markReverted(by, range))
      : Effect.void,
  unmarkReverted: (by) => (isStorable(by) ? store.unmarkReverted(by) : Effect.void),
  withdrawAsk: (id) => (isStorable(id) ? store.withdrawAsk(id) : Effect.succeed(false)),
  cancel: (id, content) =>
    isStorable(id) ? store.cancel(id, content) : Effect.fail(new UnknownMessage({ messageId: id })),
  answerAsk: (id, answer) => isStorable(id) ? store.answerAsk(id, answer) : Effect.fail(new UnknownAsk({ askId: id })),

  getSession: (id) => (isStorable(id) ? store.getSession(id) : Effect.succeedNone),
  findOrphan: (id) => (isStorable(id) ? store.findOrphan(id) : Effect.succeedNone),
  getMessage: (id) => (isStorable(id) ? store.getMessage(id) : Effect.succeedNone),
  findBlocker: (id) => (isStorable(id) ? store.findBlocker(id) : Effect.succeedNone),
  listUpdates: (id, after, limit) => (isStorable(id) ? store.listUpdates(id, after, limit) : Effect.succeed([])),
  getState: (id) => (isStorable(id) ? store.getState(id) : Effect.succeedNone),
  getAsk: (id) => (isStorable(id) ? store.getAsk(id) : Effect.succeedNone),
  listMessages: (id, ...page) => (isStorable(id) ? store.listMessages(id, ...page) : Effect.succeed([])),
  listByStatus: (filter) => (isStorable(filter.conversationId) ? store.listByStatus(filter) : Effect.succeed([])),
  listAsks: (options) =>
    isStorable(options.conversationId) && isStorable(options.messageId)
      ? store.listAsks(isStorable(options.after) ? options : { ...options, after: undefined })
      : Effect.succeed([]),
  untilState: (id, isTrue) =>
    isStorable(id) ? store.untilState(id, isTrue) : isTrue(undefined) ? Effect.void : Effect.never,
  changes: (id) => (isStorable(id) ? store.changes(id) : nothingEver),
  askChanges: (id) => (isStorable(id) ? store.askChanges(id) : nothingEver)
})

// internal

const isStorable = (id: string | undefined): boolean => id === undefined || idFlaw(id) === undefined

const nothingEver = Stream.concat(Stream.succeed(undefined), Stream.never)

const checked = <A, E>(
  operation: string,
  ids: Readonly<Record<string, string | undefined>>,
  effect: Effect.Effect<A, E>
): Effect.Effect<A, E | StoreError> => {
  for (const [name, id] of Object.entries(ids)) {
    const reason = id === undefined ? undefined : idFlaw(id)
    if (reason !== undefined) {
      return Effect.fail(new StoreError({ operation, reason: `the id "${name}": ${reason}`, isRetryable: false }))
    }
  }
  return effect
}
