import * as Locate from "#live/Locate"
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedProvider from "@opencode-turn/testing/ScriptedProvider"
import {
  ConfigProvider,
  Effect,
  Exit,
  FileSystem,
  Layer,
  Option,
  Redacted,
  Result,
  Schedule,
  Scope,
  Stream
} from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { describe } from "vitest"
import * as OpencodePackage from "../support/OpencodePackage.ts"
import * as SharedOpencode from "../support/SharedOpencode.ts"

/** The configuration is each test's own. */
const { OPENCODE_CONFIG_CONTENT: _, ...environment } = ScriptedProvider.environment({})

const platform = Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)

const configuration = (value: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromUnknown(value))

const locate = (options: OpencodeServer.Options, variables: Record<string, string>) =>
  Effect.provide(OpencodeServer.locate(options), configuration(variables))

const search = (origin: string, options: OpencodeServer.Options, variables: Record<string, string>) =>
  Effect.provide(Locate.search(origin, options), configuration(variables))

/** A package without OpenCode, and a folder on PATH for each program. */
const installed = Effect.fnUntraced(function*(has: ReadonlyArray<string>) {
  const fs = yield* FileSystem.FileSystem
  const place = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-path-" })
  const folders = has.map((name) => `${place}/of-${name}`)
  const programs = has.map((name, at) => `${folders[at]}/${name}`)
  for (const folder of folders) yield* fs.makeDirectory(folder)
  for (const program of programs) yield* fs.writeFileString(program, "#!/bin/sh\n", { mode: 0o755 })
  return { origin: `${place}/package.json`, PATH: [`${place}/nothing`, ...folders].join(":"), programs }
})

/** An OpenCode that reaches nothing beyond this machine and knows one model, which nobody serves. */
const isolated = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-server-" })
  const directory = `${folder}/project`
  yield* fs.makeDirectory(directory)
  return {
    home: `${folder}/home`,
    directory,
    config: {
      formatter: false,
      lsp: false,
      share: "disabled",
      model: "scripted/m",
      small_model: "scripted/m",
      provider: {
        scripted: {
          name: "Scripted",
          npm: "@ai-sdk/openai-compatible",
          models: { m: { name: "m", limit: { context: 100_000, output: 10_000 } } },
          options: { apiKey: "canary-api-key", baseURL: "http://127.0.0.1:9/v1" }
        }
      }
    },
    environment
  } satisfies OpencodeServer.Options
})

const script = Effect.fnUntraced(function*(body: string) {
  const fs = yield* FileSystem.FileSystem
  const file = `${yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-script-" })}/opencode`
  yield* fs.writeFileString(file, `#!/bin/sh\n${body}\n`, { mode: 0o755 })
  return file
})

const processes = Effect.gen(function*() {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  return yield* spawner.lines(ChildProcess.make("ps", ["-A", "-o", "pid=,stat=,args="]))
})

const isRunning = (pid: number) =>
  Effect.map(processes, (lines) => lines.some((line) => new RegExp(`^\\s*${pid}\\s+[^Z]`).test(line)))

/** The ids of the running processes with exactly this command line. */
const running = (args: string) =>
  Effect.map(
    processes,
    (lines) =>
      lines.flatMap((line) => {
        const match = /^\s*(\d+)\s+[^Z]\S*\s+(.*)$/.exec(line)
        return match?.[2] === args ? [Number(match[1])] : []
      })
  )

const until = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(condition, { schedule: Schedule.spaced("20 millis"), until: (holds) => holds })

const post = Effect.fnUntraced(
  function*(server: OpencodeServer.OpencodeServer["Service"], path: string, body: unknown) {
    const client = yield* HttpClient.HttpClient
    const response = yield* HttpClientRequest.post(server.url + path).pipe(
      HttpClientRequest.basicAuth("opencode", server.password),
      HttpClientRequest.bodyJsonUnsafe(body),
      HttpClient.filterStatusOk(client).execute
    )
    return yield* response.json
  }
)

// Child processes keep real time, hence no test clock.
it.layer(platform, { excludeTestServices: true })("OpencodeServer", (it) => {
  it.effect("answers with its password and refuses requests without it", () =>
    Effect.gen(function*() {
      const server = yield* OpencodeServer.make(yield* isolated)
      const client = yield* HttpClient.HttpClient
      const request = HttpClientRequest.get(`${server.url}/global/health`)
      const open = yield* client.execute(request)
      assert.strictEqual(open.status, 401)
      const health = yield* client.execute(HttpClientRequest.basicAuth(request, "opencode", server.password))
      assert.deepInclude(yield* health.json, { healthy: true })
      assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+$/)
      assert.isTrue(yield* isRunning(server.pid))
    }))

  it.effect("keeps its password and the user's home out of sight", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const options = yield* isolated
      const server = yield* OpencodeServer.make(options)
      const lines = yield* processes
      assert.isTrue(lines.some((line) => line.includes("serve --hostname 127.0.0.1")))
      assert.isFalse(lines.some((line) => line.includes(Redacted.value(server.password))))
      assert.isTrue(yield* fs.exists(`${options.home}/.local/share/opencode`))
    }))

  it.effect("leaves no process behind when its scope closes, not even a tool that runs in a group of its own", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const server = yield* OpencodeServer.make(yield* isolated).pipe(Scope.provide(scope))
      const session = yield* post(server, "/session", {})
      assert.isTrue(typeof session === "object" && session !== null && "id" in session)
      const { id } = Object(session)
      yield* post(server, `/session/${id}/shell`, { agent: "build", command: "sleep 91827 & sleep 91828" }).pipe(
        Effect.ignore,
        Effect.forkChild
      )
      const tools = Effect.zipWith(running("sleep 91827"), running("sleep 91828"), (left, right) => [...left, ...right])
      yield* until(Effect.map(tools, (pids) => pids.length === 2))

      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* tools, [])
      assert.isFalse(yield* isRunning(server.pid))
    }))

  it.effect("reports the end of a killed server, and kills its children", () =>
    Effect.gen(function*() {
      const child = "sleep 91829"
      const command = yield* script(
        `(trap '' TERM; exec ${child}) &\n` +
          `exec node -e 'require("node:http").createServer((_, res) => res.end("{}")).listen(process.argv[5])' -- "$@"`
      )
      const server = yield* OpencodeServer.make({ command })
      assert.strictEqual((yield* running(child)).length, 1)
      yield* server.kill
      assert.isNull(yield* server.exited)
      yield* until(Effect.map(running(child), (pids) => pids.length === 0))
    }))

  it.effect("kills processes that ignore SIGTERM", () =>
    Effect.gen(function*() {
      const command = yield* script(
        `trap '' TERM\nsleep 91830 &\n` +
          `exec node -e 'process.on("SIGTERM", () => {}); require("node:http").createServer((_, res) => ` +
          `res.end("{}")).listen(process.argv[5])' -- "$@"`
      )
      const pid = yield* Effect.scoped(Effect.map(OpencodeServer.make({ command }), (server) => server.pid))
      assert.isFalse(yield* isRunning(pid))
      assert.deepStrictEqual(yield* running("sleep 91830"), [])
    }))

  it.effect("fails with the exit code and the last lines when the binary exits, without its secrets", () =>
    Effect.gen(function*() {
      const command = yield* script(
        `echo "port busy, password $OPENCODE_SERVER_PASSWORD, config $OPENCODE_CONFIG_CONTENT" >&2\nexit 7`
      )
      const error = yield* Effect.flip(OpencodeServer.make({ ...yield* isolated, command }))
      assert.instanceOf(error, OpencodeServer.OpencodeStartFailed)
      assert.deepInclude(error, { reason: "Exited", exitCode: 7 })
      assert.include(error.message, "exited with code 7")
      assert.include(error.message, "port busy, password <redacted>")
      assert.notInclude(error.message, "canary-api-key")
    }))

  it.effect("keeps a bounded part of the binary's output, without a line whose beginning is lost", () =>
    Effect.gen(function*() {
      const command = yield* script(
        `printf "$OPENCODE_SERVER_PASSWORD" >&2\nhead -c 20000000 /dev/zero | tr '\\0' x >&2\n` +
          `printf '\\nlast words\\n' >&2\nexit 7`
      )
      const error = yield* Effect.flip(OpencodeServer.make({ command }))
      assert.instanceOf(error, OpencodeServer.OpencodeStartFailed)
      assert.deepInclude(error, { reason: "Exited", output: ["last words"] })
    }))

  it.effect("fails when the binary never answers, and ends it", () =>
    Effect.gen(function*() {
      const command = yield* script("echo listening soon\nexec sleep 91831")
      const error = yield* Effect.flip(Effect.scoped(OpencodeServer.make({ command, startTimeout: "300 millis" })))
      assert.instanceOf(error, OpencodeServer.OpencodeStartFailed)
      assert.deepInclude(error, { reason: "TimedOut", exitCode: null, output: ["listening soon"] })
      assert.deepStrictEqual(yield* running("sleep 91831"), [])
    }))

  it.effect("fails when the binary cannot be spawned", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const command = yield* script("exit 0")
      yield* fs.chmod(command, 0o644)
      const error = yield* Effect.flip(OpencodeServer.make({ command }))
      assert.instanceOf(error, OpencodeServer.OpencodeStartFailed)
      assert.strictEqual(error.reason, "NotSpawned")
    }))

  it.effect("names the missing program when the option or the variable is wrong", () =>
    Effect.gen(function*() {
      const byOption = yield* Effect.flip(OpencodeServer.make({ command: "/nowhere/opencode" }))
      assert.instanceOf(byOption, OpencodeServer.OpencodeNotFound)
      assert.deepStrictEqual(byOption.searched, ["/nowhere/opencode"])
      assert.include(byOption.message, "npm install opencode-ai")
      const byVariable = yield* OpencodeServer.make().pipe(
        Effect.provide(configuration({ OPENCODE_BIN: "/elsewhere/opencode" })),
        Effect.flip
      )
      assert.deepInclude(byVariable, { _tag: "OpencodeNotFound", searched: ["/elsewhere/opencode"] })
    }))

  it.effect("prefers the option to the variable, the variable to the package, and finds a bare name on PATH", () =>
    Effect.gen(function*() {
      const command = yield* script("exit 0")
      const folder = command.slice(0, command.lastIndexOf("/"))
      assert.strictEqual(yield* locate({ command }, { OPENCODE_BIN: "/elsewhere/opencode" }), command)
      assert.strictEqual(yield* locate({}, { OPENCODE_BIN: command }), command)
      assert.strictEqual(yield* locate({ command: "opencode" }, { PATH: `/nowhere:${folder}` }), command)
      assert.match(yield* locate({}, { OPENCODE_BIN: "", PATH: folder }), /opencode-ai\/bin\/opencode\.exe$/)
    }))

  it.effect.each([
    { has: ["opencode"], takes: "opencode" },
    { has: ["opencode2"], takes: "opencode2" },
    { has: ["opencode2", "opencode"], takes: "opencode" }
  ])("takes $takes where the package is not installed and PATH has $has", ({ has, takes }) =>
    Effect.gen(function*() {
      const { origin, PATH, programs } = yield* installed(has)
      const found = yield* search(origin, {}, { PATH })
      assert.deepStrictEqual<unknown>(found, Result.succeed(programs[has.indexOf(takes)]))
    }))

  it.effect("takes the name that it is told, and no other one", () =>
    Effect.gen(function*() {
      const { origin, PATH, programs: [beta, opencode] } = yield* installed(["opencode2", "opencode"])
      assert.deepStrictEqual<unknown>(yield* search(origin, { command: "opencode2" }, { PATH }), Result.succeed(beta))
      assert.deepStrictEqual<unknown>(
        yield* search(origin, {}, { PATH, OPENCODE_BIN: "opencode2" }),
        Result.succeed(beta)
      )
      assert.deepStrictEqual<unknown>(
        yield* search(origin, {}, { PATH, OPENCODE_BIN: "opencode" }),
        Result.succeed(opencode)
      )
      const alone = yield* installed(["opencode"])
      assert.deepStrictEqual(
        yield* search(origin, {}, { PATH: alone.PATH, OPENCODE_BIN: "opencode2" }),
        Result.fail(["opencode2"])
      )
    }))

  it.effect("says what it looked for where there is no OpenCode at all", () =>
    Effect.gen(function*() {
      const { origin, PATH } = yield* installed([])
      const found = yield* search(origin, {}, { PATH })
      assert(Result.isFailure(found))
      assert.strictEqual(
        new OpencodeServer.OpencodeNotFound({ searched: found.failure }).message,
        "OpenCode was not found (looked for the package opencode-ai, opencode on PATH, opencode2 on PATH): install it with " +
          "\"npm install opencode-ai\", or set OPENCODE_BIN to the path of its binary"
      )
    }))

  it.effect("runs neither name from the project's own node_modules, although PATH has it", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-planted-" })
      const folder = `${directory}/node_modules/.bin`
      yield* fs.makeDirectory(folder, { recursive: true })
      for (const name of ["opencode", "opencode2"]) yield* fs.writeFileString(`${folder}/${name}`, "", { mode: 0o755 })
      assert.isTrue(Result.isFailure(yield* search(`${directory}/package.json`, { directory }, { PATH: folder })))
    }))

  describe.skipIf(SharedOpencode.isMissing("2.x"))("OpenCode 2.x", () => {
    it.effect("starts the beta that it is told by its name", () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-beta-" })
        yield* fs.symlink(yield* OpencodePackage.fetch2x, `${folder}/opencode2`)
        const server = yield* OpencodeServer.make({ ...yield* isolated, startTimeout: "2 minutes" }).pipe(
          Effect.provide(configuration({ OPENCODE_BIN: "opencode2", PATH: folder }))
        )
        const client = yield* HttpClient.HttpClient
        const health = yield* HttpClientRequest.get(`${server.url}/api/health`).pipe(
          HttpClientRequest.basicAuth("opencode", server.password),
          client.execute
        )
        assert.deepInclude(yield* health.json, { version: OpencodePackage.beta.version })
      }))
  })

  it.effect("takes the binary of the platform's package when the install script of opencode-ai did not run", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-install-" })
      const name = `opencode-${process.platform === "win32" ? "windows" : process.platform}-${process.arch}-baseline`
      const launcher = `${folder}/node_modules/opencode-ai`
      const own = `${folder}/node_modules/${name}`
      for (const manifest of [launcher, own]) {
        yield* fs.makeDirectory(`${manifest}/bin`, { recursive: true })
        yield* fs.writeFileString(`${manifest}/package.json`, "{}")
      }
      yield* fs.writeFileString(`${launcher}/bin/opencode.exe`, "echo 'the install script was not run'")
      yield* fs.writeFile(`${own}/bin/opencode`, new Uint8Array(2_000_000))
      assert.strictEqual(
        yield* fs.realPath(Option.getOrThrow(yield* Locate.findInstalled(`${folder}/package.json`))),
        yield* fs.realPath(`${own}/bin/opencode`)
      )
    }))

  it.effect("runs no binary that the project brings along, not even over PATH, unless it is named", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const project = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-planted-" })
      const planted = `${project}/node_modules/opencode-ai`
      const trap = `#!/bin/sh\ntouch ${project}/trapped\nexit 9\n`.padEnd(2_000_000, "#")
      yield* fs.makeDirectory(`${planted}/bin`, { recursive: true })
      yield* fs.makeDirectory(`${project}/node_modules/.bin`)
      yield* fs.writeFileString(`${planted}/package.json`, "{}")
      for (
        const file of [`${planted}/bin/opencode.exe`, `${project}/node_modules/.bin/opencode`, `${project}/opencode`]
      ) {
        yield* fs.writeFileString(file, trap, { mode: 0o755 })
      }
      const paths = [`${project}/node_modules/.bin`, ".", "", "node_modules/.bin"].join(":")
      const found = yield* locate({ directory: project }, { PATH: paths })
      assert.isFalse(found.startsWith(project))
      yield* OpencodeServer.make({ ...yield* isolated, directory: project }).pipe(
        Effect.provide(configuration({ PATH: paths }))
      )
      assert.isFalse(yield* fs.exists(`${project}/trapped`))
      const named = `${planted}/bin/opencode.exe`
      assert.strictEqual(yield* locate({ directory: project }, { OPENCODE_BIN: named }), named)
    }))

  it.effect("looks for a bare name in the absolute folders of PATH only", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-bare-" })
      yield* fs.writeFileString(`${folder}/planted`, "#!/bin/sh\n", { mode: 0o755 })
      const relative = `../../../../../../../../../..${folder}`
      const error = yield* Effect.flip(locate({ command: "planted" }, { PATH: `${relative}::.` }))
      assert.deepInclude(error, { _tag: "OpencodeNotFound", searched: ["planted"] })
      assert.strictEqual(yield* locate({ command: "planted" }, { PATH: folder }), `${folder}/planted`)
    }))

  it.effect("passes no setting of this library to the server or to the commands of its tools", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const options = yield* isolated
      const settings: Record<string, string> = {
        OPENCODE_TURN_DATABASE: "postgres://me:canary-1@host/turns",
        OPENCODE_TURN_ANYTHING: "canary-2",
        OPENCODE_BASE_URL: "http://opencode:canary-3@host",
        OPENCODE_DIRECTORY: "/canary-4",
        OPENCODE_TIMEOUT: "canary-5",
        OPENCODE_SERVER_PASSWORD: "canary-6",
        OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9/canary-7",
        OTEL_EXPORTER_OTLP_HEADERS: "authorization=canary-8",
        OTEL_EXPORTER_OTLP_TRACES_HEADERS: "authorization=canary-9"
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => Object.assign(process.env, settings)),
        () =>
          Effect.sync(() => {
            for (const name of Object.keys(settings)) delete process.env[name]
          })
      )
      for (const home of [options.home, undefined]) {
        const environment = { ...options.environment, HOME: options.home, XDG_DATA_HOME: `${options.home}/data` }
        const server = yield* OpencodeServer.make({ ...options, home, environment })
        const session = yield* post(server, "/session", {})
        yield* post(server, `/session/${Object(session).id}/shell`, {
          agent: "build",
          command: `env > "${options.directory}/environment"`
        })
        const seen = yield* fs.readFileString(`${options.directory}/environment`)
        assert.include(seen, "OPENCODE_DISABLE_AUTOUPDATE=1")
        assert.notMatch(seen, /canary-\d|OPENCODE_TURN_/)
        // Nor was anything fetched for plugins.
        assert.deepStrictEqual(yield* fs.readDirectory(`${options.home}/.config/opencode/node_modules`), [])
      }
    }))

  it.effect("is ended by a process that exits without closing the scope", () =>
    Effect.gen(function*() {
      const command = yield* script(
        `exec node -e 'require("node:http").createServer((_, res) => res.end("{}")).listen(process.argv[5])' -- "$@"`
      )
      const host = `
        import * as Effect from "effect/Effect"
        import { NodeHttpClient, NodeServices } from "@effect/platform-node"
        import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
        await Effect.runPromise(Effect.scoped(OpencodeServer.make({ command: ${JSON.stringify(command)} }).pipe(
          Effect.flatMap((server) => Effect.sync(() => {
            console.log(server.pid)
            process.exit(3)
          }))
        )).pipe(Effect.provide([NodeServices.layer, NodeHttpClient.layerUndici])))`
      const handle = yield* ChildProcess.make(process.execPath, ["--input-type=module", "-e", host], {
        cwd: new URL("../..", import.meta.url).pathname,
        stderr: "inherit"
      })
      const [pid] = yield* handle.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runCollect)
      assert.strictEqual(yield* handle.exitCode, 3)
      yield* until(Effect.map(isRunning(Number(pid)), (alive) => !alive))
    }))
})
