import { assert, it } from "@effect/vitest"
import * as Prompt from "@opencode-turn/core/Prompt"
import * as Effect from "effect/Effect"

it.effect("text is a prompt of one part, parts stay as they are", () =>
  Effect.gen(function*() {
    assert.deepStrictEqual(yield* Prompt.parts(" go "), [{ type: "text", text: " go " }])
    const parts = [
      { type: "text", text: "" },
      { type: "file", mediaType: "image/png", url: "data:," },
      { type: "agent", name: "plan" }
    ] as const
    assert.strictEqual(yield* Prompt.parts(parts), parts)
  }))

it.effect("a prompt that says nothing is refused", () =>
  Effect.gen(function*() {
    for (const empty of ["", " \n\t", [], [{ type: "text", text: " " }] as const]) {
      const error = yield* Effect.flip(Prompt.parts(empty))
      assert.strictEqual(error.field, "prompt")
      assert.match(error.message, /^invalid prompt: it is empty/)
    }
  }))

it.effect("a file or an agent alone is a prompt", () =>
  Effect.gen(function*() {
    assert.lengthOf(yield* Prompt.parts([{ type: "agent", name: "plan" }]), 1)
    assert.lengthOf(yield* Prompt.parts([{ type: "file", mediaType: "text/plain", url: "file:///a" }]), 1)
  }))

it.effect("a model is named by its provider first; its own name may have slashes", () =>
  Effect.gen(function*() {
    assert.deepStrictEqual(yield* Prompt.parseModel("anthropic/claude"), { providerId: "anthropic", modelId: "claude" })
    assert.deepStrictEqual(yield* Prompt.parseModel("openrouter/anthropic/claude:free"), {
      providerId: "openrouter",
      modelId: "anthropic/claude:free"
    })
  }))

it.effect("what is not provider/model is refused with what it should be", () =>
  Effect.gen(function*() {
    for (const text of ["", "claude", "/claude", "anthropic/", "anthropic /claude", "a/b\n"]) {
      const error = yield* Effect.flip(Prompt.parseModel(text))
      assert.strictEqual(error.field, "model")
      assert.include(error.message, "provider/model")
    }
  }))
