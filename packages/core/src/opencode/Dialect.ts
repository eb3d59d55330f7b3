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
import type { AskId, MessageId, PromptIds, SessionId } from "../domain/Ids.ts"
import type { Message, Session, SessionStatus } from "../domain/Message.ts"
import type { FileDiff, Todo } from "../domain/Part.ts"
import type { ModelRef, Prompt } from "../domain/Prompt.ts"
import type { InvalidInput, Upstream } from "../domain/TurnError.ts"
import type { ServerEvent } from "../domain/TurnEvent.ts"
import type { Usage } from "../domain/Usage.ts"
import type {
  AskNotFound,
  CompactionFailed,
  EventsError,
  MessageNotFound,
  RequestError,
  SessionBusy,
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
 * The changeable fields of a session. `permission` is added to the rules that the session has, and `metadata` replaces all of its
 * metadata (1.18.33).
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionPatch {
  readonly title?: string
  readonly permission?: ReadonlyArray<PermissionRule>
  readonly metadata?: Readonly<Record<string, unknown>>
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
 * page. `unread` are the messages with an unreadable id. `hasOrder`: behind the messages is an order to summarise that is not carried out. `size`
 * is the number of characters of the response.
 *
 * @category models
 * @since 0.1.0
 */
export interface MessagePage {
  readonly messages: ReadonlyArray<Message>
  readonly unread?: ReadonlyArray<UnreadMessage>
  readonly before: Option.Option<string>
  readonly hasOrder?: boolean
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
 * What stands for a conversation that was compacted, and what it took to write it. `model` wrote it, if the server tells. `isNew`: the model
 * was asked for it just now.
 *
 * @category models
 * @since 0.1.0
 */
export interface Summary {
  readonly messageId: MessageId
  readonly text: string
  readonly usage: Usage
  readonly model: ModelRef | undefined
  readonly isNew: boolean
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Health {
  readonly version: string
}

/**
 * The session of a turn, and those of its subagents at any depth. `promptId` is the turn's prompt: what waits for somebody else stays, and
 * another prompt that has followed in the session is left alone. `prompt` is the prompt as it was posted.
 *
 * @category models
 * @since 0.1.0
 */
export interface SessionTree {
  readonly root: SessionId
  readonly subagents: ReadonlyArray<SessionId>
  readonly promptId?: MessageId | undefined
  readonly prompt?: Prompt & { readonly ids: PromptIds }
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
  /**
   * Fails with `UnsupportedOperation` unless a session of the client's folder can have these rules. The beta of 2.x takes none for a
   * session: it can have those that its agents go by already.
   */
  readonly checkRules: (rules: ReadonlyArray<PermissionRule>) => Effect.Effect<void, RequestError>

  /**
   * Creates a session in the client's folder. Checks that the folder exists, which the server itself does not.
   *
   * **Details**
   *
   * A server that keeps no metadata shows it: the session has none (before 1.15, and the beta of 2.x). Rules that the server does not take are an
   * `UnsupportedOperation`, and so are rules that deny something to the agent but not to its subagents: servers before 1.17 do not keep
   * subagents to them, unless the permission `task` is denied as well.
   */
  readonly createSession: (options: SessionOptions) => Effect.Effect<Session, RequestError | UnknownDirectory>
  readonly getSession: (id: SessionId) => Effect.Effect<Session, RequestError | SessionNotFound>
  /** Changes a session. A field that the server does not take is an `UnsupportedOperation`; it may have taken the others by then. */
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
  /**
   * Stops the sessions of a turn and whatever they wait for, so that none of them goes on by itself, also if a server that was started again
   * is about to. `isHurried`: the sessions are stopped first, because they call the model again and again.
   */
  readonly stopTree: (
    tree: SessionTree,
    options?: { readonly isHurried?: boolean }
  ) => Effect.Effect<void, RequestError>
  /**
   * Makes a session with a copy of the session's messages: of all, or of those before the message `before`. Succeeds also while the
   * session works; a message that is not finished is copied as it is.
   *
   * **Details** (1.18.33)
   *
   * The copies have new ids, and their parents are the copies of the parents. The new session has the title with ` (fork #1)`, the metadata
   * and the cost of the copied steps, and neither the permission rules nor the pending revert. The files are the same: nothing is copied or
   * changed. An unknown `before` copies all messages.
   */
  readonly forkSession: (
    id: SessionId,
    range: { readonly before?: MessageId }
  ) => Effect.Effect<Session, RequestError | SessionNotFound>
  /**
   * Takes back what the steps since a user's message changed in the files, and hides the messages from there on. The next prompt deletes
   * those messages (`Session.revertedFrom`). Until then the messages are listed as before.
   *
   * **Details** (1.18.33)
   *
   * Files change only inside of a git repository, and only those that the steps had changed; what others changed in the same file since then
   * is lost. Elsewhere only the messages are hidden. A second revert first undoes the first one. A message that the session does not have
   * changes nothing, and the session comes back as it was.
   */
  readonly revertSession: (
    id: SessionId,
    from: MessageId
  ) => Effect.Effect<Session, RequestError | SessionNotFound | SessionBusy>
  /**
   * Undoes the pending revert. Succeeds also if there is none.
   *
   * **Details** (1.18.33)
   *
   * The files get the contents that they had at the revert, also those that somebody changed since then. A file that the revert brought
   * back stays, although the agent had deleted it.
   */
  readonly unrevertSession: (
    id: SessionId
  ) => Effect.Effect<Session, RequestError | SessionNotFound | SessionBusy>
  /**
   * Summarises the conversation so far: from then on the model sees the summary in place of the messages before it. Needs an idle session,
   * and waits for the summary without the time limit of a request. Nothing is done if the newest message is a summary. Interrupting it
   * aborts the session. It deletes the messages that a revert hides, as a prompt does (1.18.33). Without `model` it is the session's.
   *
   * **Details** (2.x, 0.0.0-next-16350)
   *
   * The words of the last exchange stay beside the summary, unless it is the only one.
   */
  readonly compactSession: (
    id: SessionId,
    model?: ModelRef | undefined
  ) => Effect.Effect<Summary, RequestError | SessionNotFound | CompactionFailed>
  /**
   * Takes back what an idle session kept of a compaction that failed or lost its server: it would take the place of the next answer
   * (1.18.33), or make its run fail (2.x, 0.0.0-next-16350). Does nothing if the session works, or if there is none.
   */
  readonly dropCompaction: (id: SessionId) => Effect.Effect<void, RequestError | SessionNotFound>
  /** The sessions that the session's own tools opened, without their descendants. */
  readonly children: (id: SessionId) => Effect.Effect<ReadonlyArray<Session>, RequestError | SessionNotFound>
  /** The sessions of the directory that are not idle. 2.x names those of the whole server (0.0.0-next-16350). */
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

  /**
   * Fails if the server would refuse the prompt, or fail after it had accepted the prompt and keep a wrong choice for the prompts behind it.
   * Sends nothing that changes anything. `id` is the session that the prompt is for, unless it is still to be made.
   *
   * **Details**
   *
   * `Upstream` is what the server itself would say of an agent, a model or a variant that it does not have. `InvalidInput` is a limit of the
   * server. What the server tells by itself, and forgets with the prompt, is left to it (an unknown agent on 1.18.33).
   */
  readonly checkPrompt: (
    prompt: Prompt,
    id: SessionId | undefined
  ) => Effect.Effect<void, RequestError | SessionNotFound | InvalidInput | Upstream>
  /**
   * Whether a model has the variant that a prompt chose, or nobody can tell. A server may drop one without a word that the model does not have
   * (1.x).
   */
  readonly takesVariant: (model: ModelRef, variant: string) => Effect.Effect<boolean, RequestError>
  /**
   * Posts a prompt. Success means only that the server accepted it; it may not be stored yet.
   *
   * **Details**
   *
   * The agent and the variant are the prompt's: one that names none has the server's default agent, and no variant but that of the agent's
   * own model. A prompt without a model has the one that its agent is set up with, else the last one of the session, else the server's default.
   */
  readonly prompt: (id: SessionId, prompt: Prompt) => Effect.Effect<void, RequestError | SessionNotFound>
  /** Whether the server has the prompt, read or unread, answered or not. */
  readonly hasPrompt: (id: SessionId, promptId: MessageId) => Effect.Effect<boolean, RequestError>
  /**
   * Makes an idle session go on with a prompt whose answer is missing or unfinished, as after the death of the server, unless the server
   * goes on by itself. Two callers make it go on once.
   */
  readonly carryOn: (
    id: SessionId,
    prompt: Prompt & { readonly ids: PromptIds }
  ) => Effect.Effect<void, RequestError | SessionNotFound>
  /**
   * Takes back what the prompt set for all of its session, because the server cannot set it for one prompt: call it once nothing works for
   * the prompt any more. The next prompt takes it back as well (2.x).
   */
  readonly endPrompt: (id: SessionId, prompt: Prompt) => Effect.Effect<void, RequestError>
  /** Posts a prompt and waits for the last message of the answer, without the time limit of a request. */
  readonly promptAndWait: (id: SessionId, prompt: Prompt) => Effect.Effect<Message, RequestError | SessionNotFound>

  readonly questions: Effect.Effect<ReadonlyArray<QuestionAsk>, RequestError>
  readonly answerQuestion: (
    id: AskId,
    answers: QuestionAnswers
  ) => Effect.Effect<void, RequestError | AskNotFound>
  /**
   * Rejects a question. The release of 2.x tells the agent the message, and lets it go on; other servers have no place for it, and the
   * rejection stops the agent.
   */
  readonly rejectQuestion: (id: AskId, message?: string) => Effect.Effect<void, RequestError | AskNotFound>
  readonly permissions: Effect.Effect<ReadonlyArray<PermissionAsk>, RequestError>
  readonly answerPermission: (
    id: AskId,
    reply: PermissionReply
  ) => Effect.Effect<void, RequestError | AskNotFound>
  readonly todos: (id: SessionId) => Effect.Effect<ReadonlyArray<Todo>, RequestError | SessionNotFound>
  /**
   * The server's account of an answer: the net changes that it made to the files of the repository, including subagents and shell commands.
   * It is `undefined` where the server never has one: for a structured answer (1.18.33), and on the beta of 2.x. Without a repository and
   * without snapshots it is empty (1.18.33).
   */
  readonly diff: (
    id: SessionId,
    promptId: MessageId,
    answer?: { readonly isStructured: boolean }
  ) => Effect.Effect<ReadonlyArray<FileDiff> | undefined, RequestError>

  /**
   * One connection to the server's event stream, with a list of events for each read. It ends or fails when the
   * connection is lost; the server replays nothing.
   */
  readonly events: Stream.Stream<ReadonlyArray<ServerEvent>, EventsError>
}
