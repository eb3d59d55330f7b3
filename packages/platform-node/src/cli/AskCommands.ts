/**
 * Defines the commands `asks` and `answer`.
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { database, json } from "./CommandFlags.ts"

/** The command that lists open asks. */
export const asksCommand = Command.make(
  "asks",
  {
    database,
    conversation: Flag.String("conversation").pipe(
      Flag.withMetavar("ID"),
      Flag.withDescription("List only the asks of this conversation"),
      Flag.optional
    ),
    json: json("Print one JSON object per ask instead")
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
    "Lists the open asks of turns that run with --permission store, oldest first. Each question takes one line: the ask, its " +
      "conversation, its age, the subagent that asks (if one does), and the text."
  ),
  Command.withShortDescription("List open asks")
)

/** The command that answers an ask. */
export const answerCommand = Command.make(
  "answer",
  {
    database,
    allow: Flag.Literals("allow", ["once", "always"]).pipe(
      Flag.withMetavar("once|always"),
      Flag.withDescription("Grant the permission, once or from now on"),
      Flag.optional
    ),
    reject: Flag.String("reject").pipe(
      Flag.withOptionalValue(""),
      Flag.withMetavar("MESSAGE"),
      Flag.withDescription(
        "Refuse a permission or dismiss a question. --reject=MESSAGE tells the agent why and lets it go on; --reject stops it"
      ),
      Flag.optional
    ),
    answer: Flag.String("answer").pipe(
      Flag.withMetavar("TEXT"),
      Flag.withDescription(
        "The label of an option, or any text where the question allows it. Give the flag once for each question, in order. " +
          "Separate several labels with commas where the question takes several"
      ),
      Flag.atLeast(0)
    ),
    json: json("Print the ask as a JSON object instead"),
    ask: Argument.String("ask").pipe(
      Argument.filter((id) => id !== "", () => "the ask is empty: name one"),
      Argument.withMetavar("ASK"),
      Argument.withDescription("The ask, as asks prints it")
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
        ask: input.ask
      }))
).pipe(
  Command.withDescription(
    "Answers an ask from any process. Its turn goes on at once, or when it is resumed. Without an answer on the command line, " +
      "the command asks you at the terminal."
  ),
  Command.withShortDescription("Answer an ask"),
  Command.withExamples([
    { command: "opencode-turn answer per_1a2b --allow once", description: "Grant a permission" },
    { command: `opencode-turn answer per_1a2b "--reject=Use pnpm, not npm"`, description: "Refuse it, and say why" },
    { command: `opencode-turn answer que_3c4d --answer "The second one"`, description: "Answer a question" }
  ])
)
