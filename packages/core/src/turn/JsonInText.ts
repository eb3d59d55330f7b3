/**
 * The JSON values that a text of words holds: in its blocks of code, and between its words.
 *
 * **Details**
 *
 * A block of code counts if all of it is JSON. Between words an object counts wherever it stands, and a list only if it fills its lines:
 * in "see [1]" it is none.
 *
 * **Not responsibilities**: which of them is meant (`Output`).
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * A value of a text.
 *
 * **Details**
 *
 * - `isSetApart`: whether the text gives it as a value: in a block of code, on lines without words, or, if it is an object, behind the
 *   last word.
 *
 * @category models
 * @since 0.1.0
 */
export interface Found {
  readonly value: unknown
  readonly isSetApart: boolean
}

/**
 * Reads a text that is JSON as a whole.
 *
 * @category conversions
 * @since 0.1.0
 */
export const parse = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.Unknown))

/**
 * The values of a text, each once, or `undefined` where there are more than can be told apart. Its time grows with the length of the text,
 * whatever it holds.
 *
 * @category getters
 * @since 0.1.0
 */
export const find = (text: string): ReadonlyArray<Found> | undefined => {
  const lastWord = lastWordOf(text)
  const effort = { left: effortPerValue * maxFound + effortPerCharacter * text.length }
  const found = new Map<string, Found>()
  for (const { isBlock, start, text: piece } of piecesOf(text)) {
    if (effort.left < 0) return undefined
    for (const { end, isAlone, json, value } of isBlock ? wholeOf(piece, effort) : valuesBetweenWords(piece, effort)) {
      const isSetApart = isAlone || (json.startsWith("{") && start + end > lastWord)
      if (!isSetApart && json.startsWith("[")) continue
      found.set(json, { value, isSetApart: isSetApart || found.get(json)?.isSetApart === true })
      if (found.size > maxFound) return undefined
    }
  }
  return effort.left < 0 ? undefined : Array.from(found.values())
}

// internal

/** More are rather pieces of a program than values. */
const maxFound = 20

/**
 * The effort that a text is worth, and what it takes to read a value besides looking at its characters. A text of nothing but brackets
 * would be looked at once for each of them.
 */
const effortPerCharacter = 20
const effortPerValue = 100

/** A part of the text: what stands inside the fences of a block of code, or between two blocks. */
interface Piece {
  readonly isBlock: boolean
  readonly start: number
  readonly text: string
}

/** A value in a piece. `isAlone`: no words stand beside it on its lines. */
interface Placed {
  readonly json: string
  readonly value: unknown
  readonly end: number
  readonly isAlone: boolean
}

const word = /[\p{L}\p{N}]/u

const lastWordOf = (text: string): number => {
  let at = text.length - 1
  while (at >= 0 && !word.test(text.charAt(at))) at--
  return at
}

/** Divides a text at the fences of its blocks of code. A block that nothing closes goes on to the end. */
const piecesOf = (text: string): ReadonlyArray<Piece> => {
  const pieces: Array<Piece> = []
  let start = 0
  let fence: string | undefined
  // Whether the fence of the block may still stand at the end of a line of JSON. No JSON has one inside.
  let mayEndLine = false
  const add = (isBlock: boolean, end: number) => {
    if (end > start) pieces.push({ isBlock, start, text: text.slice(start, end) })
  }
  for (let at = 0; at < text.length;) {
    const found = text.indexOf("\n", at)
    const next = found === -1 ? text.length : found + 1
    const line = text.slice(at, next).trim()
    if (fence === undefined) {
      const opening = /^(?:`{3,}|~{3,})/.exec(line)?.[0]
      const info = line.slice(opening?.length)
      if (opening !== undefined && info.endsWith(opening)) {
        add(false, at)
        pieces.push({ isBlock: true, start: at, text: withoutLanguage(info.slice(0, -opening.length)) })
        start = next
      } else if (opening !== undefined && !info.includes("`")) {
        add(false, at)
        fence = opening
        start = next
        mayEndLine = true
      }
    } else if (line.startsWith(fence) && isFence(line)) {
      add(true, at)
      fence = undefined
      start = next
    } else if (mayEndLine && line.endsWith(fence)) {
      mayEndLine = false
      const end = text.lastIndexOf(fence, next)
      if (Result.isSuccess(parse(text.slice(start, end)))) {
        add(true, end)
        fence = undefined
        start = next
      }
    }
    at = next
  }
  add(fence !== undefined, text.length)
  return pieces
}

const isFence = (line: string): boolean => line === line.charAt(0).repeat(line.length)

/** A block on one line may begin with the name of its language. */
const withoutLanguage = (text: string): string =>
  Result.isSuccess(parse(text)) ? text : text.replace(/^\s*[a-z]\w*/i, "")

const wholeOf = (piece: string, effort: { left: number }): ReadonlyArray<Placed> => {
  effort.left -= effortPerValue
  const value = parse(piece)
  return Result.isSuccess(value)
    ? [{ json: piece.trim(), value: value.success, end: piece.length, isAlone: true }]
    : []
}

/** The outermost objects and lists that stand between words. */
const valuesBetweenWords = (piece: string, effort: { left: number }): ReadonlyArray<Placed> => {
  const values: Array<Placed> = []
  let isAfterWord = false
  // Those of this line that no word stands before: whether one follows is not known yet.
  let before: Array<Omit<Placed, "isAlone">> = []
  const settle = (isAlone: boolean) => {
    for (const value of before) values.push({ ...value, isAlone })
    before = []
  }
  for (let at = 0; at < piece.length && effort.left >= 0; at++) {
    const character = piece.charAt(at)
    if (character === "\n") {
      settle(true)
      isAfterWord = false
    } else if (character === "{" || character === "[") {
      const reached = readBrackets(piece, at)
      effort.left -= reached.at - at
      if (!reached.isClosed) continue
      effort.left -= effortPerValue
      const json = piece.slice(at, reached.at)
      const value = parse(json)
      if (Result.isFailure(value)) continue
      const found = { json, value: value.success, end: reached.at }
      if (isAfterWord) values.push({ ...found, isAlone: false })
      else before.push(found)
      at = reached.at - 1
    } else if (word.test(character)) {
      settle(false)
      isAfterWord = true
    }
  }
  settle(true)
  return values
}

/** Reads from a bracket to behind the one that closes it, or to what cannot stand in JSON. */
const readBrackets = (text: string, start: number): { readonly at: number; readonly isClosed: boolean } => {
  let depth = 0
  for (let at = start; at < text.length; at++) {
    const character = text.charAt(at)
    if (character === "{" || character === "[") depth++
    else if (character === "}" || character === "]") depth--
    else if (character === "\"") at = endOfString(text, at)
    else if (!outsideStrings.test(character)) return { at, isClosed: false }
    if (depth === 0) return { at: at + 1, isClosed: true }
  }
  return { at: text.length, isClosed: false }
}

/** Separators, numbers, and the letters of `true`, `false` and `null`. */
const outsideStrings = /[\s,:\d+\-.eEtrufalsn]/

const endOfString = (text: string, start: number): number => {
  let at = start + 1
  while (at < text.length && text.charAt(at) !== "\"") at += text.charAt(at) === "\\" ? 2 : 1
  return at
}
