/**
 * What an agent asks a person: a question, or a permission. And the answers.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { AskId, MessageId, SessionId } from "./Ids.ts"

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
 * A request for permission: `permission` is the kind (`bash`, `edit`, …), `patterns` what it is for (the command, the
 * path), `always` the patterns that the answer `always` would allow from then on.
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
export const QuestionAnswers = Schema.Array(Schema.Array(Schema.String))
/**
 * @category models
 * @since 0.1.0
 */
export type QuestionAnswers = typeof QuestionAnswers.Type

/**
 * An answer to an {@link Ask}. `Reject` refuses a permission, with a message for the model where there is one, or dismisses a
 * question. `Skip` leaves it open for somebody else.
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
 * An answer that does not fit what was asked.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidAnswer extends Schema.TaggedError<InvalidAnswer>()("InvalidAnswer", {
  askId: AskId,
  reason: Schema.String
}) {
  override get message() {
    return `the answer does not fit request ${this.askId}: ${this.reason}`
  }
}

/**
 * What is wrong with an answer, if anything is. It may come from a form or a message queue: its shape is looked at first.
 *
 * **Details**
 *
 * The server itself takes any lists of texts (1.18.33). A question may be left unanswered: its list is empty then, and the model
 * is told so.
 *
 * @category getters
 * @since 0.1.0
 */
export const checkAnswer = (ask: Ask, answer: unknown): string | undefined => {
  if (!isAnswer(answer)) return "it is none of Answers, Permission, Reject and Skip, or not whole"
  switch (answer._tag) {
    case "Reject":
    case "Skip":
      return undefined
    case "Permission":
      return ask._tag === "Permission" ? undefined : "a permission was given to a question"
    case "Answers":
      return ask._tag === "Question" ? checkAnswers(ask.questions, answer.answers) : "a permission takes no answers"
  }
}

/**
 * One rule. `permission` is the pattern of the kinds of permission that it is about (`bash`, `edit`, `*`, …), `pattern` that of
 * what they are asked for (the command, the path).
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
    return `questions and answers have to be as many: ${questions.length} of them were asked, ${answers.length} answered`
  }
  for (const [index, { custom, multiple, options }] of questions.entries()) {
    const chosen = answers[index] ?? []
    const question = `question ${index + 1}`
    if (chosen.includes("")) return `an answer to ${question} is empty; leave the list empty to give none`
    if (!multiple && chosen.length > 1) return `${question} takes one answer`
    const isOffered = (label: string) => options.some((option) => option.label === label)
    if (!custom && !chosen.every(isOffered)) return `${question} takes only the labels of its options`
  }
  return undefined
}
