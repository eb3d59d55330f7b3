/**
 * The interface between the domain and a dialect of OpenCode's HTTP API.
 *
 * A dialect translates routes, JSON shapes, error shapes and event names, and nothing else. OpenCode 1.x is `v1/`;
 * another line of servers gets its own folder beside it.
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
 * The options of a new session. The server keeps `metadata` with the session, and does nothing with it.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionOptions {
  readonly title?: string
  readonly parentId?: SessionId
  readonly permission?: ReadonlyArray<PermissionRule>
  readonly metadata?: Readonly<Record<string, unknown>>
}

/**
 * The changeable fields of a session.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionPatch {
  readonly title?: string
  readonly permission?: ReadonlyArray<PermissionRule>
}

/**
 * A message in a list whose id is unreadable; it follows the message `after`.
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
 * A page of messages, oldest first. `before` is the cursor of the page with older messages; it is absent on the last
 * page. `unread` are the messages with an unreadable id. `size` is the number of characters of the response.
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
 * An agent of the server. `isHidden` marks agents for OpenCode's own use.
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
  /** Scheme, host and port. Credentials are sent only there. */
  readonly origin: string

  readonly health: Effect.Effect<Health, RequestError>
  /**
   * The client's folder as the server knows it: absolute and without links. Fails if it is not a folder. A success is
   * remembered for 30 s.
   */
  readonly directory: Effect.Effect<string, RequestError | UnknownDirectory>
  /** The agents of the directory. */
  readonly agents: Effect.Effect<ReadonlyArray<Agent>, RequestError>

  /** Creates a session in the client's folder. Checks that the folder exists, which the server itself does not. */
  readonly createSession: (options: SessionOptions) => Effect.Effect<Session, RequestError | UnknownDirectory>
  readonly getSession: (id: SessionId) => Effect.Effect<Session, RequestError | SessionNotFound>
  readonly updateSession: (
    id: SessionId,
    patch: SessionPatch
  ) => Effect.Effect<Session, RequestError | SessionNotFound>
  /**
   * Deletes the session and its subagents' sessions. Abort it first: a busy session never becomes idle after its
   * deletion (1.18.33).
   */
  readonly deleteSession: (id: SessionId) => Effect.Effect<void, RequestError | SessionNotFound>
  /** Stops the session and its subagents' sessions. Succeeds also if nothing runs. */
  readonly abortSession: (id: SessionId) => Effect.Effect<void, RequestError>
  /** The sessions that the session's own tools opened, without their descendants. */
  readonly children: (id: SessionId) => Effect.Effect<ReadonlyArray<Session>, RequestError | SessionNotFound>
  /** The sessions of the directory that are not idle. */
  readonly statuses: Effect.Effect<ReadonlyMap<SessionId, SessionStatus>, RequestError>

  /**
   * The newest `limit` messages, or those before a cursor. It is never unbounded, because the response grows with the
   * session.
   */
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
  /** Posts a prompt and waits for the last message of the answer, without the time limit of a request. */
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
   * The net changes that the answer to a prompt made to the files of the repository, including subagents and shell
   * commands. It is empty if the server keeps no account of them: without a repository, without snapshots, or for a
   * structured answer (1.18.33).
   */
  readonly diff: (id: SessionId, promptId: MessageId) => Effect.Effect<ReadonlyArray<FileDiff>, RequestError>

  /**
   * One connection to the server's event stream, with a list of events for each read. It ends or fails when the
   * connection is lost; the server replays nothing.
   */
  readonly events: Stream.Stream<ReadonlyArray<ServerEvent>, EventsError>
}
