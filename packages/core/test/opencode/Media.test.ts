import * as Media from "#opencode/Media"
import { assert, it } from "@effect/vitest"

const text = new TextEncoder().encode("text")
const binary = Uint8Array.from([0, 1, 2])
const png = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])

it.each(
  [
    ["a.html", text, "text/html"],
    ["a.json", text, "application/json"],
    ["a.svg", text, "image/svg+xml"],
    ["a.md", text, "text/markdown"],
    ["a.ts", text, "text/plain"],
    ["a.rs", text, "text/plain"],
    ["a.dot", text, "text/plain"],
    ["a.png", text, "text/plain"],
    ["a.zip", text, "text/plain"],
    ["Makefile", text, "text/plain"],
    ["a.txt", png, "image/png"],
    ["a.ts", binary, "video/mp2t"],
    ["a.zip", binary, "application/zip"],
    ["a.png", binary, "application/octet-stream"],
    ["a", binary, "application/octet-stream"]
  ] as const
)("%s is seen as what its bytes and its name say", (path, bytes, expected) => {
  assert.strictEqual(Media.ofBytes(path, bytes), expected)
})
