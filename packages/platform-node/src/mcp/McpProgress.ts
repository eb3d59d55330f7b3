/**
 * What a turn does now, for the progress of a call: one line for people, and the same as data for programs.
 */
import * as ToolCall from "@opencode-turn/core/ToolCall"
import * as TurnView from "../gateway/streams/TurnView.ts"
import { describeAsk } from "../terminal/AskText.ts"
import { line } from "../terminal/TerminalText.ts"

/** The text of the answer so far. */
export const textOf = ({ root }: TurnView.TurnView): string =>
  TurnView.parts(root).flatMap((part) => part.type === "text" && part.text !== "" ? [part.text] : []).join("\n\n")

/** One line: what is asked, else the tools that run, else the end of the text. */
export const describe = (view: TurnView.TurnView): string => {
  const asked = view.asks.flatMap(({ ask }) =>
    describeAsk(ask, undefined).map((text) => `waiting for an answer to ${ask.id}: ${text}`)
  )
  const running = [
    ...runningOf(view.root),
    ...view.subagents.filter(({ status }) => status === "running").flatMap(({ sessionId, title }) =>
      runningOf(TurnView.partsOf(view, sessionId)).map((text) => `${title}: ${text}`)
    )
  ]
  const said = textOf(view)
  const text = asked.length > 0
    ? asked.join("; ")
    : running.length > 0
    ? running.join("; ")
    : said === ""
    ? view.started === undefined ? "waiting for its turn" : "thinking"
    : ending(said, maxLine)
  return ending(line(text), maxLine)
}

/** The same as data: `text` is the end of the answer so far. */
export const toData = (view: TurnView.TurnView) => ({
  text: ending(textOf(view), maxText),
  running: runningOf(view.root),
  asks: view.asks.map(({ ask }) => ask.id)
})

// internal

const maxLine = 300
const maxText = 2000

const runningOf = (list: TurnView.PartList): ReadonlyArray<string> =>
  TurnView.parts(list).flatMap((part) =>
    part.type === "tool" && (part.status === "pending" || part.status === "running")
      ? [ToolCall.describe(part).present]
      : []
  )

const ending = (text: string, length: number): string =>
  text.length <= length ? text : `…${text.slice(-length).toWellFormed()}`
