/**
 * Makes characters of a text visible that would hide something from the person who reads it. It imports nothing, so that a page may use it.
 */

/** Keeps newlines and tabs, and shows every other control character. */
export const sanitize = (text: string): string => text.replaceAll("\r\n", "\n").replaceAll(unsafe, visible)

/**
 * Also shows characters that are invisible or look like a blank: zero-width characters, fillers, tags, private characters, and every
 * blank but the usual one. Use it for a text that a person decides on; in other texts these characters join emoji and words.
 */
export const expose = (text: string): string => text.replaceAll(unseen, visible)

/** The characters that a terminal or a page obeys. */
export const unsafe = /(?![\n\t])[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu

/**
 * The default ignorable code points of Unicode include zero-width characters, fillers (U+3164), variation selectors and tags. U+2800
 * is a Braille pattern without dots.
 */
export const unseen = /(?! )[\p{Zs}\p{Cf}\p{Cn}\p{Co}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/gu

// internal

/** Unicode's control picture for an ASCII control, and the hexadecimal code point for any other character. */
const visible = (character: string): string => {
  const code = character.codePointAt(0) ?? 0
  if (code < 0x20) return String.fromCodePoint(0x2400 + code)
  return code === 0x7f ? "␡" : `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`
}
