/**
 * Stops the command as Ctrl-C does, for prompts that read the keys themselves, and says what a second Ctrl-C does.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/** Stops a command. */
export class Stop extends Context.Service<Stop, {
  /** Interrupts the command. */
  readonly now: Effect.Effect<void>
  /**
   * Registers two effects: `slow` runs when stopping takes longer than a second; `second` runs after a second signal, for up to a
   * second, before the process ends.
   */
  readonly onStop: (
    effects: { readonly slow: Effect.Effect<void>; readonly second: Effect.Effect<void> }
  ) => Effect.Effect<void>
  /** Goes on where nobody reads standard output any more; by default the command is then stopped. */
  readonly outliveReader: Effect.Effect<void>
}>()("@opencode-turn/platform-node/cli/Stop") {}
