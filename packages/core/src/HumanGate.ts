/**
 * Who answers when the agent asks: a question, or a permission.
 *
 * **Responsibilities**: one answer for one {@link Ask}. The turn sends it to the server, notices when somebody else answered
 * first (the gate's effect is interrupted then), and lets its deadlines stand still meanwhile.
 *
 * **Not responsibilities**: what is asked at all; OpenCode's permission rules decide that (`TurnInput.permission`).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Answer, Ask } from "./Ask.ts"

/**
 * Answers one request. Takes as long as a person needs.
 *
 * @category models
 * @since 0.1.0
 */
export type Gate = (ask: Ask) => Effect.Effect<Answer>

/**
 * The gate of the turns that run in this context. By default nobody is there: permissions are refused with a message that
 * tells the model so, questions are dismissed, and no turn waits for an answer that cannot come.
 *
 * @category references
 * @since 0.1.0
 */
export const HumanGate: Context.Reference<Gate> = Context.Reference("@opencode-turn/core/HumanGate", {
  defaultValue: () => deny
})

/**
 * Refuses everything, with a message for the model.
 *
 * @category gates
 * @since 0.1.0
 */
export const deny: Gate = () =>
  Effect.succeed({ _tag: "Reject", message: "Nobody is here to answer. Go on without it, or say what you would need." })

/**
 * Allows every permission that is asked, for this once; dismisses questions.
 *
 * @category gates
 * @since 0.1.0
 */
export const allow: Gate = (ask) =>
  Effect.succeed(
    ask._tag === "Permission" ? { _tag: "Permission", reply: { reply: "once" } } : { _tag: "Reject" }
  )

/**
 * Leaves everything open for another client of the server. A turn whose request nobody answers never ends.
 *
 * @category gates
 * @since 0.1.0
 */
export const wait: Gate = () => Effect.succeed({ _tag: "Skip" })

/**
 * A gate as a layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (gate: Gate): Layer.Layer<never> => Layer.succeed(HumanGate, gate)
