/**
 * What goes wrong in a turn of the fake OpenCode, in the words of 1.18.33.
 *
 * @since 0.1.0
 */
import type { Failure as ScriptedFailure } from "../../model/ModelScript.ts"
import type { Failure, Format, ModelRef } from "../state/Wire.ts"

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
 * An answer without the tool that a format asks for. The server does not ask again, whatever `retryCount` says.
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
 * The report of a failure that nobody handled: its name and message, and a stack behind them.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unhandled = (report: string): Failure => unknownError(`${report}\n    at <anonymous> (fake.js:1:1)`)

/**
 * What the server says of a format that it stored and cannot read again. `at` is where the message is.
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
 * A provider's answer that is not worth another try.
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
 * What a provider says about a scripted failure.
 *
 * @category getters
 * @since 0.1.0
 */
export const messageOf = ({ fail, message }: ScriptedFailure): string => message ?? `scripted failure ${fail}`

/**
 * Whether the server compacts the session and goes on.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isOverflow = (failure: ScriptedFailure): boolean =>
  failure.fail === 413 || /context_length_exceeded|prompt is too long/i.test(messageOf(failure))

/**
 * Whether the server asks the provider again.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isRetryable = ({ fail }: ScriptedFailure): boolean =>
  fail === 408 || fail === 409 || fail === 429 || fail >= 500

/**
 * How long it waits: as long as the provider says, else 2 s, 4 s, 8 s, at most 30 s.
 *
 * @category getters
 * @since 0.1.0
 */
export const retryMillis = (headers: Readonly<Record<string, string>> | undefined, attempt: number): number => {
  const millis = Number(headers?.["retry-after-ms"])
  if (Number.isFinite(millis)) return millis
  const seconds = Number(headers?.["retry-after"])
  return Number.isFinite(seconds) ? seconds * 1000 : Math.min(2000 * 2 ** (attempt - 1), 30_000)
}

// internal

const responseBody = (message: string): string => JSON.stringify({ error: { message, type: "scripted_failure" } })
