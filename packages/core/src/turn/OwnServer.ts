/**
 * Which server a turn belongs to, where several servers share a database.
 *
 * A turn belongs to the server that knows its session, whatever that server is called: it may have several names, a proxy, or another port
 * since a restart. Only where a server does not know the session, the address under which the turn began tells a lost session from one of
 * another server. A turn of another server is never sent here, because it may still run there, and neither is a new one of its conversation,
 * whose agent would know nothing of what was said.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { AssistantMessageId, ConversationId, SessionId } from "../domain/Ids.ts"
import { retrying } from "../domain/Retrying.ts"
import { type DirectoryMismatch, ServerMismatch } from "../domain/TurnError.ts"
import { Client } from "../opencode/Client.ts"
import type { UnknownDirectory } from "../opencode/ClientError.ts"
import type { MessageState, StoredMessage, StoreError } from "../store/SessionStore.ts"
import { SessionStore } from "../store/SessionStore.ts"
import { checkDirectory } from "./EnsureSession.ts"

/**
 * Why a session that the client's server does not know is no lost one: the turn began on another server.
 *
 * @category getters
 * @since 0.1.0
 */
export const mismatchOf = (
  { draft }: Pick<StoredMessage, "draft">,
  sessionId: SessionId
): Effect.Effect<Option.Option<ServerMismatch>, never, Client> =>
  Effect.map(Client, ({ origin }) => {
    const sessionOrigin = draft?.origin
    return sessionOrigin === undefined || sessionOrigin === origin
      ? Option.none()
      : Option.some(new ServerMismatch({ of: "turn", sessionId, sessionOrigin, origin }))
  })

/**
 * The same for a new turn of a conversation: none of the newest turns in its session had the address of the client's server.
 *
 * @category getters
 * @since 0.1.0
 */
export const mismatchOfConversation = Effect.fnUntraced(function*(
  conversationId: ConversationId,
  sessionId: SessionId
): Effect.fn.Return<Option.Option<ServerMismatch>, StoreError, Client | SessionStore> {
  const { origin } = yield* Client
  const store = yield* SessionStore
  const messages = yield* retrying(store.listMessages(conversationId, newest))
  const origins = messages.flatMap(({ draft, started }) =>
    started?.sessionId === sessionId && draft?.origin !== undefined ? [draft.origin] : []
  )
  const sessionOrigin = origins.at(-1)
  return sessionOrigin === undefined || origins.includes(origin)
    ? Option.none()
    : Option.some(new ServerMismatch({ of: "conversation", sessionId, sessionOrigin, origin }))
})

/**
 * The same for a message that is not read yet.
 *
 * @category getters
 * @since 0.1.0
 */
export const findMismatch = Effect.fnUntraced(function*(
  id: AssistantMessageId,
  sessionId: SessionId
): Effect.fn.Return<Option.Option<ServerMismatch>, StoreError, Client | SessionStore> {
  const store = yield* SessionStore
  const message = yield* retrying(store.getMessage(id))
  return Option.isNone(message) ? Option.none() : yield* mismatchOf(message.value, sessionId)
})

/**
 * Why a turn is for a worker of another folder or another server. A turn that is in no session yet works anywhere. Whatever else fails is for
 * the turn to deal with: a lost session, or a server or store that is away.
 *
 * @category getters
 * @since 0.1.0
 */
export const whyElsewhere = (
  orphan: Pick<MessageState, "conversationId" | "id" | "started">
): Effect.Effect<
  Option.Option<ServerMismatch | DirectoryMismatch | UnknownDirectory>,
  never,
  SessionStore | Client
> =>
  Effect.gen(function*() {
    const store = yield* SessionStore
    const sessionId = orphan.started?.sessionId ??
      Option.getOrUndefined(yield* store.getSession(orphan.conversationId))
    if (sessionId === undefined) return Option.none()
    return yield* checkDirectory(sessionId).pipe(
      Effect.as(Option.none()),
      Effect.catchTag(["DirectoryMismatch", "UnknownDirectory"], (error) => Effect.succeedSome(error)),
      Effect.catchTag("SessionNotFound", () => findMismatch(orphan.id, sessionId))
    )
  }).pipe(Effect.orElseSucceed(Option.none))

// internal

/** The turns of a conversation that are looked at. */
const newest = 20
