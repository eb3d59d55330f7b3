/**
 * Text that a model or a server wrote, made safe for a terminal.
 *
 * A terminal obeys what it is sent: escape sequences move the cursor over what was printed before, change the title, write
 * to the clipboard (OSC 52), hide where a link goes (OSC 8); bidi controls show a command in another order than it runs.
 * Every such character is made visible one by one, so that a sequence that is cut in two between two pieces of a stream is
 * as harmless as a whole one.
 */
import { displayWidth } from "effect/cli/CliOutput"

/** Keeps newlines and tabs, and shows every other control character instead of sending it. */
export const sanitize = (text: string): string => text.replaceAll("\r\n", "\n").replaceAll(unsafe, visible)

/** The text on one line. */
export const line = (text: string): string => sanitize(text).replaceAll(/\s+/g, " ").trim()

/**
 * Shows also what nobody sees or can tell from a blank: zero-width characters, fillers, tags, private ones, and every blank but the
 * usual one. For a text that a person decides on; in others these characters join emoji and words.
 */
export const expose = (text: string): string => text.replaceAll(unseen, visible)

/** The text on one line of at most `width` columns. */
export const fit = (text: string, width: number): string => {
  const whole = line(text)
  // No character is wider than two columns, so most texts are measured by their length.
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

/** JSON of the same value in which a terminal takes nothing for an order: such characters become escapes of JSON. */
export const escapeJson = (json: string): string => json.replaceAll(unsafe, escapeUnits).replaceAll(unseen, escapeUnits)

// internal

const unsafe = /(?![\n\t])[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu

/**
 * The default ignorable code points of Unicode are the zero-width ones, the fillers (U+3164), the variation selectors and the tags.
 * U+2800 is a pattern of no dots.
 */
const unseen = /(?! )[\p{Zs}\p{Cf}\p{Cn}\p{Co}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/gu

const escapeUnits = (character: string): string =>
  character.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join("")

/** The control pictures of Unicode for ASCII's controls, the code point in hexadecimal for the rest. */
const visible = (character: string): string => {
  const code = character.codePointAt(0) ?? 0
  if (code < 0x20) return String.fromCodePoint(0x2400 + code)
  return code === 0x7f ? "␡" : `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`
}
