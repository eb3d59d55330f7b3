/**
 * Defines the flags and arguments that several commands share.
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as DurationText from "../live/DurationText.ts"

/** The URL of a running server. */
export const url = Flag.String("url").pipe(
  Flag.withMetavar("URL"),
  Flag.withDescription(
    "The URL of a running server (default: OPENCODE_BASE_URL; without it, the command starts a server)"
  ),
  Flag.optional
)

/** The project's folder; `more` extends the description for one command. */
export const directory = (more = "") =>
  Flag.String("directory").pipe(
    Flag.withMetavar("DIR"),
    Flag.withDescription(
      `The project's folder (default: OPENCODE_DIRECTORY, else the current folder, or the folder of the server at URL)${more}`
    ),
    Flag.optional
  )

/** The database of the conversations. */
export const database = Flag.String("database").pipe(
  Flag.withMetavar("FILE|URL"),
  Flag.withDescription(
    "The SQLite file of the conversations, or a PostgreSQL URL without a password (default: OPENCODE_TURN_DATABASE, see below)"
  ),
  Flag.optional
)

/** A port. */
export const port = (name: string) =>
  Flag.Int(name).pipe(
    Flag.filter((port) => port >= 0 && port <= 65_535, () => "a port: 0 to 65535"),
    Flag.withMetavar("PORT")
  )

/** The port of the page for Prometheus. */
export const metricsPort = port("metrics-port").pipe(
  Flag.withDescription(
    "Show the metrics to Prometheus at /metrics on this port of 127.0.0.1, without a token; 0 for any that is free"
  ),
  Flag.optional
)

/** A duration, such as `90s`. */
export const duration = (name: string) =>
  Flag.String(name).pipe(
    Flag.filterMap(DurationText.parse, () => `a duration above zero: ${DurationText.example}`),
    Flag.withMetavar("DURATION")
  )

/** The age of a turn, such as `30d`. A plain number is refused: a person who writes `5` means days. */
export const age = (name: string) =>
  Flag.String(name).pipe(
    Flag.filterMap(
      DurationText.parseWithUnit,
      () => `a duration above zero with its unit, such as 5d, 12h or "2 weeks"`
    ),
    Flag.withMetavar("DURATION")
  )

/** Switches the output to JSON. */
export const json = (description: string) =>
  Flag.Boolean("json").pipe(Flag.withoutNegation, Flag.withDescription(description), Flag.withDefault(false))

/** The id of a stored turn. */
export const message = Argument.String("message").pipe(
  Argument.filter((id) => id !== "", () => "the message is empty: name one"),
  Argument.withMetavar("MESSAGE"),
  Argument.withDescription("The turn's message, as list prints it")
)
