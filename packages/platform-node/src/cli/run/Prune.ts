/**
 * `opencode-turn prune`: deletes old turns.
 */
import { pruneMessages } from "@opencode-turn/core/WatchTurn"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Scope from "effect/Scope"
import * as Database from "../setup/Database.ts"
import { type Failure, fromError } from "../setup/Failure.ts"
import { Output } from "../setup/Streams.ts"
import * as JsonLines from "../view/JsonLines.ts"

/** What the command line says. */
export interface Options {
  readonly database: string | undefined
  readonly olderThan: Duration.Duration
  readonly json: boolean
}

/** Deletes what ended longer ago, and prints how many turns that were. */
export const prune = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Output | FileSystem.FileSystem | Scope.Scope> {
    const { store } = yield* Database.openExisting(options.database)
    const output = yield* Output
    const count = yield* pruneMessages(options.olderThan).pipe(
      Effect.provideContext(store),
      Effect.mapError(fromError)
    )
    yield* output.answer(
      options.json ? JsonLines.fromPrune(count) : `deleted ${count} ${count === 1 ? "turn" : "turns"}\n`
    )
  },
  Effect.scoped
)
