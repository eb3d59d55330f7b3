import * as GatewayApi from "#gateway/GatewayApi"
import { assert, it } from "@effect/vitest"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { Effect, FileSystem, Schema } from "effect"
import { request } from "node:http"
import { layerShared, Playground } from "../support/CliProcess.ts"
import { collector } from "../support/Collector.ts"
import { parse } from "../support/Exposition.ts"
import * as Gateways from "../support/Gateways.ts"

const Serving = Schema.fromJsonString(Schema.Struct({ url: Schema.String, metrics: Schema.optionalKey(Schema.String) }))

const get = (url: string, headers: Readonly<Record<string, string>> = {}) =>
  Effect.promise(async () => {
    const response = await fetch(url, { headers })
    return { status: response.status, type: response.headers.get("content-type"), text: await response.text() }
  })

/** The status for a request that names another host, as a page does whose name was bound to this address. */
const statusAs = (url: string, host: string) =>
  Effect.callback<number | undefined>((resume) => {
    request(url, { headers: { host } }, (response) => {
      response.resume()
      resume(Effect.succeed(response.statusCode))
    }).end()
  })

const serve = Effect.fnUntraced(function*(args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) {
  const fs = yield* FileSystem.FileSystem
  const { start } = yield* Playground
  const home = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-metrics-" })
  const token = "a-token-of-this-test"
  const running = yield* start(["serve", "--port", "0", "--json", "--permission", "allow", ...args], {
    env: { OPENCODE_TURN_DATABASE: `${home}/turns.db`, OPENCODE_TURN_TOKEN: token, HOME: home, ...env }
  })
  yield* running.printed("}\n")
  const { metrics, url } = yield* Schema.decodeEffect(Serving)(yield* running.stdout)
  const { call, follow } = Gateways.of((request) => fetch(request), Effect.undefined, url)
  return { running, url, token, metrics, call, follow }
})

it.layer(layerShared, { excludeTestServices: true })("the page for Prometheus", (it) => {
  it.effect("tells the holder of the token of the gateway what a turn of a real OpenCode did, and nobody else", () =>
    Effect.gen(function*() {
      const { call, follow, token, url } = yield* serve([])
      assert.strictEqual((yield* get(`${url}/metrics`)).status, 401)
      const bearer = { authorization: `Bearer ${token}` }
      const before = yield* get(`${url}/metrics`, bearer)
      assert.deepInclude(before, { status: 200, type: "text/plain; version=0.0.4; charset=utf-8" })
      parse(before.text)

      const steps = [{ tool: "bash", args: { command: "echo one" } }, { text: "Done." }]
      const { messageId } =
        (yield* call("/conversations/c/turns", { token, body: { prompt: prompt("Do it.", steps) } }))
          .as(GatewayApi.StartedTurn)
      yield* (yield* follow(`/turns/${messageId}/updates`, { token })).rest
      const { text } = yield* get(`${url}/metrics`, bearer)
      const families = parse(text)
      const valueOf = (name: string, labels: Readonly<Record<string, string>> = {}) =>
        families.get(name.replace(/_(?:sum|count)$/, ""))?.samples.find((sample) =>
          sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value)
        )?.value
      assert.strictEqual(valueOf("opencode_turn_turns_total", { status: "completed" }), 1)
      assert.strictEqual(valueOf("gen_ai_invoke_agent_inference_calls_sum", { gen_ai_agent_name: "build" }), 2)
      assert.strictEqual(valueOf("gen_ai_execute_tool_duration_seconds_count", { gen_ai_tool_name: "bash" }), 1)
      assert.isAbove(valueOf("opencode_turn_cost_USD_total", { gen_ai_request_model: "m" }) ?? 0, 0)
      assert.notInclude(text, messageId)
    }).pipe(Effect.scoped))

  it.effect("has a port of its own on the loopback interface, which pages of other hosts cannot read", () =>
    Effect.gen(function*() {
      const to = yield* collector()
      const { metrics = "", running } = yield* serve(["--metrics-port", "0"], { OTEL_EXPORTER_OTLP_ENDPOINT: to.url })
      assert.match(metrics, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/)
      parse((yield* get(metrics)).text)
      assert.strictEqual((yield* get(new URL("/turns", metrics).href)).status, 404)
      assert.strictEqual(yield* statusAs(metrics, "evil.example.com"), 403)
      yield* running.kill("SIGTERM")
      yield* running.finished
      assert.notInclude(to.spans().map(({ name }) => name).join(), "http.server")
    }).pipe(Effect.scoped))

  it.effect("is shown by a worker, and counts what it took over", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const model = yield* ScriptedModel
      const { start } = yield* Playground
      const home = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-metrics-" })
      const env = { OPENCODE_TURN_DATABASE: `${home}/turns.db` }
      const first = yield* start(["run", prompt("Talk.", [{ text: "one two", gate: "worker", gateAfter: 1 }])], { env })
      yield* first.printed("one ")
      yield* first.kill("SIGKILL")
      yield* first.finished
      const worker = yield* start(["resume", "--worker", "--metrics-port", "0"], { env })
      yield* worker.printed("shows the metrics\n")
      const [, url = ""] = /(http:\S+) shows the metrics/.exec(yield* worker.stderr) ?? []
      yield* model.release("worker")
      yield* worker.printed("completed")
      const families = parse((yield* get(url)).text)
      assert.strictEqual(families.get("opencode_turn_takeovers_total")?.samples[0]?.value, 1)
    }).pipe(Effect.scoped))

  it.effect("is refused to a resume that ends by itself", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const { code, stderr } = yield* run(["resume", "--metrics-port", "0"])
      assert.strictEqual(code, 2)
      assert.include(stderr, "--metrics-port needs --worker")
    }))
})
