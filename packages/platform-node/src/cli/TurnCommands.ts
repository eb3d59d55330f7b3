/**
 * The commands for turns that other processes run, ran or left.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { database, directory, json, message, url } from "./CommandFlags.ts"

/** Carries on the turns that were left. */
export const resumeCommand = Command.make(
  "resume",
  {
    url,
    directory: directory(),
    database,
    permission: Flag.Literals("permission", ["store", "allow", "deny"]).pipe(
      Flag.withMetavar("store|allow|deny"),
      Flag.withDescription(
        "What becomes of what the agent asks: kept for opencode-turn answer, allowed, refused (default: deny)"
      ),
      Flag.withDefault("deny")
    ),
    worker: Flag.Boolean("worker").pipe(
      Flag.withoutNegation,
      Flag.withDescription("Go on looking for such turns until Ctrl-C; what is not done then is left to the next one"),
      Flag.withDefault(false)
    ),
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
        json: input.json
      }))
).pipe(
  Command.withDescription(
    "Carries every turn whose process died, or let it go, to its end, and prints a line for each. One server does them all, " +
      "each in its own folder: the one at URL, else one that is started if there is something to resume. It must know their " +
      "sessions, as any server of the same user on the same machine does."
  ),
  Command.withShortDescription("Carry on the turns that were left")
)

/** Cancels a turn. */
export const cancelCommand = Command.make(
  "cancel",
  {
    url: Flag.String("url").pipe(
      Flag.withMetavar("URL"),
      Flag.withDescription("The server to ask where the turn's owner is gone (default: OPENCODE_BASE_URL, else none)"),
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
    "Cancels a turn, wherever it runs. Whoever runs it stops the agent; where nobody does, the server at URL is asked to, if " +
      "one is named and can be reached."
  ),
  Command.withShortDescription("Cancel a turn")
)

/** Shows a turn that runs elsewhere. */
export const watchCommand = Command.make(
  "watch",
  { database, json: json("Print a snapshot object per change, and turn.finished last, instead"), message },
  (input) =>
    Effect.flatMap(
      Effect.promise(() => import("./run/Watch.ts")),
      ({ watch }) =>
        watch({ database: Option.getOrUndefined(input.database), json: input.json, message: input.message })
    )
).pipe(
  Command.withDescription(
    "Shows a turn that runs elsewhere up to its end, and ends as run does. Ctrl-C stops watching; the turn goes on."
  ),
  Command.withShortDescription("Watch a turn that runs elsewhere")
)
