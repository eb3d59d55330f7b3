/**
 * The contract of the gateway: its routes, with the schemas of what they take and give.
 *
 * **Responsibilities**: what `GET /openapi.json` describes, and what a typed client (`HttpApiClient`) is made of. It imports nothing of
 * Node, so that a browser may use it.
 *
 * **Not responsibilities**: who may call (`Access`), and what is done (`Handlers`).
 *
 * @since 0.1.0
 */
import { Answer } from "@opencode-turn/core/Ask"
import { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import { MessageStatus } from "@opencode-turn/core/SessionStore"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Record from "effect/Record"
import * as Schema from "effect/Schema"
import * as GatewayError from "./GatewayError.ts"
import {
  askId,
  Authorized,
  choices,
  conversationId,
  limit,
  messageEvent,
  messageId,
  name,
  page,
  Readable,
  Written
} from "./Middleware.ts"
import { AgUi } from "./streams/AgUiApi.ts"
import { AiSdk } from "./streams/AiSdkApi.ts"
import * as TurnJson from "./TurnJson.ts"

export * as GatewayError from "./GatewayError.ts"
export { Authorized, Readable, Written } from "./Middleware.ts"
export * as TurnJson from "./TurnJson.ts"

/**
 * A file inside a prompt. Files on the server's own disk cannot be named.
 *
 * @category models
 * @since 0.1.0
 */
export const DataUrl = Schema.String.check(Schema.isStartingWith("data:"))

/**
 * The parts of a prompt from a client.
 *
 * @category models
 * @since 0.1.0
 */
export const PromptParts = Schema.NonEmptyArray(Schema.Union([
  Schema.Struct({ type: Schema.Literal("text"), text: Schema.String }),
  Schema.Struct({
    type: Schema.Literal("file"),
    mediaType: name,
    url: DataUrl,
    filename: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(1_024)))
  }),
  Schema.Struct({ type: Schema.Literal("agent"), name })
])).check(Schema.isMaxLength(1_000))

/**
 * What a client may say of a turn.
 *
 * **Details**
 *
 * `agent`, `model` (`provider/model`) and `variant` are left to the server where they are missing. `title` names the session that the first
 * turn of a conversation makes. Permissions, tools and the system prompt are the product's to choose, see `Options.input`.
 *
 * @category models
 * @since 0.1.0
 */
export const StartTurn = Schema.Struct({
  prompt: Schema.Union([
    Schema.NonEmptyString,
    PromptParts
  ]),
  ...choices
}).annotate({ identifier: "StartTurn" })
/**
 * @category models
 * @since 0.1.0
 */
export interface StartTurn extends Schema.Schema.Type<typeof StartTurn> {}

/**
 * Where a fork ends, and the conversation that it makes. Without `at` it ends with the newest turn that has ended. Without `into` the gateway
 * chooses an id.
 *
 * @category models
 * @since 0.1.0
 */
export const Fork = Schema.Struct({
  at: Schema.optionalKey(AssistantMessageId),
  into: Schema.optionalKey(conversationId)
}).annotate({ identifier: "Fork" })

/**
 * The model that writes the summary, as `provider/model`; by default that of the last turn.
 *
 * @category models
 * @since 0.1.0
 */
export const Compact = Schema.Struct({ model: Schema.optionalKey(Schema.String) }).annotate({ identifier: "Compact" })

/**
 * A turn that is stored. `isNew` is false where the same `Idempotency-Key` started it before.
 *
 * @category models
 * @since 0.1.0
 */
export const StartedTurn = Schema.Struct({
  messageId: AssistantMessageId,
  conversationId: ConversationId,
  status: MessageStatus,
  isNew: Schema.Boolean
}).annotate({ identifier: "StartedTurn" })
/**
 * @category models
 * @since 0.1.0
 */
export interface StartedTurn extends Schema.Schema.Type<typeof StartedTurn> {}

/**
 * A conversation in a list, with its newest turn.
 *
 * @category models
 * @since 0.1.0
 */
export const Conversation = Schema.Struct({
  conversationId: ConversationId,
  newestTurn: TurnJson.TurnSummary
}).annotate({ identifier: "Conversation" })
/**
 * @category models
 * @since 0.1.0
 */
export interface Conversation extends Schema.Schema.Type<typeof Conversation> {}

/**
 * Whether the OpenCode server answers. `version` is the server's, or null where it did not answer; `reason` says why not.
 *
 * @category models
 * @since 0.1.0
 */
export const Connection = Schema.Struct({
  state: Schema.Literals(["connected", "unreachable"]),
  version: Schema.NullOr(Schema.String),
  reason: Schema.NullOr(Schema.String),
  checkedMillis: Schema.Finite
}).annotate({ identifier: "Connection" })
/**
 * @category models
 * @since 0.1.0
 */
export interface Connection extends Schema.Schema.Type<typeof Connection> {}

const cursor = Schema.optionalKey(Schema.NonEmptyString.check(Schema.isMaxLength(2_000)))

/** The id of a conversation that has no turn yet. */
const NewConversation = Schema.Struct({ conversationId: ConversationId }).annotate({ identifier: "NewConversation" })

const ConversationPage = page("ConversationPage", Conversation)
const TurnPage = page("TurnPage", TurnJson.Turn)
const AskPage = page("AskPage", TurnJson.Ask)

const { Busy, NotFound, TooLate, Unprocessable } = GatewayError

/** An event of an attached turn. */
const UpdateEvent = Schema.Struct({
  id: Schema.optionalKey(Schema.String),
  event: messageEvent,
  data: Schema.fromJsonString(Schema.toCodecJson(TurnJson.TurnUpdate))
})

/**
 * Starts, shows and stops turns.
 *
 * @category groups
 * @since 0.1.0
 */
export class Turns extends HttpApiGroup.make("turns")
  .add(
    HttpApiEndpoint.post("start", "/conversations/:conversationId/turns", {
      params: { conversationId },
      headers: {
        "idempotency-key": Schema.optionalKey(Schema.NonEmptyString.check(Schema.isMaxLength(255)))
      },
      payload: StartTurn,
      success: StartedTurn.pipe(HttpApiSchema.status(202)),
      error: [Unprocessable, NotFound, Busy]
    }).middleware(Written).annotateMerge(OpenApi.annotations({
      summary: "Start a turn in a conversation",
      description:
        "Answers when the turn is stored. It goes on whatever becomes of the connection. The same Idempotency-Key in the same " +
        "conversation starts one turn, however often it is sent."
    })),
    HttpApiEndpoint.get("get", "/turns/:messageId", {
      params: { messageId },
      success: TurnJson.Turn,
      error: NotFound
    }).annotateMerge(OpenApi.annotations({
      summary: "Read a turn",
      description: "The state that is stored. Attach from its offset to follow what comes after it."
    })),
    HttpApiEndpoint.get("attach", "/turns/:messageId/updates", {
      params: { messageId },
      query: { from: cursor },
      headers: { "last-event-id": cursor },
      success: [HttpApiSchema.StreamSse({ events: UpdateEvent }), HttpApiSchema.NoContent],
      error: NotFound
    }).annotateMerge(OpenApi.annotations({
      summary: "Follow a turn",
      description:
        "Server-sent events: the reply so far, then each change, turn.finished last. The id of an event is the offset behind " +
        "which `from` or Last-Event-ID goes on. 204: the end was seen, and nothing follows."
    })),
    HttpApiEndpoint.post("cancel", "/turns/:messageId/cancel", {
      params: { messageId },
      success: TurnJson.Turn,
      error: [NotFound, TooLate]
    }).annotateMerge(OpenApi.annotations({
      summary: "Stop a turn",
      description: "Keeps what was streamed. Stopping a stopped turn changes nothing."
    })),
    HttpApiEndpoint.post("revert", "/turns/:messageId/revert", {
      params: { messageId },
      success: TurnJson.Turn,
      error: [NotFound, Busy, TooLate, Unprocessable]
    }).annotateMerge(OpenApi.annotations({
      summary: "Take back a turn and those after it",
      description:
        "Restores the files of a git repository that they changed, and marks the turns with `revertedBy`. 409 while a turn of the " +
        "conversation runs or waits. Answers with the stored message of the revert."
    }))
  )
  .middleware(Authorized)
  .middleware(Readable)
{}

/**
 * Lists conversations and their turns.
 *
 * @category groups
 * @since 0.1.0
 */
export class Conversations extends HttpApiGroup.make("conversations")
  .add(
    HttpApiEndpoint.get("list", "/conversations", {
      query: { limit, before: cursor },
      success: ConversationPage
    }).annotateMerge(OpenApi.annotations({
      summary: "List conversations",
      description:
        "The conversation with the newest turn first. A page may be short or empty although another one follows."
    })),
    HttpApiEndpoint.post("begin", "/conversations", {
      success: NewConversation.pipe(HttpApiSchema.status(201)),
      error: Unprocessable
    }).annotateMerge(OpenApi.annotations({
      summary: "Make the id of a new conversation",
      description: "An id that the user may begin a conversation with. Nothing is stored before its first turn."
    })),
    HttpApiEndpoint.get("turns", "/conversations/:conversationId/turns", {
      params: { conversationId },
      query: { limit, before: cursor },
      success: TurnPage,
      error: NotFound
    }).annotateMerge(OpenApi.annotations({
      summary: "List the turns of a conversation",
      description: "Oldest first; `next` leads to the older ones."
    })),
    HttpApiEndpoint.post("fork", "/conversations/:conversationId/fork", {
      params: { conversationId },
      payload: Fork,
      success: TurnJson.Turn.pipe(HttpApiSchema.status(201)),
      error: [NotFound, Busy, TooLate, Unprocessable]
    }).middleware(Written).annotateMerge(OpenApi.annotations({
      summary: "Begin a conversation with what this one said",
      description:
        "Up to the turn `at` or to the newest one that has ended, also while another one runs. Answers with the stored message of " +
        "the fork, the first one of the new conversation. The same fork again is the same conversation."
    })),
    HttpApiEndpoint.post("unrevert", "/conversations/:conversationId/unrevert", {
      params: { conversationId },
      success: TurnJson.Turn,
      error: [NotFound, Busy, TooLate, Unprocessable]
    }).annotateMerge(OpenApi.annotations({
      summary: "Undo the revert of a conversation",
      description: "Until the next turn or compaction of the conversation, which makes the revert final: 409."
    })),
    HttpApiEndpoint.post("compact", "/conversations/:conversationId/compact", {
      params: { conversationId },
      payload: Compact,
      success: StartedTurn.pipe(HttpApiSchema.status(202)),
      error: [NotFound, Busy, TooLate, Unprocessable]
    }).middleware(Written).annotateMerge(OpenApi.annotations({
      summary: "Put a summary in place of what was said",
      description:
        "Answers when it is stored, and waits its turn as a turn does. Follow and cancel it as a turn; its content is the summary."
    }))
  )
  .middleware(Authorized)
  .middleware(Readable)
{}

/**
 * What agents ask of people, over all conversations.
 *
 * @category groups
 * @since 0.1.0
 */
export class Asks extends HttpApiGroup.make("asks")
  .add(
    HttpApiEndpoint.get("list", "/asks", {
      query: { limit, after: cursor, conversationId: Schema.optionalKey(conversationId) },
      success: AskPage,
      error: NotFound
    }).annotateMerge(OpenApi.annotations({
      summary: "List what waits for an answer",
      description: "Oldest first. A page may be short or empty although another one follows."
    })),
    HttpApiEndpoint.post("answer", "/asks/:askId/answer", {
      params: { askId },
      payload: Answer,
      success: TurnJson.Ask,
      error: [Unprocessable, NotFound, TooLate]
    }).middleware(Written).annotateMerge(OpenApi.annotations({
      summary: "Answer an ask",
      description: "The first answer counts. The same answer again succeeds too."
    }))
  )
  .middleware(Authorized)
  .middleware(Readable)
{}

/**
 * Whether the gateway works.
 *
 * @category groups
 * @since 0.1.0
 */
export class Service extends HttpApiGroup.make("service")
  .add(
    HttpApiEndpoint.get("health", "/health", {
      success: Schema.Struct({ status: Schema.Literal("ok") }),
      error: GatewayError.RefusedOrigin
    }).annotateMerge(OpenApi.annotations({
      summary: "Whether the gateway runs",
      description: "Needs no token, and looks at nothing but the process itself."
    })),
    HttpApiEndpoint.get("connection", "/connection", { success: Connection })
      .middleware(Authorized)
      .middleware(Readable)
      .annotateMerge(OpenApi.annotations({
        summary: "Whether the OpenCode server answers",
        description: "Checked at most every 5 seconds."
      })),
    HttpApiEndpoint.post("link", "/link", {
      success: Schema.Struct({ path: Schema.String, expiresMillis: Schema.Finite }).pipe(HttpApiSchema.status(201)),
      error: NotFound
    })
      .middleware(Authorized)
      .middleware(Readable)
      .annotateMerge(OpenApi.annotations({
        summary: "Make a link that signs another browser in",
        description:
          "It works once, for 10 minutes. The path is that of the gateway's own host. 404 where a product checks requests itself."
      }))
  )
{}

/** A route that answers 401 needs a token. The name of the cookie depends on the token, and a browser sends it by itself. */
const withSecurity: OpenApi.Transform["Service"] = (document) => ({
  ...document,
  security: [{ bearer: [] }, { cookie: [], key: [] }],
  components: {
    ...document["components"],
    securitySchemes: {
      bearer: {
        type: "http",
        scheme: "bearer",
        description: "The token of the gateway, or what a product's own check takes."
      },
      cookie: {
        type: "apiKey",
        in: "cookie",
        name: "opencode_turn_…",
        description: "Set by a one-time link of the gateway."
      },
      key: {
        type: "apiKey",
        in: "header",
        name: "x-opencode-turn-key",
        description: "Given to the page by the same link; the cookie opens nothing without it."
      }
    }
  },
  paths: Record.map(decodePaths(document["paths"]), (methods) =>
    Record.map(methods, ({ security, ...operation }) => ({
      ...operation,
      ...(!("401" in operation.responses) && { security })
    })))
})

const decodePaths = Schema.decodeUnknownSync(
  Schema.Record(
    Schema.String,
    Schema.Record(
      Schema.String,
      Schema.StructWithRest(Schema.Struct({ responses: Schema.Record(Schema.String, Schema.Unknown) }), [
        Schema.Record(Schema.String, Schema.Unknown)
      ])
    )
  )
)

/**
 * The whole contract.
 *
 * @category api
 * @since 0.1.0
 */
export class GatewayApi extends HttpApi.make("opencode-turn")
  .add(Turns, Conversations, Asks, Service, AiSdk, AgUi)
  .annotateMerge(OpenApi.annotations({
    title: "opencode-turn gateway",
    version: "1",
    description: "Turns of agents on an OpenCode server: start, follow, answer and stop them.",
    transform: withSecurity
  }))
  // A field that the gateway does not know would otherwise be dropped in silence.
  .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "error" })
{}
