import * as GatewayApi from "#gateway/GatewayApi"
import { assert, it } from "@effect/vitest"
import type { Step } from "@opencode-turn/testing/ModelScript"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { Effect, FileSystem, Schema } from "effect"
import { readFileSync } from "node:fs"
import { request } from "node:http"
import { parse as parseYaml } from "yaml"
import { layerShared, Playground } from "../support/CliProcess.ts"
import { collector } from "../support/Collector.ts"
import { parse } from "../support/Exposition.ts"
import * as Gateways from "../support/Gateways.ts"
import { readsOf } from "../support/PromQl.ts"

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
  /** Carries a turn to its end. */
  const carried = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>) {
    const started = yield* call("/conversations/c/turns", { token, body: { prompt: prompt("Do it.", steps) } })
    const turn = started.as(GatewayApi.StartedTurn)
    yield* (yield* follow(`/turns/${turn.messageId}/updates`, { token })).rest
    return turn
  })
  return { running, url, token, metrics, carried }
})

const Dashboard = Schema.fromJsonString(Schema.Struct({
  templating: Schema.Struct({ list: Schema.Array(Schema.Struct({ name: Schema.String })) }),
  panels: Schema.Array(Schema.Struct({
    id: Schema.Int,
    type: Schema.String,
    title: Schema.String,
    description: Schema.optionalKey(Schema.String),
    gridPos: Schema.Struct({ x: Schema.Int, y: Schema.Int, w: Schema.Int, h: Schema.Int }),
    targets: Schema.optionalKey(Schema.Array(Schema.Struct({ expr: Schema.String, legendFormat: Schema.String })))
  }))
}))

const Rules = Schema.Struct({
  groups: Schema.Array(Schema.Struct({
    name: Schema.String,
    rules: Schema.Array(Schema.Struct({
      alert: Schema.String,
      expr: Schema.String,
      for: Schema.optionalKey(Schema.String),
      labels: Schema.Struct({ severity: Schema.Literals(["critical", "warning"]) }),
      annotations: Schema.Struct({ summary: Schema.String, action: Schema.String })
    }))
  }))
})

const docs = (path: string) => readFileSync(new URL(`../../../../docs/${path}`, import.meta.url), "utf8")

const dashboard = Schema.decodeUnknownEffect(Dashboard)(docs("telemetry/dashboard.json"))

const alerts = Effect.map(
  Schema.decodeUnknownEffect(Rules)(parseYaml(docs("telemetry/alerts.yaml")), { onExcessProperty: "error" }),
  ({ groups }) => groups.flatMap(({ rules }) => rules)
)

/** The labels that Prometheus itself gives. */
const ofPrometheus = ["job", "instance", "le"]

it.layer(layerShared, { excludeTestServices: true })("the page for Prometheus", (it) => {
  it.effect("tells the holder of the token of the gateway what a turn of a real OpenCode did, and nobody else", () =>
    Effect.gen(function*() {
      const { carried, token, url } = yield* serve([])
      assert.strictEqual((yield* get(`${url}/metrics`)).status, 401)
      const bearer = { authorization: `Bearer ${token}` }
      const before = yield* get(`${url}/metrics`, bearer)
      assert.deepInclude(before, { status: 200, type: "text/plain; version=0.0.4; charset=utf-8" })
      parse(before.text)

      const { messageId } = yield* carried([{ tool: "bash", args: { command: "echo one" } }, { text: "Done." }])
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
      const { metrics = "", running, token, url } = yield* serve(["--metrics-port", "0"], {
        OTEL_EXPORTER_OTLP_ENDPOINT: to.url
      })
      assert.match(metrics, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/)
      parse((yield* get(metrics)).text)
      yield* get(`${url}/health`)
      yield* get(`${url}/metrics`, { authorization: `Bearer ${token}` })
      const asked = yield* get(`${url}/asks`, { authorization: `Bearer ${token}` })
      assert.strictEqual(asked.status, 200)
      assert.strictEqual(yield* statusAs(metrics, "evil.example.com"), 403)
      assert.strictEqual((yield* get(new URL("/turns", metrics).href)).status, 404)
      yield* running.kill("SIGTERM")
      yield* running.finished
      // The request for the asks, and the one for nothing. Scrapes and probes leave no trace.
      assert.lengthOf(to.spans().filter(({ name }) => name === "GET"), 2)
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

  it.effect("shows all that the dashboard and the alerts read, with the labels by which they do", () =>
    Effect.gen(function*() {
      const { carried, token, url } = yield* serve([])
      yield* carried([{ tool: "read", args: { filePath: "/no/such/file" } }, { text: "Done." }])
      yield* carried([{ fail: 400, message: "no" }])
      const { text } = yield* get(`${url}/metrics`, { authorization: `Bearer ${token}` })
      const labels = new Map<string, Set<string>>()
      for (const { samples } of parse(text).values()) {
        for (const sample of samples) {
          labels.set(sample.name, new Set([...labels.get(sample.name) ?? ofPrometheus, ...Object.keys(sample.labels)]))
        }
      }
      const queries = [
        ...(yield* dashboard).panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
        ...(yield* alerts).map(({ expr }) => expr)
      ].map((query) => query.replaceAll("$__rate_interval", "5m"))
      assert.isAbove(queries.length, 30)
      for (const query of queries) {
        for (const read of readsOf(query)) {
          if (read.metric === "up") continue
          assert.isTrue(labels.has(read.metric), `${read.metric} in ${query}`)
          for (const label of read.labels) assert.isTrue(labels.get(read.metric)?.has(label), `${label} in ${query}`)
        }
      }
    }).pipe(Effect.scoped))

  it.effect("has a dashboard whose panels lie side by side, and say what they show", () =>
    Effect.gen(function*() {
      const { panels, templating } = yield* dashboard
      assert.deepStrictEqual(templating.list.map(({ name }) => name), ["datasource", "job"])
      assert.strictEqual(new Set(panels.map(({ id }) => id)).size, panels.length)
      const places = panels.flatMap(({ gridPos: { h, w, x, y } }) => {
        assert.isAtMost(x + w, 24)
        return Array.from({ length: w * h }, (_, n) => `${x + n % w} ${y + Math.floor(n / w)}`)
      })
      assert.strictEqual(new Set(places).size, places.length, "two panels lie upon each other")
      for (const { description, targets = [], title, type } of panels) {
        if (type === "row") continue
        assert.match(description ?? "", /\.$/, title)
        for (const { expr, legendFormat } of targets) {
          for (const [, label = ""] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
            assert.isTrue(
              readsOf(expr.replaceAll("$__rate_interval", "5m")).some((read) => read.labels.includes(label)),
              title
            )
          }
        }
      }
    }))

  it.effect("has alerts that each say what to do, here and in the documentation", () =>
    Effect.gen(function*() {
      const all = yield* alerts
      assert.strictEqual(new Set(all.map(({ alert }) => alert)).size, all.length)
      const documented = [...docs("TELEMETRY.md").matchAll(/^\| `(Opencode\w+)` /gm)].map(([, name]) => name)
      assert.deepStrictEqual(documented, all.map(({ alert }) => alert))
      for (const { alert, annotations: { action }, expr, for: wait } of all) {
        readsOf(expr)
        if (wait !== undefined) assert.match(wait, /^\d+m$/, alert)
        assert.match(action, /^[A-Z].*\.$/, alert)
      }
    }))

  it.effect("is refused to a resume that ends by itself", () =>
    Effect.gen(function*() {
      const { run } = yield* Playground
      const { code, stderr } = yield* run(["resume", "--metrics-port", "0"])
      assert.strictEqual(code, 2)
      assert.include(stderr, "--metrics-port needs --worker")
    }))
})
