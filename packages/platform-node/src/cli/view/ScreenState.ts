/**
 * The state of a turn's screen, and its progress lines.
 *
 * **Responsibilities**: keeping lines apart where both streams share a screen; drawing over a line only while it is the last one.
 *
 * **Not responsibilities**: choosing what to show (`Screen`), the text of the answer (`ScreenAnswer`).
 */
import type { SessionId } from "@opencode-turn/core/Ids"
import type { ToolPart } from "@opencode-turn/core/Part"
import type { Subagent } from "@opencode-turn/core/Subagent"
import { displayWidth } from "effect/cli/CliOutput"
import { sanitize } from "../../terminal/TerminalText.ts"

/** The properties of both streams (see `Streams`), and how the answer is shown. */
export interface Options {
  readonly isShared: boolean
  readonly isScreen: boolean
  readonly hasColor: boolean
  readonly columns: number
  /** Whether the answer is a value. The value is known at the end, so earlier text of the agent is progress. */
  readonly hasValue: boolean
  /** Whether the gate prints asks in full, so that the screen only names them. */
  readonly areAsksNamed: boolean
}

/** Everything that the screen shows so far. */
export interface Screen {
  readonly options: Options
  /** The text parts of the answer, in the order in which they were shown. */
  readonly texts: ReadonlyArray<{ readonly id: string; readonly text: string }>
  /** The text shown as progress for each part: reasoning, and text that is not the answer. */
  readonly asides: ReadonlyMap<string, string>
  /** The full line of each tool call, as it was last shown. */
  readonly tools: ReadonlyMap<string, string>
  /** The running tool that was shown last, and when the clock first saw it run. */
  readonly working: { readonly part: ToolPart; readonly sinceMillis: number | undefined } | undefined
  /** The subagents, in the order in which they were opened. */
  readonly subagents: ReadonlyMap<SessionId, ShownSubagent>
  /** The subagent of the last progress line. */
  readonly speaker: SessionId | undefined
  /** The part of the last progress line, if that line can still be drawn over. */
  readonly redrawable: { readonly id: string; readonly place: Place } | undefined
  /** What the unfinished last progress line holds. */
  readonly unfinished: "nothing" | "text" | "aside"
  readonly isAnswerEmpty: boolean
  readonly isProgressEmpty: boolean
  /** Whether the answer ends with a line break. */
  readonly isAnswerLineEnded: boolean
}

/** A subagent and what is shown of it. `name` is short and unique. */
export interface ShownSubagent {
  readonly subagent: Subagent
  readonly name: string
  readonly shown: "nothing" | "opening" | "end"
  /** Its latest text part. */
  readonly said: { readonly id: string; readonly text: string } | undefined
}

/** The place of a progress line: its indentation, and the subagent it belongs to. */
export interface Place {
  readonly before: string
  readonly speaker: SessionId | undefined
}

/** Text for one stream. */
export interface Write {
  readonly to: "answer" | "progress"
  readonly text: string
}

/** The next screen, and the text to write for it. */
export type Step = readonly [Screen, ReadonlyArray<Write>]

/** An empty screen. */
export const make = (options: Options): Screen => ({
  options,
  texts: [],
  asides: new Map(),
  tools: new Map(),
  working: undefined,
  subagents: new Map(),
  speaker: undefined,
  redrawable: undefined,
  unfinished: "nothing",
  isAnswerEmpty: true,
  isProgressEmpty: true,
  isAnswerLineEnded: true
})

/** The place at the start of a line, for the turn's own session. */
export const atStart: Place = { before: "", speaker: undefined }

/** Applies the steps in order. */
export const chain = (self: Screen, ...steps: ReadonlyArray<(screen: Screen) => Step>): Step => {
  let screen = self
  const writes: Array<Write> = []
  for (const step of steps) {
    const [next, more] = step(screen)
    screen = next
    writes.push(...more)
  }
  return [screen, writes]
}

/** Writes whole progress lines. */
export const lines = (self: Screen, texts: ReadonlyArray<string>, { before, speaker }: Place = atStart): Step => {
  if (texts.length === 0) return [self, []]
  const [closed, closing] = closeLine(self)
  return [
    { ...closed, redrawable: undefined, speaker, isProgressEmpty: false },
    [...closing, { to: "progress", text: texts.map((text) => `${dim(self, `${before}${text}`)}\n`).join("") }]
  ]
}

/** Writes a row; it overwrites the row with the same id if that is still the last one. */
export const row = (self: Screen, id: string, describe: (width: number) => string, place: Place = atStart): Step => {
  const whole = describe(Number.POSITIVE_INFINITY)
  if (self.tools.get(id) === whole) return [self, []]
  const above = self.redrawable?.id === id ? self.redrawable : undefined
  const at = above?.place ?? place
  const [shown, writes] = lines(self, [describe(widthAt(self, at))], at)
  return [
    {
      ...shown,
      tools: new Map([...self.tools, [id, whole]]),
      redrawable: self.options.isScreen ? { id, place: at } : undefined
    },
    above === undefined ? writes : [{ to: "progress", text: previousLine }, ...writes]
  ]
}

/** The columns that remain for a row after its indentation. */
export const widthAt = (self: Screen, { before }: Place): number => self.options.columns - 1 - displayWidth(before)

/** Appends to a progress line that is shown as it streams; a new line begins with the label. */
export const aside = (self: Screen, id: string, label: string, text: string): Step => {
  if (text === "") return [self, []]
  const shown = self.asides.get(id)
  const continues = shown !== undefined && self.unfinished === "aside"
  const [closed, closing] = continues ? [self, []] : closeLine(self)
  return [
    {
      ...closed,
      asides: new Map([...self.asides, [id, (shown ?? "") + text]]),
      redrawable: undefined,
      speaker: undefined,
      isProgressEmpty: false,
      unfinished: "aside"
    },
    [...closing, { to: "progress", text: dim(self, `${continues ? "" : `${label}: `}${sanitize(text)}`) }]
  ]
}

/** Makes room for another writer on the terminal. */
export const pause = (self: Screen): Step => {
  const [closed, writes] = closeLine(self)
  return [{ ...closed, redrawable: undefined, speaker: undefined, isProgressEmpty: false }, writes]
}

/** Ends the unfinished progress line. */
export const closeLine = (self: Screen): Step =>
  self.unfinished === "nothing"
    ? [self, []]
    : [{ ...self, unfinished: "nothing" }, [{ to: "progress", text: "\n" }]]

/** Ends the answer's line on its own stream, so that a file or a pipe gets the last line break. */
export const closeAnswer = (self: Screen): Step => {
  const ended: Screen = {
    ...self,
    isAnswerLineEnded: true,
    unfinished: self.unfinished === "text" ? "nothing" : self.unfinished
  }
  return self.isAnswerLineEnded || (self.options.isShared && self.unfinished !== "text")
    ? [ended, []]
    : [ended, [{ to: "answer", text: "\n" }]]
}

// internal

/** Moves to the start of the line above and erases it. */
const previousLine = "\u001b[1A\u001b[2K\r"

const dim = (self: Screen, text: string): string => self.options.hasColor ? `\u001b[2m${text}\u001b[22m` : text
