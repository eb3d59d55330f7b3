/** Updates of turns for the protocols that show them: random ones, and those of the recorded turns. */
import { AskId, AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import * as Journal from "@opencode-turn/core/Journal"
import type { Part, ToolPart } from "@opencode-turn/core/Part"
import * as Reply from "@opencode-turn/core/Reply"
import * as ReplyUpdate from "@opencode-turn/core/ReplyUpdate"
import type { StoredMessage } from "@opencode-turn/core/SessionStore"
import * as Usage from "@opencode-turn/core/Usage"
import { Schema } from "effect"
import * as Tapes from "../../../../core/test/support/tapes.ts"

type Update = ReplyUpdate.ReplyUpdate

export const sessionId = SessionId.make("ses_root")

const start: ReplyUpdate.Started = {
  _tag: "Started",
  conversationId: ConversationId.make("c"),
  messageId: AssistantMessageId.make("asm_1"),
  sessionId,
  promptId: MessageId.make("msg_0"),
  model: "scripted/m"
}

export const started: Update = start

/** A few ids, so that updates meet each other. */
const small = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 3 }))
const kind = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 19 }))

/** What a random update is made of. */
export const Picks = Schema.Array(Schema.Struct({ kind, id: small, other: small, flag: Schema.Boolean })).check(
  Schema.isMinLength(20),
  Schema.isMaxLength(60)
)

type Pick = (typeof Picks)["Type"][number]

const messageId = MessageId.make("msg_1")
const words = ["", "one ", "two \ud83d\ude00", "<b>three</b>\n"]
const child = (id: number) => SessionId.make(`ses_${id}`)
const partId = (id: number) => PartId.make(`prt_${id}`)
const childPartId = (session: number, id: number) => PartId.make(`prt_of${session}_${id}`)

const statuses = ["pending", "running", "completed", "error"] as const

const tool = (id: number, status: number, flag: boolean): ToolPart => ({
  type: "tool",
  id: partId(id),
  messageId,
  callId: `call_${id}`,
  tool: id === 0 ? "task" : "bash",
  status: statuses[status] ?? "error",
  input: status === 0 && flag ? {} : { command: "ls" },
  ...(status > 0 && { title: "List", startedMillis: 5 }),
  ...(status === 1 && flag && { metadata: { output: "a.ts\n" } }),
  ...(status === 2 && { output: "a.ts\nb.ts", metadata: { exit: 0, diff: null } }),
  ...(status === 3 && { error: "no", ...(flag && { isRefused: true }) })
})

const partOf = ({ flag, id, kind, other }: Pick): Part => {
  switch (kind) {
    case 0:
      return { type: "reasoning", id: partId(id), messageId, text: words[other] ?? "", isComplete: flag }
    case 1:
    case 2:
      return { type: "text", id: partId(id), messageId, text: words[other] ?? "", isComplete: flag }
    case 3:
      return other < 2
        ? { type: "file", id: partId(id), messageId, mediaType: "image/png", url: "data:image/png;base64,AA==" }
        : { type: "patch", id: partId(id), messageId, files: flag ? ["a.ts"] : [] }
    case 4:
      return {
        type: "step-finish",
        id: PartId.make(`prt_step${id}`),
        messageId,
        reason: "stop",
        cost: other / 4,
        tokens: Usage.zero.tokens
      }
    default:
      return tool(id, other, flag)
  }
}

const askOf = ({ flag, id, other }: Pick): Extract<Update, { _tag: "Asked" }> => ({
  _tag: "Asked",
  ask: flag
    ? {
      _tag: "Permission",
      id: AskId.make(`per_${id}`),
      sessionId: other === 3 ? child(0) : sessionId,
      permission: "bash",
      patterns: ["ls"],
      always: ["ls *"],
      metadata: other === 1 ? { command: "ls" } : {},
      tool: { messageId, callId: `call_${other}` }
    }
    : {
      _tag: "Question",
      id: AskId.make(`que_${id}`),
      sessionId,
      questions: [{ question: "Which?", header: "", options: [], multiple: false, custom: true }],
      ...(other > 1 && { tool: { messageId, callId: `call_${other}` } })
    },
  openedBy: other === 3 ? partId(0) : undefined
})

/** A random update; any order of them has to be told. */
const toUpdate = (pick: Pick): Update => {
  const { flag, id, kind, other } = pick
  switch (kind) {
    case 8:
    case 9:
      return { _tag: "TextDelta", partId: partId(id), delta: words[other] ?? "" }
    case 10:
      return { _tag: "ReasoningDelta", partId: partId(id), delta: words[other] ?? "" }
    case 11:
      return { _tag: "PartRemoved", partId: partId(id) }
    case 12:
      return { _tag: "TodosChanged", todos: flag ? [{ content: `${other}`, status: "pending" }] : [] }
    case 13:
      return { _tag: "Retrying", retry: { attempt: 1, message: "busy", nextMillis: 5 } }
    case 14:
      return askOf(pick)
    case 15:
      return { _tag: "AskResolved", askId: AskId.make(`${flag ? "per" : "que"}_${id}`) }
    case 16:
      return {
        _tag: "SubagentChanged",
        subagent: {
          sessionId: child(id),
          parentId: id === 3 ? child(2) : sessionId,
          ...(flag && { openedBy: partId(id === 3 ? 1 : id) }),
          title: "look",
          status: other === 3 ? "completed" : "running",
          text: other === 3 ? "found" : "",
          usage: Usage.zero
        }
      }
    case 17:
    case 18:
      return {
        _tag: "SubagentUpdate",
        sessionId: child(id),
        openedBy: undefined,
        update: flag
          ? {
            _tag: "PartChanged",
            part: { ...partOf({ ...pick, kind: other + 1, id: other }), id: childPartId(id, other) }
          }
          : { _tag: "TextDelta", partId: childPartId(id, other), delta: "more" }
      }
    case 19:
      return { ...start, sessionId: SessionId.make(`ses_again${id}`) }
    default:
      return { _tag: "PartChanged", part: partOf(pick) }
  }
}

/** A subagent is told before its parts. */
export const toUpdates = (picks: ReadonlyArray<Pick>): ReadonlyArray<Update> => {
  const known = new Set<string>()
  const updates = picks.map(toUpdate).filter((update) => {
    if (update._tag === "SubagentChanged") known.add(update.subagent.sessionId)
    return update._tag !== "SubagentUpdate" || known.has(update.sessionId)
  })
  return [started, ...updates]
}

/** What a page that is loaded anew gets in place of the updates so far, as the journal tells it. */
export const replay = (updates: ReadonlyArray<Update>): ReadonlyArray<Update> => {
  const { asks, parts, partsOf, subagents } = stateOf(updates)
  const beginning = updates.findLast(({ _tag }) => _tag === "Started")
  return [
    ...(beginning === undefined ? [] : [beginning]),
    {
      _tag: "Reset",
      reason: "attached",
      parts,
      subagents: subagents.map((subagent) => ({ ...subagent, parts: partsOf.get(subagent.sessionId) ?? [] })),
      asks
    }
  ]
}

/** A journal tells to-dos as a part. */
const stateOf = (updates: ReadonlyArray<Update>) =>
  Journal.apply(updates.map((update) =>
    update._tag === "TodosChanged"
      ? { _tag: "PartChanged", part: { type: "todos", id: PartId.make("prt_todos"), todos: update.todos } }
      : update
  ))

/** The message with which a turn of these updates ends. */
export const ending = (
  updates: ReadonlyArray<Update>,
  status: "completed" | "cancelled" | "error" = "completed",
  content = "done"
): { readonly _tag: "Finished"; readonly message: StoredMessage } => {
  const { parts, subagents } = stateOf(updates)
  return {
    _tag: "Finished",
    message: {
      id: start.messageId,
      conversationId: start.conversationId,
      position: 1,
      status,
      epoch: 1,
      revision: 1,
      offset: 1,
      owner: null,
      leaseUntilMillis: null,
      takeovers: 0,
      account: {
        timing: {
          queueMillis: 0,
          peopleMillis: 30,
          modelMillis: 20,
          toolsMillis: 0,
          retriesMillis: 0,
          orphanedMillis: 0,
          otherMillis: 1
        },
        models: [
          { model: "scripted/m", steps: 2, cost: 0.4, tokens: { ...Usage.zero.tokens, input: 1 } },
          { model: "scripted/small", steps: 1, cost: 0.1, tokens: { ...Usage.zero.tokens, input: 2 } }
        ],
        firstTokenMillis: 7,
        untilMillis: 51
      },
      revertedBy: null,
      excerpt: "Do it.",
      started: { sessionId, promptId: start.promptId, model: "scripted/m" },
      isFallback: status === "error",
      finish: "stop",
      usage: { cost: 0.5, tokens: { ...Usage.zero.tokens, input: 3 } },
      error: status === "completed" ? null : { tag: "Upstream", message: "the model failed" },
      createdMillis: 1,
      finishedMillis: 2,
      prompt: [{ type: "text", text: "Do it." }],
      draft: null,
      promptRecord: null,
      content,
      parts,
      subagents,
      waits: []
    }
  }
}

/** The updates of each recorded turn. */
export const tapes: ReadonlyArray<{ readonly name: string; readonly updates: ReadonlyArray<Update> }> = Tapes.tapes.map(
  (tape) => {
    const updates: Array<Update> = [{ ...start, ...tape.ids }]
    let reply = Tapes.empty(tape)
    for (const event of tape.events.filter(Tapes.isTurnEvent)) {
      const [after, told] = Reply.fold(reply, event)
      updates.push(...ReplyUpdate.fromFold(reply, after, told))
      reply = after
    }
    return { name: tape.name, updates }
  }
)
