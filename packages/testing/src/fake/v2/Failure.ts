/**
 * The failures of a run of the fake OpenCode 2.x, with the texts of the beta (0.0.0-next-16350).
 *
 * @since 0.1.0
 */
import type { Failure as ScriptedFailure } from "../../model/ModelScript.ts"
import { messageOf } from "../Failure.ts"
import type { Failure, ModelRef } from "./Wire.ts"

/** A step that was stopped. */
export const stepInterrupted: Failure = { type: "aborted", message: "Step interrupted" }

/** A tool call that was stopped. */
export const toolInterrupted: Failure = { type: "aborted", message: "Tool execution interrupted" }

/** A tool call that a crash had stopped, as the next run of the session marks it. */
export const toolLost = (name: string): Failure => ({ type: "aborted", message: `Tool execution interrupted: ${name}` })

/** A permission that a person refused without a message. */
export const declined: Failure = { type: "aborted", message: "The user declined this tool call" }

/** A question that a person cancelled. */
export const dismissed: Failure = { type: "aborted", message: "The user dismissed this question" }

/** A tool that failed by itself. */
export const execution = (message: string): Failure => ({ type: "tool.execution", message })

export const unknownModel = ({ id, providerID }: ModelRef): Failure => ({
  type: "provider.no-route",
  message: `Model unavailable: ${providerID}/${id}`
})

export const brokenModel = ({ id, providerID }: ModelRef): Failure => ({
  type: "provider.no-route",
  message: `Unsupported package for ${providerID}/${id}: none`
})

export const unknownVariant = ({ id, providerID, variant = "" }: ModelRef): Failure => ({
  type: "provider.no-route",
  message: `Variant unavailable for ${providerID}/${id}: ${variant}`
})

export const unknownAgent = (name: string): Failure => ({ type: "unknown", message: `Agent not found: "${name}"` })

/** A failure of the model's provider. */
export const provider = (failure: ScriptedFailure): Failure => ({
  type: failure.fail === 429
    ? "provider.rate-limit"
    : failure.fail >= 500
    ? "provider.internal"
    : failure.fail === 401 || failure.fail === 403
    ? "provider.auth"
    : "provider.invalid-request",
  message: `Provider request failed with HTTP ${failure.fail}: ${
    JSON.stringify({ error: { message: messageOf(failure), type: "scripted_failure" } })
  }`
})

/**
 * Whether the provider refuses a prompt because it is too large, so that the server summarises the session: the beta knows it by the words of
 * the refusal.
 */
export const isOverflow = (failure: ScriptedFailure): boolean =>
  failure.fail < 500 && !/rate limit|too many requests/i.test(messageOf(failure)) && overflow.test(messageOf(failure))

export const contentFilter: Failure = { type: "provider.content-filter", message: "Provider blocked the response" }

/** A call that a rule denied. */
export const denied = (action: string): Failure => ({
  type: "permission.rejected",
  message: `Permission denied: ${action}`
})

/** How a tool reports that the run of its subagent failed. */
export const subagentFailed = ({ message, type }: Failure): Failure =>
  execution(
    type.startsWith("provider.") && type !== contentFilter.type ? `RequestExecutor.execute: ${message}` : message
  )

/** The connection to the provider broke before the first word of an answer. */
export const unconnected: Failure = { type: "provider.transport", message: "HTTP transport failed" }

/** The connection to the provider broke in the middle of an answer. The server does not try again. */
export const cut: Failure = {
  type: "provider.invalid-output",
  message: "Failed to read scripted/openai-compatible-chat stream"
}

const overflow =
  /prompt(?: is)? too long|context[ _](?:length|window)|(?:maximum|exceeds) .*context|maximum prompt length|too many tokens|token limit exceeded|request(?: entity|_) ?too[ _]large|reduce the length of the messages/i

/** How many times the server calls the model for one step, before it gives up. */
export const maxCalls = 5
