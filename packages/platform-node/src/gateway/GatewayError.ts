/**
 * What the gateway answers where it cannot do what was asked: one JSON form for every status.
 *
 * **Details**
 *
 * `message` says what was wrong, and `advice` what to do about it. Neither holds a secret, a path of the machine or the words of a
 * defect; those go to Effect's `ErrorReporter`.
 *
 * @since 0.1.0
 */
import * as ErrorReporter from "effect/ErrorReporter"
import * as Schema from "effect/Schema"

const told = { message: Schema.String, advice: Schema.String }

/**
 * The request cannot be read: a path, a header, a query or a body that has not the described form.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>()("InvalidRequest", told, {
  httpApiStatus: 400,
  description: "The request has not the described form."
}) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * The request names nobody whom the gateway knows.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unauthorized extends Schema.TaggedError<Unauthorized>()("Unauthorized", told, {
  httpApiStatus: 401,
  description: "The request names nobody whom the gateway knows."
}) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * The request came under a strange host name or from a page of another site.
 *
 * @category errors
 * @since 0.1.0
 */
export class RefusedOrigin extends Schema.TaggedError<RefusedOrigin>()("RefusedOrigin", told, {
  httpApiStatus: 403,
  description: "The request came under a strange host name, or from a page of another site."
}) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * There is no such thing, or it belongs to somebody else.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", told, {
  httpApiStatus: 404,
  description: "There is no such thing, or it belongs to somebody else."
}) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * Another turn of the conversation runs, and this one may not wait behind it.
 *
 * @category errors
 * @since 0.1.0
 */
export class Busy extends Schema.TaggedError<Busy>()("Busy", told, {
  httpApiStatus: 409,
  description: "Another turn of the conversation runs."
}) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * The turn has ended, or the ask has an answer or needs none any more.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooLate extends Schema.TaggedError<TooLate>()("TooLate", told, {
  httpApiStatus: 409,
  description: "The turn has ended, or the ask needs no answer any more."
}) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * The body has more bytes than the route takes.
 *
 * @category errors
 * @since 0.1.0
 */
export class BodyTooLarge extends Schema.TaggedError<BodyTooLarge>()("BodyTooLarge", told, {
  httpApiStatus: 413,
  description: "The body is too large."
}) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * The body has another media type than JSON.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnsupportedMediaType extends Schema.TaggedError<UnsupportedMediaType>()("UnsupportedMediaType", told, {
  httpApiStatus: 415,
  description: "The body is not JSON."
}) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * The request can be read, but not done: a prompt that no server takes, an answer that does not fit its ask, an `Idempotency-Key` that
 * stands for another prompt.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unprocessable extends Schema.TaggedError<Unprocessable>()("Unprocessable", told, {
  httpApiStatus: 422,
  description: "The request can be read, but not done."
}) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * The client has as many turns or streams as it may have at once.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooMany extends Schema.TaggedError<TooMany>()("TooMany", told, {
  httpApiStatus: 429,
  description: "The client has as many turns or streams as it may have at once."
}) {
  override readonly [ErrorReporter.ignore] = true
}

/**
 * A defect of the gateway, which was reported.
 *
 * @category errors
 * @since 0.1.0
 */
export class InternalError extends Schema.TaggedError<InternalError>()("InternalError", told, {
  httpApiStatus: 500,
  description: "A defect of the gateway, which was reported."
}) {}

/**
 * The store, or the check of who may do this, cannot be reached.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", told, {
  httpApiStatus: 503,
  description: "The store, or the check of the user, cannot be reached."
}) {
  // What it comes from was reported by itself.
  override readonly [ErrorReporter.ignore] = true
}

/**
 * Every error of the gateway.
 *
 * @category errors
 * @since 0.1.0
 */
export type GatewayError =
  | InvalidRequest
  | Unauthorized
  | RefusedOrigin
  | NotFound
  | Busy
  | TooLate
  | BodyTooLarge
  | UnsupportedMediaType
  | Unprocessable
  | TooMany
  | InternalError
  | Unavailable
