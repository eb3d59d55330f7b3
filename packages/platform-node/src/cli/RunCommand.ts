/**
 * Defines the command `run` and its flags.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { database, directory, duration, json, url } from "./CommandFlags.ts"

const conversation = Flag.String("conversation").pipe(
  Flag.withMetavar("ID"),
  Flag.withDescription("The conversation to continue, or the name of a new one (default: a new conversation)"),
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
  Flag.withDescription("Additional instructions for the model, for this turn only"),
  Flag.optional
)

const tool = Flag.String("tool").pipe(
  Flag.withMetavar("NAME=false"),
  Flag.withDescription(
    "Takes a tool away for this turn (bash=false), or leaves only some (*=false, then read=true); the last match counts. Needs " +
      "--permission allow. May be given several times"
  ),
  Flag.atLeast(0)
)

const metadata = Flag.String("metadata").pipe(
  Flag.withMetavar("KEY=VALUE"),
  Flag.withDescription("Metadata for the session of a new conversation. May be given several times"),
  Flag.atLeast(0)
)

const permission = Flag.Literals("permission", ["ask", "store", "allow", "deny"]).pipe(
  Flag.withMetavar("ask|store|allow|deny"),
  Flag.withDescription("Who decides about permissions, see below (default: ask at a terminal, else deny)"),
  Flag.optional
)

const whenBusy = Flag.Literals("when-busy", ["queue", "reject", "replace"]).pipe(
  Flag.withMetavar("queue|reject|replace"),
  Flag.withDescription(
    "What to do while another turn of the conversation runs: wait for its end, fail, or cancel it (default: queue)"
  ),
  Flag.optional
)

const timeout = duration("timeout").pipe(
  Flag.withDescription(
    "How long the turn may take, for example 90s or 10m (default: no limit). The time in which it waits for you does not count"
  ),
  Flag.optional
)

const file = Flag.String("file").pipe(
  Flag.withMetavar("PATH"),
  Flag.withDescription("A file to send with the prompt: text, an image or a PDF. May be given several times"),
  Flag.atLeast(0)
)

const schema = Flag.String("schema").pipe(
  Flag.withMetavar("FILE"),
  Flag.withDescription(
    "A JSON Schema for the answer. The value is printed as JSON; all other text of the agent goes to standard error"
  ),
  Flag.optional
)

/** The command that runs one turn. */
export const runCommand = Command.make(
  "run",
  {
    url,
    directory: directory("; an existing conversation keeps its folder, and another folder is refused"),
    conversation,
    database,
    agent,
    model,
    system,
    tool,
    metadata,
    permission,
    whenBusy,
    timeout,
    file,
    schema,
    json: json("Print one JSON object per line instead, the last one of type turn.finished"),
    prompt: Argument.String("prompt").pipe(
      Argument.withMetavar("PROMPT"),
      Argument.withDescription("The task for the agent. Without it, or with -, the command reads standard input"),
      Argument.optional
    )
  },
  (input) =>
    Effect.flatMap(Effect.promise(() => import("./run/Run.ts")), ({ run }) =>
      run({
        url: Option.getOrUndefined(input.url),
        directory: Option.getOrUndefined(input.directory),
        conversation: Option.getOrUndefined(input.conversation),
        database: Option.getOrUndefined(input.database),
        agent: Option.getOrUndefined(input.agent),
        model: Option.getOrUndefined(input.model),
        system: Option.getOrUndefined(input.system),
        tools: input.tool,
        metadata: input.metadata,
        permission: Option.getOrUndefined(input.permission),
        whenBusy: Option.getOrUndefined(input.whenBusy),
        timeout: Option.getOrUndefined(input.timeout),
        files: input.file,
        schema: Option.getOrUndefined(input.schema),
        json: input.json,
        prompt: Option.getOrUndefined(input.prompt)
      }))
).pipe(
  Command.withDescription(
    "Runs one turn. The answer streams to standard output, everything else to standard error. Ctrl-C cancels the turn. A second " +
      "Ctrl-C while the turn is stopping leaves it unfinished, for resume."
  ),
  Command.withShortDescription("Run one turn"),
  Command.withExamples([
    { command: `opencode-turn run "Explain this repository"`, description: "Ask in this folder" },
    { command: `git diff | opencode-turn run --permission deny - > review.md`, description: "Keep only the answer" },
    {
      command: `opencode-turn run --conversation review "And now fix it"`,
      description: "Continue a conversation"
    },
    {
      command: `opencode-turn run --file design.png --file page.html "Make the page look like the design"`,
      description: "Send files with the prompt"
    },
    {
      command: `opencode-turn run --permission allow --tool bash=false --tool edit=false "Review this folder"`,
      description: "Let the agent read, and run and change nothing"
    },
    {
      command: `opencode-turn run --schema issues.schema.json "List the open issues" | jq .issues`,
      description: "Get a value instead of text"
    }
  ])
)
