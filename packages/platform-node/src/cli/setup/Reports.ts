/**
 * Prints what went wrong beside the turns, in one line each on standard error.
 */
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import * as Layer from "effect/Layer"
import { line } from "../../terminal/TerminalText.ts"
import { Streams } from "./Streams.ts"

/** Prints what is reported to Effect's `ErrorReporter`. */
export const layer: Layer.Layer<never, never, Streams> = Layer.unwrap(
  Effect.map(Streams, ({ aside }) =>
    ErrorReporter.layer([
      ErrorReporter.make(({ attributes, error }) => {
        // The message names the feature.
        const { feature: _, handled: __, ...context } = attributes
        const where = Object.entries(context).map(([name, value]) => `${name} ${String(value)}`).join(", ")
        Effect.runFork(
          aside(`opencode-turn: ${line(error.message)}${where === "" ? "" : ` ${line(`(${where})`)}`}\n`)
        )
      })
    ]))
)
