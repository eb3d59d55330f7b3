/**
 * `opencode-turn list`: lists the stored turns of all conversations.
 */
import { type MessageState, type MessageStatus, SessionStore } from "@opencode-turn/core/SessionStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Scope from "effect/Scope"
import { describeAge } from "../../terminal/Describe.ts"
import { fit, line } from "../../terminal/TerminalText.ts"
import * as Database from "../setup/Database.ts"
import { type Failure, fromError } from "../setup/Failure.ts"
import { Streams } from "../setup/Streams.ts"
import * as JsonLines from "../view/JsonLines.ts"
import * as Unreadable from "../view/Unreadable.ts"

/** The options of the command line. */
export interface Options {
  readonly database: string | undefined
  readonly status: MessageStatus | undefined
  readonly limit: number
  readonly json: boolean
}

/** Prints a line for each turn, newest first. */
export const list = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Streams | FileSystem.FileSystem | Scope.Scope> {
    const { store } = yield* Database.openExisting(options.database)
    const streams = yield* Streams
    const messages = yield* Effect.flatMap(SessionStore, (store) => store.listByStatus(options)).pipe(
      Effect.provideContext(store),
      Effect.mapError(fromError)
    )
    if (messages.length === 0) return yield* options.json ? Effect.void : streams.progress("there is no such turn\n")
    const nowMillis = yield* Clock.currentTimeMillis
    yield* streams.answer(
      options.json
        ? messages.map((message) => JsonLines.fromState(message)).join("")
        : table(messages.map((message) => cells(message, nowMillis)), streams.columns())
    )
  },
  Effect.scoped,
  (effect, { json }) => Unreadable.told(effect, json)
)

// internal

const cells = (message: MessageState, nowMillis: number) => {
  const { conversationId, createdMillis, excerpt, id } = message
  return [
    line(id),
    describeStatus(message),
    fit(conversationId, 30),
    describeAge(nowMillis - createdMillis),
    line(excerpt)
  ]
}

/** The status, with the reason of the end if it is unusual for a completed answer. */
const describeStatus = ({ finish, revertedBy, status }: MessageState): string => {
  if (revertedBy !== null) return `${status} (reverted)`
  // A structured answer ends with a call of a tool.
  const isUsual = finish === null || finish === "stop" || finish === "tool-calls"
  return status !== "completed" || isUsual ? status : `${status} (${line(finish)})`
}

/** Aligns all columns but the last; the last column gets the remaining width. */
const table = (rows: ReadonlyArray<ReadonlyArray<string>>, columns: number): string => {
  const widths = rows[0]?.slice(0, -1).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ??
    []
  const left = columns - widths.reduce((sum, width) => sum + width + 2, 0) - 1
  return rows
    .map((row) =>
      [
        ...widths.map((width, column) => (row[column] ?? "").padEnd(width)),
        fit(row.at(-1) ?? "", Math.max(left, 20))
      ].join("  ")
    )
    .map((text) => `${text.trimEnd()}\n`)
    .join("")
}
