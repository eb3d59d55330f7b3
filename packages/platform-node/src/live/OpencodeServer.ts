/**
 * Runs an embedded OpenCode server: `opencode serve` as a child process that lives as long as a scope.
 *
 * **Responsibilities**: finding the binary, choosing a loopback port and a password, waiting until the server answers, and stopping the
 * server with every process it started.
 *
 * **Not responsibilities**: which line of OpenCode the binary is of; requests beyond the health probe, restarting a server that ends by itself.
 *
 * **Gotchas**
 *
 * - A child process runs on real time, so the start never ends under a `TestClock`. Build the server with the live clock.
 * - A host that dies of `SIGKILL`, or of an unhandled signal, runs no cleanup. `Watchdog` then ends the server on systems with a
 *   POSIX shell.
 * - If the server ends by itself, tools that outlive it are not found any more.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Predicate from "effect/Predicate"
import * as ChildProcess from "effect/process/ChildProcess"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import { createServer } from "node:net"
import { stripVTControlCharacters } from "node:util"
import * as Locate from "./Locate.ts"
import * as NewHome from "./NewHome.ts"
import * as ProcessTree from "./ProcessTree.ts"
import * as Watchdog from "./Watchdog.ts"

/**
 * A running OpenCode server.
 *
 * @category services
 * @since 0.1.0
 */
export class OpencodeServer extends Context.Service<OpencodeServer, {
  /** The server's URL: `http://127.0.0.1:PORT`, without a trailing slash. */
  readonly url: string
  /** The password for the user `opencode`; every request needs it as Basic authentication. */
  readonly password: Redacted.Redacted<string>
  /** The id of the server's own process. */
  readonly pid: number
  /** Waits for the server to end. Returns its exit code, or `null` if a signal ended it. */
  readonly exited: Effect.Effect<number | null>
  /** Kills the server and every process it started with `SIGKILL`, as a crash would, and waits for its end. */
  readonly kill: Effect.Effect<void>
}>()("@opencode-turn/platform-node/OpencodeServer") {}

/**
 * The options of a server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The binary, as a path or a name on `PATH`. Default: see {@link locate}. */
  readonly command?: string | undefined
  /** The server's working directory and default project. Default: the working directory of this process. */
  readonly directory?: string | undefined
  /**
   * A folder that replaces the user's home, so that the server sees none of the user's sessions, settings and credentials. Inherited
   * `OPENCODE_*` variables are then dropped too. A home that is new gets no package for plugins written in it. Default: the user's home.
   */
  readonly home?: string | undefined
  /** OpenCode's configuration, passed in `OPENCODE_CONFIG_CONTENT`. */
  readonly config?: Readonly<Record<string, unknown>> | undefined
  /**
   * Additional environment variables; `undefined` removes an inherited one. The server does not inherit the settings of this
   * library (`OPENCODE_TURN_*`, `OPENCODE_BASE_URL`, `OTEL_EXPORTER_OTLP_*` and others).
   */
  readonly environment?: Readonly<Record<string, string | Redacted.Redacted<string> | undefined>> | undefined
  /** The password. Default: 192 random bits. */
  readonly password?: Redacted.Redacted<string> | undefined
  /** The port. Default: a free one. */
  readonly port?: number | undefined
  /**
   * The maximum time until the server answers. Default: 30 seconds, about ten times a cold start of 1.18 on two shared cores
   * (2–4 s).
   */
  readonly startTimeout?: Duration.Input | undefined
}

/**
 * No OpenCode binary was found.
 *
 * @category errors
 * @since 0.1.0
 */
export class OpencodeNotFound extends Schema.TaggedError<OpencodeNotFound>()("OpencodeNotFound", {
  searched: Schema.Array(Schema.String)
}) {
  override get message() {
    return `OpenCode was not found (looked for ${
      this.searched.join(", ")
    }): install it with "npm install opencode-ai", ` +
      "or set OPENCODE_BIN to the path of its binary"
  }
}

/**
 * The server could not be spawned, ended before it answered, or did not answer in time.
 *
 * **Details**
 *
 * `output` holds the last lines of the server's output, without the password and the secrets of its configuration. `exitCode` is
 * `null` unless the server ended by itself.
 *
 * @category errors
 * @since 0.1.0
 */
export class OpencodeStartFailed extends Schema.TaggedError<OpencodeStartFailed>()("OpencodeStartFailed", {
  reason: Schema.Literals(["NotSpawned", "Exited", "TimedOut"]),
  command: Schema.String,
  exitCode: Schema.NullOr(Schema.Int),
  output: Schema.Array(Schema.String),
  cause: Schema.optional(Schema.Defect())
}) {
  override get message() {
    return [`"${this.command} serve" ${describeFailure(this)}`, ...this.output].join("\n")
  }
}

/**
 * The errors of a server start.
 *
 * @category errors
 * @since 0.1.0
 */
export type OpencodeServerError = OpencodeNotFound | OpencodeStartFailed | Config.ConfigError

/**
 * Finds the OpenCode binary.
 *
 * **Details**
 *
 * It uses the first of these that is set or found:
 *
 * 1. the `command` option, then `OPENCODE_BIN`; if one of them is set but names no binary, the search ends there;
 * 2. the npm package `opencode-ai`, resolved from this package;
 * 3. `opencode` on `PATH`, which 1.x and 2.x are both called;
 * 4. `opencode2` on `PATH`, the name of a beta of 2.x. Set `OPENCODE_BIN=opencode2` to prefer it.
 *
 * It does not search the project's own `node_modules`: the author of the project could then choose the program that starts, before the
 * user allowed anything. Name that binary in `OPENCODE_BIN` to run it.
 *
 * It spawns the binary itself, never a wrapper. The install script of `opencode-ai` (1.18) links the binary to `bin/opencode.exe` on
 * every platform. If a package manager did not run the script, that file is a short text, and the binary comes from the platform's
 * own package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const locate = Effect.fn("OpencodeServer.locate")(function*(
  options: Pick<Options, "command" | "directory">
): Effect.fn.Return<string, OpencodeNotFound | Config.ConfigError, FileSystem.FileSystem | Path.Path> {
  const found = yield* Locate.search(import.meta.url, options)
  return Result.isSuccess(found) ? found.success : yield* new OpencodeNotFound({ searched: found.failure })
})

/**
 * Starts a server and waits until it answers. Closing the scope ends the server and every process it started.
 *
 * **Details**
 *
 * It listens only on `127.0.0.1` and always has a password. The password travels in the environment, because every user of the
 * machine can read command lines.
 *
 * On close the server and its descendants get `SIGTERM`, and `SIGKILL` after two seconds.
 *
 * **Gotchas**
 *
 * OpenCode (1.18) passes its environment, including the password, on to the commands of its tools.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fn("OpencodeServer.make")(function*(
  options: Options = {}
): Effect.fn.Return<
  OpencodeServer["Service"],
  OpencodeServerError,
  ChildProcessSpawner.ChildProcessSpawner | FileSystem.FileSystem | HttpClient.HttpClient | Path.Path | Scope.Scope
> {
  const command = yield* locate(options)
  const password = options.password ?? Redacted.make(randomBytes(24).toString("base64url"))
  const failed = (
    reason: OpencodeStartFailed["reason"],
    details: Partial<Pick<OpencodeStartFailed, "cause" | "exitCode" | "output">>
  ) => new OpencodeStartFailed({ reason, command, exitCode: null, output: [], ...details })
  const notSpawned = (cause: Error) => failed("NotSpawned", { cause })

  const environment = yield* Effect.mapError(prepareEnvironment(options, password), notSpawned)
  const port = options.port ?? (yield* freePort(notSpawned))
  const url = `http://127.0.0.1:${port}`
  const child = yield* Effect.mapError(
    spawn(command, ["serve", "--hostname", "127.0.0.1", "--port", `${port}`], {
      cwd: options.directory,
      env: environment,
      extendEnv: true
    }),
    notSpawned
  )

  const { lastOutput } = yield* keepLastLines(child.handle, secretsOf(options, password))
  yield* Effect.raceFirst(
    awaitHealthy(url, password),
    Effect.flatMap(
      child.exited,
      (exitCode) => Effect.flatMap(lastOutput, (output) => Effect.fail(failed("Exited", { exitCode, output })))
    )
  ).pipe(
    Effect.timeoutOrElse({
      duration: options.startTimeout ?? "30 seconds",
      orElse: () => Effect.flatMap(lastOutput, (output) => Effect.fail(failed("TimedOut", { output })))
    })
  )

  return OpencodeServer.of({ url, password, pid: child.handle.pid, exited: child.exited, kill: child.kill })
})

/**
 * Provides a server that lives as long as the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<
  OpencodeServer,
  OpencodeServerError,
  ChildProcessSpawner.ChildProcessSpawner | FileSystem.FileSystem | HttpClient.HttpClient | Path.Path
> => Layer.effect(OpencodeServer, make(options))

// internal

const describeFailure = (error: OpencodeStartFailed): string => {
  switch (error.reason) {
    case "NotSpawned":
      return `could not be started${Predicate.isError(error.cause) ? `: ${error.cause.message}` : ""}`
    case "Exited":
      return error.exitCode === null
        ? "was ended by a signal before it answered"
        : `exited with code ${error.exitCode} before it answered`
    case "TimedOut":
      return "did not answer in time"
  }
}

// internal: finding the binary

// internal: the child process

/**
 * Recognizes the settings of this library. The server and its tools do not need them, and some hold a password. With those of the exporter
 * OpenCode (1.18.33) would send traces of its own as well, as the same service.
 */
const isOurs = (name: string): boolean =>
  /^(?:OPENCODE_(?:TURN_.*|BASE_URL|DIRECTORY|TIMEOUT|BIN)|OTEL_EXPORTER_OTLP_.*)$/i.test(name)

const prepareEnvironment = Effect.fnUntraced(function*(options: Options, password: Redacted.Redacted<string>) {
  const home: Record<string, string | undefined> = {}
  for (const name of Object.keys(process.env)) {
    if (isOurs(name)) home[name] = undefined
  }
  if (options.home !== undefined) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    yield* fs.makeDirectory(options.home, { recursive: true })
    for (const name of Object.keys(process.env)) {
      if (name.startsWith("OPENCODE_")) {
        home[name] = undefined
      }
    }
    const root = path.resolve(options.home)
    home["HOME"] = root
    home["USERPROFILE"] = root
    home["XDG_CONFIG_HOME"] = path.join(root, ".config")
    home["XDG_DATA_HOME"] = path.join(root, ".local", "share")
    home["XDG_STATE_HOME"] = path.join(root, ".local", "state")
    home["XDG_CACHE_HOME"] = path.join(root, ".cache")
    yield* NewHome.prepare(root)
  }
  return {
    ...home,
    // The host does not expect an embedded server to replace its own binary.
    OPENCODE_DISABLE_AUTOUPDATE: "1",
    ...(options.config === undefined ? {} : { OPENCODE_CONFIG_CONTENT: JSON.stringify(options.config) }),
    ...options.environment,
    OPENCODE_SERVER_USERNAME: "opencode",
    OPENCODE_SERVER_PASSWORD: password
  }
})

/**
 * Asks the system for a free port, because OpenCode's own choice (`--port 0`, 1.18) begins with the well-known 4096. If another
 * process takes the port meanwhile, the server exits with an error.
 */
const freePort = <E>(onFailure: (cause: Error) => E): Effect.Effect<number, E> =>
  Effect.callback((resume) => {
    const server = createServer()
    server.once("error", (cause) => resume(Effect.fail(onFailure(cause))))
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() =>
        resume(
          address !== null && typeof address === "object"
            ? Effect.succeed(address.port)
            : Effect.fail(onFailure(new Error("the system gave no port")))
        )
      )
    })
    return Effect.sync(() => server.close())
  })

/** The time in which the server and its children may end by themselves; 1.18 takes a few milliseconds. */
const grace = Duration.seconds(2)

const untilGone = Schedule.max([Schedule.spaced("20 millis"), Schedule.during(grace)])

const spawn = Effect.fnUntraced(function*(
  command: string,
  args: ReadonlyArray<string>,
  options: ChildProcess.CommandOptions
) {
  // The spawner puts the child into its own process group and kills the group. The tree also reaches processes outside the group.
  const handle = yield* ChildProcess.make(command, args, { ...options, stdin: "ignore", forceKillAfter: grace })
  const root = ProcessTree.find(handle.pid)
  const killTree = () => {
    if (root !== undefined) {
      ProcessTree.kill(root)
    }
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => process.once("exit", killTree)),
    () => Effect.sync(() => process.off("exit", killTree))
  )
  yield* Effect.addFinalizer(() => root === undefined ? Effect.void : endTree(root))

  const exited: Effect.Effect<number | null> = Effect.orElseSucceed(handle.exitCode, () => null)
  yield* Watchdog.guard(handle.pid, exited)
  const kill = Effect.sync(killTree).pipe(
    Effect.andThen(Effect.ignore(handle.kill({ killSignal: "SIGKILL" }))),
    Effect.andThen(exited),
    Effect.asVoid
  )
  return { handle, exited, kill }
}, Effect.uninterruptible)

const endTree = Effect.fnUntraced(function*(root: ProcessTree.Process) {
  const family = ProcessTree.freeze(root)
  ProcessTree.terminate(family)
  const isGone = Effect.sync(() => ProcessTree.running(family).length === 0)
  yield* Effect.repeat(isGone, { schedule: untilGone, until: (gone) => gone })
  for (const survivor of ProcessTree.running(family)) {
    ProcessTree.kill(survivor)
  }
  yield* Effect.repeat(isGone, { schedule: untilGone, until: (gone) => gone })
})

// internal: waiting for the server

/**
 * Where OpenCode 2.x says that it is up: the releases, the betas. It answers 404 to the routes of other lines. 1.x would answer with a
 * page, which it may load from the internet, so the route of 1.x is asked first.
 */
const healthPathsOf2x = ["/api/info", "/api/health"]

const awaitHealthy = Effect.fnUntraced(function*(url: string, password: Redacted.Redacted<string>) {
  const client = yield* HttpClient.HttpClient
  const get = (path: string) =>
    HttpClientRequest.get(url + path).pipe(
      HttpClientRequest.basicAuth("opencode", password),
      client.execute,
      Effect.tap((response) => response.text),
      // During the first moments of a cold start a request can hang for a minute (1.18).
      Effect.timeout("1 second")
    )
  const probe = Effect.gen(function*() {
    let response = yield* get("/global/health")
    for (const path of healthPathsOf2x) if (response.status === 404) response = yield* get(path)
    return yield* HttpClientResponse.filterStatusOk(response)
  })
  yield* probe.pipe(
    Effect.retry(Schedule.spaced("100 millis")),
    // The schedule never ends, so no failure passes it; the caller bounds the wait.
    Effect.orDie,
    // A start makes some twenty refused connections, which are not worth a span.
    Effect.provideService(HttpClient.TracerDisabledWhen, () => true)
  )
})

const keptLines = 20
const keptLineLength = 500

/** Holds the lines that are kept, and one long line. Earlier output is dropped. */
const keptLength = 64 * 1024

/** Reads all output of the child, because a full pipe would block it, and keeps the end. */
const keepLastLines = Effect.fnUntraced(function*(
  handle: ChildProcessSpawner.ChildProcessHandle,
  secrets: ReadonlyArray<string>
) {
  let tail = ""
  let isCut = false
  const reader = yield* handle.all.pipe(
    Stream.decodeText(),
    Stream.runForEach((text) =>
      Effect.sync(() => {
        const all = tail + text
        isCut = isCut || all.length > keptLength
        tail = all.slice(-keptLength)
      })
    ),
    Effect.ignore,
    Effect.forkScoped
  )
  const lastOutput = Fiber.await(reader).pipe(
    // The pipe still holds the output of a dead child, but a grandchild may keep the pipe open, so this read is bounded.
    Effect.timeoutOption("200 millis"),
    Effect.map(() =>
      tail.split("\n")
        // A cut line may begin in the middle of a secret.
        .slice(isCut ? 1 : 0)
        .map((line) => redact(line, secrets))
        .filter((line) => line.trim() !== "")
        .slice(-keptLines)
    )
  )
  return { lastOutput }
})

const redact = (line: string, secrets: ReadonlyArray<string>): string =>
  secrets
    .reduce((text, secret) => text.replaceAll(secret, "<redacted>"), stripVTControlCharacters(line))
    .slice(0, keptLineLength)

const secretsOf = (options: Options, password: Redacted.Redacted<string>): ReadonlyArray<string> => [
  ...[password, ...Object.values(options.environment ?? {})].flatMap((value) =>
    Redacted.isRedacted(value) && Redacted.value(value) !== "" ? [Redacted.value(value)] : []
  ),
  ...secretsIn(options.config)
]

const secretName = /key|token|secret|password|authorization/i

/** A shorter text is a placeholder; replacing it would only garble the lines. */
const shortestSecret = 8

/** The strings of a configuration whose names mark them as secrets. */
const secretsIn = (value: unknown): ReadonlyArray<string> =>
  Predicate.isObject(value)
    ? Object.entries(value).flatMap(([name, member]) =>
      Predicate.isString(member)
        ? (secretName.test(name) && member.length >= shortestSecret ? [member] : [])
        : secretsIn(member)
    )
    : []
