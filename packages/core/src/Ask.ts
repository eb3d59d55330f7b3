/**
 * What an agent asks a person: a question, or a permission. And the answers.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { MessageId, RequestId, SessionId } from "./Ids.ts"

/**
 * The tool call on whose behalf something is asked.
 *
 * @category models
 * @since 0.1.0
 */
export const AskingTool = Schema.Struct({ messageId: MessageId, callId: Schema.String })
/**
 * @category models
 * @since 0.1.0
 */
export interface AskingTool extends Schema.Schema.Type<typeof AskingTool> {}

/**
 * One question of a question request. Without `multiple` one label is chosen; with `custom` free text is allowed too.
 *
 * @category models
 * @since 0.1.0
 */
export const Question = Schema.Struct({
  question: Schema.String,
  header: Schema.String,
  options: Schema.Array(Schema.Struct({ label: Schema.String, description: Schema.String })),
  multiple: Schema.Boolean,
  custom: Schema.Boolean
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Question extends Schema.Schema.Type<typeof Question> {}

/**
 * A request that one or more questions be answered. `sessionId` is the session that asks: the root or a subagent's.
 *
 * @category models
 * @since 0.1.0
 */
export const QuestionAsk = Schema.Struct({
  _tag: Schema.tag("Question"),
  id: RequestId,
  sessionId: SessionId,
  questions: Schema.Array(Question),
  tool: Schema.optionalKey(AskingTool)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface QuestionAsk extends Schema.Schema.Type<typeof QuestionAsk> {}

/**
 * A request for permission: `permission` is the kind (`bash`, `edit`, …), `patterns` what it is for (the command, the
 * path), `always` the patterns that the answer `always` would allow from then on.
 *
 * @category models
 * @since 0.1.0
 */
export const PermissionAsk = Schema.Struct({
  _tag: Schema.tag("Permission"),
  id: RequestId,
  sessionId: SessionId,
  permission: Schema.String,
  patterns: Schema.Array(Schema.String),
  always: Schema.Array(Schema.String),
  metadata: Schema.Record(Schema.String, Schema.Unknown),
  tool: Schema.optionalKey(AskingTool)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface PermissionAsk extends Schema.Schema.Type<typeof PermissionAsk> {}

/**
 * Something that waits for a person.
 *
 * @category models
 * @since 0.1.0
 */
export const Ask = Schema.Union([QuestionAsk, PermissionAsk])
/**
 * @category models
 * @since 0.1.0
 */
export type Ask = typeof Ask.Type

/**
 * The answer to a permission request. `message` is given to the model with a rejection.
 *
 * @category models
 * @since 0.1.0
 */
export const PermissionReply = Schema.Struct({
  reply: Schema.Literals(["once", "always", "reject"]),
  message: Schema.optionalKey(Schema.String)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface PermissionReply extends Schema.Schema.Type<typeof PermissionReply> {}

/**
 * The answers to a question request, one list of labels or free texts for each question.
 *
 * @category models
 * @since 0.1.0
 */
export type QuestionAnswers = ReadonlyArray<ReadonlyArray<string>>

/**
 * An answer to an {@link Ask}. `Skip` leaves it open for somebody else.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer =
  | { readonly _tag: "Answers"; readonly answers: QuestionAnswers }
  | { readonly _tag: "Permission"; readonly reply: PermissionReply }
  | { readonly _tag: "Reject"; readonly message?: string }
  | { readonly _tag: "Skip" }
