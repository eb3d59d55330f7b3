/**
 * The command line `opencode-turn`: its help, and how a command ends.
 *
 * *Responsibilities*: help, one line for what goes wrong, exit codes, signals.
 *
 * *Not responsibilities*: what can be written on the command line (`cli/Commands`), what the commands do (`cli/`, loaded when
 * they are needed).
 *
 * | exit code | meaning |
 * |---|---|
 * | 0 | the turn completed |
 * | 1 | an error, a turn that failed, or stored rows that cannot be read (the others are printed) |
 * | 2 | the command line or a setting cannot be used |
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
import * as OutputStreams from "./setup/Streams.ts"
import { Output } from "./setup/Streams.ts"

/**
 * Runs the command line as the main program of this process, and ends it.
 *
 * **Details**
 *
 * The first `SIGINT`, `SIGTERM` or `SIGHUP` stops the turn as a person would: the session is aborted, what was streamed is
 * stored as cancelled, a server of our own is ended. A second one ends the process at once, and a turn that is still being
 * stopped stays unfinished, for a later `resume`.
 *
 * @category running
 * @since 0.1.0
 */
export const main = (version: string): void => {
  let stoppedBy: keyof typeof signalCodes | undefined
  let isLeaving = false
  let onStop = { slow: Effect.void, second: Effect.void }
  const leave = (reason: keyof typeof signalCodes) => {
    const exit = () => process.exit(signalCodes[reason])
    if (isLeaving) exit()
    isLeaving = true
    // Apart from the fiber of the command, which cannot be interrupted while it stops.
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
    // Nobody reads on: `head` has seen enough. The turn is stopped, and nothing is said about it.
    process.stdout.on("error", () => {
      if (stoppedBy === undefined) stop("SIGINT")
    })
    process.stderr.on("error", () => {})
    return run(process.argv.slice(2), version).pipe(
      Effect.provideService(Stop, {
        now: Effect.sync(() => stop("SIGINT")),
        onStop: (effects) =>
          Effect.sync(() => {
            onStop = effects
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
 * The command line for the given arguments, without a process around it. What went wrong has been printed when it fails.
 *
 * @category running
 * @since 0.1.0
 */
export const run = (
  args: ReadonlyArray<string>,
  version: string
): Effect.Effect<void, CliError.CliError | Failure, Command.Environment | Output | Stop> =>
  Effect.flatMap(Output, (output) =>
    Command.runWith(root, { version })(args).pipe(
      Effect.provideService(CliOutput.Presenter, presenter(output)),
      Effect.provideService(CliConfig.CliConfig, {
        builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions]
      }),
      Effect.tapCause((cause) => report(cause))
    ))

/**
 * The code that a process ends with for this end of `run`, unless a signal stopped it.
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

/** One line for what went wrong, without a stack: the person at the terminal did not write this program. */
const report = (cause: Cause.Cause<CliError.CliError | Failure>): Effect.Effect<void, never, Output> => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.void
  const error = Cause.squash(cause)
  // What is wrong with the command line has been presented.
  if (CliError.isCliError(error) || (error instanceof Failure && error.reason === null)) return Effect.void
  const reason = error instanceof Failure ? error.message : `an unexpected error: ${messageOf(error)}`
  return Effect.flatMap(Output, (output) => output.progress(`opencode-turn: ${line(reason)}\n`))
}

const messageOf = (error: unknown): string => (Predicate.isError(error) ? error.message : String(error))

const formatter = CliOutput.defaultFormatter({ colors: false })

/** Help goes to standard output, and what is wrong with a command line is one line on standard error. */
const presenter = (output: Output["Service"]): CliOutput.Presenter => ({
  present: (event) => {
    switch (event._tag) {
      case "Help": {
        const [, command] = event.commandPath
        return output.answer(`${formatter.formatHelpDoc(event.helpDoc).trimEnd()}\n\n${Help.below(command)}\n`)
      }
      case "Version":
        return output.answer(`${event.name} ${event.version}\n`)
      case "InvalidInvocation": {
        const [error] = event.errors
        return output.progress(
          `opencode-turn: ${line(error?.message ?? "invalid")} (see ${event.commandPath.join(" ")} --help)\n`
        )
      }
    }
  }
})

/** Prompts are drawn on standard error, so that standard output holds the answer alone. */
const layerTerminal: Layer.Layer<Terminal.Terminal, never, Output> = Layer.effect(
  Terminal.Terminal,
  Effect.gen(function*() {
    const output = yield* Output
    const terminal = yield* NodeTerminal.make(({ key }) => key.ctrl && (key.name === "c" || key.name === "d"))
    return Terminal.make({
      ...terminal,
      columns: Effect.sync(output.columns),
      display: output.progress
    })
  })
)

const layerServices = Layer.mergeAll(
  layerTerminal,
  NodeStdio.layer,
  NodeChildProcessSpawner.layer,
  // Nothing but what is printed on purpose may reach the streams.
  Logger.layer([]),
  Layer.effect(Prompt.Theme, Effect.map(Output, ({ hasColor }) => Prompt.makeTheme({ colors: hasColor })))
).pipe(
  Layer.provideMerge(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, OutputStreams.layer))
)
