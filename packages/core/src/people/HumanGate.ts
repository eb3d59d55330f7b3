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
 * On whose behalf something is asked.
 *
 * **Details**
 *
 * `sessionId` is the turn's own session; `ask.sessionId` is the one that asks. `subagent` is what asks, where it is one, and
 * `openedBy` the tool part that opened it. `isOpen` says whether the request still waits for an answer: once a gate is interrupted it
 * tells an answer from elsewhere (`false`) from a worker that goes away (`true`).
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
 * Answers one request. Takes as long as a person needs. A `HumanTimeout` ends the turn.
 *
 * @category models
 * @since 0.1.0
 */
export type Gate = (ask: Ask, asking: Asking) => Effect.Effect<Answer, HumanTimeout>

/**
 * The gate of the turns that run in this context. By default nobody is there: permissions are refused with a message that
 * tells the model so, questions are dismissed in the same words, and no turn waits for an answer that cannot come.
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
export const deny: Gate = () => Effect.succeed({ _tag: "Reject", message: `Nobody is here to answer. ${goOn}` })

/**
 * Allows every permission that is asked, for this once; dismisses questions as {@link deny} does.
 *
 * @category gates
 * @since 0.1.0
 */
export const allow: Gate = (ask, asking) =>
  ask._tag === "Permission"
    ? Effect.succeed({ _tag: "Permission", reply: { reply: "once" } })
    : deny(ask, asking)

/**
 * Leaves everything open for another client of the server. A turn whose request nobody answers never ends.
 *
 * @category gates
 * @since 0.1.0
 */
export const wait: Gate = () => Effect.succeed({ _tag: "Skip" })

/**
 * A rule of {@link rules}. `message` is told to the model where the rule denies.
 *
 * @category models
 * @since 0.1.0
 */
export interface GateRule extends PermissionRule {
  readonly message?: string | undefined
}

/**
 * Answers permissions by rules: `allow` allows this once, `deny` refuses and tells the model which rule it was.
 *
 * **Details**
 *
 * Patterns are OpenCode's, and of several rules that match, the last one decides, as there; with `match` "first" the first one.
 * What the rules say to ask, what none of them matches, and questions go to `otherwise`: {@link deny}, if there is none.
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
 * A gate that asks a function of the product's, with the services of the context in which it is made.
 *
 * **Details**
 *
 * Whatever the function fails with is reported, and the request refused: the turn goes on. For a time limit see {@link within}.
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
      Contained.reported("human gate", { request: ask.id }),
      Effect.map(Option.getOrElse(() => unanswered))
    ))

/**
 * Gives a gate a time limit for each request. Nobody has answered by then: `deny` refuses and tells the model so, `fail` ends
 * the turn with `HumanTimeout`.
 *
 * **Details**
 *
 * The gate is interrupted, and to it the request is not open any more. It is the time of the clock that counts, not that of the
 * turn, which stands still meanwhile; a worker that takes the turn over begins anew.
 *
 * **Gotchas**
 *
 * A gate that skips has answered. A limit for what another client is to answer is one for `() => Effect.never`.
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
 * Asks a gate in a fiber of its own: it can interrupt nobody but itself, and one that cannot be interrupted keeps nobody waiting.
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

/** What a refused model can do. */
const goOn = "Go on without it, or say what you would need."

const unanswered: Answer = { _tag: "Reject", message: `The request could not be answered. ${goOn}` }

/** The first rule that denies speaks for all of them. */
const refusal = (subjects: Decision<GateRule>["subjects"]): Answer => {
  const [message = goOn] = subjects.flatMap(({ rule, text }) =>
    rule?.action === "deny"
      ? [`A rule denies ${rule.permission} for "${rule.pattern}", and this asks for "${text}". ${rule.message ?? goOn}`]
      : []
  )
  return { _tag: "Reject", message }
}
