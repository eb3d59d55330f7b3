/**
 * Finds the OpenCode session of a conversation, makes it, or makes a new one in its place.
 *
 * Concurrent callers are safe: one session is stored, by compare-and-set, and a session that was made in vain is deleted again.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Contained from "../domain/Contained.ts"
import type { ConversationId, SessionId } from "../domain/Ids.ts"
import type { Session } from "../domain/Message.ts"
import { retrying } from "../domain/Retrying.ts"
import { Tracer } from "../domain/Tracer.ts"
import { step } from "../domain/Tracing.ts"
import { DirectoryMismatch } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { Client } from "../opencode/Client.ts"
import type { RequestError, SessionNotFound, UnknownDirectory } from "../opencode/ClientError.ts"
import type { SessionOptions } from "../opencode/Dialect.ts"
import { keepsMetadata } from "../opencode/SessionWishes.ts"
import type { StoreError } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface EnsuredSession {
  readonly sessionId: SessionId
  readonly isNew: boolean
  /** What the server dropped of the options of a new session. */
  readonly dropped?: ReadonlyArray<Dropped>
}

/**
 * A field that the server dropped without saying so: `metadata` where sessions have none (before 1.15, and the beta of 2.x), and a `variant`
 * that the model does not have (1.x).
 *
 * @category models
 * @since 0.1.0
 */
export type Dropped = "metadata" | "variant"

/**
 * Why there is no session to work in.
 *
 * @category errors
 * @since 0.1.0
 */
export type EnsureError = RequestError | StoreError | UnknownDirectory | DirectoryMismatch

/**
 * Gives the conversation's session, making it if there is none. The client's folder has to be there, and has to be the one that the
 * session works in.
 *
 * @category steps
 * @since 0.1.0
 */
export const ensureSession = Effect.fnUntraced(function*(
  conversationId: ConversationId,
  options: SessionOptions
): Effect.fn.Return<EnsuredSession, EnsureError | SessionNotFound, Client | SessionStore | Tracer> {
  const store = yield* SessionStore
  const stored = yield* retrying(store.getSession(conversationId))
  if (Option.isSome(stored)) {
    yield* checkDirectory(stored.value)
    return { sessionId: stored.value, isNew: false }
  }
  const ensured = yield* replaceSession(conversationId, Option.none(), options)
  if (ensured.isNew) {
    const tracer = yield* Tracer
    yield* tracer.emit("session.created", { session_id: ensured.sessionId, subject_id: conversationId })
    yield* tellDropped(conversationId, ensured)
  }
  return ensured
}, step("Turn.ensureSession"))

/**
 * Makes a new session in place of one that was lost. The first caller to store one wins.
 *
 * @category steps
 * @since 0.1.0
 */
export const recreateSession = Effect.fnUntraced(function*(
  conversationId: ConversationId,
  lost: SessionId,
  options: SessionOptions
): Effect.fn.Return<EnsuredSession, EnsureError | SessionNotFound, Client | SessionStore | Tracer> {
  const ensured = yield* replaceSession(conversationId, Option.some(lost), options)
  const tracer = yield* Tracer
  yield* tracer.emit("session.recreated_with_resend", {
    session_id: ensured.sessionId,
    subject_id: conversationId
  })
  yield* tellDropped(conversationId, ensured)
  return ensured
}, step("Turn.recreateSession"))

/**
 * Fails unless the session works in the client's folder. The server runs a session in the folder that it was made in, whatever a
 * request names, and its events reach only clients of that folder (1.18.33).
 *
 * @category steps
 * @since 0.1.0
 */
export const checkDirectory = Effect.fnUntraced(function*(
  sessionId: SessionId
): Effect.fn.Return<void, RequestError | UnknownDirectory | SessionNotFound | DirectoryMismatch, Client> {
  const client = yield* Client
  const directory = yield* retrying(client.directory)
  const sessionDirectory = yield* retrying(client.directoryOf(sessionId))
  // A session that does not say where it works is taken to work in the folder.
  if (sessionDirectory !== "" && sessionDirectory !== directory) {
    return yield* new DirectoryMismatch({ sessionId, sessionDirectory, directory })
  }
}, step("Turn.checkDirectory"))

// internal

const replaceSession = Effect.fnUntraced(function*(
  conversationId: ConversationId,
  expected: Option.Option<SessionId>,
  options: SessionOptions
): Effect.fn.Return<EnsuredSession, EnsureError | SessionNotFound, Client | SessionStore> {
  const client = yield* Client
  const store = yield* SessionStore
  // Once made, the session is either stored or deleted, even if the turn is interrupted.
  return yield* Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const making = yield* Effect.forkChild(retrying(client.createSession(options)))
      const made = yield* restore(Fiber.join(making)).pipe(Effect.onInterrupt(() => abandon(conversationId, making)))
      const winner = yield* restore(
        Effect.gen(function*() {
          if (yield* retrying(store.setSession(conversationId, expected, made.id))) return Option.some(made.id)
          return yield* retrying(store.getSession(conversationId))
        })
      ).pipe(Effect.onError(() => discard(conversationId, made.id)))
      // This also covers a retry that loses because the first attempt had succeeded and only its answer was lost.
      if (Option.contains(winner, made.id)) {
        // The turn adds the conversation, which nobody has to miss.
        const { conversationId: _, ...wanted } = options.metadata ?? {}
        const isKept = keepsMetadata(wanted, made)
        return { sessionId: made.id, isNew: true, ...(!isKept && { dropped: ["metadata"] as const }) }
      }
      yield* discard(conversationId, made.id)
      // The winner's session may have been replaced or lost meanwhile; then this caller tries again.
      if (Option.isNone(winner)) return yield* restore(replaceSession(conversationId, Option.none(), options))
      yield* restore(checkDirectory(winner.value))
      return { sessionId: winner.value, isNew: false }
    })
  )
})

/** Traces what the server dropped, and logs it once for each client. */
const tellDropped = Effect.fnUntraced(function*(
  conversationId: ConversationId,
  { dropped = [], sessionId }: EnsuredSession
): Effect.fn.Return<void, never, Client | Tracer> {
  const [field] = dropped
  if (field === undefined) return
  const client = yield* Client
  const tracer = yield* Tracer
  yield* tracer.emit("session.field_dropped", { session_id: sessionId, subject_id: conversationId, field })
  if (told.has(client)) return
  told.add(client)
  yield* Effect.annotateLogs(
    Effect.logWarning("OpenCode keeps no metadata of its sessions: what a turn gives is dropped"),
    { origin: client.origin, session: sessionId }
  )
})

/** The clients of which it was logged what their servers drop. */
const told = new WeakSet<Client["Service"]>()

/** Waits a while for the session that is being made, so that it can be deleted: nobody wants it any more. */
const abandon = (conversationId: ConversationId, making: Fiber.Fiber<Session, RequestError | UnknownDirectory>) =>
  Effect.gen(function*() {
    yield* Contained.attempt(
      "wait for a session made in vain",
      { conversation: conversationId },
      yield* TurnPolicy.StopTimeout,
      Effect.flatMap(
        Fiber.await(making),
        (exit) => (Exit.isSuccess(exit) ? discard(conversationId, exit.value.id) : Effect.void)
      )
    )
    yield* Fiber.interrupt(making)
  })

/** Deletes a session made in vain, unless it is the stored one: the store may have done what it did not confirm. */
const discard = (conversationId: ConversationId, sessionId: SessionId) =>
  Effect.gen(function*() {
    const client = yield* Client
    const store = yield* SessionStore
    yield* Contained.attempt(
      "delete a session made in vain",
      { conversation: conversationId, session: sessionId },
      yield* TurnPolicy.StopTimeout,
      Effect.gen(function*() {
        const stored = yield* Effect.orElseSucceed(store.getSession(conversationId), Option.none)
        if (!Option.contains(stored, sessionId)) yield* retrying(client.deleteSession(sessionId))
      })
    )
  })
