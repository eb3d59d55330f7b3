/**
 * What can go wrong with a turn, beyond the errors of the server (`ClientError`) and of the store (`StoreError`).
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import { quoted } from "./FilePath.ts"
import { AskId, AssistantMessageId, ConversationId, SessionId } from "./Ids.ts"
import { describe, UpstreamFailure, wordsOf } from "./UpstreamFailure.ts"

/**
 * The caller's input cannot be used. `reason` says what is wrong with the field and what it should be.
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
 * An effect of the caller's input failed: the one that was to give this field.
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
 * The conversation's session works in another folder than the client, and a session cannot be moved. Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class DirectoryMismatch extends Schema.TaggedError<DirectoryMismatch>()("DirectoryMismatch", {
  sessionId: SessionId,
  /** Where the session works. */
  sessionDirectory: Schema.String,
  /** Where the client works. */
  directory: Schema.String
}) {
  override get message() {
    return `the conversation works in ${quoted(this.sessionDirectory)}, not in ${quoted(this.directory)}: ` +
      "use that folder, or begin another conversation"
  }
}

/**
 * The server accepted the prompt and then did nothing: no event, no answer, and it says that the session is idle. `last` is the last
 * failure or retry that was heard of the turn, as for every error that has it.
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
 * The agent ended the turn without an answer: it said no word, and the server's record has none either.
 *
 * **Details**
 *
 * `finish` is why its last step ended, in the server's word. `hasReasoning`: it thought. `tools` are the tools that ran, each once.
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
 * The model's provider, or OpenCode on its behalf, failed the turn. `name` is OpenCode's name of the error. `retryAtMillis` (since the
 * epoch, by the server's clock) is when OpenCode was to call the model again, where that is later than the turn may wait: its name is
 * `RetryTooLate` then, and the session was aborted. `limit` is the limit of `TurnPolicy.Budget` that would have ended the turn before
 * that time, and `allowedMillis` is what it allows.
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
 * The session ended without its last message, and that did not come within `TurnPolicy.FinalExchange`. The session was aborted.
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
 * The model was called again and again, and nothing new came of it. The session was aborted, what was streamed is kept.
 *
 * **Details**
 *
 * `steps` is how many steps in a row brought the session nothing new; `finish` is why the last of them ended. `allSteps` counts every
 * step that the turn began, those of its subagents too, and those that were under way when the session was aborted.
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
 * Nobody answered a request of the agent within the time that its gate gives (`HumanGate.within`). The session was aborted.
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
 * The turn used more than its budget (`TurnPolicy.Budget`). The session was aborted, what was streamed is kept.
 *
 * **Details**
 *
 * `cost` is in US dollars, `wallClock` and `stall` in milliseconds, `tokens` counts all kinds, `modelRetries` and `steps` those of
 * subagents too. `openAsks`, `subagents`, `messages` and `parts` are the sizes that keep a broken server from taking all of a process.
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

/** A limit of time is passed by a moment, which says nothing to a reader. */
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
  openAsks: (asks) => count(asks, "open request", "open requests"),
  subagents: (subagents) => count(subagents, "subagent"),
  messages: (messages) => count(messages, "message"),
  parts: (parts) => count(parts, "part")
}

/**
 * Where a value does not fit its schema. `path` is like `items[0].price`; empty for the value as a whole.
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
 * The answer is not a value of the schema that was asked for, also after `repairs` more prompts.
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
 * What was refused: the tool, what it was to do, and the reason that was given, if there was one.
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
 * Refusals stopped the agent, also after it was told `repairs` times what had been refused and why.
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
 * The server left the turn unfinished: it was restarted, or lost the run, more often than `TurnPolicy.MaxReposts` allows. Or the session
 * went on with a later prompt, for example another client's (`isSuperseded`): the turn's own prompt is not posted again then.
 *
 * @category errors
 * @since 0.1.0
 */
export class TurnUnfinished extends Schema.TaggedError<TurnUnfinished>()("TurnUnfinished", {
  sessionId: SessionId,
  resumes: Schema.Finite,
  isSuperseded: Schema.Boolean,
  last: Schema.optionalKey(UpstreamFailure)
}) {
  override get message() {
    if (this.isSuperseded) {
      return `another prompt took over session ${this.sessionId} before the turn was finished${heard(this.last)}`
    }
    const resumed = this.resumes === 0 ? "" : `, after it was resumed ${count(this.resumes, "time")}`
    return `session ${this.sessionId} left the turn unfinished and idle${resumed}${heard(this.last)}`
  }
}

/**
 * Somebody stopped the turn: the stored message is cancelled, or the session was aborted on the server.
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
 * The server lost the session after tools of the turn had started, so the prompt was not sent again (`TurnPolicy.OnLostSession`). What was
 * streamed is kept, and the conversation's next turn begins in a new session. `tools` are the names of those that had started.
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
 * The turn was taken over from a worker that died more often than `TurnPolicy.MaxTakeovers` allows. It was not driven again; what was
 * stored of it is kept.
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
 * Another worker took the turn over: this one's writes change nothing any more.
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
 * A defect in the pipeline, or in what it was given. It is stored as the end of the message, and thrown again.
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
 * The conversation has a turn that has not ended.
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
 * The assistant message that the turn was to fill has ended already.
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

// internal

/** Clauses in one sentence: none but the last one keeps the full stop that it may have of its own. */
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

/** What was heard last, as a part of a message. */
function heard(last: UpstreamFailure | undefined): string {
  return last === undefined ? "" : `; last heard: ${wordsOf(last)}`
}
