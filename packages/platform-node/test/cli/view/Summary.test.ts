import * as Summary from "#cli/view/Summary"
import { assert, it } from "@effect/vitest"
import type { Artifact } from "@opencode-turn/core/Artifact"
import { SessionId } from "@opencode-turn/core/Ids"
import type { Subagent } from "@opencode-turn/core/Subagent"
import { zero } from "@opencode-turn/core/Usage"
import { ids, result } from "../../support/ScreenPlay.ts"

const file = (path: string, fields: Partial<Artifact> = {}): Artifact => ({
  path,
  change: "modified",
  additions: undefined,
  deletions: undefined,
  content: undefined,
  mediaType: undefined,
  sessionIds: [],
  ...fields
})

const subagent: Subagent = {
  sessionId: SessionId.make("ses_2"),
  parentId: ids.sessionId,
  title: "",
  status: "completed",
  text: "",
  usage: zero
}

const completed = result("completed")

it("splits the cost between the agent and its subagents, if there are any", () => {
  const usage = {
    total: { ...zero, cost: 0.012 },
    root: { ...zero, cost: 0.01 },
    subagents: { ...zero, cost: 0.002 }
  }
  const line = (subagents: ReadonlyArray<Subagent>) => Summary.describeResult({ ...completed, usage, subagents })
  assert.include(line([]), " · $0.012 · ")
  assert.include(line([subagent]), " · $0.012 ($0.01 own, $0.002 by a subagent) · ")
  assert.include(line([subagent, subagent]), " · $0.012 ($0.01 own, $0.002 by 2 subagents) · ")
})

it("lists the changed files with their counts, and the status last", () => {
  const files = [
    file("src/a.ts", { change: "added", additions: 12, deletions: 0 }),
    file("b.ts", { additions: 1, deletions: 1 }),
    file("c\u001b.ts", { change: "deleted" }),
    file("d.ts", { change: "unknown" })
  ]
  assert.deepStrictEqual(Summary.summary({ ...completed, artifacts: { files, unread: [] } }, 80), [
    "added src/a.ts +12",
    "modified b.ts +1 -1",
    "deleted c␛.ts",
    "changed d.ts",
    Summary.describeResult(completed)
  ])
})

it("lists at most 20 files, and mentions unknown changes on one line", () => {
  const files = Array.from({ length: 23 }, (_, index) => file(`${index}.ts`))
  const unread = ["no diff", "no diff", "gone"].map((reason) => ({ sessionId: ids.sessionId, reason }))
  const lines = Summary.summary({ ...completed, artifacts: { files, unread } }, 80)
  assert.strictEqual(lines.length, 23)
  assert.deepStrictEqual(lines.slice(19, 22), [
    "modified 19.ts",
    "and 3 more",
    "no diff; gone"
  ])
})

const linesOfEnd = (finish: string | undefined, output?: unknown) =>
  Summary.summary({ ...completed, finish, output }, 80).slice(0, -1)

it("says why the answer ended, unless the agent ended it or gave its value", () => {
  assert.deepStrictEqual(linesOfEnd(undefined), [])
  assert.deepStrictEqual(linesOfEnd("stop"), [])
  assert.deepStrictEqual(linesOfEnd("tool-calls", { n: 1 }), [])
  assert.deepStrictEqual(linesOfEnd("length", { n: 1 }), ["The answer was cut off at the output limit (length)."])
  assert.deepStrictEqual(linesOfEnd("length"), ["The answer was cut off at the output limit (length)."])
  assert.deepStrictEqual(linesOfEnd("content-filter"), [
    "The provider's content filter stopped the answer (content-filter)."
  ])
  assert.deepStrictEqual(linesOfEnd("tool-calls"), ["The agent stopped at a tool call (tool-calls)."])
  assert.deepStrictEqual(linesOfEnd("error"), ["The provider ended the answer with an error (error)."])
  assert.deepStrictEqual(linesOfEnd("no\u001b[2J\nquota"), [
    "The provider ended the answer for another reason (no␛[2J quota)."
  ])
})

const linesOf = (...statuses: ReadonlyArray<"pending" | "in_progress" | "completed" | "cancelled">) => {
  const todos = statuses.map((status, index) => ({ content: `item ${index}`, status }))
  return Summary.summary({ ...completed, reply: { ...completed.reply, todos } }, 80).slice(0, -1)
}

it("counts the to-dos, and names those that are open", () => {
  assert.deepStrictEqual(linesOf(), [])
  assert.deepStrictEqual(linesOf("completed", "completed"), ["to-dos: 2 done"])
  assert.deepStrictEqual(linesOf("completed", "cancelled", "pending", "in_progress"), [
    "to-dos: 1 done, 1 cancelled, 2 open: item 2, item 3"
  ])
})

const aboutMetadata = (dropped: ReadonlyArray<"metadata">) =>
  Summary.summary({ ...completed, dropped }, 100).filter((text) => text.includes("--metadata"))

it("says that the server dropped --metadata", () => {
  assert.deepStrictEqual(aboutMetadata([]), [])
  assert.deepStrictEqual(aboutMetadata(["metadata"]), [
    "OpenCode keeps no metadata of its sessions: --metadata was dropped."
  ])
})
