/**
 * Something that a session of a turn waited for: a person, or the next try of its model.
 *
 * Times are milliseconds since the epoch by the server's clock, as those of its tools are. A wait without an end goes on, or its turn ended
 * first.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { AskingTool } from "./Ask.ts"
import { AskId, SessionId } from "./Ids.ts"

/**
 * A wait for a person. `name` is the kind of the permission, or `question`; `tool` is the call that waits.
 *
 * @category models
 * @since 0.1.0
 */
export const AskWait = Schema.Struct({
  type: Schema.Literal("ask"),
  id: AskId,
  sessionId: SessionId,
  kind: Schema.Literals(["permission", "question"]),
  name: Schema.String,
  tool: Schema.optionalKey(AskingTool),
  fromMillis: Schema.Finite,
  toMillis: Schema.NullOr(Schema.Finite)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface AskWait extends Schema.Schema.Type<typeof AskWait> {}

/**
 * A wait for the next try of the model. `message` says why the last one failed, and `nextMillis` when the next one is to begin.
 *
 * @category models
 * @since 0.1.0
 */
export const RetryWait = Schema.Struct({
  type: Schema.Literal("retry"),
  sessionId: SessionId,
  attempt: Schema.Finite,
  message: Schema.String,
  nextMillis: Schema.Finite,
  fromMillis: Schema.Finite,
  toMillis: Schema.NullOr(Schema.Finite)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface RetryWait extends Schema.Schema.Type<typeof RetryWait> {}

/**
 * @category models
 * @since 0.1.0
 */
export const Wait = Schema.Union([AskWait, RetryWait]).annotate({ identifier: "Wait" })
/**
 * @category models
 * @since 0.1.0
 */
export type Wait = typeof Wait.Type

/**
 * What tells a wait from the others of its turn.
 *
 * @category getters
 * @since 0.1.0
 */
export const keyOf = (wait: Wait): string =>
  wait.type === "ask" ? `ask ${wait.id}` : `retry ${wait.sessionId} ${wait.fromMillis}`
