/**
 * A turn as a person reads it: a fold of reply updates into what is written where.
 *
 * **Responsibilities**
 * - The answer's text goes to `answer`, as it comes; reasoning, tools, to-dos and everything else to `progress`.
 * - Where both are one screen, a line of one never continues a line of the other.
 * - The text that was shown is compared with each reset and with the result. What is missing is added; where it differs, that
 *   is said and the text is shown once more. Text that is taken back stays above; that it is void is said.
 * - Nothing that a model or a server wrote reaches the terminal as a control character.
 *
 * **Not responsibilities**: writing (`Output`), asking (`AskTerminal`).
 */
import type { Ask } from "@opencode-turn/core/Ask"
import type { Part, Todo, ToolPart } from "@opencode-turn/core/Part"
import type { PromptPart } from "@opencode-turn/core/Prompt"
import * as Reply from "@opencode-turn/core/Reply"
import type { ReplyUpdate } from "@opencode-turn/core/ReplyUpdate"
import type { Usage } from "@opencode-turn/core/Usage"
import * as Predicate from "effect/Predicate"
import type { Ending } from "./Ending.ts"
import { fit, line, sanitize } from "./TerminalText.ts"

/** What both streams are, see `Output`. */
export interface Options {
  readonly isShared: boolean
  readonly isScreen: boolean
  readonly hasColor: boolean
  readonly columns: number
}

/** What has been shown so far. */
export interface Screen {
  readonly options: Options
  /** The answer's text parts that were shown, in the order in which they were shown. */
  readonly texts: ReadonlyArray<{ readonly id: string; readonly text: string }>
  readonly reasoning: ReadonlyMap<string, string>
  /** The line of each tool call as it was last shown. */
  readonly tools: ReadonlyMap<string, string>
  /** The part that the last line of progress tells of, if it can still be drawn over. */
  readonly redrawable: string | undefined
  /** What the unfinished last line of the progress holds. */
  readonly unfinished: "nothing" | "text" | "reasoning"
  readonly isAnswerEmpty: boolean
  readonly isProgressEmpty: boolean
  /** Whether the last character of the answer ended its line. */
  readonly isAnswerLineEnded: boolean
}

/** Text for one of the streams. */
export interface Write {
  readonly to: "answer" | "progress"
  readonly text: string
}

/** The screen afterwards, and what is to be written for it. */
export type Step = readonly [Screen, ReadonlyArray<Write>]

/** What is shown of the end of a turn. */
export type ShownEnding = Pick<Ending, "status" | "conversationId" | "reply" | "durationMillis">

/** An empty screen. */
export const make = (options: Options): Screen => ({
  options,
  texts: [],
  reasoning: new Map(),
  tools: new Map(),
  redrawable: undefined,
  unfinished: "nothing",
  isAnswerEmpty: true,
  isProgressEmpty: true,
  isAnswerLineEnded: true
})

/** Shows what changed. */
export const update = (self: Screen, update: ReplyUpdate): Step => {
  switch (update._tag) {
    case "TextDelta":
      return showText(self, update.partId, update.delta)
    case "ReasoningDelta":
      return showReasoning(self, update.partId, update.delta)
    case "PartChanged":
      return showPart(self, update.part)
    case "PartRemoved":
      return takeBack(self, update.partId)
    case "TodosChanged":
      return lines(self, update.todos.map((todo) => `  ${describeTodo(todo)}`))
    case "Asked":
      return lines(self, describeAsk(update.ask).map((text) => `? ${text}`))
    case "AskResolved":
      return [self, []]
    case "Retrying": {
      const { attempt, message } = update.retry
      return lines(self, [`↻ the model failed (attempt ${attempt}), it is asked again: ${line(message)}`])
    }
    case "SubagentOpened": {
      const { agent, title } = update.subagent
      return lines(self, [`▸ subagent ${line(agent ?? "")}: ${line(title)}`])
    }
    case "Reset":
      return update.reason === "recreated"
        ? restart(self)
        : compare(self, Reply.parts(update.reply))
  }
}

/** Shows a line of our own. */
export const note = (self: Screen, text: string): Step => lines(self, [line(text)])

/** Shows what is missing of the result, and the summary. */
export const finish = (self: Screen, result: ShownEnding): Step => {
  const [compared, writes] = compare(self, result.reply.parts)
  const [closed, closing] = closeAnswer(compared)
  const hasWorked = result.reply.parts.length > 0 || result.reply.usage.tokens.input > 0
  if (result.status !== "completed" && !hasWorked) return [closed, [...writes, ...closing]]
  const [summarized, summary] = lines(closed, [describeResult(result)])
  return [summarized, [...writes, ...closing, ...summary]]
}

/** Status, tokens, cost and duration on one line. */
export const describeResult = ({ conversationId, durationMillis, reply, status }: ShownEnding): string =>
  [
    status,
    describeTokens(reply.usage),
    describeCost(reply.usage.cost),
    describeDuration(durationMillis),
    `conversation ${line(conversationId)}`
  ].join(" · ")

/** Tokens by kind; the kinds that were not used are left out. */
export const describeTokens = ({ tokens }: Usage): string =>
  [
    `${tokens.input} tokens in`,
    `${tokens.output} out`,
    ...(tokens.reasoning > 0 ? [`${tokens.reasoning} reasoning`] : []),
    ...(tokens.cacheRead > 0 ? [`${tokens.cacheRead} from cache`] : []),
    ...(tokens.cacheWrite > 0 ? [`${tokens.cacheWrite} to cache`] : [])
  ].join(", ")

/** US dollars with as many decimals as a cheap step needs. */
export const describeCost = (cost: number): string =>
  cost === 0 ? "$0" : cost < 0.01 ? `$${cost.toFixed(6).replace(/0+$/, "")}` : `$${cost.toFixed(2)}`

/** Seconds below a minute, then minutes and seconds. */
export const describeDuration = (millis: number): string =>
  millis < 60_000
    ? `${(millis / 1000).toFixed(1)} s`
    : `${Math.floor(millis / 60_000)} min ${Math.round((millis % 60_000) / 1000)} s`

/** What the user said, with a word for what is not text. */
export const describePrompt = (prompt: ReadonlyArray<PromptPart>): string =>
  prompt
    .map((part) => (part.type === "text" ? part.text : part.type === "file" ? `[file ${part.url}]` : `[@${part.name}]`))
    .join("\n")

/** Makes room for something else that uses the terminal. */
export const pause = (self: Screen): Step => {
  const [closed, writes] = closeLine(self)
  return [{ ...closed, redrawable: undefined, isProgressEmpty: false }, writes]
}

/** What is asked, a line for each question. */
export const describeAsk = (ask: Ask): ReadonlyArray<string> =>
  ask._tag === "Permission"
    ? [`permission ${line(ask.permission)}: ${line(ask.patterns.join(", "))}`]
    : ask.questions.map(({ question }) => `question: ${line(question)}`)

// internal

/** What was shown is void, and stays above. */
const restart = (self: Screen): Step => {
  const [closed, closing] = closeAnswer(self)
  const [noted, notes] = lines({ ...closed, texts: [], reasoning: new Map(), tools: new Map() }, [
    "the session was lost: the agent begins anew, and does not know what was said before"
  ])
  return [noted, [...closing, ...notes]]
}

const showText = (self: Screen, id: string, text: string): Step => {
  if (text === "") return [self, []]
  const last = self.texts.at(-1)
  if (last?.id === id) {
    return append({ ...self, texts: [...self.texts.slice(0, -1), { id, text: last.text + text }] }, text)
  }
  // More of a part that another one followed cannot be put where it belongs: the comparison at the end shows it.
  if (self.texts.some((shown) => shown.id === id)) return [self, []]
  return append({ ...self, texts: [...self.texts, { id, text }] }, last === undefined ? text : `${paragraph}${text}`)
}

/** What stands between two text parts, as in `Reply.text`. */
const paragraph = "\n\n"

/** Writes more of the answer's text, which may begin with a new paragraph. */
const append = (self: Screen, text: string): Step => {
  const [closed, closing] = self.unfinished === "reasoning" ? closeLine(self) : [self, []] as const
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
      isAnswerEmpty: false,
      isAnswerLineEnded: isLineEnded,
      unfinished: isShared ? (isLineEnded ? "nothing" : "text") : closed.unfinished
    },
    [...closing, { to: "answer", text: safe }]
  ]
}

/** A part is gone, or its text: what was shown of it is void. */
const takeBack = (self: Screen, id: string): Step => {
  const shown = self.texts.find((text) => text.id === id)
  const reasoning = new Map(self.reasoning)
  reasoning.delete(id)
  if (shown === undefined) return [{ ...self, reasoning }, []]
  const [closed, closing] = closeAnswer({ ...self, reasoning, texts: self.texts.filter((text) => text !== shown) })
  const [noted, notes] = lines(closed, [
    fit(`the agent takes this back: ${line(shown.text)}`, self.options.columns - 1)
  ])
  return [noted, [...closing, ...notes]]
}

const showReasoning = (self: Screen, id: string, text: string): Step => {
  if (text === "") return [self, []]
  const shown = self.reasoning.get(id)
  const continues = shown !== undefined && self.unfinished === "reasoning"
  const [closed, closing] = continues ? [self, []] : closeLine(self)
  return [
    {
      ...closed,
      reasoning: new Map([...self.reasoning, [id, (shown ?? "") + text]]),
      redrawable: undefined,
      isProgressEmpty: false,
      unfinished: "reasoning"
    },
    [...closing, { to: "progress", text: dim(self, `${continues ? "" : "thinking: "}${sanitize(text)}`) }]
  ]
}

const showPart = (self: Screen, part: Part): Step => {
  switch (part.type) {
    case "text": {
      const shown = self.texts.find(({ id }) => id === part.id)?.text ?? ""
      if (part.text === "") return takeBack(self, part.id)
      return part.text.length > shown.length && part.text.startsWith(shown)
        ? showText(self, part.id, part.text.slice(shown.length))
        : [self, []]
    }
    case "reasoning": {
      if (part.text === "") return takeBack(self, part.id)
      const shown = self.reasoning.get(part.id) ?? ""
      const [next, writes] = part.text.length > shown.length && part.text.startsWith(shown)
        ? showReasoning(self, part.id, part.text.slice(shown.length))
        : [self, []] as const
      if (!part.isComplete || next.unfinished !== "reasoning") return [next, writes]
      const [closed, closing] = closeLine(next)
      return [closed, [...writes, ...closing]]
    }
    case "tool":
      return showTool(self, part)
    case "file":
      return lines(self, [`file ${line(part.filename ?? "")} (${line(part.mediaType)})`])
    case "patch":
      return lines(self, [`changed ${part.files.map(line).join(", ")}`])
    case "step-finish":
    case "todos":
      return [self, []]
  }
}

const showTool = (self: Screen, part: ToolPart): Step => {
  // Until it runs its input is not known.
  if (part.status === "pending") return [self, []]
  const text = describeTool(part, self.options.columns - 1)
  if (self.tools.get(part.id) === text) return [self, []]
  const redraws = self.redrawable === part.id
  const [shown, writes] = lines(self, [text])
  return [
    {
      ...shown,
      tools: new Map([...self.tools, [part.id, text]]),
      redrawable: self.options.isScreen ? part.id : undefined
    },
    redraws ? [{ to: "progress", text: previousLine }, ...writes] : writes
  ]
}

/** To the beginning of the line above, which is erased. */
const previousLine = "\u001b[1A\u001b[2K\r"

/** One row, so that it can be drawn over; only an error is told in full. */
const describeTool = (part: ToolPart, width: number): string => {
  const what = `${part.tool} ${part.title ?? subjectOf(part.input)}`
  const took = part.startedMillis === undefined || part.endedMillis === undefined
    ? ""
    : ` ${describeDuration(part.endedMillis - part.startedMillis)}`
  switch (part.status) {
    case "completed":
      return `${fit(`✓ ${what}`, width - took.length)}${took}`
    case "error":
      return `${fit(`✗ ${what}`, width)}: ${line(part.error ?? "it failed")}`
    default:
      return fit(`● ${what}`, width)
  }
}

/** What a call is about, until the tool gives it a title: the first of its arguments that says it. */
const subjectOf = (input: ToolPart["input"]): string =>
  subjects.map((name) => input[name]).find(Predicate.isString) ?? ""

const subjects = ["command", "filePath", "path", "pattern", "url", "query", "description", "name"]

const describeTodo = (todo: Todo): string => `${todoMarks[todo.status]} ${line(todo.content)}`

const todoMarks: Record<Todo["status"], string> = {
  pending: "☐",
  in_progress: "◐",
  completed: "☑",
  cancelled: "☒"
}

/** Brings the answer to what the parts hold: by adding to it, or, where it differs, by showing all of it again. */
const compare = (self: Screen, parts: ReadonlyArray<Part>): Step => {
  const texts = parts.flatMap((
    { id, ...part }
  ) => (part.type === "text" && part.text !== "" ? [{ id, text: part.text }] : []))
  const wanted = joined(texts)
  const shown = joined(self.texts)
  if (wanted === shown) return [{ ...self, texts }, []]
  if (wanted.startsWith(shown)) return append({ ...self, texts }, wanted.slice(shown.length))
  const [closed, closing] = closeAnswer(self)
  const [noted, notes] = lines({ ...closed, texts }, [
    wanted === ""
      ? "the server kept no text of what was shown above"
      : "the server's record differs from what was shown above, here is its text:"
  ])
  const [again, writes] = wanted === "" ? [noted, []] as const : append(noted, wanted)
  return [again, [...closing, ...notes, ...writes]]
}

const joined = (texts: ReadonlyArray<{ readonly text: string }>): string => texts.map(({ text }) => text).join("\n\n")

/** Whole lines of progress. */
const lines = (self: Screen, texts: ReadonlyArray<string>): Step => {
  if (texts.length === 0) return [self, []]
  const [closed, closing] = closeLine(self)
  return [
    { ...closed, redrawable: undefined, isProgressEmpty: false },
    [...closing, { to: "progress", text: texts.map((text) => `${dim(self, text)}\n`).join("") }]
  ]
}

/** Ends the unfinished line of the progress. */
const closeLine = (self: Screen): Step =>
  self.unfinished === "nothing"
    ? [self, []]
    : [{ ...self, unfinished: "nothing" }, [{ to: "progress", text: "\n" }]]

/** Ends the line of the answer, on its own stream, so that a file or a pipe gets its last newline. */
const closeAnswer = (self: Screen): Step => {
  const ended: Screen = {
    ...self,
    isAnswerLineEnded: true,
    unfinished: self.unfinished === "text" ? "nothing" : self.unfinished
  }
  return self.isAnswerLineEnded || (self.options.isShared && self.unfinished !== "text")
    ? [ended, []]
    : [ended, [{ to: "answer", text: "\n" }]]
}

const dim = (self: Screen, text: string): string => self.options.hasColor ? `\u001b[2m${text}\u001b[22m` : text
