/**
 * `opencode-turn prune`: deletes old turns.
 */
import { pruneMessages } from "@opencode-turn/core/PruneMessages"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Scope from "effect/Scope"
import * as Database from "../setup/Database.ts"
import { type Failure, fromError } from "../setup/Failure.ts"
import { Streams } from "../setup/Streams.ts"
import * as JsonLines from "../view/JsonLines.ts"

/** The options of the command line. */
export interface Options {
  readonly database: string | undefined
  readonly olderThan: Duration.Duration
  readonly json: boolean
}

/** Deletes turns that ended before the given age, and prints their number. */
export const prune = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Streams | FileSystem.FileSystem | Scope.Scope> {
    const { store } = yield* Database.openExisting(options.database)
    const streams = yield* Streams
    const count = yield* pruneMessages(options.olderThan).pipe(
      Effect.provideContext(store),
      Effect.mapError(fromError)
    )
    yield* streams.answer(
      options.json ? JsonLines.fromPrune(count) : `deleted ${count} ${count === 1 ? "turn" : "turns"}\n`
    )
  },
  Effect.scoped
)
