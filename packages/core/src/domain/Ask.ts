/**
 * What an agent asks a person, a question or a permission, and the answers to it.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { AskId, MessageId, SessionId } from "./Ids.ts"

/**
 * The tool call that needs the answer.
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
 * One question of a {@link QuestionAsk}. Without `multiple` the person chooses one label; with `custom` they may also
 * write free text.
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
 * An ask for answers to one or more questions. `sessionId` is the session that asks: the root or a subagent's.
 *
 * @category models
 * @since 0.1.0
 */
export const QuestionAsk = Schema.Struct({
  _tag: Schema.tag("Question"),
  id: AskId,
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
 * An ask for a permission. `permission` is its kind (`bash`, `edit`, …), `patterns` are the commands or paths that it
 * covers, and `always` are the patterns that the reply `always` would allow from then on.
 *
 * @category models
 * @since 0.1.0
 */
export const PermissionAsk = Schema.Struct({
  _tag: Schema.tag("Permission"),
  id: AskId,
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
 * A question or a permission that waits for a person.
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
 * The answer to a permission. The model reads `message` when the permission is rejected.
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
 * The answers to a {@link QuestionAsk}: one list of labels or free texts for each question.
 *
 * @category models
 * @since 0.1.0
 */
export const QuestionAnswers = Schema.Array(Schema.Array(Schema.String))
/**
 * @category models
 * @since 0.1.0
 */
export type QuestionAnswers = typeof QuestionAnswers.Type

/**
 * An answer to an {@link Ask}. `Reject` refuses a permission, with an optional message for the model, or dismisses a
 * question. `Skip` leaves the ask open for another client.
 *
 * @category models
 * @since 0.1.0
 */
export const Answer = Schema.Union([
  Schema.Struct({ _tag: Schema.tag("Answers"), answers: QuestionAnswers }),
  Schema.Struct({ _tag: Schema.tag("Permission"), reply: PermissionReply }),
  Schema.Struct({ _tag: Schema.tag("Reject"), message: Schema.optionalKey(Schema.String) }),
  Schema.Struct({ _tag: Schema.tag("Skip") })
])
/**
 * @category models
 * @since 0.1.0
 */
export type Answer = typeof Answer.Type

/**
 * An answer that does not fit its ask.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidAnswer extends Schema.TaggedError<InvalidAnswer>()("InvalidAnswer", {
  askId: AskId,
  reason: Schema.String
}) {
  override get message() {
    return `the answer does not fit ask ${this.askId}: ${this.reason}`
  }
}

/**
 * Says why an answer does not fit its ask, or `undefined` if it fits. The answer may come from a form or a message
 * queue, so its shape is checked first.
 *
 * **Details**
 *
 * The server itself accepts any lists of texts (1.18.33). An empty list leaves its question unanswered, and the server
 * tells the model so.
 *
 * @category getters
 * @since 0.1.0
 */
export const checkAnswer = (ask: Ask, answer: unknown): string | undefined => {
  if (!isAnswer(answer)) return "expected Answers, Permission, Reject or Skip with all its fields"
  switch (answer._tag) {
    case "Reject":
    case "Skip":
      return undefined
    case "Permission":
      return ask._tag === "Permission" ? undefined : "expected Answers, got Permission"
    case "Answers":
      return ask._tag === "Question" ? checkAnswers(ask.questions, answer.answers) : "expected Permission, got Answers"
  }
}

/**
 * One rule. `permission` is a pattern that matches kinds of permission (`bash`, `edit`, `*`, …). `pattern` matches the
 * command or the path.
 *
 * @category models
 * @since 0.1.0
 */
export const PermissionRule = Schema.Struct({
  permission: Schema.String,
  pattern: Schema.String,
  action: Schema.Literals(["allow", "ask", "deny"])
})
/**
 * @category models
 * @since 0.1.0
 */
export interface PermissionRule extends Schema.Schema.Type<typeof PermissionRule> {}

// internal

const isAnswer = Schema.is(Answer)

const checkAnswers = (questions: ReadonlyArray<Question>, answers: QuestionAnswers): string | undefined => {
  if (answers.length !== questions.length) {
    return `expected ${questions.length} ${questions.length === 1 ? "answer" : "answers"}, got ${answers.length}`
  }
  for (const [index, { custom, multiple, options }] of questions.entries()) {
    const chosen = answers[index] ?? []
    const question = `question ${index + 1}`
    if (chosen.includes("")) return `an answer to ${question} is empty; use an empty list to leave it unanswered`
    if (!multiple && chosen.length > 1) return `${question} accepts one answer`
    const isOffered = (label: string) => options.some((option) => option.label === label)
    if (!custom && !chosen.every(isOffered)) return `${question} accepts only the labels of its options`
  }
  return undefined
}
