/**
 * What the errors of a turn are in `effect/ai`.
 *
 * **Gotchas**
 *
 * `LanguageModel` repeats a request that was sent incrementally if it fails with `InvalidRequestError`. A turn that may have prompted
 * the model must therefore never fail with that reason, also where the model's provider answered 400: the model would be prompted twice.
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import type { StoreError, UnknownMessage } from "../store/SessionStore.ts"
import { detailsOf, type TurnError } from "../turn/TurnError.ts"

/**
 * What the metadata of an `AiError` tells of the turn that failed, under the key `opencode`: the tag and the message of its error, and,
 * where there is one, the stored message, whose `error` has more details.
 *
 * @category models
 * @since 0.1.0
 */
export type ErrorMetadata = {
  readonly tag: string
  readonly message: string
  readonly messageId?: string
  readonly conversationId?: string
}

declare module "effect/ai/AiError" {
  export interface AuthenticationErrorMetadata {
    readonly opencode?: ErrorMetadata
  }
  export interface ContentPolicyErrorMetadata {
    readonly opencode?: ErrorMetadata
  }
  export interface InternalProviderErrorMetadata {
    readonly opencode?: ErrorMetadata
  }
  export interface InvalidOutputErrorMetadata {
    readonly opencode?: ErrorMetadata
  }
  export interface InvalidRequestErrorMetadata {
    readonly opencode?: ErrorMetadata
  }
  export interface InvalidResponseErrorMetadata {
    readonly opencode?: ErrorMetadata
  }
  export interface QuotaExhaustedErrorMetadata {
    readonly opencode?: ErrorMetadata
  }
  export interface RateLimitErrorMetadata {
    readonly opencode?: ErrorMetadata
  }
  export interface StructuredOutputErrorMetadata {
    readonly opencode?: ErrorMetadata
  }
  export interface UnknownErrorMetadata {
    readonly opencode?: ErrorMetadata
  }
}

/**
 * An error of a turn as its message stores it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Told {
  readonly tag: string
  readonly message: string
  readonly details: Schema.JsonObject
}

/**
 * Where the error happened: the method of `LanguageModel`, and the turn's message with its text so far, where there is one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Place {
  readonly method: string
  readonly turn?: { readonly id: string; readonly conversationId: string; readonly content: string } | undefined
  readonly nowMillis: number
}

/**
 * Makes an error of `effect/ai`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (method: string, reason: AiError.AiErrorReason): AiError.AiError =>
  AiError.make({ module: "OpencodeLanguageModel", method, reason })

/**
 * The error of a turn, live or stored.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromTold = (told: Told, place: Place): AiError.AiError => {
  const { turn } = place
  const opencode: ErrorMetadata = {
    tag: told.tag,
    message: told.message,
    ...(turn !== undefined && { messageId: turn.id, conversationId: turn.conversationId })
  }
  const read: Reading = { ...place, ...told, metadata: { opencode } }
  const reasonOf: ((read: Reading) => AiError.AiErrorReason) | undefined = isKnown(told.tag)
    ? reasons[told.tag]
    : unknown
  return make(place.method, reasonOf(read))
}

/**
 * The error of a turn as it was given.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromError = (error: TurnError | StoreError | UnknownMessage, place: Place): AiError.AiError =>
  fromTold({ tag: error._tag, message: error.message, details: detailsOf(error) }, place)

// internal

interface Reading extends Told, Place {
  readonly metadata: { readonly opencode: ErrorMetadata }
}

type Tag = TurnError["_tag"] | UnknownMessage["_tag"]

const text = ({ details }: Told, field: string): string | undefined => {
  const value = details[field]
  return Predicate.isString(value) ? value : undefined
}

const number = ({ details }: Told, field: string): number | undefined => {
  const value = details[field]
  return Predicate.isNumber(value) ? value : undefined
}

/** Nothing was prompted, or the model's provider failed: a new request may succeed. */
const internal = ({ message: description, metadata }: Reading) =>
  new AiError.InternalProviderError({ description, metadata })

/** The agent may have worked already, or somebody has to change something: no program may repeat the request by itself. */
const unknown = ({ message: description, metadata }: Reading) => new AiError.UnknownError({ description, metadata })

const network = (read: Reading) =>
  new AiError.NetworkError({
    reason: "TransportError",
    method: text(read, "operation") ?? "turn",
    url: text(read, "origin") ?? "",
    description: read.message
  })

const unreadable = ({ message: description, metadata }: Reading) =>
  new AiError.InvalidResponseError({ description, metadata })

const unauthorized = ({ message: description, metadata }: Reading) =>
  new AiError.AuthenticationError({ kind: "InvalidKey", description, metadata })

/** The model answered with something else than an answer. */
const noAnswer = ({ message: description, metadata }: Reading) =>
  new AiError.InvalidOutputError({ description, metadata })

const invalidInput = (read: Reading) => {
  const field = text(read, "field")
  const description = read.message
  if (field === "prompt" || field === "file") return new AiError.InvalidUserInputError({ description })
  if (field === "output") return new AiError.UnsupportedSchemaError({ description })
  return new AiError.InvalidRequestError({ parameter: field, description, metadata: read.metadata })
}

const invalidRequest = ({ message: description, metadata }: Reading) =>
  new AiError.InvalidRequestError({ description, metadata })

const status = (read: Reading) => {
  const code = number(read, "status") ?? 0
  if (code === 429) return new AiError.RateLimitError({ metadata: read.metadata })
  return code >= 500 ? internal(read) : unknown(read)
}

const upstream = (read: Reading): AiError.AiErrorReason => {
  const { message: description, metadata } = read
  const code = number(read, "statusCode")
  switch (text(read, "name")) {
    case "ProviderAuthError":
      return unauthorized(read)
    case "ContentFilterError":
      return new AiError.ContentPolicyError({ description, metadata })
    case "ContextOverflowError":
      return new AiError.InvalidUserInputError({ description })
    case "StructuredOutputError":
      return structured(read)
    default:
  }
  switch (code) {
    case 401:
      return unauthorized(read)
    case 403:
      return new AiError.AuthenticationError({ kind: "InsufficientPermissions", description, metadata })
    case 402:
      return new AiError.QuotaExhaustedError({ metadata })
    case 429: {
      const retryAtMillis = number(read, "retryAtMillis")
      return new AiError.RateLimitError({
        metadata,
        ...(retryAtMillis !== undefined && {
          retryAfter: Duration.millis(Math.max(0, retryAtMillis - read.nowMillis))
        })
      })
    }
    case 400:
    case 413:
    case 422:
      return new AiError.InvalidUserInputError({ description })
    default:
  }
  const isRetryable = read.details["isRetryable"] === true || (code !== undefined && code >= 500)
  return isRetryable ? internal(read) : unknown(read)
}

const structured = (read: Reading) =>
  new AiError.StructuredOutputError({
    description: read.message,
    responseText: read.turn?.content ?? "",
    metadata: read.metadata
  })

const store = (read: Reading) => read.details["isRetryable"] === true ? internal(read) : unknown(read)

const reasons: Record<Tag, (read: Reading) => AiError.AiErrorReason> = {
  // The caller
  InvalidInput: invalidInput,
  InputFailed: unknown,
  TurnInProgress: internal,
  AlreadyFinished: unknown,
  DirectoryMismatch: invalidRequest,
  ServerMismatch: invalidRequest,
  UnknownMessage: unknown,
  // The server
  TransportError: network,
  RequestTimeout: network,
  StreamLost: network,
  StatusError: status,
  Unauthorized: unauthorized,
  UnsupportedServer: unreadable,
  UnsupportedOperation: invalidRequest,
  UnknownDirectory: invalidRequest,
  DecodeError: unreadable,
  AnswerTooLarge: unreadable,
  SessionNotFound: internal,
  MessageNotFound: internal,
  AskNotFound: internal,
  SessionLost: unknown,
  StaleSession: internal,
  TurnTimeout: unknown,
  TurnUnfinished: unknown,
  // The answer
  Upstream: upstream,
  EmptyStream: noAnswer,
  OutputInvalid: structured,
  NoProgress: noAnswer,
  BudgetExceeded: unknown,
  Refused: unknown,
  // People, workers, the store
  HumanTimeout: unknown,
  TurnCancelled: unknown,
  TurnTakenOver: unknown,
  TakenOverTooOften: unknown,
  StoreError: store,
  TurnDied: unknown
}

const isKnown = (tag: string): tag is Tag => Object.hasOwn(reasons, tag)
