/**
 * The types of results, which the type check proves: a wrong one does not compile.
 */
import { assert, it } from "@effect/vitest"
import type { TurnError, TurnResult } from "@opencode-turn/core"
import { runTurn, streamTurn } from "@opencode-turn/core"
import type { StoreError } from "@opencode-turn/core/SessionStore"
import type { TurnServices, TurnUpdate } from "@opencode-turn/core/Turn"
import type { TurnInput } from "@opencode-turn/core/TurnInput"
import { Effect, Schema, type Stream } from "effect"
import { expectTypeOf } from "vitest"

const Invoice = Schema.Struct({ number: Schema.String, total: Schema.Finite })
type Invoice = typeof Invoice.Type

const turn = { conversationId: "c1", prompt: "What is due?" }

const totalOf = (result: TurnResult.TurnResult<Invoice>): number => {
  if (result.status === "completed") {
    expectTypeOf(result.output).toEqualTypeOf<Invoice>()
    expectTypeOf(result.error).toEqualTypeOf<undefined>()
    return result.output.total
  }
  expectTypeOf(result.output).toEqualTypeOf<undefined>()
  return result.error.message.length
}

const told = (result: TurnResult.TurnResult): string => result.error?.message ?? result.content

const isCompleted = (result: TurnResult.TurnResult) => result.error === undefined ? result.status : "completed"

const maybe = (output: typeof Invoice | undefined) => runTurn({ ...turn, output })

const typed = (input: TurnInput) => runTurn(input)

it("a completed turn has the value of its output, and no error", () => {
  const run = runTurn({ ...turn, output: Invoice })
  expectTypeOf(run).toEqualTypeOf<Effect.Effect<TurnResult.TurnResult<Invoice>, StoreError, TurnServices>>()
  assert.isFunction(totalOf)
})

it("every other status has the errors that it can end with", () => {
  expectTypeOf<TurnResult.Cancelled["error"]>().toEqualTypeOf<TurnError.TurnCancelled>()
  expectTypeOf<TurnResult.Unusable["error"]["_tag"]>().toEqualTypeOf<
    "Upstream" | "EmptyStream" | "OutputInvalid" | "BudgetExceeded" | "NoProgress" | "Refused"
  >()
  expectTypeOf<TurnResult.Failed["error"]>().toEqualTypeOf<
    Exclude<TurnError.TurnError, TurnError.TurnCancelled | TurnError.UnusableError>
  >()
  expectTypeOf(isCompleted).returns.toEqualTypeOf<"completed">()
  assert.isFunction(told)
})

it("a turn without an output has no value, and one that may have an output may have none", () => {
  expectTypeOf(runTurn(turn)).toEqualTypeOf<
    Effect.Effect<TurnResult.TurnResult<undefined>, StoreError, TurnServices>
  >()
  expectTypeOf(maybe).returns.toEqualTypeOf<
    Effect.Effect<TurnResult.TurnResult<Invoice | undefined>, StoreError, TurnServices>
  >()
  expectTypeOf(typed).returns.toEqualTypeOf<Effect.Effect<TurnResult.TurnResult, StoreError, TurnServices>>()
})

it("a stream ends with a result of the same type, and the callback at the end gets it", () => {
  const updates = streamTurn({
    ...turn,
    output: Invoice,
    onTurnFinished: (result) => {
      expectTypeOf(result).toEqualTypeOf<TurnResult.TurnResult<Invoice>>()
      return Effect.void
    }
  })
  expectTypeOf(updates).toEqualTypeOf<Stream.Stream<TurnUpdate<Invoice>, StoreError, TurnServices>>()
  expectTypeOf(streamTurn(turn)).toEqualTypeOf<Stream.Stream<TurnUpdate<undefined>, StoreError, TurnServices>>()
})
