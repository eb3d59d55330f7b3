import { assert, it } from "@effect/vitest"
import { AssistantMessageId, ConversationId } from "@opencode-turn/core/Ids"
import type { Draft, StoredMessage } from "@opencode-turn/core/StoredMessage"
import { toDraft, withStoredPolicy } from "@opencode-turn/core/TurnInput"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Usage from "@opencode-turn/core/Usage"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const input = { conversationId: "42", prompt: "hello" }

const stored = (draft: Draft | null): StoredMessage => ({
  id: AssistantMessageId.make("asm_1"),
  conversationId: ConversationId.make("42"),
  position: 1,
  status: "pending",
  epoch: 2,
  revision: 1,
  offset: 0,
  excerpt: "hello",
  started: null,
  owner: "run_1",
  leaseUntilMillis: 1000,
  takeovers: 0,
  account: null,
  revertedBy: null,
  prompt: [{ type: "text", text: "hello" }],
  draft,
  promptRecord: null,
  content: "",
  isFallback: false,
  finish: null,
  parts: [],
  usage: Usage.zero,
  subagents: [],
  waits: [],
  error: null,
  createdMillis: 0,
  finishedMillis: null
})

/** The limits in a context. */
const policies = Effect.gen(function*() {
  return {
    budget: yield* TurnPolicy.Budget,
    outputRepairs: yield* TurnPolicy.OutputRepairs,
    allowSilent: yield* TurnPolicy.AllowSilent
  }
})

const budget: TurnPolicy.Budget = {
  wallClock: Duration.minutes(5),
  cost: 0.5,
  tokens: 100_000,
  modelRetries: 0,
  steps: 20,
  stall: Duration.seconds(90)
}

it.effect("stores no policy that has its default value", () =>
  Effect.gen(function*() {
    assert.deepStrictEqual(yield* toDraft(input), {})
  }))

it.effect("stores the turn's budget, repairs and AllowSilent, and resumes the turn with them", () =>
  Effect.gen(function*() {
    const draft = yield* toDraft(input).pipe(
      Effect.provideService(TurnPolicy.Budget, budget),
      Effect.provideService(TurnPolicy.OutputRepairs, 0),
      Effect.provideService(TurnPolicy.AllowSilent, true)
    )
    assert.deepStrictEqual(draft, {
      policy: {
        outputRepairs: 0,
        allowSilent: true,
        budget: {
          wallClockMillis: 300_000,
          cost: 0.5,
          tokens: 100_000,
          modelRetries: 0,
          steps: 20,
          stallMillis: 90_000
        }
      }
    })
    assert.deepStrictEqual(yield* withStoredPolicy(stored(draft))(policies), {
      budget,
      outputRepairs: 0,
      allowSilent: true
    })
  }))

it.effect("resumes a turn that had no budget without one, whatever the budget of its new owner is", () =>
  Effect.gen(function*() {
    const resumed = withStoredPolicy(stored(yield* toDraft(input)))(policies)
    const own = resumed.pipe(
      Effect.provideService(TurnPolicy.Budget, budget),
      Effect.provideService(TurnPolicy.OutputRepairs, 7),
      Effect.provideService(TurnPolicy.AllowSilent, true)
    )
    assert.deepStrictEqual(yield* own, { budget: {}, outputRepairs: 1, allowSilent: false })
  }))

it.effect("resumes a message that was claimed without a draft with the limits of its new owner", () =>
  Effect.gen(function*() {
    const resumed = Effect.provideService(withStoredPolicy(stored(null))(policies), TurnPolicy.Budget, budget)
    assert.deepStrictEqual((yield* resumed).budget, budget)
  }))

it.effect("leaves infinite limits out", () =>
  Effect.gen(function*() {
    const draft = yield* Effect.provideService(toDraft(input), TurnPolicy.Budget, {
      wallClock: Duration.infinity,
      cost: Number.POSITIVE_INFINITY,
      steps: 3
    })
    assert.deepStrictEqual(draft.policy, { budget: { steps: 3 } })
  }))

it.effect("stores the JSON Schema of the requested output", () =>
  Effect.gen(function*() {
    const { outputSchema } = yield* toDraft({ ...input, output: Schema.Struct({ price: Schema.Finite }) })
    assert.strictEqual(outputSchema?.["type"], "object")
    assert.nestedProperty(outputSchema, "properties.price")
  }))
