import { fromError, usage } from "#cli/setup/Failure"
import * as Ending from "#cli/view/Ending"
import * as JsonLines from "#cli/view/JsonLines"
import { assert, it } from "@effect/vitest"
import { AskId, AssistantMessageId, ConversationId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { Subagent } from "@opencode-turn/core/Subagent"
import { EmptyStream } from "@opencode-turn/core/TurnError"
import { zero } from "@opencode-turn/core/Usage"
import { readFileSync } from "node:fs"
import { ids, reset, result, textPart } from "../../support/ScreenPlay.ts"

const subagent: Subagent = {
  sessionId: SessionId.make("ses_2"),
  parentId: ids.sessionId,
  title: "look",
  status: "completed",
  text: "Three.",
  usage: { ...zero, cost: 0.002 }
}

const lineOf = (update: Parameters<typeof JsonLines.fromUpdate>[0]) => JSON.parse(JsonLines.fromUpdate(update))

it("names the removed part", () => {
  assert.strictEqual(
    JsonLines.fromUpdate({ _tag: "PartRemoved", partId: PartId.make("prt_1") }),
    `{"type":"part.removed","partId":"prt_1"}\n`
  )
})

it("writes one line that holds exactly the text of the model", () => {
  const text = "a\nb\r\u001b[31m\u009b2J\u202e\u2028\u007f \u{1f600} é"
  const line = JsonLines.fromUpdate({ _tag: "TextDelta", partId: PartId.make("prt_1"), delta: text })
  assert.deepStrictEqual(JSON.parse(line), { type: "text.delta", partId: "prt_1", delta: text })
  assert.match(line, /^[^\n]*\n$/)
  assert.notMatch(line.slice(0, -1), /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/u)
})

it("marks a subagent's updates with its session and the tool that opened it", () => {
  const delta = { _tag: "TextDelta", partId: PartId.make("prt_1"), delta: "hi" } as const
  const { sessionId } = subagent
  assert.deepStrictEqual(lineOf({ _tag: "SubagentUpdate", sessionId, openedBy: undefined, update: delta }), {
    type: "subagent.update",
    sessionId: "ses_2",
    openedBy: null,
    update: { type: "text.delta", partId: "prt_1", delta: "hi" }
  })
  const failure = { name: "APIError", message: "no", isRetryable: false }
  const failed = { _tag: "Failed", failure } as const
  const openedBy = PartId.make("prt_2")
  assert.deepInclude(lineOf({ _tag: "SubagentUpdate", sessionId, openedBy, update: failed }), {
    openedBy: "prt_2",
    update: { type: "failed", failure }
  })
  const told = {
    sessionId: "ses_2",
    parentId: "ses_1",
    title: "look",
    status: "completed",
    text: "Three.",
    usage: { cost: 0.002, tokens: zero.tokens }
  }
  assert.deepStrictEqual(lineOf({ _tag: "SubagentChanged", subagent }), { type: "subagent", subagent: told })
})

it("shows which subagent asks", () => {
  const ask = { _tag: "Question", id: AskId.make("que_1"), sessionId: subagent.sessionId, questions: [] } as const
  assert.deepStrictEqual(lineOf({ _tag: "Asked", ask, openedBy: undefined }), { type: "asked", ask, openedBy: null })
})

it("writes a reset with everything that replaces the earlier lines", () => {
  const part = textPart("prt_1", "abc")
  assert.deepStrictEqual(lineOf(reset(part)), {
    type: "reset",
    reason: "reconciled",
    parts: [part],
    subagents: [],
    asks: []
  })
})

it("ends with the value, the split of the usage, and the changed files without their contents", () => {
  const ended = JSON.parse(JsonLines.fromEnding({
    ...result("completed"),
    output: { n: 1 },
    subagents: [subagent],
    usage: {
      total: { ...zero, cost: 0.003 },
      root: { ...zero, cost: 0.001 },
      subagents: { ...zero, cost: 0.002 },
      models: [{ model: "anthropic/claude", steps: 3, ...zero, cost: 0.003 }]
    },
    artifacts: {
      files: [{
        path: "a.ts",
        change: "added",
        additions: 2,
        deletions: undefined,
        content: "secret",
        mediaType: "text/plain",
        sessionIds: [ids.sessionId]
      }],
      unread: [{ sessionId: subagent.sessionId, reason: "gone" }]
    }
  }))
  assert.deepInclude(ended, {
    output: { n: 1 },
    cost: 0.003,
    files: [{
      path: "a.ts",
      change: "added",
      mediaType: "text/plain",
      additions: 2,
      deletions: null,
      sessionIds: ["ses_1"]
    }],
    filesUnread: [{ sessionId: "ses_2", reason: "gone" }],
    todos: []
  })
  assert.deepStrictEqual(
    [ended.usage.total.cost, ended.usage.root.cost, ended.usage.subagents.cost, ended.subagents[0].usage.cost],
    [0.003, 0.001, 0.002, 0.002]
  )
  assert.deepStrictEqual(ended.usage.models, [{ model: "anthropic/claude", steps: 3, ...zero, cost: 0.003 }])
})

it("gives the subagents of a turn in one shape, in the updates, at the end and in a stored turn", () => {
  const { subagent: told } = lineOf({ _tag: "SubagentChanged", subagent })
  assert.deepStrictEqual(
    JSON.parse(JsonLines.fromEnding({ ...result("completed"), subagents: [subagent] })).subagents,
    [
      told
    ]
  )
  const message = { ...result("completed").message, subagents: [subagent] }
  assert.deepStrictEqual(JSON.parse(JsonLines.fromStored(message)).subagents, [told])
})

it("docs/UPDATES.md shows the lines besides the updates as they are written", () => {
  const page = readFileSync(new URL("../../../../../docs/UPDATES.md", import.meta.url), "utf8")
  const [, besides = ""] = page.split("\n## Lines of the command besides")
  const shown = Array.from(besides.matchAll(/```json\n(.*?)```/gs), ([, json]) => JSON.parse(json ?? ""))
  const tokens = { ...zero.tokens, input: 10, output: 2 }
  const usage = { cost: 0.002, tokens: { ...tokens, input: 20, output: 4 } }
  const { message } = result("completed")
  const queued = { ...message, id: AssistantMessageId.make("asm_2"), conversationId: ConversationId.make("ticket-42") }
  const ended = JsonLines.fromEnding({
    ...result("completed", textPart("prt_1", "Done.")),
    content: "Done.",
    finish: "stop",
    usage: {
      total: { cost: 0.003, tokens: { ...tokens, input: 30, output: 6 } },
      root: { cost: 0.001, tokens },
      subagents: usage,
      models: [{
        model: "anthropic/claude-sonnet-4-5",
        steps: 3,
        cost: 0.003,
        tokens: { ...tokens, input: 30, output: 6 }
      }]
    },
    subagents: [{
      ...subagent,
      openedBy: PartId.make("prt_3"),
      title: "Look around",
      agent: "general",
      text: "I found it.",
      usage
    }],
    artifacts: {
      files: [{
        path: "src/a.ts",
        change: "modified",
        additions: 2,
        deletions: 1,
        content: undefined,
        mediaType: "text/plain",
        sessionIds: [ids.sessionId]
      }],
      unread: []
    }
  })
  const waits = JsonLines.fromWait(queued, AssistantMessageId.make("asm_1"))
  assert.deepStrictEqual(shown, [JSON.parse(waits), JSON.parse(ended)])
})

it("distinguishes the agent's text from a fallback text, and says why the answer ended", () => {
  const ended = JSON.parse(JsonLines.fromEnding({ ...result("completed"), finish: "length" }))
  assert.deepInclude(ended, { status: "completed", finish: "length", text: "", isFallback: false })
  const fallback = { ...result("error"), content: "Sorry.", isFallback: true }
  assert.deepInclude(JSON.parse(JsonLines.fromEnding(fallback)), {
    finish: null,
    text: "",
    content: "Sorry.",
    isFallback: true
  })
})

it("ends with the same keys whether there was a turn or not", () => {
  const failure = JSON.parse(JsonLines.fromFailure(usage("no"), undefined))
  const ended = JSON.parse(JsonLines.fromEnding(result("failed")))
  assert.deepStrictEqual(Object.keys(failure), Object.keys(ended))
  assert.deepStrictEqual([failure.output, failure.files, failure.filesUnread], [null, null, null])
})

it("writes the fields of an error as data, for a running and for a stored turn", () => {
  const sessionId = ids.sessionId
  const error = new EmptyStream({ sessionId, finish: "length", hasReasoning: true, tools: ["bash"] })
  const details = { sessionId, finish: "length", hasReasoning: true, tools: ["bash"] }
  const told = { tag: "EmptyStream", message: error.message, details }
  assert.deepStrictEqual(JSON.parse(JsonLines.fromEnding({ ...result("error"), error })).error, told)
  const stored = { _tag: "EmptyStream", message: error.message, details }
  assert.deepStrictEqual(JSON.parse(JsonLines.fromEnding({ ...result("error"), error: stored })).error, told)
  assert.deepStrictEqual(JSON.parse(JsonLines.fromFailure(fromError(error), undefined)).error.details, details)
})

it("gives the error of a turn that another process cancelled, of which only the status is stored", () => {
  const { message: { id, ...message } } = result("cancelled")
  const stored = { ...message, id, status: "cancelled" as const, error: null }
  const told = { tag: "TurnCancelled", message: `message ${id} was cancelled`, details: { messageId: id } }
  assert.deepStrictEqual(JSON.parse(JsonLines.fromEnding(Ending.fromStored(stored))).error, told)
  assert.deepStrictEqual(JSON.parse(JsonLines.fromStored(stored)).error, told)
  assert.isNull(JSON.parse(JsonLines.fromStored({ ...stored, status: "completed" })).error)
})
