/**
 * What a turn is given.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Schema from "effect/Schema"
import type { PermissionRule } from "../domain/Ask.ts"
import type { ConversationId } from "../domain/Ids.ts"
import type { Prompt, PromptPart } from "../domain/Prompt.ts"
import * as Prompts from "../domain/Prompt.ts"
import { step } from "../domain/Tracing.ts"
import { InputFailed, type InvalidInput } from "../domain/TurnError.ts"
import * as TurnPolicy from "../domain/TurnPolicy.ts"
import type { Exchange } from "../reply/Exchange.ts"
import type { ReplyUpdate } from "../reply/ReplyUpdate.ts"
import type { Draft, StoredMessage } from "../store/StoredMessage.ts"
import * as Output from "./Output.ts"
import type { TurnResult } from "./TurnResult.ts"

/**
 * A value, or an effect that is evaluated when the prompt is made; `undefined` leaves the choice to the server.
 *
 * @category models
 * @since 0.1.0
 */
export type Evaluated<A, E = never, R = never> = A | Effect.Effect<A | undefined, E, R>

/**
 * One user message, and what goes with it.
 *
 * **Details**
 *
 * - `conversationId`: the product's. Its OpenCode session is made with the first turn, in the folder of the client.
 * - `title`, `permission`: of the session, when it is made. A later turn of the conversation does not change them, except where the
 *   session was lost and is made anew. To change them in between, call `Client.updateSession`: the server adds the rules to those that
 *   the session has, and the last one that matches counts (1.18.33).
 * - `metadata`: of the session, when it is made, beside `conversationId`, which the turn always writes there: the server keeps it, and
 *   shows it with the session. Where a server keeps none, `dropped` of the result says so.
 * - `tools`: offers tools to the agent in this turn, or takes them away (`{ bash: false }`), by a pattern of their names; the last one
 *   that matches counts (`{ "*": false, read: true }`). Subagents keep to what is taken away. See the gotchas.
 * - `prompt`: text, or parts.
 * - `messageId`: the assistant message to fill, where the product made its id beforehand; otherwise one is made. A pending
 *   message is taken over: the prompt that its last owner recorded is followed to its end, and this one is not sent.
 * - `agent`: of this turn alone; the server's default one if it is left out.
 * - `model`: `provider/model`. If it is left out, it is the one that the agent is set up with, else that of the last turn, else the server's
 *   default.
 * - `variant`: one of the model's variants, for example of its reasoning effort; of this turn alone. OpenCode 1.x drops one that the model
 *   does not have, which `dropped` of the result says; on 2.x the turn ends with `Upstream` before anything is sent.
 * - `output`: what the answer is to be, where it is to be a value: a schema, or an `Output`. The decoded value is the `output` of a
 *   completed result.
 * - `onFinalized`: after the terminal write that this turn won, with the server's record where there is one.
 * - `onTurnFinished`: at the very end, with what `runTurn` gives.
 * - `onActivityTick`: at most every `TurnPolicy.ActivityTick` while the stream lives.
 * - `observers`: each is called with every update, in order, one at a time, at its own pace.
 *
 * **Gotchas**
 *
 * Callbacks and observers are contained: one that fails, dies or takes longer than `TurnPolicy.CallbackTimeout` is reported
 * (`ErrorReporter`, `callback.error`) and changes nothing. Of an observer only the first failure is reported, and of the ticks only the
 * first during each prompt.
 *
 * The server puts `tools` in the place of the session's own permission rules, where it would stay for later prompts (1.18.33). The next
 * turn of the conversation takes it away again. `tools` is refused for a session that has permission rules, because they would be lost.
 *
 * A server before 1.17 keeps the agent to `permission` and `tools`, but not its subagents. There, a turn that denies something has to deny
 * `task` as well; otherwise it ends with `UnsupportedOperation` before anything is sent.
 *
 * @category models
 * @since 0.1.0
 */
export interface TurnInput<E = never, R = never, A = unknown> {
  readonly conversationId: string
  readonly prompt: string | ReadonlyArray<PromptPart>
  readonly messageId?: string | undefined
  readonly agent?: Evaluated<string, E, R> | undefined
  readonly model?: Evaluated<string, E, R> | undefined
  readonly variant?: Evaluated<string, E, R> | undefined
  readonly system?: Evaluated<string, E, R> | undefined
  readonly output?: Output.OutputInput<A> | undefined
  readonly tools?: Readonly<Record<string, boolean>> | undefined
  readonly title?: string | undefined
  readonly metadata?: Readonly<Record<string, Schema.Json>> | undefined
  readonly permission?: ReadonlyArray<PermissionRule> | undefined
  readonly onFinalized?:
    | ((message: StoredMessage, exchange: Exchange | undefined) => Effect.Effect<void, E, R>)
    | undefined
  readonly onTurnFinished?: ((result: TurnResult<A>) => Effect.Effect<void, E, R>) | undefined
  readonly onActivityTick?: ((conversationId: ConversationId) => Effect.Effect<void, E, R>) | undefined
  readonly observers?: ReadonlyArray<(update: ReplyUpdate) => Effect.Effect<void, E, R>> | undefined
}

/**
 * The prompt of the input, without ids: evaluates what is to be evaluated.
 *
 * @category steps
 * @since 0.1.0
 */
export const toPrompt = Effect.fnUntraced(function*<E, R>(
  input: TurnInput<E, R>,
  parts: ReadonlyArray<PromptPart>
): Effect.fn.Return<Prompt, InvalidInput | InputFailed, R> {
  const agent = yield* evaluate("agent", input.agent)
  const model = yield* evaluate("model", input.model)
  const variant = yield* evaluate("variant", input.variant)
  const system = yield* evaluate("system", input.system)
  return {
    parts,
    ...(agent !== undefined && { agent }),
    ...(model !== undefined && { model: yield* Prompts.parseModel(model) }),
    ...(variant !== undefined && { variant }),
    ...(system !== undefined && { system })
  }
}, step("TurnInput.toPrompt"))

/**
 * What of the input another process needs to run the turn: the fields that are plain values, and the limits that differ from
 * the defaults. Effects and callbacks cannot be stored; `TurnWorker` takes them for the turns that it resumes.
 *
 * @category conversions
 * @since 0.1.0
 */
export const toDraft = Effect.fnUntraced(function*<E, R>(input: TurnInput<E, R>): Effect.fn.Return<Draft> {
  const { agent, metadata, model, output, permission, system, title, tools, variant } = input
  const firstEvent = yield* TurnPolicy.FirstEvent
  const finalExchange = yield* TurnPolicy.FinalExchange
  const maxIdleSteps = yield* TurnPolicy.MaxIdleSteps
  const onLostSession = yield* TurnPolicy.OnLostSession
  const outputRepairs = yield* TurnPolicy.OutputRepairs
  const allowSilent = yield* TurnPolicy.AllowSilent
  const refusalRepairs = yield* TurnPolicy.RefusalRepairs
  const budget = storedBudget(yield* TurnPolicy.Budget)
  const policy: Draft["policy"] = {
    ...(isOverridden(TurnPolicy.FirstEvent, firstEvent) && { firstEventMillis: Duration.toMillis(firstEvent) }),
    ...(isOverridden(TurnPolicy.FinalExchange, finalExchange) && {
      finalExchangeMillis: Duration.toMillis(finalExchange)
    }),
    ...(onLostSession !== "resendIfUntouched" && { onLostSession }),
    ...(maxIdleSteps !== TurnPolicy.MaxIdleSteps.defaultValue() && {
      maxIdleSteps: maxIdleSteps === Infinity ? null : maxIdleSteps
    }),
    ...(outputRepairs !== TurnPolicy.OutputRepairs.defaultValue() && { outputRepairs }),
    ...(allowSilent !== TurnPolicy.AllowSilent.defaultValue() && { allowSilent }),
    ...(refusalRepairs !== TurnPolicy.RefusalRepairs.defaultValue() && { refusalRepairs }),
    ...(Object.keys(budget).length > 0 && { budget })
  }
  return {
    ...(typeof agent === "string" && { agent }),
    ...(typeof model === "string" && { model }),
    ...(typeof variant === "string" && { variant }),
    ...(typeof system === "string" && { system }),
    ...(tools !== undefined && { tools }),
    ...(metadata !== undefined && { metadata }),
    ...(title !== undefined && { title }),
    ...(permission !== undefined && { permission }),
    ...(output !== undefined && { outputSchema: Output.from(output).jsonSchema }),
    ...(Object.keys(policy).length > 0 && { policy })
  }
})

/**
 * The input of a stored turn.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromStored = (message: StoredMessage): TurnInput => {
  const { outputSchema: _outputSchema, policy: _policy, ...fields } = message.draft ?? {}
  return { ...identityOf(message), ...fields }
}

/**
 * What of the input says which turn it is.
 *
 * @category conversions
 * @since 0.1.0
 */
export const identityOf = ({ conversationId, id, prompt }: StoredMessage) => ({ conversationId, messageId: id, prompt })

/**
 * Runs an effect under the limits that a stored turn was given, whatever those of its new owner are.
 *
 * @category conversions
 * @since 0.1.0
 */
export const withStoredPolicy = ({ draft }: StoredMessage) => <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  if (draft === null) return effect
  const {
    allowSilent,
    budget,
    finalExchangeMillis,
    firstEventMillis,
    maxIdleSteps,
    onLostSession,
    outputRepairs,
    refusalRepairs
  } = draft.policy ?? {}
  return effect.pipe(
    limited(TurnPolicy.FirstEvent, firstEventMillis),
    limited(TurnPolicy.FinalExchange, finalExchangeMillis),
    Effect.provideService(TurnPolicy.OnLostSession, onLostSession ?? TurnPolicy.OnLostSession.defaultValue()),
    Effect.provideService(
      TurnPolicy.MaxIdleSteps,
      maxIdleSteps === null ? Infinity : maxIdleSteps ?? TurnPolicy.MaxIdleSteps.defaultValue()
    ),
    Effect.provideService(TurnPolicy.OutputRepairs, outputRepairs ?? TurnPolicy.OutputRepairs.defaultValue()),
    Effect.provideService(TurnPolicy.AllowSilent, allowSilent ?? TurnPolicy.AllowSilent.defaultValue()),
    Effect.provideService(TurnPolicy.RefusalRepairs, refusalRepairs ?? TurnPolicy.RefusalRepairs.defaultValue()),
    Effect.provideService(TurnPolicy.Budget, budgetOf(budget))
  )
}

// internal

type StoredBudget = NonNullable<NonNullable<Draft["policy"]>["budget"]>

/** The limits to store. An infinite limit is left out, unless its policy has a finite default. */
const storedBudget = (budget: TurnPolicy.Budget): StoredBudget => {
  const wallClockMillis = TurnPolicy.limitMillis(budget.wallClock)
  const stallMillis = TurnPolicy.limitMillis(budget.stall)
  const { cost, messages, modelRetries, openAsks, parts, steps, subagents, tokens } = budget
  return {
    ...(isLimit(wallClockMillis) && { wallClockMillis }),
    ...(isLimit(cost) && { cost }),
    ...(isLimit(tokens) && { tokens }),
    ...(isLimit(modelRetries) && { modelRetries }),
    ...(isLimit(steps) && { steps }),
    ...(stallMillis !== undefined && { stallMillis: orNull(stallMillis) }),
    ...(openAsks !== undefined && { openAsks: orNull(openAsks) }),
    ...(subagents !== undefined && { subagents: orNull(subagents) }),
    ...(messages !== undefined && { messages: orNull(messages) }),
    ...(parts !== undefined && { parts: orNull(parts) })
  }
}

const budgetOf = (stored: StoredBudget = {}): TurnPolicy.Budget => {
  const { messages, openAsks, parts, stallMillis, subagents, wallClockMillis, ...counts } = stored
  return {
    ...counts,
    ...(wallClockMillis !== undefined && { wallClock: Duration.millis(wallClockMillis) }),
    ...(stallMillis !== undefined && { stall: Duration.millis(stallMillis ?? Infinity) }),
    ...(openAsks !== undefined && { openAsks: openAsks ?? Infinity }),
    ...(subagents !== undefined && { subagents: subagents ?? Infinity }),
    ...(messages !== undefined && { messages: messages ?? Infinity }),
    ...(parts !== undefined && { parts: parts ?? Infinity })
  }
}

const orNull = (limit: number): number | null => isLimit(limit) ? limit : null

const isLimit = Schema.is(Schema.Finite)

const limited =
  (reference: Context.Reference<Duration.Duration>, millis: number | undefined) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.provideService(effect, reference, millis === undefined ? reference.defaultValue() : Duration.millis(millis))

const isOverridden = (reference: Context.Reference<Duration.Duration>, value: Duration.Duration): boolean =>
  !Equal.equals(value, reference.defaultValue())

const evaluate = <E, R>(
  field: string,
  value: Evaluated<string, E, R> | undefined
): Effect.Effect<string | undefined, InputFailed, R> =>
  Effect.isEffect(value)
    // The caller's effect may also die or interrupt itself: the turn then fails as for any other reason.
    ? Effect.catchCause(value, (cause) => Effect.fail(new InputFailed({ field, cause: Cause.squash(cause) })))
    : Effect.succeed(value)
