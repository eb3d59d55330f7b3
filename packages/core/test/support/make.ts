/** Events and messages in a few words, for tests. Event ids count up, so that what is made later is newer. */
import type { Ask } from "@opencode-turn/core/Ask"
import { AskId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { AssistantMessage, Message, SessionStatus, UserMessage } from "@opencode-turn/core/Message"
import type { Todo, ToolPart, WirePart } from "@opencode-turn/core/Part"
import * as Reply from "@opencode-turn/core/Reply"
import type { TurnEvent } from "@opencode-turn/core/TurnEvent"
import type { UpstreamFailure } from "@opencode-turn/core/UpstreamFailure"
import * as Usage from "@opencode-turn/core/Usage"

export const root = SessionId.make("ses_root")
export const child = SessionId.make("ses_child")
export const grandchild = SessionId.make("ses_grandchild")
export const stranger = SessionId.make("ses_stranger")
export const promptId = MessageId.make("msg_10_prompt")
export const answerId = MessageId.make("msg_20_answer")

export const empty = Reply.make({ sessionId: root, promptId })
export const fold = (...events: ReadonlyArray<TurnEvent>): Reply.Reply => events.reduce(Reply.apply, empty)

let count = 0
export const base = (sessionId = root) => ({
  eventId: `evt_${String(++count).padStart(6, "0")}`,
  sessionId
})

export const usage = (cost: number, input = 10): Usage.Usage => ({
  cost,
  tokens: { ...Usage.zero.tokens, input }
})

export const assistant = (id: string = answerId, fields: Partial<AssistantMessage> = {}): AssistantMessage => ({
  role: "assistant",
  id: MessageId.make(id),
  sessionId: root,
  parentId: promptId,
  createdMillis: 1,
  completedMillis: undefined,
  finish: undefined,
  error: undefined,
  usage: Usage.zero,
  isSummary: false,
  structured: undefined,
  directory: undefined,
  worktree: undefined,
  agent: undefined,
  model: undefined,
  ...fields
})

export const ended = (id: string = answerId, fields: Partial<AssistantMessage> = {}): AssistantMessage =>
  assistant(id, { completedMillis: 2, finish: "stop", ...fields })

export const user = (id: string = promptId, fields: Partial<UserMessage> = {}): UserMessage => ({
  role: "user",
  id: MessageId.make(id),
  sessionId: root,
  createdMillis: 1,
  isContinuation: false,
  ...fields
})

export const stored = (info: Message["info"], ...parts: ReadonlyArray<WirePart>): Message => ({ info, parts })

export const text = (id: string, text: string, isComplete = true, messageId: string = answerId): WirePart => ({
  type: "text",
  id: PartId.make(id),
  messageId: MessageId.make(messageId),
  text,
  isComplete
})

export const thought = (id: string, text: string, isComplete = true, messageId: string = answerId): WirePart => ({
  type: "reasoning",
  id: PartId.make(id),
  messageId: MessageId.make(messageId),
  text,
  isComplete
})

export const tool = (id: string, fields: Partial<ToolPart> = {}): ToolPart => ({
  type: "tool",
  id: PartId.make(id),
  messageId: answerId,
  callId: `call_${id}`,
  tool: "bash",
  status: "pending",
  input: {},
  ...fields
})

export const finish = (id: string, cost: number, messageId: string = answerId): WirePart => ({
  type: "step-finish",
  id: PartId.make(id),
  messageId: MessageId.make(messageId),
  reason: "stop",
  ...usage(cost)
})

export const message = (info: AssistantMessage | UserMessage): TurnEvent => ({
  _tag: "MessageUpdated",
  ...base(info.sessionId),
  info
})
export const part = (part: WirePart, sessionId = root): TurnEvent => ({ _tag: "PartUpdated", ...base(sessionId), part })
export const delta = (
  id: string,
  delta: string,
  options: { readonly field?: string; readonly messageId?: string; readonly sessionId?: SessionId } = {}
): TurnEvent => ({
  _tag: "PartDelta",
  ...base(options.sessionId),
  messageId: MessageId.make(options.messageId ?? answerId),
  partId: PartId.make(id),
  field: options.field ?? "text",
  delta
})
export const todos = (...contents: ReadonlyArray<string>): TurnEvent => ({
  _tag: "TodosUpdated",
  ...base(),
  todos: contents.map((content): Todo => ({ content, status: "pending" }))
})
export const status = (status: SessionStatus, sessionId = root): TurnEvent => ({
  _tag: "StatusChanged",
  ...base(sessionId),
  status
})
export const idle = (sessionId = root) => status({ type: "idle" }, sessionId)
export const busy = (sessionId = root) => status({ type: "busy" }, sessionId)
export const retry = (attempt: number) => status({ type: "retry", attempt, message: "slow down", nextMillis: 5 })
export const failed = (name: string, message = name): TurnEvent => ({
  _tag: "SessionFailed",
  ...base(),
  failure: failure(name, message)
})
export const failure = (name: string, message = name): UpstreamFailure => ({ name, message, isRetryable: false })
export const opened = (sessionId: SessionId, parentId?: SessionId, title = "sub"): TurnEvent => ({
  _tag: "SessionOpened",
  ...base(sessionId),
  parentId,
  title,
  agent: "general"
})
export const permission = (id: string, sessionId = root): Ask => ({
  _tag: "Permission",
  id: AskId.make(id),
  sessionId,
  permission: "bash",
  patterns: ["ls"],
  always: [],
  metadata: {}
})
export const asked = (id: string, sessionId = root): TurnEvent => ({
  _tag: "Asked",
  ...base(sessionId),
  ask: permission(id, sessionId)
})
export const resolved = (id: string, sessionId = root): TurnEvent => ({
  _tag: "AskResolved",
  ...base(sessionId),
  askId: AskId.make(id)
})
export const continued = (id: string): TurnEvent => ({
  _tag: "TurnContinued",
  ...base(),
  messageId: MessageId.make(id)
})
