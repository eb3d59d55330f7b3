/**
 * Describes the pieces of a turn, each on one line that is safe for a terminal.
 */
import type { Todo, ToolPart } from "@opencode-turn/core/Part"
import type { PromptPart } from "@opencode-turn/core/Prompt"
import type { Retry } from "@opencode-turn/core/Reply"
import type { Timing } from "@opencode-turn/core/Timing"
import * as ToolCall from "@opencode-turn/core/ToolCall"
import type { Usage } from "@opencode-turn/core/Usage"
import { fit, line } from "./TerminalText.ts"

/** Tokens by kind, without the unused kinds. */
export const describeTokens = ({ tokens }: Usage): string =>
  [
    `${tokens.input} tokens in`,
    `${tokens.output} out`,
    ...(tokens.reasoning > 0 ? [`${tokens.reasoning} reasoning`] : []),
    ...(tokens.cacheRead > 0 ? [`${tokens.cacheRead} from cache`] : []),
    ...(tokens.cacheWrite > 0 ? [`${tokens.cacheWrite} to cache`] : [])
  ].join(", ")

/** US dollars with as many decimals as a cheap step needs. */
export const describeCost = (cost: number): string => {
  if (cost === 0) return "$0"
  if (cost < 0.01) return `$${Number(cost.toFixed(6))}`
  return cost < 1 ? `$${cost.toFixed(3).replace(/0$/, "")}` : `$${cost.toFixed(2)}`
}

/** Seconds below a minute, else minutes and seconds. */
export const describeDuration = (millis: number): string =>
  millis < 60_000
    ? `${(millis / 1000).toFixed(1)} s`
    : `${Math.floor(millis / 60_000)} min ${Math.round((millis % 60_000) / 1000)} s`

/** What the time of a turn was spent for, the longest first. */
export const describeTiming = (timing: Timing): string =>
  ([
    ["model", timing.modelMillis],
    ["tools", timing.toolsMillis],
    ["people", timing.peopleMillis],
    ["queue", timing.queueMillis],
    ["retries", timing.retriesMillis],
    ["no owner", timing.orphanedMillis],
    ["other", timing.otherMillis]
  ] as const)
    .filter(([, millis]) => millis >= 50)
    .toSorted(([, one], [, other]) => other - one)
    .map(([purpose, millis]) => `${purpose} ${describeDuration(millis)}`)
    .join(", ")

/** An age in its largest unit. */
export const describeAge = (millis: number): string => {
  const seconds = Math.max(0, Math.floor(millis / 1000))
  if (seconds < 60) return `${seconds} s ago`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`
  return `${Math.floor(seconds / 86_400)} d ago`
}

/** The user's prompt, with a word for each part that is not text. A file without a name may hold its contents in its URL. */
export const describePrompt = (prompt: ReadonlyArray<PromptPart>): string => prompt.map(describePromptPart).join("\n")

/** A tool and the subject of its call, for a call that was not made. */
export const describeCall = (part: ToolPart): string => line(`${part.tool} ${ToolCall.describe(part).subject}`)

/** One row, so that it can be drawn over; only an error is shown in full. `elapsedMillis` is the running time so far. */
export const describeTool = (part: ToolPart, width: number, elapsedMillis?: number): string => {
  const { past, present } = ToolCall.describe(part)
  const took = part.startedMillis === undefined || part.endedMillis === undefined
    ? ""
    : ` ${describeDuration(part.endedMillis - part.startedMillis)}`
  const elapsed = elapsedMillis === undefined ? "" : ` ${describeSeconds(elapsedMillis)}`
  switch (part.status) {
    case "completed":
      if (ToolCall.isInvalid(part)) return `${fit(`✗ ${line(present)}`, width)}: ${line(part.output ?? "")}`
      return `${fit(`✓ ${line(past)}`, width - took.length)}${took}`
    case "error":
      return `${fit(`✗ ${line(present)}`, width)}: ${line(part.error?.trim() || "it failed")}`
    default:
      return `${fit(`● ${line(present)}`, width - elapsed.length)}${elapsed}`
  }
}

/** Says that the server plans to call the model again, and why the model failed. The turn may end before that. */
export const describeRetry = ({ attempt, message }: Retry): string =>
  `↻ the model failed (attempt ${attempt}), OpenCode plans to retry${message.trim() === "" ? "" : `: ${line(message)}`}`

/** An item of the to-do list, with a box that shows its status. */
export const describeTodo = (todo: Todo): string => `${todoMarks[todo.status]} ${line(todo.content)}`

// internal

/** Whole seconds, for a time that is still growing. */
const describeSeconds = (millis: number): string => {
  const seconds = Math.floor(millis / 1000)
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`
}

const describePromptPart = (part: PromptPart): string => {
  switch (part.type) {
    case "text":
      return part.text
    case "file":
      return `[file ${part.filename ?? part.url.replace(/^(data:[^,]{0,60}).*$/s, "$1…")}]`
    case "agent":
      return `[@${part.name}]`
    case "subtask":
      return `[@${part.agent}: ${part.description}]`
  }
}

const todoMarks: Record<Todo["status"], string> = {
  pending: "☐",
  in_progress: "◐",
  completed: "☑",
  cancelled: "☒"
}
