/**
 * `opencode-turn watch`: shows a turn of another process while it runs.
 */
import { attachTurn } from "@opencode-turn/core/AttachTurn"
import { AssistantMessageId } from "@opencode-turn/core/Ids"
import { SessionStore } from "@opencode-turn/core/SessionStore"
import { isLeaseOver } from "@opencode-turn/core/StoredMessage"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Database from "../setup/Database.ts"
import { failed, type Failure, fromError } from "../setup/Failure.ts"
import { Streams } from "../setup/Streams.ts"
import * as Ending from "../view/Ending.ts"
import * as JsonLines from "../view/JsonLines.ts"
import * as TurnView from "../view/TurnView.ts"

/** The options of the command line. */
export interface Options {
  readonly database: string | undefined
  readonly json: boolean
  readonly from: string | undefined
  readonly message: string
}

/** Shows the turn until it ends, and fails as `run` does unless it completed. */
export const watch = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Streams | FileSystem.FileSystem | Scope.Scope> {
    const json = options.json ? yield* TurnView.json : undefined
    const ending = yield* Effect.tapError(
      attempt(options, json),
      (failure) => json?.fail(failure, undefined) ?? Effect.void
    )
    yield* Ending.toExit(ending)
  },
  Effect.scoped
)

// internal

const attempt = Effect.fnUntraced(function*(options: Options, json: TurnView.View | undefined) {
  const { store } = yield* Database.openExisting(options.database)
  const { answer, holdAsides, progress } = yield* Streams
  yield* holdAsides
  const id = AssistantMessageId.make(options.message)
  const message = yield* Effect.flatMap(SessionStore, (store) => store.getMessage(id)).pipe(
    Effect.provideContext(store),
    Effect.mapError(fromError)
  )
  const view = json ?? (yield* TurnView.human({ hasValue: Option.exists(message, Ending.hasValue) }))
  yield* noteDelay(id, view).pipe(Effect.provideContext(store), Effect.mapError(fromError))

  const last = yield* attachTurn(id, { from: options.from }).pipe(
    Stream.tap(({ offset, update }) =>
      update._tag === "Finished"
        ? Effect.void
        : json === undefined
        ? view.update(update)
        : answer(JsonLines.fromAttached(offset, update))
    ),
    Stream.runLast,
    Effect.provideContext(store),
    Effect.mapError(fromError),
    Effect.onInterrupt(() =>
      Effect.andThen(
        view.pause,
        progress(`opencode-turn: stopped watching. The turn goes on; stop it with: opencode-turn cancel ${id}\n`)
      )
    )
  )
  const update = Option.getOrUndefined(last)?.update
  if (update?._tag !== "Finished") return yield* failed("the store returned no end of the turn")
  const ending = Ending.fromStored(update.message)
  yield* view.finish(ending)
  return ending
})

/** Says why the turn does not advance, if it does not. */
const noteDelay = Effect.fnUntraced(function*(id: AssistantMessageId, view: TurnView.View) {
  const store = yield* SessionStore
  const state = Option.getOrUndefined(yield* store.getState(id))
  if (state === undefined || state.finishedMillis !== null) return
  if (isLeaseOver(state, yield* Clock.currentTimeMillis)) {
    return yield* view.note("its owner is gone: opencode-turn resume carries it on")
  }
  if (state.status === "queued") yield* view.note("it waits for the turns before it in its conversation")
})
