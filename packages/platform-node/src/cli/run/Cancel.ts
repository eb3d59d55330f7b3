/**
 * `opencode-turn cancel`: stops a turn of any process.
 */
import { cancelTurn } from "@opencode-turn/core/CancelTurn"
import { AssistantMessageId, type SessionId } from "@opencode-turn/core/Ids"
import { retrying } from "@opencode-turn/core/Retrying"
import { SessionStore, type StoredMessage } from "@opencode-turn/core/SessionStore"
import { isLeaseOver } from "@opencode-turn/core/StoredMessage"
import * as TurnPolicy from "@opencode-turn/core/TurnPolicy"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { line } from "../../terminal/TerminalText.ts"
import * as Connection from "../setup/Connection.ts"
import * as Database from "../setup/Database.ts"
import { type Failure, fromError } from "../setup/Failure.ts"
import { Streams } from "../setup/Streams.ts"
import * as JsonLines from "../view/JsonLines.ts"

/** The options of the command line. */
export interface Options extends Connection.Flags {
  readonly database: string | undefined
  readonly json: boolean
  readonly message: string
}

/** Cancels the message and prints the outcome. */
export const cancel = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Streams | FileSystem.FileSystem | Scope.Scope> {
    const flags = yield* Connection.settings(options)
    const { store } = yield* Database.openExisting(options.database)
    const streams = yield* Streams
    const { message, what } = yield* cancelMessage(AssistantMessageId.make(options.message), flags).pipe(
      Effect.provideContext(store),
      Effect.mapError(fromError)
    )
    yield* streams.answer(
      options.json
        ? JsonLines.fromStored(message)
        : `cancelled ${line(message.id)} · conversation ${line(message.conversationId)} · ${what}\n`
    )
  },
  Effect.scoped
)

// internal

const cancelMessage = Effect.fnUntraced(function*(id: AssistantMessageId, flags: Connection.Flags) {
  const store = yield* SessionStore
  const before = Option.getOrUndefined(yield* retrying(store.getMessage(id)))
  // The store comes first: the turn is cancelled even if the server does not answer.
  const message = yield* retrying(store.cancel(id, yield* TurnPolicy.CancelledContent))
  if (before?.status === "cancelled") return { message, what: "it was cancelled before" }
  if (message.promptRecord === null) return { message, what: "it had not begun" }
  if (!isLeaseOver(message, yield* Clock.currentTimeMillis)) return { message, what: "its owner stops the agent" }
  if (flags.url === undefined) {
    return { message, what: "its owner is gone; an agent that still works on it can be stopped with --url" }
  }
  const aborted = yield* abort(message, message.promptRecord.sessionId, flags.url, flags.directory)
  return aborted === undefined
    ? { message, what: "its owner is gone, and the server does not answer: its agent may go on" }
    : { message: aborted, what: "its owner is gone; the server was asked to stop the agent" }
})

/** Aborts for an owner that is gone. A session is reached in its own folder. `undefined` means that the server does not answer. */
const abort = Effect.fnUntraced(
  function*({ id }: StoredMessage, sessionId: SessionId, baseUrl: string, directory: string | undefined) {
    const client = (folder: string | undefined) => Connection.client({ baseUrl, password: undefined }, folder)
    const session = yield* Connection.folderOf(sessionId).pipe(
      Effect.provide(client(directory)),
      Effect.map((folder) => ({ folder: folder ?? directory })),
      Effect.timeout("5 seconds"),
      Effect.catchIf((error) => error._tag !== "CliFailure", () => Effect.undefined)
    )
    return session === undefined ? undefined : yield* Effect.provide(cancelTurn(id), client(session.folder))
  }
)
