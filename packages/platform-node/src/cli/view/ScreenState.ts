/**
 * What a turn's screen shows so far, and its lines of progress.
 *
 * *Responsibilities*: where both streams are one screen, a line of one never continues a line of the other; a line is drawn over
 * only where nothing came between.
 *
 * *Not responsibilities*: what is shown (`Screen`), the text of the answer (`ScreenAnswer`).
 */
import type { SessionId } from "@opencode-turn/core/Ids"
import type { ToolPart } from "@opencode-turn/core/Part"
import type { Subagent } from "@opencode-turn/core/Subagent"
import { displayWidth } from "effect/cli/CliOutput"
import { sanitize } from "../../terminal/TerminalText.ts"

/** What both streams are, see `Output`, and what goes to the answer. */
export interface Options {
  readonly isShared: boolean
  readonly isScreen: boolean
  readonly hasColor: boolean
  readonly columns: number
  /** Whether the answer is a value, which is known at the end: what the agent says until then is progress. */
  readonly hasValue: boolean
  /** Whether what is asked is told by somebody else in full: here it only gets a name then. */
  readonly areAsksNamed: boolean
}

/** What has been shown so far. */
export interface Screen {
  readonly options: Options
  /** The answer's text parts that were shown, in the order in which they were shown. */
  readonly texts: ReadonlyArray<{ readonly id: string; readonly text: string }>
  /** What was shown in pieces as progress: reasoning, and text that is not the answer. */
  readonly asides: ReadonlyMap<string, string>
  /** The line of each tool call as it was last shown, at its full length. */
  readonly tools: ReadonlyMap<string, string>
  /** The tool that was shown last, while it runs, and since when the clock has seen it run. */
  readonly working: { readonly part: ToolPart; readonly sinceMillis: number | undefined } | undefined
  /** In the order in which they were opened. */
  readonly subagents: ReadonlyMap<SessionId, ShownSubagent>
  /** The subagent that the last line of progress tells of. */
  readonly speaker: SessionId | undefined
  /** The part that the last line of progress tells of, if it can still be drawn over. */
  readonly redrawable: { readonly id: string; readonly place: Place } | undefined
  /** What the unfinished last line of the progress holds. */
  readonly unfinished: "nothing" | "text" | "aside"
  readonly isAnswerEmpty: boolean
  readonly isProgressEmpty: boolean
  /** Whether the last character of the answer ended its line. */
  readonly isAnswerLineEnded: boolean
}

/** A subagent, and what of it is shown. `name` is short and no other subagent's. */
export interface ShownSubagent {
  readonly subagent: Subagent
  readonly name: string
  readonly shown: "nothing" | "opening" | "end"
  /** The text part that it said last. */
  readonly said: { readonly id: string; readonly text: string } | undefined
}

/** Where a line of progress stands: what is before it, and whose it is. */
export interface Place {
  readonly before: string
  readonly speaker: SessionId | undefined
}

/** Text for one of the streams. */
export interface Write {
  readonly to: "answer" | "progress"
  readonly text: string
}

/** The screen afterwards, and what is to be written for it. */
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

/** The beginning of a line, and the turn's own session. */
export const atStart: Place = { before: "", speaker: undefined }

/** One step after the other. */
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

/** Whole lines of progress. */
export const lines = (self: Screen, texts: ReadonlyArray<string>, { before, speaker }: Place = atStart): Step => {
  if (texts.length === 0) return [self, []]
  const [closed, closing] = closeLine(self)
  return [
    { ...closed, redrawable: undefined, speaker, isProgressEmpty: false },
    [...closing, { to: "progress", text: texts.map((text) => `${dim(self, `${before}${text}`)}\n`).join("") }]
  ]
}

/** A row that takes the place of the one with the same id where that is still the last one. */
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

/** How many columns a row has left behind what is before it. */
export const widthAt = (self: Screen, { before }: Place): number => self.options.columns - 1 - displayWidth(before)

/** More of a line of progress that is shown as it comes; a new line begins with the label. */
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

/** Makes room for something else that uses the terminal. */
export const pause = (self: Screen): Step => {
  const [closed, writes] = closeLine(self)
  return [{ ...closed, redrawable: undefined, speaker: undefined, isProgressEmpty: false }, writes]
}

/** Ends the unfinished line of the progress. */
export const closeLine = (self: Screen): Step =>
  self.unfinished === "nothing"
    ? [self, []]
    : [{ ...self, unfinished: "nothing" }, [{ to: "progress", text: "\n" }]]

/** Ends the line of the answer, on its own stream, so that a file or a pipe gets its last newline. */
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

/** To the beginning of the line above, which is erased. */
const previousLine = "\u001b[1A\u001b[2K\r"

const dim = (self: Screen, text: string): string => self.options.hasColor ? `\u001b[2m${text}\u001b[22m` : text
