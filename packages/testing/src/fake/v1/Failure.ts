/**
 * The failures of a turn of the fake OpenCode 1.x, with the texts of 1.18.33.
 *
 * @since 0.1.0
 */
import type { Failure as ScriptedFailure } from "../../model/ModelScript.ts"
import { messageOf } from "../Failure.ts"
import type { Failure, Format, ModelRef } from "./Wire.ts"

/**
 * @category constants
 * @since 0.1.0
 */
export const aborted: Failure = { name: "MessageAbortedError", data: { message: "Aborted" } }

/**
 * @category constants
 * @since 0.1.0
 */
export const contentFilter: Failure = {
  name: "ContentFilterError",
  data: { message: "The response was blocked by the provider's content filter" }
}

/**
 * An answer without the tool that the format requires. The server does not retry, whatever `retryCount` says.
 *
 * @category constants
 * @since 0.1.0
 */
export const notStructured: Failure = {
  name: "StructuredOutputError",
  data: { message: "Model did not produce structured output", retries: 0 }
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const unknownError = (message: string): Failure => ({ name: "UnknownError", data: { message } })

/**
 * @category constructors
 * @since 0.1.0
 */
export const unknownModel = ({ modelID, providerID }: ModelRef): Failure =>
  unknownError(`Model not found: ${providerID}/${modelID}.`)

/**
 * @category constructors
 * @since 0.1.0
 */
export const unknownAgent = (agent: string, available: ReadonlyArray<string>): Failure =>
  unknownError(`Agent not found: "${agent}". Available agents: ${available.join(", ")}`)

/**
 * The report of an unhandled failure: its name and message, followed by a stack.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unhandled = (report: string): Failure => unknownError(`${report}\n    at <anonymous> (fake.js:1:1)`)

/**
 * The server's error for a format that it stored and cannot read again. `at` is the path of the message.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unreadableFormat = (format: Format | undefined, at = ""): string => {
  const name = format?.type === "text" ? "OutputFormatText" : "OutputFormatJsonSchema"
  return `Expected ${name}, got ${JSON.stringify(format)}\n  at ${at}["info"]["format"]`
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const contextOverflow = (message: string): Failure => ({
  name: "ContextOverflowError",
  data: { message, responseBody: responseBody(message) }
})

/**
 * A failure of the provider that is not retried.
 *
 * @category constructors
 * @since 0.1.0
 */
export const api = (failure: ScriptedFailure): Failure => {
  const body = responseBody(messageOf(failure))
  return {
    name: "APIError",
    data: {
      message: messageOf(failure),
      statusCode: failure.fail,
      isRetryable: false,
      responseHeaders: { "content-type": "application/json", ...failure.headers },
      responseBody: body,
      metadata: { url: "http://fake/v1/chat/completions" }
    }
  }
}

/**
 * Whether the server compacts the session and continues.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isOverflow = (failure: ScriptedFailure): boolean =>
  failure.fail === 413 || /context_length_exceeded|prompt is too long/i.test(messageOf(failure))

// internal

const responseBody = (message: string): string => JSON.stringify({ error: { message, type: "scripted_failure" } })
