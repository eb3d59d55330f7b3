/**
 * The tools that other agents get over MCP: their names, parameters and results.
 *
 * **Not responsibilities**: what the tools do (`McpTurns`).
 */
import { QuestionAnswers } from "@opencode-turn/core/Ask"
import { MessageStatus } from "@opencode-turn/core/SessionStore"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Schema from "effect/Schema"

/** A text that says something. */
const Text = Schema.NonEmptyString

/** How long a call waits if it does not say so: less than the minute after which many clients give a call up. */
export const defaultWaitSeconds = 50

const WaitSeconds = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 86_400 })).annotate({
  description: "How many seconds to wait at most until the turn has ended or waits for an answer. " +
    `Afterwards the status is running: call attach (default: ${defaultWaitSeconds})`
})

const MessageParameter = Text.annotate({ description: "The message of the turn, as run_turn and list give it" })

/** What an agent asks, and how to answer it. */
export const WaitingAsk = Schema.Struct({
  ask: Schema.String.annotate({ description: "The id, for the tool answer" }),
  kind: Schema.Literals(["permission", "question"]),
  text: Schema.String.annotate({ description: "What is asked, in words" }),
  session: Schema.String.annotate({ description: "The session of OpenCode that asks: the turn's own or a subagent's" }),
  questions: Schema.Array(Schema.Struct({
    question: Schema.String,
    options: Schema.Array(Schema.String),
    multiple: Schema.Boolean,
    custom: Schema.Boolean
  })).annotate({ description: "The questions, in the order in which to answer them" }),
  message: Schema.String,
  conversation: Schema.String
})
/** What an agent asks, and how to answer it. */
export interface WaitingAsk extends Schema.Schema.Type<typeof WaitingAsk> {}

/** A turn as a call of a tool leaves it. */
export const Turn = Schema.Struct({
  status: Schema.Literals(["queued", "running", "waiting", "completed", "cancelled", "error"]).annotate({
    description: "waiting: the agent asks something; answer it. running, queued: not done yet; call attach. " +
      "The others are final"
  }),
  message: Schema.String.annotate({ description: "The turn, for attach and cancel" }),
  conversation: Schema.String.annotate({ description: "The conversation, for the next run_turn" }),
  content: Schema.String.annotate({ description: "The agent's answer, or its text so far" }),
  asks: Schema.Array(WaitingAsk),
  tools: Schema.Array(Schema.Struct({ tool: Schema.String, status: Schema.String, text: Schema.String })).annotate({
    description: "The last calls of tools"
  }),
  error: Schema.NullOr(Schema.Struct({ tag: Schema.String, message: Schema.String })),
  finish: Schema.NullOr(Schema.String),
  cost: Schema.Finite.annotate({ description: "US dollars" }),
  next: Schema.String.annotate({ description: "What to do next" })
})
/** A turn as a call of a tool leaves it. */
export interface Turn extends Schema.Schema.Type<typeof Turn> {}

/** Why a tool did nothing, and what to do instead. */
export const Failed = Schema.Struct({ error: Schema.String, advice: Schema.String })
/** Why a tool did nothing, and what to do instead. */
export interface Failed extends Schema.Schema.Type<typeof Failed> {}

/** Runs a turn. */
export const RunTurn = Tool.make("run_turn", {
  description:
    "Gives a coding agent (OpenCode) a task in its project folder, and waits for the answer. The task goes on " +
    "if this call ends or is cancelled: attach waits for it again, cancel stops it. If the agent asks something, the " +
    "status is waiting: call answer, then attach.",
  parameters: Schema.Struct({
    prompt: Text.annotate({ description: "What the agent is to do, with all that it has to know" }),
    conversation: Schema.optionalKey(Text.annotate({
      description: "The conversation to go on with; without it a new one begins"
    })),
    key: Schema.optionalKey(Text.annotate({
      description:
        "A key of your own. A call that is repeated with the same key is the same turn, and prompts nothing again"
    })),
    model: Schema.optionalKey(Text.annotate({ description: "provider/model; without it, OpenCode's own choice" })),
    agent: Schema.optionalKey(Text.annotate({ description: "An agent of OpenCode's configuration, for example plan" })),
    wait_seconds: Schema.optionalKey(WaitSeconds)
  }),
  success: Turn,
  failure: Failed
}).annotate(Tool.Title, "Run a turn of the coding agent")

/** Waits for a turn. */
export const Attach = Tool.make("attach", {
  description: "Waits until a turn has ended or asks something, wherever it runs, and tells what it does meanwhile.",
  parameters: Schema.Struct({ message: MessageParameter, wait_seconds: Schema.optionalKey(WaitSeconds) }),
  success: Turn,
  failure: Failed
}).annotate(Tool.Title, "Wait for a turn").annotate(Tool.Readonly, true)

/** Stops a turn. */
export const Cancel = Tool.make("cancel", {
  description: "Stops a turn. The agent is aborted, and what it said so far is kept.",
  parameters: Schema.Struct({ message: MessageParameter }),
  success: Turn,
  failure: Failed
}).annotate(Tool.Title, "Stop a turn").annotate(Tool.Idempotent, true)

/** Answers an ask. */
export const Answer = Tool.make("answer", {
  description: "Answers what the agent asks. The turn goes on at once: call attach to wait for it. " +
    "A permission takes decision, a question takes answers or decision reject.",
  parameters: Schema.Struct({
    ask: Text.annotate({ description: "The id of the ask" }),
    decision: Schema.optionalKey(
      Schema.Literals(["once", "always", "reject"]).annotate({
        description: "Grants a permission once or from now on, or refuses it; reject also dismisses a question"
      })
    ),
    reason: Schema.optionalKey(Text.annotate({
      description:
        "With reject: tells the agent why, so that it can go on in another way. Without it the agent is stopped"
    })),
    answers: Schema.optionalKey(QuestionAnswers.annotate({
      description: "One list for each question: the labels of the chosen options, or texts of your own"
    }))
  }),
  success: Schema.Struct({
    ask: Schema.String,
    message: Schema.String,
    conversation: Schema.String,
    next: Schema.String
  }),
  failure: Failed
}).annotate(Tool.Title, "Answer the coding agent")

/** Lists turns. */
export const List = Tool.make("list", {
  description: "Lists the newest turns, and everything that waits for an answer.",
  parameters: Schema.Struct({
    conversation: Schema.optionalKey(Text.annotate({ description: "Only the turns of this conversation" })),
    status: Schema.optionalKey(MessageStatus.annotate({ description: "Only turns with this status" })),
    limit: Schema.optionalKey(
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 200 })).annotate({ description: "20 by default" })
    )
  }),
  success: Schema.Struct({
    turns: Schema.Array(Schema.Struct({
      message: Schema.String,
      conversation: Schema.String,
      status: MessageStatus,
      prompt: Schema.String,
      error: Schema.NullOr(Schema.String),
      cost: Schema.Finite,
      created: Schema.String
    })),
    asks: Schema.Array(WaitingAsk)
  }),
  failure: Failed
}).annotate(Tool.Title, "List turns").annotate(Tool.Readonly, true)

/** All tools. */
export const toolkit = Toolkit.make(RunTurn, Attach, Cancel, Answer, List)
