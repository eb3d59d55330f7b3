/**
 * The sample data of the contract's tests: turns, replies, and texts that a store might corrupt.
 */
import type { Vitest } from "@effect/vitest"
import type { Account } from "@opencode-turn/core/Account"
import type { Answer, PermissionAsk, QuestionAsk } from "@opencode-turn/core/Ask"
import {
  AskId,
  AssistantMessageId,
  ConversationId,
  makeId,
  maxIdLength,
  MessageId,
  PartId,
  SessionId
} from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import type { Part } from "@opencode-turn/core/Part"
import type { PromptPart } from "@opencode-turn/core/Prompt"
import type { Content, Lease, Outcome, PromptRecord } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import type { Subagent } from "@opencode-turn/core/Subagent"
import * as Usage from "@opencode-turn/core/Usage"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** Where tests of a store are registered. */
export type StoreTests = Vitest.MethodsNonLive<SessionStore>

export const numbers = (count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, n) => n)

export const session = (name: string): SessionId => SessionId.make(`ses_${name}`)

export const newConversation = Effect.map(makeId("con"), (id) => ConversationId.make(id))

export const newTurnOf = (conversationId: ConversationId) =>
  Effect.map(makeId("asm"), (id) => {
    const prompt: ReadonlyArray<PromptPart> = [{ type: "text", text: "What is in this repository?" }]
    return { id: AssistantMessageId.make(id), conversationId, prompt }
  })

export const newTurn = Effect.flatMap(newConversation, newTurnOf)

/** A lease of one second. */
export const leaseOf = (owner: string): Lease => ({ owner, millis: 1_000 })

export const stored = Effect.fnUntraced(function*(id: AssistantMessageId) {
  const store = yield* SessionStore
  return yield* Effect.fromOption(yield* store.getMessage(id))
})

/** How far the journal goes after a first write of the content. */
export const offsetOf = (content: Content): number => Journal.between(undefined, content).length

export const race = <A, B, E1, E2>(first: Effect.Effect<A, E1>, second: Effect.Effect<B, E2>) =>
  Effect.zipWith(first, second, (a, b) => ({ ...a, ...b }), { concurrent: true })

export const promptOf = (text: string): ReadonlyArray<PromptPart> => [
  { type: "text", text },
  { type: "file", mediaType: "text/plain", url: `data:text/plain,${encodeURIComponent("a b")}`, filename: text },
  { type: "file", mediaType: "image/png", url: "https://example.com/picture.png" },
  { type: "agent", name: text }
]

export const recordOf = (parts: ReadonlyArray<PromptPart>, text = "plain"): PromptRecord => ({
  sessionId: session("of the prompt"),
  prompt: {
    ids: {
      promptId: MessageId.make("msg_0123456789abPrompt"),
      partIds: parts.map((_, index) => PartId.make(`prt_0123456789ab${index}`))
    },
    parts,
    agent: "build",
    model: { providerId: "anthropic", modelId: "claude-sonnet-4-5" },
    variant: "high",
    system: text,
    format: { type: "object", properties: { answer: { type: "string", description: text } }, required: ["answer"] }
  },
  earlier: [MessageId.make("msg_0123456789aaFirst"), MessageId.make("msg_0123456789aaSecond")]
})

export const someUsage: Usage.Usage = {
  cost: 0.000123456789,
  tokens: { input: 12_345, output: 678, reasoning: 9, cacheRead: 1_000_000, cacheWrite: 0 }
}

export const someAccount: Account = {
  timing: {
    queueMillis: 0,
    peopleMillis: 60_000,
    modelMillis: 1_234.5,
    toolsMillis: 7,
    retriesMillis: 0,
    orphanedMillis: 4_000,
    otherMillis: 1
  },
  models: [{ model: "anthropic/claude-sonnet-4-5", steps: 2, ...someUsage }, { model: "", steps: 1, ...Usage.zero }],
  firstTokenMillis: 321,
  untilMillis: 1_754_000_000_000
}

const partId = (name: string): PartId => PartId.make(`prt_${name}`)

/** One part of every type and status, with `text` wherever a part holds text. */
export const partsOf = (text: string): ReadonlyArray<Part> => {
  const messageId = MessageId.make("msg_0123456789abAnswer")
  const tool = { type: "tool", messageId, callId: "call_1", tool: "bash" } as const
  return [
    { type: "reasoning", id: partId("reasoning"), messageId, text, isComplete: true },
    { ...tool, id: partId("pending"), status: "pending", input: {} },
    { ...tool, id: partId("running"), status: "running", input: { command: text }, title: text, startedMillis: 1.5 },
    {
      ...tool,
      id: partId("completed"),
      status: "completed",
      input: { command: text, nested: { list: [1, null, true, { deep: text }] }, [text]: text },
      title: text,
      output: text,
      metadata: { exit: 0, truncated: false },
      subagent: session("child"),
      startedMillis: 1_754_000_000_000,
      endedMillis: 1_754_000_000_001
    },
    { ...tool, id: partId("error"), status: "error", input: {}, error: text, isRefused: true },
    {
      type: "file",
      id: partId("file"),
      messageId,
      mediaType: "image/png",
      url: "data:image/png;base64,AA==",
      filename: text
    },
    { type: "patch", id: partId("patch"), messageId, files: ["src/a.ts", text] },
    { type: "step-finish", id: partId("finish"), messageId, reason: "stop", ...someUsage },
    { type: "text", id: partId("text"), messageId, text, isComplete: false },
    {
      type: "todos",
      id: partId("todos"),
      todos: [{ content: text, status: "in_progress", priority: "high" }, { content: text, status: "cancelled" }]
    }
  ]
}

/** A subagent of every status, with `text` in every text field; one subagent was opened by another. */
export const subagentsOf = (text: string): ReadonlyArray<Subagent> => [
  {
    sessionId: session("child"),
    parentId: session("of the prompt"),
    openedBy: partId("completed"),
    title: text,
    agent: text,
    status: "completed",
    text,
    usage: someUsage
  },
  ...(["running", "error", "cancelled"] as const).map((status) => ({
    sessionId: session(status),
    parentId: session("child"),
    title: text,
    status,
    text: "",
    usage: Usage.zero
  }))
]

export const completed: Outcome = {
  status: "completed",
  content: "It is a workspace.",
  isFallback: false,
  finish: "stop",
  parts: partsOf("It is a workspace."),
  usage: someUsage,
  account: someAccount,
  subagents: subagentsOf("It is a workspace."),
  error: null
}

export const failed: Outcome = {
  status: "error",
  content: "The model could not be reached.",
  isFallback: true,
  finish: null,
  parts: [],
  usage: Usage.zero,
  error: { tag: "Upstream", message: "the provider said 529", details: { statusCode: 529, tools: ["bash"] } }
}

export const interrupted: Outcome = { ...failed, status: "cancelled", content: "Stopped.", error: null }

export const terminals: ReadonlyArray<Outcome> = [completed, interrupted, failed]

export const transitions = terminals.flatMap((from) =>
  terminals.map((to) => ({ from, to, name: `${from.status} for ${to.status}` }))
)

export const contents = [
  { name: "no text at all", text: "" },
  { name: "text of many scripts", text: "żółć, 日本語, עברית, Ünïcode, e\u0301 and \u00e9" },
  { name: "emoji of several code points", text: "👩‍👩‍👧‍👦 🏳️‍🌈 𝒯𝓊𝓇𝓃 🇺🇳" },
  { name: "line breaks, tabs, quotes and backslashes", text: "a\r\nb\tc\u2028d \"e\" 'f' `g` \\n \\u0000 %s $1 ?" },
  { name: "NUL and other control characters", text: "before\u0000after\u0001\u001b[31m\u007f\u0000" },
  { name: "half a surrogate pair, which a cut stream leaves", text: "cut \ud83d" },
  { name: "a byte order mark", text: "\ufeffmarked" },
  { name: "text that looks like JSON or SQL", text: "{\"status\":\"pending\"}'); DROP TABLE messages; --" },
  { name: "a megabyte of text", text: "0123456789abcdeé".repeat(65_536) }
]

const newRequestId = Effect.map(makeId("req"), (id) => AskId.make(id))

export const questionOf = (id: AskId, text: string): QuestionAsk => ({
  _tag: "Question",
  id,
  sessionId: session("child"),
  questions: [
    { question: text, header: text, options: [{ label: text, description: text }], multiple: true, custom: false },
    { question: text, header: "", options: [], multiple: false, custom: true }
  ],
  tool: { messageId: MessageId.make("msg_0123456789abAnswer"), callId: text }
})

export const permissionOf = (id: AskId, text: string): PermissionAsk => ({
  _tag: "Permission",
  id,
  sessionId: session("of the prompt"),
  permission: text,
  patterns: [text, "*"],
  always: [],
  metadata: { command: text, [text]: [1, null, { deep: text }] }
})

export const newAsk = Effect.map(newRequestId, (id) => permissionOf(id, "git push"))

export const once: Answer = { _tag: "Permission", reply: { reply: "once" } }

/** An answer of every kind, with `text` wherever one holds text. */
export const answersOf = (text: string): ReadonlyArray<Answer> => [
  { _tag: "Answers", answers: [[text, "yes"], [], [text]] },
  { _tag: "Permission", reply: { reply: "reject", message: text } },
  { _tag: "Permission", reply: { reply: "always" } },
  { _tag: "Reject", message: text },
  { _tag: "Reject" },
  { _tag: "Skip" }
]

export const hostileIds = [
  { name: "a single quote", id: "'" },
  { name: "a double quote", id: "\"" },
  { name: "SQL that drops a table", id: "'; DROP TABLE opencode_turn_assistant_messages; --" },
  { name: "SQL that is always true", id: "' OR '1'='1" },
  { name: "a LIKE pattern", id: "%_%" },
  { name: "a placeholder", id: "?1 $1 :id @id" },
  { name: "a number", id: "0012" },
  { name: "the name of a property that every object has", id: "__proto__" },
  { name: "unicode with spaces around it", id: " żółć 👩‍👧 " }
]

/** Ids that rows cannot hold unchanged. */
export const unstorableIds = [
  { name: "a NUL", id: "a\0b" },
  { name: "half a surrogate pair", id: "cut \ud83d" },
  { name: "the other half of one", id: "\ude00 cut" },
  { name: "513 characters", id: "x".repeat(513) },
  { name: "a megabyte", id: "x".repeat(1024 * 1024) }
]

/** The longest ids that every store accepts, of characters with the most bytes, which a database cannot compress. */
export const longId = Effect.map(
  Effect.replicateEffect(Random.nextIntBetween(0x4e00, 0x9fff), maxIdLength),
  (codes) => String.fromCharCode(...codes)
)
