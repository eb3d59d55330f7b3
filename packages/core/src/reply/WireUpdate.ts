/**
 * The updates of a turn as JSON: the form in which a store keeps them, other processes read them, and the command prints them.
 *
 * It carries what a reader sees and nothing else: no owner, no lease, no prompt, no secret. docs/UPDATES.md shows an example of each.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { Ask } from "../domain/Ask.ts"
import { AskId, AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "../domain/Ids.ts"
import { Part, Todo } from "../domain/Part.ts"
import { Subagent } from "../domain/Subagent.ts"
import { UpstreamFailure } from "../domain/UpstreamFailure.ts"
import type { ReplyUpdate, SessionUpdate } from "./ReplyUpdate.ts"

/**
 * The version of the form. A change that an older reader would misunderstand raises it.
 *
 * @category constants
 * @since 0.1.0
 */
export const version = 1

/**
 * A change in the reply of one session, as JSON.
 *
 * @category models
 * @since 0.1.0
 */
export const WireSessionUpdate = Schema.Union([
  Schema.Struct({ type: Schema.Literal("text.delta"), partId: PartId, delta: Schema.String }),
  Schema.Struct({ type: Schema.Literal("reasoning.delta"), partId: PartId, delta: Schema.String }),
  Schema.Struct({ type: Schema.Literal("part"), part: Part }),
  Schema.Struct({ type: Schema.Literal("part.removed"), partId: PartId }),
  Schema.Struct({ type: Schema.Literal("todos"), todos: Schema.Array(Todo) }),
  Schema.Struct({
    type: Schema.Literal("retrying"),
    attempt: Schema.Finite,
    message: Schema.String,
    nextMillis: Schema.Finite
  }),
  Schema.Struct({ type: Schema.Literal("failed"), failure: UpstreamFailure })
])
/**
 * @category models
 * @since 0.1.0
 */
export type WireSessionUpdate = typeof WireSessionUpdate.Type

/**
 * A change of a reply, as JSON.
 *
 * @category models
 * @since 0.1.0
 */
export const WireUpdate = Schema.Union([
  Schema.Struct({
    type: Schema.Literal("turn.started"),
    version: Schema.Finite,
    conversationId: ConversationId,
    messageId: AssistantMessageId,
    sessionId: SessionId,
    promptId: MessageId,
    model: Schema.NullOr(Schema.String),
    agent: Schema.NullOr(Schema.String)
  }),
  ...WireSessionUpdate.members,
  Schema.Struct({
    type: Schema.Literal("subagent.update"),
    sessionId: SessionId,
    openedBy: Schema.NullOr(PartId),
    update: WireSessionUpdate
  }),
  Schema.Struct({ type: Schema.Literal("subagent"), subagent: Subagent }),
  Schema.Struct({ type: Schema.Literal("asked"), ask: Ask, openedBy: Schema.NullOr(PartId) }),
  Schema.Struct({ type: Schema.Literal("answered"), askId: AskId }),
  Schema.Struct({
    type: Schema.Literal("reset"),
    reason: Schema.Literals(["overflow", "recreated", "repaired", "refused", "reconciled", "attached"]),
    parts: Schema.Array(Part),
    subagents: Schema.Array(Schema.Struct({ ...Subagent.fields, parts: Schema.Array(Part) })),
    asks: Schema.Array(Schema.Struct({ ask: Ask, openedBy: Schema.NullOr(PartId) }))
  })
])
/**
 * @category models
 * @since 0.1.0
 */
export type WireUpdate = typeof WireUpdate.Type

/**
 * The JSON form of an update.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toWire = (update: ReplyUpdate): WireUpdate => {
  switch (update._tag) {
    case "Started": {
      const { _tag, agent = null, model = null, ...ids } = update
      return { type: "turn.started", version, ...ids, model, agent }
    }
    case "SubagentUpdate": {
      const { openedBy = null, sessionId } = update
      return { type: "subagent.update", sessionId, openedBy, update: sessionToWire(update.update) }
    }
    case "SubagentChanged":
      return { type: "subagent", subagent: update.subagent }
    case "Asked":
      return { type: "asked", ask: update.ask, openedBy: update.openedBy ?? null }
    case "AskResolved":
      return { type: "answered", askId: update.askId }
    case "Reset":
      return {
        type: "reset",
        reason: update.reason,
        parts: update.parts,
        subagents: update.subagents,
        asks: update.asks.map(({ ask, openedBy = null }) => ({ ask, openedBy }))
      }
    default:
      return sessionToWire(update)
  }
}

/**
 * The update of a JSON form.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromWire = (wire: WireUpdate): ReplyUpdate => {
  switch (wire.type) {
    case "turn.started": {
      const { agent, conversationId, messageId, model, promptId, sessionId } = wire
      return {
        _tag: "Started",
        conversationId,
        messageId,
        sessionId,
        promptId,
        ...(model !== null && { model }),
        ...(agent !== null && { agent })
      }
    }
    case "subagent.update": {
      const { openedBy, sessionId } = wire
      return {
        _tag: "SubagentUpdate",
        sessionId,
        openedBy: openedBy ?? undefined,
        update: sessionFromWire(wire.update)
      }
    }
    case "subagent":
      return { _tag: "SubagentChanged", subagent: wire.subagent }
    case "asked":
      return { _tag: "Asked", ask: wire.ask, openedBy: wire.openedBy ?? undefined }
    case "answered":
      return { _tag: "AskResolved", askId: wire.askId }
    case "reset":
      return {
        _tag: "Reset",
        reason: wire.reason,
        parts: wire.parts,
        subagents: wire.subagents,
        asks: wire.asks.map(({ ask, openedBy }) => ({ ask, openedBy: openedBy ?? undefined }))
      }
    default:
      return sessionFromWire(wire)
  }
}

// internal

const sessionToWire = (update: SessionUpdate): WireSessionUpdate => {
  switch (update._tag) {
    case "TextDelta":
      return { type: "text.delta", partId: update.partId, delta: update.delta }
    case "ReasoningDelta":
      return { type: "reasoning.delta", partId: update.partId, delta: update.delta }
    case "PartChanged":
      return { type: "part", part: update.part }
    case "PartRemoved":
      return { type: "part.removed", partId: update.partId }
    case "TodosChanged":
      return { type: "todos", todos: update.todos }
    case "Retrying":
      return { type: "retrying", ...update.retry }
    case "Failed":
      return { type: "failed", failure: update.failure }
  }
}

const sessionFromWire = (wire: WireSessionUpdate): SessionUpdate => {
  switch (wire.type) {
    case "text.delta":
      return { _tag: "TextDelta", partId: wire.partId, delta: wire.delta }
    case "reasoning.delta":
      return { _tag: "ReasoningDelta", partId: wire.partId, delta: wire.delta }
    case "part":
      return { _tag: "PartChanged", part: wire.part }
    case "part.removed":
      return { _tag: "PartRemoved", partId: wire.partId }
    case "todos":
      return { _tag: "TodosChanged", todos: wire.todos }
    case "retrying": {
      const { attempt, message, nextMillis } = wire
      return { _tag: "Retrying", retry: { attempt, message, nextMillis } }
    }
    case "failed":
      return { _tag: "Failed", failure: wire.failure }
  }
}
