/** The invariants of a turn that has ended, whatever happened to its workers and its server. */
import type { StoredMessage } from "@opencode-turn/core/StoredMessage"
import type { RawMessage } from "./Records.ts"

/** Everything that a turn has left behind. */
export interface Found {
  readonly id: string
  readonly row: StoredMessage | undefined
  /** The messages of its conversation. */
  readonly conversation: ReadonlyArray<StoredMessage>
  /** The messages of the session on the server. */
  readonly record: ReadonlyArray<RawMessage>
  readonly modelCalls: number
  readonly toolRuns: number
}

export interface Expected {
  /** Whether its worker may have been killed before the claim. */
  readonly mayBeUnclaimed: boolean
  readonly steps: number
  readonly serverKills: number
}

/** The text of the first step, and the beginning of the text of the last step. Both are unique to the turn. */
export const firstText = (id: string): string => `first-${id};`
export const lastText = (id: string): string => `last-${id};`

export const isOpen = ({ status }: StoredMessage): boolean => status === "pending" || status === "queued"

/**
 * Whether the server was away when the turn was to begin. Such a turn ends before its prompt, with an error that says so: a new turn cannot tell a
 * server that is being restarted from one that is not there.
 */
export const isUnbegun = (row: StoredMessage | undefined): boolean =>
  row?.promptRecord === null && (row.error?.tag === "TransportError" || row.error?.tag === "RequestTimeout")

/** The invariants that do not hold. */
export const check = (found: Found, expected: Expected): ReadonlyArray<string> => [
  ...(found.row === undefined
    ? checkUnclaimed(found, expected)
    : isUnbegun(found.row)
    ? checkUnbegun(found, expected)
    : checkRow(found, found.row, expected)),
  ...(found.conversation.filter(isOpen).length > 1 ? ["its conversation has more than one open message"] : []),
  ...differs(
    "tool runs",
    found.toolRuns,
    found.row === undefined || isUnbegun(found.row) ? 0 : 1,
    found.row === undefined || isUnbegun(found.row) ? 0 : expected.serverKills
  )
]

// internal

const checkUnclaimed = (found: Found, { mayBeUnclaimed }: Expected) => [
  ...(mayBeUnclaimed ? [] : ["nothing of it is stored"]),
  ...checkUntouched(found)
]

const checkUnbegun = (found: Found, { serverKills }: Expected) => [
  ...(serverKills > 0 ? [] : ["the server was there, and it was not found"]),
  ...checkUntouched(found)
]

const checkUntouched = ({ id, modelCalls, record }: Found) => [
  ...(modelCalls === 0 ? [] : ["the model was asked, and no prompt is stored"]),
  ...(record.some((message) => isPromptOf(id, message)) ? ["its prompt was sent, and is not stored"] : [])
]

const checkRow = (
  { conversation, id, modelCalls, record }: Found,
  row: StoredMessage,
  { serverKills, steps }: Expected
): ReadonlyArray<string> => {
  const promptId = row.promptRecord?.prompt.ids?.promptId
  const answer = record.filter(({ info }) => info.role === "assistant" && info.parentID === promptId)
  const text = answer.flatMap(textsOf).join("\n\n")
  const count = (part: string) => row.content.split(part).length - 1
  return [
    ...(row.status === "completed" ? [] : [`it ended as ${row.status} (${row.error?.tag}: ${row.error?.message})`]),
    ...(row.content === text
      ? []
      : [`stored is ${JSON.stringify(row.content)}, the server has ${JSON.stringify(text)}`]),
    ...differs("rows", conversation.filter((message) => message.id === id).length, 1, 0),
    ...differs("user messages under its id", record.filter(({ info }) => info.id === promptId).length, 1, 0),
    ...differs("user messages with its text", record.filter((message) => isPromptOf(id, message)).length, 1, 0),
    ...differs("model calls", modelCalls, steps, serverKills),
    // The turn may ask again for a text that was complete when the server died. The server then has stored both texts.
    ...differs("first texts", count(firstText(id)), 1, serverKills),
    ...differs("last texts", count(lastText(id)), 1, serverKills),
    ...(row.content.endsWith("end.") ? [] : ["its end is missing"])
  ]
}

const isPromptOf = (id: string, { info, parts }: RawMessage): boolean =>
  info.role === "user" && parts.some(({ text }) => text?.startsWith(`turn ${id} `) === true)

const textsOf = ({ parts }: RawMessage): ReadonlyArray<string> =>
  parts.flatMap(({ text, type }) => (type === "text" && text !== undefined && text !== "" ? [text] : []))

/** A finding if the count differs from `wanted` by more than the tolerance, which is the number of times that the server was killed. */
const differs = (what: string, found: number, wanted: number, tolerance: number): ReadonlyArray<string> =>
  Math.abs(found - wanted) <= tolerance ? [] : [`${found} ${what} instead of ${wanted}`]
