/**
 * What the routes of the contract have in common: what stands before them, the ids in their paths, their lists and events.
 *
 * @since 0.1.0
 */
import { AskId, AssistantMessageId, ConversationId, idFlaw } from "@opencode-turn/core/Ids"
import * as Effect from "effect/Effect"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as Schema from "effect/Schema"
import * as GatewayError from "./GatewayError.ts"
import type { CurrentUser } from "./User.ts"

/**
 * Finds the user of a request, and refuses it where there is none.
 *
 * @category middleware
 * @since 0.1.0
 */
export class Authorized extends HttpApiMiddleware.Service<Authorized, { provides: CurrentUser }>()(
  "@opencode-turn/platform-node/gateway/Authorized",
  {
    error: [
      GatewayError.Unauthorized,
      GatewayError.RefusedOrigin,
      GatewayError.TooMany,
      GatewayError.InternalError,
      GatewayError.Unavailable
    ]
  }
) {}

/**
 * Says what is wrong with a request that does not fit its schema.
 *
 * @category middleware
 * @since 0.1.0
 */
export class Readable extends HttpApiMiddleware.Service<Readable>()("@opencode-turn/platform-node/gateway/Readable", {
  error: GatewayError.InvalidRequest
}) {}

/**
 * Reads the body of a request, and refuses one that is too large.
 *
 * @category middleware
 * @since 0.1.0
 */
export class Written extends HttpApiMiddleware.Service<Written>()("@opencode-turn/platform-node/gateway/Written", {
  error: [GatewayError.BodyTooLarge, GatewayError.UnsupportedMediaType, GatewayError.InvalidRequest]
}) {}

const id = <S extends Schema.Codec<string, string>>(schema: S) =>
  Schema.String.check(Schema.makeFilter((text) => idFlaw(text))).pipe(Schema.decodeTo(schema))

/**
 * A name in a request: of an agent, a model, a type. OpenCode's own are shorter by far.
 *
 * @category models
 * @since 0.1.0
 */
export const name = Schema.String.check(Schema.isMaxLength(255))

/**
 * What a client may choose besides the prompt.
 *
 * @category models
 * @since 0.1.0
 */
export const choices = {
  agent: Schema.optionalKey(name),
  model: Schema.optionalKey(name),
  variant: Schema.optionalKey(name),
  title: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(1_024)))
}

/**
 * The name of a server-sent event, which is never written: without one it is `message`.
 *
 * @category models
 * @since 0.1.0
 */
export const messageEvent = Schema.Literal("message").pipe(
  Schema.withDecodingDefaultKey(Effect.succeed("message" as const), { encodingStrategy: "omit" })
)

/**
 * An event whose data is a text that another protocol defines.
 *
 * @category models
 * @since 0.1.0
 */
export const textEvent = Schema.Struct({ event: messageEvent, data: Schema.String })

/**
 * How many items of a list are asked for.
 *
 * @category models
 * @since 0.1.0
 */
export const limit = Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100 })))

/**
 * A page of a list. `next` leads to the one behind it.
 *
 * @category models
 * @since 0.1.0
 */
export const page = <S extends Schema.Constraint>(name: string, item: S) =>
  Schema.Struct({ items: Schema.Array(item), next: Schema.NullOr(Schema.String) }).annotate({ identifier: name })

/**
 * The id of a turn in a request.
 *
 * @category models
 * @since 0.1.0
 */
export const messageId = id(AssistantMessageId)

/**
 * The id of a conversation in a request.
 *
 * @category models
 * @since 0.1.0
 */
export const conversationId = id(ConversationId)

/**
 * The id of an ask in a request.
 *
 * @category models
 * @since 0.1.0
 */
export const askId = id(AskId)
