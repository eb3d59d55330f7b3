/** What a turn holds while it waits for its model. A fiber costs some 2 KB with its stack, so their number is what a waiting turn costs. */
import { assert, it } from "@effect/vitest"
import * as MemorySessionStore from "@opencode-turn/core/MemorySessionStore"
import * as Tracer from "@opencode-turn/core/Tracer"
import { runTurn } from "@opencode-turn/core/Turn"
import * as FakeOpencode from "@opencode-turn/testing/FakeOpencode"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as TestClock from "effect/testing/TestClock"

const layer = Layer.mergeAll(FakeOpencode.layerTest(), MemorySessionStore.layer, Tracer.layerNoop)

/** Counts the fibers of turns that run and the ones that they have started. */
const counted = () => {
  let count = 0
  const service: Metric.FiberRuntimeMetricsService = {
    recordFiberStart: () => void count++,
    recordFiberEnd: () => void count--
  }
  return { service, count: () => count }
}

const rest = Effect.repeat(TestClock.adjust(0), { times: 100 })

/** Starts as many turns of conversations of their own, whose model says nothing, and waits until nothing happens. */
const startWaiting = Effect.fnUntraced(
  function*(names: ReadonlyArray<string>, service: Metric.FiberRuntimeMetricsService) {
    for (const name of names) {
      const prompt = FakeOpencode.prompt("Do it.", [{ text: "never", delayMillis: 3_600_000 }])
      const turn = runTurn({ conversationId: name, prompt })
      yield* Effect.forkChild(Effect.provideService(turn, Metric.FiberRuntimeMetrics, service))
      yield* rest
    }
    // The snapshot of what has come so far is made by then, and a lease was renewed.
    yield* TestClock.adjust("1 minute")
    yield* rest
  }
)

it.effect("a turn that waits for its model holds at most five fibers beside the one that runs it", () =>
  Effect.gen(function*() {
    const { count, service } = counted()
    yield* startWaiting(["first"], service)
    const before = count()
    yield* startWaiting(["a", "b", "c", "d"], service)
    assert.isAtMost((count() - before) / 4, 5)
  }).pipe(Effect.provide(layer)))
