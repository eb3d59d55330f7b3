/**
 * The failure of a command: an exit code, and one line for standard error.
 */
import { detailsOf } from "@opencode-turn/core/TurnError"
import * as Schema from "effect/Schema"

/** A failed command. Exit code 1 is an error, 2 an invalid command line, 130 a cancelled turn. Without a `reason` nothing is printed. */
export class Failure extends Schema.TaggedError<Failure>()("CliFailure", {
  exitCode: Schema.Int,
  /** The kind of the error. */
  tag: Schema.String,
  reason: Schema.NullOr(Schema.String),
  /** The fields of the underlying error. */
  details: Schema.optionalKey(Schema.JsonObject)
}) {
  override get message() {
    return this.reason ?? `exit code ${this.exitCode}`
  }
}

/** An error in a form for people and programs. */
export interface Told {
  readonly _tag: string
  readonly message: string
  /** The fields of an error that was read from the store. */
  readonly details?: Schema.JsonObject | undefined
}

/** The fields of an error as data. */
export const factsOf = (error: Told): Schema.JsonObject => error.details ?? detailsOf(error)

/** The command line is invalid. */
export const usage = (reason: string): Failure => new Failure({ exitCode: 2, tag: "InvalidUsage", reason })

/** The command line is valid, but the command failed. */
export const failed = (reason: string, tag = "CommandFailed"): Failure => new Failure({ exitCode: 1, tag, reason })

/** The command failed with this error. */
export const fromError = (error: Told): Failure =>
  new Failure({ exitCode: 1, tag: error._tag, reason: describe(error), details: factsOf(error) })

/** The error's message, with advice where the error itself gives none. */
export const describe = (error: Told): string => {
  const advice = adviceFor(error)
  return advice === undefined ? error.message : `${error.message.replace(/\.$/, "")}. ${advice}`
}

// internal

const moreTime = "Allow more time with --timeout"

const again = "Send the prompt again, or begin another --conversation"

const adviceFor = (error: Told): string | undefined => {
  const facts = factsOf(error)
  switch (error._tag) {
    case "TransportError":
    case "StreamLost":
      return "Check that the server runs there, or leave the URL out: a server of its own is started then"
    case "RequestTimeout":
      return "Check the server, or allow more time with OPENCODE_TIMEOUT"
    case "BudgetExceeded":
      return facts["limit"] === "wallClock" ? moreTime : undefined
    case "TurnInProgress":
      return "Wait for its end, also with --when-busy queue, or choose another --conversation"
    case "Upstream":
      return isRefusal(facts)
        ? "Check the credentials of the model's provider (opencode auth login)"
        : facts["limit"] === "wallClock"
        ? moreTime
        : undefined
    case "UnsupportedOperation":
      return facts["field"] === "permission"
        ? "Let its configuration ask (opencode-turn run --help shows how), or choose --permission allow: its own rules decide then, and whatever they ask about is allowed"
        : facts["field"] === "tools"
        ? "Leave --tool out, and choose an --agent that does not have the tools"
        : undefined
    case "UnknownAsk":
      return "opencode-turn asks lists those that wait for an answer"
    case "EmptyStream":
      return facts["finish"] === "length"
        ? "Ask for a shorter answer, or give the model a higher output limit"
        : again
    case "StaleSession":
    case "TurnTimeout":
    case "TurnUnfinished":
      return again
    default:
      return undefined
  }
}

const isRefusal = ({ name, statusCode }: Schema.JsonObject): boolean =>
  name === "ProviderAuthError" || statusCode === 401 || statusCode === 403
