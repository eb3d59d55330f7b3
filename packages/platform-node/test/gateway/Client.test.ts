import { assert, it } from "@effect/vitest"
import { AskId, AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import { GatewayApi } from "@opencode-turn/platform-node/GatewayApi"
import { prompt } from "@opencode-turn/testing/FakeOpencode"
import { Effect, Layer, Stream } from "effect"
import { FetchHttpClient, HttpClient, HttpClientRequest } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import * as Gateways from "../support/Gateways.ts"

/** Every command asks. */
const input = () => ({ permission: [{ permission: "bash", pattern: "*", action: "ask" }] as const })

it.effect("a typed client made of the contract starts, follows, answers, reads and stops turns", () =>
  Effect.gen(function*() {
    const { handle } = yield* Gateways.raw({ input })
    const client = yield* HttpApiClient.make(GatewayApi, {
      baseUrl: "http://localhost",
      transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(Gateways.token))
    }).pipe(
      Effect.provide(FetchHttpClient.layer.pipe(
        Layer.provide(Layer.succeed(FetchHttpClient.Fetch, (url, init) => handle(new Request(url, init))))
      ))
    )
    const conversationId = ConversationId.make("a/b c")
    const started = yield* client.turns.start({
      params: { conversationId },
      headers: { "idempotency-key": "k" },
      payload: {
        prompt: prompt("Do it.", [{ tool: "bash", args: { command: "ls", description: "List" } }, { text: "Done." }])
      }
    })
    const { messageId } = started
    const events = yield* client.turns.attach({ params: { messageId }, query: {}, headers: {} })
    assert(Stream.isStream(events))
    const seen = yield* Stream.runCollect(Stream.tap(events, ({ data }) =>
      data.type === "asked"
        ? client.asks.answer({
          params: { askId: data.ask.id },
          payload: { _tag: "Permission", reply: { reply: "once" } }
        })
        : Effect.void))
    const last = seen.at(-1)
    assert(last?.data.type === "turn.finished")
    const turn = yield* client.turns.get({ params: { messageId } })
    assert.deepStrictEqual(turn, last.data.turn)
    assert.deepInclude(turn, { conversationId, status: "completed", content: "Done." })
    const nothing = yield* client.turns.attach({ params: { messageId }, query: { from: last.id ?? "" }, headers: {} })
    assert.isUndefined(nothing)

    const { items: [conversation] } = yield* client.conversations.list({ query: { limit: 1 } })
    assert.strictEqual(conversation?.newestTurn.messageId, messageId)
    const { items } = yield* client.conversations.turns({ params: { conversationId }, query: {} })
    assert.deepStrictEqual(items, [turn])
    assert.deepStrictEqual(yield* client.asks.list({ query: {} }), { items: [], next: null })
    assert.deepStrictEqual(yield* client.service.health(), { status: "ok" })
    assert.deepInclude(yield* client.service.connection(), { state: "connected" })
    assert.strictEqual((yield* Effect.flip(client.turns.cancel({ params: { messageId } })))._tag, "TooLate")
    const none = { messageId: AssistantMessageId.make("none") }
    assert.strictEqual((yield* Effect.flip(client.turns.get({ params: none })))._tag, "NotFound")
    const askId = AskId.make("none")
    const answered = client.asks.answer({ params: { askId }, payload: { _tag: "Reject" } })
    assert.strictEqual((yield* Gateways.passing(Effect.flip(answered)))._tag, "NotFound")
  }).pipe(Effect.scoped, Effect.provide(Gateways.layer)))
