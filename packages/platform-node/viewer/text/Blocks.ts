/**
 * Markdown as a tree of tokens, read anew only where it grew.
 *
 * **Details**
 *
 * The lexer takes quadratic time for some texts without a space (a second for 20,000 exclamation marks), and more stack than there is for
 * thousands of quotes inside each other. Such texts are shown as they stand.
 */
import { Lexer, type Token, type TokensList } from "marked"

/** The blocks of a text that is still growing, and where the last of them begins. */
export interface Blocks {
  readonly text: string
  readonly tokens: ReadonlyArray<Token>
}

export const noBlocks: Blocks = { text: "", tokens: [] }

/**
 * The blocks of a text.
 *
 * **Details**
 *
 * A text that grew keeps all its blocks but the last one and the blank lines behind it, because what follows changes no other. The whole
 * text is read where it is complete: only then a link may name its address in a later block.
 */
export const grow = (before: Blocks, text: string, isComplete: boolean): Blocks => {
  if (before.text === text && !isComplete) return before
  const kept = isComplete || !text.startsWith(before.text) ? [] : closed(before.tokens)
  const length = kept.reduce((sum, { raw }) => sum + raw.length, 0)
  // The lexer turns line ends and tabs into others: lengths fit only where it did not.
  const isSame = length === 0 || text.startsWith(kept.map(({ raw }) => raw).join(""))
  return isSame ? { text, tokens: [...kept, ...read(text.slice(length))] } : { text, tokens: read(text) }
}

/** The text behind the entities that models write; everything else is as it stands. */
export const plain = (text: string): string =>
  text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|(amp|lt|gt|quot|apos|nbsp));/gi, (entity, decimal, hex, name) => {
    const code = decimal === undefined ? hex === undefined ? undefined : parseInt(hex, 16) : Number(decimal)
    if (code === undefined) return entities[String(name).toLowerCase()] ?? entity
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : entity
  })

/** The address of a link that may be followed: on the web, or a mail. A relative one would lead into the gateway. */
export const safeHref = (href: string): string | undefined => {
  if (!URL.canParse(href)) return undefined
  const url = new URL(href)
  return url.protocol === "https:" || url.protocol === "http:" || url.protocol === "mailto:" ? url.href : undefined
}

// internal

const maxDepth = 40

const maxWord = 1_000

const read = (text: string): ReadonlyArray<Token> => new BoundedLexer().lex(text)

class BoundedLexer extends Lexer {
  #depth = 0

  override blockTokens(text: string, tokens?: Array<Token>, isClipped?: boolean): Array<Token>
  override blockTokens(text: string, tokens?: TokensList, isClipped?: boolean): TokensList
  override blockTokens(text: string, tokens: Array<Token> = [], isClipped = false): Array<Token> {
    if (this.#depth >= maxDepth) return asItStands(text, tokens)
    this.#depth++
    super.blockTokens(text, tokens, isClipped)
    this.#depth--
    return tokens
  }

  override inlineTokens(text: string, tokens: Array<Token> = []): Array<Token> {
    const isLong = text.length > maxWord && text.split(/\s/).some(({ length }) => length > maxWord)
    return isLong ? asItStands(text, tokens) : super.inlineTokens(text, tokens)
  }
}

const asItStands = (text: string, tokens: Array<Token>): Array<Token> => {
  tokens.push({ type: "text", raw: text, text, escaped: false })
  return tokens
}

const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: "\"", apos: "'", nbsp: "\u00a0" }

const closed = (tokens: ReadonlyArray<Token>): ReadonlyArray<Token> => {
  const last = tokens.findLastIndex(({ type }) => type !== "space")
  return last <= 0 ? [] : tokens.slice(0, last)
}
