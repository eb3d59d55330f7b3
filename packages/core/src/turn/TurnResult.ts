/**
 * The result of a turn.
 *
 * @since 0.1.0
 */
import type { AssistantMessageId, ConversationId, MessageId, SessionId } from "../domain/Ids.ts"
import type { Subagent } from "../domain/Subagent.ts"
import type { TurnFinished } from "../domain/Tracer.ts"
import type { ResultUsage } from "../domain/Usage.ts"
import type { Artifacts } from "../reply/Artifact.ts"
import type { ReplyResult } from "../reply/Reply.ts"
import type { Timing } from "../reply/Timing.ts"
import type { StoredMessage } from "../store/SessionStore.ts"
import type { Dropped } from "./EnsureSession.ts"
import type { DrivingError, TurnCancelled, UnusableError } from "./TurnError.ts"

/**
 * The result of a turn. Its `status` tells which one it is:
 *
 * - `completed`: an answer is stored: the agent said something, or gave the value that was asked for. Thoughts, tool calls and files
 *   alone are no answer (`TurnPolicy.AllowSilent` changes that), and an answer that was cut off is one: `finish` tells.
 * - `cancelled`: somebody stopped it; what was streamed is kept.
 * - `error`: the model or its provider gave no usable answer (`Upstream`, `EmptyStream`, `OutputInvalid`, `NoProgress`), the turn
 *   used more than it may (`BudgetExceeded`), or refusals stopped the agent (`Refused`).
 * - `failed`: the turn could not be driven to an answer: input, server, store, deadlines, people.
 *
 * `A` is the type of the value that the turn was asked for; it is `undefined` for a turn without an `output`.
 *
 * @category models
 * @since 0.1.0
 */
export type TurnResult<A = unknown> = Completed<A> | Cancelled | Unusable | Failed

/**
 * How a turn ended; see {@link TurnResult}.
 *
 * @category models
 * @since 0.1.0
 */
export type TurnStatus = TurnResult["status"]

/**
 * A turn with an answer. `output` is the decoded value of a turn that was given an `output`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Completed<A = unknown> extends TurnEnd {
  readonly status: "completed"
  readonly output: A
  readonly error?: undefined
}

/**
 * A turn that somebody stopped.
 *
 * @category models
 * @since 0.1.0
 */
export interface Cancelled extends TurnEnd {
  readonly status: "cancelled"
  readonly output?: undefined
  readonly error: TurnCancelled
}

/**
 * A turn without a usable answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface Unusable extends TurnEnd {
  readonly status: "error"
  readonly output?: undefined
  readonly error: UnusableError
}

/**
 * A turn that could not be driven to an answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface Failed extends TurnEnd {
  readonly status: "failed"
  readonly output?: undefined
  readonly error: DrivingError
}

/**
 * What every end of a turn has.
 *
 * **Details**
 *
 * - `message`: the stored message as it is now; absent only where none was claimed (invalid input, another turn in progress).
 * - `content`: the text for a reader. Of a turn with an `output` it is the value as JSON. `isFallback`: it is the policy's words
 *   (`TurnPolicy.FallbackContent`, `CancelledContent`), and nothing that the agent said.
 * - `finish`: why the last step of the answer ended, in the server's word (`stop`, `length`, `content-filter`, …). Undefined where
 *   no step ended, and where the turn was cancelled.
 * - `reply`: what the turn's own session said; `reply.usage` is its share. After a repair, or after the agent was told what had been
 *   refused, it is the last answer, behind the tool calls of the answers before it: those that were refused have `isRefused` or a
 *   `refusal`.
 * - `subagents`: what the sessions did that its tools opened, to any depth.
 * - `usage`: cost and tokens over all steps, repairs and subagents; the two shares apart, and the share of each model. A step that was stopped before its tools
 *   were done counts nothing, as in the server's own account (1.18.33).
 * - `artifacts`: the files that were changed. They are not stored: a turn that had ended before has none.
 * - `durationMillis`: how long the turn took up to its terminal write, over all its owners. `timing`: for what, which adds up to it.
 *   `firstTokenMillis`: how long after its start its model began to answer; undefined if it never did, or if the owner that saw it died before
 *   it stored that.
 * - `trace`: the payload of `turn.finished`.
 * - `isNewSession`: the session was made for this turn. `isRecreated`: it was lost and made anew, so the agent does not know
 *   what was said before.
 * - `dropped`: what the server dropped, without an error, of what the turn gave its new session: `metadata`, where the server keeps none
 *   (before 1.15, and the beta of 2.x).
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnEnd {
  readonly conversationId: ConversationId
  readonly messageId: AssistantMessageId
  readonly sessionId: SessionId | undefined
  readonly promptId: MessageId | undefined
  readonly message: StoredMessage | undefined
  readonly content: string
  readonly isFallback: boolean
  readonly finish: string | undefined
  readonly reply: ReplyResult
  readonly subagents: ReadonlyArray<Subagent>
  readonly usage: ResultUsage
  readonly artifacts: Artifacts
  readonly isNewSession: boolean
  readonly isRecreated: boolean
  readonly dropped: ReadonlyArray<Dropped>
  readonly durationMillis: number
  readonly firstTokenMillis: number | undefined
  readonly timing: Timing
  readonly trace: TurnFinished
}
