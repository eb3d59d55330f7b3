/**
 * `opencode-turn asks`: lists the open asks.
 */
import { ConversationId } from "@opencode-turn/core/Ids"
import type { StoredAsk } from "@opencode-turn/core/StoredAsk"
import * as StoredGate from "@opencode-turn/core/StoredGate"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Scope from "effect/Scope"
import { type Asker, describeAsk } from "../../terminal/AskText.ts"
import { describeAge } from "../../terminal/Describe.ts"
import { fit, line } from "../../terminal/TerminalText.ts"
import * as AskedBy from "../setup/AskedBy.ts"
import * as Database from "../setup/Database.ts"
import { type Failure, fromError } from "../setup/Failure.ts"
import { Streams } from "../setup/Streams.ts"
import * as JsonLines from "../view/JsonLines.ts"
import * as Unreadable from "../view/Unreadable.ts"

/** The options of the command line. */
export interface Options {
  readonly database: string | undefined
  readonly conversation: string | undefined
  readonly json: boolean
}

/** Prints the open asks, oldest first, see {@link describe}. */
export const asks = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<void, Failure, Streams | FileSystem.FileSystem | Scope.Scope> {
    const { store } = yield* Database.openExisting(options.database)
    const streams = yield* Streams
    const conversationId = options.conversation === undefined ? undefined : ConversationId.make(options.conversation)
    const open = yield* StoredGate.pendingAsks({ conversationId, limit: maxListed }).pipe(
      Effect.flatMap(AskedBy.withAskers),
      Effect.provideContext(store),
      Effect.mapError(fromError)
    )
    if (open.length === 0) return yield* options.json ? Effect.void : streams.progress("there are no open asks\n")
    const nowMillis = yield* Clock.currentTimeMillis
    yield* streams.answer(
      open.map(([stored, asker]) => options.json ? JsonLines.fromAsk(stored) : describe(stored, asker, nowMillis)).join(
        ""
      )
    )
  },
  Effect.scoped,
  (effect, { json }) => Unreadable.told(effect, json)
)

/** A line for each question, with the id of the ask. The text is never cut: a person decides on it. */
export const describe = (
  { ask, conversationId, createdMillis, id }: Pick<StoredAsk, "ask" | "conversationId" | "createdMillis" | "id">,
  asker: Asker,
  nowMillis: number
): string =>
  describeAsk(ask, asker)
    .map((text) => [line(id), fit(conversationId, 30), describeAge(nowMillis - createdMillis), text].join("  "))
    .map((row) => `${row}\n`)
    .join("")

// internal

const maxListed = 1000
