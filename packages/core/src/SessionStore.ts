/**
 * Where conversations and their assistant messages are kept.
 *
 * **Responsibilities**
 * - Which OpenCode session belongs to a conversation, changed by compare-and-set.
 * - The assistant message of each turn: `pending → completed | cancelled | error`, one terminal write, never left again.
 * - At most one pending message per conversation.
 * - The epoch of a message: who claims it raises it, and a write with an older epoch changes no row. A cancel needs none.
 *
 * **Not responsibilities**: what is in a message (the pipeline says), the user's messages beyond the prompt of each turn.
 *
 * Every implementation passes the one contract suite of `@opencode-turn/testing/SessionStoreContract`.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { AssistantMessageId, ConversationId, SessionId } from "./Ids.ts"
import { Part } from "./Part.ts"
import { Prompt, PromptPart } from "./Prompt.ts"
import { AlreadyFinished, TurnInProgress } from "./TurnError.ts"
import * as Usage from "./Usage.ts"

/**
 * @category models
 * @since 0.1.0
 */
export const MessageStatus = Schema.Literals(["pending", "completed", "cancelled", "error"])
/**
 * @category models
 * @since 0.1.0
 */
export type MessageStatus = typeof MessageStatus.Type

/**
 * The error that a stored message ended with: its tag, and its message for people.
 *
 * @category models
 * @since 0.1.0
 */
export const StoredError = Schema.Struct({ tag: Schema.String, message: Schema.String })
/**
 * @category models
 * @since 0.1.0
 */
export interface StoredError extends Schema.Schema.Type<typeof StoredError> {}

/**
 * What was posted to which session, with the ids that every later attempt uses again.
 *
 * @category models
 * @since 0.1.0
 */
export const StoredRequest = Schema.Struct({ sessionId: SessionId, prompt: Prompt })
/**
 * @category models
 * @since 0.1.0
 */
export interface StoredRequest extends Schema.Schema.Type<typeof StoredRequest> {}

/**
 * The assistant message of one turn.
 *
 * **Details**
 *
 * `prompt` is what the user said. `request` is null until the prompt's ids were chosen, and is written before the first
 * byte of the prompt is sent. `content` is the text for the reader: the answer, or the policy's words for a turn that
 * failed or was stopped without any. Times are milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export const StoredMessage = Schema.Struct({
  id: AssistantMessageId,
  conversationId: ConversationId,
  status: MessageStatus,
  epoch: Schema.Int,
  prompt: Schema.Array(PromptPart),
  request: Schema.NullOr(StoredRequest),
  content: Schema.String,
  parts: Schema.Array(Part),
  usage: Usage.Usage,
  error: Schema.NullOr(StoredError),
  createdMillis: Schema.Finite,
  finishedMillis: Schema.NullOr(Schema.Finite)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface StoredMessage extends Schema.Schema.Type<typeof StoredMessage> {}

/**
 * What a turn leaves behind of its reply.
 *
 * @category models
 * @since 0.1.0
 */
export interface Content {
  readonly content: string
  readonly parts: ReadonlyArray<Part>
  readonly usage: Usage.Usage
}

/**
 * The terminal write of a turn.
 *
 * @category models
 * @since 0.1.0
 */
export interface Outcome extends Content {
  readonly status: "completed" | "cancelled" | "error"
  readonly error: StoredError | null
}

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
   * Makes the pending message, or takes the one that has this id already: then a pending one gets the next epoch, and a
   * terminal one is given back as it is. Fails with `TurnInProgress` when another message of the conversation is pending,
   * and with a `StoreError` when the message is another conversation's.
   */
  readonly claim: (claim: {
    readonly id: AssistantMessageId
    readonly conversationId: ConversationId
    readonly prompt: ReadonlyArray<PromptPart>
  }) => Effect.Effect<StoredMessage, TurnInProgress | StoreError>

  /** Writes what will be posted. `false`: the message is not pending any more, or the epoch is old. */
  readonly recordRequest: (
    id: AssistantMessageId,
    epoch: number,
    request: StoredRequest
  ) => Effect.Effect<boolean, StoreError>

  /** The terminal write. `false`: the message is not pending any more, or the epoch is old; nothing was changed. */
  readonly finalize: (
    id: AssistantMessageId,
    epoch: number,
    outcome: Outcome
  ) => Effect.Effect<boolean, StoreError>

  /** Cancels a pending message, whoever owns it, and gives back the cancelled message; cancelling again changes nothing. */
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

  /**
   * The newest `limit` messages of the conversation, oldest first, in the order in which they were first claimed. A
   * limit below 1 lists none, `Infinity` all.
   */
  readonly listMessages: (
    conversationId: ConversationId,
    limit: number
  ) => Effect.Effect<ReadonlyArray<StoredMessage>, StoreError>
}>()("@opencode-turn/core/SessionStore") {}

/**
 * A store in memory, for tests and for programs whose conversations may end with the process.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeMemory: Effect.Effect<SessionStore["Service"]> = Effect.sync(() => {
  const sessions = new Map<ConversationId, SessionId>()
  const messages = new Map<AssistantMessageId, StoredMessage>()
  // Oldest first. A message joins only while no other is pending, so a pending one is always the last.
  const histories = new Map<ConversationId, Array<AssistantMessageId>>()
  const history = (conversationId: ConversationId) => histories.get(conversationId) ?? []

  // Each operation reads the clock first and then reads and writes without yielding: no other fiber comes between.
  const update = (
    id: AssistantMessageId,
    isAllowed: (message: StoredMessage) => boolean,
    change: (message: StoredMessage, nowMillis: number) => StoredMessage
  ) =>
    Effect.map(Clock.currentTimeMillis, (nowMillis) => {
      const message = messages.get(id)
      if (message === undefined || !isAllowed(message)) return false
      messages.set(id, change(message, nowMillis))
      return true
    })

  const isOwned = (epoch: number) => (message: StoredMessage) => message.status === "pending" && message.epoch === epoch

  return SessionStore.of({
    getSession: (conversationId) => Effect.sync(() => Option.fromUndefinedOr(sessions.get(conversationId))),
    setSession: (conversationId, expected, next) =>
      Effect.sync(() => {
        if (sessions.get(conversationId) !== Option.getOrUndefined(expected)) return false
        sessions.set(conversationId, next)
        return true
      }),
    claim: Effect.fnUntraced(function*(claim) {
      const createdMillis = yield* Clock.currentTimeMillis
      const existing = messages.get(claim.id)
      if (existing !== undefined && existing.conversationId !== claim.conversationId) {
        return yield* new StoreError({
          operation: "claim",
          reason: "the message belongs to another conversation: choose a new message id",
          isRetryable: false
        })
      }
      if (existing !== undefined && existing.status !== "pending") return existing
      const newest = messages.get(history(claim.conversationId).at(-1) ?? claim.id)
      if (newest !== undefined && newest.status === "pending" && newest.id !== claim.id) {
        return yield* new TurnInProgress({ conversationId: claim.conversationId, messageId: newest.id })
      }
      const message: StoredMessage = existing === undefined
        ? {
          id: claim.id,
          conversationId: claim.conversationId,
          status: "pending",
          epoch: 1,
          prompt: claim.prompt,
          request: null,
          content: "",
          parts: [],
          usage: Usage.zero,
          error: null,
          createdMillis,
          finishedMillis: null
        }
        : { ...existing, epoch: existing.epoch + 1 }
      if (existing === undefined) histories.set(claim.conversationId, [...history(claim.conversationId), claim.id])
      messages.set(message.id, message)
      return message
    }),
    recordRequest: (id, epoch, request) => update(id, isOwned(epoch), (message) => ({ ...message, request })),
    finalize: (id, epoch, outcome) =>
      update(id, isOwned(epoch), (message, finishedMillis) => ({
        ...message,
        ...contentOf(outcome),
        status: outcome.status,
        error: outcome.error,
        finishedMillis
      })),
    cancel: Effect.fnUntraced(function*(id, content) {
      const finishedMillis = yield* Clock.currentTimeMillis
      const message = messages.get(id)
      if (message === undefined) return yield* new UnknownMessage({ messageId: id })
      if (message.status === "completed" || message.status === "error") {
        return yield* new AlreadyFinished({ messageId: id, status: message.status })
      }
      if (message.status === "cancelled") return message
      const cancelled: StoredMessage = { ...message, status: "cancelled", content, finishedMillis }
      messages.set(id, cancelled)
      return cancelled
    }),
    keepPartial: (id, epoch, partial) =>
      update(
        id,
        (message) => message.status === "cancelled" && message.epoch === epoch,
        (message) => ({ ...message, ...contentOf(partial) })
      ),
    getMessage: (id) => Effect.sync(() => Option.fromUndefinedOr(messages.get(id))),
    listMessages: (conversationId, limit) =>
      Effect.sync(() =>
        // `slice(-0)` would be all of them.
        limit >= 1
          ? history(conversationId).slice(-limit).flatMap((id) => messages.get(id) ?? [])
          : []
      )
  })
})

/**
 * {@link makeMemory} as a layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<SessionStore> = Layer.effect(SessionStore, makeMemory)

// internal

/** Only the fields of `Content`: the caller may hold more, an `Outcome` for example, whose status must not leak in. */
const contentOf = ({ content, parts, usage }: Content): Content => ({ content, parts, usage })
