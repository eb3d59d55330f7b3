/**
 * What both lines share of a tool call: the outcome that a test gives it, and what a shell prints.
 *
 * **Not responsibilities**: the tools (`v1/Tool`, `v2/Tool`).
 *
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Struct from "effect/Struct"
import type { Properties } from "./Events.ts"
import * as Files from "./Files.ts"

/**
 * The outcome of a call, which replaces the tool's own.
 *
 * @category models
 * @since 0.1.0
 */
export const Outcome = Schema.Struct({
  output: Schema.optionalKey(Schema.String),
  title: Schema.optionalKey(Schema.String),
  metadata: Schema.optionalKey(Schema.JsonObject),
  /** The call fails with this text; the turn goes on. */
  error: Schema.optionalKey(Schema.String),
  /** A permission that is asked for first, whatever the rules say, unless it was allowed with `always`. */
  ask: Schema.optionalKey(Schema.Struct({
    permission: Schema.String,
    patterns: Schema.Array(Schema.String),
    always: Schema.optionalKey(Schema.Array(Schema.String)),
    metadata: Schema.optionalKey(Schema.JsonObject)
  })),
  /** Partial outputs; a separate running state announces each of them. */
  progress: Schema.optionalKey(Schema.Array(Schema.String)),
  /** The running time of the call. */
  delayMillis: Schema.optionalKey(Schema.Natural),
  /** The name of a gate at which the running call waits. */
  gate: Schema.optionalKey(Schema.String),
  /** Files that the call changes when it begins to run, relative to the root of the repository. Only `file` is required. */
  files: Schema.optionalKey(Schema.Array(Schema.Struct({
    ...Files.Change.mapFields(Struct.map(Schema.optionalKey)).fields,
    file: Schema.String
  }))),
  /** The call runs until it is aborted. */
  hang: Schema.optionalKey(Schema.Boolean)
})
/**
 * @category models
 * @since 0.1.0
 */
export interface Outcome extends Schema.Schema.Type<typeof Outcome> {}

/**
 * The arguments of a call with this outcome on the fake. The fake removes the outcome from the arguments, so nobody sees it; a real
 * server would see it.
 *
 * @example
 * ```ts
 * { tool: "bash", args: FakeTool.withOutcome({ command: "make" }, { error: "make: no targets" }) }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const withOutcome = (args: Schema.JsonObject, outcome: Outcome): Schema.JsonObject => ({
  ...args,
  [outcomeKey]: encodeOutcome(outcome)
})

/**
 * Splits the arguments of a call into those that everybody sees and the outcome that a test gave the call.
 *
 * @category getters
 * @since 0.1.0
 */
export const takeOutcome = (
  args: Schema.JsonObject = {}
): { readonly input: Properties; readonly outcome: Outcome | undefined } => {
  const { [outcomeKey]: scripted, ...input } = args
  return { input, outcome: scripted === undefined ? undefined : decodeOutcome(scripted) }
}

/**
 * One period of a running call: a wait, and then its partial output.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  readonly afterMillis: number
  readonly output: string
}

/**
 * The outputs of a shell command as it runs, each after the one before it.
 *
 * @category getters
 * @since 0.1.0
 */
export const runShell = (command: string): ReadonlyArray<Progress> => {
  let output = ""
  return command.split(/;|&&/).map((part) => {
    const simple = part.trim()
    const [name, ...words] = simple.split(" ")
    const text = words.join(" ").replace(/^(["'])(.*)\1$/, "$2")
    if (name === "echo") output += `${text}\n`
    if (name === "printf") output += text
    return { afterMillis: name === "sleep" && Predicate.isTruthy(Number(text)) ? Number(text) * 1000 : 0, output }
  })
}

// internal

const outcomeKey = "fake:outcome"
const encodeOutcome = Schema.encodeSync(Outcome)
const decodeOutcome = Schema.decodeUnknownSync(Outcome, { onExcessProperty: "error" })
