import { grow, noBlocks, plain, safeHref } from "#viewer/text/Blocks"
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { lexer, type Token } from "marked"

const pieces = [
  "# Head\n",
  "text ",
  "**bold** ",
  "\n",
  "\n\n",
  "- item\n",
  "  - inner\n",
  "1. one\n",
  "> quote\n",
  "```js\ncode\n",
  "```\n",
  "| a | b |\n",
  "|---|---|\n",
  "| 1 | 2 |\n",
  "    indented\n",
  "<b>html</b>",
  "[link](https://a.example) ",
  "---\n",
  "===\n",
  "\t",
  "\r\n",
  "- [ ] task\n"
]

describe("the blocks of a growing text", () => {
  it.prop("are those of the whole text, once it is complete", {
    choices: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: pieces.length - 1 })))
  }, ({ choices }) => {
    let text = ""
    let blocks = noBlocks
    for (const choice of choices) {
      text += pieces[choice]
      blocks = grow(blocks, text, false)
      // Nothing of the text is lost or doubled while it grows.
      assert.strictEqual(blocks.tokens.map(({ raw }) => raw).join("").replace(/\s/g, ""), text.replace(/\s/g, ""))
    }
    assert.deepStrictEqual(grow(blocks, text, true).tokens, [...lexer(text)])
  }, { arbitrary: { runs: 500 } })

  it("are shown as they stand where reading them would take too long or too deep", () => {
    const depthOf = (tokens: ReadonlyArray<Token>): number =>
      Math.max(0, ...tokens.map((token) => 1 + depthOf("tokens" in token ? token.tokens ?? [] : [])))
    const deep = grow(noBlocks, "> ".repeat(50_000) + "deep", true)
    assert.isBelow(depthOf(deep.tokens), 60)
    const nested = Array.from({ length: 500 }, (_, depth) => `${" ".repeat(depth * 2)}- a`).join("\n")
    assert.isBelow(depthOf(grow(noBlocks, nested, true).tokens), 100)
    for (const word of ["!", "*a", "[", "<", "*_", "a"]) {
      const text = `${word.repeat(100_000)}@`
      const [token] = grow(noBlocks, text, true).tokens
      assert.deepInclude(token, { type: "paragraph", raw: text })
      assert.deepStrictEqual(depthOf(token === undefined ? [] : [token]), 2)
    }
    assert.strictEqual(grow(noBlocks, `${"word ".repeat(5_000)}**bold**`, true).tokens.length, 1)
  })

  it("are read anew where the text was replaced", () => {
    const blocks = grow(noBlocks, "one\n\ntwo", false)
    assert.deepStrictEqual(grow(blocks, "other", false).tokens.map(({ raw }) => raw), ["other"])
  })
})

describe("links and entities", () => {
  it("follows links to the web and to mail, and no others", () => {
    assert.strictEqual(safeHref("https://a.example/x"), "https://a.example/x")
    assert.strictEqual(safeHref("mailto:a@a.example"), "mailto:a@a.example")
    for (
      const href of [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "\u0001javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "blob:https://a/b",
        "/turns",
        "#/inbox",
        "//a.example",
        "view-source:https://a",
        "filesystem:https://a/b",
        ""
      ]
    ) assert.isUndefined(safeHref(href), href)
  })

  it("reads the entities that models write, and leaves what is none", () => {
    assert.strictEqual(plain("a &amp; b &lt;c&gt; &#39;d&#x27; &amp;lt;"), "a & b <c> 'd' &lt;")
    assert.strictEqual(plain("&unknown; &#0; &#x110000; &"), "&unknown; &#0; &#x110000; &")
  })
})
