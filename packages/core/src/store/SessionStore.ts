/**
 * Where conversations and their assistant messages are kept.
 *
 * **Responsibilities**
 * - Which OpenCode session belongs to a conversation, changed by compare-and-set.
 * - The assistant message of each turn: `queued → pending → completed | cancelled | error`, one terminal write, never left
 *   again. A message starts as pending, unless its claimant was ready to wait for the turns before it.
 * - At most one pending message per conversation; those that wait come in the order in which they were first claimed.
 * - The lease of a message: while it lives, nobody else takes the message; once it ran out, one of those who ask does.
 * - The epoch of a message: who takes it raises it, and a write with an older epoch changes no row. A cancel needs none.
 * - What an agent asks of a person, while it waits in the store for an answer (`StoredAsk`).
 * - News of a message, or of a request, for those who watch it.
 *
 * **Not responsibilities**: what is in a message (the pipeline says), the user's messages beyond the prompt of each turn,
 * when to renew, to look for orphans, to prune.
 *
 * **Gotchas**
 *
 * All times are those of the calling process (`Clock`). Hosts that share a database must agree on the time to within a
 * fraction of a lease: one whose clock is ahead by more would take messages whose owners live. The epoch keeps even that
 * from doubling a write.
 *
 * Every implementation passes the one contract suite of `@opencode-turn/testing/SessionStoreContract`.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { Answer, Ask } from "../domain/Ask.ts"
import { type AskId, AssistantMessageId, type ConversationId, type SessionId } from "../domain/Ids.ts"
import type { PromptPart } from "../domain/Prompt.ts"
import type { AlreadyFinished, TurnInProgress } from "../domain/TurnError.ts"
import type { AskClosed, StoredAsk, UnknownAsk } from "./StoredAsk.ts"
import type { Content, Draft, Lease, MessageStatus, Outcome, PromptRecord, StoredMessage } from "./StoredMessage.ts"

export {
  type Content,
  Draft,
  type Lease,
  MessageStatus,
  type Outcome,
  PromptRecord,
  StoredError,
  StoredMessage
} from "./StoredMessage.ts"

/**
 * The store could not do what it was asked: unreachable, unreadable, full, or it holds what cannot be decoded. Nothing
 * stored before is lost. `reason` names the file or table, never a value or a secret.
 *
 * @category errors
 * @since 0.1.0
 */
export class StoreError extends Schema.TaggedError<StoreError>()("StoreError", {
  operation: Schema.String,
  reason: Schema.String,
  isRetryable: Schema.Boolean
}) {
  override get message() {
    return `the store failed (${this.operation}): ${this.reason}`
  }
}

/**
 * The store has no such message.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnknownMessage extends Schema.TaggedError<UnknownMessage>()("UnknownMessage", {
  messageId: AssistantMessageId
}) {
  override get message() {
    return `there is no message ${this.messageId}`
  }
}

/**
 * How often a store that is not told of changes looks for them while a message or a request is watched: 250 ms. Soon
 * enough for a reader, and one small read by primary key each time.
 *
 * @category references
 * @since 0.1.0
 */
export const PollInterval: Context.Reference<Duration.Duration> = Context.Reference(
  "@opencode-turn/core/SessionStore/PollInterval",
  { defaultValue: () => Duration.millis(250) }
)

/**
 * The wish to run a turn.
 *
 * **Details**
 *
 * - `prompt` and `draft` are stored with the first claim of the message; later claims do not change them.
 * - `lease`: without one the message is held until it ends, or until it is claimed again.
 * - `whenBusy`: what becomes of a new message while another turn of the conversation runs or waits: `reject`, the default,
 *   fails; `queue` stores it as queued, unless `maxQueued` messages of the conversation are queued already.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim {
  readonly id: AssistantMessageId
  readonly conversationId: ConversationId
  readonly prompt: ReadonlyArray<PromptPart>
  readonly draft?: Draft | undefined
  readonly lease?: Lease | undefined
  readonly whenBusy?: "reject" | "queue" | undefined
  readonly maxQueued?: number | undefined
}

/**
 * **Gotchas**
 *
 * A stored row that cannot be read is left out of the lists and reported; the operations that name it fail with a `StoreError`, and so
 * does a list for people that would have nothing else. It is for a person to correct or delete.
 *
 * @category services
 * @since 0.1.0
 */
export class SessionStore extends Context.Service<SessionStore, {
  /** The OpenCode session of the conversation. */
  readonly getSession: (conversationId: ConversationId) => Effect.Effect<Option.Option<SessionId>, StoreError>

  /** Stores `next` only if the conversation's session still is `expected`; the loser of a race gets `false`. */
  readonly setSession: (
    conversationId: ConversationId,
    expected: Option.Option<SessionId>,
    next: SessionId
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Makes the message, or takes the one that has this id already.
   *
   * - A new message is pending where no other one is pending, and none that still has its claimant is queued.
   * - A pending one is taken and gets the next epoch; from another owner whose lease ran out, that counts as a takeover.
   * - A queued one becomes pending where no other one is pending, and no older one that still has its claimant is queued; else
   *   it stays queued with the new lease: ask again later. Its epoch is raised only where the owner changes.
   * - A terminal one is given back as it is.
   *
   * A queued message whose lease ran out makes nobody wait; it keeps its place, for the one who takes it over.
   *
   * Fails with `TurnInProgress`, which names the message in the way: the one that is pending, else the oldest one queued; and
   * the message itself where another owner's lease on it lives. Fails with a `StoreError` when the message is another
   * conversation's.
   */
  readonly claim: (claim: Claim) => Effect.Effect<StoredMessage, TurnInProgress | StoreError>

  /**
   * Lets the lease of a pending or queued message end `millis` from now. `false`: the message is lost: it ended, its epoch
   * is another, or `owner`, where it is given, does not hold it.
   */
  readonly renew: (
    id: AssistantMessageId,
    epoch: number,
    lease: { readonly owner?: string | undefined; readonly millis: number }
  ) => Effect.Effect<boolean, StoreError>

  /** Lets the message go: it has no owner any more, and others may take it at once. `false`: it was lost already. */
  readonly release: (id: AssistantMessageId, epoch: number) => Effect.Effect<boolean, StoreError>

  /**
   * Takes a pending or queued message whose lease ran out, with the next epoch; its status stays. None: somebody holds it,
   * it has no lease, it ended, or there is none. One of those who ask at once gets it. `takeovers` is raised where the message
   * was pending and still has an owner.
   */
  readonly takeOver: (
    id: AssistantMessageId,
    lease: Lease
  ) => Effect.Effect<Option.Option<StoredMessage>, StoreError>

  /** Pending and queued messages whose lease ran out, those that were first claimed first, at most `limit`. */
  readonly listOrphans: (limit: number) => Effect.Effect<ReadonlyArray<StoredMessage>, StoreError>

  /** The pending message of the conversation, if its lease ran out. A small read, whatever the conversation holds. */
  readonly findOrphan: (
    conversationId: ConversationId
  ) => Effect.Effect<Option.Option<AssistantMessageId>, StoreError>

  /** Writes what will be posted. `false`: the message is not pending any more, or the epoch is old. */
  readonly recordPrompt: (
    id: AssistantMessageId,
    epoch: number,
    record: PromptRecord
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Stores what was streamed so far, for those who watch and for the one who takes over. `false`: the message is not pending
   * any more, or the epoch is old.
   */
  readonly snapshot: (
    id: AssistantMessageId,
    epoch: number,
    content: Content
  ) => Effect.Effect<boolean, StoreError>

  /** The terminal write. `false`: the message is not pending any more, or the epoch is old; nothing was changed. */
  readonly finalize: (
    id: AssistantMessageId,
    epoch: number,
    outcome: Outcome
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Cancels a pending or queued message, whoever owns it, and gives back the cancelled message, whose `content` is the words that
   * are given here; cancelling again changes nothing.
   */
  readonly cancel: (
    id: AssistantMessageId,
    content: string
  ) => Effect.Effect<StoredMessage, AlreadyFinished | UnknownMessage | StoreError>

  /**
   * Stores what was streamed with a message that was cancelled meanwhile; its status stays. `false`: it is not cancelled,
   * or the epoch is old.
   */
  readonly keepPartial: (
    id: AssistantMessageId,
    epoch: number,
    partial: Content
  ) => Effect.Effect<boolean, StoreError>

  readonly getMessage: (id: AssistantMessageId) => Effect.Effect<Option.Option<StoredMessage>, StoreError>

  /** For who only asks whether the message is still its own, or has changed: reads nothing that may be large. */
  readonly getState: (id: AssistantMessageId) => Effect.Effect<
    Option.Option<{ readonly status: MessageStatus; readonly epoch: number; readonly revision: number }>,
    StoreError
  >

  /**
   * The newest `limit` messages of the conversation, oldest first, in the order in which they were first claimed. A
   * limit below 1 lists none, `Infinity` all.
   */
  readonly listMessages: (
    conversationId: ConversationId,
    limit: number
  ) => Effect.Effect<ReadonlyArray<StoredMessage>, StoreError>

  /** The newest `limit` messages of all conversations, newest first: those of one status, or all. */
  readonly listByStatus: (filter: {
    readonly status?: MessageStatus | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<StoredMessage>, StoreError>

  /**
   * Deletes the messages that ended before that time, with their requests, and says how many messages. One that is pending or
   * queued is never deleted.
   */
  readonly prune: (finishedBeforeMillis: number) => Effect.Effect<number, StoreError>

  /**
   * Writes a request of the agent for a person to answer, and gives back what is stored.
   *
   * - One that is there already stays as it is if it was answered or withdrawn, or is this message's already.
   * - An unanswered one of another message becomes this message's and keeps its place in the lists; one whose message has ended
   *   is open again by that.
   * - One of a message that has ended, or that there is not, is withdrawn from the start.
   */
  readonly openAsk: (asked: {
    readonly messageId: AssistantMessageId
    readonly conversationId: ConversationId
    readonly ask: Ask
  }) => Effect.Effect<StoredAsk, StoreError>

  /**
   * Stores the answer to an open request; the first answer stays, and the same one given again gets what is stored. Fails with
   * `AskClosed` where it was answered otherwise or withdrawn, or where its message has ended.
   */
  readonly answerAsk: (
    id: AskId,
    answer: Answer
  ) => Effect.Effect<StoredAsk, UnknownAsk | AskClosed | StoreError>

  /** Withdraws an open request: nobody needs the answer any more. `false`: it was not open, or there is none. */
  readonly withdrawAsk: (id: AskId) => Effect.Effect<boolean, StoreError>

  /** A request, if there is one. An unanswered one of a message that has ended is withdrawn, since the end of the message. */
  readonly getAsk: (id: AskId) => Effect.Effect<Option.Option<StoredAsk>, StoreError>

  /**
   * Open requests in the order in which they were first opened, the oldest `limit`: of one conversation, of one message, or
   * all. A limit below 1 lists none, `Infinity` all.
   */
  readonly listAsks: (filter: {
    readonly conversationId?: ConversationId | undefined
    readonly messageId?: AssistantMessageId | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<StoredAsk>, StoreError>

  /**
   * Emits at once, and then whenever the request may have changed, as `changes` does for a message: it was opened, moved to
   * another message, answered, withdrawn or deleted, or its message ended. At most a second late.
   */
  readonly askChanges: (id: AskId) => Stream.Stream<void, StoreError>

  /**
   * Emits at once, and then whenever the message may have changed: read it then. At most a second late; a renewal of the
   * lease is no change. Never ends by itself, waits out a failure that may be retried, and holds nothing between two
   * emissions.
   */
  readonly changes: (id: AssistantMessageId) => Stream.Stream<void, StoreError>
}>()("@opencode-turn/core/SessionStore") {}
