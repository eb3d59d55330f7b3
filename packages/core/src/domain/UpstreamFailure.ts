/**
 * The error of a step, as the model's provider or OpenCode on its behalf reported it.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/**
 * An upstream error, with the fields that a product shows its user. Response bodies and headers are left out on
 * purpose: providers echo keys in them.
 *
 * **Details**
 *
 * `name` is OpenCode's name: `APIError`, `ProviderAuthError`, `ContextOverflowError`, `MessageAbortedError`,
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
 * Whether the model answered without the structured value that the prompt asked for.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isWithoutOutput = (failure: UpstreamFailure): boolean => failure.name === "StructuredOutputError"

/**
 * Describes a failure for a person, on one line.
 *
 * **Details**
 *
 * OpenCode's name of the failure comes first, with the status of the provider's response, unless the name is
 * `UnknownError`, which says nothing. A message that only repeats the name is left out.
 *
 * @category conversions
 * @since 0.1.0
 */
export const describe = (
  { message, name, statusCode }: Pick<UpstreamFailure, "message" | "name"> & {
    readonly statusCode?: number | undefined
  }
): string => {
  const kind = name.trim() === "" ? nameless : name.trim()
  const status = statusCode === undefined ? "" : ` ${statusCode}`
  const reason = withoutName(message, kind)
  if (reason === "") return `the model's provider failed and did not say why (${kind}${status})`
  return kind !== nameless ? `${kind}${status}: ${reason}` : status === "" ? reason : `${reason} (status${status})`
}

/**
 * The message of a failure without its name. If the message is blank or only the name, it is the text of {@link
 * describe}.
 *
 * @category conversions
 * @since 0.1.0
 */
export const wordsOf = (failure: UpstreamFailure): string =>
  withoutName(failure.message, failure.name.trim()) === "" ? describe(failure) : failure.message

/**
 * Reads the reason from a message of OpenCode. It is the message's first line, because a stack trace may follow. If
 * OpenCode found no text in a provider's body, it passes the whole body on as the message; only the most telling field
 * of the body is kept. All of this was seen on 1.18.33.
 *
 * @category conversions
 * @since 0.1.0
 */
export const reasonOf = (message: string): string =>
  Option.match(message.trimStart().startsWith("{") ? decodeJson(message) : Option.none(), {
    onNone: () => message.split("\n").find((line) => line.trim() !== "") ?? "",
    onSome: (body) => sayingMost(body)
  })

// internal

/** OpenCode's name for an error without a name of its own. */
const nameless = "UnknownError"

/**
 * Removes the name, also a repeated one, from the beginning of a message. The result is empty if nothing else is left.
 */
const withoutName = (message: string, name: string): string => {
  let rest = message.trim()
  while (rest.startsWith(`${name}:`)) rest = rest.slice(name.length + 1).trim()
  return rest === name ? "" : rest
}

const decodeJson = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Unknown))

/**
 * The first text among the usual fields: those of the body's `error` come before the body's own. Empty if there is
 * none.
 */
const sayingMost = (body: unknown): string => {
  const error = field(body, "error")
  const texts = [
    error,
    ...[error, body].flatMap((from) => ["message", "detail", "type", "code"].map((key) => field(from, key)))
  ]
  return texts.filter(Predicate.isString).find((text) => text.trim() !== "") ?? ""
}

const field = (from: unknown, key: string): unknown => Predicate.hasProperty(from, key) ? from[key] : undefined
