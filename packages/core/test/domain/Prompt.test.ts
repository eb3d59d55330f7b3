import { promptParts } from "#opencode/PromptCheck"
import { assert, describe, it } from "@effect/vitest"
import * as Prompt from "@opencode-turn/core/Prompt"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const png = "data:image/png;base64,iVBORw0KGgo="
const file = (mediaType: string, url: string, filename?: string): Prompt.PromptPart => ({
  type: "file",
  mediaType,
  url,
  ...(filename !== undefined && { filename })
})
const subtask: Prompt.PromptPart = { type: "subtask", description: "look", prompt: "look around", agent: "explore" }

describe("a prompt", () => {
  it.effect("has one part if it was given as text, and keeps given parts unchanged", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* promptParts(" go "), [{ type: "text", text: " go " }])
      const parts: ReadonlyArray<Prompt.PromptPart> = [
        { type: "text", text: "" },
        file("image/png", png),
        { type: "agent", name: "plan" },
        subtask
      ]
      assert.strictEqual(yield* promptParts(parts), parts)
    }))

  it.effect("is refused without any words", () =>
    Effect.gen(function*() {
      for (const empty of ["", " \n\t", [], [{ type: "text", text: " " }] as const]) {
        const error = yield* Effect.flip(promptParts(empty))
        assert.strictEqual(error.field, "prompt")
        assert.match(error.message, /^invalid prompt: it is empty/)
      }
    }))

  it.effect("may consist of one file, agent or subtask", () =>
    Effect.gen(function*() {
      for (const part of [file("text/plain", "file:///a"), { type: "agent", name: "plan" } as const, subtask]) {
        assert.lengthOf(yield* promptParts([part]), 1)
      }
    }))

  it.effect("is refused with several subtasks, because the server runs only the last", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(promptParts([subtask, { type: "text", text: "and" }, subtask]))
      assert.include(error.message, "more than one subtask")
    }))

  it("can be decoded if it was stored before subtasks existed", () => {
    const stored = [{ type: "text", text: "a" }, { type: "agent", name: "b" }, file("text/plain", "file:///a")]
    assert.deepStrictEqual<unknown>(Schema.decodeUnknownSync(Schema.Array(Prompt.PromptPart))(stored), stored)
    assert.deepStrictEqual(Schema.decodeSync(Prompt.PromptPart)(subtask), subtask)
  })
})

describe("a file", () => {
  const good: ReadonlyArray<readonly [string, string]> = [
    ["text/plain", "data:,a%20b"],
    ["text/plain", "data:text/plain;base64,"],
    ["text/plain", "data:application/json;base64,e30="],
    ["text/plain", "file:///a/b.ts?start=2&end=3"],
    ["text/plain", "file:/etc/hostname"],
    ["text/plain", "file://localhost/etc/hostname"],
    ["application/x-directory", "file:///src/"],
    ["image/png", png],
    // The server reads the data itself.
    ["image/png", "data:image/gif;base64,R0lGODlhAQABAA=="],
    ["image/bmp", "data:image/bmp;base64,Qk0="],
    ["image/png", "file:///a.png"],
    ["application/pdf", "data:application/pdf;base64,JVBERi0xLjQK"]
  ]
  it.effect.each(good)("of type %s at %s is accepted", ([mediaType, url]) =>
    Effect.gen(function*() {
      assert.lengthOf(yield* promptParts([file(mediaType, url)]), 1)
    }))

  // On a real server each of these leads to endless silence, a failed turn, or a model that never sees the file.
  const bad: ReadonlyArray<readonly [string, string, string]> = [
    ["text/plain", "not a url", "Attachment.fromPath"],
    ["text/plain", "https://example.com/a.txt?token=canary", "Attachment.fromUrl"],
    ["image/png", "http://example.com/a.png", "Attachment.fromUrl"],
    ["text/plain", "ftp://example.com/a", "ftp:"],
    ["text/plain", "file://host/share/a", "file:///path"],
    ["text/plain", "file:a.txt", "file:///path"],
    ["text/plain", "file:///tmp%2fa", "%2F"],
    ["text/plain", "data:text/plain;base64", "malformed"],
    ["text/plain", "data:text/plain;base64,@@@@", "base64"],
    ["text/plain", "data:text/plain;base64,YWJjZA", "base64"],
    ["text/plain", "data:text/plain;base64,YW=j", "base64"],
    ["text/plain", "data:text/plain,a%zz", "percent-encoded"],
    ["text/plain", "data:text/plain,%ff", "percent-encoded"],
    ["image/png", "data:,iVBORw0KGgo=", "base64"],
    ["image/png", "data:image/png;BASE64,iVBORw0KGgo=", "base64"],
    ["image/png", "data:image/png;base64,iVBORw0KGgo", "base64"],
    ["image/png", "data:image/png;base64,", "empty"],
    ["image/jpeg", "data:image/jpeg;base64,eHh4eA==", "image/jpeg"],
    ["application/pdf", "data:application/pdf;base64,", "empty"],
    ["application/pdf", "data:application/pdf,abc", "base64"],
    ["application/x-directory", "data:application/x-directory;base64,", "file:"],
    ["application/json", "data:application/json;base64,e30=", "as text/plain"],
    ["text/markdown", "file:///a.md", "as text/plain"],
    ["text/plain; charset=utf-8", "file:///a.md", "without parameters"],
    ["IMAGE/PNG", png, "lower case"],
    ["image/svg+xml", "file:///a.svg", "as text/plain"],
    ["", "file:///a", "text/plain"]
  ]
  it.effect.each(bad)("of type %s at %s is refused", ([mediaType, url, words]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(promptParts([{ type: "text", text: "look" }, file(mediaType, url, "a b")]))
      assert.strictEqual(error.field, "prompt")
      assert.include(error.message, "part 2, the file \"a b\": ")
      assert.include(error.message, words)
      assert.notInclude(error.message, "canary")
    }))

  it.effect("must fit the byte limit together with the other files", () =>
    Effect.gen(function*() {
      const parts = [
        file("image/png", png),
        file("text/plain", "data:,%C3%BCx"),
        file("text/plain", "data:;base64,YQ=="),
        file("text/plain", "file:///huge")
      ]
      const limited = (limit: number) => Effect.provideService(promptParts(parts), TurnPolicy.MaxAttachmentBytes, limit)
      assert.lengthOf(yield* limited(8 + 3 + 1), 4)
      const error = yield* Effect.flip(limited(11))
      assert.include(error.message, "12 bytes")
      assert.include(error.message, "the 11 of TurnPolicy.MaxAttachmentBytes")
    }))

  it.effect("is checked even with many megabytes", () =>
    Effect.gen(function*() {
      const url = `data:text/plain;base64,${"YWJj".repeat(2_000_000)}`
      assert.lengthOf(yield* promptParts([file("text/plain", url)]), 1)
      assert.include((yield* Effect.flip(promptParts([file("text/plain", `${url}@@@@`)]))).message, "base64")
    }))
})

it.effect("refuses an agent or a subtask without a name or without a prompt", () =>
  Effect.gen(function*() {
    const bad: ReadonlyArray<readonly [Prompt.PromptPart, string]> = [
      [{ type: "agent", name: "" }, "the agent: it names no agent"],
      [{ ...subtask, agent: " " }, "the subtask: it names no agent"],
      [{ ...subtask, prompt: "\n" }, "the subtask: its prompt is empty"]
    ]
    for (const [part, words] of bad) assert.include((yield* Effect.flip(promptParts([part]))).message, words)
  }))

it.effect("parses the provider before the first slash; the model's own name may have slashes", () =>
  Effect.gen(function*() {
    assert.deepStrictEqual(yield* Prompt.parseModel("anthropic/claude"), { providerId: "anthropic", modelId: "claude" })
    assert.deepStrictEqual(yield* Prompt.parseModel("openrouter/anthropic/claude:free"), {
      providerId: "openrouter",
      modelId: "anthropic/claude:free"
    })
  }))

it.effect("refuses other texts than provider/model and shows the expected form", () =>
  Effect.gen(function*() {
    for (const text of ["", "claude", "/claude", "anthropic/", "anthropic /claude", "a/b\n"]) {
      const error = yield* Effect.flip(Prompt.parseModel(text))
      assert.strictEqual(error.field, "model")
      assert.include(error.message, "provider/model")
    }
  }))
