/**
 * The OpenCode session of a conversation: found, made, or made anew.
 *
 * Safe under concurrent callers: one session is stored, by compare-and-set; one that was made in vain is deleted again.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Client } from "./Client.ts"
import type { RequestError } from "./ClientError.ts"
import * as Contained from "./Contained.ts"
import type { SessionOptions } from "./Dialect.ts"
import type { ConversationId, SessionId } from "./Ids.ts"
import { retrying } from "./Retrying.ts"
import type { StoreError } from "./SessionStore.ts"
import { SessionStore } from "./SessionStore.ts"
import { Tracer } from "./Tracer.ts"
import * as TurnPolicy from "./TurnPolicy.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface EnsuredSession {
  readonly sessionId: SessionId
  readonly isNew: boolean
}

/**
 * Gives the conversation's session, making it if there is none. Whether the server still has it is found out by using it.
 *
 * @category steps
 * @since 0.1.0
 */
export const ensureSession = Effect.fn("Turn.ensureSession")(function*(
  conversationId: ConversationId,
  options: SessionOptions
): Effect.fn.Return<EnsuredSession, RequestError | StoreError, Client | SessionStore | Tracer> {
  const store = yield* SessionStore
  const stored = yield* retrying(store.getSession(conversationId))
  if (Option.isSome(stored)) return { sessionId: stored.value, isNew: false }
  const ensured = yield* replaceSession(conversationId, Option.none(), options)
  if (ensured.isNew) {
    const tracer = yield* Tracer
    yield* tracer.emit("session.created", { session_id: ensured.sessionId, subject_id: conversationId })
  }
  return ensured
})

/**
 * Makes a new session in place of one that was lost. Whoever did so first wins.
 *
 * @category steps
 * @since 0.1.0
 */
export const recreateSession = Effect.fn("Turn.recreateSession")(function*(
  conversationId: ConversationId,
  lost: SessionId,
  options: SessionOptions
): Effect.fn.Return<EnsuredSession, RequestError | StoreError, Client | SessionStore | Tracer> {
  const ensured = yield* replaceSession(conversationId, Option.some(lost), options)
  const tracer = yield* Tracer
  yield* tracer.emit("session.recreated_with_resend", {
    session_id: ensured.sessionId,
    subject_id: conversationId
  })
  return ensured
})

// internal

const replaceSession = Effect.fnUntraced(function*(
  conversationId: ConversationId,
  expected: Option.Option<SessionId>,
  options: SessionOptions
): Effect.fn.Return<EnsuredSession, RequestError | StoreError, Client | SessionStore> {
  const client = yield* Client
  const store = yield* SessionStore
  // From its making on, the session is either stored or deleted, also when the turn is interrupted.
  return yield* Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const made = yield* restore(retrying(client.createSession(options)))
      const isStored = yield* retrying(store.setSession(conversationId, expected, made.id)).pipe(
        Effect.onError(() => discard(made.id))
      )
      if (isStored) return { sessionId: made.id, isNew: true }
      yield* discard(made.id)
      const winner = yield* retrying(store.getSession(conversationId))
      // The winner may itself have been replaced or lost meanwhile: then it is this caller's turn again.
      return Option.isSome(winner)
        ? { sessionId: winner.value, isNew: false }
        : yield* restore(replaceSession(conversationId, Option.none(), options))
    })
  )
})

const discard = (sessionId: SessionId) =>
  Effect.gen(function*() {
    const client = yield* Client
    yield* Contained.attempt(
      "delete a session made in vain",
      { sessionId },
      yield* TurnPolicy.StopTimeout,
      client.deleteSession(sessionId)
    )
  })
