/**
 * The routes that the AI SDK 7 expects: `useChat` with `new DefaultChatTransport({ api: "/ai-sdk" })`.
 *
 * @since 0.1.0
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import { Busy, NotFound, TooLate, Unprocessable } from "../GatewayError.ts"
import { Authorized, choices, conversationId, limit, page, Readable, textEvent, Written } from "../Middleware.ts"
import * as TurnJson from "../TurnJson.ts"

/**
 * What the page sends: the whole chat, of which only the last message is the prompt, because OpenCode keeps the conversation.
 *
 * **Details**
 *
 * `id` is the conversation. `agent`, `model`, `variant` and `title` may stand in the `body` of the transport; other fields are ignored.
 *
 * @category models
 * @since 0.1.0
 */
export const ChatRequest = Schema.Struct({
  id: conversationId,
  messages: Schema.NonEmptyArray(
    Schema.Struct({ id: Schema.String, role: Schema.String, parts: Schema.Array(Schema.Unknown) })
  ),
  trigger: Schema.optionalKey(Schema.Literals(["submit-message", "regenerate-message"])),
  messageId: Schema.optionalKey(Schema.NullOr(Schema.String)),
  ...choices
}).annotate({ identifier: "ChatRequest" })
/**
 * @category models
 * @since 0.1.0
 */
export interface ChatRequest extends Schema.Schema.Type<typeof ChatRequest> {}

/**
 * A message of the chat as `useChat` takes it.
 *
 * @category models
 * @since 0.1.0
 */
export const UiMessage = Schema.Struct({
  id: Schema.String,
  role: Schema.Literals(["user", "assistant"]),
  metadata: Schema.optionalKey(Schema.Unknown),
  parts: Schema.Array(Schema.Unknown)
}).annotate({ identifier: "UiMessage" })
/**
 * @category models
 * @since 0.1.0
 */
export interface UiMessage extends Schema.Schema.Type<typeof UiMessage> {}

const UiMessagePage = page("UiMessagePage", UiMessage)

/**
 * @category groups
 * @since 0.1.0
 */
export class AiSdk extends HttpApiGroup.make("aiSdk")
  .add(
    HttpApiEndpoint.post("chat", "/ai-sdk", {
      payload: ChatRequest,
      success: HttpApiSchema.StreamSse({ events: textEvent }),
      error: [Unprocessable, NotFound, Busy]
    }).middleware(Written).annotateMerge(OpenApi.annotations({
      summary: "Start a turn for a page of the AI SDK",
      description:
        "Answers with the UI message stream of the turn. The same user message starts one turn, however often it is sent; " +
        "regenerate-message always starts one."
    })),
    HttpApiEndpoint.get("resume", "/ai-sdk/:conversationId/stream", {
      params: { conversationId },
      success: [HttpApiSchema.StreamSse({ events: textEvent }), HttpApiSchema.NoContent],
      error: NotFound
    }).annotateMerge(OpenApi.annotations({
      summary: "Follow the turn that runs",
      description:
        "The UI message stream from its beginning, also of a turn that ended in the last 30 seconds. 204: nothing runs in this conversation."
    })),
    HttpApiEndpoint.post("stop", "/ai-sdk/:conversationId/stop", {
      params: { conversationId },
      success: [TurnJson.Turn, HttpApiSchema.NoContent],
      error: [NotFound, TooLate]
    }).annotateMerge(OpenApi.annotations({
      summary: "Stop the turn that runs",
      description: "Keeps what was streamed. 204: nothing runs in this conversation."
    })),
    HttpApiEndpoint.get("messages", "/ai-sdk/:conversationId/messages", {
      params: { conversationId },
      query: {
        limit,
        before: Schema.optionalKey(Schema.String.check(Schema.isPattern(/^\d{1,15}$/)))
      },
      success: UiMessagePage,
      error: NotFound
    }).annotateMerge(OpenApi.annotations({
      summary: "List the messages of a chat",
      description:
        "Oldest first, as `useChat` takes them; `next` leads to the older ones. The answer of a turn that runs is told by its stream."
    }))
  )
  .middleware(Authorized)
  .middleware(Readable)
  // A transport adds fields of its own.
  .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "ignore" })
{}
