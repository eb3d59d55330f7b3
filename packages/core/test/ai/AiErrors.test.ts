import * as AiErrors from "#ai/AiErrors"
import { assert, it } from "@effect/vitest"
import * as AiError from "effect/ai/AiError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"

const page = readFileSync(new URL("../../../../docs/AI.md", import.meta.url), "utf8")
const rows = [...page.matchAll(/^\| `(\w+)` +\| `(\w+)` +\| (yes|no) +\|$/gm)].map((
  [, tag = "", reason, retryable]
) => ({
  tag,
  reason,
  isRetryable: retryable === "yes"
}))

const place = { method: "generateText", nowMillis: 1000, turn: { id: "m", conversationId: "c", content: "I look." } }
const reasonOf = (tag: string, details: AiErrors.Told["details"] = {}) =>
  AiErrors.fromTold({ tag, message: `it is ${tag}`, details }, place)

it("docs/AI.md tells the reason for every error of a turn", () => {
  const errors = readFileSync(new URL("../../../../docs/ERRORS.md", import.meta.url), "utf8")
  const ofTurns = errors.slice(0, errors.indexOf("## Errors of other calls"))
  const tags = [...ofTurns.matchAll(/^\| `(\w+)` +\|/gm)].map(([, tag = ""]) => tag)
  assert.sameMembers(rows.map(({ tag }) => tag), [...tags, "UnknownMessage"])
})

it.each(rows)("$tag is $reason, as docs/AI.md says", ({ isRetryable, reason, tag }) => {
  const error = reasonOf(tag)
  assert.strictEqual(error.reason._tag, reason)
  assert.strictEqual(error.isRetryable, isRetryable)
  assert.include(error.message, `it is ${tag}`)
  const { metadata } = { metadata: undefined, ...error.reason }
  if (metadata !== undefined) {
    assert.deepStrictEqual(metadata, {
      opencode: { tag, message: `it is ${tag}`, messageId: "m", conversationId: "c" }
    })
  }
})

const Json = Schema.toCodecJson(AiError.AiError)

it.effect.each(rows)("$tag is read back from its JSON", ({ tag }) =>
  Effect.gen(function*() {
    const error = reasonOf(tag, { retryAtMillis: 61_000, status: 429, name: "APIError", statusCode: 429 })
    const json = JSON.stringify(yield* Schema.encodeEffect(Json)(error))
    const read = yield* Schema.decodeUnknownEffect(Json)(JSON.parse(json))
    assert.deepStrictEqual(read.reason, error.reason)
    assert.deepStrictEqual([read.message, read.isRetryable], [error.message, error.isRetryable])
  }))

const told: ReadonlyArray<readonly [string, AiErrors.Told["details"], string]> = [
  ["InvalidInput", { field: "prompt" }, "InvalidUserInputError"],
  ["InvalidInput", { field: "file" }, "InvalidUserInputError"],
  ["InvalidInput", { field: "output" }, "UnsupportedSchemaError"],
  ["InvalidInput", { field: "model" }, "InvalidRequestError"],
  ["StatusError", { status: 429 }, "RateLimitError"],
  ["StatusError", { status: 503 }, "InternalProviderError"],
  ["StatusError", { status: 400 }, "UnknownError"],
  ["StoreError", { isRetryable: true }, "InternalProviderError"],
  ["Upstream", { name: "ProviderAuthError" }, "AuthenticationError"],
  ["Upstream", { name: "ContextOverflowError" }, "InvalidUserInputError"],
  ["Upstream", { name: "ContentFilterError" }, "ContentPolicyError"],
  ["Upstream", { name: "StructuredOutputError" }, "StructuredOutputError"],
  ["Upstream", { name: "APIError", statusCode: 400 }, "InvalidUserInputError"],
  ["Upstream", { name: "APIError", statusCode: 401 }, "AuthenticationError"],
  ["Upstream", { name: "APIError", statusCode: 402 }, "QuotaExhaustedError"],
  ["Upstream", { name: "APIError", statusCode: 403 }, "AuthenticationError"],
  ["Upstream", { name: "APIError", statusCode: 404, isRetryable: false }, "UnknownError"],
  ["Upstream", { name: "APIError", statusCode: 429 }, "RateLimitError"],
  ["Upstream", { name: "APIError", statusCode: 500, isRetryable: false }, "InternalProviderError"],
  ["Upstream", { name: "UnknownError", isRetryable: true }, "InternalProviderError"],
  ["Unheard", {}, "UnknownError"]
]

it.each(told)("%s with %j is %s", (tag, details, reason) => {
  assert.strictEqual(reasonOf(tag, details).reason._tag, reason)
})

it("a limit of the provider tells how long to wait", () => {
  const { retryAfter } = reasonOf("Upstream", { name: "APIError", statusCode: 429, retryAtMillis: 61_000 })
  assert.strictEqual(retryAfter && Duration.toMillis(retryAfter), 60_000)
})

it("an answer that does not fit is told with the error", () => {
  const { reason } = reasonOf("OutputInvalid")
  assert.strictEqual(reason._tag === "StructuredOutputError" && reason.responseText, "I look.")
})
