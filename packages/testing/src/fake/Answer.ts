/**
 * An answer of the scripted model, as both faces of the fake OpenCode play it.
 *
 * **Responsibilities**: the pieces of reasoning and text with their gates and waits, and what the server makes of an answer's finish
 * reason and usage.
 *
 * **Not responsibilities**: the events and stored messages that show it (each face's `Step`).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { split } from "../model/Chunks.ts"
import type * as ModelScript from "../model/ModelScript.ts"
import { toolCalls } from "../model/ModelScript.ts"

/**
 * A delta of the model.
 *
 * @category models
 * @since 0.1.0
 */
export interface Piece {
  readonly type: "reasoning" | "text"
  readonly text: string
}

/**
 * Says the pieces of an answer in order, and waits where its script says so. It gives `cut` if the connection of the model breaks, and
 * never ends if the model hangs.
 *
 * @category combinators
 * @since 0.1.0
 */
export const play = Effect.fnUntraced(function*(
  answer: ModelScript.Answer,
  gate: (name: string) => Effect.Effect<void>,
  say: (piece: Piece) => void
): Effect.fn.Return<"cut" | "said"> {
  const pieces: ReadonlyArray<Piece> = [
    ...split(answer.reasoning ?? "", answer.chunks).map((text) => ({ type: "reasoning" as const, text })),
    ...split(answer.text ?? "", answer.chunks).map((text) => ({ type: "text" as const, text }))
  ]
  const gateAfter = Math.min(answer.gateAfter ?? pieces.length, pieces.length)
  for (let index = 0; index <= pieces.length; index++) {
    if (answer.gate !== undefined && index === gateAfter) yield* gate(answer.gate)
    const piece = pieces[index]
    if (piece === undefined) break
    if (answer.chunkDelayMillis !== undefined) yield* Effect.sleep(answer.chunkDelayMillis)
    say(piece)
  }
  if (answer.ending === "hang") return yield* Effect.never
  return answer.ending === "cut" ? "cut" : "said"
})

/**
 * The server's name of the reason for which the answer ended. A reason of an unknown kind becomes `unknown` (1.18.33).
 *
 * @category getters
 * @since 0.1.0
 */
export const finishReason = (answer: ModelScript.Answer): string => {
  const reason = answer.finish?.replaceAll("_", "-") ?? (toolCalls(answer).length > 0 ? "tool-calls" : "stop")
  return knownReasons.includes(reason) ? reason : "unknown"
}

/**
 * Tokens as OpenCode counts them: its input excludes cached tokens, and its output excludes reasoning.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tokens {
  readonly input: number
  readonly output: number
  readonly reasoning: number
  readonly cache: { readonly read: number; readonly write: number }
}

/**
 * @category constants
 * @since 0.1.0
 */
export const zeroTokens: Tokens = { input: 0, output: 0, reasoning: 0, cache: { read: 0, write: 0 } }

/**
 * @category getters
 * @since 0.1.0
 */
export const addTokens = (left: Tokens, right: Tokens): Tokens => ({
  input: left.input + right.input,
  output: left.output + right.output,
  reasoning: left.reasoning + right.reasoning,
  cache: { read: left.cache.read + right.cache.read, write: left.cache.write + right.cache.write }
})

/**
 * The tokens of an answer.
 *
 * @category getters
 * @since 0.1.0
 */
export const tokensOf = ({ usage = defaultUsage }: ModelScript.Answer): Tokens => {
  const { cacheRead = 0, input, output, reasoning = 0 } = usage
  return { input: input - cacheRead, output: output - reasoning, reasoning, cache: { read: cacheRead, write: 0 } }
}

/**
 * The cost by the prices of `ScriptedProvider`, in half dollars per million tokens; reasoning costs what output costs.
 *
 * @category getters
 * @since 0.1.0
 */
export const costOf = (answer: ModelScript.Answer): number => {
  const { cache, input, output, reasoning } = tokensOf(answer)
  return (input * 2 + (output + reasoning) * 4 + cache.read) / 2 / 1_000_000
}

// internal

const defaultUsage: ModelScript.Usage = { input: 10, output: 5 }

const knownReasons: ReadonlyArray<string> = ["stop", "tool-calls", "length", "content-filter"]
