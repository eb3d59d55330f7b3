/**
 * What a model's provider, or OpenCode on its behalf, reported as the error of a step.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * An upstream error, with what a product needs to tell its user. Response bodies and headers are left out on purpose:
 * providers echo keys in them.
 *
 * **Details**
 *
 * `name` is OpenCode's: `APIError`, `ProviderAuthError`, `ContextOverflowError`, `MessageAbortedError`,
 * `StructuredOutputError`, `UnknownError`, … `url` has no query string.
 *
 * @category models
 * @since 0.1.0
 */
export const UpstreamFailure = Schema.Struct({
  name: Schema.String,
  message: Schema.String,
  statusCode: Schema.optionalKey(Schema.Finite),
  isRetryable: Schema.Boolean,
  url: Schema.optionalKey(Schema.String)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface UpstreamFailure extends Schema.Schema.Type<typeof UpstreamFailure> {}

/**
 * Whether the step ended because somebody aborted the session.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isAborted = (failure: UpstreamFailure): boolean => failure.name === "MessageAbortedError"

/**
 * Whether the model answered, but not by the structured value that it was asked for.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isWithoutOutput = (failure: UpstreamFailure): boolean => failure.name === "StructuredOutputError"
