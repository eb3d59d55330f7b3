/**
 * The commands of `opencode-turn`, with their arguments, flags and help.
 *
 * What a command does is loaded when it is run: help comes without.
 */
import { MessageStatus } from "@opencode-turn/core/StoredMessage"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as DurationText from "../internal/DurationText.ts"

const url = Flag.String("url").pipe(
  Flag.withMetavar("URL"),
  Flag.withDescription("A server that runs (default: OPENCODE_BASE_URL, else an own one is started)"),
  Flag.optional
)

const directory = Flag.String("directory").pipe(
  Flag.withMetavar("DIR"),
  Flag.withDescription(
    "The project's folder (default: OPENCODE_DIRECTORY, else this one, or that of the server at URL)"
  ),
  Flag.optional
)

const conversation = Flag.String("conversation").pipe(
  Flag.withMetavar("ID"),
  Flag.withDescription("The conversation to go on with, or to begin under this name (default: a new one)"),
  Flag.optional
)

const database = Flag.String("database").pipe(
  Flag.withMetavar("FILE|URL"),
  Flag.withDescription(
    "The SQLite file with the conversations, or a PostgreSQL URL without a password (default: OPENCODE_TURN_DATABASE, see below)"
  ),
  Flag.optional
)

const agent = Flag.String("agent").pipe(
  Flag.withMetavar("NAME"),
  Flag.withDescription("OpenCode's agent, for example build or plan"),
  Flag.optional
)

const model = Flag.String("model").pipe(
  Flag.withMetavar("PROVIDER/MODEL"),
  Flag.withDescription("The model, for example anthropic/claude-sonnet-4-5"),
  Flag.optional
)

const system = Flag.String("system").pipe(
  Flag.withMetavar("TEXT"),
  Flag.withDescription("Further instructions for the model, for this turn"),
  Flag.optional
)

const permission = Flag.Literals("permission", ["ask", "allow", "deny"]).pipe(
  Flag.withMetavar("ask|allow|deny"),
  Flag.withDescription("Who decides on what the agent wants to do, see below (default: ask at a terminal, else deny)"),
  Flag.optional
)

const whenBusy = Flag.Literals("when-busy", ["queue", "reject", "replace"]).pipe(
  Flag.withMetavar("queue|reject|replace"),
  Flag.withDescription(
    "While another turn of the conversation runs: wait for its end, fail, or cancel it (default: queue)"
  ),
  Flag.optional
)

const timeout = Flag.String("timeout").pipe(
  Flag.filterMap(DurationText.parse, () => `a duration: ${DurationText.example}`),
  Flag.withMetavar("DURATION"),
  Flag.withDescription(
    "How long the turn may take, for example 90s or 10m (default: 10m); waiting for you does not count"
  ),
  Flag.optional
)

const json = (description: string) =>
  Flag.Boolean("json").pipe(Flag.withoutNegation, Flag.withDescription(description), Flag.withDefault(false))

const runCommand = Command.make(
  "run",
  {
    url,
    directory,
    conversation,
    database,
    agent,
    model,
    system,
    permission,
    whenBusy,
    timeout,
    json: json("Print one JSON object per line instead, the last one of type turn.finished"),
    prompt: Argument.String("prompt").pipe(
      Argument.withMetavar("PROMPT"),
      Argument.withDescription("What the agent is to do; - or nothing reads standard input"),
      Argument.optional
    )
  },
  (input) =>
    Effect.flatMap(Effect.promise(() => import("./Run.ts")), ({ run }) =>
      run({
        url: Option.getOrUndefined(input.url),
        directory: Option.getOrUndefined(input.directory),
        conversation: Option.getOrUndefined(input.conversation),
        database: Option.getOrUndefined(input.database),
        agent: Option.getOrUndefined(input.agent),
        model: Option.getOrUndefined(input.model),
        system: Option.getOrUndefined(input.system),
        permission: Option.getOrUndefined(input.permission),
        whenBusy: Option.getOrUndefined(input.whenBusy),
        timeout: Option.getOrUndefined(input.timeout),
        json: input.json,
        prompt: Option.getOrUndefined(input.prompt)
      }))
).pipe(
  Command.withDescription(
    "Runs one turn: sends the prompt, streams the answer to standard output and all else to standard error. Ctrl-C cancels " +
      "the turn; a second one, while it still is stopping, leaves it to resume."
  ),
  Command.withShortDescription("Run one turn"),
  Command.withExamples([
    { command: `opencode-turn run "Explain this repository"`, description: "Ask in this folder" },
    { command: `git diff | opencode-turn run --permission deny - > review.md`, description: "Keep just the answer" },
    {
      command: `opencode-turn run --conversation review "And now fix it"`,
      description: "Go on with a conversation"
    }
  ])
)

const showCommand = Command.make(
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
      Effect.promise(() => import("./Show.ts")),
      ({ show }) =>
        show({ database: Option.getOrUndefined(input.database), json: input.json, conversation: input.conversation })
    )
).pipe(
  Command.withDescription("Prints what is stored of a conversation: prompts, answers, status, tools, cost and time."),
  Command.withShortDescription("Print a stored conversation")
)

const message = Argument.String("message").pipe(
  Argument.filter((id) => id !== "", () => "the message is empty: name one"),
  Argument.withMetavar("MESSAGE"),
  Argument.withDescription("The turn's message, as list prints it")
)

const resumeCommand = Command.make(
  "resume",
  {
    url,
    directory,
    database,
    permission: Flag.Literals("permission", ["allow", "deny"]).pipe(
      Flag.withMetavar("allow|deny"),
      Flag.withDescription("What becomes of what the agent asks: nobody is at a terminal here (default: deny)"),
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
    Effect.flatMap(Effect.promise(() => import("./Resume.ts")), ({ resume }) =>
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

const cancelCommand = Command.make(
  "cancel",
  {
    url: Flag.String("url").pipe(
      Flag.withMetavar("URL"),
      Flag.withDescription("The server to ask where the turn's owner is gone (default: OPENCODE_BASE_URL, else none)"),
      Flag.optional
    ),
    directory,
    database,
    json: json("Print the message as a JSON object instead"),
    message
  },
  (input) =>
    Effect.flatMap(Effect.promise(() => import("./Cancel.ts")), ({ cancel }) =>
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

const watchCommand = Command.make(
  "watch",
  { database, json: json("Print a snapshot object per change, and turn.finished last, instead"), message },
  (input) =>
    Effect.flatMap(
      Effect.promise(() => import("./Watch.ts")),
      ({ watch }) =>
        watch({ database: Option.getOrUndefined(input.database), json: input.json, message: input.message })
    )
).pipe(
  Command.withDescription(
    "Shows a turn that runs elsewhere up to its end, and ends as run does. Ctrl-C stops watching; the turn goes on."
  ),
  Command.withShortDescription("Watch a turn that runs elsewhere")
)

const listCommand = Command.make(
  "list",
  {
    database,
    status: Flag.Literals("status", MessageStatus.literals).pipe(
      Flag.withMetavar("STATUS"),
      Flag.withDescription("Only turns of this status"),
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
    Effect.flatMap(Effect.promise(() => import("./List.ts")), ({ list }) =>
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

const pruneCommand = Command.make(
  "prune",
  {
    database,
    olderThan: Flag.String("older-than").pipe(
      Flag.filterMap(DurationText.parse, () => `a duration: ${DurationText.example}`),
      Flag.withMetavar("DURATION"),
      Flag.withDescription("How long ago a turn must have ended, for example 30d")
    ),
    json: json("Print the number as a JSON object instead")
  },
  (input) =>
    Effect.flatMap(
      Effect.promise(() => import("./Prune.ts")),
      ({ prune }) =>
        prune({ database: Option.getOrUndefined(input.database), olderThan: input.olderThan, json: input.json })
    )
).pipe(
  Command.withDescription(
    "Deletes the turns that ended long ago. Those that run or wait stay, and so do OpenCode's sessions."
  ),
  Command.withShortDescription("Delete old turns")
)

const demoCommand = Command.make(
  "demo",
  {},
  () => Effect.flatMap(Effect.promise(() => import("./Demo.ts")), ({ demo }) => demo)
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
    listCommand,
    showCommand,
    pruneCommand,
    demoCommand
  ])
)
