/**
 * Says what a tool call does, for people: its kind, what it works on, and both in words.
 *
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import type { ToolPart } from "./Part.ts"

/**
 * What a tool does. `other` is any tool that this package does not know, for example one of a plugin or of an MCP server.
 *
 * @category models
 * @since 0.1.0
 */
export type Kind = "read" | "edit" | "search" | "run" | "fetch" | "plan" | "delegate" | "ask" | "answer" | "other"

/**
 * A tool call in words.
 *
 * **Details**
 *
 * `subject` is what the call works on: a path, a command, a pattern, a URL, a task; it is empty while the model still writes the call.
 * `present` is for a call that runs (`Running npm test`), `past` for one that succeeded (`Ran npm test`).
 *
 * **Gotchas**
 *
 * The texts come from the model and from tools: escape them for where you show them, and cut them. They may hold line breaks.
 *
 * @category models
 * @since 0.1.0
 */
export interface Description {
  readonly kind: Kind
  readonly subject: string
  readonly present: string
  readonly past: string
}

/**
 * Describes a tool call.
 *
 * @category getters
 * @since 0.1.0
 */
export const describe = (part: Pick<ToolPart, "tool" | "title" | "input">): Description => {
  const { input, title = "", tool } = part
  const known = tools.get(tool)
  if (isInvalid(part)) {
    return { kind: known?.kind ?? "other", subject: "", present: `Calling ${tool}`, past: `Failed to call ${tool}` }
  }
  const subject = known?.subjectOf?.(input, title) ?? (title.trim() === "" ? subjectOf(input) : title)
  const [present, past] = known?.words ?? [`Calling ${tool}`, `Called ${tool}`]
  const behind = subject === "" ? "" : ` ${subject}`
  return { kind: known?.kind ?? "other", subject, present: `${present}${behind}`, past: `${past}${behind}` }
}

/**
 * Whether the model wrote the call so wrongly that no tool ran, for example with the name of no tool. OpenCode completes such a call with
 * the mistake as its output (1.18.33).
 *
 * @category predicates
 * @since 0.1.0
 */
export const isInvalid = ({ title }: Pick<ToolPart, "title">): boolean => title === "Invalid Tool"

// internal

interface Known {
  readonly kind: Kind
  readonly words: readonly [present: string, past: string]
  /** What the call works on, where the title repeats the words or says less (1.18.33). */
  readonly subjectOf?: (input: ToolPart["input"], title: string) => string
}

/** The first of these arguments that the call has. */
const named = (...names: ReadonlyArray<string>) => (input: ToolPart["input"]): string =>
  names.map((name) => input[name]).find(Predicate.isString) ?? ""

const nothing = () => ""

/** The title is the path from the root of the repository, or without one from that of the disk. Calls of 2.x have none. */
const fileOf = (input: ToolPart["input"], title: string): string => {
  const path = named("filePath", "path")(input)
  return title.trim() === "" || (path !== "" && !path.startsWith("/")) || path === `/${title}` ? path : title
}

/** The files that the text of a patch names. */
const patchedIn = (input: ToolPart["input"]): string =>
  Array.from(
    named("patchText")(input).matchAll(/^\*\*\* (?:Add|Update|Delete) File: (.+)$/gm),
    ([, path = ""]) => path.trim()
  )
    .join(", ")

const todosIn = ({ todos }: ToolPart["input"]): string =>
  Array.isArray(todos) ? `${todos.length} to-do${todos.length === 1 ? "" : "s"}` : ""

const questionsOf = ({ questions }: ToolPart["input"]): string =>
  Array.isArray(questions)
    ? questions.flatMap((asked: unknown) =>
      Predicate.hasProperty(asked, "question") && Predicate.isString(asked.question) ? [asked.question] : []
    ).join(" ")
    : ""

/** The tools of OpenCode 1.18.33 and of 2.x, and those that other servers of their lines have. */
const tools: ReadonlyMap<string, Known> = new Map([
  ["read", { kind: "read", words: ["Reading", "Read"], subjectOf: fileOf }],
  ["list", { kind: "read", words: ["Listing", "Listed"] }],
  ["write", { kind: "edit", words: ["Writing", "Wrote"], subjectOf: fileOf }],
  ["edit", { kind: "edit", words: ["Editing", "Edited"], subjectOf: fileOf }],
  ["multiedit", { kind: "edit", words: ["Editing", "Edited"], subjectOf: fileOf }],
  ["patch", { kind: "edit", words: ["Patching", "Patched"], subjectOf: patchedIn }],
  ["apply_patch", { kind: "edit", words: ["Patching", "Patched"], subjectOf: patchedIn }],
  ["glob", { kind: "search", words: ["Looking for", "Looked for"], subjectOf: named("pattern") }],
  ["grep", { kind: "search", words: ["Searching for", "Searched for"] }],
  ["websearch", {
    kind: "search",
    words: ["Searching the web for", "Searched the web for"],
    subjectOf: named("query")
  }],
  ["codesearch", { kind: "search", words: ["Searching code for", "Searched code for"], subjectOf: named("query") }],
  ["lsp", { kind: "search", words: ["Looking up", "Looked up"] }],
  ["bash", { kind: "run", words: ["Running", "Ran"] }],
  ["shell", { kind: "run", words: ["Running", "Ran"] }],
  ["execute", { kind: "run", words: ["Running code", "Ran code"], subjectOf: nothing }],
  ["webfetch", { kind: "fetch", words: ["Fetching", "Fetched"], subjectOf: named("url") }],
  ["skill", { kind: "read", words: ["Loading the skill", "Loaded the skill"], subjectOf: named("name", "id") }],
  ["todowrite", { kind: "plan", words: ["Planning", "Planned"], subjectOf: todosIn }],
  ["todoread", { kind: "plan", words: ["Reading the plan", "Read the plan"], subjectOf: nothing }],
  ["plan_exit", { kind: "plan", words: ["Ending the plan", "Ended the plan"], subjectOf: nothing }],
  ["task", { kind: "delegate", words: ["Delegating", "Delegated"] }],
  ["subagent", { kind: "delegate", words: ["Delegating", "Delegated"] }],
  ["question", { kind: "ask", words: ["Asking", "Asked"], subjectOf: questionsOf }],
  ["StructuredOutput", { kind: "answer", words: ["Answering", "Answered"], subjectOf: nothing }]
])

/** What a call works on before its tool has a title: the first argument that names it. */
const subjectOf = named("command", "pattern", "filePath", "path", "url", "query", "description", "name")
