import { assert, it } from "@effect/vitest"
import { AskId, AssistantMessageId, ConversationId, MessageId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import * as Usage from "@opencode-turn/core/Usage"
import { fromWire, toWire, version, WireUpdate } from "@opencode-turn/core/WireUpdate"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"

const decode = Schema.decodeUnknownSync(WireUpdate)

const sessionId = SessionId.make("ses_1")
const partId = PartId.make("prt_1")
const part = {
  type: "text",
  id: partId,
  messageId: MessageId.make("msg_1"),
  text: "Hi \ud800",
  isComplete: false
} as const
const subagent = {
  sessionId: SessionId.make("ses_2"),
  parentId: sessionId,
  title: "look",
  status: "running",
  text: "",
  usage: Usage.zero
} as const
const ask = {
  _tag: "Question",
  id: AskId.make("que_1"),
  sessionId,
  questions: [{ question: "Which?", header: "", options: [], multiple: false, custom: true }]
} as const

const session: ReadonlyArray<ReplyUpdate> = [
  { _tag: "TextDelta", partId, delta: "\u0000" },
  { _tag: "ReasoningDelta", partId, delta: "" },
  { _tag: "PartChanged", part },
  { _tag: "PartRemoved", partId },
  { _tag: "TodosChanged", todos: [{ content: "look", status: "pending" }] },
  { _tag: "Retrying", retry: { attempt: 1, message: "busy", nextMillis: 5 } },
  { _tag: "Failed", failure: { name: "APIError", message: "no", isRetryable: false } }
]

const updates: ReadonlyArray<ReplyUpdate> = [
  {
    _tag: "Started",
    conversationId: ConversationId.make("42"),
    messageId: AssistantMessageId.make("asm_1"),
    sessionId,
    promptId: MessageId.make("msg_0"),
    model: "anthropic/claude"
  },
  ...session,
  ...session.flatMap((update): ReadonlyArray<ReplyUpdate> =>
    update._tag === "TextDelta" || update._tag === "PartChanged" || update._tag === "Failed"
      ? [{ _tag: "SubagentUpdate", sessionId: subagent.sessionId, openedBy: undefined, update }]
      : []
  ),
  { _tag: "SubagentChanged", subagent },
  { _tag: "Asked", ask, openedBy: partId },
  { _tag: "AskResolved", askId: ask.id },
  {
    _tag: "Reset",
    reason: "attached",
    parts: [part],
    subagents: [{ ...subagent, parts: [part] }],
    asks: [{ ask, openedBy: undefined }]
  }
]

it.each(updates.map((update, place) => [`${place} ${update._tag}`, update] as const))(
  "an update is the same after its way through JSON: %s",
  (_, update) => {
    assert.deepStrictEqual(fromWire(decode(JSON.parse(JSON.stringify(toWire(update))))), update)
  }
)

it("the form names its version where a turn starts", () => {
  assert.deepInclude(updates.slice(0, 1).map(toWire)[0], { type: "turn.started", version, agent: null })
})

it("docs/UPDATES.md shows an example of every update, which the schema reads", () => {
  const whole = readFileSync(new URL("../../../../docs/UPDATES.md", import.meta.url), "utf8")
  // The lines of the command besides have their test beside the command.
  const [page = ""] = whole.split("\n## Lines of the command besides")
  const examples = Array.from(page.matchAll(/```json\n(.*?)```/gs), ([, json]) => decode(JSON.parse(json ?? "")))
  assert.sameMembers(
    examples.map(({ type }) => type),
    Array.from(new Set(updates.map((update) => toWire(update).type)))
  )
  for (const { _tag } of updates) assert.include(page, `\`${_tag}\``)
})
