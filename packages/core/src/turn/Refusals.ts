/**
 * The refusals that stopped an agent: what was refused, whether the model may be told to go on, and in which words.
 *
 * The reasons come from the gate that refused, and from the server's record, which keeps that of the first permission only (1.18.33), or
 * none (2.x).
 *
 * @since 0.1.0
 */
import type { Ask } from "../domain/Ask.ts"
import type { ToolPart, WirePart } from "../domain/Part.ts"
import type { Refusal } from "../domain/TurnError.ts"
import type * as AnswerAsks from "../drive/AnswerAsks.ts"
import * as Exchange from "../reply/Exchange.ts"

/**
 * A refusal that the gate of this process gave. Without `reason` somebody simply said no.
 *
 * @category models
 * @since 0.1.0
 */
export type Given = AnswerAsks.GivenRefusal

/**
 * What was refused in the last step of an exchange, in the order of its tool calls.
 *
 * @category getters
 * @since 0.1.0
 */
export const of = (exchange: Exchange.Exchange, given: ReadonlyArray<Given>): ReadonlyArray<Refusal> => {
  const byCall = byCallOf(given)
  return refusedParts(exchange, byCall).map((part) => {
    const refusal = byCall.get(callOf(part))
    const reason = refusal?.reason ?? part.refusal
    return {
      tool: part.tool,
      asked: (refusal === undefined ? inputText(part) : askText(refusal.ask)).slice(0, maxLength),
      ...(reason !== undefined && reason !== "" && { reason })
    }
  })
}

/**
 * Whether the agent may be told to go on: somebody gave a reason, and nobody whom this process asked simply said no. A refusal that
 * nobody gave was the server's: it rejects the other permissions of a session with the first one.
 *
 * @category predicates
 * @since 0.1.0
 */
export const areExplained = (exchange: Exchange.Exchange, given: ReadonlyArray<Given>): boolean => {
  const byCall = byCallOf(given)
  const parts = refusedParts(exchange, byCall)
  const isExplained = ({ reason }: Given) => reason !== undefined && reason !== ""
  const own = parts.flatMap((part) => byCall.get(callOf(part)) ?? [])
  return own.every(isExplained) && (own.length > 0 || parts.some(({ refusal = "" }) => refusal !== ""))
}

/**
 * Tells the agent what was refused and why.
 *
 * @category constructors
 * @since 0.1.0
 */
export const prompt = (refusals: ReadonlyArray<Refusal>): string =>
  [
    "You were stopped, because these tool calls were refused:",
    ...refusals.map(({ asked, reason, tool }) =>
      `- ${tool}${asked === "" ? "" : ` (${asked})`}: ${
        reason ?? "It was refused only together with the others. You may call it again if you still need it."
      }`
    ),
    "Every other tool call has run. Go on with the task: do without what was refused, or say what you would need."
  ].join("\n")

// internal

/** Longer texts are cut, because they go to the model and into an error message. */
const maxLength = 200

type ByCall = ReadonlyMap<string, Given>

/** 2.x does not record that a call was refused with a message, so that the gate's own word counts as well (0.0.0-next-16350). */
const refusedParts = (exchange: Exchange.Exchange, byCall: ByCall): ReadonlyArray<ToolPart> =>
  (Exchange.lastStep(exchange)?.parts ?? []).filter(isTool).filter((part) =>
    part.isRefused === true || part.refusal !== undefined || (part.status === "error" && byCall.has(callOf(part)))
  )

const isTool = (part: WirePart): part is ToolPart => part.type === "tool"

/** The id of a call is unique in its message only (2.x). */
const callOf = ({ callId, messageId }: Pick<ToolPart, "callId" | "messageId">): string => `${messageId} ${callId}`

/** The last refusal of each call. */
const byCallOf = (given: ReadonlyArray<Given>): ByCall =>
  new Map(given.flatMap((refusal) => refusal.ask.tool === undefined ? [] : [[callOf(refusal.ask.tool), refusal]]))

const askText = (ask: Ask): string =>
  ask._tag === "Question" ? ask.questions.map(({ question }) => question).join(" ") : ask.patterns.join(", ")

/** This process was not asked about the call, so the arguments of the call say what it was to do. */
const inputText = ({ input }: ToolPart): string => {
  const { command } = input
  return typeof command === "string" ? command : JSON.stringify(input)
}
