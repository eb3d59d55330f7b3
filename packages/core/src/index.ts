/**
 * One OpenCode turn, carried to a durable end.
 *
 * The verbs stand here by name. The namespaces below them hold what a program needs around a turn; each is also a module of its own
 * (`@opencode-turn/core/Client`). What a turn is made of is in `@opencode-turn/core/steps`.
 *
 * @since 0.1.0
 */
export { answerAsk, pendingAsks } from "./people/StoredGate.ts"
export { attachTurn } from "./turn/AttachTurn.ts"
export { cancelTurn } from "./turn/CancelTurn.ts"
export { compactConversation, forkConversation, revertTurn, unrevertTurn } from "./turn/Operations.ts"
export { pruneMessages } from "./turn/PruneMessages.ts"
export { resumeTurn, runTurn, streamTurn } from "./turn/Turn.ts"
export { resumeTurns } from "./turn/TurnWorker.ts"

export * as Ask from "./domain/Ask.ts"
export * as Ids from "./domain/Ids.ts"
export * as Metrics from "./domain/Metrics.ts"
export * as OperationError from "./domain/OperationError.ts"
export * as Part from "./domain/Part.ts"
export * as Prompt from "./domain/Prompt.ts"
export * as ToolCall from "./domain/ToolCall.ts"
export * as Tracer from "./domain/Tracer.ts"
export * as TurnPolicy from "./domain/TurnPolicy.ts"
export * as Usage from "./domain/Usage.ts"
export * as ArtifactFile from "./opencode/ArtifactFile.ts"
export * as Attachment from "./opencode/Attachment.ts"
export * as Client from "./opencode/Client.ts"
export * as ClientError from "./opencode/ClientError.ts"
export * as HumanGate from "./people/HumanGate.ts"
export * as StoredGate from "./people/StoredGate.ts"
export * as Artifact from "./reply/Artifact.ts"
export * as Reply from "./reply/Reply.ts"
export * as ReplyUpdate from "./reply/ReplyUpdate.ts"
export * as MemorySessionStore from "./store/MemorySessionStore.ts"
export * as SessionStore from "./store/SessionStore.ts"
export * as Operations from "./turn/Operations.ts"
export * as Output from "./turn/Output.ts"
export * as TurnError from "./turn/TurnError.ts"
export * as TurnInput from "./turn/TurnInput.ts"
export * as TurnResult from "./turn/TurnResult.ts"
export * as TurnWorker from "./turn/TurnWorker.ts"
