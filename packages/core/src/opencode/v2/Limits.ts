/**
 * What a prompt may not have on OpenCode 2.x. The server refuses it with a status alone, and partly after the session was made.
 *
 * @since 0.1.0
 */
import type { Prompt } from "../../domain/Prompt.ts"
import { InvalidInput } from "../../domain/TurnError.ts"
import { carriedBytes, nameOf } from "../PromptCheck.ts"

/**
 * The first limit that a prompt is over.
 *
 * @category getters
 * @since 0.1.0
 */
export const flawOf = (
  { parts, system }: Pick<Prompt, "parts" | "system">,
  isBeta: boolean
): InvalidInput | undefined => {
  const size = system === undefined ? 0 : byteLength(JSON.stringify(system))
  if (size > maxSystemBytes) {
    return new InvalidInput({
      field: "system",
      reason:
        `it has ${size} bytes as JSON, and OpenCode 2.x takes ${maxSystemBytes}: shorten it, or move a part of it to the prompt`
    })
  }
  const limit = isBeta ? maxBetaFileBytes : maxFileBytes
  const [index, large] = [...parts.entries()].find(([, part]) => carriedBytes(part) > limit) ?? []
  return index === undefined || large === undefined ? undefined : new InvalidInput({
    field: "prompt",
    reason:
      `${nameOf(large, index)}: it has ${carriedBytes(large)} bytes, and OpenCode 2.x takes ${limit} in one file: ` +
      "send a smaller one, or name its path in the text, so that the agent reads it"
  })
}

// internal

/** Of the JSON of a system text (0.0.0-next-16350). */
const maxSystemBytes = 8192

/** Of one file, as the server's own message says (0.0.0-next-16350). */
const maxFileBytes = 20 * 1024 * 1024

/** The beta answers 500 without a word to a file of 4.13 million bytes, and takes one of 4.12 million (0.0.0-next-16350). */
const maxBetaFileBytes = 4_000_000

const byteLength = (text: string): number => new TextEncoder().encode(text).length
