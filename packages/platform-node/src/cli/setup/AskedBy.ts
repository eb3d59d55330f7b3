/**
 * Finds which agent or subagent made a stored ask.
 */
import { retrying } from "@opencode-turn/core/Retrying"
import { SessionStore, type StoredMessage, type StoreError } from "@opencode-turn/core/SessionStore"
import type { StoredAsk } from "@opencode-turn/core/StoredAsk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type Asker, unknownSubagent } from "../../terminal/AskText.ts"

/** The subagent of an ask; `undefined` for the turn's own agent. Its name may be missing from the snapshot. */
export const subagentOf = (
  { ask }: Pick<StoredAsk, "ask">,
  message: Pick<StoredMessage, "promptRecord" | "subagents"> | undefined
): Asker => {
  const root = message?.promptRecord?.sessionId
  if (root === undefined || ask.sessionId === root) return undefined
  const subagent = message?.subagents.find(({ sessionId }) => sessionId === ask.sessionId)
  return subagent === undefined ? unknownSubagent : { title: subagent.title, agent: subagent.agent }
}

/** Adds the asking subagent to each ask. Asks of the same turn share one read of it. */
export const withAskers = Effect.fnUntraced(function*<A extends StoredAsk>(
  asks: ReadonlyArray<A>
): Effect.fn.Return<ReadonlyArray<readonly [A, Asker]>, StoreError, SessionStore> {
  const store = yield* SessionStore
  const ids = [...new Set(asks.map(({ messageId }) => messageId))]
  const messages = new Map(
    yield* Effect.forEach(
      ids,
      (id) => Effect.map(retrying(store.getMessage(id)), (message) => [id, Option.getOrUndefined(message)] as const)
    )
  )
  return asks.map((stored) => [stored, subagentOf(stored, messages.get(stored.messageId))] as const)
})
