/**
 * The identities of a turn, and the choice of the ids of a prompt.
 *
 * Owns: the branded ids and {@link makePromptIds}. Does not own: which ids a stored message holds (`SessionStore`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"

/**
 * The most characters (UTF-16 units) that an id may have. Any store can index so many: PostgreSQL takes 2,704 bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxIdLength = 512

/**
 * Why a text can be no id of a conversation or a message, in words; `undefined` for one that can. PostgreSQL keeps no NUL, and no
 * database keeps half a surrogate pair: two ids would become one.
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
 * A conversation of the product, chosen by the caller; one OpenCode session belongs to it.
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
 * An assistant message in the {@link SessionStore} of the product (not one of OpenCode's messages).
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
 * A question (`que_…`) or a permission request (`per_…`) that waits for an answer.
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
 * The ids under which one prompt is posted, however often it is posted.
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
 * What the ids of the next prompt must sort after: the newest message of the session, or, where none is known, the time at
 * which the session last changed, by the server's clock (milliseconds since the epoch).
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
 * characters. An id made from a clock ahead of the server's would sort after its own answer, so the local clock is not
 * asked at all: the next id is the smallest one that sorts after what the session already has.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makePromptIds = Effect.fnUntraced(function*(floor: IdFloor, partCount: number) {
  const after = floor.newestMessageId === undefined ? undefined : timeBits(floor.newestMessageId)
  const next = ((after ?? BigInt(Math.max(0, Math.trunc(floor.sessionUpdatedMillis))) * ticksPerMilli) + 1n) & lowBits
  const prefix = next.toString(16).padStart(12, "0")
  const promptId = MessageId.make(`msg_${prefix}${yield* randomBase62(suffixLength)}`)
  // Parts sort by id within their message; one random suffix for all, with the position in its last three characters.
  const suffix = yield* randomBase62(suffixLength - 3)
  const partIds = Array.from(
    { length: partCount },
    (_, index) => PartId.make(`prt_${prefix}${suffix}${base62(index).padStart(3, "0")}`)
  )
  return { promptId, partIds } satisfies PromptIds
})

/**
 * Makes an id for something of the product's own, for example a stored assistant message: `prefix_` and 22 random
 * base62 characters (130 bits).
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
