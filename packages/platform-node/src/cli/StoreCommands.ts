/**
 * The commands for what is stored.
 */
import { MessageStatus } from "@opencode-turn/core/StoredMessage"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { database, duration, json } from "./CommandFlags.ts"

/** Lists the turns. */
export const listCommand = Command.make(
  "list",
  {
    database,
    status: Flag.Literals("status", MessageStatus.literals).pipe(
      Flag.withMetavar("STATUS"),
      Flag.withDescription("Only turns of this status; a turn that failed is stored as error"),
      Flag.optional
    ),
    limit: Flag.Int("limit").pipe(
      Flag.filter((limit) => limit > 0, () => "a number above zero"),
      Flag.withMetavar("N"),
      Flag.withDescription("At most so many (default: 20)"),
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
  Command.withDescription("Lists the stored turns, newest first: message, status, conversation, age, prompt."),
  Command.withShortDescription("List the stored turns")
)

/** Prints a conversation. */
export const showCommand = Command.make(
  "show",
  {
    database,
    json: json("Print one JSON object per message instead"),
    conversation: Argument.String("conversation").pipe(
      Argument.withMetavar("CONVERSATION"),
      Argument.withDescription("The name of the conversation, as run prints it at its end")
    )
  },
  (input) =>
    Effect.flatMap(
      Effect.promise(() => import("./run/Show.ts")),
      ({ show }) =>
        show({ database: Option.getOrUndefined(input.database), json: input.json, conversation: input.conversation })
    )
).pipe(
  Command.withDescription("Prints what is stored of a conversation: prompts, answers, status, tools, cost and time."),
  Command.withShortDescription("Print a stored conversation")
)

/** Deletes old turns. */
export const pruneCommand = Command.make(
  "prune",
  {
    database,
    olderThan: duration("older-than").pipe(
      Flag.withDescription("How long ago a turn must have ended, for example 30d")
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
    "Deletes the turns that ended long ago. Those that run or wait stay, and so do OpenCode's sessions."
  ),
  Command.withShortDescription("Delete old turns")
)
