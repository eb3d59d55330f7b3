/**
 * The errors of a turn, apart from those of the server (`ClientError`) and of the store (`StoreError`).
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import { quoted } from "./FilePath.ts"
import { AskId, AssistantMessageId, ConversationId, SessionId } from "./Ids.ts"
import { describe, UpstreamFailure, wordsOf } from "./UpstreamFailure.ts"

/**
 * The caller's input is unusable. `reason` says what is wrong with the field and what it should be.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidInput extends Schema.TaggedError<InvalidInput>()("InvalidInput", {
  field: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `invalid ${this.field}: ${this.reason}`
  }
}

/**
 * An effect in the caller's input, which should produce this field, failed.
 *
 * @category errors
 * @since 0.1.0
 */
export class InputFailed extends Schema.TaggedError<InputFailed>()("InputFailed", {
  field: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `the effect that gives ${this.field} failed`
  }
}

/**
 * The conversation's session works in another folder than the client, and a session cannot move. Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class DirectoryMismatch extends Schema.TaggedError<DirectoryMismatch>()("DirectoryMismatch", {
  sessionId: SessionId,
  /** The session's folder. */
  sessionDirectory: Schema.String,
  /** The client's folder. */
  directory: Schema.String
}) {
  override get message() {
    return `the conversation works in ${quoted(this.sessionDirectory)}, not in ${quoted(this.directory)}: ` +
      "use that folder, or begin another conversation"
  }
}

/**
 * The turn or its conversation (`of`) began on another server, and this one does not know the session. An unfinished turn is left to a worker
 * of its own server; nothing was sent for a new one. A server that knows the session is the right one, whatever its address is.
 *
 * @category errors
 * @since 0.1.0
 */
export class ServerMismatch extends Schema.TaggedError<ServerMismatch>()("ServerMismatch", {
  of: Schema.Literals(["turn", "conversation"]),
  sessionId: SessionId,
  /** The address under which it began. */
  sessionOrigin: Schema.String,
  /** The client's address. */
  origin: Schema.String
}) {
  override get message() {
    return `the ${this.of} began on OpenCode at ${this.sessionOrigin}, and OpenCode at ${this.origin} does not know its session: ` +
      (this.of === "turn" ? "carry it on there, or cancel it" : "use that server, or begin another conversation")
  }
}

/**
 * The server accepted the prompt and then did nothing: it sent no event and no answer, and it reports the session as
 * idle. `last` is the last failure or retry that the turn heard of; every error with this field means the same by it.
 *
 * @category errors
 * @since 0.1.0
 */
export class StaleSession extends Schema.TaggedError<StaleSession>()("StaleSession", {
  sessionId: SessionId,
  silentMillis: Schema.Finite,
  last: Schema.optionalKey(UpstreamFailure)
}) {
  override get message() {
    const { last, sessionId, silentMillis } = this
    return `session ${sessionId} was silent for ${time(silentMillis)} after the prompt and is idle without an answer${
      heard(last)
    }`
  }
}

/**
 * The agent ended the turn without any text, in the stream and in the server's stored messages.
 *
 * **Details**
 *
 * `finish` is the server's reason for the end of the last step. `hasReasoning`: the model sent reasoning. `tools` are
 * the tools that ran, each once.
 *
 * @category errors
 * @since 0.1.0
 */
export class EmptyStream extends Schema.TaggedError<EmptyStream>()("EmptyStream", {
  sessionId: SessionId,
  finish: Schema.optionalKey(Schema.String),
  hasReasoning: Schema.Boolean,
  tools: Schema.Array(Schema.String)
}) {
  override get message() {
    const end = this.finish === "length"
      ? "the answer was cut off at the output limit before its first word"
      : "the agent ended the turn without a word"
    const did = [
      ...(this.hasReasoning ? ["thought"] : []),
      ...(this.tools.length > 0 ? [`used ${listed(this.tools)}`] : [])
    ]
    const reason = this.finish === undefined ? "" : ` (${this.finish})`
    return `${end}${reason}${did.length > 0 ? `: it ${did.join(", and ")}` : ""}`
  }
}

const listed = (tools: ReadonlyArray<string>): string => {
  const more = tools.length - maxNamedTools
  const names = more > 0 ? [...tools.slice(0, maxNamedTools), `${more} more`] : tools
  return [names.slice(0, -1).join(", "), ...names.slice(-1)].filter((text) => text !== "").join(" and ")
}

const maxNamedTools = 5

/**
 * The model's provider, or OpenCode on its behalf, failed the turn. `name` is OpenCode's name of the error. It is
 * `RetryTooLate` if OpenCode planned its next call of the model for a time after the turn's limits; the session was then
 * aborted. `retryAtMillis` is that time (since the epoch, by the server's clock). `limit` is the limit of
 * `TurnPolicy.Budget` that would have ended the turn earlier, and `allowedMillis` is its value.
 *
 * @category errors
 * @since 0.1.0
 */
export class Upstream extends Schema.TaggedError<Upstream>()("Upstream", {
  name: Schema.String,
  reason: Schema.String,
  statusCode: Schema.optionalKey(Schema.Finite),
  isRetryable: Schema.Boolean,
  url: Schema.optionalKey(Schema.String),
  retryAtMillis: Schema.optionalKey(Schema.Finite),
  limit: Schema.optionalKey(Schema.Literals(["wallClock", "stall"])),
  allowedMillis: Schema.optionalKey(Schema.Finite)
}) {
  override get message() {
    const words = describe({ name: this.name, message: this.reason, statusCode: this.statusCode })
    const { allowedMillis, limit, retryAtMillis } = this
    if (retryAtMillis === undefined) return words
    const next = `OpenCode planned to call the model again at ${DateTime.formatIso(DateTime.makeUnsafe(retryAtMillis))}`
    const past = limit === undefined || allowedMillis === undefined
      ? ""
      : `, past the limit of ${time(allowedMillis)} ${
        limit === "wallClock" ? "for the turn" : "without a sign of life"
      }`
    return clauses([words, next + past])
  }
}

/**
 * The session ended without its last message, and the message did not appear within `TurnPolicy.FinalExchange`. The
 * session was aborted.
 *
 * @category errors
 * @since 0.1.0
 */
export class TurnTimeout extends Schema.TaggedError<TurnTimeout>()("TurnTimeout", {
  millis: Schema.Finite,
  last: Schema.optionalKey(UpstreamFailure)
}) {
  override get message() {
    return `the last message of the turn did not come within ${time(this.millis)} after its session had ended${
      heard(this.last)
    }`
  }
}

/**
 * The model was called repeatedly without a new result. The session was aborted; the streamed reply is kept.
 *
 * **Details**
 *
 * `steps` is the number of steps in a row without a new result, and `finish` is the reason for the end of the last one.
 * `allSteps` counts every step that the turn began, including subagents' steps and steps that were running at the
 * abort.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoProgress extends Schema.TaggedError<NoProgress>()("NoProgress", {
  sessionId: SessionId,
  steps: Schema.Finite,
  allSteps: Schema.Finite,
  finish: Schema.optionalKey(Schema.String),
  last: Schema.optionalKey(UpstreamFailure)
}) {
  override get message() {
    const finish = this.finish === undefined ? "" : ` (finish reason: ${this.finish})`
    return `session ${this.sessionId} made ${
      count(this.steps, "step")
    } in a row without a new result${finish}; the turn began ${count(this.allSteps, "step")} in all${heard(this.last)}`
  }
}

/**
 * Nobody answered an ask of the agent within its gate's time limit (`HumanGate.within`). The session was aborted.
 *
 * @category errors
 * @since 0.1.0
 */
export class HumanTimeout extends Schema.TaggedError<HumanTimeout>()("HumanTimeout", {
  askId: AskId,
  millis: Schema.Finite
}) {
  override get message() {
    return `nobody answered ${this.askId} within ${time(this.millis)}`
  }
}

/**
 * The turn exceeded its budget (`TurnPolicy.Budget`). The session was aborted; the streamed reply is kept.
 *
 * **Details**
 *
 * `cost` is in US dollars, `wallClock` and `stall` are in milliseconds, `tokens` counts all kinds. `modelRetries` and
 * `steps` include subagents. `openAsks`, `subagents`, `messages` and `parts` are sizes that protect the process from a
 * broken server.
 *
 * @category errors
 * @since 0.1.0
 */
export class BudgetExceeded extends Schema.TaggedError<BudgetExceeded>()("BudgetExceeded", {
  limit: Schema.Literals([
    "wallClock",
    "cost",
    "tokens",
    "modelRetries",
    "steps",
    "stall",
    "openAsks",
    "subagents",
    "messages",
    "parts"
  ]),
  allowed: Schema.Finite,
  value: Schema.Finite,
  last: Schema.optionalKey(UpstreamFailure)
}) {
  override get message() {
    const { allowed, last, limit, value } = this
    return `the turn is over its budget: ${passed(limit, value, allowed)}${heard(last)}`
  }
}

/** Leaves out by how much a time limit was exceeded: it is a moment, which tells a reader nothing. */
const passed = (limit: BudgetExceeded["limit"], value: number, allowed: number): string => {
  switch (limit) {
    case "wallClock":
      return `it took longer than ${time(allowed)}`
    case "stall":
      return `it gave no sign of life for longer than ${time(allowed)}`
    default: {
      const unit = budgetUnits[limit]
      return `${unit(value)}; allowed: ${unit(allowed)}`
    }
  }
}

const budgetUnits: Record<Exclude<BudgetExceeded["limit"], "wallClock" | "stall">, (value: number) => string> = {
  cost: (dollars) => `$${Number(dollars.toPrecision(6))}`,
  tokens: (tokens) => count(tokens, "token"),
  modelRetries: (retries) => count(retries, "retry of the model", "retries of the model"),
  steps: (steps) => count(steps, "call of the model", "calls of the model"),
  openAsks: (asks) => count(asks, "open ask"),
  subagents: (subagents) => count(subagents, "subagent"),
  messages: (messages) => count(messages, "message"),
  parts: (parts) => count(parts, "part")
}

/**
 * An issue where a value does not fit its schema. `path` is like `items[0].price`; it is empty for the value as a
 * whole.
 *
 * @category models
 * @since 0.1.0
 */
export const OutputIssue = Schema.Struct({ path: Schema.String, message: Schema.String })
/**
 * @category models
 * @since 0.1.0
 */
export interface OutputIssue extends Schema.Schema.Type<typeof OutputIssue> {}

/**
 * The answer does not fit the requested schema, even after `repairs` more prompts.
 *
 * @category errors
 * @since 0.1.0
 */
export class OutputInvalid extends Schema.TaggedError<OutputInvalid>()("OutputInvalid", {
  issues: Schema.Array(OutputIssue),
  repairs: Schema.Finite
}) {
  override get message() {
    const issues = this.issues.map(({ message, path }) => (path === "" ? message : `${path}: ${message}`))
    return `the answer does not fit the schema: ${clauses(issues)}`
  }
}

/**
 * A refused tool call: the tool, its target, and the reason if one was given.
 *
 * @category models
 * @since 0.1.0
 */
export const Refusal = Schema.Struct({
  tool: Schema.String,
  asked: Schema.String,
  reason: Schema.optionalKey(Schema.String)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Refusal extends Schema.Schema.Type<typeof Refusal> {}

/**
 * Refusals stopped the agent. `repairs` times it was told the refusals with their reasons and prompted again, and it
 * was stopped each time.
 *
 * @category errors
 * @since 0.1.0
 */
export class Refused extends Schema.TaggedError<Refused>()("Refused", {
  refusals: Schema.Array(Refusal),
  repairs: Schema.Finite
}) {
  override get message() {
    const refusals = this.refusals.map(({ asked, reason, tool }) =>
      `${asked === "" ? tool : `${tool} (${asked})`} was refused${reason === undefined ? "" : `: ${reason}`}`
    )
    return `the agent was stopped: ${clauses(refusals)}`
  }
}

/**
 * The server left the turn unfinished. It was restarted, or lost the run, more often than `TurnPolicy.MaxReposts`
 * allows. Or the session went on with a later prompt, for example of another client (`isSuperseded`); the turn's own
 * prompt is then not reposted.
 *
 * @category errors
 * @since 0.1.0
 */
export class TurnUnfinished extends Schema.TaggedError<TurnUnfinished>()("TurnUnfinished", {
  sessionId: SessionId,
  reposts: Schema.Finite,
  isSuperseded: Schema.Boolean,
  last: Schema.optionalKey(UpstreamFailure)
}) {
  override get message() {
    if (this.isSuperseded) {
      return `another prompt took over session ${this.sessionId} before the turn was finished${heard(this.last)}`
    }
    const reposted = this.reposts === 0 ? "" : ` after ${count(this.reposts, "repost")}`
    return `session ${this.sessionId} became idle and left the turn unfinished${reposted}${heard(this.last)}`
  }
}

/**
 * Somebody stopped the turn: its stored message was cancelled, or its session was aborted on the server.
 *
 * @category errors
 * @since 0.1.0
 */
export class TurnCancelled extends Schema.TaggedError<TurnCancelled>()("TurnCancelled", {
  messageId: AssistantMessageId
}) {
  override get message() {
    return `message ${this.messageId} was cancelled`
  }
}

/**
 * The server lost the session after tools of the turn had started, so the prompt was not sent again
 * (`TurnPolicy.OnLostSession`). The streamed reply is kept, and the conversation's next turn begins in a new session.
 * `tools` are the names of the tools that had started.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionLost extends Schema.TaggedError<SessionLost>()("SessionLost", {
  sessionId: SessionId,
  tools: Schema.Array(Schema.String)
}) {
  override get message() {
    const done = this.tools.length === 0 ? "" : ` after ${listed(this.tools)} had started`
    return `OpenCode lost the session ${this.sessionId}${done}: the prompt was not sent again`
  }
}

/**
 * More workers died while they drove the turn than `TurnPolicy.MaxTakeovers` allows. The turn was not driven again; its
 * last snapshot is kept.
 *
 * @category errors
 * @since 0.1.0
 */
export class TakenOverTooOften extends Schema.TaggedError<TakenOverTooOften>()("TakenOverTooOften", {
  messageId: AssistantMessageId,
  takeovers: Schema.Finite
}) {
  override get message() {
    return `message ${this.messageId} was taken over from ${
      count(this.takeovers, "worker")
    } that died: it is not carried on`
  }
}

/**
 * Another worker took the turn over, so this worker's writes have no effect any more.
 *
 * @category errors
 * @since 0.1.0
 */
export class TurnTakenOver extends Schema.TaggedError<TurnTakenOver>()("TurnTakenOver", {
  messageId: AssistantMessageId
}) {
  override get message() {
    return `message ${this.messageId} was taken over by another worker`
  }
}

/**
 * A defect in the pipeline or in the caller's code. It is stored as the end of the message, and thrown again.
 *
 * @category errors
 * @since 0.1.0
 */
export class TurnDied extends Schema.TaggedError<TurnDied>()("TurnDied", {
  cause: Schema.Defect()
}) {
  override get message() {
    return "the turn died of an unexpected error"
  }
}

/**
 * The conversation already has a turn that has not ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class TurnInProgress extends Schema.TaggedError<TurnInProgress>()("TurnInProgress", {
  conversationId: ConversationId,
  messageId: AssistantMessageId
}) {
  override get message() {
    return `conversation ${this.conversationId} already has a turn in progress (message ${this.messageId})`
  }
}

/**
 * The turn's assistant message has already ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class AlreadyFinished extends Schema.TaggedError<AlreadyFinished>()("AlreadyFinished", {
  messageId: AssistantMessageId,
  status: Schema.Literals(["completed", "cancelled", "error"])
}) {
  override get message() {
    return `message ${this.messageId} is already ${this.status}`
  }
}

/**
 * The fields of an error as plain data, for a store or another program: numbers, texts, lists. The tag, the message and a cause are left
 * out. No error of this package holds a secret.
 *
 * @category getters
 * @since 0.1.0
 */
export const detailsOf = (error: { readonly _tag: string }): Schema.JsonObject =>
  Object.fromEntries(
    Object.entries(error).flatMap(([key, value]: [string, unknown]) =>
      !undetailed.has(key) && isJson(value) ? [[key, value]] : []
    )
  )

// internal

const undetailed: ReadonlySet<string> = new Set(["_tag", "message", "cause"])

const isJson = Schema.is(Schema.Json)

/** Joins clauses into one sentence. Only the last clause keeps its own full stop. */
function clauses(texts: ReadonlyArray<string>): string {
  return texts.map((text, index) => (index === texts.length - 1 ? text : text.replace(/[\s.;]$/, ""))).join("; ")
}

/** Seconds, and milliseconds below one. */
function time(millis: number): string {
  return millis < 1000 ? `${millis} ms` : `${Number((millis / 1000).toFixed(1))} s`
}

function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`
}

/** The end of an error text that tells the last failure or retry. */
function heard(last: UpstreamFailure | undefined): string {
  return last === undefined ? "" : `; last heard: ${wordsOf(last)}`
}
