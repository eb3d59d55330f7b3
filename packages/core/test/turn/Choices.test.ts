/**
 * What a turn works by, on both lines: agent, model and variant that it names, and what a turn has that names none, whatever became of the
 * turns before it.
 */
import { assert, describe } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { SessionId } from "@opencode-turn/core/Ids"
import { compactConversation, forkConversation } from "@opencode-turn/core/Operations"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import { FakeOpencode } from "@opencode-turn/testing/FakeOpencode"
import * as Effect from "effect/Effect"
import { logged } from "../support/logs.ts"
import * as Turns from "../support/turns.ts"

const { conversationId, names, payloads, requests, test, turn } = Turns

const lines = ["1.x", "2.x", "2.x release"] as const

const fake = {
  models: { m: ["high", "low"], n: ["high"] },
  agents: {
    reviewer: { mode: "primary", description: "reviews" },
    // It is set up with a model of its own.
    painter: { mode: "primary", description: "paints", model: "n" }
  }
} as const

type Choices = Pick<TurnInput, "agent" | "model" | "variant">

const run = (messageId: string, choices: Choices = {}) => runTurn(turn([{ text: "Done." }], { messageId, ...choices }))

const nameOf = (variant = "default") => variant === "default" ? "none" : variant

/** What the newest step of a session worked by. */
const usedIn = Effect.fnUntraced(function*(sessionId: string) {
  const server = yield* FakeOpencode
  const last1x = (yield* server.messages(sessionId)).findLast(({ info }) => info.role === "assistant")?.info
  if (last1x?.role === "assistant") return [last1x.agent, last1x.modelID, nameOf(last1x.variant)]
  const last2x = (yield* server.messages2x(sessionId)).findLast(({ type }) => type === "assistant")
  if (last2x?.type !== "assistant") return []
  const { variant } = last2x.model
  return [last2x.agent, last2x.model.id, nameOf(variant)]
})

/** Runs a turn of these choices to its end, and gives what it worked by. */
const used = Effect.fnUntraced(function*(messageId: string, choices: Choices = {}) {
  const result = yield* run(messageId, choices)
  assert.strictEqual(result.error, undefined)
  return yield* usedIn(result.sessionId ?? "")
})

for (const line of lines) {
  const options = { fake: { ...fake, line } }

  describe(`what a turn works by on ${line}`, () => {
    test("is the server's choice where the first turn names nothing", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* used("a"), ["build", "m", "none"])
      }), options)

    test("is what the turn names, and agent and variant are forgotten with it", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* used("a", { agent: "reviewer" }), ["reviewer", "m", "none"])
        assert.deepStrictEqual(yield* used("b"), ["build", "m", "none"])
        assert.deepStrictEqual(yield* used("c", { variant: "high" }), ["build", "m", "high"])
        assert.deepStrictEqual(yield* used("d"), ["build", "m", "none"])
        assert.deepStrictEqual(yield* used("e", { model: "scripted/n", variant: "high" }), ["build", "n", "high"])
        assert.deepStrictEqual(yield* used("f"), ["build", "n", "none"])
        assert.deepStrictEqual(yield* used("g", { variant: "high" }), ["build", "n", "high"])
        assert.deepStrictEqual(yield* used("h", { model: "scripted/m" }), ["build", "m", "none"])
        assert.deepStrictEqual(yield* used("i", { variant: "default" }), ["build", "m", "none"])
      }), options)

    test("is the model that the agent is set up with, unless the turn names one", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* used("a", { model: "scripted/m" }), ["build", "m", "none"])
        assert.deepStrictEqual(yield* used("b", { agent: "painter" }), ["painter", "n", "none"])
        assert.deepStrictEqual(yield* used("c"), ["build", "n", "none"])
        assert.deepStrictEqual(yield* used("d", { agent: "painter", model: "scripted/m" }), ["painter", "m", "none"])
      }), options)

    test("stays the session's last model in a fork, and after a summary by another one", () =>
      Effect.gen(function*() {
        yield* used("a", { agent: "reviewer", model: "scripted/n" })
        yield* compactConversation(conversationId, { model: "scripted/m" })
        assert.deepStrictEqual(yield* used("b"), ["build", "n", "none"])
        yield* forkConversation({ conversationId, into: "fork" })
        const result = yield* runTurn(turn([{ text: "Done." }], { messageId: "c", conversationId: "fork" }))
        assert.deepStrictEqual(yield* usedIn(result.sessionId ?? ""), ["build", "n", "none"])
      }), options)

    const wrong: ReadonlyArray<readonly [string, Choices, string]> = [
      ["model", { model: "scripted/nope" }, "Model not found: scripted/nope."],
      ["provider", { model: "nope/m" }, "Model not found: nope/m."],
      ...line === "1.x" ? [] : [
        [
          "agent",
          { agent: "nope" },
          "Agent not found: \"nope\". Available agents: build, explore, general, painter, plan, reviewer"
        ],
        ["variant", { variant: "nope" }, "Variant not found: \"nope\". scripted/m has high, low"],
        [
          "variant of the named model",
          { model: "scripted/n", variant: "low" },
          "Variant not found: \"low\". scripted/n has high"
        ],
        [
          "variant of the agent's own model",
          { agent: "painter", variant: "low" },
          "Variant not found: \"low\". scripted/n has high"
        ]
      ] as const
    ]
    for (const [what, choices, message] of wrong) {
      test(`a wrong ${what} ends the turn before anything is made or sent`, () =>
        Effect.gen(function*() {
          const server = yield* FakeOpencode
          const { error, sessionId, status } = yield* run("a", choices)
          assert.deepStrictEqual([status, error?._tag, error?.message], ["error", "Upstream", message])
          assert.isUndefined(sessionId)
          assert.deepStrictEqual(yield* server.sessions, [])
          assert.deepStrictEqual(yield* requests("POST", /./), [])
          assert.includeMembers([...yield* names], ["response.upstream_error", "response.error"])
        }), options)

      test(`a wrong ${what} is in no later turn's way, nor in that of a fork`, () =>
        Effect.gen(function*() {
          yield* used("a", { model: "scripted/n" })
          const { error, status } = yield* run("b", choices)
          assert.deepStrictEqual([status, error?._tag], ["error", "Upstream"])
          assert.deepStrictEqual(yield* used("c"), ["build", "n", "none"])
          yield* compactConversation(conversationId)
          yield* forkConversation({ conversationId, into: "fork" })
          const result = yield* runTurn(turn([{ text: "Done." }], { messageId: "d", conversationId: "fork" }))
          assert.deepStrictEqual(yield* usedIn(result.sessionId ?? ""), ["build", "n", "none"])
        }), options)
    }

    if (line === "1.x") {
      test(
        "a wrong variant is dropped by the server, which the result, a trace event and one line of the log tell",
        () =>
          Effect.gen(function*() {
            const { lines: log, value } = yield* logged(run("a", { variant: "nope" }))
            assert.deepStrictEqual([value.status, value.dropped], ["completed", ["variant"]])
            assert.deepStrictEqual(yield* payloads("session.field_dropped"), [
              { session_id: value.sessionId ?? "", subject_id: conversationId, field: "variant" }
            ])
            assert.deepStrictEqual(log.map(({ level, text }) => [level, text]), [
              ["Warn", "OpenCode dropped the variant of a turn, which its model does not have"]
            ])
            const { dropped } = yield* run("b", { variant: "high" })
            assert.deepStrictEqual(dropped, [])
          }),
        options
      )
    }

    test("what is known only when it is evaluated is checked then", () =>
      Effect.gen(function*() {
        const result = yield* runTurn(turn([{ text: "Done." }], { model: Effect.succeed("scripted/nope") }))
        assert.strictEqual(result.error?.message, "Model not found: scripted/nope.")
        assert.deepStrictEqual(yield* requests("POST", /prompt/), [])
        assert.includeMembers([...yield* names], ["response.upstream_error"])
      }), options)

    test("a choice that its turn did not live to use is in no later turn's way", () =>
      Effect.gen(function*() {
        const client = yield* Client
        const { sessionId = "" } = yield* run("a")
        // The process died when it had chosen.
        yield* Effect.ignore(client.prompt(SessionId.make(sessionId), {
          parts: [{ type: "text", text: "" }],
          agent: "reviewer",
          variant: "high"
        }))
        yield* client.abortSession(SessionId.make(sessionId))
        assert.deepStrictEqual(yield* used("b"), ["build", "m", "none"])
      }), options)
  })
}
