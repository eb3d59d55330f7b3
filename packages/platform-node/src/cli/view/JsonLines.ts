/**
 * Writes a turn as lines of JSON, for programs: one object with a `type` per line, `turn.finished` last.
 *
 * | type | fields |
 * |---|---|
 * | `turn.started` | `version`, `conversationId`, `messageId`, `sessionId`, `promptId`, `model`, `agent` |
 * | `text.delta`, `reasoning.delta` | `partId`, `delta` |
 * | `part` | `part`: a part that was opened, changed or closed, whole; it replaces its deltas |
 * | `part.removed` | `partId` |
 * | `todos` | `todos` |
 * | `retrying` | `attempt`, `message`, `nextMillis` |
 * | `failed` | `failure`: the failure that the model's provider reported; a subagent's failure need not fail the turn |
 * | `subagent` | `subagent`: a subagent that was opened, linked to its tool, or ended, whole |
 * | `subagent.update` | `sessionId`, `openedBy` (the tool's part, or null), `update`: one of the objects above, for the subagent |
 * | `asked` | `ask`: a permission or a question, with the `sessionId` that asks; `openedBy` as above |
 * | `answered` | `askId` |
 * | `reset` | `reason`, `parts`, `subagents` (each with its `parts`), `asks`: they replace everything before |
 * | `turn.queued` | `messageId`, `conversationId`, `behind`: the message that runs, or null |
 * | `turn.finished` | see {@link fromEnding} |
 *
 * `run` and `watch` write the same lines. Those of `watch` have an `offset` besides, from which `--from` takes the turn up again.
 */
import type { Artifact, Artifacts } from "@opencode-turn/core/Artifact"
import type { AssistantMessageId } from "@opencode-turn/core/Ids"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { MessageState, StoredMessage } from "@opencode-turn/core/SessionStore"
import type { StoredAsk } from "@opencode-turn/core/StoredAsk"
import * as Usage from "@opencode-turn/core/Usage"
import * as WireUpdate from "@opencode-turn/core/WireUpdate"
import { escapeJson } from "../../terminal/TerminalText.ts"
import { factsOf, type Failure, type Told } from "../setup/Failure.ts"
import * as Endings from "./Ending.ts"

/** The line of an update. */
export const fromUpdate = (update: ReplyUpdate): string => encode(WireUpdate.toWire(update))

/** The line of a turn that waits for another turn. */
export const fromWait = (waiting: MessageState, running: AssistantMessageId | undefined): string =>
  encode({
    type: "turn.queued",
    messageId: waiting.id,
    conversationId: waiting.conversationId,
    behind: running ?? null
  })

/**
 * The last line of a turn. Every key is always present; a missing value is `null`. The store keeps neither the changed files nor `dropped`, so
 * they are `null` for a stored turn. `text` holds only the agent's own text. `content` is the stored text for a reader: a structured answer
 * as JSON, or with `isFallback` the policy's text. `finish` is the server's word for why the answer ended. `cost` and `tokens` are the
 * totals of `usage`, `subagents` have the form of the line `subagent`, and `output` is the value of `--schema`. `error` has a
 * `tag`, a `message` for people, and the error's own fields as `details`.
 */
export const fromEnding = (ending: Endings.Ending): string => {
  const { parts, reasoning, text, todos, tools } = ending.reply
  const { models, root, subagents, total } = ending.usage
  return encode({
    type: "turn.finished",
    status: ending.status,
    finish: ending.finish ?? null,
    text,
    content: ending.content,
    isFallback: ending.isFallback,
    output: ending.output ?? null,
    reasoning,
    parts,
    tools,
    todos,
    ...fromUsage(total),
    usage: {
      total: fromUsage(total),
      root: fromUsage(root),
      subagents: fromUsage(subagents),
      models: models?.map(fromModel) ?? null
    },
    subagents: ending.subagents,
    ...fromArtifacts(ending.artifacts),
    durationMillis: ending.durationMillis,
    firstTokenMillis: ending.firstTokenMillis ?? null,
    timing: ending.timing ?? null,
    dropped: ending.dropped ?? null,
    conversationId: ending.conversationId,
    sessionId: ending.sessionId ?? null,
    messageId: ending.messageId,
    promptId: ending.promptId ?? null,
    error: fromError(ending.error)
  })
}

/** The last line of a command without a turn, with the same keys. */
export const fromFailure = (failure: Failure, conversation: string | undefined): string => {
  const nothing = fromUsage(Usage.zero)
  return encode({
    type: "turn.finished",
    status: "failed",
    finish: null,
    text: "",
    content: "",
    isFallback: false,
    output: null,
    reasoning: "",
    parts: [],
    tools: [],
    todos: [],
    ...nothing,
    usage: { total: nothing, root: nothing, subagents: nothing, models: null },
    subagents: [],
    ...fromArtifacts(undefined),
    durationMillis: 0,
    firstTokenMillis: null,
    timing: null,
    dropped: null,
    conversationId: conversation ?? null,
    sessionId: null,
    messageId: null,
    promptId: null,
    error: { tag: failure.tag, message: failure.message, details: failure.details ?? {} }
  })
}

/** The line of an update of a turn that is attached to, with the offset from which the rest can be read. */
export const fromAttached = (offset: string, update: ReplyUpdate): string =>
  encode({ ...WireUpdate.toWire(update), offset })

/** The line of a turn in a list: no prompt, and no reply. */
export const fromState = (state: MessageState): string =>
  encode({
    type: "message",
    messageId: state.id,
    conversationId: state.conversationId,
    sessionId: state.started?.sessionId ?? null,
    status: state.status,
    finish: state.finish,
    excerpt: state.excerpt,
    isFallback: state.isFallback,
    ...fromUsage(state.usage),
    ...fromAccount(state.account),
    createdMillis: state.createdMillis,
    finishedMillis: state.finishedMillis,
    error: fromError(Endings.errorOf(state))
  })

/** The line of a stored message. Its `text`, `content`, `isFallback` and `error` have the meaning of {@link fromEnding}. */
export const fromStored = (message: StoredMessage): string =>
  encode({
    type: "message",
    messageId: message.id,
    conversationId: message.conversationId,
    sessionId: message.promptRecord?.sessionId ?? null,
    status: message.status,
    operation: message.draft?.operation ?? null,
    revertedBy: message.revertedBy,
    finish: message.finish,
    prompt: message.prompt,
    text: Endings.fromStored(message).reply.text,
    content: message.content,
    isFallback: message.isFallback,
    parts: message.parts,
    ...fromUsage(message.usage),
    ...fromAccount(message.account),
    subagents: message.subagents,
    createdMillis: message.createdMillis,
    finishedMillis: message.finishedMillis,
    error: fromError(Endings.errorOf(message))
  })

/** The line of a stored ask. */
export const fromAsk = (stored: StoredAsk): string =>
  encode({
    type: "ask",
    askId: stored.id,
    conversationId: stored.conversationId,
    messageId: stored.messageId,
    status: stored.status,
    ask: stored.ask,
    answer: stored.answer,
    createdMillis: stored.createdMillis,
    closedMillis: stored.closedMillis
  })

/** The line after the readable rows: the ids of the unreadable ones. */
export const fromUnreadable = (ids: ReadonlyArray<string>): string => encode({ type: "unreadable", ids })

/** The line of `prune`. */
export const fromPrune = (count: number): string => encode({ type: "pruned", count })

// internal

const fromError = (error: Told | undefined) =>
  error === undefined ? null : { tag: error._tag, message: error.message, details: factsOf(error) }

const fromArtifacts = (artifacts: Artifacts | undefined) => ({
  files: artifacts?.files.map(fromArtifact) ?? null,
  filesUnread: artifacts?.unread ?? null
})

/** Omits the contents, which may be large; the parts hold them. */
const fromArtifact = ({ additions, change, deletions, mediaType, path, sessionIds }: Artifact) => ({
  path,
  change,
  mediaType: mediaType ?? null,
  additions: additions ?? null,
  deletions: deletions ?? null,
  sessionIds
})

const fromUsage = ({ cost, tokens: { cacheRead, cacheWrite, input, output, reasoning } }: Usage.Usage) => ({
  cost,
  tokens: { input, output, reasoning, cacheRead, cacheWrite }
})

const fromModel = ({ model, steps, ...usage }: Usage.ModelUsage) => ({ model, steps, ...fromUsage(usage) })

const fromAccount = (account: MessageState["account"]) => ({
  models: account?.models.map(fromModel) ?? null,
  firstTokenMillis: account?.firstTokenMillis ?? null,
  timing: account?.timing ?? null
})

const encode = (value: object): string => `${escapeJson(JSON.stringify(value))}\n`
