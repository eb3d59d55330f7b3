/**
 * The commands for what agents ask.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { database, json } from "./CommandFlags.ts"

/** Lists what waits for an answer. */
export const asksCommand = Command.make(
  "asks",
  {
    database,
    conversation: Flag.String("conversation").pipe(
      Flag.withMetavar("ID"),
      Flag.withDescription("Only what is asked in this conversation"),
      Flag.optional
    ),
    json: json("Print one JSON object per request instead")
  },
  (input) =>
    Effect.flatMap(Effect.promise(() => import("./run/Asks.ts")), ({ asks }) =>
      asks({
        database: Option.getOrUndefined(input.database),
        conversation: Option.getOrUndefined(input.conversation),
        json: input.json
      }))
).pipe(
  Command.withDescription(
    "Lists what agents ask in turns that run with --permission store, oldest first, a line for each question: request, " +
      "conversation, age, who asks where it is a subagent, what is asked."
  ),
  Command.withShortDescription("List what waits for an answer")
)

/** Answers it. */
export const answerCommand = Command.make(
  "answer",
  {
    database,
    allow: Flag.Literals("allow", ["once", "always"]).pipe(
      Flag.withMetavar("once|always"),
      Flag.withDescription("Give the permission, for this once or from now on"),
      Flag.optional
    ),
    reject: Flag.String("reject").pipe(
      Flag.withOptionalValue(""),
      Flag.withMetavar("MESSAGE"),
      Flag.withDescription(
        "Refuse a permission or dismiss a question; the agent goes on with the message of --reject=MESSAGE, and is stopped without"
      ),
      Flag.optional
    ),
    answer: Flag.String("answer").pipe(
      Flag.withMetavar("TEXT"),
      Flag.withDescription(
        "The label of an option or, where that is allowed, any text; once for each question in its order. Several labels, " +
          "where a question takes them, with commas between"
      ),
      Flag.atLeast(0)
    ),
    json: json("Print the request as a JSON object instead"),
    request: Argument.String("request").pipe(
      Argument.filter((id) => id !== "", () => "the request is empty: name one"),
      Argument.withMetavar("REQUEST"),
      Argument.withDescription("The request, as asks prints it")
    )
  },
  (input) =>
    Effect.flatMap(Effect.promise(() => import("./run/Answer.ts")), ({ answer }) =>
      answer({
        database: Option.getOrUndefined(input.database),
        allow: Option.getOrUndefined(input.allow),
        reject: Option.getOrUndefined(input.reject),
        answers: input.answer,
        json: input.json,
        request: input.request
      }))
).pipe(
  Command.withDescription(
    "Answers what an agent asks, from any process: its turn goes on at once, or when somebody resumes it. At a terminal, and " +
      "without an answer on the command line, asks you."
  ),
  Command.withShortDescription("Answer what an agent asks"),
  Command.withExamples([
    { command: "opencode-turn answer per_1a2b --allow once", description: "Give a permission" },
    { command: `opencode-turn answer per_1a2b "--reject=Use pnpm, not npm"`, description: "Refuse it, and say why" },
    { command: `opencode-turn answer que_3c4d --answer "The second one"`, description: "Answer a question" }
  ])
)
