/**
 * Defines the command `mcp` and its flags.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { database, directory, url } from "./CommandFlags.ts"

/** The command that gives other agents tools over MCP. */
export const mcpCommand = Command.make(
  "mcp",
  {
    url,
    directory: directory(),
    database,
    permission: Flag.Literals("permission", ["store", "allow", "deny"]).pipe(
      Flag.withMetavar("store|allow|deny"),
      Flag.withDescription(
        "What happens to the agent's asks: told to the other agent and kept for an answer, allowed, or refused (default: store)"
      ),
      Flag.withDefault("store")
    )
  },
  (input) =>
    Effect.flatMap(Effect.promise(() => import("./run/Mcp.ts")), ({ mcp }) =>
      mcp({
        url: Option.getOrUndefined(input.url),
        directory: Option.getOrUndefined(input.directory),
        database: Option.getOrUndefined(input.database),
        permission: input.permission
      }))
).pipe(
  Command.withDescription(
    "Gives other agents the tools run_turn, attach, cancel, answer and list over MCP, on standard input and output. An agent starts this " +
      "command itself, see docs/MCP.md. When the agent goes away, its turns go on to their ends, or until they wait for an answer."
  ),
  Command.withShortDescription("Serve turns to other agents over MCP")
)
