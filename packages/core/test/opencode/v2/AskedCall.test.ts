import { metadataOf } from "#opencode/v2/AskedCall"
import { assert, describe, it } from "@effect/vitest"

const lines = (count: number, word: string) => Array.from({ length: count }, (_, n) => `${word}${n}`).join("\n")

describe("what a person reads of a call that asks", () => {
  it("is the change that an edit makes, between the lines that stay", () => {
    const edit = { path: "a.txt", oldString: "one\ntwo\nthree", newString: "one\nTWO\n2\nthree" }
    assert.deepStrictEqual(metadataOf("edit", edit), {
      diff: "--- a.txt\n+++ a.txt\n one\n-two\n+TWO\n+2\n three\n"
    })
    assert.deepStrictEqual(metadataOf("edit", { path: "a", oldString: "x", newString: "" }), {
      diff: "--- a\n+++ a\n-x\n"
    })
    assert.deepStrictEqual(metadataOf("edit", { path: "a", oldString: "x\nx", newString: "x" }), {
      diff: "--- a\n+++ a\n x\n-x\n"
    })
  })

  it("is everything that a write writes", () => {
    assert.deepStrictEqual(metadataOf("write", { path: "a.txt", content: "one\n\ntwo\n" }), {
      diff: "--- a.txt\n+++ a.txt\n+one\n+\n+two\n"
    })
    assert.deepStrictEqual(metadataOf("write", { path: "a.txt", content: "" }), { diff: "--- a.txt\n+++ a.txt\n" })
  })

  it("is the task of a subagent", () => {
    assert.deepStrictEqual(metadataOf("subagent", { agent: "general", description: "look", prompt: "Look." }), {
      description: "look"
    })
  })

  it("is nothing of other calls, and of those whose input is odd", () => {
    for (
      const [tool, input] of [
        ["shell", { command: "ls", description: "list" }],
        ["edit", {}],
        ["edit", { path: "a", oldString: 7, newString: "x" }],
        ["write", { content: "x" }],
        ["subagent", { description: 7 }]
      ] as const
    ) assert.deepStrictEqual(metadataOf(tool, input), {}, tool)
  })

  it("has every line of a long edit", () => {
    const { diff = "" } = metadataOf("edit", {
      path: "a",
      oldString: lines(50_000, "a"),
      newString: lines(50_000, "b")
    })
    assert.strictEqual(diff.split("\n").length, 100_003)
  })
})
