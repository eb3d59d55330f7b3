/**
 * Defines the commands that read and prune the store: `list`, `show` and `prune`.
 */
import { MessageStatus } from "@opencode-turn/core/StoredMessage"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { age, database, json } from "./CommandFlags.ts"

/** The command that lists stored turns. */
export const listCommand = Command.make(
  "list",
  {
    database,
    status: Flag.Literals("status", MessageStatus.literals).pipe(
      Flag.withMetavar("STATUS"),
      Flag.withDescription("List only turns of this status. A turn that failed is stored as error"),
      Flag.optional
    ),
    limit: Flag.Int("limit").pipe(
      Flag.filter((limit) => limit > 0, () => "a number above zero"),
      Flag.withMetavar("N"),
      Flag.withDescription("The maximum number of turns (default: 20)"),
      Flag.withDefault(20)
    ),
    json: json("Print one JSON object per message instead")
  },
  (input) =>
    Effect.flatMap(Effect.promise(() => import("./run/List.ts")), ({ list }) =>
      list({
        database: Option.getOrUndefined(input.database),
        status: Option.getOrUndefined(input.status),
        limit: input.limit,
        json: input.json
      }))
).pipe(
  Command.withDescription("Lists the stored turns, newest first, with message, status, conversation, age and prompt."),
  Command.withShortDescription("List the stored turns")
)

/** The command that prints a conversation. */
export const showCommand = Command.make(
  "show",
  {
    database,
    json: json("Print one JSON object per message instead"),
    conversation: Argument.String("conversation").pipe(
      Argument.withMetavar("CONVERSATION"),
      Argument.withDescription("The conversation, as run prints it at its end")
    )
  },
  (input) =>
    Effect.flatMap(
      Effect.promise(() => import("./run/Show.ts")),
      ({ show }) =>
        show({ database: Option.getOrUndefined(input.database), json: input.json, conversation: input.conversation })
    )
).pipe(
  Command.withDescription("Prints a stored conversation: its prompts, answers, statuses, tools, cost and time."),
  Command.withShortDescription("Print a stored conversation")
)

/** The command that deletes old turns. */
export const pruneCommand = Command.make(
  "prune",
  {
    database,
    olderThan: age("older-than").pipe(
      Flag.withDescription("The minimum time since the end of a turn, with its unit, for example 30d or 12h")
    ),
    json: json("Print the number as a JSON object instead")
  },
  (input) =>
    Effect.flatMap(
      Effect.promise(() => import("./run/Prune.ts")),
      ({ prune }) =>
        prune({ database: Option.getOrUndefined(input.database), olderThan: input.olderThan, json: input.json })
    )
).pipe(
  Command.withDescription(
    "Deletes turns that ended long ago. Running and queued turns stay, and so do OpenCode's sessions."
  ),
  Command.withShortDescription("Delete old turns")
)
