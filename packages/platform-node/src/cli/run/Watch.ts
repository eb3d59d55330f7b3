/**
 * `opencode-turn watch`: shows a turn of another process from its stored snapshots.
 */
import { AssistantMessageId, type PartId, type SessionId } from "@opencode-turn/core/Ids"
import type { Part } from "@opencode-turn/core/Part"
import { SessionStore, type StoredMessage } from "@opencode-turn/core/SessionStore"
import { isLeaseOver } from "@opencode-turn/core/StoredMessage"
import type { Subagent } from "@opencode-turn/core/Subagent"
import { isFinished, watchTurn } from "@opencode-turn/core/WatchTurn"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
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
  const { answer, progress } = yield* Streams
  const id = AssistantMessageId.make(options.message)
  const message = yield* Effect.flatMap(SessionStore, (store) => store.getMessage(id)).pipe(
    Effect.provideContext(store),
    Effect.mapError(fromError)
  )
  const view = json ?? (yield* TurnView.human({ hasValue: Option.exists(message, Ending.hasValue) }))
  const show = json !== undefined
    ? (message: StoredMessage) => isFinished(message) ? Effect.void : answer(JsonLines.fromStored(message, "snapshot"))
    : showing(view)

  const last = yield* watchTurn(id).pipe(
    Stream.tap(show),
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
  if (Option.isNone(last)) return yield* failed("the store returned no state of the turn")
  const ending = Ending.fromStored(last.value)
  yield* view.finish(ending)
  return ending
})

/** Shows the difference between snapshots: changed parts and subagents, and once why the turn does not advance. */
const showing = (view: TurnView.View) => {
  let shown: ReadonlyMap<PartId, Part> = new Map()
  let told: ReadonlyMap<SessionId, Subagent> = new Map()
  let hasTold = false
  return Effect.fnUntraced(function*(message: StoredMessage) {
    const reason = isLeaseOver(message, yield* Clock.currentTimeMillis)
      ? "its owner is gone: opencode-turn resume carries it on"
      : message.status === "queued"
      ? "it waits for the turns before it in its conversation"
      : undefined
    if (reason !== undefined && !isFinished(message) && !hasTold) {
      hasTold = true
      yield* view.note(reason)
    }
    const changed = message.parts.filter((part) => !Equal.equals(shown.get(part.id), part))
    shown = new Map(message.parts.map((part) => [part.id, part]))
    yield* Effect.forEach(
      changed,
      (part) =>
        view.update(
          part.type === "todos" ? { _tag: "TodosChanged", todos: part.todos } : { _tag: "PartChanged", part }
        ),
      { discard: true }
    )
    const subagents = message.subagents.filter((subagent) => !Equal.equals(told.get(subagent.sessionId), subagent))
    told = new Map(message.subagents.map((subagent) => [subagent.sessionId, subagent]))
    yield* Effect.forEach(subagents, (subagent) => view.update({ _tag: "SubagentChanged", subagent }), {
      discard: true
    })
  })
}
