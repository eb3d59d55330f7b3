/**
 * What a model's provider, or OpenCode on its behalf, reported as the error of a step.
 *
 * @since 0.1.0
 */
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
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

/**
 * What a failure says to a person, on one line.
 *
 * **Details**
 *
 * OpenCode's name of it comes first, with the status of the provider's response, unless the name says nothing (`UnknownError`). A
 * message that only repeats the name is none.
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
 * The words of a failure, without its kind; what {@link describe} says where the message is blank or only the name.
 *
 * @category conversions
 * @since 0.1.0
 */
export const wordsOf = (failure: UpstreamFailure): string =>
  withoutName(failure.message, failure.name.trim()) === "" ? describe(failure) : failure.message

/**
 * What a message of OpenCode says of a failure: its first line, because a stack trace may follow it. A provider's body, which OpenCode
 * passes on where it finds no text in it, is not kept: only the field of it that says most. All of it was seen on 1.18.33.
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

/** OpenCode's name of what it has no other name for. */
const nameless = "UnknownError"

/** A message without the name that some begin with, also more than once; empty where it is nothing else. */
const withoutName = (message: string, name: string): string => {
  let rest = message.trim()
  while (rest.startsWith(`${name}:`)) rest = rest.slice(name.length + 1).trim()
  return rest === name ? "" : rest
}

const decodeJson = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Unknown))

/** The first of the usual fields that holds a text: of what the body calls the error, before its own. Empty where there is none. */
const sayingMost = (body: unknown): string => {
  const error = field(body, "error")
  const texts = [
    error,
    ...[error, body].flatMap((from) => ["message", "detail", "type", "code"].map((key) => field(from, key)))
  ]
  return texts.filter(Predicate.isString).find((text) => text.trim() !== "") ?? ""
}

const field = (from: unknown, key: string): unknown => Predicate.hasProperty(from, key) ? from[key] : undefined
