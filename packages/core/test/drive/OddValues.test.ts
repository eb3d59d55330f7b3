import { assert, it } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { AskId, MessageId, SessionId } from "@opencode-turn/core/Ids"
import * as Usage from "@opencode-turn/core/Usage"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { finish, layer, rewritten, start } from "../support/driving.ts"

const isList = { method: "GET", path: /\/message$/ }

/** Changes each answer of a list. */
const withInfo = (f: (info: object) => object) =>
  rewritten((messages) =>
    Array.isArray(messages)
      ? messages.map((message: unknown) =>
        Predicate.hasProperty(message, "info") && Predicate.isObject(message.info) &&
          Predicate.hasProperty(message.info, "role") && message.info.role === "assistant"
          ? { ...message, info: f(message.info) }
          : message
      )
      : messages
  )

const usageOf = (cost: number, input: number): Usage.Usage => ({ cost, tokens: { ...Usage.zero.tokens, input } })

it("a sum of costs and tokens is a number that can be stored, whatever is summed", () => {
  for (const odd of [1e308, Number.MAX_VALUE, -1e308, Number.NaN, Infinity, -Infinity, -5]) {
    const { cost, tokens } = Usage.sum([usageOf(odd, odd), usageOf(odd, odd), usageOf(0.5, 7)])
    for (const value of [cost, tokens.input]) {
      assert.isTrue(Number.isFinite(value) && value >= 0 && value <= Number.MAX_SAFE_INTEGER, `${odd}: ${value}`)
    }
  }
  assert.deepStrictEqual(
    Usage.sum([usageOf(0.00008, 1), usageOf(0.00008, 1), usageOf(0.00008, 1)]),
    usageOf(0.00024, 3)
  )
})

it.effect.each([
  { name: "huge", cost: 1e308, tokens: 1e308 },
  { name: "negative", cost: -1, tokens: -1000 }
])(
  "a turn whose steps cost absurd amounts completes and is stored: $name",
  ({ cost, tokens }) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const running = yield* start([{ text: "one", tool: "bash", args: { command: "ls" }, gate: "gate" }, {
        text: "two"
      }])
      const all = { input: tokens, output: tokens, reasoning: 0, cache: { read: 0, write: 0 } }
      yield* fake.fail(isList, withInfo((info) => ({ ...info, cost, tokens: all })), Infinity)
      yield* fake.release("gate")
      const { result } = yield* finish(running, 5)
      assert.strictEqual(result.error, undefined)
      assert.strictEqual(result.message?.status, "completed")
      assert.isTrue(Number.isFinite(result.usage.total.cost))
      assert.isAtLeast(result.usage.total.cost, 0)
      assert.isAtLeast(result.usage.total.tokens.input, 0)
    }).pipe(Effect.provide(layer()))
)

const nested = (levels: number): string => `${"{\"a\":".repeat(levels)}1${"}".repeat(levels)}`

it.effect.each([2000, 5000, 50_000])(
  "a tool input %i levels deep is cut, and its turn is stored",
  (levels) =>
    Effect.gen(function*() {
      const fake = yield* FakeOpencode
      const running = yield* start([{ text: "one", tool: "bash", args: { command: "ls" }, gate: "gate" }, {
        text: "two"
      }])
      yield* fake.fail(
        isList,
        (serve) =>
          Effect.map(serve, (response) =>
            response._tag === "Body"
              ? {
                ...response,
                body: response.body.replaceAll(
                  `"input":{"command":"ls"}`,
                  `"input":{"deep":${nested(levels)}}`
                )
              }
              : response),
        Infinity
      )
      yield* fake.release("gate")
      const { result } = yield* finish(running, 5)
      assert.strictEqual(result.error, undefined)
      assert.strictEqual(result.message?.status, "completed")
      assert.strictEqual(result.content, "one\n\ntwo")
      const [tool] = result.reply.tools
      assert.include(JSON.stringify(tool?.input), "<cut: nested deeper than 200 levels>")
    }).pipe(Effect.provide(layer()))
)

it.effect("an id with a lone surrogate is one that the server does not have", () =>
  Effect.gen(function*() {
    const client = yield* Client
    const odd = "\ud800"
    const sessionId = SessionId.make(`ses_${odd}`)
    assert.strictEqual((yield* Effect.flip(client.getSession(sessionId)))._tag, "SessionNotFound")
    const { id } = yield* client.createSession({})
    const error = yield* Effect.flip(client.getMessage(id, MessageId.make(`msg_${odd}`)))
    assert.strictEqual(error._tag, "MessageNotFound")
    const request = AskId.make(`per_${odd}`)
    assert.strictEqual(
      (yield* Effect.flip(client.answerPermission(request, { reply: "once" })))._tag,
      "AskNotFound"
    )
  }).pipe(Effect.provide(layer())))
