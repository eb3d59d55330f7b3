/**
 * The text of the answer on the screen.
 *
 * The text that was shown is compared with each reset and with the result. What is missing is added; where it differs, that is
 * said and the text is shown once more. Text that is taken back stays above; that it is void is said.
 */
import type { Part } from "@opencode-turn/core/Part"
import { fit, line, sanitize } from "../../terminal/TerminalText.ts"
import { chain, closeAnswer, closeLine, lines, type Screen, type Step } from "./ScreenState.ts"

/** More of a text part. */
export const showText = (self: Screen, id: string, text: string): Step => {
  if (text === "") return [self, []]
  const last = self.texts.at(-1)
  if (last?.id === id) {
    return append({ ...self, texts: [...self.texts.slice(0, -1), { id, text: last.text + text }] }, text)
  }
  // More of a part that another one followed cannot be put where it belongs: the comparison at the end shows it.
  if (self.texts.some((shown) => shown.id === id)) return [self, []]
  return append({ ...self, texts: [...self.texts, { id, text }] }, last === undefined ? text : `${paragraph}${text}`)
}

/** A value that is the whole of the answer, as JSON that is safe for a terminal. */
export const showValue = (self: Screen, json: string): Step => append(self, json)

/** A part is gone, or its text: what was shown of it is void. */
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

/** What was shown is void, and stays above. */
export const restart = (self: Screen, reason: string): Step =>
  chain(
    self,
    closeAnswer,
    (screen) => lines({ ...screen, texts: [], asides: new Map(), tools: new Map() }, [reason])
  )

/** Brings the answer to what the parts hold: by adding to it, or, where it differs, by showing all of it again. */
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
          ? "the server kept no text of what was shown above"
          : "the server's record differs from what was shown above, here is its text:"
      ]),
    (screen) => (wanted === "" ? [screen, []] : append(screen, wanted))
  )
}

// internal

/** What stands between two text parts, as in `Reply.text`. */
const paragraph = "\n\n"

/** Writes more of the answer's text, which may begin with a new paragraph. */
const append = (self: Screen, text: string): Step => {
  const [closed, closing] = self.unfinished === "aside" ? closeLine(self) : [self, []] as const
  const { isShared } = closed.options
  // On one screen the line that the paragraph is to end was ended already by what came between, or there was none.
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
