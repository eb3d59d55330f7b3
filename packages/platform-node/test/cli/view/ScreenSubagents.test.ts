import { assert, it } from "@effect/vitest"
import { AskId, PartId, SessionId } from "@opencode-turn/core/Ids"
import type { Part, ToolPart } from "@opencode-turn/core/Part"
import type { ReplyUpdate, SessionUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { Subagent } from "@opencode-turn/core/Subagent"
import { zero } from "@opencode-turn/core/Usage"
import { changed, delta, ids, piped, play, reset, result, terminal, textPart, tool } from "../../support/ScreenPlay.ts"

const child = (fields: Partial<Subagent> = {}): Subagent => ({
  sessionId: SessionId.make("ses_a"),
  parentId: ids.sessionId,
  openedBy: PartId.make("prt_task"),
  title: "look around (@general subagent)",
  agent: "general",
  status: "running",
  text: "",
  usage: zero,
  ...fields
})

const other = (fields: Partial<Subagent> = {}) =>
  child({ sessionId: SessionId.make("ses_b"), title: "read the docs (@general subagent)", ...fields })

const cost = (cost: number) => ({ usage: { ...zero, cost } })

const task = (fields: Partial<ToolPart> = {}): Part =>
  tool({ id: PartId.make("prt_task"), tool: "task", input: { description: "look around" }, ...fields })

const call = (id: string, command: string, fields: Partial<ToolPart> = {}): SessionUpdate => ({
  _tag: "PartChanged",
  part: tool({ id: PartId.make(id), input: { command }, ...fields })
})

const done = { status: "completed", startedMillis: 0, endedMillis: 200 } as const

const of = (subagent: Subagent): ReplyUpdate => ({ _tag: "SubagentChanged", subagent })

const by = (subagent: Subagent, ...updates: ReadonlyArray<SessionUpdate>): ReadonlyArray<ReplyUpdate> =>
  updates.map((update) => ({
    _tag: "SubagentUpdate",
    sessionId: subagent.sessionId,
    openedBy: subagent.openedBy,
    update
  }))

const said = (text: string): SessionUpdate => ({ _tag: "PartChanged", part: textPart(`prt_${text}`, text) })

const { openedBy: _, ...unnamed } = child()

const failed = (name: string): SessionUpdate => ({
  _tag: "Failed",
  failure: { name, message: "no such\nmodel", isRetryable: false }
})

/** OpenCode opens the session before it tells so in the tool's part. */
const opening = [
  of(unnamed),
  changed(task()),
  of(child())
]

it("shows a subagent below its tool: its title, its tools, its last text on one line, its cost", () => {
  const { answer, progress } = play(piped, [
    ...opening,
    ...by(
      child(),
      { _tag: "TextDelta", partId: PartId.make("prt_1"), delta: "I look." },
      { _tag: "ReasoningDelta", partId: PartId.make("prt_0"), delta: "hm" },
      said("I look."),
      call("prt_2", "ls", { status: "pending" }),
      call("prt_2", "ls"),
      call("prt_2", "ls", done),
      { _tag: "Retrying", retry: { attempt: 1, message: "over\nloaded", nextMillis: 0 } },
      said("There are\nthree files.")
    ),
    of(child({ status: "completed", ...cost(0.0012) })),
    changed(task({ status: "completed" }))
  ])
  assert.strictEqual(answer, "")
  assert.deepStrictEqual(progress.split("\n"), [
    "● Delegating look around",
    "  ▸ general: look around",
    "  ● Running ls",
    "  ✓ Ran ls 0.2 s",
    "  ↻ the model failed (attempt 1), OpenCode plans to retry: over loaded",
    "  “There are three files.”",
    "  ◂ done $0.0012",
    "✓ Delegated look around",
    ""
  ])
})

it("labels a subagent's lines while another subagent runs, and stops when it is alone", () => {
  const second = task({ id: PartId.make("prt_task2"), input: { description: "read the docs" } })
  const b = other({ openedBy: PartId.make("prt_task2") })
  const { progress } = play(piped, [
    ...opening,
    ...by(child(), call("prt_1", "ls")),
    changed(second),
    of(b),
    ...by(b, call("prt_2", "cat README.md")),
    ...by(child(), call("prt_1", "ls", done)),
    of(child({ status: "completed", ...cost(0.002) })),
    ...by(b, call("prt_2", "cat README.md", done), call("prt_3", "cat LICENSE", done)),
    of(b)
  ])
  assert.deepStrictEqual(progress.split("\n"), [
    "● Delegating look around",
    "  ▸ general: look around",
    "  ● Running ls",
    "● Delegating read the docs",
    "  ▸ general: read the docs",
    "  read the docs | ● Running cat README.md",
    "  look around | ✓ Ran ls 0.2 s",
    "  look around | ◂ done $0.002",
    "  read the docs | ✓ Ran cat README.md 0.2 s",
    "  ✓ Ran cat LICENSE 0.2 s",
    ""
  ])
})

it("distinguishes subagents with the same title", () => {
  const { progress } = play(piped, [
    of(child()),
    of(other({ title: "look around" })),
    ...by(child(), call("prt_1", "ls")),
    ...by(other(), call("prt_2", "ls")),
    ...by(child(), call("prt_3", "ls"))
  ])
  assert.deepStrictEqual(progress.split("\n"), [
    "  ▸ general: look around",
    "  ● Running ls",
    "  ▸ general: look around (look around #2)",
    "  look around #2 | ● Running ls",
    "  look around | ● Running ls",
    ""
  ])
})

const nested = (fields: Partial<ToolPart> = {}): SessionUpdate => ({
  _tag: "PartChanged",
  part: task({ id: PartId.make("prt_inner"), input: { description: "count" }, ...fields })
})

it("shows a subagent's subagent one level deeper", () => {
  const inner = child({
    sessionId: SessionId.make("ses_c"),
    parentId: child().sessionId,
    openedBy: PartId.make("prt_inner"),
    title: "count",
    agent: "nester"
  })
  const { progress } = play(piped, [
    ...opening,
    ...by(child(), nested()),
    of(inner),
    ...by(inner, call("prt_1", "wc -l", done), {
      _tag: "TodosChanged",
      todos: [{ content: "all", status: "pending" }]
    }),
    of({ ...inner, status: "cancelled" }),
    ...by(child(), nested({ status: "error", error: "Task cancelled" })),
    of(child({ status: "error" }))
  ])
  assert.deepStrictEqual(progress.split("\n"), [
    "● Delegating look around",
    "  ▸ general: look around",
    "  ● Delegating count",
    "    ▸ nester: count",
    "    ✓ Ran wc -l 0.2 s",
    "      ☐ all",
    "    ◂ cancelled $0",
    "  ✗ Delegating count: Task cancelled",
    "  ◂ failed $0",
    ""
  ])
})

it("names a subagent again after the agent's own lines, and in its asks", () => {
  const asked: ReplyUpdate = {
    _tag: "Asked",
    openedBy: child().openedBy,
    ask: {
      _tag: "Permission",
      id: AskId.make("per_1"),
      sessionId: child().sessionId,
      permission: "bash",
      patterns: ["rm x"],
      always: [],
      metadata: {}
    }
  }
  const { both } = play(terminal, [
    ...opening,
    delta("prt_9", "Meanwhile"),
    ...by(child(), call("prt_1", "rm x")),
    asked,
    ...by(child(), call("prt_1", "rm x", done))
  ])
  assert.deepStrictEqual(both.split("\n"), [
    "● Delegating look around",
    "  ▸ general: look around",
    "",
    "Meanwhile",
    "  look around | ● Running rm x",
    "  look around | ? permission bash: rm x",
    "  ✓ Ran rm x 0.2 s",
    ""
  ])
})

it("draws a tool's line over the one before, with the name that it had", () => {
  const { both } = play(terminal, [
    ...opening,
    changed(tool({})),
    ...by(child(), call("prt_1", "ls"), call("prt_1", "ls"), call("prt_1", "ls", done))
  ])
  assert.isTrue(
    both.endsWith("  look around | ● Running ls\n\u001b[1A\u001b[2K\r  look around | ✓ Ran ls 0.2 s\n"),
    JSON.stringify(both)
  )
})

it("keeps every line that may be drawn over within the width of the screen", () => {
  const long = "x".repeat(200)
  const { both } = play({ ...terminal, columns: 40 }, [
    of(child({ title: `漢字${long}` })),
    ...by(child(), call("prt_0", "ls")),
    changed(tool({})),
    ...by(child(), call("prt_1", long))
  ])
  const last = both.split("\n").at(-2) ?? ""
  assert.match(last, /^ {2}漢字x+… \| ● Running[ x]*…$/)
  // Two characters are two columns wide.
  assert.isAtMost(last.length + 2, 39)
})

it("shows the failure of a subagent, but not the error of a stopped one", () => {
  assert.include(play(piped, by(child(), failed("APIError"))).progress, "✗ it failed: no such model\n")
  assert.strictEqual(play(piped, by(child(), failed("MessageAbortedError"))).progress, "")
})

it("shows the end of a subagent once, even if only a reset or the result brings it", () => {
  const ended = child({ status: "completed", text: "I look.\n\nThree files.", ...cost(0.001) })
  const lines = "  ▸ general: look around\n  “Three files.”\n  ◂ done $0.001\n"
  const summed = { ...result("completed"), subagents: [ended] }
  assert.include(play(piped, [], summed).progress, lines)
  const again = play(piped, [of(ended), of(ended), reset()], summed).progress
  assert.strictEqual(again.split("◂").length, 3, again)
})

it("opens a subagent again that receives another prompt", () => {
  const { progress } = play(piped, [
    ...opening,
    of(child({ status: "completed" })),
    of(child()),
    ...by(child(), call("prt_1", "ls"))
  ])
  assert.strictEqual(progress.split("▸").length, 3)
  assert.isTrue(progress.endsWith("  ▸ general: look around\n  ● Running ls\n"), progress)
})
