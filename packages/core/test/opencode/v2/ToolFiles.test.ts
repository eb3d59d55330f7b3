import { changedFiles } from "#opencode/v2/ToolFiles"
import { assert, describe, it } from "@effect/vitest"

type State = Parameters<typeof changedFiles>[1]

const completed = (state: Partial<State>): State => ({
  status: "completed",
  output: "",
  error: undefined,
  isInterrupted: false,
  ...state
})
const failed = (error: string, state: Partial<State> = {}): State =>
  completed({ status: "error", error, output: undefined, ...state })

describe("the files that a call of 2.x changed", () => {
  it("have the path that the agent gave, also where the server names them from its folder on", () => {
    const files = [{ file: "a.txt", status: "modified", additions: 1, deletions: 2 }]
    const [change] = changedFiles("edit", completed({ input: { path: "/work/a.txt" }, metadata: { files } })) ?? []
    assert.deepStrictEqual(change, { path: "/work/a.txt", change: "modified", additions: 1, deletions: 2 })
    const patched = changedFiles("patch", completed({ input: { patch: "" }, metadata: { files } }))
    assert.deepStrictEqual(patched?.map(({ path }) => path), ["a.txt"])
  })

  it("are none if it failed before it began", () => {
    assert.deepStrictEqual(changedFiles("shell", failed("Unable to execute command: ls")), [])
    assert.deepStrictEqual(changedFiles("write", failed("Unable to write a.txt")), [])
    assert.deepStrictEqual(changedFiles("nope", failed("Unknown tool: nope")), [])
  })

  it("are not known if it began, or may have", () => {
    const shell = { shellID: "sh_1" }
    assert.isUndefined(changedFiles("shell", completed({})))
    assert.isUndefined(changedFiles("shell", failed("Unable to execute command: ls", { metadata: shell })))
    assert.isUndefined(
      changedFiles("shell", failed("Unable to execute command: ls", { metadata: { metadata: shell } }))
    )
    assert.isUndefined(changedFiles("shell", failed("Tool execution interrupted", { isInterrupted: true })))
    assert.isUndefined(changedFiles("write", failed("Tool execution interrupted: write", { isInterrupted: true })))
    assert.isUndefined(changedFiles("mcp_tool", failed("broken")))
    assert.isUndefined(changedFiles("execute", failed("broken")))
  })
})
