/**
 * Ids, amounts and diffs as every line of OpenCode writes them.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { maxIdLength, MessageId as AnyMessageId, SessionId as AnySessionId } from "../domain/Ids.ts"
import type { FileDiff } from "../domain/Part.ts"
import * as Usage from "../domain/Usage.ts"
import { Json, maybe } from "./Lenient.ts"

/**
 * The store keeps the server's ids, and paths contain them. A text is therefore no id if it is longer than {@link
 * maxIdLength}, or holds blanks, control characters, lone surrogates or characters with a meaning in a path. The server
 * itself checks the first letters (1.18.33).
 *
 * @category checks
 * @since 0.1.0
 */
export const isId = (first: string) =>
  Schema.isPattern(new RegExp(`^(?:${first})[^\\p{C}\\s/\\\\?#%]{0,${maxIdLength - 3}}$`, "u"), {
    expected: "an id"
  })

/**
 * The id of a message.
 *
 * @category schemas
 * @since 0.1.0
 */
export const MessageId = AnyMessageId.check(isId("msg"))
/**
 * @category models
 * @since 0.1.0
 */
export type MessageId = AnyMessageId
/**
 * @category schemas
 * @since 0.1.0
 */
export const SessionId = AnySessionId.check(isId("ses"))
/**
 * @category models
 * @since 0.1.0
 */
export type SessionId = AnySessionId

/**
 * The model's provider chooses the call ids, so any text is valid. A longer one could not be kept for each part.
 *
 * @category schemas
 * @since 0.1.0
 */
export const CallId = Schema.String.check(Schema.isMaxLength(maxIdLength))

/**
 * The name of an agent, a provider or a model. Spans and metrics carry it.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Name = Schema.String.check(Schema.isMaxLength(maxIdLength))

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireTokens = Schema.Struct({
  input: maybe(Schema.Finite),
  output: maybe(Schema.Finite),
  reasoning: maybe(Schema.Finite),
  cache: maybe(Schema.Struct({ read: maybe(Schema.Finite), write: maybe(Schema.Finite) }))
})

/**
 * The fields of a session that mean the same on each line.
 *
 * @category schemas
 * @since 0.1.0
 */
export const sessionFields = {
  parentID: maybe(SessionId),
  title: maybe(Schema.String),
  cost: maybe(Schema.Finite),
  tokens: maybe(WireTokens),
  metadata: maybe(Json),
  revert: maybe(Schema.Struct({ messageID: maybe(MessageId) })),
  time: maybe(Schema.Struct({ created: maybe(Schema.Finite), updated: maybe(Schema.Finite) }))
}

/**
 * Cost and tokens of the domain.
 *
 * @category translations
 * @since 0.1.0
 */
export const toUsage = (cost = 0, tokens: typeof WireTokens.Type = {}): Usage.Usage => ({
  cost: Usage.amount(cost),
  tokens: {
    input: Usage.amount(tokens.input ?? 0),
    output: Usage.amount(tokens.output ?? 0),
    reasoning: Usage.amount(tokens.reasoning ?? 0),
    cacheRead: Usage.amount(tokens.cache?.read ?? 0),
    cacheWrite: Usage.amount(tokens.cache?.write ?? 0)
  }
})

/**
 * @category schemas
 * @since 0.1.0
 */
export const WireDiff = Schema.Struct({
  file: Schema.String,
  additions: maybe(Schema.Finite),
  deletions: maybe(Schema.Finite),
  status: maybe(Schema.String)
})

/**
 * A file of a diff.
 *
 * @category translations
 * @since 0.1.0
 */
export const toDiff = ({ additions, deletions, file, status }: typeof WireDiff.Type): FileDiff => ({
  path: file,
  change: status === "added" || status === "deleted" || status === "modified" ? status : "unknown",
  additions: additions ?? 0,
  deletions: deletions ?? 0
})
