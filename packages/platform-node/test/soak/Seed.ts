/** The random choices of a soak, which follow from its seed and from what they are for: so a soak makes the same ones again. */
import { Hash } from "effect"

/** A number from 0 up to 1. */
export const fraction = (seed: number, what: string): number => {
  // A hash of similar texts has similar bits; each multiplication spreads them.
  let bits = Hash.string(`${seed} ${what}`)
  bits = Math.imul(bits ^ (bits >>> 16), 0x21f0aaad)
  bits = Math.imul(bits ^ (bits >>> 15), 0x735a2d97)
  return ((bits ^ (bits >>> 15)) >>> 0) / 2 ** 32
}

/** A whole number of milliseconds below the limit. */
export const millisBelow = (limit: number, seed: number, what: string): number =>
  Math.floor(limit * fraction(seed, what))
