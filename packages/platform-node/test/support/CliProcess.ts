/**
 * The command line as a child process, and a real OpenCode server with a scripted model that many of them share.
 */
import * as NewHome from "#live/NewHome"
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { layerStore, LiveLayer } from "@opencode-turn/platform-node/LiveLayer"
import * as OpencodeServer from "@opencode-turn/platform-node/OpencodeServer"
import * as ScriptedModel from "@opencode-turn/testing/ScriptedModel"
import { environment, opencodeConfig } from "@opencode-turn/testing/ScriptedProvider"
import { Context, Deferred, Effect, FileSystem, Layer, Redacted, type Scope } from "effect"
import type { Command } from "effect/cli"
import { spawn, spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { cli as here } from "./CliInProcess.ts"
import type { Line } from "./OpencodeGlobalSetup.ts"
import * as SharedOpencode from "./SharedOpencode.ts"

/** The executable. */
export const bin = fileURLToPath(new URL("../../bin/opencode-turn.js", import.meta.url))

/** What a finished process left. */
export interface Finished {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A process that runs. */
export interface Running {
  readonly pid: number
  readonly finished: Effect.Effect<Finished>
  readonly kill: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Types into standard input, which has to be kept open. */
  readonly type: (text: string) => Effect.Effect<void>
  /** Closes its standard input, which has to be kept open. */
  readonly closeStdin: Effect.Effect<void>
  /** Closes our end of its standard output. */
  readonly closeStdout: Effect.Effect<void>
  /** Waits until standard output, or standard error, holds the text. A pipe may cut a line anywhere: what is read next has to be part of it. */
  readonly printed: (text: string | RegExp) => Effect.Effect<void>
  /** Standard output so far. */
  readonly stdout: Effect.Effect<string>
  /** Standard error so far. */
  readonly stderr: Effect.Effect<string>
}

export interface Options {
  /** All of standard input; `undefined` for none, `open` for what is typed later. */
  readonly input?: string | { readonly open: true }
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** The command instead of `node opencode-turn.js`. */
  readonly wrapper?: (command: ReadonlyArray<string>) => ReadonlyArray<string>
}

/** Starts the command line; it is killed when the scope closes. */
export const start = (
  args: ReadonlyArray<string>,
  options: Options = {}
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const command = [process.execPath, bin, ...args]
      const [file = process.execPath, ...rest] = options.wrapper?.(command) ?? command
      const child = spawn(file, rest, {
        cwd: options.cwd,
        env: { ...clean(), ...options.env },
        stdio: ["pipe", "pipe", "pipe"]
      })
      const texts = { stdout: "", stderr: "" }
      const waiting: Array<{ readonly text: string | RegExp; readonly seen: Deferred.Deferred<void> }> = []
      const collect = (name: "stdout" | "stderr") => (chunk: string) => {
        texts[name] += chunk
        for (const { seen, text } of waiting) {
          const holds = (all: string) => typeof text === "string" ? all.includes(text) : text.test(all)
          if (holds(texts.stdout) || holds(texts.stderr)) Deferred.doneUnsafe(seen, Effect.void)
        }
      }
      child.stdout.setEncoding("utf8").on("data", collect("stdout"))
      child.stderr.setEncoding("utf8").on("data", collect("stderr"))
      child.stdin.on("error", () => {})
      if (typeof options.input !== "object") child.stdin.end(options.input ?? "")
      const done = Deferred.makeUnsafe<Finished>()
      child.on("close", (code, signal) => Deferred.doneUnsafe(done, Effect.succeed({ code, signal, ...texts })))
      const running: Running = {
        pid: child.pid ?? 0,
        finished: Deferred.await(done),
        type: (text) => Effect.sync(() => void child.stdin.write(text)),
        kill: (signal) => Effect.sync(() => void child.kill(signal)),
        stdout: Effect.sync(() => texts.stdout),
        stderr: Effect.sync(() => texts.stderr),
        closeStdin: Effect.sync(() => void child.stdin.end()),
        closeStdout: Effect.sync(() => void child.stdout.destroy()),
        printed: (text) =>
          Effect.suspend(() => {
            const seen = Deferred.makeUnsafe<void>()
            waiting.push({ text, seen })
            collect("stdout")("")
            return Effect.raceFirst(
              Deferred.await(seen),
              Effect.flatMap(
                Deferred.await(done),
                (finished) =>
                  Effect.die(new Error(`ended before it printed ${String(text)}: ${JSON.stringify(finished)}`))
              )
            )
          })
      }
      return { child, running }
    }),
    ({ child, running }) =>
      Effect.suspend(() => {
        child.kill("SIGKILL")
        return running.finished
      })
  ).pipe(Effect.map(({ running }) => running))

/** `script` gives a command a terminal of its own; not every system has the one of util-linux. */
export const hasScript = spawnSync("script", ["-qec", "true", "/dev/null"]).status === 0

/** A wrapper that runs the command in a terminal. */
export const inTerminal = (command: ReadonlyArray<string>): ReadonlyArray<string> => [
  "script",
  "-qec",
  command.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" "),
  "/dev/null"
]

/** The home of a user who never used OpenCode, for commands that start a server of their own. */
export const newHome = Effect.fnUntraced(function*(folder: string) {
  yield* NewHome.prepare(`${folder}/home`)
  return { HOME: `${folder}/home` }
})

/** Runs the command line to its end. */
export const cli = (args: ReadonlyArray<string>, options?: Options): Effect.Effect<Finished> =>
  Effect.scoped(Effect.flatMap(start(args, options), ({ finished }) => finished))

/** Standard error without the line that a command prints on a machine that is too slow for it. */
export const progressOf = ({ stderr }: Finished): string =>
  stderr.replace(/^the server has not answered yet[^\n]*\n/gm, "")

/** The lines of JSON on standard output. Fails if there is anything else. */
export const jsonLines = ({ stdout }: Finished): ReadonlyArray<Record<string, unknown>> => {
  if (!stdout.endsWith("\n")) throw new Error(`no whole lines: ${stdout}`)
  return stdout.slice(0, -1).split("\n").map((text) => JSON.parse(text))
}

/** The one line of an error, behind the name of the conversation where one is stored; fails for any other number of lines. */
export const errorLine = ({ stderr }: Finished): string => {
  const lines = stderr.replace(/^(?:error|failed|cancelled) · conversation \S+\n/, "").split("\n").filter((line) =>
    line !== ""
  )
  if (lines.length !== 1) throw new Error(`not one line: ${stderr}`)
  return lines[0] ?? ""
}

/** A server that runs, a model that says what the prompts say, and a database. */
export class Playground extends Context.Service<Playground, {
  readonly url: string
  readonly password: string
  readonly directory: string
  readonly database: string
  /** Runs the command line against the server: in this process, unless something of a process is asked for. */
  readonly run: (args: ReadonlyArray<string>, options?: Options) => Effect.Effect<Finished>
  readonly start: (
    args: ReadonlyArray<string>,
    options?: Options
  ) => Effect.Effect<Running, never, Scope.Scope>
}>()("test/Playground") {}

const platform = Layer.mergeAll(NodeServices.layer, NodeHttpClient.layerUndici)

const playground = <E, R>(
  serverOf: (
    folder: string,
    directory: string,
    config: object
  ) => Effect.Effect<OpencodeServer.OpencodeServer["Service"], E, R>,
  settings: (directory: string) => Readonly<Record<string, string>>
) =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "opencode-turn-cli-" })
    const directory = `${folder}/project`
    yield* fs.makeDirectory(directory)
    const model = yield* ScriptedModel.ScriptedModel
    const server = yield* serverOf(folder, directory, opencodeConfig(model))
    const password = Redacted.value(server.password)
    const database = `${folder}/data/turns.db`
    const services = yield* Effect.context<Command.Environment>()
    const withServer = (options: Options = {}): Options => ({
      cwd: directory,
      ...options,
      env: {
        HOME: `${folder}/user`,
        OPENCODE_BASE_URL: server.url,
        OPENCODE_SERVER_PASSWORD: password,
        OPENCODE_TURN_DATABASE: database,
        ...settings(directory),
        ...options.env
      }
    })
    return Playground.of({
      url: server.url,
      password,
      directory,
      database,
      run: (args, options) => {
        const all = withServer(options)
        return all.cwd !== directory || all.input !== undefined || all.wrapper !== undefined
          ? cli(args, all)
          : Effect.provide(here(args, { env: { OPENCODE_DIRECTORY: directory, ...all.env } }), services)
      },
      start: (args, options) => start(args, withServer(options))
    })
  })

const layerOf = <E, R>(playground: Effect.Effect<Playground["Service"], E, R>) =>
  Layer.effect(Playground, playground).pipe(
    Layer.provideMerge(ScriptedModel.layer()),
    Layer.provideMerge(platform)
  )

/** A server of its own for the tests of a file, which works in the playground's folder unless another one is named. */
export const layer = layerOf(playground(
  (folder, directory, config) =>
    OpencodeServer.make({ home: `${folder}/home`, directory, environment: environment(config) }),
  () => ({})
))

/** The shared server of a line, whose own folder is another one: the commands name the playground's folder. `more` are settings of OpenCode for it. */
export const layerSharedOf = (more: Readonly<Record<string, unknown>>, line: Line = "1.x") =>
  layerOf(playground(
    (_folder, directory, config) =>
      Effect.andThen(SharedOpencode.configure(directory, { ...config, ...more }), SharedOpencode.serverOf(line)),
    (directory) => ({ OPENCODE_DIRECTORY: directory })
  ))

/** The same without further settings of OpenCode. */
export const layerShared = layerSharedOf({})

/** The client and the store of the playground, in this process. */
export const live = Layer.unwrap(
  Effect.map(
    Playground,
    ({ database, directory, password, url }) =>
      LiveLayer.make({ baseUrl: url, password: Redacted.make(password), database, directory })
  )
)

/** The store of the playground, in this process. */
export const store = Layer.unwrap(Effect.map(Playground, ({ database }) => layerStore(database)))

/** This process's environment without what would change the outcome. */
const clean = (): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(process.env).filter(([name]) =>
      !/^(OPENCODE_|OTEL_|XDG_|NO_COLOR$|FORCE_COLOR$|NODE_OPTIONS$)/.test(name)
    )
  )
