/**
 * Turns as a person reads them: updates, results, and what both streams get.
 */
import * as Screen from "#cli/view/Screen"
import * as Artifact from "@opencode-turn/core/Artifact"
import { AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { Part, ToolPart } from "@opencode-turn/core/Part"
import * as Reply from "@opencode-turn/core/Reply"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { StoredMessage } from "@opencode-turn/core/StoredMessage"
import { EmptyStream, TurnCancelled, TurnTimeout } from "@opencode-turn/core/TurnError"
import type { TurnResult, TurnStatus } from "@opencode-turn/core/TurnResult"
import { zero } from "@opencode-turn/core/Usage"

export const ids = { sessionId: SessionId.make("ses_1"), promptId: MessageId.make("msg_1") }
export const messageId = MessageId.make("msg_2")

export const textPart = (id: string, text: string, isComplete = true): Part => ({
  type: "text",
  id: PartId.make(id),
  messageId,
  text,
  isComplete
})

export const tool = (fields: Partial<ToolPart>): Part => ({
  type: "tool",
  id: PartId.make("prt_tool"),
  messageId,
  callId: "call_1",
  tool: "bash",
  status: "running",
  input: { command: "echo hi" },
  ...fields
})

export const delta = (id: string, text: string): ReplyUpdate => ({
  _tag: "TextDelta",
  partId: PartId.make(id),
  delta: text
})
export const thought = (id: string, text: string): ReplyUpdate => ({
  _tag: "ReasoningDelta",
  partId: PartId.make(id),
  delta: text
})
export const removed = (id: string): ReplyUpdate => ({ _tag: "PartRemoved", partId: PartId.make(id) })
export const changed = (part: Part): ReplyUpdate => ({ _tag: "PartChanged", part })

const info = {
  id: messageId,
  role: "assistant",
  sessionId: ids.sessionId,
  parentId: ids.promptId
} as const

/** A reply with these parts. */
export const reply = (...parts: ReadonlyArray<Part>): Reply.Reply =>
  parts.reduce(
    (reply, part) =>
      part.type === "todos"
        ? reply
        : Reply.apply(reply, { _tag: "PartUpdated", eventId: undefined, sessionId: ids.sessionId, part }),
    Reply.apply(Reply.make(ids), {
      _tag: "MessageUpdated",
      eventId: undefined,
      sessionId: ids.sessionId,
      info: {
        ...info,
        isSummary: false,
        createdMillis: 0,
        completedMillis: undefined,
        finish: undefined,
        error: undefined,
        usage: zero,
        structured: undefined,
        directory: undefined,
        worktree: undefined,
        agent: undefined,
        model: undefined
      }
    })
  )

export const reset = (...parts: ReadonlyArray<Part>): Extract<ReplyUpdate, { readonly _tag: "Reset" }> => ({
  _tag: "Reset",
  reason: "reconciled",
  parts,
  subagents: [],
  asks: []
})

const stored: StoredMessage = {
  id: AssistantMessageId.make("asm_1"),
  conversationId: ConversationId.make("c1"),
  position: 1,
  status: "pending",
  epoch: 1,
  revision: 1,
  offset: 0,
  excerpt: "",
  started: null,
  owner: null,
  leaseUntilMillis: null,
  takeovers: 0,
  account: null,
  revertedBy: null,
  prompt: [],
  draft: null,
  promptRecord: null,
  content: "",
  isFallback: false,
  finish: null,
  parts: [],
  usage: zero,
  subagents: [],
  waits: [],
  error: null,
  createdMillis: 0,
  finishedMillis: null
}

const ends = {
  completed: { status: "completed", output: undefined },
  cancelled: { status: "cancelled", error: new TurnCancelled({ messageId: AssistantMessageId.make("asm_1") }) },
  error: {
    status: "error",
    error: new EmptyStream({ sessionId: ids.sessionId, tools: [], hasReasoning: false })
  },
  failed: { status: "failed", error: new TurnTimeout({ millis: 1000 }) }
} as const

export const result = <S extends TurnStatus>(status: S, ...parts: ReadonlyArray<Part>) => ({
  ...ends[status],
  conversationId: ConversationId.make("c1"),
  messageId: AssistantMessageId.make("asm_1"),
  sessionId: ids.sessionId,
  promptId: ids.promptId,
  message: stored,
  content: "",
  isFallback: false,
  finish: undefined,
  reply: Reply.result(reply(...parts)),
  subagents: [],
  waits: [],
  usage: { total: zero, root: zero, subagents: zero, models: [] },
  artifacts: Artifact.none,
  isNewSession: true,
  isRecreated: false,
  dropped: [],
  durationMillis: 1234,
  firstTokenMillis: 200,
  timing: {
    queueMillis: 0,
    peopleMillis: 0,
    modelMillis: 1000,
    toolsMillis: 34,
    retriesMillis: 0,
    orphanedMillis: 0,
    otherMillis: 200
  },
  trace: {
    status,
    duration_ms: 1234,
    cost: 0,
    input_tokens: 0,
    output_tokens: 0,
    tool_count: 0,
    finish: null,
    first_token_ms: 200,
    queue_ms: 0,
    people_ms: 0,
    model_ms: 1000,
    tools_ms: 34,
    retries_ms: 0,
    orphaned_ms: 0,
    other_ms: 200,
    error: null,
    error_message: null
  }
})

export const piped: Screen.Options = {
  isShared: false,
  isScreen: false,
  hasColor: false,
  columns: 80,
  hasValue: false,
  areAsksNamed: false
}
export const terminal: Screen.Options = {
  isShared: true,
  isScreen: true,
  hasColor: false,
  columns: 80,
  hasValue: false,
  areAsksNamed: false
}

/** What both streams get, and what a screen that both share shows. */
export const play = (options: Screen.Options, updates: ReadonlyArray<ReplyUpdate>, end?: TurnResult) => {
  let screen = Screen.make(options)
  const written = { answer: "", progress: "", both: "" }
  const take = ([next, writes]: Screen.Step) => {
    screen = next
    for (const { text, to } of writes) {
      written[to] += text
      written.both += text
    }
  }
  for (const update of updates) take(Screen.update(screen, update))
  if (end !== undefined) take(Screen.finish(screen, end))
  return written
}
