/**
 * Defines the commands for turns of other processes: `resume`, `cancel` and `watch`.
 */
import { isOffset } from "@opencode-turn/core/AttachTurn"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { database, directory, json, message, metricsPort, url } from "./CommandFlags.ts"

/** The command that resumes orphaned turns. */
export const resumeCommand = Command.make(
  "resume",
  {
    url,
    directory: directory(),
    database,
    permission: Flag.Literals("permission", ["store", "allow", "deny"]).pipe(
      Flag.withMetavar("store|allow|deny"),
      Flag.withDescription(
        "What happens to the agent's asks: kept for opencode-turn answer, allowed, or refused (default: deny)"
      ),
      Flag.withDefault("deny")
    ),
    worker: Flag.Boolean("worker").pipe(
      Flag.withoutNegation,
      Flag.withDescription(
        "Keep looking for such turns until Ctrl-C. Unfinished turns are then left to the next resume"
      ),
      Flag.withDefault(false)
    ),
    metricsPort,
    json: json("Print the turn.finished line of each turn instead")
  },
  (input) =>
    Effect.flatMap(Effect.promise(() => import("./run/Resume.ts")), ({ resume }) =>
      resume({
        url: Option.getOrUndefined(input.url),
        directory: Option.getOrUndefined(input.directory),
        database: Option.getOrUndefined(input.database),
        permission: input.permission,
        worker: input.worker,
        metricsPort: Option.getOrUndefined(input.metricsPort),
        json: input.json
      }))
).pipe(
  Command.withDescription(
    "Carries every turn to its end whose process died or gave it up, and prints one line for each. One server runs them all, each " +
      "in its own folder: the server at URL, or else a server that the command starts if there is a turn to resume. The server must " +
      "know their sessions, as every server of the same user on the same machine does."
  ),
  Command.withShortDescription("Resume turns that lost their process")
)

/** The command that cancels a turn. */
export const cancelCommand = Command.make(
  "cancel",
  {
    url: Flag.String("url").pipe(
      Flag.withMetavar("URL"),
      Flag.withDescription("The server to ask if the turn's owner is gone (default: OPENCODE_BASE_URL, else none)"),
      Flag.optional
    ),
    directory: directory(),
    database,
    json: json("Print the message as a JSON object instead"),
    message
  },
  (input) =>
    Effect.flatMap(Effect.promise(() => import("./run/Cancel.ts")), ({ cancel }) =>
      cancel({
        url: Option.getOrUndefined(input.url),
        directory: Option.getOrUndefined(input.directory),
        database: Option.getOrUndefined(input.database),
        json: input.json,
        message: input.message
      }))
).pipe(
  Command.withDescription(
    "Cancels a turn of any process. Its owner stops the agent. If the owner is gone, the command asks the server at URL to stop the " +
      "agent, if a URL is set and the server can be reached."
  ),
  Command.withShortDescription("Cancel a turn")
)

/** The command that shows a turn of another process. */
export const watchCommand = Command.make(
  "watch",
  {
    database,
    from: Flag.String("from").pipe(
      Flag.filter(isOffset, (from) => `${JSON.stringify(from)} is no offset: take it from a line of watch --json`),
      Flag.withMetavar("OFFSET"),
      Flag.withDescription("Show only what followed this offset of an earlier --json line"),
      Flag.optional
    ),
    json: json("Print the lines of run --json instead, each with its offset, and turn.finished last"),
    message
  },
  (input) =>
    Effect.flatMap(
      Effect.promise(() => import("./run/Watch.ts")),
      ({ watch }) =>
        watch({
          database: Option.getOrUndefined(input.database),
          json: input.json,
          from: Option.getOrUndefined(input.from),
          message: input.message
        })
    )
).pipe(
  Command.withDescription(
    "Shows a turn of another process until it ends, and exits as run does. Ctrl-C stops watching; the turn goes on."
  ),
  Command.withShortDescription("Watch a turn of another process")
)
