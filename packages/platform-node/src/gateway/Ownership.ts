/**
 * What is whose: a user reaches only the conversations that are theirs, and through them turns and asks.
 *
 * **Details**
 *
 * What belongs to somebody else is answered as if it did not exist, with the same words.
 *
 * @since 0.1.0
 */
import type { Answer } from "@opencode-turn/core/Ask"
import * as Contained from "@opencode-turn/core/Contained"
import { type AskId, type AssistantMessageId, type ConversationId, idFlaw } from "@opencode-turn/core/Ids"
import { retrying } from "@opencode-turn/core/Retrying"
import type { MessageState, StoreError } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { StoredAsk } from "@opencode-turn/core/StoredAsk"
import { untilKnown } from "@opencode-turn/core/StoredGate"
import * as Brand from "effect/Brand"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Option from "effect/Option"
import { NotFound, Unavailable, Unprocessable } from "./GatewayError.ts"
import { CurrentUser, randomConversation } from "./User.ts"

/**
 * Whether a conversation is the user's.
 *
 * @category ownership
 * @since 0.1.0
 */
export const isOwn = Effect.fnUntraced(function*(
  conversationId: ConversationId
): Effect.fn.Return<boolean, Unavailable, CurrentUser> {
  const user = yield* CurrentUser
  return yield* product("owns", { conversation: conversationId }, () => user.owns(conversationId))
})

/**
 * The id of a conversation that the user may begin.
 *
 * @category ownership
 * @since 0.1.0
 */
export const newConversation: Effect.Effect<ConversationId, Unprocessable | Unavailable, CurrentUser> = Effect.gen(
  function*() {
    const { newConversation = randomConversation } = yield* CurrentUser
    const id = yield* product("newConversation", {}, newConversation)
    const conversationId = Brand.nominal<ConversationId>()(id)
    if (idFlaw(id) === undefined && (yield* isOwn(conversationId))) return conversationId
    return yield* new Unprocessable({
      message: "this user cannot begin conversations under ids of the gateway",
      advice: "choose an id that is yours; a product names such ids by `newConversation` of its users"
    })
  }
)

/**
 * Fails unless the conversation is the user's.
 *
 * @category ownership
 * @since 0.1.0
 */
export const ownConversation = (
  conversationId: ConversationId
): Effect.Effect<void, NotFound | Unavailable, CurrentUser> =>
  Effect.flatMap(
    isOwn(conversationId),
    (isOwn) => isOwn ? Effect.void : Effect.fail(unknown("conversation", conversationId))
  )

/**
 * The state of a turn of the user's.
 *
 * @category ownership
 * @since 0.1.0
 */
export const ownTurn = Effect.fnUntraced(function*(
  id: AssistantMessageId
): Effect.fn.Return<MessageState, NotFound | Unavailable, CurrentUser | SessionStore> {
  const store = yield* SessionStore
  return yield* own("turn", id, yield* stored(retrying(store.getState(id))))
})

/**
 * An ask of the user's.
 *
 * @category ownership
 * @since 0.1.0
 */
export const ownAsk = Effect.fnUntraced(function*(
  id: AskId
): Effect.fn.Return<StoredAsk, NotFound | Unavailable, CurrentUser | SessionStore> {
  const store = yield* SessionStore
  return yield* own("ask", id, yield* stored(retrying(store.getAsk(id))))
})

/**
 * An ask of the user's that is to be answered. An ask that is not theirs, or not there, is waited for: whoever was told of it may be faster
 * than its row.
 *
 * @category ownership
 * @since 0.1.0
 */
export const ownAskSoon = (
  id: AskId
): Effect.Effect<StoredAsk, NotFound | Unavailable, CurrentUser | SessionStore> =>
  untilKnown(
    id,
    ownAsk(id).pipe(Effect.map(Option.some), Effect.catchTag("NotFound", () => Effect.succeedNone))
  ).pipe(
    Effect.catchTag("StoreError", storeFailed),
    Effect.flatMap((found) => Effect.fromOption(found, () => unknown("ask", id)))
  )

/**
 * Fails for an answer that would be one to the asks of other users, too.
 *
 * @category ownership
 * @since 0.1.0
 */
export const checkReach = Effect.fnUntraced(function*(
  answer: Answer
): Effect.fn.Return<void, Unprocessable, CurrentUser> {
  const { mayAllowAlways = false } = yield* CurrentUser
  if (mayAllowAlways || answer._tag !== "Permission" || answer.reply.reply !== "always") return
  return yield* new Unprocessable({
    message: "this user may not allow it always, because that holds for all conversations of the server",
    advice: "allow it once; a product lets its users do so by `mayAllowAlways`"
  })
})

/**
 * Tells a failure of the store to the reporter, and to the client only that there is one.
 *
 * @category errors
 * @since 0.1.0
 */
export const storeFailed = (error: StoreError): Effect.Effect<never, Unavailable> =>
  Effect.andThen(
    ErrorReporter.report(Cause.fail(error)),
    Effect.fail(
      new Unavailable({ message: "the store cannot be reached or read", advice: "try again in a while" })
    )
  )

/**
 * {@link storeFailed} for an effect that fails with nothing else.
 *
 * @category errors
 * @since 0.1.0
 */
export const stored = <A, R>(effect: Effect.Effect<A, StoreError, R>): Effect.Effect<A, Unavailable, R> =>
  Effect.catch(effect, storeFailed)

/**
 * @category errors
 * @since 0.1.0
 */
export const unknown = (what: string, id: string): NotFound =>
  new NotFound({
    message: `there is no ${what} ${JSON.stringify(id.slice(0, 100))}`,
    advice: "GET /conversations lists your conversations, and GET /asks what waits for an answer"
  })

// internal

/** Asks the product. What it throws is reported, and told to the client without its words. */
const product = <A>(
  name: string,
  fields: Readonly<Record<string, string>>,
  ask: () => A | Promise<A>
): Effect.Effect<A, Unavailable> =>
  Effect.tryPromise(async () => await ask()).pipe(
    Effect.catch(({ cause }) =>
      Effect.andThen(
        Contained.report(name, fields, Cause.fail(cause)),
        Effect.fail(
          new Unavailable({ message: "nobody could check whose conversation it is", advice: "try again in a while" })
        )
      )
    )
  )

const own = Effect.fnUntraced(function*<A extends { readonly conversationId: ConversationId }>(
  what: string,
  id: string,
  found: Option.Option<A>
) {
  if (Option.isSome(found) && (yield* isOwn(found.value.conversationId))) return found.value
  return yield* unknown(what, id)
})
