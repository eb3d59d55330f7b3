/**
 * Numbers and times as people read them.
 */
import type { Usage } from "../state/Types.ts"

export const duration = (millis: number): string => {
  const seconds = Math.max(0, millis) / 1_000
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 60) return `${Math.floor(seconds)} s`
  const minutes = Math.floor(seconds / 60)
  return minutes < 60
    ? `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`
    : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`
}

export const cost = (dollars: number): string =>
  dollars === 0 ? "$0" : dollars < 0.01 ? `$${dollars.toPrecision(2)}` : `$${dollars.toFixed(2)}`

export const count = (number: number): string =>
  number < 1_000
    ? String(number)
    : number < 1_000_000
    ? `${(number / 1_000).toFixed(1)}k`
    : `${(number / 1_000_000).toFixed(1)}M`

/** All tokens of a usage. */
export const tokens = ({ tokens: { cacheRead, cacheWrite, input, output, reasoning } }: Usage): number =>
  input + output + reasoning + cacheRead + cacheWrite

/** The first words of a turn. What is done with a conversation besides turns stands in lists as a command, with ids. */
export const excerptOf = ({ excerpt }: { readonly excerpt: string }): string => {
  if (/^\/revert asm_\S+$/.test(excerpt)) return "Turns taken back"
  if (/^\/fork \S+( asm_\S+)?$/.test(excerpt)) return "A fork"
  return excerpt === "/unrevert" ? "Turns brought back" : excerpt === "/compact" ? "A summary" : excerpt
}

/** When something was, for a list. */
export const when = (millis: number, nowMillis: number): string => {
  const date = new Date(millis)
  const isToday = new Date(nowMillis).toDateString() === date.toDateString()
  return isToday
    ? date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })
    : date.toLocaleDateString(undefined, { month: "short", day: "numeric" })
}

/** A value as JSON, and a text as itself. */
export const json = (value: unknown): string =>
  typeof value === "string" ? value : JSON.stringify(value, undefined, 2) ?? ""
