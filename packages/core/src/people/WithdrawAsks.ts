/**
 * Withdraws the stored asks of a turn that nobody waits for any more.
 *
 * A gate withdraws its own ask when another client answers it. This module withdraws asks that had no gate at that
 * moment: their worker was gone, or their session was lost.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Contained from "../domain/Contained.ts"
import type { AskId, AssistantMessageId } from "../domain/Ids.ts"
import { rereading, retrying } from "../domain/Retrying.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { Client } from "../opencode/Client.ts"
import { SessionStore } from "../store/SessionStore.ts"

/**
 * Withdraws the message's open asks that the server does not list. A failure is reported and changes nothing.
 *
 * @category steps
 * @since 0.1.0
 */
export const withdrawUnlisted = (messageId: AssistantMessageId): Effect.Effect<void, never, SessionStore | Client> =>
  withdraw(
    messageId,
    Effect.gen(function*() {
      const client = yield* Client
      const listed = [...yield* rereading(client.questions), ...yield* rereading(client.permissions)]
      return new Set(listed.map(({ id }) => id))
    })
  )

/**
 * Withdraws all open asks of the message. A failure is reported and changes nothing.
 *
 * @category steps
 * @since 0.1.0
 */
export const withdrawAll = (messageId: AssistantMessageId): Effect.Effect<void, never, SessionStore> =>
  withdraw(messageId, Effect.succeed(new Set<AskId>()))

// internal

/** Costs most turns one small read, because they have no open ask. */
const withdraw = <E, R>(messageId: AssistantMessageId, listed: Effect.Effect<ReadonlySet<AskId>, E, R>) =>
  Effect.gen(function*() {
    const store = yield* SessionStore
    const limit = yield* TurnPolicy.StopTimeout
    yield* Contained.attempt(
      "withdraw",
      { message: messageId },
      limit,
      Effect.gen(function*() {
        const open = yield* retrying(store.listAsks({ messageId, limit: Infinity }))
        if (open.length === 0) return
        const kept = yield* listed
        yield* Effect.forEach(open, ({ id }) => kept.has(id) ? Effect.void : retrying(store.withdrawAsk(id)), {
          discard: true
        })
      })
    )
  })
