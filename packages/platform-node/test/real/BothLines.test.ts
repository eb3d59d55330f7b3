/**
 * What both lines of OpenCode do alike: the scripts that `pnpm versions` runs on every version, with the same results, as far as no other
 * file proves them on both lines; and the servers that the tests of each line share.
 */
import { assert, it } from "@effect/vitest"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { Effect, Predicate } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { onBothLines } from "../support/BothLines.ts"
import * as RealServer from "../support/RealServer.ts"
import * as Host from "../versions/Host.ts"
import { scripts } from "../versions/Scripts.ts"

const isOf = { "1.x": /^1\.\d+\.\d+$/, "2.x": /^(2\.\d+\.\d+|0\.0\.0-next-\d+)$/ }
const healthOf = { "1.x": "/global/health", "2.x": "/api/health" }

const json = Effect.fnUntraced(function*(path: string, body?: object) {
  const server = yield* OpencodeServer.OpencodeServer
  const client = yield* HttpClient.HttpClient
  const response = yield* HttpClientRequest.make(body === undefined ? "GET" : "POST")(server.url + path).pipe(
    HttpClientRequest.basicAuth("opencode", server.password),
    body === undefined ? (request) => request : HttpClientRequest.bodyJsonUnsafe(body),
    client.execute
  )
  return response.status === 204 ? undefined : yield* response.json
})

const idOf = (value: unknown): string => {
  assert(Predicate.hasProperty(value, "id") && Predicate.isString(value.id))
  return value.id
}

/** Prompts a new session in the folder, and waits for the answer. */
const ask = {
  "1.x": Effect.fnUntraced(function*(directory: string, text: string) {
    const folder = `directory=${encodeURIComponent(directory)}`
    const id = idOf(yield* json(`/session?${folder}`, {}))
    yield* json(`/session/${id}/message?${folder}`, { parts: [{ type: "text", text }] })
  }),
  "2.x": Effect.fnUntraced(function*(directory: string, text: string) {
    const created = yield* json("/api/session", { location: { directory } })
    assert(Predicate.hasProperty(created, "data"))
    const session = `/api/session/${idOf(created.data)}`
    yield* json(`${session}/prompt`, { text })
    yield* json(`${session}/wait`, {})
  })
}

/** The scripts whose turns another file has, on the lines that can do it, with more to see of them. */
const provedBy: Readonly<Record<string, string>> = {
  "tool loop": "RealTurn",
  "permission": "RealPeople",
  "refusal with a reason": "RealRefusals",
  "a subagent's permission": "RealTurn",
  "second turn": "RealOutput",
  "fatal 400": "RealTurn",
  "question": "RealPeople",
  "abort": "RealTurn",
  "typed output": "RealOutput",
  "files": "RealFiles",
  "to-dos": "RealTurn",
  "attached file": "RealFiles",
  "steps, cost and a budget": "RealOutput",
  "a failure that the server retries": "RealTurn"
}

it("every script that another file proves is one", () => {
  const names = new Set(scripts.map(({ name }) => name))
  assert.deepStrictEqual(Object.keys(provedBy).filter((name) => !names.has(name)), [])
})

onBothLines("a turn", {
  layerOf: Host.layerOf,
  exceptions: {
    "rules of a session": "the beta takes no rules for a session, which is told before anything is sent",
    "more rules for a session": "the same",
    "rules and tools of subagents": "the same, and the same for the tools of one prompt",
    "metadata of a session": "the beta ignores the metadata of a session",
    "tools of a turn": "2.x cannot limit the tools of one prompt, which is told before anything is sent"
  }
}, (it) => {
  for (const { name, run } of scripts) {
    if (!(name in provedBy)) it.effect(name, () => Effect.scoped(run), 180_000)
  }
})

onBothLines("a server that the tests share", { layerOf: RealServer.onLine() }, (it, { line }) => {
  it.effect("is the line that it says", () =>
    Effect.gen(function*() {
      const health = yield* json(healthOf[line])
      assert(Predicate.hasProperty(health, "version"))
      assert.match(String(health.version), isOf[line])
    }))

  it.effect("works in the test's folder with the test's model", () =>
    Effect.gen(function*() {
      const { directory } = yield* RealServer.Workplace
      const model = yield* ScriptedModel.ScriptedModel
      yield* ask[line](directory, ScriptedModel.prompt("Say hello.", [{ text: "Hello." }]))
      assert.strictEqual(yield* model.modelCalls, 1)
    }))
})
