/**
 * Forks, reverts and compacts conversations, from any process that shares the store.
 *
 * **Responsibilities**: checks what can be checked at once, and claims a message for the operation, so that no turn of the conversation runs
 * beside it in any process.
 *
 * **Not responsibilities**: what an operation does (`Operate`).
 *
 * @since 0.1.0
 */
import * as Brand from "effect/Brand"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import type { AssistantMessageId } from "../domain/Ids.ts"
import { type ConversationId, idFlaw, makeId } from "../domain/Ids.ts"
import { ConversationExists, NoSession, NothingReverted, TurnNotInSession } from "../domain/OperationError.ts"
import type { ModelRef } from "../domain/Prompt.ts"
import * as Prompts from "../domain/Prompt.ts"
import { retrying } from "../domain/Retrying.ts"
import type { AlreadyFinished, TurnCancelled, TurnTakenOver } from "../domain/TurnError.ts"
import { InvalidInput, TurnInProgress } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import { Client } from "../opencode/Client.ts"
import type { Operation, StoredMessage } from "../store/SessionStore.ts"
import { SessionStore, UnknownMessage } from "../store/SessionStore.ts"
import { isOpen } from "../store/StoredMessage.ts"
import { claim } from "./Claim.ts"
import { carryOperation, type OperationError } from "./Operate.ts"
import type { TurnServices } from "./Turn.ts"
import { carryOrphan } from "./Turn.ts"

export type { OperationError } from "./Operate.ts"

/**
 * Why {@link forkConversation} and its siblings fail. `TurnCancelled`: somebody cancelled the stored message of the operation.
 *
 * @category errors
 * @since 0.1.0
 */
export type OperationFailure =
  | OperationError
  | InvalidInput
  | UnknownMessage
  | AlreadyFinished
  | TurnCancelled
  | TurnTakenOver

/**
 * What to fork: the turn `at` of the conversation and all before it, or all of it without `at`. `into` is the conversation to make; it must
 * not have messages.
 *
 * @category models
 * @since 0.1.0
 */
export interface ForkInput {
  readonly conversationId: string
  readonly at?: string | undefined
  readonly into: string
}

/**
 * Begins a conversation with what another one said up to a turn. Gives the stored message of the fork, the first one of the new conversation.
 *
 * **Details**
 *
 * The agent knows everything up to that turn, and nothing after it. The stored messages are not copied: the fork's own message names the
 * conversation and the turn (`draft.operation`), and what was said before stands there. The files are not copied either: both conversations
 * work in the same folder.
 *
 * The source may have a running turn; the fork then ends with a turn before it. Without `at` it ends with the newest turn that has ended and
 * was not reverted. Doing it again gives the same fork. A turn that begins in the new conversation meanwhile waits for the fork.
 *
 * @category running
 * @since 0.1.0
 */
export const forkConversation = Effect.fn("Turn.forkConversation")(function*(
  { at, conversationId, into }: ForkInput
): Effect.fn.Return<StoredMessage, OperationFailure, TurnServices> {
  const source = yield* checked("conversationId", conversationId)
  const target = yield* checked("into", into)
  const messageId = at === undefined ? undefined : toMessageId(yield* checked("at", at))
  const operation: Operation = {
    type: "fork",
    conversationId: source,
    ...(messageId !== undefined && { messageId })
  }
  if (source === target) return yield* new ConversationExists({ conversationId: target })
  const made = findFork(target, operation)
  const before = yield* made
  if (Option.isSome(before)) return before.value
  // What cannot be done leaves no conversation behind.
  if (!(yield* hasSession(source))) return yield* new NoSession({ conversationId: source })
  if (messageId !== undefined) yield* messageOf(messageId)
  return yield* operate(target, operation).pipe(
    Effect.catchTag(
      "ConversationExists",
      (error) => Effect.flatMap(made, Option.match({ onNone: () => Effect.fail(error), onSome: Effect.succeed }))
    )
  )
})

/**
 * Takes back a turn and all turns after it: what they changed in the files, and what the agent knows of them. Gives the stored message of the
 * revert.
 *
 * **Details**
 *
 * The stored messages stay, and `revertedBy` marks them. {@link unrevertTurn} brings them back until the next turn or compaction of the
 * conversation, which makes the revert final. A second revert replaces the first one, so that it may go less far back, too.
 *
 * OpenCode restores files only inside of a git repository, and only those that the steps of the turns had changed; elsewhere the files stay
 * as they are (1.18.33, 0.0.0-next-16350). A conversation with a turn that runs or waits, in any process, is `TurnInProgress`: a person who reverts a turn
 * would not expect the ones after it to go as well. A turn that begins meanwhile waits for the revert.
 *
 * @category running
 * @since 0.1.0
 */
export const revertTurn = Effect.fn("Turn.revertTurn")(function*(
  id: AssistantMessageId
): Effect.fn.Return<StoredMessage, OperationFailure, TurnServices> {
  const { conversationId, promptRecord, status } = yield* messageOf(id)
  if (isOpen(status)) return yield* new TurnInProgress({ conversationId, messageId: id })
  if (promptRecord === null) return yield* new TurnNotInSession({ conversationId, messageId: id })
  return yield* Effect.provideService(
    operate(conversationId, { type: "revert", messageId: id }),
    TurnPolicy.WhenBusy,
    "reject"
  )
})

/**
 * Undoes the revert of a conversation: the files and what the agent knows are as they were, and the stored messages have no mark any more.
 *
 * **Details**
 *
 * Files that somebody changed since the revert get the contents of before it. A file that the revert had brought back stays on OpenCode 1.x
 * (1.18.33), and is removed again on 2.x (0.0.0-next-16350). A turn or a compaction since the revert has made it final: `NothingReverted`.
 *
 * @category running
 * @since 0.1.0
 */
export const unrevertTurn = Effect.fn("Turn.unrevertTurn")(function*(
  conversation: string
): Effect.fn.Return<StoredMessage, OperationFailure, TurnServices> {
  const conversationId = yield* checked("conversationId", conversation)
  if (!(yield* hasSession(conversationId))) return yield* new NothingReverted({ conversationId })
  return yield* Effect.provideService(operate(conversationId, { type: "unrevert" }), TurnPolicy.WhenBusy, "reject")
})

/**
 * Has a conversation summarised: from then on the model sees the summary in place of what was said before. Gives the stored message of the
 * compaction, whose content is the summary, and whose usage and account are what it took: no turn counts it.
 *
 * **Details**
 *
 * It waits for turns before it, or does what `TurnPolicy.WhenBusy` says, and turns that begin meanwhile wait for it. `model` is
 * `provider/model`; by default it is that of the last turn. A pending revert becomes final. A conversation whose newest message is a summary
 * stays as it is. `messageId` names the stored message, for one who watches or cancels it. A summary that fails changes nothing
 * (`CompactionFailed`), and its message has what the model used in vain. Interrupting it stops the model.
 *
 * @category running
 * @since 0.1.0
 */
export const compactConversation = Effect.fn("Turn.compactConversation")(function*(
  conversation: string,
  options: { readonly model?: string | ModelRef | undefined; readonly messageId?: string | undefined } = {}
): Effect.fn.Return<StoredMessage, OperationFailure, TurnServices> {
  const conversationId = yield* checked("conversationId", conversation)
  const model = typeof options.model === "string" ? yield* Prompts.parseModel(options.model) : options.model
  const messageId = options.messageId === undefined
    ? undefined
    : toMessageId(yield* checked("messageId", options.messageId))
  if (!(yield* hasSession(conversationId)) && !(yield* hasMessages(conversationId))) {
    return yield* new NoSession({ conversationId })
  }
  return yield* operate(conversationId, { type: "compact", ...(model !== undefined && { model }) }, messageId)
})

// internal

const toConversationId = Brand.nominal<ConversationId>()
const toMessageId = Brand.nominal<AssistantMessageId>()

const checked = (field: string, id: string): Effect.Effect<ConversationId, InvalidInput> => {
  const reason = idFlaw(id)
  return reason === undefined ? Effect.succeed(toConversationId(id)) : Effect.fail(new InvalidInput({ field, reason }))
}

const messageOf = Effect.fnUntraced(function*(id: AssistantMessageId) {
  const store = yield* SessionStore
  const message = yield* retrying(store.getMessage(id))
  return yield* Effect.fromOption(message, () => new UnknownMessage({ messageId: id }))
})

const hasSession = Effect.fnUntraced(function*(conversationId: ConversationId) {
  const store = yield* SessionStore
  return Option.isSome(yield* retrying(store.getSession(conversationId)))
})

/** The first turn of a conversation may not have made its session yet. */
const hasMessages = Effect.fnUntraced(function*(conversationId: ConversationId) {
  const store = yield* SessionStore
  const states = yield* retrying(store.listByStatus({ conversationId, limit: 1 }))
  return states.length > 0
})

const operate = Effect.fnUntraced(function*(
  conversationId: ConversationId,
  operation: Operation,
  messageId?: AssistantMessageId
) {
  const { origin } = yield* Client
  const message = yield* claim({
    id: messageId ?? toMessageId(yield* makeId("asm")),
    conversationId,
    prompt: [{ type: "text", text: wordsOf(operation) }],
    draft: { operation, origin },
    owner: yield* makeId("run")
  }, carryOrphan)
  return yield* carryOperation(message, operation)
})

/** What stands in a list where a turn has the user's words. */
const wordsOf = (operation: Operation): string => {
  switch (operation.type) {
    case "compact":
    case "unrevert":
      return `/${operation.type}`
    case "revert":
      return `/revert ${operation.messageId}`
    case "fork":
      return `/fork ${operation.conversationId}${operation.messageId === undefined ? "" : ` ${operation.messageId}`}`
  }
}

/** The fork that made the conversation, if it is this one. A conversation that holds anything but failed operations cannot be made. */
const findFork = Effect.fnUntraced(function*(conversationId: ConversationId, operation: Operation) {
  const store = yield* SessionStore
  const states = yield* retrying(store.listByStatus({ conversationId, limit: Infinity }))
  const state = states.findLast(({ started, status }) => started !== null || isOpen(status) || status === "completed")
  if (state === undefined) return Option.none()
  const first = yield* retrying(store.getMessage(state.id))
  if (Option.exists(first, ({ draft }) => Equal.equals(draft?.operation, operation))) {
    return Option.filter(first, ({ status }) => status === "completed")
  }
  return yield* new ConversationExists({ conversationId })
})
