/**
 * Two OpenCode servers with one database: each turn goes on at the server that has its session, whatever that server is called.
 */
import { assert } from "@effect/vitest"
import * as Client from "@opencode-turn/core/Client"
import { ConversationId } from "@opencode-turn/core/Ids"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import { runTurn } from "@opencode-turn/core/Turn"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as TurnWorker from "@opencode-turn/core/TurnWorker"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Context, Effect, Exit, Fiber, Layer, Option, Scope } from "effect"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import { turn } from "../support/RealTurns.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"

type Server = OpencodeServer.OpencodeServer["Service"]

/** A server with sessions of its own in the test's folder. */
const ownServer = Effect.flatMap(RealServer.Workplace, ({ options }) => OpencodeServer.make(options))

const clientOf = (server: Server, url = server.url) =>
  Effect.map(Layer.build(RealServer.layerClient(server, url)), (context) => Context.get(context, Client.Client))

/** Begins a turn and leaves it half way, as a worker does that is replaced. */
const leave = Effect.fnUntraced(function*(gate: string) {
  const model = yield* ScriptedModel.ScriptedModel
  const input = turn([{ text: "one two three", gate, gateAfter: 2 }])
  const running = yield* Effect.forkChild(
    Effect.provideService(runTurn(input), TurnPolicy.OnInterrupt, "release")
  )
  yield* model.reached(gate)
  yield* Fiber.interrupt(running)
  return input
})

const stored = Layer.mergeAll(MemorySessionStore.layer, Tracer.layerCollect())

const resume = (client: Client.Client["Service"]) =>
  Effect.map(
    Effect.provideService(TurnWorker.resumeTurns(), Client.Client, client),
    (results) => results.map(({ content, error, status }) => ({ content, status, tag: error?._tag }))
  )

const whole = { content: "one two three", status: "completed", tag: undefined }

/** Runs a turn on a server. */
const on = (client: Client.Client["Service"], said: string, conversationId: string) =>
  Effect.provideService(runTurn(turn([{ text: said }], { conversationId })), Client.Client, client)

onBothLines("two servers with one database", {
  layerOf: (line) => RealServer.layerWithoutServerOf({ line })
}, (it, { line }) => {
  it.effect("a turn goes on only at its own server, also on another port and under another name", () =>
    Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const store = yield* SessionStore
      const other = yield* clientOf(yield* SharedOpencode.serverOf(line))
      const life = yield* Scope.make()
      const server = yield* Scope.provide(ownServer, life)
      const { conversationId } = yield* Effect.provideService(leave("half"), Client.Client, yield* clientOf(server))
      const session = store.getSession(ConversationId.make(conversationId))
      const before = yield* session

      assert.deepStrictEqual(yield* resume(other), [])
      assert.deepStrictEqual(yield* session, before)
      assert.strictEqual(yield* model.modelCalls, 1)

      yield* server.kill
      yield* Scope.close(life, Exit.void)
      yield* model.release("half")
      const again = yield* ownServer
      assert.notStrictEqual(again.url, server.url)
      assert.deepStrictEqual(yield* resume(other), [])
      const named = yield* clientOf(again, again.url.replace("127.0.0.1", "localhost"))
      assert.deepStrictEqual<unknown>(yield* resume(named), [whole])
      assert.deepStrictEqual(yield* session, before)
      // The first call was lost with the server.
      assert.strictEqual(yield* model.modelCalls, 2)
    }).pipe(Effect.provide(stored)))

  it.effect("a conversation keeps its session, also if a turn comes to the wrong server", () =>
    Effect.gen(function*() {
      const model = yield* ScriptedModel.ScriptedModel
      const store = yield* SessionStore
      const other = yield* clientOf(yield* SharedOpencode.serverOf(line))
      const own = yield* clientOf(yield* ownServer)
      const before = yield* on(own, "Before.", "kept")
      const calls = yield* model.modelCalls
      const wrong = yield* on(other, "Elsewhere.", "kept")
      assert.deepStrictEqual([wrong.status, wrong.error?._tag], ["failed", "ServerMismatch"])
      assert.strictEqual(yield* model.modelCalls, calls)
      assert.deepStrictEqual(
        yield* store.getSession(ConversationId.make("kept")),
        Option.fromUndefinedOr(before.sessionId)
      )
      const after = yield* on(own, "After.", "kept")
      assert.deepStrictEqual([after.content, after.sessionId], ["After.", before.sessionId])
      const anew = yield* Effect.provideService(on(other, "Anew.", "kept"), TurnPolicy.OnLostSession, "resend")
      assert.deepStrictEqual([anew.content, anew.isRecreated], ["Anew.", true])
    }).pipe(Effect.provide(stored)))
})
