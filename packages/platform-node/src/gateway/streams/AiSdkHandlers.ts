/**
 * What the routes of `AiSdkApi` do.
 *
 * **Not responsibilities**: the chunks (`UiMessageChunks`), who may call and what is whose (`Access`, `Ownership`), the running of turns
 * (`Runs`).
 *
 * @since 0.1.0
 */
import { attachTurn } from "@opencode-turn/core/AttachTurn"
import type { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import { retrying } from "@opencode-turn/core/Retrying"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { isOpen } from "@opencode-turn/core/StoredMessage"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Predicate from "effect/Predicate"
import * as Stream from "effect/Stream"
import * as Asking from "../Asking.ts"
import * as Events from "../Events.ts"
import * as Following from "../Following.ts"
import { GatewayApi } from "../GatewayApi.ts"
import { Unprocessable } from "../GatewayError.ts"
import { ProductInput, stopTurn } from "../Handlers.ts"
import { ownConversation, stored } from "../Ownership.ts"
import { Runs } from "../Runs.ts"
import { CurrentUser } from "../User.ts"
import type { ChatRequest } from "./AiSdkApi.ts"
import * as Chats from "./Chats.ts"
import * as UiMessageChunks from "./UiMessageChunks.ts"
import * as UiMessages from "./UiMessages.ts"

/**
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  GatewayApi,
  "aiSdk",
  Effect.fnUntraced(function*(handlers) {
    const runs = yield* Runs
    const product = yield* ProductInput
    const store = yield* SessionStore
    return handlers.handleAll({
      chat: Effect.fnUntraced(function*({ payload }) {
        yield* ownConversation(payload.id)
        const user = yield* CurrentUser
        const { agent, id: conversationId, model, title, variant } = payload
        const prompt = yield* promptOf(payload)
        const choices = Chats.choices({ agent, model, title, variant })
        const mayFollow = yield* Following.begin(runs, conversationId)
        const { state } = yield* runs.start(user, {
          conversationId,
          key: keyOf(payload, prompt),
          prompt,
          choices: { ...choices, ...product({ ...choices, prompt }, user, conversationId) }
        })
        return toResponse(state.id, store, mayFollow, yield* Asking.told)
      }),

      resume: Effect.fnUntraced(function*({ params: { conversationId } }) {
        yield* ownConversation(conversationId)
        const state = (yield* Chats.running(conversationId)) ?? (yield* justEnded(conversationId))
        if (state === undefined) return HttpServerResponse.empty({ status: 204 })
        return toResponse(state.id, store, yield* Following.begin(runs, conversationId), yield* Asking.told)
      }),

      stop: Effect.fnUntraced(function*({ params: { conversationId } }) {
        yield* ownConversation(conversationId)
        const state = yield* Chats.running(conversationId)
        if (state === undefined) return HttpServerResponse.empty({ status: 204 })
        return yield* stopTurn(runs, state)
      }),

      messages: Effect.fnUntraced(function*({ params: { conversationId }, query: { before, limit = 20 } }) {
        yield* ownConversation(conversationId)
        const beforePosition = before === undefined ? undefined : Number(before)
        // One more tells whether another page follows.
        const rows = yield* stored(retrying(store.listMessages(conversationId, limit + 1, beforePosition)))
        const shown = rows.slice(-limit)
        const [oldest] = shown
        return {
          items: shown.flatMap((message) => [
            UiMessages.promptOf(message),
            ...(isOpen(message.status) ? [] : [UiMessages.answerOf(message)])
          ]),
          next: rows.length > limit && oldest !== undefined ? String(oldest.position) : null
        }
      })
    })
  })
)

// internal

const toResponse = (
  id: AssistantMessageId,
  store: SessionStore["Service"],
  mayFollow: Following.MayFollow,
  told: Asking.Told
) => {
  const chunks = attachTurn(id).pipe(
    Stream.mapAccumArray(() => UiMessageChunks.empty, (written, attached) => {
      const texts: Array<string> = []
      let last = written
      for (const { update } of attached.map(told)) {
        const [next, chunks] = UiMessageChunks.apply(last, update)
        last = next
        texts.push(...chunks.map(Chats.toEvent))
        if (update._tag === "Finished") texts.push(done)
      }
      return [last, texts.length === 0 ? [] : [texts.join("")]]
    })
  )
  return Events.toResponse(Events.open(mayFollow, Stream.map(chunks, Events.encode), failed), store, {
    "x-vercel-ai-ui-message-stream": "v1"
  })
}

/**
 * The newest turn, if it ended a moment ago: a page that read the messages before that has no answer, and asks for the stream now. A page that
 * has the answer replaces it, because both have one id.
 */
const justEnded = Effect.fnUntraced(function*(conversationId: ConversationId) {
  const store = yield* SessionStore
  const [newest] = yield* stored(retrying(store.listByStatus({ conversationId, limit: 1 })))
  const sinceMillis = (yield* Clock.currentTimeMillis) - Duration.toMillis(moment)
  return newest !== undefined && (newest.finishedMillis ?? 0) > sinceMillis ? newest : undefined
})

/** Longer than a page takes between its messages and its stream. */
const moment = Duration.seconds(30)

const done = "data: [DONE]\n\n"

const failed = ({ message }: { readonly message: string }): string =>
  `${Chats.toEvent({ type: "error", errorText: message })}${done}`

/**
 * The id of the user message and what it says: a page that sends an edited message again means another turn, and so does one that asks
 * for another answer.
 */
const keyOf = ({ messages, trigger }: ChatRequest, prompt: unknown): string | undefined => {
  const id = messages.at(-1)?.id ?? ""
  return trigger === "regenerate-message" || id === "" ? undefined : JSON.stringify([id, prompt])
}

/** The last message of the chat as a prompt. Its text and files count, and nothing else of it. */
const promptOf = ({ messages }: ChatRequest) => {
  const last = messages.at(-1)
  return last?.role === "user"
    ? Chats.decodePrompt(
      last.parts.filter((part) => Predicate.hasProperty(part, "type") && (part.type === "text" || part.type === "file"))
    )
    : Effect.fail(
      new Unprocessable({
        message: "the last message of the chat is not the user's",
        advice: "answer an approval by POST /asks/{askId}/answer, and resume the stream by GET /ai-sdk/{id}/stream"
      })
    )
}
