/**
 * The branded ids of a turn, and the choice of a prompt's ids.
 *
 * **Not responsibilities**: which ids a stored message holds (`SessionStore`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"

/**
 * The most characters (UTF-16 units) in an id. Every store can index that many: PostgreSQL takes 2,704 bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxIdLength = 512

/**
 * Says why a text cannot be the id of a conversation or a message; `undefined` if it can. PostgreSQL stores no NUL, and
 * no database stores half a surrogate pair: two ids would become one.
 *
 * @category getters
 * @since 0.1.0
 */
export const idFlaw = (id: string): string | undefined =>
  id === ""
    ? "it is empty"
    : id.length > maxIdLength
    ? `it is longer than ${maxIdLength} characters`
    : id.includes("\0")
    ? "it holds a NUL character"
    : id.isWellFormed()
    ? undefined
    : "it holds half a surrogate pair"

/**
 * A conversation of the product. The caller chooses the id; one OpenCode session belongs to it.
 *
 * @category models
 * @since 0.1.0
 */
export const ConversationId = Schema.NonEmptyString.pipe(Schema.brand("ConversationId"))
/**
 * @category models
 * @since 0.1.0
 */
export type ConversationId = typeof ConversationId.Type

/**
 * An assistant message in the `SessionStore` of the product (not one of OpenCode's messages).
 *
 * @category models
 * @since 0.1.0
 */
export const AssistantMessageId = Schema.NonEmptyString.pipe(Schema.brand("AssistantMessageId"))
/**
 * @category models
 * @since 0.1.0
 */
export type AssistantMessageId = typeof AssistantMessageId.Type

/**
 * An OpenCode session, `ses_…`.
 *
 * @category models
 * @since 0.1.0
 */
export const SessionId = Schema.String.pipe(Schema.brand("SessionId"))
/**
 * @category models
 * @since 0.1.0
 */
export type SessionId = typeof SessionId.Type

/**
 * An OpenCode message, `msg_…`. The id of a turn's user message is called its prompt id.
 *
 * @category models
 * @since 0.1.0
 */
export const MessageId = Schema.String.pipe(Schema.brand("MessageId"))
/**
 * @category models
 * @since 0.1.0
 */
export type MessageId = typeof MessageId.Type

/**
 * A part of an OpenCode message, `prt_…`; stream-only parts have ids of our own.
 *
 * @category models
 * @since 0.1.0
 */
export const PartId = Schema.String.pipe(Schema.brand("PartId"))
/**
 * @category models
 * @since 0.1.0
 */
export type PartId = typeof PartId.Type

/**
 * An open question (`que_…`) or permission (`per_…`) of the server.
 *
 * @category models
 * @since 0.1.0
 */
export const AskId = Schema.String.pipe(Schema.brand("AskId"))
/**
 * @category models
 * @since 0.1.0
 */
export type AskId = typeof AskId.Type

/**
 * The ids of one prompt. A repost uses the same ids.
 *
 * @category models
 * @since 0.1.0
 */
export const PromptIds = Schema.Struct({
  promptId: MessageId,
  partIds: Schema.Array(PartId)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface PromptIds extends Schema.Schema.Type<typeof PromptIds> {}

/**
 * The lower bound for the ids of the next prompt: the newest message of the session. If no message is known, it is the
 * time of the session's last change, by the server's clock (milliseconds since the epoch).
 *
 * @category models
 * @since 0.1.0
 */
export interface IdFloor {
  readonly newestMessageId: MessageId | undefined
  readonly sessionUpdatedMillis: number
}

/**
 * Chooses the ids of a prompt with `partCount` parts.
 *
 * **Details**
 *
 * OpenCode 1.x sorts messages by id: 12 hex digits (milliseconds × 4096 + counter, low 48 bits) and 14 base62
 * characters. A clock ahead of the server's would give an id that sorts after its own answer. The local clock is
 * therefore not used: the next id is the smallest one that sorts after the session's messages.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makePromptIds = Effect.fnUntraced(function*(floor: IdFloor, partCount: number) {
  const after = floor.newestMessageId === undefined ? undefined : timeBits(floor.newestMessageId)
  const next = ((after ?? BigInt(Math.max(0, Math.trunc(floor.sessionUpdatedMillis))) * ticksPerMilli) + 1n) & lowBits
  const prefix = next.toString(16).padStart(12, "0")
  const promptId = MessageId.make(`msg_${prefix}${yield* randomBase62(suffixLength)}`)
  // Parts sort by id within their message, so they share one random suffix and count up in its last three characters.
  const suffix = yield* randomBase62(suffixLength - 3)
  const partIds = Array.from(
    { length: partCount },
    (_, index) => PartId.make(`prt_${prefix}${suffix}${base62(index).padStart(3, "0")}`)
  )
  return { promptId, partIds } satisfies PromptIds
})

/**
 * Makes an id for an object of the product, such as a stored assistant message: `prefix_` and 22 random base62
 * characters (130 bits).
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeId = (prefix: string): Effect.Effect<string> =>
  Effect.map(randomBase62(22), (random) => `${prefix}_${random}`)

// internal

const ticksPerMilli = 4096n
const lowBits = (1n << 48n) - 1n
const suffixLength = 14
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

const timeBits = (id: MessageId): bigint | undefined => {
  const hex = /^msg_([0-9a-f]{12})/.exec(id)?.[1]
  return hex === undefined ? undefined : BigInt(`0x${hex}`)
}

const base62 = (value: number): string =>
  value < 62 ? alphabet.charAt(value) : base62(Math.floor(value / 62)) + alphabet.charAt(value % 62)

const randomBase62 = (length: number): Effect.Effect<string> =>
  Effect.map(
    Effect.replicateEffect(Random.nextIntBetween(0, alphabet.length, { halfOpen: true }), length),
    (digits) => digits.map((digit) => alphabet.charAt(digit)).join("")
  )
