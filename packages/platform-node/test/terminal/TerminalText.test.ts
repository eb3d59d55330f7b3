import { escapeJson, fit, line, sanitize } from "#terminal/TerminalText"
import { assert, it } from "@effect/vitest"

/** Everything that a terminal could take for an order, or that shows text in another order than it has. */
const dangerous = /(?![\n\t])[\p{Cc}\p{Bidi_Control}\u2028\u2029]/u

const attacks = {
  "a cursor movement (CSI)": "\u001b[2J\u001b[1;1H",
  "a link to somewhere else (OSC 8)": "\u001b]8;;https://evil.example\u001b\\click\u001b]8;;\u001b\\",
  "a write to the clipboard (OSC 52)": "\u001b]52;c;cm0gLXJmIH4=\u0007",
  "a window title": "\u001b]0;title\u0007",
  "an eight-bit CSI and OSC (C1)": "\u009b31m\u009d52;c;AAAA\u009c",
  "a device control string": "\u001bP+q544e\u001b\\",
  "a carriage return over the line before": "rm -rf ~\recho hello",
  "a backspace over the character before": "ab\b\bcd",
  "a null and a delete": "\u0000\u007f",
  "bidirectional overrides and isolates": "\u202eabc\u202c \u2066def\u2069 \u200f\u061c"
}

for (const [name, text] of Object.entries(attacks)) {
  it(`makes ${name} visible`, () => {
    assert.match(text, dangerous)
    assert.notMatch(sanitize(text), dangerous)
    assert.notMatch(line(text), dangerous)
    assert.notMatch(fit(text, 10), dangerous)
  })
}

it("makes a sequence harmless wherever it is cut in two", () => {
  const text = Object.values(attacks).join(" ")
  for (let at = 0; at <= text.length; at++) {
    assert.notMatch(sanitize(text.slice(0, at)) + sanitize(text.slice(at)), dangerous)
  }
})

it("shows which character it was", () => {
  assert.strictEqual(sanitize("\u001b[31m"), "␛[31m")
  assert.strictEqual(sanitize("\u009b\u202e\u007f"), "<U+009B><U+202E>␡")
})

it("leaves ordinary text alone", () => {
  const text = "tabs\tand\nnewlines, שלום, 日本語, 👩‍👩‍👧, é"
  assert.strictEqual(sanitize(text), text)
  assert.strictEqual(sanitize("a\r\nb"), "a\nb")
})

it("fits a text into its columns, wide characters counted twice", () => {
  assert.strictEqual(fit("short", 10), "short")
  assert.strictEqual(fit("one\n  two", 10), "one two")
  assert.strictEqual(fit("abcdefghijkl", 10), "abcdefghi…")
  assert.strictEqual(fit("日本語日本語", 10), "日本語日…")
})

it("escapes invisible characters in JSON, and keeps the value", () => {
  const value = { command: "a\u200b\u{e0041}\u00a0\u001b\u202eb 👩‍👧" }
  const json = escapeJson(JSON.stringify(value))
  assert.deepStrictEqual(JSON.parse(json), value)
  assert.include(json, "a\\u200b\\udb40\\udc41\\u00a0\\u001b\\u202eb ")
  assert.isTrue(json.isWellFormed())
})
