/**
 * The flags and arguments that several commands have.
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as DurationText from "../live/DurationText.ts"

/** A server that runs. */
export const url = Flag.String("url").pipe(
  Flag.withMetavar("URL"),
  Flag.withDescription("A server that runs (default: OPENCODE_BASE_URL, else an own one is started)"),
  Flag.optional
)

/** The project's folder, with what its command has to say about it. */
export const directory = (more = "") =>
  Flag.String("directory").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription(
      `The project's folder (default: OPENCODE_DIRECTORY, else this one, or that of the server at URL)${more}`
    ),
    Flag.optional
  )

/** Where conversations are kept. */
export const database = Flag.String("database").pipe(
  Flag.withMetavar("FILE|URL"),
  Flag.withDescription(
    "The SQLite file with the conversations, or a PostgreSQL URL without a password (default: OPENCODE_TURN_DATABASE, see below)"
  ),
  Flag.optional
)

/** A duration, as people write it. */
export const duration = (name: string) =>
  Flag.String(name).pipe(
    Flag.filterMap(DurationText.parse, () => `a duration: ${DurationText.example}`),
    Flag.withMetavar("DURATION")
  )

/** What is printed as JSON. */
export const json = (description: string) =>
  Flag.Boolean("json").pipe(Flag.withoutNegation, Flag.withDescription(description), Flag.withDefault(false))

/** A stored turn. */
export const message = Argument.String("message").pipe(
  Argument.filter((id) => id !== "", () => "the message is empty: name one"),
  Argument.withMetavar("MESSAGE"),
  Argument.withDescription("The turn's message, as list prints it")
)
