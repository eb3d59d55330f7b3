/**
 * Sums up a turn for people: changed files, to-dos, an unusual reason of the end, and one line with status, usage and time.
 */
import type { Artifact } from "@opencode-turn/core/Artifact"
import { describeCost, describeDuration, describeTokens } from "../../terminal/Describe.ts"
import { fit, line } from "../../terminal/TerminalText.ts"
import type { Ending } from "./Ending.ts"

/** The fields of an ending that the summary uses. */
export type Summarized = Pick<
  Ending,
  | "status"
  | "conversationId"
  | "durationMillis"
  | "finish"
  | "output"
  | "reply"
  | "usage"
  | "subagents"
  | "artifacts"
  | "dropped"
>

/** All lines; the line of {@link describeResult} comes last. */
export const summary = (ending: Summarized, width: number): ReadonlyArray<string> => [
  ...describeFiles(ending),
  ...describeTodos(ending).map((text) => fit(text, width)),
  ...describeFinish(ending),
  ...describeDropped(ending),
  describeResult(ending)
]

/** Status, tokens, cost and duration on one line. */
export const describeResult = (ending: Summarized): string =>
  [
    ending.status,
    describeTokens(ending.usage.total),
    describeCosts(ending),
    describeDuration(ending.durationMillis),
    `conversation ${line(ending.conversationId)}`
  ].join(" · ")

/** The line of a turn without usage: its status and its conversation. */
export const describeName = ({ conversationId, status }: Summarized): string =>
  `${status} · conversation ${line(conversationId)}`

// internal

/** Says why the answer ended. A structured answer usually ends with the call of its output tool. */
const describeFinish = ({ finish, output }: Summarized): ReadonlyArray<string> =>
  finish === undefined || finish === "stop" || (finish === "tool-calls" && output !== undefined)
    ? []
    : [`${finishes.get(finish) ?? "The provider ended the answer for another reason"} (${line(finish)}).`]

const finishes: ReadonlyMap<string, string> = new Map([
  ["length", "The answer was cut off at the output limit"],
  ["content-filter", "The provider's content filter stopped the answer"],
  ["tool-calls", "The agent stopped at a tool call"],
  ["error", "The provider ended the answer with an error"]
])

const describeDropped = ({ dropped = [] }: Summarized): ReadonlyArray<string> =>
  dropped.map((field) => droppedBy[field])

const droppedBy = {
  metadata: "OpenCode keeps no metadata of its sessions: --metadata was dropped.",
  variant: "The model does not have the variant: OpenCode dropped it."
}

const describeCosts = ({ subagents, usage: { root, subagents: theirs, total } }: Summarized): string => {
  const cost = describeCost(total.cost)
  if (subagents.length === 0) return cost
  const who = subagents.length === 1 ? "a subagent" : `${subagents.length} subagents`
  return `${cost} (${describeCost(root.cost)} own, ${describeCost(theirs.cost)} by ${who})`
}

const describeFiles = ({ artifacts }: Summarized): ReadonlyArray<string> => {
  if (artifacts === undefined) return []
  const { files, unread } = artifacts
  const more = files.length - maxFiles
  const reasons = new Set(unread.map(({ reason }) => line(reason)))
  return [
    ...files.slice(0, maxFiles).map(describeFile),
    ...(more > 0 ? [`and ${more} more`] : []),
    ...(reasons.size > 0 ? [[...reasons].join("; ")] : [])
  ]
}

const maxFiles = 20

const describeFile = ({ additions, change, deletions, path }: Artifact): string =>
  [
    // The kind of the change is unknown.
    change === "unknown" ? "changed" : change,
    line(path),
    ...(additions === undefined || additions === 0 ? [] : [`+${additions}`]),
    ...(deletions === undefined || deletions === 0 ? [] : [`-${deletions}`])
  ].join(" ")

const describeTodos = ({ reply: { todos } }: Summarized): ReadonlyArray<string> => {
  if (todos.length === 0) return []
  const open = todos.filter(({ status }) => status === "pending" || status === "in_progress")
  const cancelled = todos.filter(({ status }) => status === "cancelled")
  const counts = [
    `${todos.length - open.length - cancelled.length} done`,
    ...(cancelled.length > 0 ? [`${cancelled.length} cancelled`] : []),
    ...(open.length > 0 ? [`${open.length} open: ${open.map(({ content }) => line(content)).join(", ")}`] : [])
  ]
  return [`to-dos: ${counts.join(", ")}`]
}
