/**
 * The command line `opencode-turn`: its help, its errors, its signals and its exit codes.
 *
 * **Responsibilities**: printing help, printing one line per error, exit codes, signals.
 *
 * **Not responsibilities**: the syntax of the command line (`cli/Commands`), the commands (`cli/run`, loaded on demand).
 *
 * | exit code | meaning |
 * |---|---|
 * | 0 | the turn completed |
 * | 1 | an error, a failed turn, or unreadable stored rows (the readable ones are printed) |
 * | 2 | an invalid command line or setting |
 * | 130 | the turn was cancelled (Ctrl-C); 143 by `SIGTERM`, 129 by `SIGHUP` |
 *
 * @since 0.1.0
 */
import * as NodeChildProcessSpawner from "@effect/platform-node/NodeChildProcessSpawner"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeStdio from "@effect/platform-node/NodeStdio"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import * as Cause from "effect/Cause"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Prompt from "effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Predicate from "effect/Predicate"
import * as Terminal from "effect/Terminal"
import { line } from "../terminal/TerminalText.ts"
import { root } from "./Commands.ts"
import * as Help from "./Help.ts"
import { Failure } from "./setup/Failure.ts"
import { Stop } from "./setup/Stop.ts"
import { layer as layerStreams, Streams } from "./setup/Streams.ts"

/**
 * Runs the command line as the main program of this process, and then ends the process.
 *
 * **Details**
 *
 * The first `SIGINT`, `SIGTERM` or `SIGHUP` cancels the turn: the session is aborted, the streamed content is stored as cancelled,
 * and a server that the command started is stopped. A second signal ends the process at once. A turn that is still stopping
 * then stays unfinished, and `resume` can carry it on.
 *
 * @category running
 * @since 0.1.0
 */
export const main = (version: string): void => {
  let stoppedBy: keyof typeof signalCodes | undefined
  let isLeaving = false
  let needsReader = true
  let onStop = { slow: Effect.void, second: Effect.void }
  const leave = (reason: keyof typeof signalCodes) => {
    const exit = () => process.exit(signalCodes[reason])
    if (isLeaving) exit()
    isLeaving = true
    // A separate fiber, because the command's fiber cannot be interrupted while it stops.
    Effect.runFork(Effect.ensuring(Effect.timeoutOption(onStop.second, "1 second"), Effect.sync(exit)))
  }
  const program = Effect.withFiber<void, CliError.CliError | Failure>((fiber) => {
    const stop = (reason: keyof typeof signalCodes) => {
      if (stoppedBy !== undefined) return leave(reason)
      stoppedBy = reason
      fiber.interruptUnsafe()
      Effect.runFork(Effect.delay(Effect.suspend(() => onStop.slow), "1 second"))
    }
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stop(signal))
    // The reader closed the pipe, as `head` does. The turn is stopped without a message.
    process.stdout.on("error", () => {
      if (needsReader && stoppedBy === undefined) stop("SIGINT")
    })
    process.stderr.on("error", () => {})
    return run(process.argv.slice(2), version).pipe(
      Effect.provideService(Stop, {
        now: Effect.sync(() => stop("SIGINT")),
        onStop: (effects) =>
          Effect.sync(() => {
            onStop = effects
          }),
        outliveReader: Effect.sync(() => {
          needsReader = false
        })
      }),
      Effect.provide(layerServices)
    )
  })
  NodeRuntime.runMain(program, {
    disableErrorReporting: true,
    teardown: (exit) => process.exit(stoppedBy === undefined ? exitCode(exit) : signalCodes[stoppedBy])
  })
}

/**
 * Runs the command line with the given arguments, without managing the process. A failure has been printed before this fails.
 *
 * @category running
 * @since 0.1.0
 */
export const run = (
  args: ReadonlyArray<string>,
  version: string
): Effect.Effect<void, CliError.CliError | Failure, Command.Environment | Streams | Stop> =>
  Effect.flatMap(Streams, (streams) =>
    Command.runWith(root, { version })(args).pipe(
      Effect.provideService(CliOutput.Presenter, presenter(streams, args)),
      Effect.provideService(CliConfig.CliConfig, {
        builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions]
      }),
      Effect.tapCause((cause) => report(cause))
    ))

/**
 * The exit code of the process for an exit of `run`, unless a signal stopped it.
 *
 * @category running
 * @since 0.1.0
 */
export const exitCode = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit)) return 0
  if (Cause.hasInterruptsOnly(exit.cause)) return 130
  const error = Cause.squash(exit.cause)
  if (error instanceof Failure) return error.exitCode
  if (CliError.isCliError(error)) return error._tag === "ShowHelp" && error.errors.length === 0 ? 0 : 2
  return 1
}

// internal

const signalCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }

/** Prints one line for an error, without a stack trace: its reader did not write this program. */
const report = (cause: Cause.Cause<CliError.CliError | Failure>): Effect.Effect<void, never, Streams> => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.void
  const error = Cause.squash(cause)
  // The presenter has printed errors of the command line.
  if (CliError.isCliError(error) || (error instanceof Failure && error.reason === null)) return Effect.void
  const reason = error instanceof Failure ? error.message : `an unexpected error: ${messageOf(error)}`
  return Effect.flatMap(Streams, (streams) => streams.progress(`opencode-turn: ${line(reason)}\n`))
}

const messageOf = (error: unknown): string => (Predicate.isError(error) ? error.message : String(error))

const formatter = CliOutput.defaultFormatter({ colors: false })

/** Prints help to standard output, and an error of the command line as one line on standard error. */
const presenter = (streams: Streams["Service"], args: ReadonlyArray<string>): CliOutput.Presenter => ({
  present: (event) => {
    switch (event._tag) {
      case "Help": {
        const [, command] = event.commandPath
        return streams.answer(`${formatter.formatHelpDoc(event.helpDoc).trimEnd()}\n\n${Help.below(command)}\n`)
      }
      case "Version":
        return streams.answer(`${event.name} ${event.version}\n`)
      case "InvalidInvocation": {
        const [error] = event.errors
        return streams.progress(
          `opencode-turn: ${line(error === undefined ? "invalid" : describe(error, args))} (see ${
            event.commandPath.join(" ")
          } --help)\n`
        )
      }
    }
  }
})

/** A value that begins with `-` is read as a flag, so that the flag before it seems to have none. */
const describe = (error: CliError.CliError, args: ReadonlyArray<string>): string => {
  if (error._tag !== "InvalidValue" || error.kind !== "flag" || error.value !== "") return error.message
  const flag = `--${error.option}`
  const next = args[args.indexOf(flag) + 1]
  return args.includes(flag) && next !== undefined && /^-[^-]/.test(next)
    ? `${flag} is followed by ${next}, which is read as a flag: write a value that begins with - as ${flag}=${next}`
    : error.message
}

/** Prompts are drawn on standard error, so that standard output holds only the answer. */
const layerTerminal: Layer.Layer<Terminal.Terminal, never, Streams> = Layer.effect(
  Terminal.Terminal,
  Effect.gen(function*() {
    const streams = yield* Streams
    const terminal = yield* NodeTerminal.make(({ key }) => key.ctrl && (key.name === "c" || key.name === "d"))
    return Terminal.make({
      ...terminal,
      columns: Effect.sync(streams.columns),
      display: streams.progress
    })
  })
)

const layerServices = Layer.mergeAll(
  layerTerminal,
  NodeStdio.layer,
  NodeChildProcessSpawner.layer,
  // Keeps log lines out of the two streams.
  Logger.layer([]),
  Layer.effect(Prompt.Theme, Effect.map(Streams, ({ hasColor }) => Prompt.makeTheme({ colors: hasColor })))
).pipe(
  Layer.provideMerge(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, layerStreams))
)
