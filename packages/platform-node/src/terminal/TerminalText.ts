/**
 * Makes text of a model or a server safe for a terminal.
 *
 * A terminal obeys control characters. Escape sequences move the cursor over earlier output, change the title, write to the
 * clipboard (OSC 52), or hide the target of a link (OSC 8). Bidi controls show a command in another order than it runs. Each such
 * character is made visible on its own, so a sequence that is split between two pieces of a stream is as harmless as a whole one.
 */
import { displayWidth } from "effect/cli/CliOutput"
import { sanitize, unsafe, unseen } from "./VisibleText.ts"

export { expose, sanitize } from "./VisibleText.ts"

/** The text on one line. */
export const line = (text: string): string => sanitize(text).replaceAll(/\s+/g, " ").trim()

/** The text on one line of at most `width` columns. */
export const fit = (text: string, width: number): string => {
  const whole = line(text)
  // A character takes at most two columns, so the length suffices to measure most texts.
  if (whole.length * 2 <= width || displayWidth(whole) <= width) return whole
  let cut = ""
  let used = 0
  for (const character of whole) {
    used += displayWidth(character)
    if (used >= width) break
    cut += character
  }
  return `${cut}…`
}

/** Turns the characters that a terminal obeys into JSON escapes; the value of the JSON stays the same. */
export const escapeJson = (json: string): string => json.replaceAll(unsafe, escapeUnits).replaceAll(unseen, escapeUnits)

// internal

const escapeUnits = (character: string): string =>
  character.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join("")
