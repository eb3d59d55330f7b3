/**
 * Every error that a turn can end with: its own, those of the server and those of the store.
 *
 * @since 0.1.0
 */
import type {
  AlreadyFinished,
  BudgetExceeded,
  DirectoryMismatch,
  EmptyStream,
  HumanTimeout,
  InputFailed,
  InvalidInput,
  NoProgress,
  OutputInvalid,
  Refused,
  ServerMismatch,
  SessionLost,
  StaleSession,
  TakenOverTooOften,
  TurnCancelled,
  TurnDied,
  TurnInProgress,
  TurnTakenOver,
  TurnTimeout,
  TurnUnfinished,
  Upstream
} from "../domain/TurnError.ts"
import type { ClientError } from "../opencode/ClientError.ts"
import type { StoreError } from "../store/SessionStore.ts"

export * from "../domain/TurnError.ts"

/**
 * Everything that a turn can end with besides an answer. The status of the turn tells its three kinds apart: `cancelled`
 * (`TurnCancelled`), `error` ({@link UnusableError}) and `failed` ({@link DrivingError}).
 *
 * @category errors
 * @since 0.1.0
 */
export type TurnError = TurnCancelled | UnusableError | DrivingError

/**
 * The turn ran, and there is no answer to use: the model or its provider gave none, the turn used more than it may, or refusals
 * stopped the agent. The turn's status is `error`.
 *
 * @category errors
 * @since 0.1.0
 */
export type UnusableError = Upstream | EmptyStream | OutputInvalid | BudgetExceeded | NoProgress | Refused

/**
 * The turn could not be driven to an answer: input, server, store, deadlines, people. The turn's status is `failed`.
 *
 * @category errors
 * @since 0.1.0
 */
export type DrivingError =
  | ClientError
  | StoreError
  | InvalidInput
  | InputFailed
  | TurnInProgress
  | AlreadyFinished
  | DirectoryMismatch
  | ServerMismatch
  | StaleSession
  | SessionLost
  | TakenOverTooOften
  | HumanTimeout
  | TurnTimeout
  | TurnUnfinished
  | TurnTakenOver
  | TurnDied

/**
 * Whether an error with this tag gives a turn the status `error`. The tag of a stored message's error can be asked, too.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isUnusableTag = (tag: string): tag is UnusableError["_tag"] => unusable.has(tag)

/**
 * The message of an error without what people, the model or its tools said, in at most 200 characters: for spans, trace events and logs.
 *
 * @category getters
 * @since 0.1.0
 */
export const safeMessage = (error: TurnError): string => {
  switch (error._tag) {
    case "OutputInvalid":
      return "the answer does not fit the schema"
    case "Refused":
      return "refusals stopped the agent"
    default:
      return error.message.slice(0, 200).toWellFormed()
  }
}

// internal

const tags: Record<UnusableError["_tag"], true> = {
  Upstream: true,
  EmptyStream: true,
  OutputInvalid: true,
  BudgetExceeded: true,
  NoProgress: true,
  Refused: true
}

const unusable: ReadonlySet<string> = new Set(Object.keys(tags))
