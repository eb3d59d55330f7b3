/**
 * Stops the command as Ctrl-C does, for what reads the keys itself while a prompt is open; and what a second Ctrl-C does.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/** How a command is stopped. */
export class Stop extends Context.Service<Stop, {
  /** Interrupts the command. */
  readonly now: Effect.Effect<void>
  /**
   * What is done where the stop takes more than a second (`slow`), and, within a second, before the process ends because
   * somebody does not wait for the end of the stop (`second`).
   */
  readonly onStop: (
    effects: { readonly slow: Effect.Effect<void>; readonly second: Effect.Effect<void> }
  ) => Effect.Effect<void>
}>()("@opencode-turn/platform-node/cli/Stop") {}
