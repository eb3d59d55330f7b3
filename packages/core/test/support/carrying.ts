/** Turns whose worker went away: the rows that the worker leaves, and the time until another worker ends the turns. */
import { baseline } from "#drive/ReadExchange"
import { assert } from "@effect/vitest"
import { Client } from "@opencode-turn/core/Client"
import { AssistantMessageId, ConversationId, makePromptIds } from "@opencode-turn/core/Ids"
import type { PromptPart } from "@opencode-turn/core/Prompt"
import type { Draft } from "@opencode-turn/core/SessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { runTurn } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import { FakeOpencode, prompt } from "@opencode-turn/testing/FakeOpencode"
import type { Step } from "@opencode-turn/testing/ModelScript"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import * as Turns from "./turns.ts"

/** Says two words, waits at the gate `half`, and then says the third. */
export const halfway: ReadonlyArray<Step> = [{ text: "one two three", gate: "half", gateAfter: 2 }]

export const messageIdOf = (name: string) => AssistantMessageId.make(name)

export const rowOf = (name: string) =>
  Effect.flatMap(
    SessionStore,
    (store) => Effect.map(store.getMessage(messageIdOf(name)), Option.getOrUndefined)
  )

/** Starts a turn under this message id, and lets it run as far as it can. */
export const launch = Effect.fnUntraced(function*(
  name: string,
  steps: ReadonlyArray<Step>,
  input: Partial<TurnInput> = {}
) {
  const fiber = yield* Effect.forkChild(runTurn(Turns.turn(steps, { messageId: name, ...input })))
  yield* Turns.rest
  return fiber
})

/** Lets the time pass in small steps, so that a fiber that one step wakes has run before the next step. */
export const pass = Effect.fnUntraced(function*(millis: number, step = 250) {
  for (let passed = 0; passed < millis; passed += step) {
    yield* TestClock.adjust(Math.min(step, millis - passed))
    yield* Turns.rest
  }
})

/** Lets the time pass until the fiber has ended. Returns its value and the time that it took. */
export const ended = Effect.fnUntraced(function*<A, E>(fiber: Fiber.Fiber<A, E>, withinMillis = 0) {
  yield* Turns.rest
  const before = yield* Clock.currentTimeMillis
  for (let passed = 0; passed < withinMillis && fiber.pollUnsafe() === undefined; passed += 250) yield* pass(250)
  assert.isDefined(fiber.pollUnsafe(), `it has not ended within ${withinMillis} ms`)
  const value = yield* Fiber.join(fiber)
  yield* Turns.rest
  return { value, millis: (yield* Clock.currentTimeMillis) - before }
})

/** Lets the time pass until the condition holds. Returns the time that it took. */
export const until = Effect.fnUntraced(function*<E, R>(condition: Effect.Effect<boolean, E, R>, withinMillis: number) {
  const before = yield* Clock.currentTimeMillis
  yield* Turns.rest
  for (let passed = 0; passed < withinMillis && !(yield* condition); passed += 250) yield* pass(250)
  assert.isTrue(yield* condition, `not within ${withinMillis} ms`)
  return (yield* Clock.currentTimeMillis) - before
})

export const isEnded = (name: string) =>
  Effect.map(rowOf(name), (row) => row !== undefined && row.status !== "pending" && row.status !== "queued")

export const promptOf = (steps: ReadonlyArray<Step>): ReadonlyArray<PromptPart> => [
  { type: "text", text: prompt("Do it.", steps) }
]

/** Leaves what a killed worker leaves: the row as far as the worker got, with a lease that has run out. */
export const leave = Effect.fnUntraced(function*(
  steps: ReadonlyArray<Step>,
  options: {
    readonly stage: "claimed" | "recorded" | "posted"
    readonly name?: string
    readonly conversation?: string
    readonly draft?: Draft
    readonly leaseMillis?: number
  }
) {
  const store = yield* SessionStore
  const client = yield* Client
  const fake = yield* FakeOpencode
  const id = messageIdOf(options.name ?? Turns.messageId)
  const conversationId = ConversationId.make(options.conversation ?? Turns.conversationId)
  const parts = promptOf(steps)
  const row = yield* store.claim({
    id,
    conversationId,
    prompt: parts,
    draft: options.draft ?? {},
    lease: { owner: "dead", millis: options.leaseMillis ?? 0 }
  })
  if (options.stage === "claimed") return { id, row, sessionId: undefined, promptId: undefined }
  const stored = yield* store.getSession(conversationId)
  const sessionId = Option.isSome(stored) ? stored.value : (yield* client.createSession({})).id
  yield* store.setSession(conversationId, stored, sessionId)
  const ids = yield* makePromptIds(yield* baseline(sessionId), 1)
  const request = { sessionId, prompt: { parts, ids } }
  yield* store.recordPrompt(id, row.epoch, request)
  if (options.stage === "posted") {
    yield* client.prompt(sessionId, request.prompt)
    if (steps.some((step) => "gate" in step && step.gate === "half")) yield* fake.reached("half")
    yield* Turns.rest
  }
  return { id, row, sessionId, promptId: ids.promptId }
})

/** Takes the message over for a worker of the test. */
export const takeOver = Effect.fnUntraced(function*(id: AssistantMessageId, owner = "worker") {
  const store = yield* SessionStore
  const taken = yield* store.takeOver(id, { owner, millis: 4000 })
  assert(Option.isSome(taken))
  return taken.value
})
