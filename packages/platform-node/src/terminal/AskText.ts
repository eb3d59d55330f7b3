/**
 * What an agent asks, in words that are safe for a terminal, never cut, and without a character that nobody sees: a person decides
 * on them.
 */
import type { Ask, PermissionAsk, Question } from "@opencode-turn/core/Ask"
import type { Asking } from "@opencode-turn/core/HumanGate"
import * as Predicate from "effect/Predicate"
import * as TerminalText from "./TerminalText.ts"

/** A text of the agent's on one line, with all that it holds. */
export const line = (text: string): string => TerminalText.line(TerminalText.expose(text))

/** Who asks, where it is a subagent. */
export type Asker = Asking["subagent"]

/** A subagent of which nothing is known yet. */
export const unknownSubagent: Asker = { title: "", agent: undefined }

/** OpenCode adds the agent to the title (1.18), which is told beside it. */
export const titleOf = (title: string): string => line(title.replace(/ \(@[^()]* subagent\)$/, ""))

/** A subagent by its title and its agent, as far as they are known. */
export const describeAsker = ({ agent, title }: NonNullable<Asker>): string => {
  const shown = titleOf(title)
  if (shown === "") return agent === undefined ? "a subagent" : `subagent ${line(agent)}`
  return agent === undefined ? shown : `${shown} (${line(agent)})`
}

/** What is asked, a line for each question, with what may be answered. */
export const describeAsk = (ask: Ask, asker?: Asker): ReadonlyArray<string> => {
  const who = asker === undefined ? "" : `${describeAsker(asker)} asks: `
  if (ask._tag === "Permission") {
    return [`${who}permission ${line(ask.permission)}: ${subjectOf(ask).map(joinLines).join(", ")}`]
  }
  const { length } = ask.questions
  return ask.questions.map((question, index) =>
    `${who}question${length === 1 ? "" : ` ${index + 1} of ${length}`}: ${line(question.question)} ${
      answersOf(question)
    }`
  )
}

/** Just the kind of what is asked, where all of it is told elsewhere. */
export const nameAsk = (ask: Ask): string =>
  ask._tag === "Permission" ? `permission ${line(ask.permission)}` : "question"

/** The whole of what would be allowed, on as many lines as it has. */
export const describePermission = (ask: PermissionAsk): string => {
  const { diff } = ask.metadata
  return [...subjectOf(ask), ...(Predicate.isString(diff) ? [diff] : [])]
    .map((text) => `${TerminalText.sanitize(TerminalText.expose(text)).trimEnd().replaceAll(/^/gm, "  ")}\n`)
    .join("")
}

/** What the answer `always` would allow. */
export const describeAlways = ({ always, ...ask }: PermissionAsk): string => {
  if (always.length === 0) return "for this server"
  const subject = subjectOf({ ...ask, always })
  // A long command is not told twice.
  return always.every((pattern) => subject.includes(pattern))
    ? "from now on: the same"
    : `from now on: ${always.map(joinLines).join(", ")}`
}

// internal

/**
 * What OpenCode asks for: its patterns, but for what tells less than there is to know (1.18.33). A shell command is taken apart into
 * the patterns of its pieces, and the pattern of a `task` is only the name of the agent.
 */
const subjectOf = ({ metadata, patterns, permission }: PermissionAsk): ReadonlyArray<string> => {
  const { command, description } = metadata
  if (permission === "bash" && Predicate.isString(command) && command.trim() !== "") return [command]
  if (permission === "task" && Predicate.isString(description) && description !== "") {
    return [`${description} (${patterns.join(", ")})`]
  }
  return patterns
}

/** On one line the end of a line still has to be seen: what follows a comment is no comment. */
const joinLines = (text: string): string =>
  TerminalText.expose(text).split("\n").map((part) => line(part)).filter((part) => part !== "").join(" ⏎ ")

const answersOf = ({ custom, multiple, options }: Question): string => {
  if (options.length === 0) return "(any text)"
  const labels = options.map(({ label }) => line(label)).join(" | ")
  return `(${multiple ? "several" : "one"} of: ${labels}${custom ? "; or any text" : ""})`
}
