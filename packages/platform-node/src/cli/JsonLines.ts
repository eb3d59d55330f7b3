/**
 * A turn as lines of JSON, for programs: one object with a `type` per line, `turn.finished` last.
 *
 * | type | fields |
 * |---|---|
 * | `text.delta`, `reasoning.delta` | `partId`, `delta` |
 * | `part` | `part`: opened, changed or closed, the whole of it; takes the place of its deltas |
 * | `part.removed` | `partId` |
 * | `todos` | `todos` |
 * | `asked` | `ask`: a permission or a question |
 * | `answered` | `requestId` |
 * | `retrying` | `attempt`, `message`, `nextMillis` |
 * | `subagent` | `sessionId`, `parentId`, `title`, `agent` |
 * | `reset` | `reason`, `parts`: they take the place of all that came before |
 * | `queued` | `messageId`, `conversationId`, `behind`: the message that runs now, or null |
 * | `turn.finished` | see {@link fromEnding} |
 *
 * `watch` writes `snapshot` lines, with the fields of a stored message, before the last one.
 */
import * as Reply from "@opencode-turn/core/Reply"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import * as Usage from "@opencode-turn/core/Usage"
import type { Ending } from "./Ending.ts"
import type { Failure } from "./Failure.ts"

/** The line of an update. */
export const fromUpdate = (update: ReplyUpdate): string => {
  switch (update._tag) {
    case "TextDelta":
      return encode({ type: "text.delta", partId: update.partId, delta: update.delta })
    case "ReasoningDelta":
      return encode({ type: "reasoning.delta", partId: update.partId, delta: update.delta })
    case "PartChanged":
      return encode({ type: "part", part: update.part })
    case "PartRemoved":
      return encode({ type: "part.removed", partId: update.partId })
    case "TodosChanged":
      return encode({ type: "todos", todos: update.todos })
    case "Asked":
      return encode({ type: "asked", ask: update.ask })
    case "AskResolved":
      return encode({ type: "answered", requestId: update.requestId })
    case "Retrying":
      return encode({ type: "retrying", ...update.retry })
    case "SubagentOpened": {
      const { agent, parentId, sessionId, title } = update.subagent
      return encode({ type: "subagent", sessionId, parentId, title, agent: agent ?? null })
    }
    case "Reset":
      return encode({ type: "reset", reason: update.reason, parts: Reply.parts(update.reply) })
  }
}

/** The line of a turn that waits for another one. */
export const fromWait = (waiting: StoredMessage, running: StoredMessage | undefined): string =>
  encode({
    type: "queued",
    messageId: waiting.id,
    conversationId: waiting.conversationId,
    behind: running?.id ?? null
  })

/** The last line of a turn. Every key is always there; what was not reached is `null`. */
export const fromEnding = (ending: Ending): string => {
  const { parts, reasoning, text, tools, usage } = ending.reply
  return encode({
    type: "turn.finished",
    status: ending.status,
    text,
    reasoning,
    parts,
    tools,
    cost: usage.cost,
    tokens: tokensOf(usage),
    durationMs: ending.durationMillis,
    conversationId: ending.conversationId,
    sessionId: ending.sessionId ?? null,
    messageId: ending.messageId,
    promptId: ending.promptId ?? null,
    error: ending.error === undefined ? null : { tag: ending.error._tag, message: ending.error.message }
  })
}

/** The last line of a command that came to no turn, with the same keys. */
export const fromFailure = (failure: Failure, conversation: string | undefined): string =>
  encode({
    type: "turn.finished",
    status: "failed",
    text: "",
    reasoning: "",
    parts: [],
    tools: [],
    cost: 0,
    tokens: tokensOf(Usage.zero),
    durationMs: 0,
    conversationId: conversation ?? null,
    sessionId: null,
    messageId: null,
    promptId: null,
    error: { tag: failure.tag, message: failure.message }
  })

/** The line of a stored message. */
export const fromStored = (message: StoredMessage, type: "message" | "snapshot" = "message"): string =>
  encode({
    type,
    messageId: message.id,
    conversationId: message.conversationId,
    sessionId: message.request?.sessionId ?? null,
    status: message.status,
    prompt: message.prompt,
    text: message.content,
    parts: message.parts,
    cost: message.usage.cost,
    tokens: tokensOf(message.usage),
    createdMillis: message.createdMillis,
    finishedMillis: message.finishedMillis,
    error: message.error
  })

/** The line of `prune`. */
export const fromPrune = (count: number): string => encode({ type: "pruned", count })

// internal

const tokensOf = ({ tokens: { cacheRead, cacheWrite, input, output, reasoning } }: Usage.Usage) => ({
  input,
  output,
  reasoning,
  cacheRead,
  cacheWrite
})

/** One line. What a terminal could take for an order is written as an escape of JSON, the value stays the same. */
const encode = (value: object): string =>
  `${
    JSON.stringify(value).replaceAll(
      /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu,
      (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
    )
  }\n`
