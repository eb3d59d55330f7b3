import * as JsonLines from "#cli/JsonLines"
import { assert, it } from "@effect/vitest"
import { PartId } from "@opencode-turn/core/Ids"

it("tells which part is gone", () => {
  assert.strictEqual(
    JsonLines.fromUpdate({ _tag: "PartRemoved", partId: PartId.make("prt_1") }),
    `{"type":"part.removed","partId":"prt_1"}\n`
  )
})

it("writes one line, whose value is exactly the text of the model", () => {
  const text = "a\nb\r\u001b[31m\u009b2J\u202e\u2028\u007f \u{1f600} é"
  const line = JsonLines.fromUpdate({ _tag: "TextDelta", partId: PartId.make("prt_1"), delta: text })
  assert.deepStrictEqual(JSON.parse(line), { type: "text.delta", partId: "prt_1", delta: text })
  assert.match(line, /^[^\n]*\n$/)
  assert.notMatch(line.slice(0, -1), /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/u)
})
