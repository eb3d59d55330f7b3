/**
 * The text of an ask. A person decides on it, so it is never cut, is safe for a terminal, and shows invisible characters.
 */
import type { Ask, PermissionAsk, Question } from "@opencode-turn/core/Ask"
import type { Asking } from "@opencode-turn/core/HumanGate"
import * as Predicate from "effect/Predicate"
import * as TerminalText from "./TerminalText.ts"

/** The agent's whole text on one line. */
export const line = (text: string): string => TerminalText.line(TerminalText.expose(text))

/** The subagent that asks; `undefined` for the turn's own agent. */
export type Asker = Asking["subagent"]

/** A subagent without known details. */
export const unknownSubagent: Asker = { title: "", agent: undefined }

/** The title without the agent's name, which OpenCode appends to it (1.18) and which is shown separately. */
export const titleOf = (title: string): string => line(title.replace(/ \(@[^()]* subagent\)$/, ""))

/** A subagent by its title and agent, if they are known. */
export const describeAsker = ({ agent, title }: NonNullable<Asker>): string => {
  const shown = titleOf(title)
  if (shown === "") return agent === undefined ? "a subagent" : `subagent ${line(agent)}`
  return agent === undefined ? shown : `${shown} (${line(agent)})`
}

/** The lines of an ask, one for each question, with the possible answers. */
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

/** The kind of the ask, for a place whose reader sees the whole ask elsewhere. */
export const nameAsk = (ask: Ask): string =>
  ask._tag === "Permission" ? `permission ${line(ask.permission)}` : "question"

/** The whole permission, on as many lines as it has. */
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
  // A long command is not repeated.
  return always.every((pattern) => subject.includes(pattern))
    ? "from now on: the same"
    : `from now on: ${always.map(joinLines).join(", ")}`
}

// internal

/**
 * What OpenCode asks permission for: the patterns of the ask, unless they say too little (1.18.33). OpenCode splits a shell command into
 * a pattern for each piece, and the pattern of a `task` is only the name of the agent.
 */
const subjectOf = ({ metadata, patterns, permission }: PermissionAsk): ReadonlyArray<string> => {
  const { command, description } = metadata
  // The second names are those of 2.x.
  if ((permission === "bash" || permission === "shell") && Predicate.isString(command) && command.trim() !== "") {
    return [command]
  }
  if ((permission === "task" || permission === "subagent") && Predicate.isString(description) && description !== "") {
    return [`${description} (${patterns.join(", ")})`]
  }
  return patterns
}

/** Joins lines with a visible mark, because text after the end of a comment line is not part of the comment. */
const joinLines = (text: string): string =>
  TerminalText.expose(text).split("\n").map((part) => line(part)).filter((part) => part !== "").join(" ⏎ ")

const answersOf = ({ custom, multiple, options }: Question): string => {
  if (options.length === 0) return "(any text)"
  const labels = options.map(({ label }) => line(label)).join(" | ")
  return `(${multiple ? "several" : "one"} of: ${labels}${custom ? "; or any text" : ""})`
}
