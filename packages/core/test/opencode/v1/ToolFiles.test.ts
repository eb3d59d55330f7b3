import { changedFiles } from "#opencode/v1/ToolFiles"
import { assert, describe, it } from "@effect/vitest"
import { tapes } from "../../support/tapes.ts"

type State = Parameters<typeof changedFiles>[1]
const completed = (metadata: Record<string, unknown>, input: Record<string, unknown> = {}): State => ({
  status: "completed",
  input,
  metadata
})

const written = (fields: object) => completed({ diagnostics: {}, filepath: "/r/a", truncated: false, ...fields })
const file = (type: string, fields = {}) => ({
  filePath: `/r/${type}`,
  relativePath: type,
  type,
  patch: "",
  additions: 1,
  deletions: 2,
  ...fields
})

describe("the metadata of a tool", () => {
  it("of write shows whether the file existed, and its input holds the whole file", () => {
    assert.deepStrictEqual(changedFiles("write", written({ exists: false })), [
      { path: "/r/a", change: "added", contentKey: "content" }
    ])
    assert.deepStrictEqual(changedFiles("write", written({ exists: true }))?.[0]?.change, "modified")
    assert.deepStrictEqual(changedFiles("write", written({}))?.[0]?.change, "unknown")
  })

  it("of edit shows the changed lines, and an empty old text means a new file", () => {
    const filediff = { file: "/r/a", patch: "", additions: 1, deletions: 2 }
    assert.deepStrictEqual(
      changedFiles("edit", completed({ filediff, diff: "" }, { oldString: "a", newString: "b" })),
      [{ path: "/r/a", additions: 1, deletions: 2, change: "modified" }]
    )
    assert.deepStrictEqual(
      changedFiles("edit", completed({ filediff }, { oldString: "", newString: "b" })),
      [{ path: "/r/a", additions: 1, deletions: 2, change: "added", contentKey: "newString" }]
    )
  })

  it("of apply_patch shows every file, and a moved file as deleted and added", () => {
    const files = [file("add"), file("update"), file("delete"), file("move", { movePath: "/r/to" }), file("new kind")]
    assert.deepStrictEqual(changedFiles("apply_patch", completed({ files })), [
      { path: "/r/add", change: "added", additions: 1, deletions: 2 },
      { path: "/r/update", change: "modified", additions: 1, deletions: 2 },
      { path: "/r/delete", change: "deleted" },
      { path: "/r/move", change: "deleted" },
      { path: "/r/to", change: "added" },
      { path: "/r/new kind", change: "unknown" }
    ])
  })

  it("of another server version adds nothing to the input of the call", () => {
    const input = { filePath: "a.txt", oldString: "x", content: "c" }
    assert.deepStrictEqual(changedFiles("write", completed({}, input)), [
      { path: "a.txt", change: "unknown", contentKey: "content" }
    ])
    assert.deepStrictEqual(changedFiles("edit", completed({}, input)), [{ path: "a.txt", change: "modified" }])
    assert.deepStrictEqual(changedFiles("multiedit", completed({}, input)), [{ path: "a.txt", change: "modified" }])
    for (const tool of ["write", "edit", "apply_patch"]) assert.isUndefined(changedFiles(tool, completed({}, {})), tool)
  })
})

describe("no file was changed", () => {
  it("by a tool that only reads, whatever its state", () => {
    for (const tool of ["read", "grep", "todowrite", "question", "task", "invalid", "StructuredOutput"]) {
      assert.deepStrictEqual(changedFiles(tool, { status: "running" }), [], tool)
    }
  })

  it("by a call that failed before it did anything", () => {
    for (const tool of ["write", "edit", "apply_patch", "bash"]) {
      assert.deepStrictEqual(changedFiles(tool, { status: "error", error: "not found" }), [], tool)
    }
  })
})

describe("the changes are unknown", () => {
  it("for a shell command or a third-party tool, even if it failed", () => {
    assert.isUndefined(changedFiles("bash", completed({ output: "", exit: 0 })))
    assert.isUndefined(changedFiles("github_push", completed({})))
    assert.isUndefined(changedFiles("github_push", { status: "error", error: "half done" }))
  })

  it("for a call that has not ended, or was interrupted", () => {
    for (const status of ["pending", "running"] as const) assert.isUndefined(changedFiles("write", { status }))
    for (const tool of ["write", "bash"]) {
      const metadata = { interrupted: true }
      assert.isUndefined(changedFiles(tool, { status: "error", error: "Tool execution aborted", metadata }), tool)
    }
  })
})

it("every recorded tool call except shell commands shows its files", () => {
  const parts = tapes.flatMap(({ messages }) => messages.flatMap(({ parts }) => parts))
  const untold = parts.flatMap((part) => (part.type === "tool" && part.files === undefined ? [part.tool] : []))
  assert.deepStrictEqual([...new Set(untold)], ["bash"])
})
