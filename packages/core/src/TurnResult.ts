/**
 * What a turn came to.
 *
 * @since 0.1.0
 */
import type { ClientError } from "./ClientError.ts"
import type { AssistantMessageId, ConversationId, MessageId, SessionId } from "./Ids.ts"
import type { ReplyResult, Subagent } from "./Reply.ts"
import type { StoredMessage, StoreError } from "./SessionStore.ts"
import type { TurnFinished } from "./Tracer.ts"
import type {
  AlreadyFinished,
  EmptyStream,
  InputFailed,
  InvalidInput,
  StaleSession,
  TurnCancelled,
  TurnDied,
  TurnInProgress,
  TurnTakenOver,
  TurnTimeout,
  TurnUnfinished,
  Upstream
} from "./TurnError.ts"

/**
 * Everything that a turn can end with besides an answer.
 *
 * @category errors
 * @since 0.1.0
 */
export type TurnError =
  | ClientError
  | StoreError
  | InvalidInput
  | InputFailed
  | TurnInProgress
  | AlreadyFinished
  | StaleSession
  | EmptyStream
  | Upstream
  | TurnTimeout
  | TurnUnfinished
  | TurnCancelled
  | TurnTakenOver
  | TurnDied

/**
 * - `completed`: an answer is stored.
 * - `cancelled`: somebody stopped it; what was streamed is kept.
 * - `error`: the model or its provider gave no usable answer (`Upstream`, `EmptyStream`).
 * - `failed`: the turn could not be driven to an answer: input, server, store, deadlines.
 *
 * @category models
 * @since 0.1.0
 */
export type TurnStatus = "completed" | "cancelled" | "error" | "failed"

/**
 * The result of a turn.
 *
 * **Details**
 *
 * `message` is the stored message as it is now; absent only where none was claimed (invalid input, another turn in
 * progress). `reply.usage` is the sum over all steps of the session; `trace` the payload of `turn.finished`.
 * `isNewSession`: the session was made for this turn. `isRecreated`: it was lost and made anew, so the agent does not know
 * what was said before.
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnResult {
  readonly status: TurnStatus
  readonly conversationId: ConversationId
  readonly messageId: AssistantMessageId
  readonly sessionId: SessionId | undefined
  readonly promptId: MessageId | undefined
  readonly message: StoredMessage | undefined
  readonly content: string
  readonly reply: ReplyResult
  readonly subagents: ReadonlyArray<Subagent>
  readonly error: TurnError | undefined
  readonly isNewSession: boolean
  readonly isRecreated: boolean
  readonly durationMillis: number
  readonly trace: TurnFinished
}
