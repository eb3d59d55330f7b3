/**
 * Makes text of a model or a server safe for a terminal.
 *
 * A terminal obeys control characters. Escape sequences move the cursor over earlier output, change the title, write to the
 * clipboard (OSC 52), or hide the target of a link (OSC 8). Bidi controls show a command in another order than it runs. Each such
 * character is made visible on its own, so a sequence that is split between two pieces of a stream is as harmless as a whole one.
 */
import { displayWidth } from "effect/cli/CliOutput"

/** Keeps newlines and tabs, and shows every other control character. */
export const sanitize = (text: string): string => text.replaceAll("\r\n", "\n").replaceAll(unsafe, visible)

/** The text on one line. */
export const line = (text: string): string => sanitize(text).replaceAll(/\s+/g, " ").trim()

/**
 * Also shows characters that are invisible or look like a blank: zero-width characters, fillers, tags, private characters, and every
 * blank but the usual one. Use it for a text that a person decides on; in other texts these characters join emoji and words.
 */
export const expose = (text: string): string => text.replaceAll(unseen, visible)

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

const unsafe = /(?![\n\t])[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu

/**
 * The default ignorable code points of Unicode include zero-width characters, fillers (U+3164), variation selectors and tags. U+2800
 * is a Braille pattern without dots.
 */
const unseen = /(?! )[\p{Zs}\p{Cf}\p{Cn}\p{Co}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/gu

const escapeUnits = (character: string): string =>
  character.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join("")

/** Unicode's control picture for an ASCII control, and the hexadecimal code point for any other character. */
const visible = (character: string): string => {
  const code = character.codePointAt(0) ?? 0
  if (code < 0x20) return String.fromCodePoint(0x2400 + code)
  return code === 0x7f ? "␡" : `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`
}
