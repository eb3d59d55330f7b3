/**
 * The errors of requests to an OpenCode server.
 *
 * No error holds a body, a header, a password or a query string. The getter `isRetryable` tells whether the request may
 * be repeated.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { quoted } from "../domain/FilePath.ts"
import { AskId, MessageId, SessionId } from "../domain/Ids.ts"
import { Usage } from "../domain/Usage.ts"

/**
 * The request did not reach the server, or the response did not reach the client: refused, reset, unresolvable, cut
 * short. The server may or may not have acted on it.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransportError extends Schema.TaggedError<TransportError>()("TransportError", {
  operation: Schema.String,
  origin: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `cannot reach OpenCode at ${this.origin} (${this.operation}): ${this.reason}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The request got no response within its time limit. The server may or may not have acted on it.
 *
 * @category errors
 * @since 0.1.0
 */
export class RequestTimeout extends Schema.TaggedError<RequestTimeout>()("RequestTimeout", {
  operation: Schema.String,
  origin: Schema.String,
  millis: Schema.Finite
}) {
  override get message() {
    return `OpenCode at ${this.origin} did not answer within ${this.millis} ms (${this.operation})`
  }
  get isRetryable() {
    return true
  }
}

/**
 * The response was JSON of another shape than the operation's.
 *
 * @category errors
 * @since 0.1.0
 */
export class DecodeError extends Schema.TaggedError<DecodeError>()("DecodeError", {
  operation: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `OpenCode's answer cannot be read (${this.operation}): ${this.reason}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The response exceeds the limit of 64 MiB. The rest was not fetched.
 *
 * @category errors
 * @since 0.1.0
 */
export class AnswerTooLarge extends Schema.TaggedError<AnswerTooLarge>()("AnswerTooLarge", {
  operation: Schema.String,
  maxBytes: Schema.Finite
}) {
  override get message() {
    return `OpenCode's answer is larger than ${this.maxBytes / 1024 ** 2} MiB (${this.operation})`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The response has a status code other than success. `name` and `detail` are the server's words, if it gave any. A
 * redirect is such a response: it is not followed, because the password goes to the configured origin only.
 *
 * @category errors
 * @since 0.1.0
 */
export class StatusError extends Schema.TaggedError<StatusError>()("StatusError", {
  operation: Schema.String,
  status: Schema.Finite,
  name: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    // These two names say nothing: OpenCode's own, and the one for an error without a name.
    const name = ["UnknownError", "error", ""].includes(this.name) ? "" : ` ${this.name}`
    const detail = this.detail === "" || this.detail === this.name ? "" : `: ${this.detail}`
    return `OpenCode answered ${this.status}${name} (${this.operation})${detail}`
  }
  get isRetryable() {
    return this.status === 429 || this.status >= 500
  }
}

/**
 * The server requires a password, or another one.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unauthorized extends Schema.TaggedError<Unauthorized>()("Unauthorized", {
  origin: Schema.String,
  status: Schema.Finite
}) {
  override get message() {
    return `OpenCode at ${this.origin} refused the password (${this.status}): set OPENCODE_SERVER_PASSWORD to the server's`
  }
  get isRetryable() {
    return false
  }
}

/**
 * Something answers there, but it is not an OpenCode server of a known line (1.x, 2.x). `seen` describes the answer.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnsupportedServer extends Schema.TaggedError<UnsupportedServer>()("UnsupportedServer", {
  origin: Schema.String,
  seen: Schema.String
}) {
  override get message() {
    return `no OpenCode 1.x or 2.x server at ${this.origin}: it answered with ${this.seen}. Check the URL and the server's version`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The server cannot use the folder: it does not exist, is a file, or is unreadable. Or its path holds a backslash,
 * which OpenCode cannot list (1.18.33). `directory` is the given name.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownDirectory extends Schema.TaggedError<UnknownDirectory>()("UnknownDirectory", {
  origin: Schema.String,
  directory: Schema.String
}) {
  override get message() {
    const { directory, origin } = this
    return directory.startsWith("/") && directory.includes("\\")
      ? `OpenCode at ${origin} cannot work in ${quoted(directory)}: it finds no folder whose path holds a backslash`
      : `OpenCode at ${origin} finds no folder ${quoted(directory)} that it can read`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The server does not know the session, or has deleted it.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionNotFound extends Schema.TaggedError<SessionNotFound>()("SessionNotFound", {
  sessionId: SessionId
}) {
  override get message() {
    return `OpenCode does not know the session ${this.sessionId}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The session works, and what was requested needs an idle session.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionBusy extends Schema.TaggedError<SessionBusy>()("SessionBusy", {
  sessionId: SessionId
}) {
  override get message() {
    return `the session ${this.sessionId} is working on something`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The model gave no summary of the conversation, which is as it was before. `reason` holds the words of the provider or of the server, and
 * `usage` what the model used in vain.
 *
 * @category errors
 * @since 0.1.0
 */
export class CompactionFailed extends Schema.TaggedError<CompactionFailed>()("CompactionFailed", {
  sessionId: SessionId,
  reason: Schema.String,
  usage: Usage
}) {
  override get message() {
    return `the conversation was not compacted: ${this.reason}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The server cannot do this: its line or its version has no such operation, or would drop it without an error (docs/SERVERS.md).
 *
 * **Details**
 *
 * `field` is the field of the turn's input that takes it, and `reason` says more of this server.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnsupportedOperation extends Schema.TaggedError<UnsupportedOperation>()("UnsupportedOperation", {
  operation: Schema.String,
  origin: Schema.String,
  field: Schema.optionalKey(Schema.Literals(["agent", "metadata", "permission", "prompt", "system", "tools"])),
  reason: Schema.optionalKey(Schema.String)
}) {
  override get message() {
    const message = `OpenCode at ${this.origin} cannot do this (${this.operation})`
    return this.reason === undefined ? message : `${message}: ${this.reason}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The session has no such message.
 *
 * @category errors
 * @since 0.1.0
 */
export class MessageNotFound extends Schema.TaggedError<MessageNotFound>()("MessageNotFound", {
  sessionId: SessionId,
  messageId: MessageId
}) {
  override get message() {
    return `the session ${this.sessionId} has no message ${this.messageId}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The server has no open ask with this id: it was answered already, or its session was aborted.
 *
 * @category errors
 * @since 0.1.0
 */
export class AskNotFound extends Schema.TaggedError<AskNotFound>()("AskNotFound", {
  askId: AskId
}) {
  override get message() {
    return `OpenCode has no open ask ${this.askId}`
  }
  get isRetryable() {
    return false
  }
}

/**
 * The event stream ended, or was silent for longer than its heartbeats allow.
 *
 * @category errors
 * @since 0.1.0
 */
export class StreamLost extends Schema.TaggedError<StreamLost>()("StreamLost", {
  origin: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `the event stream of ${this.origin} was lost: ${this.reason}`
  }
  get isRetryable() {
    return true
  }
}

/**
 * Every error that a request can fail with.
 *
 * @category errors
 * @since 0.1.0
 */
export const RequestError = Schema.Union([
  TransportError,
  RequestTimeout,
  DecodeError,
  AnswerTooLarge,
  StatusError,
  Unauthorized,
  UnsupportedServer,
  UnsupportedOperation
])
/**
 * @category errors
 * @since 0.1.0
 */
export type RequestError = typeof RequestError.Type

/**
 * Every error that the event stream can fail with.
 *
 * @category errors
 * @since 0.1.0
 */
export type EventsError = RequestError | StreamLost

/**
 * Any failure of the `Client` that a turn can meet. Reverts and compactions can also fail with `SessionBusy` and
 * `CompactionFailed`.
 *
 * @category errors
 * @since 0.1.0
 */
export type ClientError = EventsError | UnknownDirectory | SessionNotFound | MessageNotFound | AskNotFound
