/**
 * The command line in this process: its start costs a third of a second each time, which most tests do not need.
 */
import { Stop } from "#cli/setup/Stop"
import { Streams } from "#cli/setup/Streams"
import * as Cli from "@opencode-turn/platform-node/Cli"
import { ConfigProvider, Effect, Layer, Logger, Stdio } from "effect"
import type { Command } from "effect/cli"
import type { Finished } from "./CliProcess.ts"

/** Runs the command line to its end, with these settings alone and an empty standard input. */
export const cli = (
  args: ReadonlyArray<string>,
  { env = {} }: { readonly env?: Record<string, string> } = {}
): Effect.Effect<Finished, never, Command.Environment> =>
  Effect.suspend(() => {
    const texts = { stdout: "", stderr: "" }
    const write = (name: "stdout" | "stderr") => (text: string) =>
      Effect.sync(() => {
        texts[name] += text
      })
    const services = Layer.mergeAll(
      Layer.succeed(
        Streams,
        Streams.of({
          answer: write("stdout"),
          progress: write("stderr"),
          aside: write("stderr"),
          holdAsides: Effect.void,
          isShared: false,
          isScreen: false,
          hasColor: false,
          columns: () => 100
        })
      ),
      Layer.succeed(Stop, Stop.of({ now: Effect.interrupt, onStop: () => Effect.void, outliveReader: Effect.void })),
      Stdio.layerTest({}),
      ConfigProvider.layer(ConfigProvider.fromEnvRecord({ HOME: "/nowhere", ...env })),
      Logger.layer([])
    )
    return Cli.run(args, "0.0.0").pipe(
      Effect.provide(services),
      Effect.exit,
      Effect.map((exit) => ({ code: Cli.exitCode(exit), signal: null, ...texts }))
    )
  })
