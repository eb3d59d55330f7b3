import * as GatewayApi from "#gateway/GatewayApi"
import * as TurnJson from "#gateway/TurnJson"
import { assert, it } from "@effect/vitest"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { Effect, FileSystem, Schema } from "effect"
import { createServer, type IncomingHttpHeaders } from "node:http"
import { layerShared, type Options, Playground, type Running } from "../support/CliProcess.ts"
import * as Gateways from "../support/Gateways.ts"

const { textOf } = Gateways

const Serving = Schema.fromJsonString(
  Schema.Struct({ type: Schema.Literal("serving"), url: Schema.String, link: Schema.String })
)

/** A place for gateways: a database and a home of their own. */
const place = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const playground = yield* Playground
  const home = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-serve-" })
  const env = { OPENCODE_TURN_DATABASE: `${home}/turns.db`, HOME: home }
  const tokenFile = `${home}/.local/share/opencode-turn/gateway-token`
  const serve = Effect.fnUntraced(function*(args: ReadonlyArray<string> = [], options: Options = {}) {
    const running: Running = yield* playground.start(["serve", "--port", "0", "--json", ...args], {
      ...options,
      env: { ...env, ...options.env }
    })
    yield* running.printed("}\n")
    const { link, url } = yield* Schema.decodeEffect(Serving)(yield* running.stdout)
    const token = (yield* fs.readFileString(tokenFile)).trim()
    const call = Gateways.of((request) => fetch(request), Effect.undefined, url)
    return {
      running,
      url,
      link,
      token,
      call: (path: string, options?: Gateways.CallOptions) => call.call(path, { token, ...options }),
      follow: (path: string, options?: Gateways.CallOptions) => call.follow(path, { token, ...options })
    }
  })
  return { serve, tokenFile, home, env }
})

const signIn = (link: string) =>
  Effect.promise(async () => Gateways.signedIn(await Gateways.redeem(link, (request) => fetch(request))))

const statusOf = (url: string) => Effect.promise(async () => (await fetch(url)).status)

const release = (gate: string) => Effect.flatMap(ScriptedModel, (model) => model.release(gate))

/** Says two words, and the rest once the gate is open. */
const gated = (gate: string) => ({
  prompt: prompt("Talk.", [{ text: "first words and the rest", gate, gateAfter: 2 }])
})

const isHalf = (events: ReadonlyArray<Gateways.Event>) => textOf(events) === "first words "

it.layer(layerShared, { excludeTestServices: true })("opencode-turn serve", (it) => {
  it.effect("that listens on all addresses prints a link that works, and is reached under each of them", () =>
    Effect.gen(function*() {
      const { serve } = yield* place
      const gateway = yield* serve(["--host", "0.0.0.0"])
      assert.notInclude(gateway.link, "0.0.0.0")
      const page = yield* signIn(gateway.link)
      assert.strictEqual((yield* gateway.call("/asks", page)).status, 200)
      const { port } = new URL(gateway.url)
      for (const host of ["127.0.0.1", "localhost"]) {
        assert.strictEqual(yield* statusOf(`http://${host}:${port}/health`), 200, host)
      }
    }).pipe(Effect.scoped))

  it.effect("is opened in another browser by a link that the command makes without sending its token to anybody", () =>
    Effect.gen(function*() {
      const { env, serve } = yield* place
      const gateway = yield* serve()
      const playground = yield* Playground
      const link = (url: string, ...args: ReadonlyArray<string>) =>
        Effect.flatMap(playground.start(["link", "--url", url, ...args], { env }), ({ finished }) => finished)
      const told = yield* link(gateway.url)
      assert.include(told.stderr, "within 10 minutes")
      const page = yield* signIn(told.stdout.trim())
      assert.strictEqual((yield* gateway.call("/asks", page)).status, 200)

      const got: Array<IncomingHttpHeaders> = []
      const other = createServer((request, response) => {
        got.push(request.headers)
        response.end()
      })
      yield* Effect.callback<void>((resume) => void other.listen(0, "127.0.0.1", () => resume(Effect.void)))
      const { port }: { readonly port: number } = Object(other.address())
      const { link: json } = JSON.parse((yield* link(`http://127.0.0.1:${port}`, "--json")).stdout)
      assert.match(json, new RegExp(`^http://127.0.0.1:${port}/login#`))
      assert.strictEqual(got.length, 1)
      for (const secret of [gateway.token, "authorization"]) assert.notInclude(JSON.stringify(got), secret)
      yield* Effect.callback<void>((resume) => void other.close(() => resume(Effect.void)))
      const { code, stderr } = yield* link(`http://127.0.0.1:${port}`)
      assert.strictEqual(code, 1)
      assert.include(stderr, "no gateway answers at")
    }).pipe(Effect.scoped))

  it.effect("streams a turn of a real OpenCode; a page that reloads in the middle of it goes on where it was", () =>
    Effect.gen(function*() {
      const { serve, tokenFile } = yield* place
      const gateway = yield* serve()
      assert.match(gateway.url, /^http:\/\/127\.0\.0\.1:\d+$/)
      const fs = yield* FileSystem.FileSystem
      assert.strictEqual(((yield* fs.stat(tokenFile)).mode & 0o777).toString(8), "600")
      assert.notInclude(gateway.link, gateway.token)
      assert.strictEqual((yield* gateway.call("/asks", { token: "wrong" })).status, 401)

      const page = yield* signIn(gateway.link)
      const started = yield* gateway.call("/conversations/c/turns", { body: gated("reload"), ...page })
      const { messageId } = started.as(GatewayApi.StartedTurn)
      const first = yield* gateway.follow(`/turns/${messageId}/updates`, page)
      const known = yield* first.until(isHalf)
      yield* first.leave
      const headers = { ...page.headers, "last-event-id": known.at(-1)?.id ?? "" }
      const second = yield* gateway.follow(`/turns/${messageId}/updates`, { token: null, headers })
      yield* release("reload")
      const rest = yield* second.rest
      assert.strictEqual(textOf([...known, ...rest]), "first words and the rest")
      assert.isFalse(rest.some(({ data }) => data.type === "reset" || data.type === "turn.started"))
      assert.strictEqual(rest.at(-1)?.data.type, "turn.finished")
    }).pipe(Effect.scoped))

  it.effect("ends cleanly by SIGTERM in the middle of a turn, and the next gateway carries it on for a page that was signed in", () =>
    Effect.gen(function*() {
      const { serve } = yield* place
      const gateway = yield* serve()
      const { messageId } = (yield* gateway.call("/conversations/c/turns", { body: gated("term") })).as(
        GatewayApi.StartedTurn
      )
      const page = yield* gateway.follow(`/turns/${messageId}/updates`)
      const known = yield* page.until(isHalf)
      const browser = yield* signIn(gateway.link)
      yield* gateway.running.kill("SIGTERM")
      const { code, stderr } = yield* gateway.running.finished
      assert.strictEqual(code, 143, stderr)
      assert.notInclude(stderr, "Error")

      const next = yield* serve()
      const headers = { ...browser.headers, "last-event-id": known.at(-1)?.id ?? "" }
      const again = yield* next.follow(`/turns/${messageId}/updates`, { token: null, headers })
      yield* again.until((events) => events.length > 0)
      yield* release("term")
      const rest = yield* again.rest
      assert.strictEqual(textOf([...known, ...rest]), "first words and the rest")
      const turn = (yield* next.call(`/turns/${messageId}`)).as(TurnJson.Turn)
      assert.deepInclude(turn, { status: "completed", content: "first words and the rest" })
    }).pipe(Effect.scoped))

  it.effect("is killed in the middle of a turn, and the next gateway carries the turn on without losing or doubling a word", () =>
    Effect.gen(function*() {
      const { serve } = yield* place
      const gateway = yield* serve()
      const begin = (call: typeof gateway.call) =>
        Effect.map(
          call("/conversations/c/turns", { body: gated("kill"), headers: { "idempotency-key": "k" } }),
          (answer) => answer.as(GatewayApi.StartedTurn)
        )
      const { messageId } = yield* begin(gateway.call)
      const page = yield* gateway.follow(`/turns/${messageId}/updates`)
      const known = yield* page.until(isHalf)
      yield* gateway.running.kill("SIGKILL")
      yield* gateway.running.finished

      const next = yield* serve()
      // The page sends its prompt once more, because it never heard of its success.
      assert.deepInclude(yield* begin(next.call), { messageId, isNew: false })
      const from = encodeURIComponent(known.at(-1)?.id ?? "")
      const again = yield* next.follow(`/turns/${messageId}/updates?from=${from}`)
      yield* release("kill")
      const rest = yield* again.rest
      assert.strictEqual(textOf([...known, ...rest]), "first words and the rest")
      const turns = yield* next.call("/conversations/c/turns")
      assert.include(turns.text, `"content":"first words and the rest"`)
      assert.lengthOf(turns.text.match(/"messageId":"asm_/g) ?? [], 1)
    }).pipe(Effect.scoped))

  it.effect("works in the folder of each conversation, and tells what goes wrong on standard error", () =>
    Effect.gen(function*() {
      const { env, home, serve } = yield* place
      const fs = yield* FileSystem.FileSystem
      const { start } = yield* Playground
      yield* fs.makeDirectory(`${home}/other`)
      const { directory } = yield* Playground
      yield* fs.copyFile(`${directory}/opencode.json`, `${home}/other/opencode.json`)
      const first = yield* start([
        "run",
        "--conversation",
        "c",
        "--directory",
        `${home}/other`,
        prompt("x", [{ text: "One." }])
      ], { env })
      assert.strictEqual((yield* first.finished).code, 0)
      const gateway = yield* serve()
      const started = yield* gateway.call("/conversations/c/turns", {
        body: { prompt: prompt("x", [{ text: "Two." }]) }
      })
      const { messageId } = started.as(GatewayApi.StartedTurn)
      yield* (yield* gateway.follow(`/turns/${messageId}/updates`)).rest
      const turn = (yield* gateway.call(`/turns/${messageId}`)).as(TurnJson.Turn)
      assert.deepInclude(turn, { status: "completed", content: "Two." })

      // What goes wrong beside the requests is told on standard error.
      const body = { prompt: prompt("x", [{ fail: 400, message: "No credit." }]) }
      const failing = (yield* gateway.call("/conversations/d/turns", { body })).as(GatewayApi.StartedTurn)
      yield* gateway.running.printed("No credit.")
      yield* (yield* gateway.follow(`/turns/${failing.messageId}/updates`)).rest
    }).pipe(Effect.scoped))

  it.effect("lets nobody else read its token, and says that others could", () =>
    Effect.gen(function*() {
      const { serve, tokenFile } = yield* place
      const fs = yield* FileSystem.FileSystem
      const first = yield* serve()
      yield* first.running.kill("SIGTERM")
      yield* first.running.finished
      yield* fs.chmod(tokenFile, 0o644)
      const second = yield* serve()
      yield* second.running.printed("now only you can")
      assert.strictEqual(((yield* fs.stat(tokenFile)).mode & 0o777).toString(8), "600")
      assert.strictEqual(second.token, first.token)
    }).pipe(Effect.scoped))

  it.effect("says why it cannot listen, and what is wrong with its token", () =>
    Effect.gen(function*() {
      const { env, home, serve, tokenFile } = yield* place
      const { start } = yield* Playground
      const run = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
        Effect.flatMap(start(args, { env }), ({ finished }) => finished)
      const fs = yield* FileSystem.FileSystem
      const { url } = yield* serve()
      const port = new URL(url).port
      const taken = yield* run(["serve", "--port", port], env)
      assert.deepStrictEqual([taken.code, taken.stdout], [1, ""])
      assert.include(taken.stderr, `port ${port} of 127.0.0.1 is in use: choose another --port`)
      for (const OPENCODE_TURN_TOKEN of ["short-secret", "with a blank in it, secret"]) {
        const weak = yield* run(["serve", "--port", "0"], { ...env, OPENCODE_TURN_TOKEN })
        assert.strictEqual(weak.code, 2)
        assert.include(weak.stderr, "OPENCODE_TURN_TOKEN is not a token")
        assert.notInclude(weak.stderr, "secret")
      }
      yield* fs.writeFileString(tokenFile, "secret\n")
      const spoiled = yield* run(["serve", "--port", "0"], { ...env, OPENCODE_TURN_DATABASE: `${home}/other.db` })
      assert.strictEqual(spoiled.code, 1)
      assert.include(spoiled.stderr, "gateway-token holds no token: delete it")
      assert.notInclude(spoiled.stderr, "secret")
      assert.strictEqual((yield* run(["serve", "--port", "70000"], env)).code, 2)
      for (
        const [flag, value] of [["--allow-host", "https://app.example.com"], [
          "--allow-origin",
          "app.example.com"
        ]] as const
      ) {
        const useless = yield* run(["serve", "--port", "0", flag, value], env)
        assert.deepStrictEqual([useless.code, useless.stdout], [2, ""])
        assert.include(useless.stderr, `${flag} cannot be "${value}"`)
      }
    }).pipe(Effect.scoped))
})
