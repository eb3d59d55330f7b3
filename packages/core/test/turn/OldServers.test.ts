/** What a turn tells of a server that drops something without a word. */
import { assert, describe } from "@effect/vitest"
import type { Client } from "@opencode-turn/core/Client"
import { runTurn } from "@opencode-turn/core/Turn"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { logged } from "../support/logs.ts"
import * as Turns from "../support/turns.ts"

const { names, payloads, requests, test, turn } = Turns

const answer = [{ text: "Hi." }]
const metadata = { ticket: "42" }

/** The server keeps no metadata. */
const forgets = (client: Client["Service"]): Partial<Client["Service"]> => ({
  createSession: (options) => Effect.map(client.createSession(options), (session) => ({ ...session, metadata: {} }))
})

describe("a turn with metadata", () => {
  test(
    "works on a server that keeps none, and its result, a trace event and one line of the log tell",
    () =>
      Effect.gen(function*() {
        const first = yield* logged(runTurn(turn(answer, { metadata })))
        assert.strictEqual(first.value.error, undefined)
        assert.deepStrictEqual(first.value.dropped, ["metadata"])
        const { conversationId, sessionId } = first.value
        assert.deepStrictEqual(yield* payloads("session.field_dropped"), [
          { session_id: sessionId ?? "", subject_id: conversationId, field: "metadata" }
        ])
        assert.deepStrictEqual(
          (yield* names).filter((name) => name.startsWith("session.")),
          ["session.created", "session.field_dropped"]
        )
        assert.deepStrictEqual(first.lines.map(({ level, text }) => [level, text]), [
          ["Warn", "OpenCode keeps no metadata of its sessions: what a turn gives is dropped"]
        ])
        assert.notInclude(JSON.stringify(first.lines), "ticket")

        // The session exists by now.
        const again = yield* logged(runTurn(turn(answer, { metadata, messageId: "again" })))
        assert.deepStrictEqual(again.value.dropped, [])
        const other = yield* logged(
          runTurn(turn(answer, { metadata, conversationId: "other", messageId: "other" }))
        )
        assert.deepStrictEqual(other.value.dropped, ["metadata"])
        assert.lengthOf(yield* payloads("session.field_dropped"), 2)
        assert.deepStrictEqual([...again.lines, ...other.lines], [])
      }),
    { client: forgets }
  )

  test("tells nothing of it on such a server if it gave none", () =>
    Effect.gen(function*() {
      const { lines, value } = yield* logged(runTurn(turn(answer)))
      assert.deepStrictEqual([value.dropped, lines, yield* payloads("session.field_dropped")], [[], [], []])
    }), { client: forgets })

  test("tells nothing where the server keeps it", () =>
    Effect.gen(function*() {
      const { lines, value } = yield* logged(runTurn(turn(answer, { metadata })))
      assert.deepStrictEqual([value.dropped, lines, yield* payloads("session.field_dropped")], [[], [], []])
    }))
})

describe("a turn of an agent that the server does not have", () => {
  test("ends with the agents that it has, as the server itself says", () =>
    Effect.gen(function*() {
      const ending = yield* Effect.forkChild(runTurn(turn(answer, { agent: "nope" })))
      yield* Turns.rest
      // Its end may be told twice, so that the turn waits a while.
      yield* TestClock.adjust("30 seconds")
      const { error, status } = yield* Fiber.join(ending)
      assert.deepStrictEqual([status, error?._tag, error?.message], [
        "error",
        "Upstream",
        "Agent not found: \"nope\". Available agents: build, explore, general, plan"
      ])
      assert.lengthOf(yield* requests("GET", /\/agent$/), 0)
    }))
})
