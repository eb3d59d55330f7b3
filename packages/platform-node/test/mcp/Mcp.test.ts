/**
 * `opencode-turn mcp` as the MCP client of other agents sees it, on a real OpenCode with a scripted model.
 */
import * as McpTools from "#mcp/McpTools"
import { assert, it } from "@effect/vitest"
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js"
import { type Progress, ProgressNotificationSchema } from "@modelcontextprotocol/sdk/types.js"
import { runTurn } from "@opencode-turn/core/Turn"
import { LiveLayer } from "@opencode-turn/platform-node/LiveLayer"
import { prompt, ScriptedModel } from "@opencode-turn/testing/ScriptedModel"
import { environment, opencodeConfig } from "@opencode-turn/testing/ScriptedProvider"
import { Deferred, Effect, FileSystem, Redacted, Schema } from "effect"
import { bin, cli, layerShared, newHome, Playground, start } from "../support/CliProcess.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"

/** A place for processes of the command that share a database. */
const place = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const { directory, password, url } = yield* Playground
  const home = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-mcp-" })
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: home,
    OPENCODE_BASE_URL: url,
    OPENCODE_SERVER_PASSWORD: password,
    OPENCODE_DIRECTORY: directory,
    OPENCODE_TURN_DATABASE: `${home}/turns.db`
  }
  const connectWith = (more: Readonly<Record<string, string>>) =>
    Effect.acquireRelease(
      Effect.promise(async () => {
        const transport = new StdioClientTransport({
          command: process.execPath,
          args: [bin, "mcp"],
          env: { ...env, ...more },
          stderr: "pipe"
        })
        const errors: Array<Error> = []
        const client = Object.assign(new Client({ name: "test", version: "1.0.0" }), {
          onerror: (error: Error) => errors.push(error)
        })
        const stderr: Array<string> = []
        transport.stderr?.on("data", (chunk) => stderr.push(String(chunk)))
        await client.connect(transport)
        const kill = Effect.sync(() => void (transport.pid !== null && process.kill(transport.pid, "SIGKILL")))
        return { client, errors, kill, stderr: () => stderr.join("") }
      }),
      ({ client }) => Effect.promise(() => client.close())
    )
  return { env, connect: connectWith({}), connectWith }
})

/**
 * Collects the progress that a client is told. The SDK forgets the callback of a call once its result has come, and so misses progress that
 * comes in the same read.
 */
const collectProgress = (client: Client): ReadonlyArray<Progress> => {
  const seen: Array<Progress> = []
  client.setNotificationHandler(ProgressNotificationSchema, ({ params }) => {
    seen.push(params)
  })
  return seen
}

interface Options {
  readonly onprogress?: (progress: Progress) => void
  readonly signal?: AbortSignal
}

/** Calls a tool and reads what it gives. */
const call = Effect.fnUntraced(
  function*<S extends Schema.Codec<unknown, unknown>>(
    client: Client,
    schema: S,
    name: string,
    args: object,
    options: Options = {}
  ) {
    const result = yield* Effect.promise(() =>
      client.callTool({ name, arguments: { ...args } }, undefined, { timeout: 60_000, ...options })
    )
    if (result.isError === true) return yield* Effect.die(new Error(JSON.stringify(result.content)))
    return yield* Effect.orDie(Schema.decodeUnknownEffect(schema)(result.structuredContent))
  }
)

const turn = (client: Client, name: string, args: object, options?: Options) =>
  call(client, McpTools.Turn, name, args, options)

/** The failure of a call. */
const failure = (client: Client, name: string, args: object) =>
  Effect.promise(async () => {
    const result = await client.callTool({ name, arguments: { ...args } })
    assert.isTrue(result.isError, JSON.stringify(result))
    return JSON.stringify(result.content)
  })

/** A line of the protocol. */
const send = (id: number | undefined, method: string, params: object) =>
  `${JSON.stringify({ jsonrpc: "2.0", ...(id !== undefined && { id }), method, params })}\n`

/** How a client begins. */
const greeting = send(1, "initialize", {
  protocolVersion: "2025-06-18",
  capabilities: {},
  clientInfo: { name: "test", version: "1" }
}) + send(undefined, "notifications/initialized", {})

const release = (gate: string) => Effect.flatMap(ScriptedModel, (model) => model.release(gate))

/** A turn that stops in the middle until its gate is open, and a call that leaves it there. */
const gated = (name: string) => ({
  prompt: prompt("Talk.", [{ text: "first words and the rest", gate: name, gateAfter: 2 }]),
  wait_seconds: 1
})

it.layer(layerShared, { excludeTestServices: true })("opencode-turn mcp", (it) => {
  it.effect("gives a client its tools, and runs a turn with progress", () =>
    Effect.gen(function*() {
      const { connect } = yield* place
      const { client, errors } = yield* connect
      assert.strictEqual(client.getServerVersion()?.name, "opencode-turn")
      const { tools } = yield* Effect.promise(() => client.listTools())
      assert.sameMembers(tools.map(({ name }) => name), ["run_turn", "attach", "cancel", "answer", "list"])

      const seen: Array<Progress> = []
      const isHalf = yield* Deferred.make<void>()
      const onprogress = (progress: Progress) => {
        seen.push(progress)
        if (progress.message?.includes("first words") === true) Deferred.doneUnsafe(isHalf, Effect.void)
      }
      const text = "first words and the rest"
      yield* Effect.forkScoped(Effect.andThen(Deferred.await(isHalf), release("half")))
      const args = { prompt: prompt("Talk.", [{ text, gate: "half", gateAfter: 2 }]), key: "one" }
      const done = yield* turn(client, "run_turn", args, { onprogress })
      assert.deepInclude(done, { status: "completed", content: text, asks: [], error: null })
      assert.deepEqual(seen.map(({ progress }) => progress), seen.map((_, index) => index + 1))

      const again = yield* turn(client, "run_turn", args)
      assert.deepEqual(again, done)
      const next = yield* turn(client, "run_turn", {
        prompt: prompt("Again.", [{ text: "second" }]),
        conversation: done.conversation
      })
      assert.notStrictEqual(next.message, done.message)
      const listed = yield* call(client, McpTools.List.successSchema, "list", { conversation: done.conversation })
      assert.deepEqual(listed.turns.map(({ message, status }) => [message, status]), [
        [next.message, "completed"],
        [done.message, "completed"]
      ])
      assert.deepEqual(errors, [])
    }).pipe(Effect.scoped))

  it.effect("tells what the agent asks, and takes the answers", () =>
    Effect.gen(function*() {
      const { connect } = yield* place
      const { client } = yield* connect
      const questions = [{
        question: "Which colour?",
        header: "Colour",
        options: [{ label: "red", description: "a" }, { label: "blue", description: "b" }]
      }]
      const seen = collectProgress(client)
      const waiting = yield* turn(client, "run_turn", {
        prompt: prompt("Do it.", [
          { tool: "bash", args: { command: "echo hello", description: "a command" } },
          { tool: "question", args: { questions } },
          { text: "Done." }
        ])
      }, { onprogress: () => {} })
      assert.strictEqual(waiting.status, "waiting")
      const [permission] = waiting.asks
      assert.deepInclude(permission, { kind: "permission", message: waiting.message })
      assert.include(permission?.text, "echo hello")
      assert.isTrue(seen.some(({ message }) => message?.includes(permission?.ask ?? "?") === true))
      const listed = yield* call(client, McpTools.List.successSchema, "list", {})
      assert.deepEqual(listed.asks, waiting.asks)

      assert.include(
        yield* failure(client, "answer", { ask: permission?.ask, answers: [["red"]] }),
        "expected Permission"
      )
      assert.include(yield* failure(client, "answer", { ask: permission?.ask }), "either decision or answers")
      yield* call(client, McpTools.Answer.successSchema, "answer", { ask: permission?.ask, decision: "once" })
      const asked = yield* turn(client, "attach", { message: waiting.message })
      assert.strictEqual(asked.status, "waiting")
      assert.deepInclude(asked.tools, { tool: "bash", status: "completed", text: "Ran echo hello" })
      const [question] = asked.asks
      assert.deepEqual(question?.questions, [
        { question: "Which colour?", options: ["red", "blue"], multiple: false, custom: true }
      ])
      yield* call(client, McpTools.Answer.successSchema, "answer", { ask: question?.ask, answers: [["blue"]] })
      const done = yield* turn(client, "attach", { message: waiting.message })
      assert.deepInclude(done, { status: "completed", content: "Done.", asks: [] })
      assert.include(yield* failure(client, "answer", { ask: question?.ask, answers: [["red"]] }), "already answered")
    }).pipe(Effect.scoped))

  it.effect("goes on with a turn whose call was given up, and stops it when asked to", () =>
    Effect.gen(function*() {
      const { connect } = yield* place
      const { client } = yield* connect
      const args = { prompt: prompt("Talk.", [{ text: "first words and the rest", gate: "never", gateAfter: 2 }]) }
      const isThere = yield* Deferred.make<void>()
      const leaving = new AbortController()
      const given = client.callTool({ name: "run_turn", arguments: { ...args, key: "left" } }, undefined, {
        signal: leaving.signal,
        onprogress: ({ message }) => {
          if (message?.includes("first words") === true) Deferred.doneUnsafe(isThere, Effect.void)
        }
      })
      yield* Deferred.await(isThere)
      leaving.abort()
      yield* Effect.promise(() => given.then(() => assert.fail("it was given up"), () => undefined))
      const running = yield* turn(client, "run_turn", { ...args, key: "left", wait_seconds: 0 })
      assert.strictEqual(running.status, "running")
      const cancelled = yield* turn(client, "cancel", { message: running.message })
      assert.deepInclude(cancelled, { status: "cancelled", message: running.message })
      const again = yield* turn(client, "cancel", { message: running.message })
      assert.strictEqual(again.status, "cancelled")
      const after = yield* turn(client, "attach", { message: running.message })
      assert.deepInclude(after, { status: "cancelled", content: "first words " })
    }).pipe(Effect.scoped))

  it.effect("leaves the turn of a client that went away to the next one", () =>
    Effect.gen(function*() {
      const { connect } = yield* place
      const args = {
        prompt: prompt("Talk.", [{ text: "first words and the rest", gate: "gone", gateAfter: 2 }]),
        key: "k"
      }
      const first = yield* Effect.scoped(
        Effect.flatMap(connect, ({ client }) => turn(client, "run_turn", { ...args, wait_seconds: 1 }))
      )
      assert.strictEqual(first.status, "running")
      const { client } = yield* connect
      yield* release("gone")
      const done = yield* turn(client, "run_turn", args)
      assert.deepInclude(done, { status: "completed", content: "first words and the rest", message: first.message })
    }).pipe(Effect.scoped))

  it.effect("carries on the turn of a killed process that a client asks for, and no other", () =>
    Effect.gen(function*() {
      const { connect } = yield* place
      const first = yield* connect
      const wanted = yield* turn(first.client, "run_turn", gated("wanted"))
      const left = yield* turn(first.client, "run_turn", gated("left"))
      assert.deepEqual([wanted.status, left.status], ["running", "running"])
      yield* first.kill
      const { client } = yield* connect
      yield* release("wanted")
      yield* release("left")
      const done = yield* turn(client, "attach", { message: wanted.message })
      assert.deepInclude(done, { status: "completed", content: "first words and the rest" })
      const other = yield* turn(client, "run_turn", { prompt: prompt("Talk.", [{ text: "yes" }]) })
      assert.strictEqual(other.status, "completed")
      const { turns } = yield* call(client, McpTools.List.successSchema, "list", {})
      assert.deepEqual(turns.find(({ message }) => message === left.message)?.status, "pending")
    }).pipe(Effect.scoped))

  it.effect("lets a second client follow and answer the turn of a first one", () =>
    Effect.gen(function*() {
      const { connect } = yield* place
      const first = yield* connect
      const second = yield* connect
      const waiting = yield* turn(first.client, "run_turn", {
        prompt: prompt("Do it.", [
          { tool: "bash", args: { command: "echo hello", description: "a command" } },
          { text: "Done." }
        ])
      })
      const seen = collectProgress(second.client)
      const there = yield* turn(second.client, "attach", { message: waiting.message }, { onprogress: () => {} })
      assert.deepEqual(there.asks, waiting.asks)
      assert.include(seen.at(-1)?.message, "echo hello")
      const [ask] = there.asks
      const refusal = { ask: ask?.ask, decision: "reject", reason: "Not here." }
      yield* call(second.client, McpTools.Answer.successSchema, "answer", refusal)
      const [one, other] = yield* Effect.all([
        turn(first.client, "attach", { message: waiting.message }),
        turn(second.client, "attach", { message: waiting.message })
      ], { concurrency: 2 })
      assert.deepEqual(one, other)
      assert.deepInclude(one, { status: "completed", content: "Done." })
      assert.deepEqual(one.tools.map(({ status }) => status), ["error"])
    }).pipe(Effect.scoped))

  it.effect("answers a client before its server is ready, and says why there is none", () =>
    Effect.gen(function*() {
      const { connectWith } = yield* place
      const { client } = yield* connectWith({ OPENCODE_BASE_URL: "", OPENCODE_BIN: "/nowhere/opencode" })
      const listed = yield* call(client, McpTools.List.successSchema, "list", {})
      assert.deepEqual(listed, { turns: [], asks: [] })
      assert.include(yield* failure(client, "run_turn", { prompt: "Do it." }), "/nowhere/opencode")
    }).pipe(Effect.scoped))

  it.effect("starts a server of its own, and stops it when the client goes away", () =>
    Effect.gen(function*() {
      const { connectWith } = yield* place
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-mcp-" })
      const own = {
        ...yield* newHome(folder),
        ...environment(opencodeConfig(yield* ScriptedModel)),
        OPENCODE_BASE_URL: "",
        OPENCODE_SERVER_PASSWORD: "",
        OPENCODE_DIRECTORY: folder
      }
      const done = yield* Effect.scoped(Effect.flatMap(connectWith(own), ({ client }) =>
        turn(client, "run_turn", { prompt: prompt("Talk.", [{ text: "said" }]) })))
      assert.deepInclude(done, { status: "completed", content: "said" })
    }).pipe(Effect.scoped))

  it.effect("lets an OpenCode delegate to another one", () =>
    Effect.gen(function*() {
      const { env } = yield* place
      const fs = yield* FileSystem.FileSystem
      const { database, password, url } = yield* Playground
      const directory = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-mcp-" })
      const command = [process.execPath, bin, "mcp"]
      yield* SharedOpencode.configure(directory, {
        ...opencodeConfig(yield* ScriptedModel),
        mcp: { helper: { type: "local", command, environment: env } }
      })
      const task = { prompt: prompt("Help.", [{ text: "said below" }]), key: "below" }
      const result = yield* runTurn({
        conversationId: "above",
        prompt: prompt("Do it.", [{ tool: "helper_run_turn", args: task }, { text: "Done." }])
      }).pipe(Effect.provide(LiveLayer.make({ baseUrl: url, password: Redacted.make(password), database, directory })))
      assert.strictEqual(result.content, "Done.", result.error?.message)
      const delegated = result.message?.parts.find((part) => part.type === "tool")
      assert.strictEqual(delegated?.status, "completed", delegated?.error)
      assert.include(delegated?.output, "said below")
    }).pipe(Effect.scoped))

  it.effect("ends after its turns where the client closed the pipe, and prints nothing but the protocol", () =>
    Effect.gen(function*() {
      const { env } = yield* place
      const args = { prompt: prompt("Talk.", [{ text: "said in the end", delayMillis: 300 }]), wait_seconds: 0 }
      const input = `${greeting}${send(2, "tools/call", { name: "run_turn", arguments: args })}`
      const { code, stdout } = yield* cli(["mcp"], { env, input })
      assert.strictEqual(code, 0)
      const lines = stdout.trimEnd().split("\n").map((text) => JSON.parse(text))
      assert.deepEqual(lines.map(({ id, jsonrpc }) => [jsonrpc, id]), [["2.0", 1], ["2.0", 2]])
      const { message } = lines[1].result.structuredContent
      const { stdout: shown } = yield* cli(["list", "--json"], { env })
      const stored = shown.trimEnd().split("\n").map((text) => JSON.parse(text)).find((row) =>
        row.messageId === message
      )
      assert.strictEqual(stored?.status, "completed")
    }).pipe(Effect.scoped))

  it.effect("carries the turn of a client that was killed in the middle of a call to its end", () =>
    Effect.gen(function*() {
      const { env } = yield* place
      const running = yield* start(["mcp"], { env, input: { open: true } })
      const text = "first words and the rest"
      yield* running.type(greeting)
      yield* running.type(
        send(2, "tools/call", {
          name: "run_turn",
          arguments: { prompt: prompt("Talk.", [{ text, gate: "killed", gateAfter: 2 }]) },
          _meta: { progressToken: "p" }
        })
      )
      yield* running.printed("first words")
      yield* running.closeStdout
      yield* running.closeStdin
      yield* release("killed")
      const { code, stderr } = yield* running.finished
      assert.deepEqual([code, stderr], [0, ""])
      const { stdout } = yield* cli(["list", "--json"], { env })
      const stored = stdout.trimEnd().split("\n").map((text) => JSON.parse(text))
      assert.deepEqual(stored.map(({ status }) => status), ["completed"])
    }).pipe(Effect.scoped))

  it.effect("serves clients that say their version with each request", () =>
    Effect.gen(function*() {
      const { env } = yield* place
      const running = yield* start(["mcp"], { env, input: { open: true } })
      const _meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { name: "test", version: "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
        progressToken: "p"
      }
      const args = { prompt: prompt("Talk.", [{ text: "said" }]) }
      yield* running.type(send(1, "tools/call", { name: "run_turn", arguments: args, _meta }))
      yield* running.printed("\"id\":1")
      yield* running.closeStdin
      const { code, stdout } = yield* running.finished
      assert.strictEqual(code, 0)
      const lines = stdout.trimEnd().split("\n").map((text) => JSON.parse(text))
      assert.deepInclude(lines.at(-1).result.structuredContent, { status: "completed", content: "said" })
      assert.deepEqual(new Set(lines.slice(0, -1).map(({ method }) => method)), new Set(["notifications/progress"]))
    }).pipe(Effect.scoped))

  it.effect("survives a line that is no message", () =>
    Effect.gen(function*() {
      const { env } = yield* place
      const running = yield* start(["mcp"], { env, input: { open: true } })
      yield* running.type(greeting)
      yield* running.printed("serverInfo")
      yield* running.type("this is no JSON\n{\"jsonrpc\":\"2.0\"}\n")
      yield* running.type(send(2, "tools/call", { name: "list", arguments: {} }))
      yield* running.printed("\\\"turns\\\"")
      yield* running.closeStdin
      const { code, stderr } = yield* running.finished
      assert.strictEqual(code, 0)
      assert.strictEqual(stderr.match(/a line of \d+ characters on standard input is no message of MCP/g)?.length, 2)
    }).pipe(Effect.scoped))

  it.effect("says what is wrong with a call", () =>
    Effect.gen(function*() {
      const { connect } = yield* place
      const { client } = yield* connect
      assert.include(yield* failure(client, "attach", { message: "nothing" }), "there is no turn")
      assert.include(yield* failure(client, "cancel", { message: "nothing" }), "there is no turn")
      assert.include(yield* failure(client, "answer", { ask: "per_1", decision: "once" }), "there is no ask per_1")
      const args = { prompt: prompt("Talk.", [{ text: "yes" }]), key: "same" }
      yield* turn(client, "run_turn", args)
      assert.include(yield* failure(client, "run_turn", { ...args, prompt: "another" }), "this key was sent before")
      assert.include(yield* failure(client, "run_turn", { prompt: "" }), "prompt")
      assert.include(yield* failure(client, "attach", { message: "m", wait_seconds: -1 }), "wait_seconds")
      assert.include(yield* failure(client, "attach", { message: "\0" }), "there is no turn")
      assert.include(yield* failure(client, "run_turn", { prompt: "Hi", conversation: "\0" }), "conversationId")
      assert.include(yield* failure(client, "run_turn", { prompt: "Hi", model: "nonsense" }), "provider/model")
      const failed = yield* turn(client, "run_turn", {
        prompt: prompt("Talk.", [{ fail: 401, message: "no such key" }])
      })
      assert.deepInclude(failed, { status: "error" })
      assert.include(failed.error?.message, "no such key")
    }).pipe(Effect.scoped))
})
