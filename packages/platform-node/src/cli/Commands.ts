/**
 * Puts the commands of `opencode-turn` together, with their arguments, flags and help.
 *
 * The code of a command is loaded when the command runs, so help does not load it.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { answerCommand, asksCommand } from "./AskCommands.ts"
import { mcpCommand } from "./McpCommand.ts"
import { compactCommand, forkCommand, revertCommand, unrevertCommand } from "./OperationCommands.ts"
import type { Services } from "./run/Run.ts"
import { runCommand } from "./RunCommand.ts"
import { linkCommand, serveCommand } from "./ServeCommand.ts"
import type { Failure } from "./setup/Failure.ts"
import type { Streams } from "./setup/Streams.ts"
import { listCommand, pruneCommand, showCommand } from "./StoreCommands.ts"
import { cancelCommand, resumeCommand, watchCommand } from "./TurnCommands.ts"

const demoCommand = Command.make(
  "demo",
  {
    web: Flag.Boolean("web").pipe(
      Flag.withoutNegation,
      Flag.withDescription("Shows a longer turn in the browser: prints a link, and runs until Ctrl-C"),
      Flag.withDefault(false)
    )
  },
  ({ web }): Effect.Effect<void, Failure, Services> =>
    web
      ? Effect.flatMap(Effect.promise(() => import("./run/DemoWeb.ts")), ({ demoWeb }) => demoWeb)
      : Effect.flatMap(Effect.promise(() => import("./run/Demo.ts")), ({ demo }) => demo)
).pipe(
  Command.withDescription(
    "Runs a turn on a real OpenCode server with a scripted model. It needs no key and no network, and leaves nothing behind."
  ),
  Command.withShortDescription("Run a demonstration turn without a key")
)

/** The exporters of telemetry. They take a while to load, and most commands have no collector. */
const telemetry: Layer.Layer<never, Failure, Streams> = Layer.unwrap(Effect.gen(function*() {
  const asked = yield* Effect.forEach(
    [
      "OTEL_EXPORTER_OTLP_ENDPOINT",
      "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
      "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
      "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
      "OTEL_SEMCONV_STABILITY_OPT_IN"
    ],
    // What cannot be read is told there.
    (name) => Effect.match(Config.option(Config.String(name)), { onFailure: () => true, onSuccess: Option.isSome })
  )
  if (!asked.includes(true)) return Layer.empty
  const { layer } = yield* Effect.promise(() => import("./setup/Telemetry.ts"))
  return layer
}))

/** The command line with its subcommands. */
export const root = Command.make("opencode-turn").pipe(
  Command.withDescription(
    "Drives one turn against an OpenCode server: one prompt and one answer. The stored turn survives crashes and restarts."
  ),
  Command.withSubcommands([
    runCommand,
    serveCommand,
    linkCommand,
    mcpCommand,
    resumeCommand,
    cancelCommand,
    watchCommand,
    forkCommand,
    revertCommand,
    unrevertCommand,
    compactCommand,
    asksCommand,
    answerCommand,
    listCommand,
    showCommand,
    pruneCommand,
    demoCommand
  ]),
  Command.provide(telemetry)
)
