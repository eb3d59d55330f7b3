import { assert, it } from "@effect/vitest"
import { AssistantMessageId, ConversationId, SessionId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { LiveLayer } from "@opencode-turn/platform-node/LiveLayer"
import { ConfigProvider, Effect, Layer, Option, Redacted } from "effect"
import { cli, errorLine, jsonLines } from "../support/CliProcess.ts"
import { makeDatabase } from "../support/PostgresDatabase.ts"

const conversationId = ConversationId.make("c1")

it.live("keeps conversations in PostgreSQL, for the command line and for programs", () =>
  Effect.gen(function*() {
    const url = yield* makeDatabase
    const env = { OPENCODE_TURN_DATABASE: Redacted.value(url) }
    const empty = yield* cli(["list"], { env })
    assert.deepStrictEqual([empty.code, empty.stdout], [0, ""])

    const settings = ConfigProvider.layer(ConfigProvider.fromUnknown(env))
    yield* Effect.gen(function*() {
      const store = yield* SessionStore
      yield* store.setSession(conversationId, Option.none(), SessionId.make("ses_1"))
      yield* store.claim({
        id: AssistantMessageId.make("asm_1"),
        conversationId,
        prompt: [{ type: "text", text: "Hello." }]
      })
    }).pipe(Effect.provide(Layer.provide(LiveLayer, settings)))
    const stored = yield* Effect.flatMap(SessionStore, (store) => store.getSession(conversationId)).pipe(
      Effect.provide(LiveLayer.make({ database: url }))
    )
    assert.deepStrictEqual(stored, Option.some(SessionId.make("ses_1")))

    const listed = yield* cli(["list", "--json"], { env })
    assert.deepInclude(jsonLines(listed)[0], { messageId: "asm_1", conversationId: "c1", status: "pending" })
    assert.strictEqual((yield* cli(["cancel", "asm_1"], { env })).code, 0)
    assert.strictEqual((yield* cli(["prune", "--older-than", "1ms"], { env })).stdout, "deleted 1 turn\n")
  }).pipe(Effect.scoped))

it.live("names the PostgreSQL database that cannot be used, and never its password", () =>
  Effect.gen(function*() {
    const wrong = new URL(Redacted.value(yield* makeDatabase))
    wrong.password = "canary"
    const unreadable = "postgres://me:can#ary@host/turns"
    for (
      const [database, code, expected] of [
        [wrong.href, 1, `${JSON.stringify(wrong.pathname.slice(1))} at ${wrong.host}: it refused the credentials`],
        [unreadable, 2, "OPENCODE_TURN_DATABASE cannot be read as a URL"]
      ] as const
    ) {
      const finished = yield* cli(["run", "--json", "hello"], { env: { OPENCODE_TURN_DATABASE: database } })
      assert.strictEqual(finished.code, code)
      assert.include(errorLine(finished), expected)
      assert.notMatch(finished.stdout + finished.stderr, /canary|ary@/)
    }
    // A URL without a password is no secret.
    wrong.password = ""
    const named = yield* cli(["list", "--database", wrong.href])
    assert.strictEqual(named.code, 1)
    assert.include(errorLine(named), `at ${wrong.host}`)
  }).pipe(Effect.scoped))
