import { assert, it } from "@effect/vitest"
import { GatewayApi } from "@opencode-turn/platform-node/GatewayApi"
import { Effect } from "effect"
import { OpenApi } from "effect/http-api"
import * as Gateways from "../support/Gateways.ts"

/** Every route with the statuses that it may answer with, and the schema of its success. */
const routes = [
  ["POST /conversations/{conversationId}/turns", "202 400 401 403 404 409 413 415 422 429 500 503", "StartedTurn"],
  ["GET /conversations/{conversationId}/turns", "200 400 401 403 404 429 500 503", "TurnPage"],
  ["GET /conversations", "200 400 401 403 429 500 503", "ConversationPage"],
  ["POST /conversations", "201 400 401 403 422 429 500 503", "NewConversation"],
  ["GET /turns/{messageId}", "200 400 401 403 404 429 500 503", "Turn"],
  ["GET /turns/{messageId}/updates", "200 204 400 401 403 404 429 500 503", "TurnUpdate"],
  ["POST /turns/{messageId}/cancel", "200 400 401 403 404 409 429 500 503", "Turn"],
  ["POST /turns/{messageId}/revert", "200 400 401 403 404 409 422 429 500 503", "Turn"],
  ["POST /conversations/{conversationId}/fork", "201 400 401 403 404 409 413 415 422 429 500 503", "Turn"],
  ["POST /conversations/{conversationId}/unrevert", "200 400 401 403 404 409 422 429 500 503", "Turn"],
  ["POST /conversations/{conversationId}/compact", "202 400 401 403 404 409 413 415 422 429 500 503", "StartedTurn"],
  ["GET /asks", "200 400 401 403 404 429 500 503", "AskPage"],
  ["POST /asks/{askId}/answer", "200 400 401 403 404 409 413 415 422 429 500 503", "StoredAsk"],
  ["POST /ai-sdk", "200 400 401 403 404 409 413 415 422 429 500 503", "text/event-stream"],
  ["GET /ai-sdk/{conversationId}/stream", "200 204 400 401 403 404 429 500 503", "text/event-stream"],
  ["POST /ai-sdk/{conversationId}/stop", "200 204 400 401 403 404 409 429 500 503", "Turn"],
  ["GET /ai-sdk/{conversationId}/messages", "200 400 401 403 404 429 500 503", "UiMessagePage"],
  ["POST /ag-ui", "200 400 401 403 404 409 413 415 422 429 500 503", "text/event-stream"],
  ["POST /ag-ui/connect", "200 400 401 403 404 413 415 422 429 500 503", "text/event-stream"],
  ["GET /health", "200 403", "status"],
  ["GET /connection", "200 400 401 403 429 500 503", "Connection"],
  ["POST /link", "201 400 401 403 404 429 500 503", "expiresMillis"]
]

it.effect("serves an OpenAPI document of every route, its statuses, its schemas and who may call it", () =>
  Effect.gen(function*() {
    const gateway = yield* Gateways.open()
    const { status, text } = yield* gateway.call("/openapi.json", { token: null })
    assert.strictEqual(status, 200)
    const document: OpenApi.OpenAPISpec = JSON.parse(text)
    assert.deepStrictEqual(document, OpenApi.fromApi(GatewayApi))
    const described = Object.entries(document.paths).flatMap(([path, methods]) =>
      (["get", "post"] as const).flatMap((method) => {
        const operation = methods[method]
        if (operation === undefined) return []
        const success = Object.entries(operation.responses).find(([status]) => /^20[012]$/.test(status))?.[1]
        const content = JSON.stringify(success ?? {})
        return [{ name: `${method.toUpperCase()} ${path}`, operation, content }]
      })
    )
    assert.deepStrictEqual(described.map(({ name }) => name).toSorted(), routes.map(([name = ""]) => name).toSorted())
    for (const [name, statuses, schema = ""] of routes) {
      const found = described.find((described) => described.name === name)
      assert(found !== undefined)
      assert.strictEqual(Object.keys(found.operation.responses).join(" "), statuses, name)
      assert.include(found.content, schema, name)
      assert.isNotEmpty(found.operation.summary ?? "", name)
      const security = found.operation.security ?? document.security
      assert.deepStrictEqual(security, name === "GET /health" ? [] : [{ bearer: [] }, { cookie: [], key: [] }], name)
    }
    // Every reference leads somewhere.
    const references = [...text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map(([, name = ""]) => name)
    for (const name of references) assert.property(document.components.schemas, name)
    assert.sameMembers(Object.keys(document.components.securitySchemes), ["bearer", "cookie", "key"])
  }).pipe(Effect.scoped, Effect.provide(Gateways.layer)))
