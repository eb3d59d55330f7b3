import * as Screen from "#cli/Screen"
import { assert, it } from "@effect/vitest"
import { AssistantMessageId, ConversationId, MessageId, PartId, RequestId, SessionId } from "@opencode-turn/core/Ids"
import type { Part, ToolPart } from "@opencode-turn/core/Part"
import * as Reply from "@opencode-turn/core/Reply"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import { zero } from "@opencode-turn/core/Usage"

const ids = { sessionId: SessionId.make("ses_1"), promptId: MessageId.make("msg_1") }
const messageId = MessageId.make("msg_2")

const textPart = (id: string, text: string, isComplete = true): Part => ({
  type: "text",
  id: PartId.make(id),
  messageId,
  text,
  isComplete
})

const tool = (fields: Partial<ToolPart>): Part => ({
  type: "tool",
  id: PartId.make("prt_tool"),
  messageId,
  callId: "call_1",
  tool: "bash",
  status: "running",
  input: { command: "echo hi" },
  ...fields
})

const delta = (id: string, text: string): ReplyUpdate => ({ _tag: "TextDelta", partId: PartId.make(id), delta: text })
const thought = (id: string, text: string): ReplyUpdate => ({
  _tag: "ReasoningDelta",
  partId: PartId.make(id),
  delta: text
})
const removed = (id: string): ReplyUpdate => ({ _tag: "PartRemoved", partId: PartId.make(id) })
const changed = (part: Part): ReplyUpdate => ({ _tag: "PartChanged", part })

const info = {
  id: messageId,
  role: "assistant",
  sessionId: ids.sessionId,
  parentId: ids.promptId
} as const

/** A reply with these parts. */
const reply = (...parts: ReadonlyArray<Part>): Reply.Reply =>
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
        structured: undefined
      }
    })
  )

const reset = (...parts: ReadonlyArray<Part>): ReplyUpdate => ({
  _tag: "Reset",
  reason: "reconciled",
  reply: reply(...parts)
})

const result = (status: TurnResult["status"], ...parts: ReadonlyArray<Part>): TurnResult => ({
  status,
  conversationId: ConversationId.make("c1"),
  messageId: AssistantMessageId.make("asm_1"),
  sessionId: ids.sessionId,
  promptId: ids.promptId,
  message: undefined,
  content: "",
  reply: Reply.result(reply(...parts)),
  subagents: [],
  error: undefined,
  isNewSession: true,
  isRecreated: false,
  durationMillis: 1234,
  trace: {
    status,
    duration_ms: 1234,
    cost: 0,
    input_tokens: 0,
    output_tokens: 0,
    tool_count: 0,
    error: null,
    error_message: null
  }
})

const piped: Screen.Options = { isShared: false, isScreen: false, hasColor: false, columns: 80 }
const terminal: Screen.Options = { isShared: true, isScreen: true, hasColor: false, columns: 80 }

/** What both streams get, and what a screen that both share shows. */
const play = (options: Screen.Options, updates: ReadonlyArray<ReplyUpdate>, end?: TurnResult) => {
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

it("writes nothing but the text parts to the answer, joined by a blank line, with a newline at the end", () => {
  const first = textPart("prt_1", "I run it.")
  const second = textPart("prt_2", "It said hi.")
  const { answer, progress } = play(piped, [
    thought("prt_0", "let me "),
    thought("prt_0", "think"),
    changed(textPart("prt_1", "", false)),
    delta("prt_1", "I run "),
    delta("prt_1", "it."),
    changed(tool({})),
    changed(first),
    changed(tool({ status: "completed", title: "echo hi", startedMillis: 0, endedMillis: 1500 })),
    delta("prt_2", "It said hi.")
  ], result("completed", first, second))
  assert.strictEqual(answer, "I run it.\n\nIt said hi.\n")
  assert.strictEqual(
    progress,
    "thinking: let me think\n● bash echo hi\n✓ bash echo hi 1.5 s\n" +
      "completed · 0 tokens in, 0 out · $0 · 1.2 s · conversation c1\n"
  )
})

it("never continues a line of one stream with one of the other on a screen that they share", () => {
  const { both } = play(terminal, [
    delta("prt_1", "I run it."),
    changed(tool({})),
    delta("prt_2", "It said hi."),
    thought("prt_3", "done"),
    delta("prt_4", "Bye.")
  ], result("completed", textPart("prt_1", "I run it."), textPart("prt_2", "It said hi."), textPart("prt_4", "Bye.")))
  assert.strictEqual(
    both,
    "I run it.\n● bash echo hi\n\nIt said hi.\nthinking: done\n\nBye.\n" +
      "completed · 0 tokens in, 0 out · $0 · 1.2 s · conversation c1\n"
  )
})

it("draws a tool's line over the one before, unless something came between", () => {
  const over = "\u001b[1A\u001b[2K\r"
  const done = tool({ status: "completed", title: "echo hi" })
  assert.strictEqual(
    play(terminal, [changed(tool({})), changed(tool({})), changed(done)]).both,
    `● bash echo hi\n${over}✓ bash echo hi\n`
  )
  assert.notInclude(play(terminal, [changed(tool({})), delta("prt_1", "x"), changed(done)]).both, over)
  assert.notInclude(play(piped, [changed(tool({})), changed(done)]).both, over)
})

it("adds what a closed part has more than its deltas", () => {
  assert.strictEqual(play(piped, [delta("prt_1", "abc"), changed(textPart("prt_1", "abcdef"))]).answer, "abcdef")
})

it("adds what a reset has more than was shown, also in new parts", () => {
  const { answer } = play(piped, [
    delta("prt_1", "abc"),
    reset(textPart("prt_1", "abcdef"), textPart("prt_2", "more"))
  ])
  assert.strictEqual(answer, "abcdef\n\nmore")
})

it("says that the record differs, and shows the text again", () => {
  const end = result("completed", textPart("prt_2", "after it"))
  const { answer, progress } = play(piped, [delta("prt_1", "a b c"), reset(textPart("prt_2", "after it"))], end)
  assert.strictEqual(answer, "a b c\nafter it\n")
  assert.strictEqual(progress.match(/the server's record differs/g)?.length, 1)
})

it("says which text is taken back, and begins the next one on a line of its own", () => {
  const end = result("completed", textPart("prt_2", "all of it"))
  const notes = "the agent takes this back: half of it\n↻ the model failed (attempt 1), it is asked again: reset\n"
  const summary = "completed · 0 tokens in, 0 out · $0 · 1.2 s · conversation c1\n"
  for (const removal of [removed("prt_1"), changed(textPart("prt_1", "", false))]) {
    const updates: ReadonlyArray<ReplyUpdate> = [
      delta("prt_1", "half\nof it"),
      removal,
      { _tag: "Retrying", retry: { attempt: 1, message: "reset", nextMillis: 0 } },
      delta("prt_2", "all of it")
    ]
    const { answer, progress } = play(piped, updates, end)
    assert.strictEqual(answer, "half\nof it\nall of it\n")
    assert.strictEqual(progress, `${notes}${summary}`)
    assert.strictEqual(play(terminal, updates, end).both, `half\nof it\n${notes}all of it\n${summary}`)
  }
})

it("says nothing of parts that are taken back before they showed text", () => {
  const { both } = play(piped, [
    changed(textPart("prt_1", "", false)),
    changed(textPart("prt_1", "", false)),
    removed("prt_1"),
    changed(tool({ status: "pending" })),
    removed("prt_tool")
  ])
  assert.strictEqual(both, "")
})

it("adds at the end what no update told of", () => {
  const end = result("completed", textPart("prt_1", "all of it"))
  assert.strictEqual(play(piped, [delta("prt_1", "all")], end).answer, "all of it\n")
  assert.strictEqual(play(piped, [], end).answer, "all of it\n")
})

it("leaves the answer empty where there is no text", () => {
  assert.deepStrictEqual(play(piped, [], result("failed")), { answer: "", progress: "", both: "" })
})

it("shows to-dos, retries, subagents and what is asked", () => {
  const { progress } = play(piped, [
    {
      _tag: "TodosChanged",
      todos: [{ content: "first", status: "completed" }, { content: "second", status: "in_progress" }]
    },
    { _tag: "Retrying", retry: { attempt: 2, message: "overloaded", nextMillis: 0 } },
    {
      _tag: "SubagentOpened",
      subagent: { sessionId: ids.sessionId, parentId: ids.sessionId, title: "look around", agent: "general" }
    },
    {
      _tag: "Asked",
      ask: {
        _tag: "Permission",
        id: RequestId.make("per_1"),
        sessionId: ids.sessionId,
        permission: "bash",
        patterns: ["echo hi"],
        always: [],
        metadata: {}
      }
    }
  ])
  assert.deepStrictEqual(progress.split("\n"), [
    "  ☑ first",
    "  ◐ second",
    "↻ the model failed (attempt 2), it is asked again: overloaded",
    "▸ subagent general: look around",
    "? permission bash: echo hi",
    ""
  ])
})

const escape = "\u001b]52;c;AAAA\u0007\u009b2J\r\u202e"

it("neutralises what models and servers wrote, wherever it is shown", () => {
  const session = ids.sessionId
  const updates: ReadonlyArray<ReplyUpdate> = [
    delta("prt_1", escape),
    thought("prt_2", escape),
    changed(tool({ input: { command: escape } })),
    changed(tool({ status: "error", tool: escape, title: escape, error: escape })),
    changed({ type: "file", id: PartId.make("prt_3"), messageId, mediaType: escape, url: escape, filename: escape }),
    changed({ type: "patch", id: PartId.make("prt_4"), messageId, files: [escape] }),
    { _tag: "TodosChanged", todos: [{ content: escape, status: "pending" }] },
    { _tag: "Retrying", retry: { attempt: 1, message: escape, nextMillis: 0 } },
    { _tag: "SubagentOpened", subagent: { sessionId: session, parentId: session, title: escape, agent: escape } },
    {
      _tag: "Asked",
      ask: {
        _tag: "Permission",
        id: RequestId.make("per_1"),
        sessionId: session,
        permission: escape,
        patterns: [escape],
        always: [escape],
        metadata: {}
      }
    },
    {
      _tag: "Asked",
      ask: {
        _tag: "Question",
        id: RequestId.make("que_1"),
        sessionId: session,
        questions: [{ question: escape, header: escape, options: [], multiple: false, custom: true }]
      }
    }
  ]
  const { both } = play(piped, updates, result("completed", textPart("prt_1", escape)))
  assert.notMatch(both, /(?![\n\t])[\p{Cc}\p{Bidi_Control}]/u)
  assert.isAbove(both.match(/␛\]52;c;AAAA␇/g)?.length ?? 0, 12)
})

it("uses colour codes only with colour", () => {
  const updates = [thought("prt_1", "hm"), changed(tool({}))]
  assert.include(play({ ...terminal, hasColor: true }, updates).both, "\u001b[2mthinking: hm\u001b[22m")
  assert.notInclude(play(terminal, updates).both, "\u001b")
})

it("writes cost and duration in the units that fit", () => {
  assert.deepStrictEqual([0, 0.000165, 0.0099, 0.5, 12.345].map(Screen.describeCost), [
    "$0",
    "$0.000165",
    "$0.0099",
    "$0.50",
    "$12.35"
  ])
  assert.deepStrictEqual([0, 1234, 59_900, 61_000, 600_000].map(Screen.describeDuration), [
    "0.0 s",
    "1.2 s",
    "59.9 s",
    "1 min 1 s",
    "10 min 0 s"
  ])
})
