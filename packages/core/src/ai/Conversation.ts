/**
 * Which conversation a request of `effect/ai` belongs to.
 *
 * **Details**
 *
 * The first that names one decides: the configuration; the id of the response before (`ResponseIdTracker`), which is that of a stored
 * message; the last answer in the prompt, whose parts carry the ids of their turn. Otherwise the request begins a conversation.
 *
 * The answer to a prompt depends on the prompt. So a history that is not the conversation's, because the same answer was continued
 * before, begins a conversation of its own.
 *
 * @since 0.1.0
 */
import type * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { AssistantMessageId, ConversationId, idFlaw, makeId } from "../domain/Ids.ts"
import { InvalidInput } from "../domain/TurnError.ts"
import { SessionStore, type StoreError } from "../store/SessionStore.ts"

/**
 * The ids that parts of a response carry in their metadata under the key `opencode`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Carried = Schema.Struct({ conversationId: ConversationId, messageId: AssistantMessageId })

/**
 * `isKnown`: OpenCode has a session for it, and knows what was said before.
 *
 * @category models
 * @since 0.1.0
 */
export interface Conversation {
  readonly id: ConversationId
  readonly isKnown: boolean
}

/**
 * Finds the conversation of a request.
 *
 * @category constructors
 * @since 0.1.0
 */
export const find = Effect.fnUntraced(function*(
  { previousResponseId, prompt }: Pick<LanguageModel.ProviderOptions, "previousResponseId" | "prompt">,
  config: { readonly conversationId?: string | undefined; readonly messageId?: string | undefined }
): Effect.fn.Return<Conversation, InvalidInput | StoreError, SessionStore> {
  const store = yield* SessionStore
  for (const field of ["conversationId", "messageId"] as const) {
    const reason = idFlaw(config[field] ?? "none")
    if (reason !== undefined) return yield* new InvalidInput({ field, reason })
  }
  const given = config.conversationId ?? (yield* conversationOf(config.messageId))
  const id = given === undefined ? yield* continued(previousResponseId, prompt) : ConversationId.make(given)
  if (id === undefined) return { id: ConversationId.make(yield* makeId("con")), isKnown: false }
  return { id, isKnown: Option.isSome(yield* store.getSession(id)) }
})

// internal

const conversationOf = Effect.fnUntraced(function*(messageId: string | undefined) {
  if (messageId === undefined) return undefined
  const store = yield* SessionStore
  const state = yield* store.getState(AssistantMessageId.make(messageId))
  return Option.getOrUndefined(state)?.conversationId
})

/** The conversation that the prompt goes on with. */
const continued = Effect.fnUntraced(function*(previousResponseId: string | undefined, prompt: Prompt.Prompt) {
  const carried = carriedBy(prompt)
  const before = previousResponseId ?? carried?.messageId
  const id = (yield* conversationOf(before)) ?? carried?.conversationId
  if (id === undefined || before === undefined) return id
  const store = yield* SessionStore
  const newest = yield* store.listByStatus({ conversationId: id, limit: looked })
  // What was stopped or failed is no answer that another history could know.
  const last = newest.find(({ status }) => status !== "error" && status !== "cancelled")
  return last === undefined || last.id === before ? id : undefined
})

/** How many of the newest turns are looked at: those behind the last answer have all failed. */
const looked = 20

const carriedBy = ({ content }: Prompt.Prompt): typeof Carried.Type | undefined => {
  const last = content.findLast((message) => message.role === "assistant")
  if (last?.role !== "assistant") return undefined
  return last.content.flatMap(({ options }) => Option.toArray(decodeCarried(options["opencode"])))[0]
}

const decodeCarried = Schema.decodeUnknownOption(Carried)
