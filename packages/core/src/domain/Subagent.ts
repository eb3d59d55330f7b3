/**
 * A session that a tool of the turn opened, directly or through another subagent.
 *
 * **Not responsibilities**: folding a subagent's events (`Reply`), and reading its stored messages (`ReadSubagents`).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { PartId, SessionId } from "./Ids.ts"
import { UpstreamFailure } from "./UpstreamFailure.ts"
import { Usage } from "./Usage.ts"

/**
 * `running`: the subagent works, or waits for a person or for its model; in the result of a turn, it works on although the turn has ended.
 * `completed`: it has finished. `error`: its
 * model or OpenCode failed. `cancelled`: its session was aborted.
 *
 * @category models
 * @since 0.1.0
 */
export const SubagentStatus = Schema.Literals(["running", "completed", "error", "cancelled"])
/**
 * @category models
 * @since 0.1.0
 */
export type SubagentStatus = typeof SubagentStatus.Type

/**
 * A subagent's work for one turn.
 *
 * **Details**
 *
 * `parentId` is the session whose tool opened the subagent: the turn's own, or another subagent's. `openedBy` is that
 * tool's part; 1.18.33 names the session in it right after it opened the session. `text` is the subagent's answer.
 * `usage` covers its own steps of this turn, without the subagents that it opened itself. If earlier turns used the
 * session too, only this turn counts. `failure` is the error that its model or OpenCode reported, where one is known.
 *
 * @category models
 * @since 0.1.0
 */
export const Subagent = Schema.Struct({
  sessionId: SessionId,
  parentId: SessionId,
  openedBy: Schema.optionalKey(PartId),
  title: Schema.String,
  agent: Schema.optionalKey(Schema.String),
  status: SubagentStatus,
  text: Schema.String,
  usage: Usage,
  failure: Schema.optionalKey(UpstreamFailure)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Subagent extends Schema.Schema.Type<typeof Subagent> {}
