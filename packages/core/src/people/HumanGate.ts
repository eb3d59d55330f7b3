/**
 * The service that answers an agent's asks: questions and permissions.
 *
 * **Responsibilities**: one answer to each {@link Ask}. The turn sends the answer to the server and pauses its
 * deadlines meanwhile. If another client answers first, the turn interrupts the gate's effect.
 *
 * **Not responsibilities**: deciding what is asked; OpenCode's permission rules do that (`TurnInput.permission`).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Answer, Ask, PermissionRule } from "../domain/Ask.ts"
import * as Contained from "../domain/Contained.ts"
import type { AssistantMessageId, ConversationId, PartId, SessionId } from "../domain/Ids.ts"
import { HumanTimeout } from "../domain/TurnError.ts"
import type { Decision, MatchOrder } from "./PermissionRules.ts"
import { decide } from "./PermissionRules.ts"

/**
 * The turn and the session behind an ask.
 *
 * **Details**
 *
 * `sessionId` is the turn's own session; `ask.sessionId` is the asking session. `subagent` is the asking subagent, if
 * it is one, and `openedBy` is the tool part that opened it. `isOpen` tells whether the ask still waits for an answer.
 * An interrupted gate learns from it whether another client answered (`false`) or the worker is going away (`true`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Asking {
  readonly conversationId: ConversationId
  readonly messageId: AssistantMessageId
  readonly sessionId: SessionId
  readonly openedBy: PartId | undefined
  readonly subagent: { readonly title: string; readonly agent: string | undefined } | undefined
  readonly isOpen: () => boolean
}

/**
 * Answers one ask, in whatever time a person needs. A `HumanTimeout` ends the turn.
 *
 * @category models
 * @since 0.1.0
 */
export type Gate = (ask: Ask, asking: Asking) => Effect.Effect<Answer, HumanTimeout>

/**
 * The gate of the turns in this context. By default nobody is there to answer: permissions are refused and questions
 * dismissed, with a message that tells the model so, and no turn waits for an answer that cannot come.
 * @category references
 * @since 0.1.0
 */
export const HumanGate: Context.Reference<Gate> = Context.Reference("@opencode-turn/core/HumanGate", {
  defaultValue: () => deny
})

/**
 * Refuses every ask, with a message for the model.
 *
 * @category gates
 * @since 0.1.0
 */
export const deny: Gate = () => Effect.succeed({ _tag: "Reject", message: `Nobody is here to answer. ${goOn}` })

/**
 * Allows every permission once; dismisses questions as {@link deny} does.
 *
 * @category gates
 * @since 0.1.0
 */
export const allow: Gate = (ask, asking) =>
  ask._tag === "Permission"
    ? Effect.succeed({ _tag: "Permission", reply: { reply: "once" } })
    : deny(ask, asking)

/**
 * Leaves every ask to another client of the server. A turn whose ask nobody answers never ends.
 *
 * @category gates
 * @since 0.1.0
 */
export const wait: Gate = () => Effect.succeed({ _tag: "Skip" })

/**
 * A rule of {@link rules}. The model reads `message` when the rule denies.
 *
 * @category models
 * @since 0.1.0
 */
export interface GateRule extends PermissionRule {
  readonly message?: string | undefined
}

/**
 * Answers permissions by rules: `allow` allows once, `deny` refuses and tells the model the rule.
 *
 * **Details**
 *
 * Patterns are OpenCode's. The last matching rule decides, as on the server; with `match` "first" the first one does.
 * Permissions that a rule leaves to `ask` or that match no rule, and questions, go to `otherwise`, which is {@link
 * deny} by default.
 *
 * **Example**
 * ```ts
 * HumanGate.layer(HumanGate.rules([
 *   { permission: "bash", pattern: "git *", action: "allow" },
 *   { permission: "bash", pattern: "git push *", action: "deny", message: "A person pushes, after a review." }
 * ]))
 * ```
 *
 * @category gates
 * @since 0.1.0
 */
export const rules = (
  rules: ReadonlyArray<GateRule>,
  options?: { readonly match?: MatchOrder | undefined; readonly otherwise?: Gate | undefined }
): Gate => {
  const otherwise = options?.otherwise ?? deny
  return (ask, asking) => {
    if (ask._tag === "Question") return otherwise(ask, asking)
    const { action, subjects } = decide(rules, ask, options)
    switch (action) {
      case "allow":
        return allow(ask, asking)
      case "ask":
        return otherwise(ask, asking)
      case "deny":
        return Effect.succeed(refusal(subjects))
    }
  }
}

/**
 * A gate that calls a function of the product, with the services of the context that creates the gate.
 *
 * **Details**
 *
 * Any failure of the function is reported, and the ask refused; the turn goes on. For a time limit see {@link within}.
 *
 * @category gates
 * @since 0.1.0
 */
export const callback = <E = never, R = never>(
  f: (ask: Ask, asking: Asking) => Effect.Effect<Answer, E, R>
): Effect.Effect<Gate, never, R> =>
  Effect.map(Effect.context<R>(), (context): Gate => (ask, asking) =>
    Effect.suspend(() => f(ask, asking)).pipe(
      Effect.provideContext(context),
      Contained.reported("human gate", { ask: ask.id }),
      Effect.map(Option.getOrElse(() => unanswered))
    ))

/**
 * Gives a gate a time limit for each ask. After it, `deny` refuses and tells the model so, and `fail` ends the turn
 * with `HumanTimeout`.
 *
 * **Details**
 *
 * The limit interrupts the gate, which then sees the ask as no longer open. The limit runs by the clock, while the
 * turn's own deadlines stand still. It starts again after a takeover.
 *
 * **Gotchas**
 *
 * A `Skip` is an answer too, so the limit ends with it. To limit how long another client may take, wrap `() =>
 * Effect.never`.
 *
 * @category gates
 * @since 0.1.0
 */
export const within = (gate: Gate, duration: Duration.Input, fallback: "deny" | "fail"): Gate => (ask, asking) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      let isOver = false
      const limited: Asking = { ...asking, isOpen: () => !isOver && asking.isOpen() }
      const fiber = yield* start(gate, ask, limited)
      const exit = yield* restore(Effect.timeoutOption(Fiber.await(fiber), duration)).pipe(
        Effect.onInterrupt(() => Effect.sync(() => fiber.interruptUnsafe()))
      )
      if (Option.isSome(exit)) return yield* exit.value
      isOver = true
      fiber.interruptUnsafe()
      const limit = Duration.fromInputUnsafe(duration)
      if (fallback === "fail") {
        return yield* new HumanTimeout({ askId: ask.id, millis: Duration.toMillis(limit) })
      }
      return { _tag: "Reject", message: `Nobody answered within ${Duration.format(limit)}. ${goOn}` }
    })
  )

/**
 * Starts a gate in its own fiber. It can interrupt only itself, and an uninterruptible gate delays nobody.
 *
 * @category running
 * @since 0.1.0
 */
export const start = (gate: Gate, ask: Ask, asking: Asking): Effect.Effect<Fiber.Fiber<Answer, HumanTimeout>> =>
  Effect.forkDetach(Effect.interruptible(Effect.suspend(() => gate(ask, asking))), { startImmediately: true })

/**
 * A gate as a layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (gate: Gate): Layer.Layer<never> => Layer.succeed(HumanGate, gate)

/**
 * {@link callback} as a layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerCallback = <E = never, R = never>(
  f: (ask: Ask, asking: Asking) => Effect.Effect<Answer, E, R>
): Layer.Layer<never, never, R> => Layer.effect(HumanGate, callback(f))

// internal

/** Advice for a model after a refusal. */
const goOn = "Go on without it, or say what you would need."

const unanswered: Answer = { _tag: "Reject", message: `The ask could not be answered. ${goOn}` }

/** The refusal names the first rule that denies. */
const refusal = (subjects: Decision<GateRule>["subjects"]): Answer => {
  const [message = goOn] = subjects.flatMap(({ rule, text }) =>
    rule?.action === "deny"
      ? [`A rule denies ${rule.permission} for "${rule.pattern}", and this asks for "${text}". ${rule.message ?? goOn}`]
      : []
  )
  return { _tag: "Reject", message }
}
