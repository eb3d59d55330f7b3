/**
 * Reports stored rows that a command could not read. The command still shows all other rows.
 */
import * as Effect from "effect/Effect"
import * as ErrorReporter from "effect/ErrorReporter"
import { unreadableRow } from "../../sql/SqlTable.ts"
import { fit } from "../../terminal/TerminalText.ts"
import { failed, type Failure } from "../setup/Failure.ts"
import { Streams } from "../setup/Streams.ts"
import * as JsonLines from "./JsonLines.ts"

/**
 * Runs a command that lists stored rows. If rows were left out, the command prints the others and then fails with the number and the
 * ids of those.
 */
export const told = <R>(
  effect: Effect.Effect<void, Failure, R>,
  json: boolean
): Effect.Effect<void, Failure, R | Streams> =>
  Effect.suspend(() => {
    const rows: Array<string> = []
    const reporter = ErrorReporter.make(({ attributes }) => {
      if (attributes["feature"] === unreadableRow) rows.push(String(attributes["row"]))
    })
    return Effect.provide(effect, ErrorReporter.layer([reporter])).pipe(
      Effect.catch((failure) => (rows.length === 0 ? Effect.fail(failure) : Effect.void)),
      Effect.andThen(Effect.suspend(() => (rows.length === 0 ? Effect.void : tell(rows, json))))
    )
  })

// internal

const maxNamed = 20

const tell = Effect.fnUntraced(function*(rows: ReadonlyArray<string>, json: boolean) {
  const streams = yield* Streams
  if (json) yield* streams.answer(JsonLines.fromUnreadable(rows))
  const named = rows.slice(0, maxNamed).map((id) => (id === "" ? "one without an id" : fit(id, 60)))
  const others = rows.length > maxNamed ? ` and ${rows.length - maxNamed} more` : ""
  const what = rows.length === 1
    ? "1 stored row cannot be read and is"
    : `${rows.length} stored rows cannot be read and are`
  return yield* failed(
    `${what} left out: ${named.join(", ")}${others}. Correct or delete them in the database`,
    "UnreadableRows"
  )
})
