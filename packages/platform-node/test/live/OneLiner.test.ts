import { assert, it } from "@effect/vitest"
import { runTurn } from "@opencode-turn/core"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import type { TurnResult } from "@opencode-turn/core/TurnResult"
import { LiveLayer } from "@opencode-turn/platform-node"
import type { Turns } from "@opencode-turn/platform-node/promise"
import { Effect, Schema } from "effect"
import { expectTypeOf } from "vitest"
import * as zod from "zod"

const plain = (input: TurnInput) => Effect.runPromise(runTurn(input).pipe(Effect.provide(LiveLayer)))

it("one line runs a turn, whatever its input is", () => {
  expectTypeOf(plain).returns.toEqualTypeOf<Promise<TurnResult>>()
  assert.isFunction(plain)
})

const turn = { conversation: "c1", prompt: "Sum." }
const use = async (turns: Turns) => {
  const effect = await turns.run({ ...turn, output: Schema.Struct({ total: Schema.Finite }) })
  if (effect.status === "completed") expectTypeOf(effect.output).toEqualTypeOf<{ readonly total: number }>()
  else expectTypeOf(effect.error.message).toEqualTypeOf<string>()

  const fromZod = await turns.run({ ...turn, output: zod.object({ total: zod.number() }) })
  if (fromZod.error === undefined) expectTypeOf(fromZod.output).toEqualTypeOf<{ total: number }>()

  const json = await turns.run({ ...turn, output: { type: "object" } })
  expectTypeOf(json).toEqualTypeOf<TurnResult>()

  const text = await turns.run(turn)
  expectTypeOf(text).toEqualTypeOf<TurnResult<undefined>>()

  for await (const update of turns.stream({ ...turn, output: zod.object({ total: zod.number() }) })) {
    if (update._tag === "Finished") expectTypeOf(update.result).toEqualTypeOf<TurnResult<{ total: number }>>()
  }
}

it("the results of the Promise API narrow by their status", () => {
  assert.isFunction(use)
})
