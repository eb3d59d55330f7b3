/**
 * Shows the text of the answer.
 *
 * Each reset, and the result, are compared with the text on the screen. Missing text is appended. If the texts differ, the screen says
 * so and shows the text again. Text that is taken back stays on the screen, with a note that it is void.
 */
import type { Part } from "@opencode-turn/core/Part"
import { fit, line, sanitize } from "../../terminal/TerminalText.ts"
import { chain, closeAnswer, closeLine, lines, type Screen, type Step } from "./ScreenState.ts"

/** Appends to a text part. */
export const showText = (self: Screen, id: string, text: string): Step => {
  if (text === "") return [self, []]
  const last = self.texts.at(-1)
  if (last?.id === id) {
    return append({ ...self, texts: [...self.texts.slice(0, -1), { id, text: last.text + text }] }, text)
  }
  // Text for a part that another part followed cannot be inserted above; `compare` shows it at the end.
  if (self.texts.some((shown) => shown.id === id)) return [self, []]
  return append({ ...self, texts: [...self.texts, { id, text }] }, last === undefined ? text : `${paragraph}${text}`)
}

/** Shows a value that is the whole answer, as JSON that is safe for a terminal. */
export const showValue = (self: Screen, json: string): Step => append(self, json)

/** Marks the shown text of a part as void after the part, or its text, was removed. */
export const takeBack = (self: Screen, id: string): Step => {
  const shown = self.texts.find((text) => text.id === id)
  const asides = new Map(self.asides)
  asides.delete(id)
  if (shown === undefined) return [{ ...self, asides }, []]
  return chain(
    { ...self, asides, texts: self.texts.filter((text) => text !== shown) },
    closeAnswer,
    (screen) => lines(screen, [fit(`the agent takes this back: ${line(shown.text)}`, self.options.columns - 1)])
  )
}

/** Marks everything shown so far as void. The text stays on the screen. */
export const restart = (self: Screen, reason: string): Step =>
  chain(
    self,
    closeAnswer,
    (screen) => lines({ ...screen, texts: [], asides: new Map(), tools: new Map() }, [reason])
  )

/** Brings the answer in line with the parts: appends missing text, or shows all of it again where it differs. */
export const compare = (self: Screen, parts: ReadonlyArray<Part>): Step => {
  if (self.options.hasValue) return [self, []]
  const texts = parts.flatMap((
    { id, ...part }
  ) => (part.type === "text" && part.text !== "" ? [{ id, text: part.text }] : []))
  const wanted = joined(texts)
  const shown = joined(self.texts)
  if (wanted === shown) return [{ ...self, texts }, []]
  if (wanted.startsWith(shown)) return append({ ...self, texts }, wanted.slice(shown.length))
  return chain(
    self,
    closeAnswer,
    (screen) =>
      lines({ ...screen, texts }, [
        wanted === ""
          ? "the server's record lacks the text shown above"
          : "the server's record differs from the text shown above; it reads:"
      ]),
    (screen) => (wanted === "" ? [screen, []] : append(screen, wanted))
  )
}

// internal

/** The separator of two text parts, as in `Reply.text`. */
const paragraph = "\n\n"

/** Appends text to the answer; the text may begin with a new paragraph. */
const append = (self: Screen, text: string): Step => {
  const [closed, closing] = self.unfinished === "aside" ? closeLine(self) : [self, []] as const
  const { isShared } = closed.options
  // On a shared screen, progress in between has already ended the previous paragraph's line.
  const isAtLineStart = isShared && closed.unfinished === "nothing"
  const isApart = text.startsWith(paragraph) || closed.isAnswerEmpty
  const spaced = isAtLineStart && isApart && !(closed.isAnswerEmpty && closed.isProgressEmpty)
    ? `\n${text.startsWith(paragraph) ? text.slice(paragraph.length) : text}`
    : text
  const safe = sanitize(spaced)
  const isLineEnded = safe.endsWith("\n")
  return [
    {
      ...closed,
      redrawable: undefined,
      speaker: isShared ? undefined : closed.speaker,
      isAnswerEmpty: false,
      isAnswerLineEnded: isLineEnded,
      unfinished: isShared ? (isLineEnded ? "nothing" : "text") : closed.unfinished
    },
    [...closing, { to: "answer", text: safe }]
  ]
}

const joined = (texts: ReadonlyArray<{ readonly text: string }>): string =>
  texts.map(({ text }) => text).join(paragraph)
