/**
 * The commands of `opencode-turn`, with their arguments, flags and help.
 *
 * What a command does is loaded when it is run: help comes without.
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { answerCommand, asksCommand } from "./AskCommands.ts"
import { runCommand } from "./RunCommand.ts"
import { listCommand, pruneCommand, showCommand } from "./StoreCommands.ts"
import { cancelCommand, resumeCommand, watchCommand } from "./TurnCommands.ts"

const demoCommand = Command.make(
  "demo",
  {},
  () => Effect.flatMap(Effect.promise(() => import("./run/Demo.ts")), ({ demo }) => demo)
).pipe(
  Command.withDescription(
    "Runs a turn on a real OpenCode server with a scripted model: no key, no network, nothing left behind."
  ),
  Command.withShortDescription("Watch a turn without a key")
)

/** The command line with its subcommands. */
export const root = Command.make("opencode-turn").pipe(
  Command.withDescription(
    "Drives one turn against an OpenCode server: one prompt, one answer, carried to a durable end."
  ),
  Command.withSubcommands([
    runCommand,
    resumeCommand,
    cancelCommand,
    watchCommand,
    asksCommand,
    answerCommand,
    listCommand,
    showCommand,
    pruneCommand,
    demoCommand
  ])
)
