/**
 * The turns that the gateway's process runs.
 *
 * ```
 *   start ──▶ stored already? ──yes──▶ the stored turn
 *               │ no
 *               ▼
 *             run it in the gateway's scope ──▶ wait until it is stored, or has failed before
 * ```
 *
 * **Responsibilities**: a turn is started once for a key and goes on whatever becomes of its request; the limits of each client.
 *
 * **Not responsibilities**: carrying on turns whose process died (`TurnWorker`). They count for the client whose conversation it is.
 *
 * @since 0.1.0
 */
import { cancelTurn } from "@opencode-turn/core/CancelTurn"
import { Client } from "@opencode-turn/core/Client"
import * as Contained from "@opencode-turn/core/Contained"
import { AssistantMessageId, type ConversationId, makeId } from "@opencode-turn/core/Ids"
import { compactConversation, type OperationFailure } from "@opencode-turn/core/Operations"
import { PromptPart } from "@opencode-turn/core/Prompt"
import { retrying } from "@opencode-turn/core/Retrying"
import type { MessageState, StoredMessage, StoreError, UnknownMessage } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { stateOf } from "@opencode-turn/core/StoredMessage"
import { runTurn, type TurnServices } from "@opencode-turn/core/Turn"
import type { AlreadyFinished } from "@opencode-turn/core/TurnError"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import { createHash } from "node:crypto"
import { Busy, TooMany, Unavailable, Unprocessable } from "./GatewayError.ts"
import { isOwn, stored } from "./Ownership.ts"
import { refuse } from "./Refusals.ts"
import { CurrentUser, type User } from "./User.ts"

/**
 * **Details**
 *
 * - `maxTurns`: how many turns of one client this process runs or keeps waiting at once, 32 by default. Turns that it took over count.
 * - `maxStreams`: how many turns one client may follow at once, 1,000 by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  readonly maxTurns?: number | undefined
  readonly maxStreams?: number | undefined
}

/**
 * A turn to start. `key` is the client's: the same key in the same conversation is the same turn. `keyName` is what the client calls it,
 * `Idempotency-Key` by default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Start {
  readonly conversationId: ConversationId
  readonly key: string | undefined
  readonly keyName?: string | undefined
  readonly prompt: ReadonlyArray<PromptPart>
  readonly choices: Omit<Partial<TurnInput>, "conversationId" | "messageId" | "prompt">
}

/**
 * The client for the conversations of a folder of its own.
 *
 * @category models
 * @since 0.1.0
 */
export type ClientOf = (
  conversationId: ConversationId
) => Effect.Effect<Client["Service"], never, SessionStore | Scope.Scope>

/**
 * Why a conversation cannot be changed.
 *
 * @category models
 * @since 0.1.0
 */
export type Refusal = Effect.Error<ReturnType<typeof refuse>>

/**
 * @category services
 * @since 0.1.0
 */
export class Runs extends Context.Service<Runs, {
  /** Starts a turn, or finds the one that the key stands for; it is stored then. */
  readonly start: (
    user: User,
    start: Start
  ) => Effect.Effect<
    { readonly state: MessageState; readonly isNew: boolean },
    Busy | TooMany | Unprocessable | Unavailable
  >
  /** Stops a turn, and gives it back. Goes on where the caller leaves, so that no agent is left half stopped. */
  readonly cancel: (
    state: MessageState
  ) => Effect.Effect<StoredMessage, AlreadyFinished | UnknownMessage | StoreError>
  /** Does what changes a conversation. Goes on where the caller leaves. */
  readonly operate: <A>(
    conversationId: ConversationId,
    operation: Effect.Effect<A, OperationFailure, TurnServices>
  ) => Effect.Effect<A, Refusal>
  /** Begins a compaction; it is stored then, counts as a turn of the user's, and goes on where the caller leaves. */
  readonly compact: (
    user: User,
    options: { readonly conversationId: ConversationId; readonly model: string | undefined }
  ) => Effect.Effect<MessageState, Refusal | TooMany>
  /** Counts a turn that this process took over until the scope closes. */
  readonly takeOver: (conversationId: ConversationId) => Effect.Effect<void, never, Scope.Scope>
  /** Counts a stream of the user's until the scope closes. */
  readonly takeStream: (user: User) => Effect.Effect<void, TooMany, Scope.Scope>
}>()("@opencode-turn/platform-node/gateway/Runs") {}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  { clientOf, maxStreams = 1_000, maxTurns = 32 }: Limits & { readonly clientOf?: ClientOf | undefined }
): Effect.fn.Return<Runs["Service"], never, TurnServices | Scope.Scope> {
  const store = yield* SessionStore
  const fibers = yield* FiberMap.make<AssistantMessageId, Option.Option<TurnResult>, never>()
  // The turn belongs to the process: it does not end with the request, and inherits nothing of it but the trace.
  const fork = yield* FiberMap.runtime(fibers)<TurnServices>()
  const stops = yield* FiberSet.make()
  const forkStop = yield* FiberSet.runtime(stops)<TurnServices>()
  const turns = makeCounter(maxTurns)
  /** The conversations of turns that were taken over, one for each turn: the store does not know whose they are. */
  const carried = new Set<{ readonly conversationId: ConversationId }>()
  const carriedFor = (user: User): Effect.Effect<number, Unavailable> =>
    Effect.map(
      Effect.provideService(
        Effect.filter(carried, ({ conversationId }) => isOwn(conversationId)),
        CurrentUser,
        user
      ),
      (own) => own.length
    )
  const streams = makeCounter(maxStreams)

  /** Runs an effect with the client of the conversation's folder. */
  const inFolder = (conversationId: ConversationId) => <A, E>(effect: Effect.Effect<A, E, TurnServices>) =>
    clientOf === undefined
      ? effect
      : Effect.scoped(
        Effect.flatMap(clientOf(conversationId), (client) => Effect.provideService(effect, Client, client))
      )

  /** The turn's fiber; undefined where the user has too many. Does not yield, so that two requests of one key cannot both begin. */
  const begin = (
    user: User,
    id: AssistantMessageId,
    start: Start,
    others: number,
    trace: Tracer.AnySpan | undefined
  ) => {
    const running = FiberMap.getUnsafe(fibers, id)
    if (Option.isSome(running)) return { fiber: running.value, isNew: false }
    if (!turns.take(user.id, others)) return undefined
    const { choices, conversationId, prompt } = start
    const turn = runTurn({ ...choices, conversationId, messageId: id, prompt }).pipe(
      inFolder(conversationId),
      Effect.provideService(TurnPolicy.OnInterrupt, "release"),
      Contained.reported("turn", { message: id }),
      Effect.ensuring(Effect.sync(() => turns.give(user.id)))
    )
    return { fiber: fork(id, trace === undefined ? turn : Effect.withParentSpan(turn, trace)), isNew: true }
  }

  const firstState = (id: AssistantMessageId) =>
    store.changes(id).pipe(
      Stream.mapEffect(() => retrying(store.getState(id))),
      Stream.flatMap((state) => Stream.fromIterable(Option.toArray(state))),
      Stream.runHead
    )

  const start = Effect.fnUntraced(function*(user: User, start: Start) {
    const id = start.key === undefined
      ? AssistantMessageId.make(yield* makeId("asm"))
      : idOf(start.conversationId, start.key)
    const before = start.key === undefined ? Option.none() : yield* stored(retrying(store.getState(id)))
    const others = Option.isSome(before) ? 0 : yield* carriedFor(user)
    const trace = Option.getOrUndefined(yield* Effect.option(Effect.currentParentSpan))
    const begun = Option.isSome(before) ? undefined : yield* Effect.sync(() => begin(user, id, start, others, trace))
    if (Option.isNone(before) && begun === undefined) return yield* tooManyTurns(maxTurns)
    const state = begun === undefined
      ? before
      : yield* stored(Effect.raceFirst(
        firstState(id),
        Effect.andThen(Fiber.await(begun.fiber), retrying(store.getState(id)))
      ))
    if (Option.isNone(state)) {
      return yield* whyUnstored(start, begun === undefined ? undefined : yield* Fiber.await(begun.fiber))
    }
    const isNew = begun?.isNew === true
    if (!isNew) yield* mustBeSame(id, start)
    return { state: state.value, isNew }
  })

  /** A key stands for one prompt. */
  const mustBeSame = Effect.fnUntraced(function*(id: AssistantMessageId, { keyName = header, prompt }: Start) {
    const message = yield* stored(retrying(store.getMessage(id)))
    if (Option.isNone(message) || isSamePrompt(message.value.prompt, prompt)) return
    return yield* new Unprocessable({
      message: `this ${keyName} was sent before, with another prompt`,
      advice: `choose a new ${keyName} for each turn, and send the same one only to repeat a request`
    })
  })

  const compact: Runs["Service"]["compact"] = Effect.fnUntraced(function*(user, { conversationId, model }) {
    const messageId = AssistantMessageId.make(yield* makeId("asm"))
    const others = yield* carriedFor(user)
    if (!turns.take(user.id, others)) return yield* tooManyTurns(maxTurns)
    const fiber = forkStop(
      compactConversation(conversationId, { model, messageId }).pipe(
        inFolder(conversationId),
        Effect.provideService(TurnPolicy.OnInterrupt, "release"),
        Effect.ensuring(Effect.sync(() => turns.give(user.id)))
      )
    )
    const state = yield* Effect.raceFirst(
      stored(firstState(messageId)),
      Effect.andThen(Fiber.await(fiber), stored(retrying(store.getState(messageId))))
    )
    if (Option.isSome(state)) return state.value
    return yield* Effect.matchEffect(Fiber.join(fiber), {
      onFailure: refuse,
      onSuccess: (message) => Effect.succeed(stateOf(message))
    })
  })

  return Runs.of({
    start,
    operate: (conversationId, operation) =>
      Effect.suspend(() => Effect.catch(Fiber.join(forkStop(inFolder(conversationId)(operation))), refuse)),
    compact,
    cancel: ({ conversationId, id }) =>
      Effect.suspend(() => Fiber.join(forkStop(inFolder(conversationId)(cancelTurn(id))))),
    takeOver: (conversationId) =>
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() => {
          const turn = { conversationId }
          carried.add(turn)
          return turn
        }),
        (turn) => Effect.sync(() => carried.delete(turn))
      )),
    takeStream: (user) =>
      Effect.asVoid(Effect.acquireRelease(
        Effect.suspend(() => streams.take(user.id) ? Effect.void : Effect.fail(tooManyStreams(maxStreams))),
        () => Effect.sync(() => streams.give(user.id))
      ))
  })
})

// internal

/** Counts what each client holds. */
const makeCounter = (limit: number) => {
  const held = new Map<string, number>()
  return {
    /** `others` count too, and are not held here. */
    take: (key: string, others = 0): boolean => {
      const count = held.get(key) ?? 0
      if (count + others >= limit) return false
      held.set(key, count + 1)
      return true
    },
    give: (key: string): void => {
      const left = (held.get(key) ?? 1) - 1
      if (left > 0) held.set(key, left)
      else held.delete(key)
    }
  }
}

/** The same for every process, and of no other conversation. */
const idOf = (conversationId: ConversationId, key: string): AssistantMessageId =>
  AssistantMessageId.make(
    `asm_${createHash("sha256").update(JSON.stringify([conversationId, key])).digest("base64url")}`
  )

const header = "Idempotency-Key"

const isSamePrompt = Schema.toEquivalence(Schema.Array(PromptPart))

const tooManyTurns = (limit: number) =>
  new TooMany({
    message: `this client has ${limit} turns that run or wait`,
    advice: "wait until one of them has ended, or cancel one"
  })

const tooManyStreams = (limit: number) =>
  new TooMany({
    message: `this client follows ${limit} turns`,
    advice: "close one of its streams"
  })

/** Why a turn ended before it was stored. */
const whyUnstored = (
  { keyName = header }: Start,
  exit: Exit.Exit<Option.Option<TurnResult>, unknown> | undefined
): Busy | Unprocessable | Unavailable => {
  const error = exit !== undefined && Exit.isSuccess(exit) ? Option.getOrUndefined(exit.value)?.error : undefined
  switch (error?._tag) {
    case "InvalidInput":
      return new Unprocessable({ message: error.message, advice: "change the request as the message says" })
    case "TurnInProgress":
      return new Busy({
        message: error.message,
        advice: "wait until the turns before it have ended, or cancel one of them"
      })
    default:
      return new Unavailable({
        message: "the turn could not be stored",
        advice: `try again in a while with the same ${keyName}`
      })
  }
}
