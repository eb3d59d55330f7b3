/**
 * The ids of the fake OpenCode, in the format of the real server.
 *
 * @since 0.1.0
 */

/**
 * Makes ids in OpenCode's format: 12 hex digits of time and 14 base62 characters.
 *
 * @category models
 * @since 0.1.0
 */
export interface IdGenerator {
  /** An id that sorts after every id made before, whatever its prefix. */
  readonly ascending: (prefix: "evt" | "frm" | "msg" | "per" | "prt" | "que" | "sh") => string
  /** A session's id. Newer sessions sort before older ones. */
  readonly session: () => string
}

/**
 * A generator that gives the same ids whenever the clock gives the same times.
 *
 * **Details**
 *
 * Time counts in ticks of 1/4096 ms. If a millisecond needs more ids than it has ticks, as with a clock that stands still, later ticks
 * are used.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeIds = (nowMillis: () => number): IdGenerator => {
  let lastTick = 0n
  let seed = 1n
  const next = () => {
    const now = BigInt(Math.trunc(nowMillis())) * 4096n
    lastTick = now > lastTick ? now : lastTick + 1n
    return lastTick & lowBits
  }
  const suffix = () => {
    let text = ""
    for (let index = 0; index < 14; index++) {
      // A linear congruential generator (Knuth's MMIX): the suffix has only to differ.
      seed = (seed * 6364136223846793005n + 1442695040888963407n) & ((1n << 64n) - 1n)
      text += alphabet.charAt(Number(seed >> 33n) % alphabet.length)
    }
    return text
  }
  return {
    ascending: (prefix) => `${prefix}_${hex(next())}${suffix()}`,
    session: () => `ses_${hex(lowBits - next())}${suffix()}`
  }
}

// internal

const hex = (tick: bigint) => tick.toString(16).padStart(12, "0")

const lowBits = (1n << 48n) - 1n
const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
