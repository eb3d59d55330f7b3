/**
 * A session that a tool of the turn opened, directly or through another subagent: what is known and stored of it.
 *
 * Owns: the models. Does not own: how a subagent's events are folded (`Reply`), how its record is read (`ReadSubagents`).
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { PartId, SessionId } from "./Ids.ts"
import { Usage } from "./Usage.ts"

/**
 * `running`: works, or waits for a person or for its model. `completed`: is done. `error`: its model or OpenCode failed it.
 * `cancelled`: was aborted.
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
 * What a subagent did for one turn.
 *
 * **Details**
 *
 * `parentId` is the session whose tool opened it: the turn's own, or another subagent's. `openedBy` is that tool's part; 1.18.33
 * names the session in it right after the session was opened. `text` is the subagent's answer, `usage` what its own steps of this
 * turn used, without those of the subagents that it opened in turn. A session that earlier turns used as well counts from this
 * turn on only.
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
  usage: Usage
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Subagent extends Schema.Schema.Type<typeof Subagent> {}
