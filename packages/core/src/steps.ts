/**
 * The steps of a turn, for programs that put together a pipeline of their own.
 *
 * **Gotchas**
 *
 * Unstable: names and shapes of the steps may change in any release. `runTurn` is the stable way.
 *
 * @since 0.1.0
 */
export * as AnswerAsks from "./drive/AnswerAsks.ts"
export * as Drive from "./drive/Drive.ts"
export * as LiveReply from "./drive/LiveReply.ts"
export * as ReadArtifacts from "./drive/ReadArtifacts.ts"
export * as ReadExchange from "./drive/ReadExchange.ts"
export * as ReadSubagents from "./drive/ReadSubagents.ts"
export * as PromptCheck from "./opencode/PromptCheck.ts"
export * as Exchange from "./reply/Exchange.ts"
export * as Finalize from "./store/Finalize.ts"
export * as CheckAgents from "./turn/CheckAgents.ts"
export * as Claim from "./turn/Claim.ts"
export * as Conclude from "./turn/Conclude.ts"
export * as EnsureSession from "./turn/EnsureSession.ts"
export * as Lease from "./turn/Lease.ts"
export * as LimitTools from "./turn/LimitTools.ts"
export * as OwnServer from "./turn/OwnServer.ts"
export * as Recall from "./turn/Recall.ts"
export * as RecordPrompt from "./turn/RecordPrompt.ts"
export * as Refusals from "./turn/Refusals.ts"
export * as Settle from "./turn/Settle.ts"
