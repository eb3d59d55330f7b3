import * as Patch from "#fake/Patch"
import { assert, it } from "@effect/vitest"
import * as Schema from "effect/Schema"

const Lines = Schema.Array(Schema.Literals(["a", "b", "c", ""])).check(Schema.isMaxLength(12))

/** What a diff of a whole file says stands on one of its sides. */
const sideOf = (patch: string, other: "+" | "-"): string => {
  const [, body = ""] = patch.split(/^@@ .*\n/m)
  return body.split(/^(?=[ +-])/m).flatMap((line) =>
    line.startsWith(other) ? [] : [line.slice(1).replace(/\n\\ No newline at end of file\n$/, "")]
  ).join("")
}

it.prop("holds both sides of a file, whatever they are", { before: Lines, after: Lines }, (given) => {
  const [before, after] = [given.before.join("\n"), given.after.join("\n")]
  const { additions, deletions, patch } = Patch.unified("f", before, after, { context: Infinity, suffix: "" })
  if (before === after) assert.strictEqual(additions + deletions, 0)
  else {
    assert.strictEqual(sideOf(patch, "+"), before)
    assert.strictEqual(sideOf(patch, "-"), after)
  }
}, { arbitrary: { runs: 500 } })

it("shows so many lines around each change, and joins what is near", () => {
  const lines = Array.from({ length: 20 }, (_, line) => `${line}\n`)
  const change = (...changed: ReadonlyArray<number>) =>
    Patch.unified(
      "f",
      lines.join(""),
      lines.map((text, line) => (changed.includes(line) ? "x\n" : text)).join(""),
      {
        context: 1,
        suffix: ""
      }
    )
  assert.deepStrictEqual(change(3, 10).patch.match(/^@@.*$/gm), ["@@ -3,3 +3,3 @@", "@@ -10,3 +10,3 @@"])
  assert.deepStrictEqual(change(3, 5).patch.match(/^@@.*$/gm), ["@@ -3,5 +3,5 @@"])
})

it("reads a patch of several files", () => {
  const text = [
    "*** Begin Patch",
    "*** Add File: new.txt",
    "+hello",
    "*** Update File: old.txt",
    "*** Move to: moved.txt",
    "@@",
    " one",
    "-two",
    "+2",
    "*** Delete File: gone.txt",
    "*** End Patch"
  ].join("\n")
  assert.deepStrictEqual(Patch.parse(text), [
    { type: "add", path: "new.txt", content: "hello\n" },
    {
      type: "update",
      path: "old.txt",
      movePath: "moved.txt",
      hunks: [{ before: ["one", "two"], after: ["one", "2"] }]
    },
    { type: "delete", path: "gone.txt" }
  ])
  assert.isUndefined(Patch.parse("garbage"))
})
