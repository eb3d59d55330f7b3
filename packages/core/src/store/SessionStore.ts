/**
 * The durable record of conversations and their assistant messages.
 *
 * **Responsibilities**
 * - The OpenCode session of each conversation, changed by compare-and-set.
 * - The assistant message of each turn: `queued → pending → completed | cancelled | error`. One terminal write ends it for good. A
 *   message starts as pending, unless its claimant is ready to queue behind earlier turns.
 * - At most one pending message per conversation; the queue keeps the order of the first claims.
 * - The lease of a message. While it lives, nobody else takes the message; after it ran out, exactly one claimant does.
 * - The epoch of a message. Each takeover raises it, and a write with an older epoch changes no row. A cancel needs no epoch.
 * - The reply of a message as a journal of updates (`Journal`): a write costs what has changed since the last one, and a reader takes up
 *   the journal at any offset.
 * - The asks of an agent that wait for a person (`StoredAsk`).
 * - Change notifications of a message or an ask for its watchers.
 *
 * **Not responsibilities**: the content of a message (the pipeline decides it), the user's messages beyond the prompt
 * of each turn, and the schedule of renewals, sweeps and prunes.
 *
 * **Gotchas**
 *
 * Leases are judged by the store's clock. A store without a clock of its own takes the calling process's (`Clock`). PostgreSQL has one: the
 * process measures its difference when it opens the store, so a clock that is set later is judged wrongly. A host that is ahead of the
 * others by more than a fraction of a lease would take messages from living owners. Even then the epoch prevents a double write.
 *
 * Every implementation passes the contract suite of `@opencode-turn/testing/SessionStoreContract`.
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
import type { PlacedUpdate } from "./Journal.ts"
import type { AskClosed, StoredAsk, UnknownAsk } from "./StoredAsk.ts"
import type {
  Content,
  Draft,
  Lease,
  MessageState,
  MessageStatus,
  Outcome,
  PromptRecord,
  StoredMessage
} from "./StoredMessage.ts"

export {
  type Content,
  Draft,
  type Lease,
  MessageState,
  MessageStatus,
  Operation,
  type Outcome,
  PromptRecord,
  StartedTurn,
  StoredError,
  StoredMessage,
  type Unstored
} from "./StoredMessage.ts"

/**
 * The store failed: it is unreachable, unreadable or full, or a row cannot be decoded. Earlier writes are not lost.
 * `reason` names the file or table, never a value or a secret.
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
 * How often a store without change notifications polls a watched message or ask: every 250 ms. That is soon enough for
 * a reader, and each poll is one small read by primary key.
 *
 * @category references
 * @since 0.1.0
 */
export const PollInterval: Context.Reference<Duration.Duration> = Context.Reference(
  "@opencode-turn/core/SessionStore/PollInterval",
  { defaultValue: () => Duration.millis(250) }
)

/**
 * A claim to run a turn.
 *
 * **Details**
 *
 * - `prompt` and `draft` are stored with the first claim of the message; later claims do not change them.
 * - `lease`: without a lease the message is held until it ends or is claimed again.
 * - `whenBusy`: what happens to a new message while another turn of the conversation runs or waits. `reject`, the default, fails.
 *   `queue` stores the message as queued, unless the conversation already has `maxQueued` queued messages.
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
 * What a writer knows of the journal: the content that it stored last under its epoch. `reason` says why the reply begins anew, where it
 * does.
 *
 * @category models
 * @since 0.1.0
 */
export interface Since {
  readonly before?: Content | undefined
  readonly reason?: "recreated" | "repaired" | "refused" | "reconciled" | undefined
}

/**
 * **Gotchas**
 *
 * Lists leave out a stored row that cannot be read, and report it. Operations that name the row fail with a
 * `StoreError`, and so does a list for people that would otherwise be empty. A person must correct or delete the row.
 *
 * @category services
 * @since 0.1.0
 */
export class SessionStore extends Context.Service<SessionStore, {
  /** The OpenCode session of the conversation. */
  readonly getSession: (conversationId: ConversationId) => Effect.Effect<Option.Option<SessionId>, StoreError>

  /** Stores `next` only if the conversation's session is still `expected`; the loser of a race gets `false`. */
  readonly setSession: (
    conversationId: ConversationId,
    expected: Option.Option<SessionId>,
    next: SessionId
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Creates the message, or takes the existing one with this id.
   *
   * - A new message becomes pending, unless another message is pending, or a queued one whose lease lives is ahead of it.
   * - A pending message is taken and gets the next epoch. Taking it from another owner whose lease ran out counts as a takeover.
   * - A queued message becomes pending, unless another message is pending, or an older queued one whose lease lives is ahead of it.
   *   Otherwise it stays queued with the new lease, and the claimant polls again. Its epoch rises only with a change of owner.
   * - A terminal message is returned unchanged.
   *
   * A queued message whose lease ran out blocks nobody. It keeps its place for the worker that takes it over.
   *
   * Fails with `TurnInProgress` if the message is blocked or held. The error names the pending message or else the oldest queued
   * one; it names the message itself if another owner's lease on it lives. Fails with a `StoreError` if the message belongs to
   * another conversation.
   */
  readonly claim: (claim: Claim) => Effect.Effect<StoredMessage, TurnInProgress | StoreError>

  /**
   * Extends the lease of a pending or queued message to `millis` from now. `false` means that the message is lost: it
   * ended, its epoch differs, or the given `owner` does not hold it. A store may make the renewals of one moment one
   * statement.
   */
  readonly renew: (
    id: AssistantMessageId,
    epoch: number,
    lease: { readonly owner?: string | undefined; readonly millis: number }
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Releases the message: it has no owner any more, and another worker may take it at once. `false`: it was already
   * lost.
   */
  readonly release: (id: AssistantMessageId, epoch: number) => Effect.Effect<boolean, StoreError>

  /**
   * Takes over a pending or queued message whose lease ran out. The epoch rises and the status stays. Gives `None` if
   * the message is held, has no lease, has ended or does not exist. Of several claimants at once, exactly one gets it.
   * `takeovers` rises if the message was pending and its owner had not released it.
   */
  readonly takeOver: (
    id: AssistantMessageId,
    lease: Lease
  ) => Effect.Effect<Option.Option<StoredMessage>, StoreError>

  /**
   * Finds the message that a queued one waits for: the pending one of its conversation, or the oldest earlier queued one whose lease
   * lives. `None`: the message may be claimed, or it is not queued.
   */
  readonly findBlocker: (
    id: AssistantMessageId
  ) => Effect.Effect<Option.Option<AssistantMessageId>, StoreError>

  /**
   * Lists at most `limit` pending and queued messages whose lease ran out, in the order of their first claims: the first ones, or
   * those after a position.
   */
  readonly listOrphans: (
    limit: number,
    afterPosition?: number
  ) => Effect.Effect<ReadonlyArray<MessageState>, StoreError>

  /**
   * Finds the conversation's pending message if its lease ran out. The read is small, however long the conversation is.
   */
  readonly findOrphan: (
    conversationId: ConversationId
  ) => Effect.Effect<Option.Option<AssistantMessageId>, StoreError>

  /** Records the prompt before it is posted. `false`: the message is not pending any more, or the epoch is old. */
  readonly recordPrompt: (
    id: AssistantMessageId,
    epoch: number,
    record: PromptRecord
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Stores the streamed reply so far, for watchers and for a worker that takes over. `before` is the content that this epoch stored last:
   * only the difference is written. Without it the reply is written anew, behind a `Reset` for `reason`. `false`: the message is not
   * pending any more, or the epoch is old.
   */
  readonly snapshot: (
    id: AssistantMessageId,
    epoch: number,
    content: Content,
    since?: Since
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Makes the terminal write, with `since` as in `snapshot`. With `isStopDue` the message is among `listStops`. `false`: the message is not
   * pending any more, or the epoch is old; nothing was changed.
   */
  readonly finalize: (
    id: AssistantMessageId,
    epoch: number,
    outcome: Outcome,
    since?: Since
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Cancels a pending or queued message, whoever owns it, and returns the cancelled message with the given words as its
   * `content`. Cancelling again changes nothing. A message whose prompt was recorded is among `listStops` from then on.
   */
  readonly cancel: (
    id: AssistantMessageId,
    content: string
  ) => Effect.Effect<StoredMessage, AlreadyFinished | UnknownMessage | StoreError>

  /**
   * Adds the streamed reply to a message that was cancelled in the meantime, with `since` as in `snapshot`; its status stays. `false`: it
   * is not cancelled, or the epoch is old.
   */
  readonly keepPartial: (
    id: AssistantMessageId,
    epoch: number,
    partial: Content,
    since?: Since
  ) => Effect.Effect<boolean, StoreError>

  /**
   * Lists at most `limit` messages that have ended, whose server may still work for them, and whose owner is gone: those that ended last
   * come first. `conversationId` and `endedSinceMillis` leave out others.
   */
  readonly listStops: (filter: {
    readonly conversationId?: ConversationId | undefined
    readonly endedSinceMillis?: number | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<MessageState>, StoreError>

  /** Notes that the server does not work for the message any more. This is no change that watchers hear of. */
  readonly settleStop: (id: AssistantMessageId) => Effect.Effect<void, StoreError>

  /**
   * Marks the messages of the conversation from one position to before another as taken back by a revert. A message that is marked
   * already keeps its mark.
   */
  readonly markReverted: (
    by: AssistantMessageId,
    range: {
      readonly conversationId: ConversationId
      readonly fromPosition: number
      readonly beforePosition: number
    }
  ) => Effect.Effect<void, StoreError>

  /** Takes the marks of a revert away. */
  readonly unmarkReverted: (by: AssistantMessageId) => Effect.Effect<void, StoreError>

  readonly getMessage: (id: AssistantMessageId) => Effect.Effect<Option.Option<StoredMessage>, StoreError>

  /** Reads the small fields of a message. */
  readonly getState: (id: AssistantMessageId) => Effect.Effect<Option.Option<MessageState>, StoreError>

  /**
   * Reads at most `limit` updates of the message's journal that follow an offset, in their order: from 0 all of the reply. An unknown
   * message has none.
   */
  readonly listUpdates: (
    id: AssistantMessageId,
    afterOffset: number,
    limit: number
  ) => Effect.Effect<ReadonlyArray<PlacedUpdate>, StoreError>

  /**
   * Lists the newest `limit` messages of the conversation, oldest first, in the order of their first claims: the newest of all, or those
   * before a position. A limit below 1 lists none, `Infinity` all.
   */
  readonly listMessages: (
    conversationId: ConversationId,
    limit: number,
    beforePosition?: number
  ) => Effect.Effect<ReadonlyArray<StoredMessage>, StoreError>

  /**
   * Lists the newest `limit` messages of one conversation or of all, newest first, with one status or any: the newest of all, or those
   * before a position.
   */
  readonly listByStatus: (filter: {
    readonly conversationId?: ConversationId | undefined
    readonly status?: MessageStatus | undefined
    readonly limit: number
    readonly beforePosition?: number | undefined
  }) => Effect.Effect<ReadonlyArray<MessageState>, StoreError>

  /**
   * Lists the newest message of each conversation, newest first: of the `limit` conversations with the newest messages, or of those whose
   * newest message is before a position.
   */
  readonly listConversations: (page: {
    readonly limit: number
    readonly beforePosition?: number | undefined
  }) => Effect.Effect<ReadonlyArray<MessageState>, StoreError>

  /**
   * Deletes the messages that ended before the given time, with their asks, and returns the number of messages. A conversation whose
   * last message is deleted goes as well, and with it the id of its session. It never deletes a pending or queued message.
   */
  readonly prune: (finishedBeforeMillis: number) => Effect.Effect<number, StoreError>

  /**
   * Stores an ask of the agent for a person to answer, and returns the stored ask.
   *
   * - If the ask is already stored, it stays unchanged if it was answered or withdrawn, or belongs to this message.
   * - An unanswered ask of another message moves to this message and keeps its place in the lists. If that other message has ended,
   *   the move opens the ask again.
   * - An ask of a message that has ended or does not exist is withdrawn from the start.
   */
  readonly openAsk: (asked: {
    readonly messageId: AssistantMessageId
    readonly conversationId: ConversationId
    readonly ask: Ask
  }) => Effect.Effect<StoredAsk, StoreError>

  /**
   * Stores the answer to an open ask. The first answer stays; the same answer again returns the stored ask. Fails with
   * `AskClosed` if the ask got another answer or was withdrawn, or if its message has ended.
   */
  readonly answerAsk: (
    id: AskId,
    answer: Answer
  ) => Effect.Effect<StoredAsk, UnknownAsk | AskClosed | StoreError>

  /** Withdraws an open ask that needs no answer any more. `false`: it was not open or does not exist. */
  readonly withdrawAsk: (id: AskId) => Effect.Effect<boolean, StoreError>

  /** Reads an ask. An unanswered ask of an ended message counts as withdrawn since the end of the message. */
  readonly getAsk: (id: AskId) => Effect.Effect<Option.Option<StoredAsk>, StoreError>

  /**
   * Lists the oldest `limit` open asks in the order in which they were first opened: of one conversation, of one
   * message, or all. With `after`, those behind that ask, or from the first one if it was deleted. A limit below 1 lists none, `Infinity`
   * all.
   */
  readonly listAsks: (filter: {
    readonly conversationId?: ConversationId | undefined
    readonly messageId?: AssistantMessageId | undefined
    readonly after?: AskId | undefined
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<StoredAsk>, StoreError>

  /**
   * Emits at once, and then whenever the ask may have changed: it was opened, moved to another message, answered,
   * withdrawn or deleted, or its message ended. Each emission is at most a second late, as with `changes`.
   */
  readonly askChanges: (id: AskId) => Stream.Stream<void, StoreError>

  /**
   * Waits until the status and the epoch of the message satisfy a condition; `undefined` stands for a message that does not exist. It ends
   * at most a second late, retries retryable failures, and holds no resource of the database while it waits. Neither a snapshot nor a
   * renewal of the lease costs it a read.
   */
  readonly untilState: (
    id: AssistantMessageId,
    isTrue: (state: Pick<MessageState, "status" | "epoch"> | undefined) => boolean
  ) => Effect.Effect<void, StoreError>

  /**
   * Emits at once, and then whenever the message may have changed; the watcher then reads it. Each emission is at most
   * a second late. A renewal of the lease is not a change. The stream never ends by itself, retries retryable failures,
   * and holds no resource between two emissions.
   */
  readonly changes: (id: AssistantMessageId) => Stream.Stream<void, StoreError>
}>()("@opencode-turn/core/SessionStore") {}
