/**
 * What the protocols of pages have in common: the prompt in their last message, the turn that runs in a conversation.
 *
 * @since 0.1.0
 */
import type { ConversationId } from "@opencode-turn/core/Ids"
import { retrying } from "@opencode-turn/core/Retrying"
import type { MessageState } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { PromptParts, type StartTurn } from "../GatewayApi.ts"
import { type Unavailable, Unprocessable } from "../GatewayError.ts"
import { stored } from "../Ownership.ts"

/**
 * The parts of a prompt, checked as those of `POST /conversations/{id}/turns`.
 *
 * @category converting
 * @since 0.1.0
 */
export const decodePrompt = (parts: ReadonlyArray<unknown>) =>
  Effect.mapError(
    decodeParts(parts),
    () =>
      new Unprocessable({
        message: "the last message of the chat has no text and no file, or a file that is no data: URL",
        advice: "send text, and files inside the message"
      })
  )

/**
 * The choices that were made.
 *
 * @category converting
 * @since 0.1.0
 */
export const choices = (
  { agent, model, title, variant }: Readonly<
    Record<"agent" | "model" | "title" | "variant", string | undefined>
  >
): Omit<StartTurn, "prompt"> => ({
  ...(agent !== undefined && { agent }),
  ...(model !== undefined && { model }),
  ...(title !== undefined && { title }),
  ...(variant !== undefined && { variant })
})

/**
 * The turn that runs in a conversation, or the one that will run next.
 *
 * @category getters
 * @since 0.1.0
 */
export const running = Effect.fnUntraced(function*(
  conversationId: ConversationId
): Effect.fn.Return<MessageState | undefined, Unavailable, SessionStore> {
  const store = yield* SessionStore
  const [pending] = yield* stored(retrying(store.listByStatus({ conversationId, status: "pending", limit: 1 })))
  if (pending !== undefined) return pending
  return (yield* stored(retrying(store.listByStatus({ conversationId, status: "queued", limit: Infinity })))).at(-1)
})

/**
 * A server-sent event. JSON has no line breaks, so the data is one line.
 *
 * @category converting
 * @since 0.1.0
 */
export const toEvent = (value: object): string => `data: ${JSON.stringify(value)}\n\n`

// internal

const decodeParts = Schema.decodeUnknownEffect(PromptParts)
