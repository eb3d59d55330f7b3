/** The program of docs/TESTING.md: a product's own code, tested on the fake OpenCode. */
import { assert, it } from "@effect/vitest"
import { runTurn, TurnPolicy } from "@opencode-turn/core"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import type { Script } from "@opencode-turn/testing/ModelScript"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { readFileSync } from "node:fs"

// The code under test: it knows nothing of the fake.
const review = (change: string) =>
  runTurn({ conversationId: `review-${change}`, prompt: `Review ${change}.` }).pipe(
    Effect.provideService(TurnPolicy.Budget, { wallClock: "10 minutes" }),
    Effect.map((result) => result.status === "completed" ? result.content : `no review: ${result.error._tag}`)
  )

// What takes the place of `LiveLayer`: a server whose model is a script, and a store in memory.
const layer = (script: Script) =>
  Layer.mergeAll(FakeOpencode.layerTest({ script }), MemorySessionStore.layer, Tracer.layerNoop)

it.effect("a review is what the agent says", () =>
  Effect.gen(function*() {
    assert.strictEqual(yield* review("a1"), "It looks good.")
    const fake = yield* FakeOpencode.FakeOpencode
    const [request] = yield* fake.modelRequests
    assert.include(JSON.stringify(request?.messages), "Review a1.")
  }).pipe(Effect.provide(layer(() => ({ text: "It looks good." })))))

it.effect("a model that hangs ends the review after ten minutes, and the test takes none", () =>
  Effect.gen(function*() {
    const reviewing = yield* Effect.forkChild(review("a2"))
    const fake = yield* FakeOpencode.FakeOpencode
    yield* fake.reached("never")
    yield* TestClock.adjust("11 minutes")
    assert.strictEqual(yield* Fiber.join(reviewing), "no review: BudgetExceeded")
    const store = yield* SessionStore
    assert.lengthOf(yield* store.listOrphans(10), 0)
  }).pipe(Effect.provide(layer(() => ({ text: "I look at it.", gate: "never", gateAfter: 1 })))))

it("the guide shows this program as it is", () => {
  const own = readFileSync(new URL(import.meta.url), "utf8")
  const guide = readFileSync(new URL("../../../docs/TESTING.md", import.meta.url), "utf8")
  const blocks = [...guide.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code = ""]) => code.trim())
  assert.isAbove(blocks.length, 0)
  for (const block of blocks) assert.include(own, block)
})
