/**
 * Rows of a real server's database that miss what today's server writes: later turns of their sessions are none the worse.
 */
import { assert, it } from "@effect/vitest"
import { runTurn } from "@opencode-turn/core/Turn"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import type { Step } from "@opencode-turn/testing/ScriptedModel"
import { Effect, Redacted } from "effect"
import { DatabaseSync } from "node:sqlite"
import * as RealServer from "../support/RealServer.ts"
import { bash, turn } from "../support/RealTurns.ts"

/**
 * What becomes of the rows of an earlier turn, each in a session of its own. 1.18.33 answers 400 to every list with such a message, and
 * goes on all the same.
 */
const damages = [
  ["an answer without a parent", "message", "json_remove(data, '$.parentID')"],
  ["tokens without a cache", "message", "json_remove(data, '$.tokens.cache')"],
  ["an error in words", "message", "json_set(data, '$.error', 'it broke')"],
  ["an unknown role", "message", "json_set(data, '$.role', 'narrator')"],
  ["parts without a type", "part", "json_remove(data, '$.type')"],
  ["steps without a reason", "part", "json_remove(data, '$.reason', '$.tokens', '$.cost')"]
] as const

/** A turn that completes. */
const ask = (conversationId: string, ...steps: ReadonlyArray<Step>) =>
  Effect.tap(
    runTurn(turn(steps, { conversationId })),
    ({ error, status }) =>
      Effect.sync(() => assert.strictEqual(status, "completed", `${conversationId}: ${error?.message}`))
  )

it.layer(RealServer.layerWithoutServer, { excludeTestServices: true, timeout: "60 seconds" })(
  "a session whose rows are odd",
  (it) => {
    it.effect("takes another turn", () =>
      Effect.gen(function*() {
        const { options } = yield* RealServer.Workplace
        const password = Redacted.make("the same")
        const first = yield* OpencodeServer.make({ ...options, password })
        yield* Effect.gen(function*() {
          const earlier = yield* Effect.forEach(
            damages,
            ([name, table, data]) =>
              Effect.map(
                ask(name, bash("echo hi"), { text: "one" }),
                ({ sessionId = "" }) => ({ table, data, sessionId })
              ),
            { concurrency: 3 }
          )
          yield* first.kill
          const database = new DatabaseSync(`${options.home}/.local/share/opencode/opencode.db`)
          for (const { data, sessionId, table } of earlier) {
            const { changes } = database.prepare(`UPDATE ${table} SET data = ${data} WHERE session_id = ?`).run(
              sessionId
            )
            assert.isAbove(Number(changes), 0)
          }
          database.close()
          yield* OpencodeServer.make({ ...options, port: Number(new URL(first.url).port), password })
          const next = yield* Effect.forEach(damages, ([name]) => ask(name, { text: "two" }), { concurrency: 3 })
          for (const [index, { content, isRecreated, sessionId }] of next.entries()) {
            assert.strictEqual(content, "two")
            assert.isFalse(isRecreated)
            assert.strictEqual(sessionId, earlier[index]?.sessionId)
          }
        }).pipe(Effect.provide(RealServer.layerClient(first)))
      }).pipe(Effect.scoped), 180_000)
  }
)
