/**
 * The seam between the domain and a server's wire: what a dialect of OpenCode's HTTP API must be able to do.
 *
 * A dialect translates routes, JSON shapes, error shapes and event names, and nothing else. OpenCode 1.x is `v1/`; another
 * line of servers gets a folder of its own beside it.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { PermissionAsk, PermissionReply, QuestionAnswers, QuestionAsk } from "../domain/Ask.ts"
import type { PermissionRule } from "../domain/Ask.ts"
import type { AskId, MessageId, SessionId } from "../domain/Ids.ts"
import type { Message, Session, SessionStatus } from "../domain/Message.ts"
import type { FileDiff, Todo } from "../domain/Part.ts"
import type { Prompt } from "../domain/Prompt.ts"
import type { ServerEvent } from "../domain/TurnEvent.ts"
import type {
  AskNotFound,
  EventsError,
  MessageNotFound,
  RequestError,
  SessionNotFound,
  UnknownDirectory
} from "./ClientError.ts"

/**
 * What a new session is made with.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionOptions {
  readonly title?: string
  readonly parentId?: SessionId
  readonly permission?: ReadonlyArray<PermissionRule>
}

/**
 * What can be changed about a session.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionPatch {
  readonly title?: string
  readonly permission?: ReadonlyArray<PermissionRule>
}

/**
 * A message in a list whose id cannot be read; it stands behind the message `after`.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnreadMessage {
  readonly field: string
  readonly after: MessageId | undefined
  readonly createdMillis: number | undefined
}

/**
 * Messages, oldest first. `before` is the cursor of the page with older ones; absent on the last page. `unread` are those whose
 * id cannot be read. `size` is how many characters the answer had.
 *
 * @category models
 * @since 0.1.0
 */
export interface MessagePage {
  readonly messages: ReadonlyArray<Message>
  readonly unread?: ReadonlyArray<UnreadMessage>
  readonly before: Option.Option<string>
  readonly size?: number
}

/**
 * An agent of the server. `isHidden`: for OpenCode's own use.
 *
 * @category models
 * @since 0.1.0
 */
export interface Agent {
  readonly name: string
  readonly isHidden: boolean
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Health {
  readonly version: string
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Dialect {
  /** Scheme, host and port: the only place that credentials are sent to. */
  readonly origin: string

  readonly health: Effect.Effect<Health, RequestError>
  /**
   * The folder that this client works in, as the server knows it: absolute and without links. Fails where it is no folder. A success
   * counts for 30 s without being asked for again.
   */
  readonly directory: Effect.Effect<string, RequestError | UnknownDirectory>
  /** The agents of the directory. */
  readonly agents: Effect.Effect<ReadonlyArray<Agent>, RequestError>

  /** Makes a session in the client's folder, which has to be there: the server itself would not mind. */
  readonly createSession: (options: SessionOptions) => Effect.Effect<Session, RequestError | UnknownDirectory>
  readonly getSession: (id: SessionId) => Effect.Effect<Session, RequestError | SessionNotFound>
  readonly updateSession: (
    id: SessionId,
    patch: SessionPatch
  ) => Effect.Effect<Session, RequestError | SessionNotFound>
  /** Deletes the session and its subagents'. Abort it first: a busy session never becomes idle after this (1.18.33). */
  readonly deleteSession: (id: SessionId) => Effect.Effect<void, RequestError | SessionNotFound>
  /** Stops what the session and its subagents' sessions do. No error where there is nothing to stop. */
  readonly abortSession: (id: SessionId) => Effect.Effect<void, RequestError>
  /** The sessions that the session's tools opened, not theirs in turn. */
  readonly children: (id: SessionId) => Effect.Effect<ReadonlyArray<Session>, RequestError | SessionNotFound>
  /** The sessions of the directory that are not idle. */
  readonly statuses: Effect.Effect<ReadonlyMap<SessionId, SessionStatus>, RequestError>

  /** The newest `limit` messages, or those before a cursor. Never unbounded: the answer grows with the session. */
  readonly listMessages: (
    id: SessionId,
    page: { readonly limit: number; readonly before?: string }
  ) => Effect.Effect<MessagePage, RequestError | SessionNotFound>
  readonly getMessage: (
    id: SessionId,
    messageId: MessageId
  ) => Effect.Effect<Message, RequestError | MessageNotFound>

  /** Posts a prompt. Success means only that the server accepted it; it may not be stored yet. */
  readonly prompt: (id: SessionId, prompt: Prompt) => Effect.Effect<void, RequestError | SessionNotFound>
  /** Posts a prompt and waits for the last message of the answer, without any time limit of a request. */
  readonly promptAndWait: (id: SessionId, prompt: Prompt) => Effect.Effect<Message, RequestError | SessionNotFound>

  readonly questions: Effect.Effect<ReadonlyArray<QuestionAsk>, RequestError>
  readonly answerQuestion: (
    id: AskId,
    answers: QuestionAnswers
  ) => Effect.Effect<void, RequestError | AskNotFound>
  readonly rejectQuestion: (id: AskId) => Effect.Effect<void, RequestError | AskNotFound>
  readonly permissions: Effect.Effect<ReadonlyArray<PermissionAsk>, RequestError>
  readonly answerPermission: (
    id: AskId,
    reply: PermissionReply
  ) => Effect.Effect<void, RequestError | AskNotFound>
  readonly todos: (id: SessionId) => Effect.Effect<ReadonlyArray<Todo>, RequestError | SessionNotFound>
  /**
   * The net changes that the answer to a prompt made to the files of the repository, its subagents' and its shell commands' too. Empty
   * where the server keeps no account of them: without a repository, without snapshots, for a structured answer (1.18.33).
   */
  readonly diff: (id: SessionId, promptId: MessageId) => Effect.Effect<ReadonlyArray<FileDiff>, RequestError>

  /**
   * One connection to the server's event stream, a list of events for each read from it. Ends or fails when the connection
   * is lost; there is no replay.
   */
  readonly events: Stream.Stream<ReadonlyArray<ServerEvent>, EventsError>
}
